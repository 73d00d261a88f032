"""The splits of a store: their sizes, and sources in different splits with the same bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError
from store_spec import DEFAULT_SPLITS, Store, WindowError

LISTED_DUPLICATES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSize:
    """One of the default splits, by a hash of the sources' names or of a column's values, with seed 0."""

    name: str
    share: float
    groups: int  # different sources, or values of the column
    sequences: int
    steps: int
    windows: int | None = None  # None: no shuffle was measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Sources with the same bytes in different splits, so that test data are in training data."""

    count: int  # groups of such sources
    examples: tuple[tuple[str, str], ...]  # two sources of each of the first groups


def split_numbers(store: Store, by: str | None = None) -> NDArray[np.int64]:
    """Return (sequences,) the number of each sequence's default split; UsageError if `by` cannot be split by."""
    try:
        return store.split_numbers(by=by)
    except WindowError as error:
        raise UsageError(str(error)) from error


def split_sizes(splits: Sequence[Store], by: str | None, windows: Sequence[int] | None) -> tuple[SplitSize, ...]:
    """Return the size of each of the default splits."""
    return tuple(
        SplitSize(
            name=name,
            share=share,
            groups=len(set(split.grouped(by))),
            sequences=len(split),
            steps=int(split.lengths.sum()),
            windows=None if windows is None else windows[number],
        )
        for number, (split, (name, share)) in enumerate(zip(splits, DEFAULT_SPLITS.items(), strict=True))
    )


def duplicates_across_splits(store: Store, split_of: NDArray[np.int64]) -> Duplicates:
    """Find sequences that are the same part of files with the same bytes, and whose `split_of` (sequences,) differs."""
    sizes = store.snapshot.table("sequences/source_size")[store.selection]
    of_files = np.flatnonzero(sizes >= 0)
    if not len(of_files):
        return Duplicates(count=0, examples=())
    keys = np.zeros((len(of_files), 40), np.uint8)  # the hash of the file, and the number of the part
    keys[:, :32] = store.snapshot.table("sequences/source_sha256")[store.selection[of_files]]
    keys[:, 32:] = np.ascontiguousarray(store.parts[of_files]).view(np.uint8).reshape(-1, 8)
    _, group = np.unique(keys.view("V40").reshape(-1), return_inverse=True)
    order = np.lexsort((of_files, group))
    group, sequences = group[order], of_files[order]
    apart = np.flatnonzero((group[1:] == group[:-1]) & (split_of[sequences[1:]] != split_of[sequences[:-1]]))
    _, first = np.unique(group[apart], return_index=True)  # one pair per group
    pairs = sorted(zip(sequences[apart[first]].tolist(), sequences[apart[first] + 1].tolist(), strict=True))
    named = dict.fromkeys((store.sources[a], store.sources[b]) for a, b in pairs)
    return Duplicates(count=len(named), examples=tuple(named)[:LISTED_DUPLICATES])
