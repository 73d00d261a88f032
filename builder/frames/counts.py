"""Summaries of the columns `dropped` and `filled`, which count what cleaning did to each sequence.

The user's process functions may return these columns too, as whole numbers.
"""

from dataclasses import dataclass

import numpy as np

from builder.options.table_options import COUNTS
from store_spec import Store
from store_spec.building import Records

WORST = 10  # sources that an inspection lists


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
class StoreCleaning:
    """What cleaning did to the sequences of a store."""

    dropped: int  # steps
    filled: int  # values
    several: int  # sources with more than one sequence
    touched: int  # sources with dropped steps or filled values
    named: int  # these, and sources with several sequences
    worst: tuple[CleanedSource, ...]  # at most `WORST` of `named`, in the order of `rank`


def cleaning_counts(records: Records) -> tuple[int, int]:
    """Return how many steps were dropped from sequences, and how many values were filled in; 0 without counts."""
    columns = [records.columns.get(f"sequences/{name}") for name in COUNTS]
    sums = [int(column.sum()) for column in columns if column is not None and column.dtype == np.int64]
    return (sums[0], sums[1]) if len(sums) == len(COUNTS) else (0, 0)


def cleaning_of_store(store: Store) -> StoreCleaning | None:
    """Summarise the counts of a store; None if it has none."""
    types = {column.name: column.dtype for column in store.schema.columns}
    if any(types.get(name) != "int64" for name in COUNTS):
        return None
    sums: dict[str, list[int]] = {}
    counts = [store.sequences[name].tolist() for name in COUNTS]
    for source, *values in zip(store.sources, store.lengths.tolist(), *counts, strict=True):
        row = sums.get(source, [0, 0, 0, 0])
        sums[source] = [before + value for before, value in zip(row, (1, *values), strict=True)]
    named = [CleanedSource(source=source, sequences=n, steps=steps, dropped=dropped, filled=filled)
             for source, (n, steps, dropped, filled) in sums.items() if dropped or filled or n > 1]  # fmt: skip
    return StoreCleaning(
        dropped=sum(one.dropped for one in named),
        filled=sum(one.filled for one in named),
        several=sum(one.sequences > 1 for one in named),
        touched=sum(1 for one in named if one.dropped or one.filled),
        named=len(named),
        worst=tuple(sorted(named, key=lambda one: one.rank)[:WORST]),
    )
