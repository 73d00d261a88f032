"""How well an order mixes, compared with plain loops over a list of its windows, and with chance."""

import itertools
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from store_spec.windows import mixing as mixing_module
from store_spec.windows.index import WindowIndex
from store_spec.windows.mixing import Figures, Mixing, measure, measure_order
from store_spec.windows.order import EpochOrder, Share, WindowRuns
from store_spec.windows.shape import WindowShape
from store_spec.windows.units import Costs
from tests.store.oracle import store_of
from tests.store.window_oracle import COSTS, LENGTHS, epoch, index_of_lengths, order_of, shapes


class Listed(EpochOrder):
    """Any given order, as one lane of one pool."""

    def __init__(self, index: WindowIndex, starts: NDArray[np.int64], numbers: Sequence[int]) -> None:
        super().__init__(index, starts, chunk=1, costs=COSTS, budget=10**9, random=None)
        self.first = np.array([0, len(index)])
        sequences, begin = index.locate_many(np.array(numbers, np.int64))
        row, zero = starts[sequences] + begin, np.zeros(1, np.int64)
        count = np.ones_like(row)
        self._whole = Share(
            pieces=WindowRuns(sequence=sequences, number=np.array(numbers), count=count, row=row, stop=row + 1),
            start=zero,
            stop=zero,
            lanes=zero,
            lane_start=zero,
            size=np.array([len(numbers)]),
            first=0,
            step=1,
        )

    def __len__(self) -> int:
        return 1

    def share(self, number: int, rank: int = 0, world_size: int = 1) -> Share:
        assert (number, rank, world_size) == (0, 0, 1)
        return self._whole


def index_and_starts(lengths: Sequence[int], shape: WindowShape) -> tuple[WindowIndex, NDArray[np.int64]]:
    return index_of_lengths(lengths, shape), np.cumsum([0, *lengths])[:-1]


def figures_by_loops(numbers: list[int], index: WindowIndex, starts: NDArray[np.int64], size: int) -> tuple[float, ...]:
    """Return the figures of a list of windows, computed by loops."""
    total, size = len(numbers), min(size, len(numbers))
    places = [index.locate(number) for number in numbers]
    batches = [places[at : at + size] for at in range(0, total - size + 1, size)]
    by_rows = sorted(range(total), key=lambda at: (int(starts[places[at][0]]), places[at]))
    distances = [abs(a - b) / total for a, b in itertools.pairwise(by_rows)]
    return astuple(
        Figures(
            sequences=float(np.mean([len({sequence for sequence, _ in batch}) for batch in batches])),
            correlation=float(np.corrcoef(np.arange(total), by_rows)[0, 1]),
            apart=float(np.median(distances)),
            near=float(np.quantile(distances, 0.05)),
        )
    )


