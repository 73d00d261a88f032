"""Batches in memory that a worker process shares with the one that trains: right, however long they are kept."""

import gc
import os
import pickle
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from store_spec.errors import WindowError
from tests.frameworks.walks import same

pytestmark = [
    pytest.mark.frameworks,
    # It is about speed, and there may be fewer processors than workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

BATCH = (np.arange(24.0, dtype="float32").reshape(2, 3, 4), np.array([[1], [2]], "int64"), np.array([True, False]))


@pytest.fixture
def ring():
    from store_spec.torch_parcels import Ring

    return Ring(os.getpid())


def sent(parcel):
    """Return a parcel as another process would get it."""
    return pickle.loads(bytes(ForkingPickler.dumps(parcel)))


def number_of(parcel):
    return parcel._number


def test_a_parcel_arrives_as_a_tuple_of_tensors_and_is_one_to_iterate_over_before(ring):
    import torch

    parcel = ring.parcel(BATCH)
    assert len(parcel) == 3
    assert all(np.array_equal(one, wanted) for one, wanted in zip(parcel, BATCH, strict=True))
    assert np.array_equal(parcel[1], BATCH[1])
    arrived = sent(parcel)
    assert type(arrived) is tuple
    assert [one.dtype for one in arrived] == [torch.float32, torch.int64, torch.bool]
    assert all(np.array_equal(one, wanted) for one, wanted in zip(arrived, BATCH, strict=True))


def test_memory_is_used_again_only_when_the_last_tensor_over_it_is_gone(ring):
    first = ring.parcel(BATCH)
    arrived = sent(first)
    part = arrived[0][1, 1:]
    del arrived
    assert number_of(ring.parcel(BATCH)) != number_of(first)
    assert np.array_equal(part, BATCH[0][1, 1:])
    number = number_of(first)
    del part, first
    assert number_of(ring.parcel(BATCH)) == number


def test_memory_that_a_fork_sees_is_not_used_again(ring):
    first = ring.parcel(BATCH)
    arrived = sent(first)
    number = number_of(first)
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
    del first, arrived
    other = ring.parcel(BATCH)
    assert number_of(other) != number
    later = number_of(other)
    del other
    assert number_of(ring.parcel(BATCH)) == later


def test_memory_of_what_was_never_sent_is_free_again(ring):
    number = number_of(ring.parcel(BATCH))
    parcel = ring.parcel(BATCH)
    assert number_of(parcel) == number
    kept = parcel[0]
    del parcel
    assert number_of(ring.parcel(BATCH)) != number
    del kept
    assert number_of(ring.parcel(BATCH)) == number


def test_a_larger_batch_gets_memory_of_its_own_and_a_smaller_one_what_is_there(ring):
    number = number_of(ring.parcel(BATCH))
    kept = ring.parcel(BATCH)
    large = ring.parcel((np.zeros(10_000), np.zeros((0, 3))))
    assert number_of(large) != number
    del kept
    small = ring.parcel((BATCH[1],))
    assert number_of(small) == number
    assert [one.shape for one in sent(large)] == [(10_000,), (0, 3)]


def test_batches_that_grow_take_the_place_of_memory_that_is_too_small_for_them(ring):
    from store_spec import torch_parcels

    for size in range(1_000, 40_000, 1_000):
        parcel = ring.parcel((np.arange(size),))
        arrived = sent(parcel)
        assert np.array_equal(arrived[0], np.arange(size))
        del parcel, arrived
    for segments in (ring._segments, list(torch_parcels._RECEIVED[ring._name].values())):
        assert sum(len(segment.bytes) for segment in segments) < 2 * 8 * 40_000


def test_the_memory_goes_to_the_other_process_once(ring):
    sizes = []
    for _ in range(3):
        parcel = ring.parcel(BATCH)
        sizes.append(parcel.__reduce__()[1][2])
        sent(parcel)
    assert [size is None for size in sizes] == [False, True, True]


def test_a_process_that_did_not_get_the_memory_says_so(ring):
    from store_spec import torch_parcels

    sent(ring.parcel(BATCH))
    parcel = ring.parcel(BATCH)
    torch_parcels._RECEIVED.clear()
    with pytest.raises(WindowError, match="those before to another one"):
        sent(parcel)


def test_what_ended_workers_sent_is_let_go(ring):
    from store_spec import torch_parcels

    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        gone = process.pid
    torch_parcels._RECEIVED[f"{gone}-0"] = {}
    sent(ring.parcel(BATCH))
    assert f"{gone}-0" not in torch_parcels._RECEIVED


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_batches_that_are_kept_stay_as_they_were(windows, start):
    """All of an epoch at once, so that no memory can be used again, then another epoch by the same workers."""
    from torch.utils.data import DataLoader

    from store_spec.torch import WindowBatches

    dataset = WindowBatches(windows, 3, shuffle=True)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True, multiprocessing_context=start)
    kept = list(loader)
    dataset.set_epoch(1)
    assert same(loader, windows.batches(3, shuffle=True, epoch=1))
    gc.collect()
    assert same(kept, windows.batches(3, shuffle=True))


def test_a_collate_function_gets_the_tensors_of_a_batch(windows):
    from torch.utils.data import DataLoader

    from store_spec.torch import WindowBatches

    dataset = WindowBatches(windows, 3)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, collate_fn=doubled)
    assert same(loader, [tuple(2 * one for one in batch) for batch in windows.batches(3)])


def doubled(batch):
    x, y = batch
    return 2 * x, 2 * y


def test_a_transform_may_give_what_is_no_tuple_of_numbers(windows):
    from torch.utils.data import DataLoader

    from store_spec.torch import WindowBatches

    dataset = WindowBatches(windows, 3, transform=named)
    found = list(DataLoader(dataset, batch_size=None, num_workers=2))
    wanted = [named(batch) for batch in windows.batches(3)]
    assert [list(one) for one in found] == [["inputs", "names"]] * len(wanted)
    assert same([[one["inputs"]] for one in found], [[one["inputs"]] for one in wanted])
    assert found[0]["names"] == ["a", "b"]


def named(batch):
    return {"inputs": batch[0], "names": ["a", "b"]}
