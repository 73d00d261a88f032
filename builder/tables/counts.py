"""What cleaning did, as the columns `dropped` and `filled` of sequences count it.

A process function of the user's own that gives these columns, as whole numbers, is counted in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.tables.row_options import COUNTS
from store_spec import Store

WORST = 10  # sources that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What was done to some sequences.

    Args:
        dropped: Steps that were left out.
        filled: Values that were filled in.
        several: Sources that gave more than one sequence.
    """

    dropped: int = 0
    filled: int = 0
    several: int = 0

    def __add__(self, other: Cleaning) -> Cleaning:
        return Cleaning(
            dropped=self.dropped + other.dropped,
            filled=self.filled + other.filled,
            several=self.several + other.several,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedSource:
    """What was done to the sequences of one source."""

    source: str
    sequences: int
    steps: int  # that are left
    dropped: int
    filled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCleaning:
    """What was done to the sequences of a store, and to which sources most of it."""

    total: Cleaning
    touched: int  # sources of which something was dropped or filled
    worst: tuple[CleanedSource, ...]  # at most `WORST`: those that lost the largest share of their steps come first


def cleaning_of(sources: Sequence[str], columns: Mapping[str, NDArray[Any]]) -> Cleaning:
    """Return what was done to sequences that follow one another; those of one source are together.

    Args:
        sources: The source of each.
        columns: Theirs, by name; there may be no counts among them.
    """
    counts = [columns.get(name) for name in COUNTS]
    if any(count is None or count.dtype != np.int64 for count in counts):
        return Cleaning()
    begins = [before != now for before, now in zip(["", *sources], sources, strict=False)]
    lengths = np.diff(np.append(np.flatnonzero(begins), len(sources)))
    dropped, filled = (int(count.sum()) for count in counts if count is not None)
    return Cleaning(dropped=dropped, filled=filled, several=int((lengths > 1).sum()))


def cleaning_of_store(store: Store) -> StoreCleaning | None:
    """Return what was done to the sequences of a store; None: it does not count that."""
    types = {column.name: column.dtype for column in store.schema.columns}
    if any(types.get(name) != "int64" for name in COUNTS):
        return None
    found: dict[str, list[int]] = {}
    counts = (store.sequences[name].tolist() for name in COUNTS)
    for source, steps, dropped, filled in zip(store.sources, store.lengths.tolist(), *counts, strict=True):
        row = found.setdefault(source, [0, 0, 0, 0])
        for place, value in enumerate((1, steps, dropped, filled)):
            row[place] += value
    touched = [CleanedSource(source=source, sequences=n, steps=steps, dropped=dropped, filled=filled)
               for source, (n, steps, dropped, filled) in found.items() if dropped or filled]  # fmt: skip
    touched.sort(key=lambda one: (-one.dropped / max(1, one.steps + one.dropped), -one.filled / max(1, one.steps)))
    total = Cleaning(
        dropped=sum(one.dropped for one in touched),
        filled=sum(one.filled for one in touched),
        several=sum(row[0] > 1 for row in found.values()),
    )
    return StoreCleaning(total=total, touched=len(touched), worst=tuple(touched[:WORST]))
