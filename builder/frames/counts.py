"""What cleaning did, as the columns `dropped` and `filled` of sequences count it.

A process function of the user's own that gives these columns, as whole numbers, is counted in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.options.table_options import COUNTS
from store_spec import Store

WORST = 10  # sources that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedSource:
    """What was done to the sequences of one source."""

    source: str
    sequences: int
    steps: int  # that are left
    dropped: int
    filled: int

    @property
    def rank(self) -> tuple[float, float, int]:
        """Its place among others: the larger the share of its steps that it lost, the smaller."""
        return -self.dropped / max(1, self.steps + self.dropped), -self.filled / max(1, self.steps), -self.sequences


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
class StoreCleaning:
    """What was done to the sequences of a store, or of some sources, and to which of these most of it."""

    total: Cleaning = field(default_factory=Cleaning)
    touched: int = 0  # sources of which something was dropped or filled
    named: int = 0  # these, and those that gave several sequences
    worst: tuple[CleanedSource, ...] = ()  # at most `WORST` of them: that lost the largest share of their steps first

    def __add__(self, other: StoreCleaning) -> StoreCleaning:
        return StoreCleaning(
            total=self.total + other.total,
            touched=self.touched + other.touched,
            named=self.named + other.named,
            worst=worst_of((*self.worst, *other.worst)),
        )


def worst_of(sources: Iterable[CleanedSource]) -> tuple[CleanedSource, ...]:
    """Return at most `WORST` sources, in the order in which they are named."""
    return tuple(sorted(sources, key=lambda one: one.rank)[:WORST])


def cleaning_of(
    sources: Sequence[str], lengths: NDArray[np.int64], columns: Mapping[str, NDArray[Any]]
) -> StoreCleaning:
    """Return what was done to sequences that follow one another; those of one source are together.

    Args:
        sources: The source of each.
        lengths: Its steps.
        columns: Theirs, by name; there may be no counts among them.
    """
    counts = [columns.get(name) for name in COUNTS]
    if any(count is None or count.dtype != np.int64 for count in counts):
        return StoreCleaning()
    return _cleaning(sources, lengths, [count for count in counts if count is not None])


def cleaning_of_store(store: Store) -> StoreCleaning | None:
    """Return what was done to the sequences of a store; None: it does not count that."""
    types = {column.name: column.dtype for column in store.schema.columns}
    if any(types.get(name) != "int64" for name in COUNTS):
        return None
    return _cleaning(store.sources, store.lengths, [store.sequences[name] for name in COUNTS])


def _cleaning(sources: Sequence[str], lengths: NDArray[np.int64], counts: Sequence[NDArray[Any]]) -> StoreCleaning:
    found: dict[str, list[int]] = {}
    for source, *values in zip(sources, lengths.tolist(), *(count.tolist() for count in counts), strict=True):
        row = found.setdefault(source, [0, 0, 0, 0])
        for place, value in enumerate((1, *values)):
            row[place] += value
    named = [CleanedSource(source=source, sequences=n, steps=steps, dropped=dropped, filled=filled)
             for source, (n, steps, dropped, filled) in found.items() if dropped or filled or n > 1]  # fmt: skip
    total = Cleaning(
        dropped=sum(one.dropped for one in named),
        filled=sum(one.filled for one in named),
        several=sum(one.sequences > 1 for one in named),
    )
    touched = sum(1 for one in named if one.dropped or one.filled)
    return StoreCleaning(total=total, touched=touched, named=len(named), worst=worst_of(named))
