"""Each feature and target: exact figures from the tables, and how its values lie, from sampled rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.inspection import ColumnStatistics
from builder.report.sampling import Sample, table_blocks
from store_spec import Store

BINS = 32
RUN = 8  # equal values on end from which on a feature is said to stand still
FEW_VALUES = 24  # different whole numbers up to which each has a bar of its own
# Shares of the sampled values that may lie outside of the bins at either end, and how much wider the range must be with
# them than without for that: a few values far away would leave one bin for all others.
TAILS = ((0.005, 3.0), (0.025, 10.0), (0.1, 10.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How sampled values lie: in bins of one width from `low` to `high`.

    Args:
        below: Values below `low`.
        above: Values above `high`.
        whole: Each bin is one whole number, from `low` to `high`.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature or target.

    Args:
        statistics: Exact, over the whole store.
        missing: Exact: values that are NaN.
        constant: Exact: sequences of two steps or more in which no value differs from another.
        still: Of the sampled steps, the share in runs of `RUN` equal ones or more; None where none was sampled.
        longest: Steps of the longest such run that was sampled; 0 where there is none.
        distribution: Of the sampled values; None where there are none, or they have no order.
    """

    statistics: ColumnStatistics
    missing: int
    constant: int
    still: float | None
    longest: int
    distribution: Distribution | None

    @property
    def missing_share(self) -> float:
        """Share of the values that are NaN."""
        return self.missing / max(1, self.missing + self.statistics.count)


def describe_features(
    store: Store, statistics: tuple[ColumnStatistics, ...], sample: Sample, most: int
) -> tuple[Feature, ...]:
    """Describe the first features of one array.

    Args:
        store: Whose they are.
        statistics: Of every feature of the array.
        sample: Of its rows.
        most: Features that are described.
    """
    if not statistics:
        return ()
    name = statistics[0].array
    values = sample.total * sample.rows.shape[1]
    constant = _constant(store, name)
    found = []
    for one in statistics[:most]:
        column = sample.rows[:, :, one.column]
        still, longest = still_share(column, sample.begins)
        found.append(
            Feature(
                statistics=one,
                missing=values - one.count,
                constant=int(constant[one.column]),
                still=still,
                longest=longest,
                distribution=distribute(column.reshape(-1)),
            )
        )
    return tuple(found)


def _constant(store: Store, name: str) -> NDArray[np.int64]:
    """Return (features,): in how many sequences of two rows or more each never changes."""
    lengths = store.lengths if name == "inputs" else store.label_lengths
    features = store.schema.rows(name).features
    found = np.zeros(features, np.int64)
    tables = (f"stats/{name}_min", f"stats/{name}_max")
    for which, (low, high) in table_blocks(store, *tables, width=features):
        found += ((low == high) & (lengths[which] > 1)[:, None]).sum(axis=0)
    return found


def still_share(values: NDArray[Any], begins: NDArray[np.bool_]) -> tuple[float | None, int]:
    """Return the share of steps that lie in runs of equal ones, and the longest run, if there is one.

    Args:
        values: (steps, places); NaN equals nothing.
        begins: (steps,), True where a run cannot go on.

    >>> still_share(np.array([[1.0]] * 9 + [[2.0]]), np.array([True] + [False] * 9))
    (0.9, 9)
    """
    if not len(values):
        return None, 0
    same = np.append(False, (values[1:] == values[:-1]).all(axis=1)) & ~begins
    runs = np.diff(np.append(np.flatnonzero(~same), len(values)))
    runs = runs[runs >= RUN]
    return float(runs.sum() / len(values)), int(runs.max(initial=0))


def distribute(values: NDArray[Any]) -> Distribution | None:
    """Count values (values,) in bins; NaN does not count, nor infinities, which only a stranger's store can have.

    >>> distribute(np.array([1, 2, 2, 4]))
    Distribution(low=1.0, high=4.0, counts=(1, 2, 0, 1), below=0, above=0, whole=True)
    """
    if values.dtype.kind == "c":
        return None
    whole = values.dtype.kind in "biu"
    values = values.astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if low == high or (whole and high - low < FEW_VALUES):
        counts = np.bincount((values - low).astype(np.int64)) if whole else [len(values)]
        return Distribution(low=low, high=high, counts=tuple(map(int, counts)), whole=whole)
    for tail, wider in TAILS:
        near, far = (float(one) for one in np.quantile(values, (tail, 1 - tail), method="nearest"))
        # The width by halves: the whole of it may be beyond float64.
        if near < far and high / 2 - low / 2 > wider * (far / 2 - near / 2):
            low, high = near, far
    span = high / 2 - low / 2
    if not span:  # less than float64 tells apart
        return Distribution(low=low, high=high, counts=(len(values),))
    below, above = values < low, values > high
    inside = values[~(below | above)]
    bins = ((inside / 2 - low / 2) / span * BINS).astype(np.int64).clip(0, BINS - 1)
    return Distribution(
        low=low,
        high=high,
        counts=tuple(np.bincount(bins, minlength=BINS).tolist()),
        below=int(below.sum()),
        above=int(above.sum()),
    )
