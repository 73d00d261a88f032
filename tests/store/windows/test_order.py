"""The order of an epoch and within a lane, as arithmetic, compared with a list of all windows."""

import os
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from store_spec.format.runs import spread
from store_spec.windows import loading
from store_spec.windows.order import GROUPS, LANES, VERSION, CacheOrder, EpochOrder
from store_spec.windows.shape import WindowShape
from store_spec.windows.units import DRAWN_BYTES, MOST_UNITS, Costs, unit_size
from tests.store.window_oracle import (
    COSTS,
    LENGTHS,
    epoch,
    index_of_lengths,
    numbers_of,
    order_of,
    shapes,
    steps_needed,
)

Arguments = tuple[list[int], WindowShape, int, int, tuple[int, int] | None]


def planned(
    selection: list[int],
    shape: WindowShape,
    chunk: int,
    budget: int,
    random: tuple[int, int] | None,
    weights: NDArray[np.float64] | None = None,
) -> EpochOrder:
    return order_of(shape, budget, random, selection=selection, chunk=chunk, join=weights is None, weights=weights)


def plans() -> st.SearchStrategy[Arguments]:
    return st.tuples(
        st.lists(st.integers(0, len(LENGTHS) - 1), max_size=10) | st.just(list(range(len(LENGTHS)))),
        shapes(),
        st.sampled_from([1, 3, 8, 64]),
        st.integers(8, 10_000),
        st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)),
    )


some_weights = st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.5, 1e-12, 1e9]), min_size=len(LENGTHS), max_size=len(LENGTHS))


@settings(max_examples=20)
@given(plans(), st.none() | some_weights.map(np.array), st.integers(1, 60))
@example((list(range(len(LENGTHS))), WindowShape(window=3), 8, 5000, (3, 1)), np.ones(len(LENGTHS)), 3)
def test_an_epoch_has_each_window_once_or_draws_as_many_by_weight(arguments: Arguments, weights, world_size):
    """In the order of their numbers if it is not shuffled. Window p of the epoch belongs to rank p mod world_size.

    A pool fits its budget or is one unit.
    """
    selection, _, _, budget, random = arguments
    weights = None if weights is None or random is None else weights[selection]
    order = planned(*arguments, weights)
    index, alone = order._index, epoch(order)
    if weights is None:
        assert (sorted(alone) if random else alone) == list(range(len(index)))
    else:
        of_window = np.repeat(weights, np.diff(index.first))
        assert len(alone) == (len(index) if of_window.any() else 0)
        assert (of_window[alone] > 0).all()
    for rank in {0, world_size // 2, world_size - 1}:
        assert epoch(order, rank, world_size) == alone[rank::world_size]
    assert order.first[-1] == len(alone)
    for pool, count in enumerate(np.diff(order.first).tolist()):
        share = order.share(pool)
        assert len(order.arrange(pool, share, numbers_of(share))) == count
        each = COSTS.window + (0 if weights is None else DRAWN_BYTES)
        taken = COSTS.pool + share.rows * COSTS.row + count * each + len(share.pieces.row) * COSTS.piece
        assert taken <= max(budget, order.largest)


@given(plans(), st.integers(1, 3))
def test_a_share_holds_all_rows_that_its_windows_need(arguments: Arguments, world_size: int):
    """Every row and label row of each window is in one range of rows; between them are less than a chunk of others."""
    order = planned(*arguments)
    index, starts = order._index, order._starts
    for pool in range(len(order)):
        share = order.share(pool, world_size - 1, world_size)
        spans = zip(share.start.tolist(), share.stop.tolist(), strict=True)
        rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b) for a, b in spans)])
        assert len(np.unique(rows)) == len(rows) == share.rows <= order.most_rows
        assert (share.start[1:] > share.stop[:-1]).all()
        assert np.array_equal(rows[share.places(share.pieces.row)], share.pieces.row)
        read: set[int] = set()
        windows = iter(numbers_of(share).tolist())
        for piece, place in enumerate(share.places(share.pieces.row).tolist()):
            for turn in range(int(share.pieces.count[piece])):
                sequence, start = index.locate(next(windows))
                assert sequence == share.pieces.sequence[piece]
                row, at = int(starts[sequence]) + start, place + turn * index.shape.stride
                needed = steps_needed(index, sequence, start)
                assert np.array_equal(rows[at : at + needed], np.arange(row, row + needed))
                read.update(range(row, row + needed))
        between = np.array(sorted(set(rows.tolist()) - read), np.int64)
        # Of a padded window, the steps between its last real row and the end of the sequence.
        ends = index.shape.sampling_rate if index.shape.pad_end else 1
        if index.shape.stride == 1:
            assert len(between) <= len(rows) // 8 + (ends - 1) * len(np.unique(share.pieces.sequence))
        runs = np.split(between, np.flatnonzero(np.diff(between) > 1) + 1)
        assert all(len(run) < max(arguments[2], index.shape.stride, ends) for run in runs)


