"""Choose how many windows are in a unit, and how many units in a pool, by their costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec.windows.index import WindowIndex

Ints = NDArray[np.int64]

GATHERING = 12  # gathering is about 12 times as fast as decompressing, in bytes per second
LEAST_WASTE = 16  # one byte in 16 may be decompressed twice, even if that takes longer than gathering
# The most unused bytes that are decompressed for each used one: a disk or a network has to deliver them too. With a
# lower limit, units are so large that a batch of 256 dense windows comes from fewer than 0.9 of the sequences that it
# would come from if the whole epoch were shuffled.
MOST_WASTE = 4
LEAST_UNITS = 64  # in a pool, if memory allows: with 16, losses differed from those of a global shuffle
UNITS_OF_ONE_POOL = 2**12  # if there is one pool, which has all rows, small units cost nothing and mix better
MOST_UNITS = 2**18  # each takes up to 400 bytes while an epoch is planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Costs in bytes: memory of a pool, and bytes to decompress and to gather."""

    row: int  # memory for each row
    window: int  # memory for each window
    piece: int = 0  # memory for each run of windows
    pool: int = 0  # memory for each pool, in addition
    stored: int = 1  # bytes that are decompressed for each row
    sample: int = 1  # bytes that are gathered for each window


def unit_size(index: WindowIndex, rows: int, chunk: int, costs: Costs, budget: int, *, shuffled: bool) -> int:
    """Choose how many windows a unit has, before it is known whether it fits the budget."""
    if not len(index):
        return 1
    shape, each = index.shape, rows / len(index)  # rows per window, shared ones counted once
    # A unit of u windows decompresses u * each rows, the further rows of the last window, and on average one more
    # chunk, of which it uses only a part.
    reread = chunk + max(0, shape.span - shape.stride)
    waste = costs.sample / (GATHERING * each * costs.stored) - 1
    waste = min(max(waste, 1 / LEAST_WASTE), MOST_WASTE)
    best = max(reread / (each * waste), shape.span / each)
    cost = each * costs.row + costs.window + costs.piece  # if each window were a unit
    most = budget / LEAST_UNITS / cost
    if shuffled and cost * len(index) <= budget:
        # With a unit for all of a small store, each window would be at about the same position in every epoch.
        most = min(most, len(index) / UNITS_OF_ONE_POOL)
    return max(math.ceil(min(best, most)), least_unit(len(index)))


def least_unit(windows: int) -> int:
    """Return the smallest size of a unit, so that there are not too many units to plan."""
    return max(1, -(-windows // MOST_UNITS))


def pools_of(cost: Ints, budget: int) -> Ints:
    """Return the first unit of each pool, then the number of units; pools of similar costs, if possible in budget."""
    if not len(cost):
        return np.zeros(1, np.int64)
    total = np.concatenate((np.zeros(1, np.int64), np.cumsum(cost)))
    all_of_them, largest = int(total[-1]), int(cost.max())
    for least in (budget, budget - largest):  # with the second, pools of similar cost certainly fit
        if least > 0:
            pools = min(-(-all_of_them // least), len(cost))
            bounds = np.searchsorted(total, np.arange(1, pools) * (all_of_them / pools), side="right") - 1
            bounds = np.unique(np.concatenate(([0], bounds, [len(cost)])))
            if np.diff(total[bounds]).max() <= budget:
                return np.asarray(bounds, np.int64)
    return _full_pools(total[1:], budget)


def _full_pools(total: Ints, budget: int) -> Ints:
    """Return the first unit of each pool, then the number of units; each pool is as full as possible."""
    bounds = [0]
    while bounds[-1] < len(total):
        before = int(total[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(total, before + budget, side="right"))))
    return np.array(bounds, np.int64)
