"""Many values in a few numbers: histograms, lengths of sequences, columns of `store.sequences`, and times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import Store

BINS = 32
LENGTH_BINS = 12
SKEWED = 32  # times the shortest sequence that the longest has for bins that double
COMMON = 6  # values of text that are listed
LARGEST_WHOLE = 2**53  # up to which float64 has every whole number

Bin = tuple[float, float, int]  # from, to, how many values


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long the sequences are, in steps.

    Args:
        empty: Sequences without steps.
        bins: (shortest, longest, number of sequences), from short to long.
    """

    min: int
    median: float
    mean: float
    max: int
    empty: int
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnValues:
    """The values of one further column of the sequences.

    Args:
        missing: Sequences without a value: NaN, or empty text.
        distinct: Number of different values.
        common: Of text: the most frequent values, each with its count.
        min: Of numbers and bools: the least value; None if all are missing.
        max: The largest.
        mean: The mean.
        bins: A histogram.
    """

    name: str
    dtype: str
    missing: int
    distinct: int
    common: tuple[tuple[str, int], ...] = ()
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    bins: tuple[Bin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """When the steps were.

    Args:
        unit: `s`, `ms`, `us` or `ns`.
        elapsed: True: times are counted from some start, and are not dates.
        zone: `UTC`, or None for local or elapsed times.
        first: The first time of all, as text; None if the store has no steps.
        last: The last.
        in_order: True if each sequence starts no earlier than all sequences before it end.
    """

    unit: str
    elapsed: bool
    zone: str | None
    first: str | None
    last: str | None
    in_order: bool


def histogram(values: NDArray[Any], most: int = BINS) -> tuple[Bin, ...]:
    """Count values (values,) in bins of one width. NaN and infinities do not count, and complex numbers have no bins.

    A bin of whole numbers includes both of its ends; else only the last bin includes its upper end. There are fewer
    bins if there are fewer whole numbers.

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
    edges = 2 * np.linspace(low / 2, high / 2, most + 1)  # the whole range can exceed float64
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(values, edges)
    return tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True))


def length_bins(lengths: NDArray[np.int64]) -> tuple[Bin, ...]:
    """Count lengths (sequences,), at least one, in bins of one width; in ever wider ones if they differ much.

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
    """Describe the lengths (sequences,) of sequences; None for no sequences."""
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
        # Equally frequent values by name, so that the order of the sequences does not matter.
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
    """Describe the times of a store's steps; None if it has none."""
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
