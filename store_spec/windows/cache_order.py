"""In which order the windows of a lane are drawn, so that those drawn together lie in the processor's cache.

    windows    0  1  2  3  4  5  6  7  8  9 10 11        of a lane
    runs       |      0       |       1        |         neighbours, which share most of their rows
    visits     0  2  4 | 1  3  5 | 6  8 10 | 7  9 11     every so many of a run
    groups     1 3 5, 6 8 10  |  0 2 4, 7 9 11           visits from all over the lane, each to a run of its own
    order      8 3 10 1 6 5      7 2 11 0 9 4            drawn at random within a group

Out of the cache, overlapping windows are gathered two to four times as fast as from all over a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import spread
from store_spec.windows.shape import WindowShape

# Bytes of rows that a group of all lanes is gathered from, and visits in a group of one lane: with those of all lanes,
# batches mix well. Half of a processor's cache if that will do, as what is read and gathered passes through it too.
GROUPS = ((2**23, 30), (2**24, 40))
VISIT_WINDOWS = 16  # enough that a row is gathered several times while it is in the cache, and no more: they are alike
LEAST_GAIN = 2  # times that a row has to be gathered in a visit, or it is not worth while


@dataclass(frozen=True, slots=True)
class CacheOrder:
    """How a lane is cut.

    Args:
        run: Windows in a run.
        phases: How many visits a run gets: one takes its windows i, i + phases, ...
        together: CacheOrder in a group.
    """

    run: int
    phases: int
    together: int

    @classmethod
    def plan(cls, shape: WindowShape, row: int, lanes: int) -> CacheOrder | None:
        """Choose from the bytes of a row in memory; None where the cache gives nothing, or too few places fit it."""
        found: CacheOrder | None = None
        for cached, least in GROUPS:
            found = cls._within(cached // (lanes * max(1, row)), least, shape) or found
            if found is not None and found.phases > 1:  # neighbours come in groups far from each other
                break
        return found

    @classmethod
    def _within(cls, cached: int, least: int, shape: WindowShape) -> CacheOrder | None:
        """Choose from the rows of one lane that are to be in the cache."""
        run = (min(2 * shape.span, cached // least) - shape.span) // shape.stride + 1
        if run < 2:
            return None
        phases = max(1, run // VISIT_WINDOWS)
        rows = (run - 1) * shape.stride + shape.span
        if -(-run // phases) * shape.window < LEAST_GAIN * rows:
            return None
        return cls(run=run, phases=phases, together=cached // rows)

    def arrange(self, windows: NDArray[np.signedinteger], generator: np.random.Generator) -> NDArray[np.signedinteger]:
        """Return a lane's windows in the order in which they are drawn."""
        total = len(windows)
        visits = -(-total // self.run) * self.phases
        run, phase = np.divmod(np.arange(visits), self.phases)
        counts = np.maximum(-((phase - np.minimum(self.run, total - run * self.run)) // self.phases), 0)
        # Of neighbouring visits each group has one at most.
        groups = -(-visits // self.together)
        strata = -(-visits // groups)
        dealt = generator.permuted(np.arange(strata * groups).reshape(strata, groups), axis=1).T
        there = dealt < visits
        order, ends = dealt[there], np.cumsum(there.sum(axis=1))
        first, counts = run[order] * self.run + phase[order], counts[order]
        drawn: NDArray[np.signedinteger] = windows[spread(first, counts, self.phases)]
        ends = np.concatenate(([0], np.cumsum(counts)[ends - 1])).tolist()
        for low, high in pairwise(ends):
            generator.shuffle(drawn[low:high])
        return drawn
