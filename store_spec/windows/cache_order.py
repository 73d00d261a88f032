"""The order of the windows of a lane, chosen so that the rows of consecutive windows fit into the processor's cache.

    windows    0  1  2  3  4  5  6  7  8  9 10 11        of a lane
    runs       |      0       |       1        |         neighbours, which share most of their rows
    visits     0  2  4 | 1  3  5 | 6  8 10 | 7  9 11     every second window of a run
    groups     1 3 5, 6 8 10  |  0 2 4, 7 9 11           visits from all over the lane, each from another run
    order      8 3 10 1 6 5      7 2 11 0 9 4            shuffled within a group

From the cache, overlapping windows are gathered two to four times as fast as from all over a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import spread
from store_spec.windows.shape import WindowShape

# The bytes of rows of a group of all lanes, and the least number of visits in a group of one lane, so that batches mix
# well. The first choice is half of a processor's cache, because rows that are read and gathered pass through it too.
GROUPS = ((2**23, 30), (2**24, 40))
VISIT_WINDOWS = 16  # enough to gather a row several times while it is cached; not more, as these windows are alike
LEAST_GAIN = 2  # how often a visit has to gather each row to be worth it


@dataclass(frozen=True, slots=True)
class CacheOrder:
    """How a lane is divided into runs, visits and groups."""

    run: int  # windows in a run
    phases: int  # how many visits a run has: visit i takes its windows i, i + phases, ...
    together: int  # visits in a group

    @classmethod
    def plan(cls, shape: WindowShape, row: int, lanes: int) -> CacheOrder | None:
        """Choose by the bytes of a row in memory; None if the cache would not help, or has too few rows."""
        choice: CacheOrder | None = None
        for cached, least in GROUPS:
            choice = cls._within(cached // (lanes * max(1, row)), least, shape) or choice
            if choice is not None and choice.phases > 1:  # neighbours are in groups far from each other
                break
        return choice

    @classmethod
    def _within(cls, cached: int, least: int, shape: WindowShape) -> CacheOrder | None:
        """Choose by the number of rows of one lane that are to be in the cache."""
        run = (min(2 * shape.span, cached // least) - shape.span) // shape.stride + 1
        if run < 2:
            return None
        phases = max(1, run // VISIT_WINDOWS)
        rows = (run - 1) * shape.stride + shape.span
        if -(-run // phases) * shape.window < LEAST_GAIN * rows:
            return None
        return cls(run=run, phases=phases, together=cached // rows)

    def arrange(self, windows: NDArray[np.signedinteger], generator: np.random.Generator) -> NDArray[np.signedinteger]:
        """Return the windows of a lane in this order."""
        total = len(windows)
        visits = -(-total // self.run) * self.phases
        run, phase = np.divmod(np.arange(visits), self.phases)
        counts = np.maximum(-((phase - np.minimum(self.run, total - run * self.run)) // self.phases), 0)
        # Each group has at most one of some neighbouring visits.
        groups = -(-visits // self.together)
        strata = -(-visits // groups)
        by_group = generator.permuted(np.arange(strata * groups).reshape(strata, groups), axis=1).T
        exists = by_group < visits
        order, ends = by_group[exists], np.cumsum(exists.sum(axis=1))
        first, counts = run[order] * self.run + phase[order], counts[order]
        ordered: NDArray[np.signedinteger] = windows[spread(first, counts, self.phases)]
        ends = np.concatenate(([0], np.cumsum(counts)[ends - 1])).tolist()
        for low, high in pairwise(ends):
            generator.shuffle(ordered[low:high])
        return ordered
