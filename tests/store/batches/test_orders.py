"""Which samples a batch has: by seed, epoch, weights and rank; the same in every release."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store_spec.errors import WindowError
from store_spec.reading.ranks import Turns
from store_spec.windows.shape import WindowShape
from store_spec.windows.units import draw_windows
from store_spec.windows.windows import Windows
from tests.store.kinds import begin, chunks_read, every_kind
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    LENGTHS,
    all_same,
    epoch,
    index_of_lengths,
    order_of,
    shapes,
    unbatched,
)

WEIGHTS = np.array([(3 * number) % 5 for number in range(len(LENGTHS))], float)


def index_of(batches: Any) -> list[int]:
    """Return the numbers of the windows or sequences of all batches, in order."""
    return [number for batch in batches for number in batch.index.ravel().tolist()]


# The first numbers of an epoch, and the sum of all numbers, each multiplied by its position.
GOLDEN: list[tuple[str, dict[str, Any], list[int], int]] = [
    ("windows", {"seed": 7, "epoch": 2, "batch_size": 10, "memory": 9000}, [16, 106, 36, 39, 52, 164, 9, 11], 4466927),
    ("windows", {"seed": 7, "epoch": 2, "memory": 60_000, "weights": WEIGHTS}, [34, 88, 119, 176, 116, 60], 3519474),
    ("padded", {"seed": 3, "epoch": 2, "batch_size": 7}, [15, 17, 13, 16, 14, 11, 4, 0], 1034),
    ("padded", {"bucket": True, "shuffle": False}, [6, 12, 2, 10, 15, 9, 13, 14], 1266),
    ("padded", {"seed": 3, "epoch": 2, "batch_size": 3, "bucket": True}, [9, 6, 10, 8, 17, 4, 2, 15], 1231),
    ("padded", {"batch_size": None, "max_steps": 110, "bucket": True}, [9, 10, 12, 11, 14, 5, 8, 4], 1245),
    ("padded", {"seed": 3, "weights": WEIGHTS}, [1, 2, 16, 16, 8, 3, 4, 11], 1150),
    ("packed", {"seed": 3, "epoch": 2}, [6, 6, 1, 8, 7, 11, 3, 5], 2007),
    ("packed", {"seed": 3, "weights": WEIGHTS}, [14, 13, 14, 13, 13, 8, 13, 9], 1485),
    ("streams", {"seed": 3, "epoch": 2, "batch_size": 3, "window": 10}, [6, 6, 6, 6, 6, 6, 6, 6], 372622),
    ("streams", {"seed": 3, "weights": WEIGHTS}, [6, 6, 6, 6, 6, 6, 6, 6], 402563),
]


@pytest.mark.parametrize(("kind", "options", "numbers", "total"), GOLDEN)
def test_the_order_does_not_change_between_releases(by_step, kind, options, numbers, total):
    """On every platform, with every release and with any memory, as batches after an older state would be others."""
    memories = [{}] if kind == "windows" else [{}, {"memory": "1MB"}]  # pools of windows depend on it
    for memory in memories:
        found = index_of(begin(by_step.store, kind, index=True, **{"shuffle": True} | options | memory))
        assert found[: len(numbers)] == numbers
        assert sum(place * number for place, number in enumerate(found)) == total


@given(
    shape=shapes(),
    size=st.integers(1, 12),
    world_size=st.integers(1, 5),
    memory=st.integers(10_000, 60_000),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    weighted=st.booleans(),
)
@example(  # of 13 windows one is left after two rounds of three ranks
    shape=WindowShape(window=88, target="last"),
    size=2,
    world_size=3,
    memory=60_000,
    shuffle=False,
    drop_last=False,
    weighted=False,
)
def test_ranks_share_the_windows_of_a_single_rank(by_step, shape, size, world_size, memory, **more):
    """Taken in turn, their batches are those of a single rank, and after each one all ranks have as many samples.

    A rank may have one more than a later one. With `drop_last` every batch is whole, otherwise all but the last two.
    """
    windows = Windows(by_step.store, shape)
    options: dict[str, Any] = {"shuffle": more["shuffle"], "memory": memory}
    if more["weighted"] and more["shuffle"] and len(windows):
        options["weights"] = WEIGHTS + 1
    try:
        alone = unbatched(list(windows.batches(1, **options)))
        ranks = [
            list(windows.batches(size, rank=rank, world_size=world_size, drop_last=more["drop_last"], **options))
            for rank in range(world_size)
        ]
    except WindowError as error:
        assert re.search(r"cannot be distributed|a batch takes|is too little", str(error))  # noqa: PT017
        return
    sizes = [[len(batch[0]) for batch in batches] for batches in ranks]
    assert {number for each in sizes for number in each[: None if more["drop_last"] else -2]} <= {size}
    assert {number for each in sizes for number in each} <= set(range(1, size + 1))
    for taken in zip(*map(itertools.accumulate, sizes), strict=True):
        assert taken[0] - taken[-1] in (0, 1)
        assert sorted(taken, reverse=True) == [*taken]
    whole = len(alone) - (len(alone) % (size * world_size) if more["drop_last"] else 0)
    for rank, batches in enumerate(ranks):
        assert all_same(unbatched(batches), alone[:whole][rank::world_size])


@every_kind
def test_weights_draw_as_many_samples_and_read_nothing_of_weight_0(by_step, kind, monkeypatch):
    """Sequences of weight above 0 are drawn several times; only ratios of weights matter."""
    weights = np.zeros(len(LENGTHS))
    weights[[2, 6, 10]] = 1, 3, 1
    options: dict[str, Any] = {"shuffle": True, "index": True, "epoch": 2}
    read = chunks_read(monkeypatch)
    batches = begin(by_step.store, kind, weights=weights, **options)
    found = list(batches)
    ends = np.cumsum(LENGTHS)
    own = {row // 8 for n in (2, 6, 10) for row in range(ends[n] - LENGTHS[n], ends[n])}
    assert {number for _, number in read} <= own
    numbers = [number for number in index_of(found) if number >= 0]
    if kind == "windows":
        assert len(numbers) == len(batches.windows)
        assert len(set(numbers)) < len(numbers)
        samples = [sample[:-1] for sample in unbatched(found)]
        assert all_same(samples, batches.windows.__getitems__(numbers))
        without_index = begin(by_step.store, kind, weights=weights, **options | {"index": False})
        assert all_same(samples, unbatched(list(without_index)))
        numbers = batches.windows.index.locate_many(numbers)[0].tolist()
    elif kind == "padded":
        assert len(numbers) == len(LENGTHS)
    assert set(numbers) == {2, 6, 10}
    assert all_same(list(begin(by_step.store, kind, weights=(3 * weights).tolist(), **options)), found)


@pytest.mark.parametrize("taken", [None, True, 4.0, "8", 3, 5, 6, 7, 9, 10])
def test_impossible_numbers_of_taken_samples_are_refused(taken: Any):
    """Of ten samples, four per step, two ranks have eight after two batches, and four ranks have six."""
    turns = Turns(samples=11, size=2, world_size=2)
    if taken != 9:
        with pytest.raises(WindowError, match="2 batches of all ranks, which take 4 samples together, do not hold"):
            turns.after(2, taken)
    assert turns.after(2, 8) is turns


def test_a_batch_beyond_the_last_is_an_index_error():
    with pytest.raises(IndexError, match="batch 3 of 3"):
        Turns(samples=10, size=4)[3]


@pytest.mark.slow
@pytest.mark.parametrize("budget", [3_000, 10**6])
def test_windows_are_drawn_in_proportion_to_their_weight(budget: int):
    """A chi-square test over many seeded epochs, window by window, for any pools."""
    rng = np.random.default_rng(0)
    weights = rng.choice([0.0, 0.5, 1.0, 4.0, 20.0], len(LENGTHS))
    shape = WindowShape(window=3)
    times = np.zeros(len(index_of_lengths(LENGTHS, shape)), np.int64)
    for number in range(200):
        order = order_of(shape, budget, (0, number), weights=weights)
        times += np.bincount(epoch(order), minlength=len(times))
    index = order._index
    share = np.repeat(weights, np.diff(index.first))
    wanted = share / share.sum() * times.sum()
    some = wanted > 0
    assert (times[~some] == 0).all()
    chi_square, freedom = float(((times - wanted)[some] ** 2 / wanted[some]).sum()), int(some.sum()) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
    # The draws of an epoch are independent: as many pairs of the same window as by chance.
    drawn = np.array(epoch(order))
    pairs = sum(int(n) * (int(n) - 1) for n in np.bincount(drawn)) / (len(drawn) * (len(drawn) - 1))
    assert abs(pairs - float(((share / share.sum()) ** 2).sum())) < 0.01


def test_windows_of_a_unit_with_several_sequences_are_drawn_by_their_weight():
    """The units of the test above have one or two windows."""
    before, weights = np.array([0, 2, 3, 8, 12]), np.array([1.0, 3.0, 0.0, 2.0])
    unit, count = (np.array([1]), np.array([11])), 30_000
    drawn = draw_windows(unit, np.array([count]), before, weights, np.random.default_rng(0))
    of_window = np.repeat(weights, np.diff(before)) * (np.arange(12) >= 1) * (np.arange(12) < 11)
    shares = np.bincount(drawn, minlength=12) / count
    np.testing.assert_allclose(shares, of_window / of_window.sum(), atol=0.01)
    assert not shares[of_window == 0].any()


def test_balanced_classes_are_equally_frequent(tmp_path: Path):
    seldom = [np.int64(number % 10 == 0) for number in range(40)]
    # Long ones have more windows each; some have none, and the others of their class get their share.
    steps = [100 if one else 2 + number % 2 * 20 for number, one in enumerate(seldom)]
    inputs = [np.zeros((count, 1), "float32") for count in steps]
    store = store_of(tmp_path / "s.zarr", inputs, seldom, label_axis="sequence")
    windows = store.windows(3, target="sequence")
    weights = windows.sequence_weights()
    labels = [y for number in range(5) for _, y in windows.batches(16, shuffle=True, weights=weights, epoch=number)]
    assert abs(np.concatenate(labels).mean() - 0.5) < 0.03
    assert (weights[store.lengths < 3] == 0).all()
