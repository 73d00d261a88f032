"""The places of sequences in the lanes of a stream: arithmetic on lengths, without reading any rows.

    lane 0 | a a a a | a c c c |              sequences of 5, 4, 3 and 4 steps in two batches of 2 lanes and 4 steps
    lane 1 | b b b b | d d d d |

    lane 0 | a a a a | a . . . | d d d d |    the same with align=True, in three batches; a dot is padding
    lane 1 | b b b b | c c c . | . . . . |

These are the lanes of all ranks: their content does not depend on how the ranks share them.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import spread
from store_spec.sequences.buckets import drawn
from store_spec.sequences.slices import Slices

Ints = NDArray[np.int64]

ONE_BY_ONE = 2**16  # sequences that are assigned one by one; shorter ones are assigned in groups of similar length


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanePlan:
    """The places of sequences in the steps of all lanes, one lane after another."""

    lanes: int
    steps: int  # steps of each lane in a batch
    batches: int  # a lane has `batches * steps` steps, including padding
    sequence: Ints  # (sequences,), the sequences that have steps, lane by lane, in order
    start: Ints  # (sequences,), the first step of each
    stop: Ints  # (sequences,), the step after its last

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all lanes."""
        computed = self.lanes * self.batches * self.steps
        return 1 - int((self.stop - self.start).sum()) / computed if computed else 0.0

    def slices(self, lanes: range, batches: range) -> Slices:
        """Return the slices in these lanes of these batches, batch by batch and lane by lane."""
        batch, lane = np.divmod(np.arange(len(batches) * len(lanes)), len(lanes))
        low = (lanes.start + lane) * self.batches * self.steps + np.asarray(batches)[batch] * self.steps
        first = np.searchsorted(self.stop, low, side="right")
        counts = np.searchsorted(self.start, low + self.steps, side="left") - first
        which, cell = spread(first, counts), np.repeat(np.arange(len(low)), counts)
        start = np.maximum(self.start[which], low[cell])
        return Slices(
            shapes=[(len(lanes), self.steps)] * len(batches),
            batch=batch[cell],
            lane=lane[cell],
            column=start - low[cell],
            sequence=self.sequence[which],
            start=start - self.start[which],
            count=np.minimum(self.stop[which], low[cell] + self.steps) - start,
        )


def plan(
    lengths: Ints,
    *,
    lanes: int,
    steps: int,
    align: bool,
    random: np.random.Generator | None,
    weights: NDArray[np.float64] | None = None,
    drop_last: bool = False,
) -> LanePlan:
    """Assign sequences to lanes with little padding: the longest first, each to the lane that is shortest so far.

    Args:
        lengths: (sequences,), the steps of each sequence.
        lanes: How many lanes there are.
        steps: Steps of each lane in a batch.
        align: Start sequences at the first step of a batch only.
        random: For a shuffled order; None for the order of the sequences.
        weights: (sequences,), to draw as many sequences with replacement; None for each once.
        drop_last: Leave out the batches at the end in which a lane has no or not enough steps.

    >>> lane_plan = plan(np.array([5, 4, 3, 4]), lanes=2, steps=4, align=False, random=None)
    >>> lane_plan.sequence.tolist(), lane_plan.start.tolist(), lane_plan.batches
    ([0, 2, 1, 3], [0, 5, 8, 12], 2)
    """
    sequence = np.flatnonzero(lengths)
    if weights is not None and random is not None:
        sequence = drawn(random, len(lengths), weights)
        sequence = sequence[lengths[sequence] > 0]
    sizes = -(-lengths[sequence] // steps) * steps if align else lengths[sequence]
    if random is None:
        order = np.argsort(-sizes, kind="stable")
    else:  # nearly the longest first: lengths are rounded to about a tenth, so that other sequences share a lane
        mantissa, exponent = np.frexp(sizes.astype(np.float64))
        order = np.lexsort((random.random(len(sizes)), -np.floor(mantissa * 16), -exponent))
    sequence, sizes = sequence[order], sizes[order]
    lane = _assign(sizes, lanes)
    turn = sequence if random is None else random.random(len(sequence))
    order = np.lexsort((turn, lane))
    sequence, sizes, lane = sequence[order], sizes[order], lane[order]
    ends = np.cumsum(sizes)
    first = np.searchsorted(lane, np.arange(lanes + 1))  # the first sequence of each lane
    bounds = np.concatenate(([0], ends))[first]
    in_lane = np.diff(bounds)
    batches = int(in_lane.min()) // steps if drop_last else -(-int(in_lane.max()) // steps)
    start = ends - sizes - bounds[lane]
    stop = start + lengths[sequence]
    if drop_last:  # leave out sequences that begin after the last batch, and cut those that reach beyond it
        some = start < batches * steps
        sequence, start, stop, lane = sequence[some], start[some], stop[some].clip(max=batches * steps), lane[some]
    before = lane * (batches * steps)
    return LanePlan(
        lanes=lanes,
        steps=steps,
        batches=batches,
        sequence=sequence,
        start=start + before,
        stop=stop + before,
    )


def _assign(sizes: Ints, lanes: int) -> Ints:
    """Return the lane of each of some sequences, which are sorted by falling size."""
    singly = max(ONE_BY_ONE, 64 * lanes)
    together = -(-max(0, len(sizes) - singly) // singly)  # in groups, so that 10^6 take no longer than the first
    edges = np.arange(min(len(sizes), singly))
    if together:
        edges = np.concatenate((edges, np.arange(singly, len(sizes), together)))
    ends = [(0, lane) for lane in range(lanes)]  # a heap
    lane_of = []
    for steps in np.add.reduceat(sizes, edges).tolist() if len(sizes) else ():
        end, lane = ends[0]
        lane_of.append(lane)
        heapq.heapreplace(ends, (end + steps, lane))
    return np.repeat(np.array(lane_of, np.int64), np.diff(np.append(edges, len(sizes))))
