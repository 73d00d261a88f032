"""Draw windows with replacement, by the weights of their sequences: first how many of each unit, then which ones.

    windows   0  1  2  3  4  5  6  7  8  9      sequences a, b, c of weights 1, 3, 0
              a  a  a  a  b  b  b  b  c  c
    units     |     0    |     1    |   2 |     4 windows each, of mass 4, 12 and 0
    counts    3            7          0         ten windows are divided among the units by a multinomial draw
    takes     3            4, 3                 each of at most as many windows as a unit has
    windows   0 2 2        4 5 5 7, 4 6 6       each take draws its windows one by one by their weight

So the memory for planning depends on the number of units, and that of a pool on its windows, even for unequal weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store_spec.format.moments import Floats
from store_spec.format.runs import spread

Ints = NDArray[np.int64]

DRAWN_BYTES = 64  # of memory for each window of a pool, while windows are drawn


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
    first, last = (np.searchsorted(before, at, side="right") - 1 for at in (low, high - 1))
    sequence, take = spread(first, last + 1 - first), np.repeat(np.arange(len(low)), last + 1 - first)
    # Runs of windows with the same weight. Runs of weight 0 are left out: by rounding, they could be drawn.
    some = weights[sequence] > 0
    sequence, take = sequence[some], take[some]
    start = np.maximum(low[take], before[sequence])
    count = np.minimum(high[take], before[sequence + 1]) - start
    mass = np.concatenate(([0.0], np.cumsum(count * weights[sequence])))
    runs = np.searchsorted(take, np.arange(len(low) + 1))
    of = np.repeat(np.arange(len(low)), counts)
    base, top = mass[runs[:-1]], mass[runs[1:]]
    place = base[of] + random.random(len(of)) * (top - base)[of]
    run = (np.searchsorted(mass, place, side="right") - 1).clip(runs[of], runs[of + 1] - 1)
    window = start[run] + (random.random(len(of)) * count[run]).astype(np.int64)
    return np.asarray(window[np.lexsort((window, of))])
