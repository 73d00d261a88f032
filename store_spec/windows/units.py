"""Units of windows: how many windows each has, how many are in a pool, and which are drawn by their weights.

With weights, windows are drawn with replacement: first how many of each unit, then which ones.

    windows   0  1  2  3  4  5  6  7  8  9      sequences a, b, c of weights 1, 3, 0
              a  a  a  a  b  b  b  b  c  c
    units     |     0    |     1    |   2 |     4 windows each, of mass 4, 12 and 0
    counts    3            7          0         ten windows are divided among the units by a multinomial draw
    takes     3            4, 3                 each of at most as many windows as a unit has
    windows   0 2 2        4 5 5 7, 4 6 6       each take draws its windows one by one by their weight

So the memory for planning depends on the number of units, and that of a pool on its windows, even for unequal weights.
"""

import math
from dataclasses import dataclass

import numpy as np

from store_spec.format.moments import Floats
from store_spec.format.runs import Ints, bounds_of, split_at, spread
from store_spec.windows.index import WindowIndex

GATHERING = 12  # gathering is about 12 times as fast as decompressing, in bytes per second
LEAST_WASTE = 16  # one byte in 16 may be decompressed twice, even if that takes longer than gathering
# The most unused bytes that are decompressed for each used one: a disk or a network has to deliver them too. With a
# lower limit, units are so large that a batch of 256 dense windows comes from fewer than 0.9 of the sequences that it
# would come from if the whole epoch were shuffled.
MOST_WASTE = 4
LEAST_UNITS = 64  # in a pool, if memory allows: with 16, losses differed from those of a global shuffle
UNITS_OF_ONE_POOL = 2**12  # if there is one pool, which has all rows, small units cost nothing and mix better
MOST_UNITS = 2**18  # each takes up to 400 bytes while an epoch is planned
DRAWN_BYTES = 64  # the memory for each window of a pool while windows are drawn


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
    shape, new_rows = index.shape, rows / len(index)  # rows per window, shared ones counted once
    # A unit of u windows decompresses u * new_rows rows, the further rows of its last window, and on average one more
    # chunk, of which it uses only a part.
    reread = chunk + max(0, shape.span - shape.stride)
    waste = costs.sample / (GATHERING * new_rows * costs.stored) - 1
    waste = min(max(waste, 1 / LEAST_WASTE), MOST_WASTE)
    best = max(reread / (new_rows * waste), shape.span / new_rows)
    cost = new_rows * costs.row + costs.window + costs.piece  # if each window were a unit
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
    total = bounds_of(cost)
    all_of_them, largest = int(total[-1]), int(cost.max())
    for mean_cost in (budget, budget - largest):  # with the second, pools of similar cost certainly fit
        if mean_cost > 0:
            pools = min(-(-all_of_them // mean_cost), len(cost))
            bounds = np.searchsorted(total, np.arange(1, pools) * (all_of_them / pools), side="right") - 1
            bounds = np.unique(np.concatenate(([0], bounds, [len(cost)])))
            if np.diff(total[bounds]).max() <= budget:
                return np.asarray(bounds, np.int64)
    return _full_pools(total[1:], budget)


def unit_masses(bounds: Ints, before: Ints, weights: Floats) -> Floats:
    """Return the sum of the weights of all windows of each unit, exactly 0 if all of them are 0.

    Args:
        bounds: (units + 1,), the first window of each unit, then the number of windows.
        before: (sequences + 1,), how many windows come before each sequence, then the number of windows.
        weights: (sequences,), the weight of each window of a sequence.
    """
    total = np.concatenate(([0.0], np.cumsum(np.diff(before) * weights)))
    sequence = np.searchsorted(before, bounds, side="right") - 1
    within = (bounds - before[sequence]) * np.append(weights, 0.0)[sequence]
    return np.asarray(np.diff(total[sequence] + within), np.float64)


def draw_units(masses: Floats, windows: int, most: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw `windows` windows; return the unit of each take, and how many windows it has: at least 1, at most `most`."""
    # Units of mass 0 are left out: by rounding, the last one could be drawn.
    some = np.flatnonzero(masses)
    if not len(some):
        return some, some
    drawn = random.multinomial(windows, masses[some] / masses[some].sum()).astype(np.int64)
    parts = -(-drawn // most)
    turn = spread(np.zeros(len(some), np.int64), parts)
    each, more = np.divmod(drawn, np.maximum(parts, 1))
    return np.repeat(some, parts), np.repeat(each, parts) + (turn < np.repeat(more, parts))


def draw_windows(
    units: tuple[Ints, Ints], counts: Ints, before: Ints, weights: Floats, random: np.random.Generator
) -> Ints:
    """Draw the windows of some takes; return them take by take, ascending within each.

    `units` are (takes,) each: the first window of a take's unit, and the window after its last. `counts` is (takes,),
    how many windows to draw. The other arguments are as for `unit_masses`.
    """
    low, high = units
    # Runs of windows with the same weight. Runs of weight 0 are left out: by rounding, they could be drawn.
    take, sequence, start, stop = split_at(before, low, high)
    some = weights[sequence] > 0
    take, sequence, start, count = take[some], sequence[some], start[some], (stop - start)[some]
    mass = np.concatenate(([0.0], np.cumsum(count * weights[sequence])))
    runs = np.searchsorted(take, np.arange(len(low) + 1))
    of = np.repeat(np.arange(len(low)), counts)
    base, top = mass[runs[:-1]], mass[runs[1:]]
    place = base[of] + random.random(len(of)) * (top - base)[of]
    run = (np.searchsorted(mass, place, side="right") - 1).clip(runs[of], runs[of + 1] - 1)
    window = start[run] + (random.random(len(of)) * count[run]).astype(np.int64)
    return np.asarray(window[np.lexsort((window, of))])


def _full_pools(total: Ints, budget: int) -> Ints:
    """Return the first unit of each pool, then the number of units; each pool is as full as possible."""
    bounds = [0]
    while bounds[-1] < len(total):
        before = int(total[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(total, before + budget, side="right"))))
    return np.array(bounds, np.int64)