@pytest.mark.parametrize(
    ("room", "chunk", "ranges"), [(12, 4, 6), (11, 4, 7), (7, 4, 8), (0, 4, 10), (12, 3, 10), (27, 4, 6)]
)
def test_ranges_are_joined_if_there_is_room_for_the_rows_between(room: int, chunk: int, ranges: int):
    index = index_of_lengths([13] * 10, WindowShape(window=5, target="last", stride=5))
    needed = COSTS.pool + 100 * COSTS.row + 20 * (COSTS.window + COSTS.piece)  # units have one window
    budget = needed + room * COSTS.row
    order = EpochOrder(index, np.arange(0, 130, 13), chunk=chunk, costs=COSTS, budget=budget, random=(0, 0), join=True)
    assert len(order) == 1
    share = order.share(0)
    assert len(share.start) == ranges
    assert 100 <= share.rows <= 100 + min(room, 12)  # a few more: an eighth


def test_pools_have_room_for_the_rows_between_those_of_their_units():
    """So they are read in one piece; if the budget leaves no room for them, pools are smaller."""
    lengths = np.random.default_rng(0).integers(100, 300, 2_000)
    index = index_of_lengths(lengths, WindowShape(window=10, target="last", stride=10))
    costs, starts = Costs(row=36, window=8, piece=30, stored=36, sample=360), np.cumsum(lengths) - lengths
    order = EpochOrder(index, starts, chunk=256, costs=costs, budget=10**6, random=(0, 0), join=True)
    assert len(order) > 10
    unit = unit_size(index, int(lengths.sum()), 256, costs, 10**6, shuffled=True)
    for pool in range(len(order)):
        share = order.share(pool)
        units = -(-int(share.pieces.count.sum()) // unit)
        assert len(share.start) <= units < len(share.pieces.row) / 2
        assert share.rows <= order.most_rows <= 10**6 // costs.row


def long(windows: int, **options: Any) -> EpochOrder:
    """Return the order of one sequence, with a window of 5 steps at each of its steps."""
    index = index_of_lengths([windows + 4], WindowShape(window=5, target="last", **options))
    costs = Costs(row=8, window=4, stored=8, sample=40)
    return EpochOrder(index, np.zeros(1, np.int64), chunk=10, costs=costs, budget=4000, random=(0, 0))


@pytest.mark.parametrize("world_size", [2, 3, 4, 6, 8, 12, 16, 24, 48])
def test_a_rank_reads_its_share_of_the_rows(world_size: int):
    """Not all rows of the epoch; two ranks may read units that two lanes share."""
    order = long(100_000)
    alone = sum(order.share(pool).rows for pool in range(len(order)))
    mine = sum(order.share(pool, 1, world_size).rows for pool in range(len(order)))
    again = len(order) * LANES // world_size * 5  # rows beyond a lane, which windows at its ends reach
    assert mine <= alone / world_size + again


def test_pools_have_similar_sizes_and_many_units_all_over_the_store():
    order = long(10_000)
    sizes = np.diff(order.first)
    assert len(sizes) > 10
    assert sizes.max() < 1.5 * sizes.min() + order._unit
    for pool in range(len(order)):
        rows = order.share(pool).pieces.row
        assert rows.max() - rows.min() > 6000
        assert len(rows) > 5 or pool == len(order) - 1


def test_the_order_of_a_selection_does_not_change_which_windows_lie_together():
    """If shuffled, units follow the rows of the store, in whatever order sequences are selected."""
    shape = WindowShape(window=2)
    rows = [
        planned(selection, shape, 64, 10**6, (0, 0)).share(0).pieces.row.tolist()
        for selection in ([2, 3, 5], [5, 2, 3])
    ]
    assert rows[0] == rows[1]


def test_units_are_halved_until_the_largest_fits_the_budget():
    """Units are chosen by the rows that a window needs on average; here one place needs far more."""
    index = index_of_lengths([300] * 50 + [50_000], WindowShape(window=300, target="last"))
    starts = np.cumsum([0] + [300] * 50)
    costs = Costs(row=10, window=0, stored=10, sample=300)
    order = EpochOrder(index, starts, chunk=100, costs=costs, budget=20_000, random=(0, 0))
    assert order.largest <= 20_000
    assert 1 < order._unit < unit_size(index, 65_000, 100, costs, 20_000, shuffled=True)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [[5] * 10, [30] * 60, [3_000]])
