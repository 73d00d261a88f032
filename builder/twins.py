"""The same bytes in sources of different splits: what is trained on one is tested on the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec import Store
from store_spec.schema import NO_FILE

SHOWN_TWINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """Sources of the same bytes in different splits.

    Args:
        count: Groups of them.
        named: The first groups: (a source, another one).
    """

    count: int
    named: tuple[tuple[str, str], ...]


def twins_of(store: Store, numbers: NDArray[np.int64]) -> Twins:
    """Find sequences of different splits that are the same part of files of the same bytes.

    Args:
        store: Whose sequences. Those that come from no file are left out.
        numbers: (sequences,), which split each is in.
    """
    sizes = store.snapshot.table("sequences/source_size")[store.selection]
    of_files = np.flatnonzero(sizes != NO_FILE)
    if not len(of_files):
        return Twins(count=0, named=())
    keys = np.zeros((len(of_files), 40), np.uint8)  # the hash, and the part: other parts of a file are other rows
    keys[:, :32] = store.snapshot.table("sequences/source_sha256")[store.selection[of_files]]
    keys[:, 32:] = np.ascontiguousarray(store.parts[of_files]).view(np.uint8).reshape(-1, 8)
    whole = keys.view("V40").reshape(-1)
    order = np.argsort(whole, kind="stable")
    same = whole[order[1:]] == whole[order[:-1]]
    order = of_files[order]
    apart = np.flatnonzero(same & (numbers[order[1:]] != numbers[order[:-1]]))
    # One pair a group: of the same bytes there may be many files.
    groups = np.cumsum(np.append(0, ~same))
    apart = apart[np.unique(groups[apart], return_index=True)[1]]
    pairs = np.stack((order[apart], order[apart + 1]), axis=1) if len(apart) else np.zeros((0, 2), np.int64)
    pairs = np.sort(pairs, axis=1)
    named = dict.fromkeys((store.sources[a], store.sources[b]) for a, b in sorted(pairs.tolist()))
    return Twins(count=len(named), named=tuple(named)[:SHOWN_TWINS])