@settings(max_examples=4, deadline=None)
@given(
    st.permutations(range(len(LENGTHS))),
    shapes(),
    st.integers(8, 10_000),
    st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.integers(1, 100),
)
def test_figures_equal_those_of_loops_over_windows(selection, shape, budget, random, size):
    """Exactly, if all batches are measured; for sequences selected in any order."""
    order = order_of(shape, budget, random, selection=selection)
    index, starts = order._index, order._starts
    assume(len(index) >= 2)
    size = max(size, len(index) // mixing_module.BATCHES + 1)
    found = measure_order(order, index, starts, size)
    assert astuple(found.ours) == pytest.approx(figures_by_loops(epoch(order), index, starts, size), abs=1e-12)
    assert (found.windows, found.size, found.pools) == (len(index), min(size, len(index)), len(order))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
def test_ideal_figures_are_the_mean_over_all_possible_batches(lengths: list[int], size: int, window: int, stride: int):
    index, starts = index_and_starts(lengths, WindowShape(window=window, stride=stride, target="last"))
    assume(len(index) >= 2)
    size = min(size, len(index))
    every = [
        figures_by_loops(list(batch), index, starts, size)[0] if size > 1 else 1.0
        for batch in itertools.combinations(range(len(index)), size)
    ]
    ideal = measure_order(Listed(index, starts, range(len(index))), index, starts, size).ideal
    assert ideal.sequences == pytest.approx(np.mean(every))


@pytest.mark.slow
def test_a_sample_of_a_large_epoch_has_the_figures_of_all_of_it(monkeypatch: pytest.MonkeyPatch):
    """If the epoch is too large to measure all of its batches, pools and neighbours."""
    index, starts = index_and_starts([700 + number for number in range(50)], WindowShape(window=16, stride=2))
    order = EpochOrder(index, starts, chunk=100, costs=COSTS, budget=15_000, random=(3, 1))
    assert len(order) > 2 * mixing_module.POOLS
    some = measure_order(order, index, starts, 64).ours
    monkeypatch.setattr(mixing_module, "BATCHES", 10**6)
    monkeypatch.setattr(mixing_module, "PAIRS", 10**6)
    every = measure_order(order, index, starts, 64).ours
    assert some != every
    assert some.sequences == pytest.approx(every.sequences, rel=0.05)
    assert some.correlation == pytest.approx(every.correlation, abs=0.05)
    assert some.apart == pytest.approx(every.apart, rel=0.1)
    assert some.near == pytest.approx(every.near, rel=0.4)


def test_a_batch_may_be_larger_than_a_pool(monkeypatch: pytest.MonkeyPatch):
    index, starts = index_and_starts([300] * 30, WindowShape(window=4))
    order = EpochOrder(index, starts, chunk=20, costs=COSTS, budget=5_000, random=(0, 0))
    size = len(index) // 8
    assert np.diff(order.first).max() < size // 2
    wanted = figures_by_loops(epoch(order), index, starts, size)
    monkeypatch.setattr(mixing_module, "BATCHES", 4)
    found = measure_order(order, index, starts, size)
    assert found.ours.sequences == pytest.approx(wanted[0], rel=0.05)


@pytest.mark.slow
def test_an_epoch_of_a_thousand_million_windows_is_sampled():
    """Only some of its lanes are computed, and their numbers are never in memory together."""

    class Counted(EpochOrder):
        arranged_windows = 0

        def arrange(self, number: int, share: Share, windows: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
            self.arranged_windows += len(windows)
            assert len(windows) <= 10**6
            return super().arrange(number, share, windows)

    index, starts = index_and_starts([10**8] * 10, WindowShape(window=100, stride=1))
    costs = Costs(row=36, window=8, stored=36, sample=3200)
    order = Counted(index, starts, chunk=10**5, costs=costs, budget=2 * 10**7, random=(0, 0))
    found = measure_order(order, index, starts, 256)
    assert found.windows == len(index) > 999_990_000
    assert order.arranged_windows < 5 * 10**7
    assert 0.6 < found.sequences < 1


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    rows = np.arange(2_000, dtype=np.float32).reshape(-1, 2)
    return store_of(tmp_path / "s.zarr", np.split(rows, 20), chunk=160, shard=1600)


@pytest.mark.slow
def test_the_measured_order_is_that_of_the_batches(store: store_spec.Store):
    """With these arguments, compared with the numbers that the batches return."""
    windows = store.windows(5, stride=2, phase="random")
    found = measure(windows, 16, seed=4, epoch=2, memory="9kB")
    batches = windows.batches(16, shuffle=True, seed=4, epoch=2, memory="9kB", index=True)
    numbers = np.concatenate([batch[-1] for batch in batches]).tolist()
    assert found.pools > 3
    assert astuple(found.ours) == pytest.approx(
        figures_by_loops(numbers, batches.windows.index, store.starts, 16), abs=1e-12
    )
    assert found == measure(windows, 16, seed=4, epoch=2, memory=9_000)
    assert found != measure(windows, 16, seed=4, epoch=3, memory=9_000)


def test_measuring_reads_no_rows(store: store_spec.Store):
    for path in (store.path / "inputs").rglob("*"):
        if path.is_file() and path.name != "zarr.json":
            path.write_bytes(bytes(path.stat().st_size))
    assert store.windows(5).mixing(16).windows == 20 * 45


def test_fewer_than_two_windows_are_refused_with_their_number(store: store_spec.Store):
    with pytest.raises(WindowError, match=r"s\.zarr: 0 windows; there is no mixing of fewer than 2"):
        measure(store.windows(60), 16)
    assert measure(store.select([0]).windows(48), 16).windows == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 4, "seed": -1}, "seed is -1"),
        ({"batch_size": 4, "memory": 0}, "memory is 0"),
        ({"batch_size": 4, "memory": "10kB", "epoch": True}, "epoch is True"),
        ({"batch_size": 400, "memory": "10kB"}, "memory=10,000 bytes is too little"),
    ],
)
def test_impossible_arguments_are_refused_as_batches_refuse_them(store: store_spec.Store, arguments, message: str):
    with pytest.raises(WindowError, match=message):
        measure(store.windows(5), **arguments)


def test_figures_have_a_text():
    figures = Figures(sequences=235.12, correlation=0.0009, apart=0.0208, near=0.0021)
    ideal = Figures(sequences=247.3, correlation=0.0, apart=0.29289, near=0.02532)
    text = str(Mixing(windows=27_054_466, size=256, pools=14, runs=4_321, ours=figures, ideal=ideal))
    assert text.splitlines() == [
        "27,054,466 windows in batches of 256; 14 pools of 4,321 runs",
        "               this order  a permutation",
        "sequences           235.1          247.3",
        "correlation        0.0009              0",
        "apart              0.0208         0.2929",
        "near               0.0021        0.02532",
    ]
