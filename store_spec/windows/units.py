"""How many windows are visited together, and how many such units lie in memory together: by what each costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec.windows.index import WindowIndex

Ints = NDArray[np.int64]

GATHERING = 12  # times as many bytes are gathered as are decompressed, in the same time or so
LEAST_WASTE = 16  # one part in so many of what is decompressed may be decompressed twice, whatever that costs
LEAST_UNITS = 64  # in a pool, where memory allows: with 16, losses differed from those of a global shuffle
UNITS_OF_ONE_POOL = 2**12  # whose rows are all there: small units cost nothing more, and windows come from everywhere
MOST_UNITS = 2**18  # each takes up to 400 bytes while an epoch is planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a pool takes in memory, and what takes time, in bytes.

    Args:
        row: In memory, each row.
        window: In memory, each window.
        piece: In memory, each piece.
        pool: In memory, whatever it holds.
        stored: What is decompressed for each row.
        sample: What is gathered for each window.
    """

    row: int
    window: int
    piece: int = 0
    pool: int = 0
    stored: int = 1
    sample: int = 1


def unit_size(index: WindowIndex, rows: int, chunk: int, costs: Costs, budget: int, *, shuffled: bool) -> int:
    """Choose how many windows a unit has, before it is known whether it fits the budget."""
    if not len(index):
        return 1
    shape, each = index.shape, rows / len(index)  # rows to a window, those that it shares not counted twice
    # Decompressed for a unit of u windows are u * each rows, those that the last window takes beyond, and on average
    # one chunk more, of which it has only a part.
    again = chunk + max(0, shape.span - shape.stride)
    allowed = max(1 / LEAST_WASTE, costs.sample / (GATHERING * each * costs.stored) - 1)
    wanted = max(again / (each * allowed), shape.span / each)
    cost = each * costs.row + costs.window + costs.piece  # were each window a unit
    most = budget / LEAST_UNITS / cost
    if shuffled and cost * len(index) <= budget:
        # A unit that is all of a small store would give each window the same few places in every epoch.
        most = min(most, len(index) / UNITS_OF_ONE_POOL)
    return max(math.ceil(min(wanted, most)), least_unit(len(index)))


def least_unit(windows: int) -> int:
    """Return how many windows a unit has at least: so many units can be planned, whatever the memory."""
    return max(1, -(-windows // MOST_UNITS))


def pools_of(cost: Ints, budget: int) -> Ints:
    """Return where each pool begins in units of these costs: pools of like size, none above the budget if possible."""
    if not len(cost):
        return np.zeros(1, np.int64)
    total = np.concatenate((np.zeros(1, np.int64), np.cumsum(cost)))
    all_of_them, largest = int(total[-1]), int(cost.max())
    for least in (budget, budget - largest):  # the second is what pools of like size surely keep to
        if least > 0:
            pools = min(-(-all_of_them // least), len(cost))
            bounds = np.searchsorted(total, np.arange(1, pools) * (all_of_them / pools), side="right") - 1
            bounds = np.unique(np.concatenate(([0], bounds, [len(cost)])))
            if np.diff(total[bounds]).max() <= budget:
                return np.asarray(bounds, np.int64)
    return _cut(total[1:], budget)


def _cut(total: Ints, budget: int) -> Ints:
    """Return where each pool begins, each as full as it can be."""
    bounds = [0]
    while bounds[-1] < len(total):
        before = int(total[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(total, before + budget, side="right"))))
    return np.array(bounds, np.int64)
