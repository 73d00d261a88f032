"""Summaries of the columns `dropped` and `filled`, which count what cleaning did to each sequence.

The user's process functions may return these columns too, as whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.options.table_options import COUNTS
from store_spec import Store

WORST = 10  # sources that a report lists


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedSource:
    """What cleaning did to one source."""

    source: str
    sequences: int
    steps: int  # after cleaning
    dropped: int
    filled: int

    @property
    def rank(self) -> tuple[float, float, int]:
        """The sort key: sources that lost the largest share of their steps come first."""
        return -self.dropped / max(1, self.steps + self.dropped), -self.filled / max(1, self.steps), -self.sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """Totals of some sequences.

    Args:
        dropped: Dropped steps.
        filled: Values that were filled in.
        several: Sources with more than one sequence.
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
class StoreCleaning:
    """What cleaning did to the sequences of a store, or of some sources."""

    total: Cleaning = field(default_factory=Cleaning)
    touched: int = 0  # sources with dropped steps or filled values
    named: int = 0  # these, and sources with several sequences
    worst: tuple[CleanedSource, ...] = ()  # at most `WORST` of `named`, in the order of `rank`

    def __add__(self, other: StoreCleaning) -> StoreCleaning:
        return StoreCleaning(
            total=self.total + other.total,
            touched=self.touched + other.touched,
            named=self.named + other.named,
            worst=worst_of((*self.worst, *other.worst)),
        )


def worst_of(sources: Iterable[CleanedSource]) -> tuple[CleanedSource, ...]:
    """Return the first `WORST` sources in the order of `rank`."""
    return tuple(sorted(sources, key=lambda one: one.rank)[:WORST])


def cleaning_of(
    sources: Sequence[str], lengths: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]
) -> StoreCleaning:
    """Summarise the counts of consecutive sequences.

    Args:
        sources: (sequences,) the source of each.
        lengths: (sequences,) steps of each.
        columns: Columns of the sequences, by name; without counts among them nothing was cleaned.
    """
    counts = [columns[name] for name in COUNTS if name in columns and columns[name].dtype == np.int64]
    return _cleaning(sources, lengths, counts) if len(counts) == len(COUNTS) else StoreCleaning()


def cleaning_of_store(store: Store) -> StoreCleaning | None:
    """Summarise the counts of a store; None if it has none."""
    types = {column.name: column.dtype for column in store.schema.columns}
    if any(types.get(name) != "int64" for name in COUNTS):
        return None
    return _cleaning(store.sources, store.lengths, [store.sequences[name] for name in COUNTS])


def _cleaning(sources: Sequence[str], lengths: NDArray[np.int64], counts: Sequence[NDArray[Any]]) -> StoreCleaning:
    sums: dict[str, list[int]] = {}
    for source, *values in zip(sources, lengths.tolist(), *(count.tolist() for count in counts), strict=True):
        row = sums.get(source, [0, 0, 0, 0])
        sums[source] = [before + value for before, value in zip(row, (1, *values), strict=True)]
    named = [CleanedSource(source=source, sequences=n, steps=steps, dropped=dropped, filled=filled)
             for source, (n, steps, dropped, filled) in sums.items() if dropped or filled or n > 1]  # fmt: skip
    total = Cleaning(
        dropped=sum(one.dropped for one in named),
        filled=sum(one.filled for one in named),
        several=sum(one.sequences > 1 for one in named),
    )
    touched = sum(1 for one in named if one.dropped or one.filled)
    return StoreCleaning(total=total, touched=touched, named=len(named), worst=worst_of(named))
