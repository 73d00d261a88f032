"""Which sequence each lane of a stream gives when: arithmetic on lengths, apart from all reading.

    lane 0 | a a a a | a c c c |              sequences of 5, 4, 3 and 4 steps in two batches of 2 lanes and 4 steps
    lane 1 | b b b b | d d d d |

    lane 0 | a a a a | a . . . | d d d d |    the same with align=True, in three batches; a dot is padding
    lane 1 | b b b b | c c c . | . . . . |

Lanes are those of all ranks: what each gives when does not depend on how they are shared.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import spread

Ints = NDArray[np.int64]

ONE_BY_ONE = 2**16  # sequences that are dealt by themselves; of the shorter ones, neighbours by length go together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slices:
    """What some lanes give in some batches: slices of sequences.

    Args:
        batch: (slices,), counted from the first of the batches.
        lane: (slices,), counted from the first of the lanes.
        column: (slices,), the step of the batch that each begins at.
        sequence: (slices,).
        start: (slices,), the step of the sequence that each begins with; 0 is where a lane has to be reset.
        count: (slices,), steps of each.
    """

    batch: Ints
    lane: Ints
    column: Ints
    sequence: Ints
    start: Ints
    count: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanePlan:
    """Where each sequence lies in the steps of all lanes, one lane after another.

    Args:
        lanes: How many there are.
        steps: Steps of each in a batch.
        batches: How many there are; a lane has `batches * steps` steps, those of padding among them.
        sequence: (sequences,), those that have steps, lane by lane as they come.
        begin: (sequences,), where each begins.
        end: (sequences,), where each ends.
    """

    lanes: int
    steps: int
    batches: int
    sequence: Ints
    begin: Ints
    end: Ints

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all lanes."""
        computed = self.lanes * self.batches * self.steps
        return 1 - int((self.end - self.begin).sum()) / computed if computed else 0.0

    def slices(self, lanes: range, batches: range) -> Slices:
        """Return what these lanes give in these batches, batch by batch and lane by lane."""
        batch, lane = np.divmod(np.arange(len(batches) * len(lanes)), len(lanes))
        low = (lanes.start + lane) * self.batches * self.steps + (batches.start + batch) * self.steps
        first = np.searchsorted(self.end, low, side="right")
        counts = np.searchsorted(self.begin, low + self.steps, side="left") - first
        which, cell = spread(first, counts), np.repeat(np.arange(len(low)), counts)
        begin = np.maximum(self.begin[which], low[cell])
        return Slices(
            batch=batch[cell],
            lane=lane[cell],
            column=begin - low[cell],
            sequence=self.sequence[which],
            start=begin - self.begin[which],
            count=np.minimum(self.end[which], low[cell] + self.steps) - begin,
        )


def plan(lengths: Ints, *, lanes: int, steps: int, align: bool, random: np.random.Generator | None) -> LanePlan:
    """Deal sequences to lanes so that few steps of these are padding: the longest first, to the lane that ends first.

    Args:
        lengths: (sequences,), the steps of each.
        lanes: How many there are.
        steps: Steps of each in a batch.
        align: Begin sequences with a batch.
        random: For a shuffled order; None for that of the sequences.

    >>> dealt = plan(np.array([5, 4, 3, 4]), lanes=2, steps=4, align=False, random=None)
    >>> dealt.sequence.tolist(), dealt.begin.tolist(), dealt.batches
    ([0, 2, 1, 3], [0, 5, 8, 12], 2)
    """
    sequence = np.flatnonzero(lengths)
    taken = -(-lengths[sequence] // steps) * steps if align else lengths[sequence]
    if random is None:
        order = np.argsort(-taken, kind="stable")
    else:  # nearly the longest first: in steps of about a tenth, so that others share a lane in each epoch
        mantissa, exponent = np.frexp(taken.astype(np.float64))
        order = np.lexsort((random.random(len(taken)), -np.floor(mantissa * 16), -exponent))
    sequence, taken = sequence[order], taken[order]
    lane = _dealt(taken, lanes)
    turn = sequence if random is None else random.random(len(sequence))
    order = np.lexsort((turn, lane))
    sequence, taken, lane = sequence[order], taken[order], lane[order]
    ends = np.cumsum(taken)
    first = np.searchsorted(lane, np.arange(lanes + 1))  # of each lane, among the sequences
    bounds = np.concatenate(([0], ends))[first]
    batches = -(-int(np.diff(bounds).max()) // steps)
    begin = ends - taken - bounds[lane] + lane * (batches * steps)
    return LanePlan(
        lanes=lanes,
        steps=steps,
        batches=batches,
        sequence=sequence,
        begin=begin,
        end=begin + lengths[sequence],
    )


def _dealt(taken: Ints, lanes: int) -> Ints:
    """Return the lane of each of some sequences, which need steps in falling order."""
    singly = max(ONE_BY_ONE, 64 * lanes)
    together = -(-max(0, len(taken) - singly) // singly)  # beyond that, so that 10^6 take no longer than the first ones
    edges = np.arange(min(len(taken), singly))
    if together:
        edges = np.concatenate((edges, np.arange(singly, len(taken), together)))
    ends = [(0, lane) for lane in range(lanes)]  # a heap
    dealt = []
    for steps in np.add.reduceat(taken, edges).tolist() if len(taken) else ():
        end, lane = ends[0]
        dealt.append(lane)
        heapq.heapreplace(ends, (end + steps, lane))
    return np.repeat(np.array(dealt, np.int64), np.diff(np.append(edges, len(taken))))
