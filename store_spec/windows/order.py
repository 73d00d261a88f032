"""The order of the windows of an epoch, and the rows to read for them. This is arithmetic; no rows are read.

    windows    0  1  2  3  4  5  6  7  8  9 10 11 12 13       numbered sequence by sequence
    units      |     0     |     1     |     2     |  3  |     4 windows each
    order      2, 0, 3, 1                                      shuffled: units in a random order
    pools      |  2, 0   |  3, 1  |                            as many units as fit into memory
    lanes      |8 9|10 11|0 1|2 3|  |12 13|4|5 6|7|            equal shares of a pool's windows, here 4 of them
    epoch      9 10 1 3  8 11 0 2   13 5 6 12 ...              lanes take turns, each in its own random order

A *unit* is a run of windows whose rows are close together. If windows overlap much, a unit is smaller than a chunk: the
chunk is decompressed once for each of its units, which costs little compared with gathering their windows, and spreads
neighbouring windows over the epoch. If windows overlap little, a unit is many chunks, so that few are read twice.

The rows of a pool are in memory together, and its windows are shuffled; overlapping windows are taken from some
thousand places at a time, whose rows fit into the processor's cache (`CacheOrder`). Through *lanes* a rank needs to
read only its own windows: window p of the epoch belongs to rank p mod world_size, and these are in separate lanes.

With weights, units occur as often as their windows are drawn: see `units`. Everything else is the same.

The order is a pure function of the seed, the epoch, the windows, their weights, the places of sequences in the store,
the size of its chunks, and the memory. It depends neither on the size of a batch nor on ranks.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import Ints, bounds_of, merged, split_at, spread
from store_spec.windows.index import WindowIndex
from store_spec.windows.rows_in_memory import FEW_MORE, Ranges, join_ranges
from store_spec.windows.shape import WindowShape
from store_spec.windows.units import (
    DRAWN_BYTES,
    Costs,
    draw_units,
    draw_windows,
    least_unit,
    pools_of,
    unit_masses,
    unit_size,
)

VERSION = 7  # increased by each change of the order of an epoch, so that no state is resumed in another order
LANES = 48  # a multiple of the usual world sizes: 1, 2, 3, 4, 6, 8, 12, 16, 24, 48
LANE_STEP = 29  # from turn to turn: adjacent lanes may share a unit, and should not meet in a small batch
ORDERED_POOL_BYTES = 2**24  # without shuffling, a pool that fits into the processor's cache is gathered faster

# The bytes of rows of a group of all lanes, and the least number of visits in a group of one lane, so that batches mix
# well. The first choice is half of a processor's cache, because rows that are read and gathered pass through it too.
GROUPS = ((2**23, 30), (2**24, 40))
VISIT_WINDOWS = 16  # enough to gather a row several times while it is cached; not more, as these windows are alike
LEAST_GAIN = 2  # how often a visit has to gather each row to be worth it


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRuns:
    """Runs of windows, each in one sequence."""

    sequence: Ints  # (runs,), the position of the sequence in the index
    number: Ints  # (runs,), the number of the first window
    count: Ints  # (runs,), how many windows the run has
    row: Ints  # (runs,), the row of the store at which the first window starts
    stop: Ints  # (runs,), the row after the last one that a window or its label needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Ranges):
    """The share of one rank of one pool: the ranges of rows to read, and the windows in them."""

    pieces: WindowRuns  # its windows, in the order of units and lanes
    lanes: Ints  # (lanes,), the lanes in the order of their turns; a single lane if windows are not shuffled
    lane_start: Ints  # (lanes,), the position of each lane's first window among these windows
    size: Ints  # (lanes,), how many windows each lane has
    first: int  # the first turn of this rank
    step: int  # how many turns later its next one is
    # (windows,), the window of the pieces for each draw with replacement; None if each window occurs once.
    draws: Ints | None = None


@dataclass(frozen=True, slots=True)
class CacheOrder:
    """How a lane is divided into runs, visits and groups, so that the rows of consecutive windows fit into the cache.

        windows    0  1  2  3  4  5  6  7  8  9 10 11        of a lane
        runs       |      0       |       1        |         neighbours, which share most of their rows
        visits     0  2  4 | 1  3  5 | 6  8 10 | 7  9 11     every second window of a run
        groups     1 3 5, 6 8 10  |  0 2 4, 7 9 11           visits from all over the lane, each from another run
        order      8 3 10 1 6 5      7 2 11 0 9 4            shuffled within a group

    From the cache, overlapping windows are gathered two to four times as fast as from all over a pool.
    """

    run: int  # windows in a run
    phases: int  # how many visits a run has: visit i takes its windows i, i + phases, ...
    together: int  # visits in a group

    @classmethod
    def plan(cls, shape: WindowShape, row: int, lanes: int) -> Self | None:
        """Choose by the bytes of a row in memory; None if the cache would not help, or has too few rows."""
        choice: Self | None = None
        for cached, least in GROUPS:
            choice = cls._within(cached // (lanes * max(1, row)), least, shape) or choice
            if choice is not None and choice.phases > 1:  # neighbours are in groups far from each other
                break
        return choice

    @classmethod
    def _within(cls, cached: int, least: int, shape: WindowShape) -> Self | None:
        """Choose by the number of rows of one lane that are to be in the cache."""
        most = min(2 * shape.span, cached // least)  # rows of a run
        run = (most - shape.span) // shape.stride + 1
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


class EpochOrder:
    """The order of one epoch: all windows of an index, each once.

    Args:
        index: The windows.
        starts: (sequences,), the row of the store at which each sequence starts.
        chunk: Rows that are decompressed together, at least 1.
        costs: The costs of a pool.
        budget: How many bytes a pool may take. A unit that takes more is a pool by itself.
        random: (seed, epoch) to shuffle; None to keep windows in the order of their numbers.
        weights: (sequences,), to draw as many windows as there are with replacement, by the weight of their sequence;
            None to use each window once. Only with `random`.
        join: Whether to also read a few rows that no window needs, if there is room, to join ranges of rows. This pays
            if rows are in memory as they are stored.

    Attributes:
        first: (pools + 1,), how many windows come before each pool.
        most_rows: The largest number of rows of a pool.
        largest: Bytes of a pool with only the largest unit, which must fit into memory.
        beside: Bytes that all pools would take together, apart from their rows.
        decompressed: Bytes that are decompressed for each byte that is gathered.
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
        # From here on, windows are numbered in the order of their rows: `_before` is (stretches + 1,).
        self._stretches, self._sequences = stretches, sequences
        counts = counts[stretches]
        self._before = bounds_of(counts)
        rows, until = self._row_bounds(counts)
        skipped = starts[sequences] + index.stretches.start[stretches] - rows  # unused rows before each stretch
        if weights is not None:
            weights = weights[sequences]
            costs = replace(costs, window=costs.window + DRAWN_BYTES)  # a take has at most as many windows as a unit
        self._weights = weights
        budget = max(0, budget - costs.pool)
        total = int(until.max(initial=0))
        self._unit = unit_size(index, total, chunk, costs, budget, shuffled=random is not None)
        unit_rows, between, cost, most = self._divide(rows, until, skipped, costs, budget)
        self.largest = costs.pool + most
        self.beside = costs.pool + len(index) * costs.window + (len(cost) + len(stretches)) * costs.piece
        reread = len(cost) * (chunk + max(0, index.shape.span - index.shape.stride))
        self.decompressed = (total + reread) * costs.stored / (max(1, len(index)) * costs.sample)
        self._cache_order = CacheOrder.plan(index.shape, costs.row, LANES)
        # With room for unneeded rows between the others, so that few rows are copied: see `join_ranges`.
        with_room = np.minimum(cost + between * costs.row, np.maximum(cost, budget)) if join else cost
        self._order = np.arange(len(cost))
        if random is not None and weights is not None:
            bounds = np.minimum(np.arange(len(cost) + 1) * self._unit, len(index))
            masses = unit_masses(bounds, self._before, weights)
            self._order, draws = draw_units(masses, len(index), self._unit, _generator(random, 4))
            mixed = _generator(random, 0).permutation(len(self._order))
            self._order, self._draws = self._order[mixed], draws[mixed]
        elif random is not None:
            self._order = _generator(random, 0).permutation(len(cost))
        elif not (np.diff(starts[sequences]) < 0).any():
            budget = min(budget, max(most, ORDERED_POOL_BYTES))
        self._pools = pools_of(with_room[self._order], budget)
        pool_rows, pool_cost = (np.diff(bounds_of(each[self._order])[self._pools]) for each in (unit_rows, cost))
        room = np.minimum((budget - pool_cost).clip(0) // max(1, costs.row), pool_rows // FEW_MORE)
        self._room = room.clip(max=int(np.ptp(skipped)) if join and len(skipped) else 0)  # (pools,), of unused rows
        self.most_rows = int((pool_rows + self._room).max(initial=0))
        windows = np.minimum(self._unit, len(index) - self._order * self._unit) if weights is None else self._draws
        self.first = bounds_of(windows)[self._pools]

    def __len__(self) -> int:
        """Return the number of pools."""
        return len(self._pools) - 1

    def share(self, number: int, rank: int = 0, world_size: int = 1) -> Share:
        """Return the share of a rank of pool `number`: the windows p of the epoch with p mod world_size = rank."""
        some = slice(self._pools[number], self._pools[number + 1])
        low = self._order[some] * self._unit
        count = np.minimum(self._unit, len(self._index) - low)
        windows = None
        if self._weights is not None and self._random is not None:
            # From here on, runs are of positions in `windows`, which has each window as often as it was drawn.
            generator, draws = _generator(self._random, 5, number), self._draws[some]
            windows = draw_windows((low, low + count), draws, self._before, self._weights, generator)
            low, count = np.cumsum(draws) - draws, draws
        lanes, lane_start, size = _lanes_by_turn(int(count.sum()), 1 if self._random is None else LANES)
        first, step = (rank - int(self.first[number])) % world_size, world_size
        if len(lanes) % world_size == 0 and world_size > 1:  # each lane belongs to one rank
            mine, first, step = slice(first, None, world_size), 0, 1
            lanes, size = lanes[mine], size[mine]
            low, count = _parts_of_runs(low, count, lane_start[mine], size)
            lane_start = np.cumsum(size) - size
        slots = None
        if windows is None:
            high = low + count
        else:
            at, low, high = low, windows[low], windows[low + count - 1] + 1
            before = np.cumsum(high - low) - (high - low)
            slots = windows[spread(at, count)] + np.repeat(before - low, count)
        pieces = self._pieces(low, high)
        start, stop = join_ranges(*merged(pieces.row, pieces.stop), int(self._room[number]), self._chunk)
        return Share(
            pieces=pieces,
            start=start,
            stop=stop,
            lanes=lanes,
            lane_start=lane_start,
            size=size,
            first=first,
            step=step,
            draws=slots,
        )

    def arrange(self, number: int, share: Share, windows: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
        """Put values, one for each window of the pieces, into the order of the epoch; they may be overwritten."""
        if share.draws is not None:
            windows = windows[share.draws]
        if self._random is None:
            return windows[share.first :: share.step]
        turns = np.empty_like(windows)
        lanes = zip(share.lanes.tolist(), share.lane_start.tolist(), share.size.tolist(), strict=True)
        for turn, (lane, start, size) in enumerate(lanes):
            mine = windows[start : start + size]
            # Seeded for each pool and lane, so that a lane can be shuffled without the others.
            generator = _generator(self._random, 1, number, lane)
            if self._cache_order is None:
                generator.shuffle(mine)
            elif len(mine):
                mine = self._cache_order.arrange(mine, generator)
            turns[turn :: len(share.lanes)] = mine
        return turns[share.first :: share.step]

    def _row_bounds(self, counts: Ints) -> tuple[Ints, Ints]:
        """Return the first row of each stretch with windows, and the row after its last, counting only used rows."""
        index, shape, sequences = self._index, self._index.shape, self._sequences
        start = index.stretches.start[self._stretches]
        row_counts = index.stops(sequences, start + (counts - 1) * shape.stride) - start
        # Windows before a gap may share rows with those after it: rows of the lead, or between their rows.
        ahead = np.where(sequences[1:] == sequences[:-1], np.minimum(np.diff(start), row_counts[:-1]), row_counts[:-1])
        rows = bounds_of(ahead)[: len(row_counts)]
        return rows, rows + row_counts

    def _divide(
        self, rows: Ints, until: Ints, skipped: Ints, costs: Costs, budget: int
    ) -> tuple[Ints, Ints, Ints, int]:
        """Halve units until each fits the budget; return the result of `_unit_costs`, and the bytes of the largest."""
        shape, least = self._index.shape, least_unit(len(self._index))
        # If a single window does not fit, return at once instead of planning an epoch of single windows.
        one = shape.span * costs.row + costs.window + costs.piece if len(self._index) and not shape.span_beyond else 0
        while True:
            unit_rows, between, cost = self._unit_costs(rows, until, skipped, costs)
            most = int(cost.max(initial=0))
            if most <= budget or self._unit <= least or one > budget:
                return unit_rows, between, cost, one if one > budget else most
            self._unit = max(least, self._unit // 2)

    def _unit_costs(self, rows: Ints, until: Ints, skipped: Ints, costs: Costs) -> tuple[Ints, Ints, Ints]:
        """Return, for each unit, the rows it needs in a pool, how many unneeded ones may be included, and its bytes."""
        total, shape = len(self._index), self._index.shape
        low = np.arange(0, total, self._unit)
        high = np.minimum(low + self._unit, total) - 1
        first, last = (np.searchsorted(self._before, at, side="right") - 1 for at in (low, high))
        from_row = rows[first] + (low - self._before[first]) * shape.stride
        to_row = np.minimum(rows[last] + (high - self._before[last]) * shape.stride + shape.span, until[last])
        unit_rows = to_row - from_row
        each = unit_rows * costs.row + (high + 1 - low) * costs.window + (last + 1 - first) * costs.piece
        between = (skipped[last] - skipped[first]).clip(0, unit_rows // FEW_MORE)
        return np.asarray(unit_rows, np.int64), np.asarray(between, np.int64), np.asarray(each, np.int64)

    def _pieces(self, low: Ints, high: Ints) -> WindowRuns:
        """Divide ranges of windows into runs that are each in one sequence."""
        index, stride = self._index, self._index.shape.stride
        _, which, at, after = split_at(self._before, low, high)
        sequence, stretch = self._sequences[which], self._stretches[which]
        count, past = after - at, at - self._before[which]
        start = index.stretches.start[stretch] + past * stride
        stop = index.stops(sequence, start + (count - 1) * stride)
        return WindowRuns(
            sequence=sequence,
            number=index.stretches.first[stretch] + past,
            count=count,
            row=self._starts[sequence] + start,
            stop=self._starts[sequence] + stop,
        )


def _generator(random: tuple[int, int], *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(random, spawn_key=key))


def _lanes_by_turn(windows: int, lanes: int) -> tuple[Ints, Ints, Ints]:
    """Divide a pool into lanes; return for each turn, (lanes,): its lane, and the first window and the size of that."""
    turns = np.arange(lanes)
    lane = turns * LANE_STEP % lanes
    size = (windows - turns + lanes - 1) // lanes
    size_by_lane = np.empty_like(size)
    size_by_lane[lane] = size
    return lane, (np.cumsum(size_by_lane) - size_by_lane)[lane], size


def _parts_of_runs(low: Ints, count: Ints, start: Ints, size: Ints) -> tuple[Ints, Ints]:
    """Join runs of windows, and return the windows `start[i]` to `start[i] + size[i]` of the result, as runs."""
    some, before = size > 0, bounds_of(count)
    _, run, at, after = split_at(before, start[some], (start + size)[some])
    return low[run] + at - before[run], after - at
