"""Each feature and target in exact figures, and how far the splits differ in it. No row is read."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec import DEFAULT_SPLITS, Moments, Store

ARRAYS = ("inputs", "labels")
BLOCK_VALUES = 2**20  # values of a table that are in memory at once
DRIFT = 0.5  # standard deviations between two means that make a large drift
SPREAD = 2.0  # times a standard deviation is larger, or smaller, that make a large spread


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStatistics:
    """One feature or target, exactly; None where it has no value (or no order, as complex numbers).

    Args:
        array: `inputs` or `labels`.
        unit: The unit that the source files gave; "": none.
        description: What the source files said about it; "": nothing.
        count: Values that are not missing.
        missing: Values that are NaN.
        constant: Sequences of two rows or more, and as many values, in which all values are equal.
        split_means: The mean in each split; empty for a single source.
        split_stds: The standard deviation in each.
        drift: The largest distance of a mean from that of the first split, in standard deviations of the first split;
            None if either is unknown or 0.
        spread: The standard deviation that differs most from that of the first split, divided by it; None likewise.
    """

    array: str
    column: int
    name: str | None
    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    missing: int
    constant: int
    split_means: tuple[float | None, ...] = ()
    split_stds: tuple[float | None, ...] = ()
    drift: float | None = None
    spread: float | None = None
    unit: str = ""
    description: str = ""

    @property
    def note(self) -> str:
        """The unit and the description, in a line."""
        return ": ".join(filter(None, (self.unit, self.description)))

    @property
    def title(self) -> str:
        """The name, or "feature" or "target" and its number."""
        if self.name is not None:
            return self.name
        return f"{'feature' if self.array == 'inputs' else 'target'} {self.column}"

    @property
    def missing_share(self) -> float:
        """The share of the values that are NaN."""
        return self.missing / max(1, self.missing + self.count)

    @property
    def distance(self) -> float:
        """How much the splits differ: from 1 on drift or spread is large; 0 where nothing is known."""
        spread = 0.0 if self.spread is None else _log_ratio(self.spread) / math.log(SPREAD)
        return max((self.drift or 0.0) / DRIFT, spread)


def column_statistics(store: Store, splits: NDArray[np.int64] | None = None) -> tuple[ColumnStatistics, ...]:
    """Describe each feature, then each target of a store; `splits` (sequences,) has the split of each sequence."""
    views = (
        []
        if splits is None
        else [store.select(np.flatnonzero(splits == number)) for number in range(len(DEFAULT_SPLITS))]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a split may be empty
        every, *each = [view.stats() for view in (store, *views)]
    return tuple(
        one
        for array in (ARRAYS if store.has_labels else ARRAYS[:1])
        for one in _columns(store, array, getattr(every, array), [getattr(stats, array) for stats in each])
    )


def _columns(store: Store, array: str, moments: Moments, parts: Sequence[Moments]) -> Iterator[ColumnStatistics]:
    rows = store.schema.rows(array)
    values = int(store.places(array)[1].sum()) * math.prod(rows.shape[:-1])
    constant = _constant_sequences(store, array)
    for number, name in enumerate(rows.names or (None,) * rows.features):
        means = tuple(_finite(part.mean[number]) for part in parts)
        stds = tuple(_std(part, number) for part in parts)
        drift, spread = drift_and_spread(means, stds)
        yield ColumnStatistics(
            array=array,
            column=number,
            name=name,
            count=int(moments.count[number]),
            mean=_finite(moments.mean[number]),
            std=_std(moments, number),
            min=_finite(moments.min[number]),
            max=_finite(moments.max[number]),
            missing=values - int(moments.count[number]),
            constant=int(constant[number]),
            split_means=means,
            split_stds=stds,
            drift=drift,
            spread=spread,
            unit="" if rows.units is None else rows.units[number],
            description="" if rows.descriptions is None else rows.descriptions[number],
        )


def _std(moments: Moments, column: int) -> float | None:
    """Return a standard deviation; exactly 0 if all values are equal, despite rounding."""
    return 0.0 if moments.min[column] == moments.max[column] else _finite(moments.std[column])


def _finite(value: float) -> float | None:
    """Return a number for JSON; None for NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def _constant_sequences(store: Store, array: str) -> NDArray[np.int64]:
    """Return (features,) the number of sequences in which each is constant, reading the tables in blocks."""
    _, lengths = store.places(array)
    features = store.schema.rows(array).features
    constant = np.zeros(features, np.int64)
    size = max(1, BLOCK_VALUES // features)
    for start in range(0, len(store), size):
        numbers = store.selection[start : start + size]
        first, last = int(numbers.min()), int(numbers.max())
        low, high, count = (
            store.snapshot.table(f"stats/{array}_{name}", first, last + 1)[numbers - first]
            for name in ("min", "max", "count")
        )
        several = (lengths[start : start + size] > 1)[:, None] & (count > 1)
        constant += ((low == high) & several).sum(axis=0)
    return constant


def drift_and_spread(means: Sequence[float | None], stds: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Compare the means and standard deviations of splits with those of the first."""
    if not means or means[0] is None or not stds[0]:
        return None, None
    drift = max((abs(one - means[0]) / stds[0] for one in means[1:] if one is not None), default=math.nan)
    spread = max((one / stds[0] for one in stds[1:] if one is not None), key=_log_ratio, default=math.nan)
    return _finite(drift), _finite(spread)


def _log_ratio(ratio: float) -> float:
    """Return how far a ratio is from 1, the same for twice and for half."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf
