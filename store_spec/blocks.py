"""Which rows an epoch reads together, and which windows it cuts from them: arithmetic, which reads nothing.

    chunks     |       0       |       1       |       2       |       3       |       the grid of the store
    cells      |               0               |               1               |       here of 2 chunks each
    sequences  |aaaaaaaaaaaaaaaaaaaaaaa|bbb|ccccccccccccccccc|dddd                     d and b are not selected
    pieces     |aaaaaaaaaaaaaaaaaaa|                                                   windows that start in cell 0
                                            |ccccc|cccccccccc|                         ... of cell 0, and of cell 1

A *piece* is a run of windows of one sequence that start in one cell; a *block* is the pieces of a cell, and the chunks
that hold their rows: those of the cell, and further ones where windows reach past its end. A *pool* is as many blocks
as fit into memory: rows are read a pool at a time, and windows are drawn at random from all of it. When shuffling, the
blocks of a pool come from all over the store.

The order is a pure function of the seed, the epoch, the windows, where sequences lie in the store, the size of its
chunks, and the memory; it does not depend on the size of a batch, nor on ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec.index import WindowIndex

Ints = NDArray[np.int64]

# A chunk that two blocks need is decompressed twice. A window costs about as much to gather as a 64th of the
# decompression of its rows, so where windows overlap much, that does not matter, and small blocks mix better.
DECODING = 64
LEAST_BLOCKS = 16  # in a pool, where memory allows
ORDERED_POOL_BYTES = 2**24  # in store order a pool holds no chunk for long, and is gathered faster out of the cache
ORDERED_CELL = 4  # times the chunks that are needed past it, which the next pool decompresses again


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a pool takes in memory, in bytes.

    Args:
        row: Each row.
        window: Each window.
        piece: Each piece.
        pool: Whatever it holds.
    """

    row: int
    window: int
    piece: int = 0
    pool: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
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

    def take(self, which: Ints) -> Pieces:
        """Return some of them, in that order."""
        return Pieces(
            sequence=self.sequence[which],
            number=self.number[which],
            count=self.count[which],
            row=self.row[which],
            stop=self.stop[which],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlan:
    """What one pool reads and cuts.

    Args:
        pieces: Its windows, in order where they are not shuffled.
        start: (ranges,), the first row of each range of rows to read: ascending, apart from each other.
        stop: (ranges,), the row after its last; both are multiples of a chunk.
    """

    pieces: Pieces
    start: Ints
    stop: Ints

    def __len__(self) -> int:
        """Windows in the pool."""
        return int(self.pieces.count.sum())

    @property
    def rows(self) -> int:
        """Rows in the pool."""
        return int((self.stop - self.start).sum())

    def places(self) -> Ints:
        """(pieces,): where in the pool, its ranges one after another, each piece's first row lies."""
        each = np.searchsorted(self.start, self.pieces.row, side="right") - 1
        before = np.cumsum(self.stop - self.start) - (self.stop - self.start)
        return np.asarray(self.pieces.row - self.start[each] + before[each], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """The pools of one epoch. Make one with `plan`.

    Args:
        pieces: All pieces.
        bounds: (blocks + 1,), where the pieces of each block begin.
        order: (blocks,), the order in which blocks are visited.
        pools: (pools + 1,), where in `order` each pool begins.
        first: (pools + 1,), how many windows come before each pool.
        chunk: Rows in a chunk.
        random: The seeds of the order of windows within pools; None to keep them in order.
        largest: Bytes of a pool of nothing but the largest block: what the memory must hold.
    """

    pieces: Pieces
    bounds: Ints
    order: Ints
    pools: Ints
    first: Ints
    chunk: int
    random: tuple[int, int] | None
    largest: int

    def __len__(self) -> int:
        """Pools in the epoch."""
        return len(self.pools) - 1

    def pool(self, number: int) -> PoolPlan:
        """Return what pool `number` reads and cuts."""
        blocks = self.order[self.pools[number] : self.pools[number + 1]]
        pieces = self.pieces.take(_ranges(self.bounds[blocks], self.bounds[blocks + 1] - self.bounds[blocks]))
        start, stop = _merged(pieces.row // self.chunk, -(-pieces.stop // self.chunk))
        return PoolPlan(pieces=pieces, start=start * self.chunk, stop=stop * self.chunk)

    def shuffle(self, number: int, windows: NDArray[np.signedinteger]) -> None:
        """Put the windows of pool `number` into their order, in place."""
        if self.random is not None:
            # Seeded for each pool, so that a later one can be had without those before.
            np.random.default_rng(np.random.SeedSequence(self.random, spawn_key=(1, number))).shuffle(windows)


def plan(
    index: WindowIndex,
    starts: Ints,
    *,
    chunk: int,
    costs: Costs,
    budget: int,
    random: tuple[int, int] | None,
) -> EpochPlan:
    """Plan an epoch: all windows of an index, each once.

    Args:
        index: The windows.
        starts: (sequences,), the row of the store at which each sequence begins.
        chunk: Rows that are read together, at least 1.
        costs: What a pool takes.
        budget: How many bytes a pool may take. Where a block takes more, it is a pool of its own.
        random: (seed, epoch) to shuffle; None to keep windows in the order of their numbers.
    """
    cell = _cell_chunks(index, chunk, costs, budget, ordered=random is None)
    while True:
        pieces, bounds = _blocks(index, starts, cell=cell * chunk, ordered=random is None)
        cost = _block_costs(pieces, bounds, chunk, costs)
        largest = costs.pool + int(cost.max(initial=0))
        if cell == 1 or largest <= budget:
            break
        cell //= 2
    order = np.arange(len(cost))
    if random is None and not (np.diff(pieces.row) < 0).any():
        budget = min(budget, max(largest, ORDERED_POOL_BYTES))
    if random is not None:
        order = np.random.default_rng(np.random.SeedSequence(random, spawn_key=(0,))).permutation(len(cost))
    pools = _fill(cost[order], max(0, budget - costs.pool))
    counts = np.add.reduceat(pieces.count, bounds[:-1])[order] if len(cost) else np.zeros(0, np.int64)
    first = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))[pools]
    return EpochPlan(
        pieces=pieces, bounds=bounds, order=order, pools=pools, first=first, chunk=chunk, random=random, largest=largest
    )


def _cell_chunks(index: WindowIndex, chunk: int, costs: Costs, budget: int, *, ordered: bool) -> int:
    """Choose how many chunks a cell has, before it is known whether its block fits the budget."""
    if index.shape.stride - index.shape.span >= chunk:
        return 1  # whole chunks may lie between windows: blocks of one window read none of them
    past = -(-(index.shape.span - 1) // chunk)  # how many chunks a block may need past its cell
    most = max(1, (budget - costs.pool) // (chunk * costs.row))
    if ordered:
        return min(most, max(1, ORDERED_CELL * past))
    wanted = -(-DECODING * past * index.shape.stride // index.shape.window)
    return min(max(1, most // LEAST_BLOCKS), max(1, wanted))


def _blocks(index: WindowIndex, starts: Ints, *, cell: int, ordered: bool) -> tuple[Pieces, Ints]:
    """Return all pieces, block by block, and where each block's begin."""
    counts = np.diff(index.first)
    sequences = np.flatnonzero(counts)
    if not ordered:
        sequences = sequences[np.argsort(starts[sequences], kind="stable")]
    stride = index.shape.stride
    row = starts[sequences] + index.begin[sequences]
    low, high = row // cell, (row + (counts[sequences] - 1) * stride) // cell
    cells = _ranges(low, high - low + 1)
    sequences = np.repeat(sequences, high - low + 1)
    if not ordered:  # of a sequence that is selected twice the same cells come again
        by_cell = np.argsort(cells, kind="stable")
        cells, sequences = cells[by_cell], sequences[by_cell]
    in_sequence = cells * cell - starts[sequences]
    number, after = index.windows_in(sequences, in_sequence, in_sequence + cell)
    some = after > number  # with a stride larger than a cell no window may start in it
    cells, sequences, number, count = cells[some], sequences[some], number[some], (after - number)[some]
    begin = index.begin[sequences] + (number - index.first[sequences]) * stride
    row = starts[sequences] + begin
    stop = starts[sequences] + index.last_rows(sequences, begin + (count - 1) * stride) + 1 + index.shape.label_span
    pieces = Pieces(sequence=sequences, number=number, count=count, row=row, stop=stop)
    new = (np.diff(cells) != 0) | (np.diff(row) < 0)  # in order, a sequence may lie before the one that it follows
    edges = [np.zeros(1, np.int64), np.flatnonzero(new) + 1, np.full(min(1, len(cells)), len(cells))]
    bounds = np.concatenate(edges)
    return pieces, bounds


def _block_costs(pieces: Pieces, bounds: Ints, chunk: int, costs: Costs) -> Ints:
    """(blocks,): the bytes that each takes in a pool."""
    if len(bounds) == 1:
        return np.zeros(0, np.int64)
    low, high = pieces.row // chunk, -(-pieces.stop // chunk)
    # Within a block both ascend, so only the piece before may need the same chunks.
    reached = np.concatenate((low[:1], high[:-1]))
    reached[bounds[:-1]] = low[bounds[:-1]]
    chunks = np.maximum(0, high - np.maximum(low, reached))
    each = chunks * (chunk * costs.row) + pieces.count * costs.window + costs.piece
    return np.asarray(np.add.reduceat(each, bounds[:-1]), np.int64)


def _fill(cost: Ints, budget: int) -> Ints:
    """Return where each pool begins in blocks of these costs: pools of like size, none above the budget if possible."""
    total = np.cumsum(cost)
    bounds = _cut(total, budget)
    if len(bounds) > 2:
        bounds = _cut(total, min(budget, -(-int(total[-1]) // (len(bounds) - 1)) + int(cost.max())))
    return bounds


def _cut(total: Ints, budget: int) -> Ints:
    bounds = [0]
    while bounds[-1] < len(total):
        before = int(total[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(total, before + budget, side="right"))))
    return np.array(bounds, np.int64)


def _ranges(starts: Ints, counts: Ints) -> Ints:
    """Return `starts[0]`, `starts[0] + 1`, ... (`counts[0]` of them), then the same for `starts[1]`, and so on."""
    before = np.cumsum(counts) - counts
    return np.asarray(np.repeat(starts - before, counts) + np.arange(int(counts.sum())), np.int64)


def _merged(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return the ranges that these cover together, ascending and apart."""
    by_low = np.argsort(low, kind="stable")
    low, reached = low[by_low], np.maximum.accumulate(high[by_low])
    apart = np.flatnonzero(low[1:] > reached[:-1]) + 1
    return low[np.concatenate(([0], apart))], reached[np.concatenate((apart - 1, [len(low) - 1]))]
