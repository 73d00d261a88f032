"""In which order an epoch gives its windows, and which rows it reads for them: arithmetic, which reads nothing.

    windows    0  1  2  3  4  5  6  7  8  9 10 11 12 13       numbered sequence by sequence
    units      |     0     |     1     |     2     |  3  |     4 windows each
    order      2, 0, 3, 1                                      shuffled: units are visited in a random order
    pools      |  2, 0   |  3, 1  |                            as many units as fit into memory
    lanes      |8 9|10 11|0 1|2 3|  |12 13|4|5 6|7|            equal shares of a pool's windows, here 4 of them
    epoch      9 10 1 3  8 11 0 2   13 5 6 12 ...              lanes take turns, each in an order of its own

A *unit* is a run of windows whose rows lie close together. Where windows overlap much it is smaller than a chunk: the
chunk is decompressed for each of its units anew, which costs little beside gathering their windows, and the windows of
one place are spread over the epoch. Where windows overlap little it is many chunks, so that few are needed twice.

The rows of a pool are in memory together, and its windows are drawn at random from all of it; where they overlap, from
some thousand places of it at a time, which the processor's cache holds (`visits`). Its *lanes* let ranks read only what
they need: window p of the epoch is for rank p mod world_size, and these lie in as many of the lanes.

With weights, units are taken as often as windows of theirs are drawn: see `draws`. All else stays the same.

The order is a pure function of the seed, the epoch, the windows, their weights, where sequences lie in the store, the
size of its chunks, and the memory; it depends neither on the size of a batch nor on ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import merged, spread
from store_spec.windows.cache_order import CacheOrder
from store_spec.windows.index import WindowIndex
from store_spec.windows.ranges import FEW_MORE, Ints, Ranges, join_ranges
from store_spec.windows.units import Costs, least_unit, pools_of, unit_size
from store_spec.windows.weighted import DRAWN_BYTES, draw_units, draw_windows, unit_masses

VERSION = 6  # raised by whatever changes the order of an epoch, so that no state goes on in another one
LANES = 48  # a multiple of the usual world sizes: 1, 2, 3, 4, 6, 8, 12, 16, 24, 48
LANE_STEP = 29  # from turn to turn: lanes that follow one another may share a unit, so a small batch should not
ORDERED_POOL_BYTES = 2**24  # not shuffled, a pool is gathered faster out of the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRuns:
    """Runs of windows, each of one sequence.

    Args:
        sequence: (pieces,), the position of the sequence in the index.
        number: (pieces,), the number of the first window.
        count: (pieces,), how many windows.
        row: (pieces,), the row of the store at which the first window starts.
        stop: (pieces,), the row after the last that a window or its label takes.
    """

    sequence: Ints
    number: Ints
    count: Ints
    row: Ints
    stop: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Ranges):
    """What one rank takes of one pool: the ranges of rows to read, and what else `Ranges` does not have.

    Args:
        pieces: Its windows, as units and lanes have them.
        lanes: (lanes,), the lanes in the order of their turns; a single one where windows are not shuffled.
        begin: (lanes,), where among these windows each lane's begin.
        size: (lanes,), how many each has.
        first: Which place of the lanes' turns is this rank's first.
        step: How many places further its next one is.
        drawn: (windows,), which window of the pieces each is, where they are drawn with replacement; None where each
            comes once.
    """

    pieces: WindowRuns
    lanes: Ints
    begin: Ints
    size: Ints
    first: int
    step: int
    drawn: Ints | None = None


class EpochOrder:
    """The order of one epoch: all windows of an index, each once.

    Args:
        index: The windows.
        starts: (sequences,), the row of the store at which each sequence begins.
        chunk: Rows that are decompressed together, at least 1.
        costs: What a pool takes.
        budget: How many bytes a pool may take. Where a unit takes more, it is a pool of its own.
        random: (seed, epoch) to shuffle; None to keep windows in the order of their numbers.
        weights: (sequences,), to draw as many windows as there are, with replacement, by the weight of the sequence
            that each is of; None to take each once. Only shuffled.
        join: Whether to read a few rows that no window takes as well, where there is room, so that ranges of rows
            join: worth it where rows are kept as they are stored.

    Attributes:
        first: (pools + 1,), how many windows come before each pool.
        most_rows: Of a pool, at most.
        largest: Bytes of a pool of nothing but the largest unit: what the memory must hold.
        beside: Bytes that all pools would take together beside their rows.
        decompressed: How many bytes are decompressed for each that is gathered.
    """

    def __init__(
        self,
        index: WindowIndex,
        starts: Ints,
        *,
        chunk: int,
        costs: Costs,
        budget: int,
        random: tuple[int, int] | None,
        weights: NDArray[np.float64] | None = None,
        join: bool = False,
    ) -> None:
        self._index, self._starts, self._random, self._chunk = index, starts, random, chunk
        counts = np.diff(index.stretches.first)
        stretches = np.flatnonzero(counts)
        sequences = index.stretches.sequences(stretches)
        if random is not None and (np.diff(starts[sequences]) < 0).any():
            by_start = np.argsort(starts[sequences], kind="stable")
            stretches, sequences = stretches[by_start], sequences[by_start]
        # In the order of their rows windows have other numbers, `before` counts them.
        self._stretches, self._sequences = stretches, sequences
        counts = counts[stretches]
        self._before = _before(counts)
        rows, until = self._rows_used(counts)
        skipped = starts[sequences] + index.stretches.begin[stretches] - rows  # of the store, before each
        if weights is not None:
            weights = weights[sequences]
            costs = replace(costs, window=costs.window + DRAWN_BYTES)  # at most as many are drawn as a unit has
        self._weights = weights
        budget = max(0, budget - costs.pool)
        total = int(until.max(initial=0))
        self._unit = unit_size(index, total, chunk, costs, budget, shuffled=random is not None)
        needed, between, cost, most = self._divided(rows, until, skipped, costs, budget)
        self.largest = costs.pool + most
        self.beside = costs.pool + len(index) * costs.window + (len(cost) + len(stretches)) * costs.piece
        again = len(cost) * (chunk + max(0, index.shape.span - index.shape.stride))
        self.decompressed = (total + again) * costs.stored / (max(1, len(index)) * costs.sample)
        self._visits = CacheOrder.plan(index.shape, costs.row, LANES)
        # With room for rows between those that are needed, so that few are copied: see `join_ranges`.
        taken = np.minimum(cost + between * costs.row, np.maximum(cost, budget)) if join else cost
        self._order = np.arange(len(cost))
        if random is not None and weights is not None:
            bounds = np.minimum(np.arange(len(cost) + 1) * self._unit, len(index))
            masses = unit_masses(bounds, self._before, weights)
            self._order, drawn = draw_units(masses, len(index), self._unit, _generator(random, 4))
            mixed = _generator(random, 0).permutation(len(self._order))
            self._order, self._drawn = self._order[mixed], drawn[mixed]
        elif random is not None:
            self._order = _generator(random, 0).permutation(len(cost))
        elif not (np.diff(starts[sequences]) < 0).any():
            budget = min(budget, max(most, ORDERED_POOL_BYTES))
        self._pools = pools_of(taken[self._order], budget)
        of_pools, each = (np.diff(_before(all_[self._order])[self._pools]) for all_ in (needed, cost))
        gaps = int(np.ptp(skipped)) if join and len(skipped) else 0  # rows beside those that are needed
        self._room = np.minimum((budget - each).clip(0) // max(1, costs.row), of_pools // FEW_MORE).clip(max=gaps)
        self.most_rows = int((of_pools + self._room).max(initial=0))
        windows = np.minimum(self._unit, len(index) - self._order * self._unit) if weights is None else self._drawn
        self.first = np.concatenate((np.zeros(1, np.int64), np.cumsum(windows)))[self._pools]

    def __len__(self) -> int:
        """Pools in the epoch."""
        return len(self._pools) - 1

    def share(self, number: int, rank: int = 0, world_size: int = 1) -> Share:
        """Return what a rank takes of pool `number`: the windows p of the epoch with p mod world_size = rank."""
        some = slice(self._pools[number], self._pools[number + 1])
        low = self._order[some] * self._unit
        count = np.minimum(self._unit, len(self._index) - low)
        windows = None
        if self._weights is not None and self._random is not None:
            # From here on runs are of what was drawn: each window as often as it was.
            generator, drawn = _generator(self._random, 5, number), self._drawn[some]
            windows = draw_windows((low, low + count), drawn, self._before, self._weights, generator)
            low, count = np.cumsum(drawn) - drawn, drawn
        total = int(count.sum())
        first = (rank - int(self.first[number])) % world_size
        turns = np.arange(1 if self._random is None else LANES)
        lanes = turns * LANE_STEP % len(turns)
        size = (total - turns + len(turns) - 1) // len(turns)
        of_lane = np.empty_like(size)
        of_lane[lanes] = size
        begin = (np.cumsum(of_lane) - of_lane)[lanes]
        step = world_size
        if len(turns) % world_size == 0 and world_size > 1:
            mine, first, step = turns[first::world_size], 0, 1
            lanes, size = lanes[mine], size[mine]
            low, count = _some(low, count, begin[mine], size)
            begin = np.cumsum(size) - size
        slots = None
        if windows is None:
            high = low + count
        else:
            at, low, high = low, windows[low], windows[low + count - 1] + 1
            before = np.cumsum(high - low) - (high - low)
            slots = windows[spread(at, count)] + np.repeat(before - low, count)
        pieces = self._pieces(low, high)
        start, stop = join_ranges(*merged(pieces.row, pieces.stop), int(self._room[number]), self._chunk)
        before = np.cumsum(stop - start) - (stop - start)
        return Share(
            pieces=pieces,
            start=start,
            stop=stop,
            before=before,
            lanes=lanes,
            begin=begin,
            size=size,
            first=first,
            step=step,
            drawn=slots,
        )

    def arrange(self, number: int, share: Share, windows: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
        """Return what belongs to the windows of a share in their order; given are they as pieces have them."""
        if share.drawn is not None:
            windows = windows[share.drawn]
        if self._random is None:
            return windows[share.first :: share.step]
        turns = np.empty_like(windows)
        for turn, (lane, low, high) in enumerate(
            zip(share.lanes.tolist(), share.begin.tolist(), (share.begin + share.size).tolist(), strict=True)
        ):
            mine = windows[low:high]
            # Seeded for each pool and lane, so that they can be had without those before.
            generator = _generator(self._random, 1, number, lane)
            if self._visits is None:
                generator.shuffle(mine)
            elif len(mine):
                mine = self._visits.arrange(mine, generator)
            turns[turn :: len(share.lanes)] = mine
        return turns[share.first :: share.step]

    def _rows_used(self, counts: Ints) -> tuple[Ints, Ints]:
        """(stretches with windows,): where the rows of each begin and end, if those that none takes are left out."""
        index, shape, sequences = self._index, self._index.shape, self._sequences
        begin = index.stretches.begin[self._stretches]
        if shape.short != "pad":
            used = counts - 1  # in place from here on, as there may be millions
            used *= shape.stride
            used += shape.span
        else:
            last = index.last_rows(sequences, begin + (counts - 1) * shape.stride)
            used = np.asarray(last + 1 + shape.label_span - begin, np.int64)
        if index.stretches.sequence is None:
            rows = _before(used)
            return rows[:-1], rows[1:]
        # Windows before a gap may still share rows with those behind it: those of the lead, or between their rows.
        ahead = np.where(sequences[1:] == sequences[:-1], np.minimum(np.diff(begin), used[:-1]), used[:-1])
        rows = _before(ahead)[: len(used)]
        return rows, rows + used

    def _divided(
        self, rows: Ints, until: Ints, skipped: Ints, costs: Costs, budget: int
    ) -> tuple[Ints, Ints, Ints, int]:
        """Halve units until each fits the budget; return what `_unit_costs` does, and what the largest needs then."""
        shape, least = self._index.shape, least_unit(len(self._index))
        # What no division helps is told without planning an epoch of single windows, of which there may be many.
        one = shape.span * costs.row + costs.window + costs.piece if len(self._index) and shape.short != "pad" else 0
        while True:
            needed, between, cost = self._unit_costs(rows, until, skipped, costs)
            most = int(cost.max(initial=0))
            if most <= budget or self._unit <= least or one > budget:
                return needed, between, cost, one if one > budget else most
            self._unit = max(least, self._unit // 2)

    def _unit_costs(self, rows: Ints, until: Ints, skipped: Ints, costs: Costs) -> tuple[Ints, Ints, Ints]:
        """(units,): the rows that each needs in a pool, how many between these may be there too, and its bytes."""
        total, shape = len(self._index), self._index.shape
        low = np.arange(0, total, self._unit)
        high = np.minimum(low + self._unit, total) - 1
        first, last = (np.searchsorted(self._before, at, side="right") - 1 for at in (low, high))
        from_row = rows[first] + (low - self._before[first]) * shape.stride
        to_row = np.minimum(rows[last] + (high - self._before[last]) * shape.stride + shape.span, until[last])
        needed = to_row - from_row
        each = needed * costs.row + (high + 1 - low) * costs.window + (last + 1 - first) * costs.piece
        between = (skipped[last] - skipped[first]).clip(0, needed // FEW_MORE)
        return np.asarray(needed, np.int64), np.asarray(between, np.int64), np.asarray(each, np.int64)

    def _pieces(self, low: Ints, high: Ints) -> WindowRuns:
        """Return the pieces of runs of windows, in the order of the runs."""
        index, stride = self._index, self._index.shape.stride
        first, last = (np.searchsorted(self._before, at, side="right") - 1 for at in (low, high - 1))
        which = spread(first, last + 1 - first)
        run = np.repeat(np.arange(len(low)), last + 1 - first)
        at = np.maximum(low[run], self._before[which])
        count = np.minimum(high[run], self._before[which + 1]) - at
        sequence, stretch = self._sequences[which], self._stretches[which]
        begin = index.stretches.begin[stretch] + (at - self._before[which]) * stride
        stop = index.last_rows(sequence, begin + (count - 1) * stride) + 1 + index.shape.label_span
        return WindowRuns(
            sequence=sequence,
            number=index.stretches.first[stretch] + at - self._before[which],
            count=count,
            row=self._starts[sequence] + begin,
            stop=self._starts[sequence] + stop,
        )


def _before(counts: Ints) -> Ints:
    """(counts + 1,): the sum of those before each, then that of all."""
    before = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=before[1:])
    return before


def _generator(random: tuple[int, int], *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(random, spawn_key=key))


def _some(low: Ints, count: Ints, start: Ints, size: Ints) -> tuple[Ints, Ints]:
    """Return stretches of runs laid one after another: `size[i]` of their places from `start[i]` on, for each i."""
    start, size = start[size > 0], size[size > 0]
    after = np.cumsum(count)
    first, last = (np.searchsorted(after, at, side="right") for at in (start, start + size - 1))
    run = spread(first, last + 1 - first)
    stretch = np.repeat(np.arange(len(start)), last + 1 - first)
    begin = after[run] - count[run]
    cut = np.maximum(start[stretch], begin)
    return low[run] + cut - begin, np.minimum((start + size)[stretch], after[run]) - cut