def test_windows_of_a_small_store_are_shuffled_like_a_permutation(lengths: list[int]):
    """All rows fit one pool, and less than a chunk: over 300 epochs it is like a permutation, up to a twentieth."""
    index = index_of_lengths(lengths, WindowShape(window=2, target="last"))
    starts = (np.cumsum(lengths) - lengths).astype(np.int64)
    generator, found = np.random.default_rng(0), []
    for number in range(300):
        order = EpochOrder(index, starts, chunk=10**4, costs=COSTS, budget=10**7, random=(0, number), join=True)
        ours = np.array(epoch(order))
        assert len(order) == 1
        found.append((ours, generator.permutation(len(index))))

    def count_different(orders: list[NDArray[np.int64]]) -> tuple[int, int, int]:
        """Return how many orders there are, first windows, and windows in one batch with window 0."""
        first = {window for order in orders for window in order[:16].tolist()}
        starts = [int(np.flatnonzero(order == 0)[0]) // 16 * 16 for order in orders]
        met = {window for order, at in zip(orders, starts, strict=True) for window in order[at : at + 16].tolist()}
        return len({tuple(order.tolist()) for order in orders}), len(first), len(met)

    shuffled, permuted = (count_different([pair[which] for pair in found]) for which in (0, 1))
    assert all(one >= 0.95 * other for one, other in zip(shuffled, permuted, strict=True)), (shuffled, permuted)


class Counted(EpochOrder):
    """Count the units whose costs are computed."""

    units: ClassVar[list[int]] = []

    def _unit_costs(self, *arguments: Any) -> Any:
        found = super()._unit_costs(*arguments)
        self.units.append(len(found[0]))
        return found


@pytest.mark.parametrize(
    ("windows", "window", "short"), [(10**6, 10**5, "drop"), (10**8, 10, "drop"), (10**8, 10, "pad")]
)
def test_too_little_memory_is_found_without_planning_each_window(windows: int, window: int, short: Any):
    """Otherwise a store of 10^8 steps takes minutes and gigabytes to refuse too little memory."""
    shape = WindowShape(window=window, target="last", short=short)
    index = index_of_lengths([windows + window - 1], shape)
    Counted.units.clear()
    order = Counted(index, np.zeros(1, np.int64), chunk=100, costs=COSTS, budget=COSTS.pool + 100, random=(0, 0))
    assert order.largest > COSTS.pool + 100
    assert max(Counted.units) <= MOST_UNITS
    if window > 10:  # not even one window fits
        assert order.largest == COSTS.pool + window * COSTS.row + COSTS.window + COSTS.piece
        assert len(Counted.units) == 1


def test_units_of_the_benchmarks_do_not_change():
    """They are a part of the order: a change has to raise `VERSION`."""
    assert VERSION == 7
    index = index_of_lengths([5_000] * 6_000, WindowShape(window=128, target="last"))
    costs = Costs(row=36, window=8, piece=100, stored=36, sample=4_100)
    assert unit_size(index, 30_000_000, 8_192, costs, 96_000_000, shuffled=True) == 2_027
    wide = index_of_lengths([5_000] * 6_000, WindowShape(window=128, stride=128, target="last"))
    assert unit_size(wide, 30_000_000, 8_192, costs, 96_000_000, shuffled=True) == 318


def test_pools_are_small_in_store_order_and_large_in_other_orders():
    """A selection in another order needs the same chunk many times, so each reading serves as many windows as fit."""
    index = index_of_lengths([10**6] * 2, WindowShape(window=5))
    costs = Costs(row=64, window=0)
    for starts, small in (([0, 10**6], True), ([10**6, 0], False)):
        order = EpochOrder(index, np.array(starts), chunk=10**4, costs=costs, budget=10**9, random=None)
        assert (len(order) > 1) == small


@pytest.mark.parametrize(
    ("lengths", "window", "stride"),
    [([10**8], 128, 50), ([1] * 5000, 1, 1), ([1] * 3000 + [10**7] + [5] * 3000, 2, 7), ([130] * 20_000, 128, 1)],
    ids=["one of 10^8 steps", "5,000 of one step", "a giant among dwarfs", "20,000 hardly longer than a window"],
)
def test_each_window_occurs_once_for_any_lengths(lengths: list[int], window: int, stride: int):
    index = index_of_lengths(lengths, WindowShape(window=window, stride=stride, target="last"))
    starts = np.cumsum(lengths) - np.array(lengths, np.int64)
    costs = Costs(row=36, window=8, piece=100, stored=36, sample=32 * window + 4)
    order = EpochOrder(index, starts, chunk=4096, costs=costs, budget=10**7, random=(0, 0))
    times = np.zeros(len(index), np.int8)
    for pool in range(len(order)):
        share = order.share(pool)
        numbers = order.arrange(pool, share, spread(share.pieces.number, share.pieces.count))
        times[numbers] += 1
        assert share.rows * costs.row + len(numbers) * costs.window <= max(10**7, order.largest)
    assert (times == 1).all()


def test_the_order_of_a_million_tiny_sequences_is_small_arithmetic():
    lengths = np.full(10**6, 20)
    index = index_of_lengths(lengths, WindowShape(window=5))
    starts = np.cumsum(lengths) - lengths
    costs = Costs(row=8, window=8, stored=8, sample=40)
    order = EpochOrder(index, starts, chunk=10_000, costs=costs, budget=10**7, random=(0, 0))
    assert order.first[-1] == len(index) == 15 * 10**6
    assert len(order._order) < 10**5


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 5000))
def test_the_rows_of_a_group_of_all_lanes_fit_the_cache(window: int, stride: int, row: int):
    shape = WindowShape(window=window, stride=stride)
    visits = CacheOrder.plan(shape, row, LANES)
    if visits is None:
        return
    rows = (visits.run - 1) * stride + shape.span
    assert LANES * visits.together * rows * row <= max(cached for cached, _ in GROUPS)
    # Each of its rows is gathered more than once; otherwise the order would be less random for no gain.
    assert -(-visits.run // visits.phases) * window >= 2 * rows


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        (WindowShape(window=128, stride=128), 36),  # no row is in two windows
        (WindowShape(window=1, stride=1, target="last"), 36),
        (WindowShape(window=128), 2052),  # too few windows of such rows fit
        (WindowShape(window=4096), 36),
    ],
)
def test_without_gain_from_the_cache_a_lane_is_shuffled_whole(shape: WindowShape, row: int):
    assert CacheOrder.plan(shape, row, LANES) is None


