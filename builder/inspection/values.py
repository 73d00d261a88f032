"""Summarise many values: histograms, lengths of sequences, columns of `store.sequences`, times, and cleaning."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.options.table_options import COUNTS
from store_spec import Store

BINS = 32
LENGTH_BINS = 12
SKEWED = 32  # if the longest sequence has more than this many times the steps of the shortest, bins grow in width
COMMON = 6  # text values that are listed
WORST = 10  # listed sources whose steps were dropped or whose values were filled in
LARGEST_WHOLE = 2**53  # float64 can represent all whole numbers up to this one

Bin = tuple[float, float, int]  # from, to, number of values


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """The lengths of the sequences, in steps."""

    min: int
    median: float
    mean: float
    max: int
    empty: int  # sequences without steps
    bins: tuple[Bin, ...]  # (shortest, longest, number of sequences), ascending


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnValues:
    """The values of one further column of the sequences."""

    name: str
    dtype: str
    missing: int  # sequences without a value: NaN, or empty text
    distinct: int  # different values
    common: tuple[tuple[str, int], ...] = ()  # the most frequent texts and their counts
    min: float | None = None  # of numbers and bools; None: text, or all are missing
    max: float | None = None  # likewise, as `mean`
    mean: float | None = None
    bins: tuple[Bin, ...] = ()  # a histogram of numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """The times of the steps."""

    unit: str  # s, ms, us or ns
    elapsed: bool  # whether times count from some start, and are not dates
    zone: str | None  # UTC; None: local or elapsed times
    first: str | None  # the first of all times, as text; None: the store has no steps
    last: str | None
    in_order: bool  # whether each sequence starts no earlier than all sequences before it end


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
    named: int  # sources that are counted in `several` or in `touched`
    worst: tuple[CleanedSource, ...]  # at most `WORST` of `named`, in the order of `rank`


def histogram(values: NDArray[Any], most: int = BINS) -> tuple[Bin, ...]:
    """Count values (values,) in bins of equal width, without NaN and infinities; complex numbers have no bins.

    A bin of whole numbers includes both of its ends; otherwise only the last bin includes its upper end. There are
    fewer bins if there are fewer whole numbers.

    >>> histogram(np.array([1, 2, 2, 4]))
    ((1, 1, 1), (2, 2, 2), (3, 3, 0), (4, 4, 1))
    >>> histogram(np.array([0.0, 0.1, 0.5]), most=2)
    ((0.0, 0.25, 2), (0.25, 0.5, 1))
    """
    if values.dtype.kind == "c":
        return ()
    values = values.astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return ()
    low, high = float(values.min()), float(values.max())
    if max(-low, high) < LARGEST_WHOLE and (values == np.rint(values)).all():
        first, last = int(low), int(high)
        width = -(-(last - first + 1) // most)
        starts = range(first, last + 1, width)
        counts, _ = np.histogram(values, [*starts, last + 1])
        return tuple((a, min(a + width - 1, last), n) for a, n in zip(starts, counts.tolist(), strict=True))
    if low == high:
        return ((low, high, len(values)),)
    edges = (2 * np.linspace(low / 2, high / 2, most + 1)).clip(low, high)  # high - low can exceed float64
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(values, edges)
    return tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))


def length_bins(lengths: NDArray[np.int64]) -> tuple[Bin, ...]:
    """Count lengths (sequences,), at least one, in bins of equal width, or of growing width if they differ much.

    >>> length_bins(np.array([1, 2, 40]))
    ((1, 1, 1), (2, 3, 1), (4, 7, 0), (8, 15, 0), (16, 31, 0), (32, 40, 1))
    """
    low, high = int(lengths.min()), int(lengths.max())
    if high <= SKEWED * max(1, low):
        return histogram(lengths, LENGTH_BINS)
    factor = 2 if high < max(1, low) * 2 ** (LENGTH_BINS - 1) else 4
    edges = [low]
    while edges[-1] <= high:
        edges.append(max(1, factor * edges[-1]))
    counts, _ = np.histogram(lengths, edges)
    return tuple((a, min(b - 1, high), n) for a, b, n in zip(edges, edges[1:], counts.tolist(), strict=False))


def describe_lengths(lengths: NDArray[np.int64]) -> Lengths | None:
    """Describe the lengths (sequences,) of sequences; None if there are no sequences."""
    if not len(lengths):
        return None
    return Lengths(
        min=int(lengths.min()),
        median=float(np.median(lengths)),
        mean=float(lengths.mean()),
        max=int(lengths.max()),
        empty=int((lengths == 0).sum()),
        bins=length_bins(lengths),
    )


def describe_column(name: str, dtype: str, values: NDArray[Any]) -> ColumnValues:
    """Describe a column (sequences,): text as object, or numbers.

    >>> describe_column("site", "string", np.array(["a", "", "b", "b"], object)).common
    (('b', 2), ('a', 1))
    """
    if values.dtype == object:
        counts = Counter(values.tolist())
        missing = counts.pop("", 0)
        # Equally frequent values are sorted by name, so that the order of the sequences does not matter.
        common = tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:COMMON])
        return ColumnValues(name=name, dtype=dtype, missing=missing, distinct=len(counts), common=common)
    present = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    missing = len(values) - len(present)
    if not len(present):
        return ColumnValues(name=name, dtype=dtype, missing=missing, distinct=0)
    return ColumnValues(
        name=name,
        dtype=dtype,
        missing=missing,
        distinct=len(np.unique(present)),
        min=present.min().item(),
        max=present.max().item(),
        mean=float(present.mean(dtype=np.float64)),
        bins=histogram(present),
    )


def describe_times(store: Store) -> TimeRange | None:
    """Describe the times of a store's steps; None if it has no times."""
    time = store.schema.time
    if time is None:
        return None
    first, last = (store.snapshot.table(f"sequences/time_{end}")[store.selection] for end in ("first", "last"))
    first, last = (ends[store.lengths > 0] for ends in (first, last))  # a sequence without steps has no times
    return TimeRange(
        unit=time.unit,
        elapsed=time.since is None,
        zone=time.zone,
        first=time.shown(int(first.min())) if len(first) else None,
        last=time.shown(int(last.max())) if len(last) else None,
        in_order=bool((first[1:] >= np.maximum.accumulate(last)[:-1]).all()),
    )


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
