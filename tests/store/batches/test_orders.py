"""Which samples a batch has: by seed, epoch, weights and rank; the same in every release."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import WindowError
from store_spec.windows.shape import WindowShape
from store_spec.windows.windows import Windows
from tests.store.kinds import begin, chunks_read, every_kind
from tests.store.window_oracle import LENGTHS, Written, all_same, shapes, unbatched

WEIGHTS = np.array([(3 * number) % 5 for number in range(len(LENGTHS))], float)


def index_of(batches: Any) -> list[int]:
    """Return the numbers of the windows or sequences of all batches, in order."""
    return [number for batch in batches for number in batch.index.ravel().tolist()]


@every_kind
def test_the_order_follows_from_seed_and_epoch_alone(by_step: Written, kind: str):
    def order(**more: Any) -> list[int]:
        return index_of(begin(by_step.store, kind, shuffle=True, index=True, **more))

    first = order(seed=3, epoch=1)
    assert order(seed=3, epoch=1) == first
    others = [order(seed=3), order(seed=3, epoch=2), order(seed=4, epoch=1), order(seed=1, epoch=3)]
    assert first not in others
    assert len({tuple(each) for each in others}) == len(others)
    assert all(set(each) == set(first) for each in others)
    if kind != "windows":  # its pools depend on this
        assert order(seed=3, epoch=1, memory="1MB") == first


# The first numbers of an epoch, and the sum of all numbers, each multiplied by its position.
GOLDEN: list[tuple[str, dict[str, Any], list[int], int]] = [
    ("windows", {"seed": 7, "epoch": 2, "batch_size": 10, "memory": 9000}, [16, 106, 36, 39, 52, 164, 9, 11], 4466927),
    (
        "windows",
        {"seed": 7, "epoch": 2, "memory": 60_000, "weights": WEIGHTS},
        [34, 88, 119, 176, 116, 60, 206, 81],
        3519474,
    ),
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
def test_the_order_does_not_change_between_releases(
    by_step: Written, kind: str, options: dict[str, Any], numbers: list[int], total: int
):
    """On every platform and with every release, since a change would alter the batches after an older state."""
    found = index_of(begin(by_step.store, kind, index=True, **{"shuffle": True} | options))
    assert found[:8] == numbers
    assert sum(place * number for place, number in enumerate(found)) == total


def test_the_order_of_windows_does_not_depend_on_the_size_of_a_batch(by_step: Written):
    windows = by_step.store.windows(4)
    orders = [index_of(windows.batches(size, memory=9000, shuffle=True, index=True)) for size in (1, 7, 10)]
    assert orders[0] == orders[1] == orders[2]


def test_windows_of_a_batch_come_from_all_over_the_store(by_step: Written):
    """With memory for a third of the store, the windows of a batch are no neighbours."""
    for x, _ in by_step.store.windows(4).batches(20, shuffle=True, memory=12_000, drop_last=True):
        rows = np.sort(x[:, 0, 0] // 2)
        assert rows[-1] - rows[0] > 100  # of 308
        assert (np.diff(rows) > 1).sum() > 4


@given(
    shape=shapes(),
    size=st.integers(1, 12),
    world_size=st.integers(1, 5),
    memory=st.integers(10_000, 60_000),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    weighted=st.booleans(),
)
def test_ranks_share_the_windows_of_a_single_rank(
    by_step: Written, shape: WindowShape, size: int, world_size: int, memory: int, **more: bool
):
    """All ranks have the same number of batches; taken in turn, these are the batches of a single rank."""
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
    assert len({len(batches) for batches in ranks}) == 1
    whole = len(alone) - (len(alone) % (size * world_size) if more["drop_last"] else 0)
    for rank, batches in enumerate(ranks):
        assert all_same(unbatched(batches), alone[:whole][rank::world_size])


@every_kind
def test_weights_draw_as_many_samples_and_read_nothing_of_weight_0(
    by_step: Written, kind: str, monkeypatch: pytest.MonkeyPatch
):
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
        numbers = batches.windows.index.locate_many(numbers)[0].tolist()
    elif kind == "padded":
        assert len(numbers) == len(LENGTHS)
    assert set(numbers) == {2, 6, 10}
    assert all_same(list(begin(by_step.store, kind, weights=(3 * weights).tolist(), **options)), found)


@pytest.mark.parametrize(
    "options", [{}, {"short": "pad"}, {"stride": 3, "phase": "random"}, {"target": "last", "normalize": "window"}]
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_index_has_the_number_of_each_window(
    by_step: Written, options: dict[str, Any], *, weighted: bool, shuffle: bool
):
    """Whether windows are drawn by weight or once each; asking for the index changes nothing else."""
    windows = by_step.store.windows(9, **options)
    more: dict[str, Any] = {"shuffle": shuffle or weighted, "weights": WEIGHTS if weighted else None, "epoch": 2}
    batches = windows.batches(10, memory=60_000, index=True, **more)
    found = unbatched(list(batches))
    numbers = [int(sample[-1]) for sample in found]
    if weighted:
        assert (WEIGHTS[batches.windows.index.locate_many(numbers)[0]] > 0).all()
    else:
        assert sorted(numbers) == list(range(len(batches.windows)))
    samples = [sample[:-1] for sample in found]
    assert all_same(samples, batches.windows.__getitems__(numbers))
    assert all_same(samples, unbatched(list(windows.batches(10, memory=60_000, **more))))


@pytest.mark.slow
def test_workers_have_the_batches_of_the_epoch_alternately(by_step: Written):
    windows = by_step.store.windows(4)
    alone = list(windows.batches(10, shuffle=True, memory=20_000))
    for workers in (1, 2, 3, 40):
        found = [list(windows.batches(10, shuffle=True, memory=20_000).of_worker(w, workers)) for w in range(workers)]
        assert all(all_same(mine, alone[w::workers]) for w, mine in enumerate(found))
        for worker in range(min(workers, 3)):
            begun = windows.batches(10, shuffle=True, memory=20_000).of_worker(worker, workers)
            if len(alone) > workers + worker:
                next(begun)
            resumed = windows.batches(10, shuffle=True, memory=20_000).of_worker(worker, workers)
            resumed.load_state_dict(begun.state_dict())
            assert all_same(list(resumed), list(begun))
