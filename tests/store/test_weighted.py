"""Windows drawn by weight, against loops; how often each comes, against its weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import StateError, WindowError
from store_spec.windows.order import EpochOrder
from store_spec.windows.shape import WindowShape
from store_spec.windows.units import DRAWN_BYTES, Costs, draw_units, draw_windows, unit_masses
from tests.store.window_oracle import (
    LENGTHS,
    Numbered,
    all_same,
    epoch,
    index_of_lengths,
    keys,
    numbered,
    numbers_of,
    shapes,
    unbatched,
)

MEMORY = 60_000
COSTS = Costs(row=10, window=4, piece=3, pool=7, stored=10, sample=100)

counts_and_weights = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.1, 1.0, 3.0, 1e-12, 1e9])), min_size=1, max_size=8
)


def cut(total: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low = np.arange(0, total, size)
    return low, np.minimum(low + size, total)


@given(counts_and_weights, st.integers(1, 7))
def test_the_mass_of_a_unit_is_the_weight_of_its_windows(pairs: list[tuple[int, float]], size: int):
    """And 0 only where none of them can be drawn."""
    counts, weights = (np.array(each) for each in zip(*pairs, strict=True))
    of_window = np.repeat(weights, counts)
    low, high = cut(len(of_window), size)
    found = unit_masses(np.append(low, len(of_window)), np.concatenate(([0], np.cumsum(counts))), weights)
    wanted = [float(of_window[a:b].sum()) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * max([1.0, *wanted]))
    assert all(mass == 0 for mass, known in zip(found, wanted, strict=True) if known == 0)
    assert (found >= 0).all()


@given(st.lists(st.sampled_from([0.0, 0.5, 2.0, 1e6]), max_size=12), st.integers(0, 500), st.integers(1, 9))
def test_units_are_taken_for_as_many_windows_as_are_drawn_of_them(masses: list[float], windows: int, most: int):
    unit, drawn = draw_units(np.array(masses), windows, most, np.random.default_rng(0))
    assert drawn.sum() == (windows if any(masses) else 0)
    assert ((drawn >= 1) & (drawn <= most)).all()
    some = [number for number, mass in enumerate(masses) if mass]
    if some:
        shares = np.array([masses[number] for number in some]) / np.sum([masses[number] for number in some])
        wanted = dict(zip(some, np.random.default_rng(0).multinomial(windows, shares).tolist(), strict=True))
        for number, many in wanted.items():
            mine = drawn[unit == number].tolist()
            assert sum(mine) == many
            assert len(mine) == -(-many // most)
            assert not mine or max(mine) - min(mine) <= 1
    assert set(unit.tolist()) <= set(some)


@given(counts_and_weights, st.integers(1, 7), st.integers(0, 99), st.data())
def test_windows_are_drawn_as_a_loop_draws_them(
    pairs: list[tuple[int, float]], size: int, seed: int, data: st.DataObject
):
    counts, weights = (np.array(each) for each in zip(*pairs, strict=True))
    before = np.concatenate(([0], np.cumsum(counts)))
    of_window = np.repeat(weights, counts)
    some = list(zip(*(each.tolist() for each in cut(len(of_window), size)), strict=True))
    some = [(low, high) for low, high in some if of_window[low:high].any()]
    chosen = data.draw(st.lists(st.tuples(st.sampled_from(some), st.integers(1, 6)), max_size=6)) if some else []
    units = (np.array([low for (low, _), _ in chosen], np.int64), np.array([high for (_, high), _ in chosen], np.int64))
    drawn = np.array([many for _, many in chosen], np.int64)
    found = draw_windows(units, drawn, before, weights, np.random.default_rng(seed))

    random = np.random.default_rng(seed)
    which, within = random.random(int(drawn.sum())), random.random(int(drawn.sum()))
    wanted: list[int] = []
    total, at = 0.0, 0
    for (low, high), many in chosen:
        runs, base = [], total
        for sequence, weight in enumerate(weights.tolist()):
            begin, end = max(low, int(before[sequence])), min(high, int(before[sequence + 1]))
            if weight and end > begin:
                runs.append((total, begin, end - begin))
                total += (end - begin) * weight
        mine = []
        for _ in range(many):
            place = base + which[at] * (total - base)
            _, begin, count = [run for run in runs if run[0] <= place][-1]
            mine.append(begin + int(within[at] * count))
            at += 1
        wanted += sorted(mine)
    assert found.tolist() == wanted
    assert (of_window[found] > 0).all()


def planned(
    shape: WindowShape, weights: NDArray[Any], budget: int, random: tuple[int, int], chunk: int = 8
) -> EpochOrder:
    index = index_of_lengths(np.array(LENGTHS, np.int64), shape)
    starts = np.cumsum(LENGTHS) - np.array(LENGTHS)
    return EpochOrder(index, starts, chunk=chunk, costs=COSTS, budget=budget, random=random, weights=weights)


some_weights = st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.5, 1e6]), min_size=len(LENGTHS), max_size=len(LENGTHS))


@settings(max_examples=4, deadline=None)
@given(shapes(), some_weights.map(np.array), st.integers(2000, 20_000), st.integers(1, 50))
def test_ranks_take_turns_in_what_is_drawn_and_a_share_holds_its_rows(
    shape: WindowShape, weights: NDArray[Any], budget: int, world_size: int
):
    order = planned(shape, weights, budget, (3, 1))
    index, starts = order._index, order._starts
    alone, of_window = epoch(order), np.repeat(weights, np.diff(index.first))
    assert len(alone) == order.first[-1] == (len(index) if of_window.any() else 0)
    assert (of_window[alone] > 0).all()
    for rank in {0, world_size // 2, world_size - 1}:
        assert epoch(order, rank, world_size) == alone[rank::world_size]
        for pool in range(len(order)):
            share = order.share(pool, rank, world_size)
            given_numbers = numbers_of(share)
            read = {row for a, b in zip(share.start.tolist(), share.stop.tolist(), strict=True) for row in range(a, b)}
            for number in order.arrange(pool, share, given_numbers).tolist():
                sequence, start = index.locate(number)
                row = int(starts[sequence]) + start
                real = int(index.real_rows(sequence, start))
                last = row + (real - 1) * shape.sampling_rate + 1 + shape.label_span
                last = min(last, int(starts[sequence] + index.stop[sequence]))
                assert read.issuperset(range(row, last))
    for pool in range(len(order)):
        share = order.share(pool)
        pieces, windows = len(share.pieces.row), int(share.pieces.count.sum())
        taken = COSTS.pool + share.rows * COSTS.row + windows * (COSTS.window + DRAWN_BYTES) + pieces * COSTS.piece
        assert taken <= max(budget, order.largest)


@pytest.mark.slow
@pytest.mark.parametrize("budget", [3_000, 10**6])
def test_windows_come_as_often_as_they_weigh(budget: int):
    """Chi-square over many epochs, which are seeded: by window, whatever the pools."""
    rng = np.random.default_rng(0)
    weights = rng.choice([0.0, 0.5, 1.0, 4.0, 20.0], len(LENGTHS))
    shape = WindowShape(window=3)
    times = np.zeros(len(index_of_lengths(LENGTHS, shape)), np.int64)
    for number in range(200):
        order = planned(shape, weights, budget, (0, number))
        times += np.bincount(epoch(order), minlength=len(times))
    index = order._index
    share = np.repeat(weights, np.diff(index.first))
    wanted = share / share.sum() * times.sum()
    some = wanted > 0
    assert (times[~some] == 0).all()
    chi_square, freedom = float(((times - wanted)[some] ** 2 / wanted[some]).sum()), int(some.sum()) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
    # Two draws of an epoch have nothing to do with each other: as many pairs of the same window as by chance.
    drawn = np.array(epoch(order))
    pairs = sum(int(n) * (int(n) - 1) for n in np.bincount(drawn)) / (len(drawn) * (len(drawn) - 1))
    assert abs(pairs - float(((share / share.sum()) ** 2).sum())) < 0.01


def test_a_sequence_that_has_nearly_all_the_weight_is_taken_again_and_again():
    """A pool keeps to its memory then too, and the few others are spread over the epoch."""
    weights = np.full(len(LENGTHS), 1e-3)
    weights[5] = 1e3  # of 7 steps
    order = planned(WindowShape(window=3), weights, 5_000, (0, 0))
    assert len(order) > 1
    numbers = np.array(epoch(order))
    low, high = order._index.first[5], order._index.first[6]
    assert ((numbers >= low) & (numbers < high)).mean() > 0.95


@pytest.fixture(scope="module")
def in_chunks(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    """Of 8 steps a chunk."""
    return numbered(tmp_path_factory.mktemp("draws") / "chunks.zarr", "step", chunk=8)


WEIGHTS = np.array([(3 * number) % 5 for number in range(len(LENGTHS))], float)


@pytest.mark.parametrize(
    "options", [{}, {"short": "pad"}, {"stride": 3, "phase": "random"}, {"target": "last", "normalize": "window"}]
)
def test_batches_hold_the_windows_that_were_drawn(in_chunks: Numbered, options: dict[str, Any]):
    windows = in_chunks.store.windows(5, **options)
    batches = windows.batches(7, shuffle=True, memory=MEMORY, index=True, weights=WEIGHTS, epoch=2)
    assert len(batches) == -(-len(batches.windows) // 7)
    samples = unbatched(list(batches))
    numbers = [int(sample[-1]) for sample in samples]
    assert len(numbers) == len(batches.windows)
    assert len(set(numbers)) < len(numbers)
    assert all_same([sample[:-1] for sample in samples], batches.windows.__getitems__(numbers))
    sequences, _ = batches.windows.index.locate_many(numbers)
    assert (WEIGHTS[sequences] > 0).all()
    plain = windows.batches(7, shuffle=True, memory=MEMORY, weights=WEIGHTS.tolist(), epoch=2)
    assert all_same([sample[:-1] for sample in samples], unbatched(list(plain)))


def test_what_is_drawn_follows_from_seed_and_epoch_and_stays_what_it_was(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)

    def drawn(**options: Any) -> list[int]:
        batches = windows.batches(10, memory=MEMORY, shuffle=True, index=True, **options)
        return [int(number) for *_, numbers in batches for number in numbers]

    first = drawn(weights=WEIGHTS, seed=7, epoch=2)
    assert drawn(weights=WEIGHTS, seed=7, epoch=2) == first
    assert first[:12] == DRAWN
    others = [drawn(weights=WEIGHTS, seed=7), drawn(weights=WEIGHTS + 1, seed=7, epoch=2), drawn(seed=7, epoch=2)]
    assert first not in others


DRAWN = [34, 88, 119, 176, 116, 60, 206, 81, 16, 238, 175, 125]


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_ranks_share_what_is_drawn_and_go_on_from_a_state(in_chunks: Numbered, world_size: int):
    windows = in_chunks.store.windows(4)
    options: dict[str, Any] = {"shuffle": True, "memory": MEMORY, "weights": WEIGHTS, "index": True}
    alone = unbatched(list(windows.batches(1, **options)))
    for rank in range(world_size):
        begun = windows.batches(6, rank=rank, world_size=world_size, **options)
        taken = [next(begun) for _ in range(3)]
        state = json.loads(json.dumps(begun.state_dict()))
        resumed = windows.batches(6, rank=rank, world_size=world_size, **options)
        resumed.load_state_dict(state)
        rest = list(resumed)
        assert all_same(rest, list(begun))
        assert all_same(unbatched([*taken, *rest]), alone[rank::world_size])
    for other in (None, WEIGHTS * 2):
        with pytest.raises(StateError, match="weights="):
            windows.batches(6, world_size=world_size, **options | {"weights": other}).load_state_dict(state)


def test_an_epoch_goes_on_where_the_store_has_grown_with_the_weights_of_then(tmp_path: Path):
    def append(writer: store_spec.Writer, names: range) -> None:
        for number in names:
            rows = np.full((9, 1), number, "int64")
            writer.append(rows, rows, source=f"s{number}")

    path = tmp_path / "s.zarr"
    with store_spec.create_store(path, inputs=("int64", (1,)), labels=("int64", (1,))) as writer:
        append(writer, range(6))
    weights = np.arange(9.0)
    begun = store_spec.open_store(path).windows(3).batches(4, shuffle=True, weights=weights[:6])
    next(begun)
    state = begun.state_dict()
    with store_spec.open_store(path, mode="a") as writer:
        append(writer, range(6, 9))
    windows = store_spec.open_store(path).windows(3)
    resumed = windows.batches(4, shuffle=True, weights=weights)
    resumed.load_state_dict(state)
    assert all_same(list(resumed), list(begun))
    with pytest.raises(StateError, match="weights="):
        windows.batches(4, shuffle=True, weights=weights + 1).load_state_dict(state)


def test_sequences_of_weight_0_are_not_read(in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch):
    read: set[int] = set()  # numbers of chunks
    rows_in = Snapshot.rows_in

    def noted(self: Snapshot, buffer: Any, name: str, start: int, stop: int, **more: Any) -> Any:
        read.update(row // 8 for row in range(start, stop))
        return rows_in(self, buffer, name, start, stop, **more)

    monkeypatch.setattr(Snapshot, "rows_in", noted)
    weights = np.zeros(len(LENGTHS))
    weights[[6, 12]] = 1, 2
    found = unbatched(list(in_chunks.store.windows(4).batches(8, shuffle=True, weights=weights)))
    own = [row for number in (6, 12) for row in range(sum(LENGTHS[:number]), sum(LENGTHS[: number + 1]))]
    assert read <= {row // 8 for row in own}
    assert len(found) == len(in_chunks.store.windows(4))
    assert set(keys(found)) <= set(keys(list(in_chunks.store.select([6, 12]).windows(4))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": WEIGHTS, "shuffle": False}, "weights with shuffle=False"),
        ({"weights": WEIGHTS[1:]}, r"weights of shape \(17,\); give one for each of 18 sequences"),
        ({"weights": [[1.0]] * 18}, r"weights of shape \(18, 1\)"),
        ({"weights": [*WEIGHTS[1:], -1.0]}, r"weights\[17\] is -1.0; a weight is a number from 0 on"),
        ({"weights": [np.nan, *WEIGHTS[1:]]}, r"weights\[0\] is nan"),
        ({"weights": [np.inf, *WEIGHTS[1:]]}, r"weights\[0\] is inf"),
        ({"weights": np.zeros(18)}, "samples make 0.0; nothing can be drawn by that"),
        ({"weights": np.full(18, 1e308)}, "samples make inf"),
        ({"weights": ["a"] * 18}, "weights are not numbers"),
    ],
)
def test_weights_that_are_none_are_refused(in_chunks: Numbered, options: dict[str, Any], message: str):
    with pytest.raises(WindowError, match=message):
        in_chunks.store.windows(4).batches(8, **{"shuffle": True} | options)


def test_of_no_windows_none_is_drawn(in_chunks: Numbered):
    assert list(in_chunks.store.windows(1000).batches(8, shuffle=True, weights=WEIGHTS)) == []


def test_balanced_classes_come_equally_often(tmp_path: Path):
    with store_spec.create_store(
        tmp_path / "s.zarr", inputs=("float32", (1,)), labels=("int64", ()), label_axis="sequence"
    ) as writer:
        for number in range(40):
            seldom = number % 10 == 0
            # Long ones have more windows each; and some have none, whose share the others of their class take.
            steps = 100 if seldom else 2 + number % 2 * 20
            writer.append(np.zeros((steps, 1), "float32"), np.int64(seldom), source=f"s{number}")
    store = store_spec.open_store(tmp_path / "s.zarr")
    windows = store.windows(3, target="sequence")
    weights = windows.sequence_weights()
    labels = [y for number in range(5) for _, y in windows.batches(16, shuffle=True, weights=weights, epoch=number)]
    assert abs(np.concatenate(labels).mean() - 0.5) < 0.03
    assert (weights[store.lengths < 3] == 0).all()
