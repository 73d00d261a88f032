"""The default splits beside one another: how far apart their features lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.inspection import ColumnStatistics, column_statistics
from builder.report.drawings import name_of
from store_spec import Store
from store_spec.reading.splits import DEFAULT_SPLITS

SHOWN_COLUMNS = 40
DRIFT = 0.5  # standard deviations by which means differ from which on splits are said to
SPREAD = 2.0  # by how much a standard deviation is larger, or smaller


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One feature or target in one split, exactly; None where there is no value."""

    count: int
    mean: float | None
    std: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One feature or target in every split.

    Args:
        drift: The largest distance of a mean from that of the first split, in standard deviations of the first one;
            None where these do not say: there is no value, or only one.
        spread: The standard deviation that differs most from that of the first split, as a share of it; None likewise.
    """

    array: str
    name: str
    parts: tuple[Part, ...]
    drift: float | None
    spread: float | None

    @property
    def drifts(self) -> bool:
        """Whether means lie so far apart that it is worth a look."""
        return self.drift is not None and self.drift >= DRIFT

    @property
    def spreads(self) -> bool:
        """Whether a standard deviation is so much larger or smaller that it is worth a look."""
        return self.spread is not None and not 1 / SPREAD < self.spread < SPREAD

    @property
    def distance(self) -> float:
        """How much the splits differ: 1 where that is just worth a look, -1 where nothing is known."""
        far = -1.0 if self.drift is None else self.drift / DRIFT
        return far if self.spread is None else max(far, _apart(self.spread) / _apart(SPREAD))


def compare(store: Store, numbers: NDArray[np.int64], arrays: tuple[str, ...]) -> tuple[Compared, ...]:
    """Compare the splits, feature by feature, from moments: no row is read. What differs most comes first.

    Args:
        store: Whose splits.
        numbers: (sequences,), which split each is in.
        arrays: Whose columns are compared, of inputs and labels.
    """
    each = [store.select(numbers == number).stats() for number in range(len(DEFAULT_SPLITS))]
    found = []
    for name in arrays:
        columns = [column_statistics(name, store.schema.rows(name), getattr(stats, name)) for stats in each]
        for several in zip(*columns, strict=True):
            parts = tuple(Part(count=one.count, mean=one.mean, std=steady_std(one)) for one in several)
            found.append(
                Compared(
                    array=name,
                    name=name_of(several[0]),
                    parts=parts,
                    drift=drift_of(several),
                    spread=spread_of(several),
                )
            )
    return tuple(sorted(found, key=lambda one: one.distance, reverse=True))


def steady_std(one: ColumnStatistics) -> float | None:
    """Return the standard deviation, without what rounding leaves of it where all values are the same."""
    return 0.0 if one.min is not None and one.min == one.max else one.std


def drift_of(columns: tuple[ColumnStatistics, ...]) -> float | None:
    """Return how far the means of a column lie from that in the first split, in its standard deviations."""
    first = columns[0]
    # By least and largest value: rounding can leave a constant feature a standard deviation that is not quite 0.
    if first.mean is None or not first.std or first.min == first.max:
        return None
    distances = [abs(one.mean / first.std - first.mean / first.std) for one in columns[1:] if one.mean is not None]
    return max(distances, default=None)


def spread_of(columns: tuple[ColumnStatistics, ...]) -> float | None:
    """Return the standard deviation of a split, as a share of that of the first one, that differs most from it."""
    first = columns[0]
    if not first.std or first.min == first.max:
        return None
    shares = [std / first.std for one in columns[1:] if (std := steady_std(one)) is not None]
    return max(shares, key=_apart, default=None)


def _apart(share: float) -> float:
    """Return how far a share is from 1, the same for twice and for half."""
    return abs(math.log(share)) if share > 0 else math.inf
