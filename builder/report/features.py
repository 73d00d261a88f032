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
MOST_BINS = 48  # of values that are counted one by one, or so many to a bin
RUN = 8  # equal values on end from which on a feature is said to stand still
FEW_VALUES = 24  # values that there can be up to which none is left out as too far away
# Values that there can be, up to which as many go into each bin: bins of one width would have now 2, now 3 of them, and
# look like a comb. From there on it is no longer seen.
COUNTABLE = 8 * BINS
OFF = 0.02  # of a step, by which values may lie beside it: they are rounded
TINY = 1e-300  # half a step has to be a number too
# Shares of the sampled values that may lie outside of the bins at either end, and how much wider the range must be with
# them than without for that: a few values far away would leave one bin for all others.
TAILS = ((0.005, 3.0), (0.025, 10.0), (0.1, 10.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How sampled values lie: in bins of one width from `low` to `high`, or of so many values each.

    Args:
        below: Values below `low`.
        above: Values above `high`.
        step: All values lie so far apart, or a multiple of that, as whole numbers do; 0: anywhere.
        each: With a step: values that a bin is of; the last bin can be of fewer.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0
    step: float = 0.0
    each: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature or target.

    Args:
        statistics: Exact, over the whole store.
        missing: Exact: values that are NaN.
        constant: Exact: sequences of two steps or more, and as many values, in which none differs from another.
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
    """Return (features,): in how many sequences of two rows or more each never changes, of two values or more."""
    _, lengths = store.places(name)
    features = store.schema.rows(name).features
    found = np.zeros(features, np.int64)
    tables = (f"stats/{name}_min", f"stats/{name}_max", f"stats/{name}_count")
    for which, (low, high, count) in table_blocks(store, *tables, width=features):
        # One value among missing ones does not stand still.
        found += ((low == high) & (count > 1) & (lengths[which] > 1)[:, None]).sum(axis=0)
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
    Distribution(low=1.0, high=4.0, counts=(1, 2, 0, 1), below=0, above=0, step=1.0, each=1)
    """
    if values.dtype.kind == "c":
        return None
    values = values.astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Distribution(low=low, high=high, counts=(len(values),))
    step = _step(values)
    if not step or _place(high, low, step) >= FEW_VALUES:
        low, high = _without_tails(values, low, high)
    below, above = values < low, values > high
    inside = values[~(below | above)]
    outside = {"below": int(below.sum()), "above": int(above.sum())}
    if step and _place(high, low, step) < COUNTABLE - 0.5:
        count = round(_place(high, low, step)) + 1
        each = _together(count)
        bins = np.rint(_place(inside, low, step)).astype(np.int64) // each
        counts = np.bincount(bins, minlength=-(-count // each)).tolist()
        return Distribution(low=low, high=high, counts=tuple(counts), step=step, each=each, **outside)
    span = high / 2 - low / 2
    if not span:  # less than float64 tells apart
        return Distribution(low=low, high=high, counts=(len(inside),), **outside)
    bins = ((inside / 2 - low / 2) / span * BINS).astype(np.int64).clip(0, BINS - 1)
    return Distribution(low=low, high=high, counts=tuple(np.bincount(bins, minlength=BINS).tolist()), **outside)


def _without_tails(values: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Return from where to where bins reach: a few values far away are left out."""
    for tail, wider in TAILS:
        near, far = (float(one) for one in np.quantile(values, (tail, 1 - tail), method="nearest"))
        # The width by halves: the whole of it may be beyond float64.
        if near < far and high / 2 - low / 2 > wider * (far / 2 - near / 2):
            low, high = near, far
    return low, high


def _step(values: NDArray[np.float64]) -> float:
    """Return what all values are a multiple of apart, as those of a sensor with few digits; 0 where nothing is.

    >>> round(_step(np.array([20.5, 20.6, 21.0])), 3), _step(np.array([0.0, 7.0])), _step(np.array([0.0, 1.0, 4.1]))
    (0.1, 1.0, 0.0)
    """
    if (values == np.rint(values)).all():
        return 1.0
    # Most features have many values: that is seen in the first of them.
    if len(np.unique(values[: 16 * COUNTABLE])) > COUNTABLE or len(few := np.unique(values)) > COUNTABLE:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.diff(few)
        # Rounded as they are, neighbours lie not quite equally far apart: their median, then the whole range.
        step = float(np.median(apart[apart < 1.5 * apart.min()])) if np.isfinite(apart).all() else 0.0
        count = np.rint(apart / step).sum() if step else 0.0
        step = float((few[-1] - few[0]) / count) if count else 0.0
        places = (few - few[0]) / step if step else few
        fits = step > TINY and bool((np.abs(places - np.rint(places)) < OFF).all())
    return step if fits else 0.0


def _place(value: Any, low: float, step: float) -> Any:
    """Return how many steps values lie above the least."""
    return (value / 2 - low / 2) / (step / 2)


def _together(count: int) -> int:
    """Return how many values go into a bin, so that the last one is filled best, and bins are about so many.

    >>> _together(24), _together(90), _together(256)
    (1, 3, 8)
    """
    if count <= MOST_BINS:
        return 1
    choices = range(-(-count // MOST_BINS), 2 * count // BINS + 1)
    return min(choices, key=lambda each: (-(-count // each) - count / each, abs(count / each - BINS)))
