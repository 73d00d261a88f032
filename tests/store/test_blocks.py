"""The plan of an epoch, by arithmetic alone, against listing every window."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from store_spec import blocks
from store_spec.blocks import Costs, EpochPlan
from store_spec.index import WindowIndex, WindowShape
from tests.store.window_oracle import LENGTHS, shapes

COSTS = Costs(row=10, window=4, piece=3, pool=7)
ENDS = np.cumsum(LENGTHS)


def planned(
    selection: list[int], shape: WindowShape, chunk: int, budget: int, random: tuple[int, int] | None
) -> tuple[WindowIndex, NDArray[np.int64], EpochPlan]:
    index = WindowIndex.from_lengths(np.array(LENGTHS, np.int64)[selection], shape)
    starts = (ENDS - LENGTHS)[selection].astype(np.int64)
    return index, starts, blocks.plan(index, starts, chunk=chunk, costs=COSTS, budget=budget, random=random)


def plans() -> st.SearchStrategy[tuple[list[int], WindowShape, int, int, tuple[int, int] | None]]:
    return st.tuples(
        st.lists(st.integers(0, len(LENGTHS) - 1), max_size=10) | st.just(list(range(len(LENGTHS)))),
        shapes(),
        st.sampled_from([1, 3, 8, 64]),
        st.integers(8, 10_000),
        st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)),
    )


@settings(max_examples=150, deadline=None)
@given(plans())
def test_pools_hold_each_window_once_and_all_rows_that_it_needs(arguments):
    """With every row and label row of each window in one range of rows, all in one sequence."""
    index, starts, plan = planned(*arguments)
    numbers: list[int] = []
    for which in range(len(plan)):
        pool = plan.pool(which)
        ranges = [np.arange(a, b) for a, b in zip(pool.start.tolist(), pool.stop.tolist(), strict=True)]
        rows = np.concatenate(ranges)
        assert len(np.unique(rows)) == len(rows) == pool.rows
        places = pool.places()
        assert np.array_equal(rows[places], pool.pieces.row)
        before = len(numbers)
        for piece in range(len(places)):
            for turn in range(int(pool.pieces.count[piece])):
                number = int(pool.pieces.number[piece]) + turn
                sequence, start = index.locate(number)
                assert sequence == pool.pieces.sequence[piece]
                row = starts[sequence] + start
                place = int(places[piece]) + turn * index.shape.stride
                real = int(index.real_rows(sequence, start))
                needed = (real - 1) * index.shape.sampling_rate + 1 + index.shape.label_span
                assert np.array_equal(rows[place : place + needed], np.arange(row, row + needed))
                numbers.append(number)
        assert plan.first[which] == before
        assert len(pool) == len(numbers) - before
    assert plan.first[-1] == len(numbers)
    in_order = sorted(numbers) if plan.random else numbers
    assert in_order == list(range(len(index)))


@settings(max_examples=150, deadline=None)
@given(plans())
def test_a_pool_keeps_to_its_budget_or_is_one_block(arguments):
    budget = arguments[3]
    _, _, plan = planned(*arguments)
    for which in range(len(plan)):
        pool = plan.pool(which)
        taken = COSTS.pool + pool.rows * COSTS.row + len(pool) * COSTS.window + len(pool.pieces.row) * COSTS.piece
        assert taken <= max(budget, plan.largest)
        if taken > budget:
            assert plan.pools[which + 1] - plan.pools[which] == 1


@settings(max_examples=100, deadline=None)
@given(plans())
def test_only_chunks_that_hold_rows_of_windows_are_read(arguments):
    chunk = arguments[2]
    index, starts, plan = planned(*arguments)
    needed: set[int] = set()
    for number in range(len(index)):
        sequence, start = index.locate(number)
        real = int(index.real_rows(sequence, start))
        row = int(starts[sequence]) + start
        last = row + (real - 1) * index.shape.sampling_rate + index.shape.label_span
        needed.update(range(row // chunk, last // chunk + 1))
    read = {
        int(number)
        for which in range(len(plan))
        for a, b in zip(plan.pool(which).start, plan.pool(which).stop, strict=True)
        for number in range(a // chunk, b // chunk)
    }
    assert read == needed


@settings(max_examples=150, deadline=None)
@example(([5, 3], WindowShape(window=3, stride=3, target="last"), 1, 10_000, None))  # backwards within one cell
@given(plans())
def test_the_cost_of_a_block_is_that_of_its_chunks_windows_and_pieces(
    arguments: tuple[list[int], WindowShape, int, int, Any],
):
    chunk = arguments[2]
    _, _, plan = planned(*arguments)
    costs = blocks._block_costs(plan.pieces, plan.bounds, chunk, COSTS)
    for low, high, cost in zip(plan.bounds[:-1], plan.bounds[1:], costs, strict=True):
        pieces = plan.pieces.take(np.arange(low, high))
        rows = zip(pieces.row.tolist(), pieces.stop.tolist(), strict=True)
        chunks = {number for row, stop in rows for number in range(row // chunk, -(-stop // chunk))}
        windows = int(pieces.count.sum())
        assert cost == len(chunks) * chunk * COSTS.row + windows * COSTS.window + (high - low) * COSTS.piece


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=9))
def test_merged_ranges_cover_the_same_ascending_and_apart(ranges: list[tuple[int, int]]):
    low, high = blocks._merged(np.array([low for low, _ in ranges]), np.array([low + count for low, count in ranges]))
    covered = [number for a, b in zip(low, high, strict=True) for number in range(a, b)]
    assert covered == sorted({number for low, count in ranges for number in range(low, low + count)})
    assert (low[1:] > high[:-1]).all()


def test_a_sequence_that_is_selected_twice_is_read_once():
    """Its windows come twice, out of the same blocks."""
    once, twice = (planned(selection, WindowShape(window=5), 8, 10**6, (0, 0))[2] for selection in ([6], [6, 6]))
    assert twice.first[-1] == 2 * once.first[-1]
    assert len(twice.order) == len(once.order) == 2


def test_the_order_of_a_selection_does_not_change_shuffled_blocks():
    """Tiny sequences that lie in one chunk are one block, in whatever order they are selected."""
    shape = WindowShape(window=2)
    plans = [planned(selection, shape, 64, 10**6, (0, 0))[2] for selection in ([2, 3, 5], [5, 2, 3])]
    assert [len(plan.order) for plan in plans] == [1, 1]


def test_blocks_are_halved_until_the_largest_fits_the_budget():
    """13 chunks a block, as few overlap, take 13,140 bytes; six take 6,070."""
    index = WindowIndex.from_lengths([10_000], WindowShape(window=5))
    costs = Costs(row=1, window=100)
    plan = blocks.plan(index, np.zeros(1, np.int64), chunk=10, costs=costs, budget=7000, random=(0, 0))
    assert plan.largest == 6070
    assert len(plan.order) == 167


def test_pools_are_small_in_the_order_of_the_store_and_large_where_a_selection_leaps():
    """There the same chunk is needed again and again, so as many windows as fit are served by one reading of it."""
    index = WindowIndex.from_lengths([10**6] * 2, WindowShape(window=5))
    costs = Costs(row=64, window=0)
    for starts, small in (([0, 10**6], True), ([10**6, 0], False)):
        plan = blocks.plan(index, np.array(starts), chunk=10**4, costs=costs, budget=10**9, random=None)
        assert (len(plan) > 1) == small


def test_blocks_of_a_pool_come_from_all_over_the_store():
    """Three pools of a sequence of 1,000 chunks: each spans most of it."""
    index = WindowIndex.from_lengths([10_000], WindowShape(window=5))
    plan = blocks.plan(index, np.zeros(1, np.int64), chunk=10, costs=Costs(row=1, window=0), budget=4000, random=(0, 0))
    assert len(plan) == 3
    for which in range(3):
        rows = plan.pool(which).pieces.row
        assert rows.max() - rows.min() > 9000
        assert abs(len(plan.pool(which)) - 9995 / 3) < 150  # of like size


def test_windows_that_overlap_little_are_read_in_larger_blocks():
    """Where the chunk that two blocks need would double what is decompressed; many blocks stay in a pool."""

    def number_of_blocks(stride: int) -> int:
        index = WindowIndex.from_lengths([10**6], WindowShape(window=64, stride=stride))
        costs = Costs(row=1, window=1)
        plan = blocks.plan(index, np.zeros(1, np.int64), chunk=1000, costs=costs, budget=10**5, random=(0, 0))
        return len(plan.order)

    assert number_of_blocks(1) == 1000
    assert number_of_blocks(64) == 167  # 6 chunks each, so that 16 fit into a pool


def test_a_plan_of_a_million_tiny_sequences_is_small_arithmetic():
    """No list of windows: three integers or so a sequence."""
    lengths = np.full(10**6, 20)
    index = WindowIndex.from_lengths(lengths, WindowShape(window=5))
    starts = np.cumsum(lengths) - lengths
    plan = blocks.plan(index, starts, chunk=10_000, costs=Costs(row=8, window=8), budget=10**7, random=(0, 0))
    assert plan.first[-1] == len(index) == 15 * 10**6
    assert len(plan.pieces.row) == 10**6  # a chunk holds 500 of them whole
