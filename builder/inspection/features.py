"""Each feature and target in exact figures, in all and in each split. No row is read."""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec import Moments, Store

ARRAYS = ("inputs", "labels")
BLOCK_VALUES = 2**20  # values of a table that are in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStatistics:
    """One feature or target, exactly; None where it has no value (or no order, as complex numbers).

    Args:
        array: `inputs` or `labels`.
        unit: The unit that the source files gave; "": none.
        description: What the source files said about it; "": nothing.
        count: Values that are not missing.
        missing: Values that are NaN.
        constant: Sequences with at least two rows and two values, in which all values are equal.
        split_means: The mean in each split; empty for a single source.
        split_stds: The standard deviation in each.
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


def column_statistics(store: Store, splits: Sequence[Store] = ()) -> tuple[ColumnStatistics, ...]:
    """Describe each feature, then each target of a store, also in each of its splits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a split may be empty
        every, *each = [view.stats() for view in (store, *splits)]
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
            split_means=tuple(_finite(part.mean[number]) for part in parts),
            split_stds=tuple(_std(part, number) for part in parts),
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