def test_overlapping_windows_of_the_benchmarks_have_visits():
    """The plan is a part of the order: a change has to raise `VERSION`."""
    assert VERSION == 7
    assert CacheOrder.plan(WindowShape(window=128), 36, LANES) == CacheOrder(run=33, phases=2, together=30)
    # Larger rows.
    assert CacheOrder.plan(WindowShape(window=128), 52, LANES) == CacheOrder(run=40, phases=2, together=40)
    # Otherwise neighbours would be in the same group.
    assert CacheOrder.plan(WindowShape(window=128, stride=16), 36, LANES) == CacheOrder(run=8, phases=1, together=40)


def test_the_order_does_not_change_between_releases():
    """On every platform and with every release."""
    generator = np.random.default_rng(np.random.SeedSequence((7, 2)))
    assert CacheOrder(run=6, phases=2, together=4).arrange(np.arange(40), generator).tolist() == GOLDEN


GOLDEN = [
    27, 11, 15, 9, 13, 17, 7, 29, 25, 37, 10, 33, 35, 8, 39, 31, 6, 23, 19, 21,
    20, 30, 32, 5, 18, 22, 3, 1, 34, 16, 2, 4, 12, 14, 26, 0, 24, 28, 36, 38,
]  # fmt: skip


def test_few_threads_decompress_if_that_takes_less_than_gathering(monkeypatch: pytest.MonkeyPatch):
    """If windows overlap much; otherwise nearly as many as there are processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [loading.threads(decompressed) for decompressed in (0.01, 0.03, 0.125, 0.2, 1.1)] == [1, 1, 3, 4, 5]
    assert loading.threads() == 6
