"""Batches from the data loaders of torch and torchdata: with workers, from a URL, and on two ranks."""

import gc
import json
import multiprocessing
import os
import pickle
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import WindowError
from tests.frameworks.walks import HORIZON, WINDOW, same
from tests.store.kinds import threads
from tests.store.object_server import serving, walks
from tests.store.window_oracle import listed

pytestmark = [
    pytest.mark.frameworks,
    # It is about speed, and there may be fewer processors than workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # torchdata 0.11 calls it.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "persistent", "start"),
    [(0, False, None), (1, True, "spawn"), (2, False, "fork"), (2, True, "forkserver"), (3, True, "fork")],
)
def test_batches_come_in_the_same_order_whatever_the_number_of_workers(
    windows, workers, persistent, start, load, batch_dataset
):
    """An epoch that is set also reaches workers that persist."""
    dataset = batch_dataset(windows.batches, 5, shuffle=True, seed=1, rank=1, world_size=2)
    loader = load(dataset, num_workers=workers, persistent_workers=persistent, multiprocessing_context=start)
    assert len(loader) == len(windows.batches(5, rank=1, world_size=2))
    for epoch in (0, 0, 5, 2):
        dataset.set_epoch(epoch)
        assert same(loader, windows.batches(5, shuffle=True, seed=1, epoch=epoch, rank=1, world_size=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "persistent", "seeded"),
    [
        ("fork", False, False),
        ("fork", False, True),
        ("fork", True, False),
        ("spawn", False, False),
        ("forkserver", True, True),
    ],
)
def test_each_pass_of_a_loader_is_the_next_epoch(windows, start, persistent, seeded, torch, load, batch_dataset):
    dataset = batch_dataset(windows.batches, 5, shuffle=True, epoch=2)
    options = {"persistent_workers": persistent, "multiprocessing_context": start}
    loaders = [load(dataset, num_workers=workers, **(options if workers else {})) for workers in (2, 0, 1)]
    for epoch, loader in enumerate([loaders[0], loaders[0], *loaders, loaders[0]], 2):
        if seeded:  # as some users do before each epoch
            torch.manual_seed(0)
        assert same(loader, windows.batches(5, shuffle=True, epoch=epoch)), epoch


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets a worker take its epoch; `first` is the number of the process of its pass's first."""
    from store_spec import torch_epochs as adapter

    def taken(epochs: Any, worker: int, *, first: int, workers: int = 2, seed: int = 70, parent: int = 0) -> int:
        of_worker = object.__new__(adapter.EpochCounter)  # like another process, with the same shared memory
        of_worker.__dict__ |= epochs.__dict__
        info = SimpleNamespace(id=worker, seed=seed + worker, num_workers=workers)
        with monkeypatch.context() as patch:
            patch.setattr(adapter, "get_worker_info", lambda: info)
            patch.setattr(adapter, "current_process", lambda: SimpleNamespace(_identity=(first + worker,)))
            patch.setattr(adapter, "parent_process", lambda: SimpleNamespace(pid=parent or os.getpid()))
            return of_worker.take()

    return taken


@pytest.fixture
def epochs() -> Any:
    from store_spec.torch_epochs import EpochCounter

    return EpochCounter(3)


@pytest.mark.parametrize("epoch", [8, 1])
def test_workers_of_one_pass_have_the_same_epoch_if_another_is_set_meanwhile(epochs, take, epoch):
    found = []
    for worker, seed, first in ((0, 70, 1), (1, 70, 1), (0, 90, 3), (1, 90, 3)):
        found.append(take(epochs, worker, seed=seed, first=first))
        if worker == 0:
            epochs.upcoming = epoch
    assert found == [3, 3, epoch, epoch]


def test_workers_of_one_pass_have_the_same_epoch_if_torch_is_seeded_before_each(epochs, take):
    for number, epoch in enumerate((None, 0, 1, None, 1, 0, None)):
        if epoch is not None:
            epochs.upcoming = epoch
        due = epochs.upcoming
        assert [take(epochs, worker, first=3 * number, workers=3) for worker in (0, 1, 2)] == [due] * 3


def test_workers_do_not_join_a_pass_that_was_left_before_all_had_begun(epochs, take):
    assert [take(epochs, 0, first=1), take(epochs, 1, first=3), take(epochs, 0, first=3)] == [3, 4, 4]
    # Another process was started in between, then the number of workers changes.
    assert [take(epochs, 1, first=6), take(epochs, 0, first=5)] == [5, 5]
    assert [take(epochs, 0, first=8, workers=1), *(take(epochs, one, first=9) for one in (1, 0))] == [6, 7, 7]


def test_each_process_that_shares_the_memory_counts_its_own_epochs(epochs, take):
    found = [take(epochs, worker, first=1, parent=rank) for rank in (-5, -6) for worker in (0, 1)]
    assert found + [take(epochs, 0, first=3, parent=rank) for rank in (-6, -5)] == [3, 3, 3, 3, 4, 4]


def iterate(dataset: Any, workers: int, ended: Any) -> None:
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    ended.send([[number for *_, index in loader for number in index.tolist()] for _ in range(2)])


@pytest.mark.slow
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 0)])
def test_ranks_that_get_the_dataset_from_their_parent_count_their_own_epochs(windows, batch_dataset, start, workers):
    dataset, processes = batch_dataset(windows.batches, 8, shuffle=True, index=True), multiprocessing.get_context(start)
    pipes = [processes.Pipe(duplex=False) for _ in range(2)]
    ranks = [processes.Process(target=iterate, args=(dataset, workers, ended)) for _, ended in pipes]
    for rank in ranks:
        rank.start()
    epochs = (windows.batches(8, shuffle=True, index=True, epoch=epoch) for epoch in range(2))
    due = [[number for *_, index in epoch for number in index.tolist()] for epoch in epochs]
    for (found, _), rank in zip(pipes, ranks, strict=True):
        assert found.poll(120)
        assert found.recv() == due
        rank.join(60)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_continues_after_any_batch_and_then_with_whole_epochs(
    windows, workers, load_statefully, batch_dataset
):
    wanted = list(windows.batches(9, shuffle=True, epoch=3))
    assert len(wanted) == 8
    for taken in (0, 1, 4, 7) if workers else range(8):
        loader = load_statefully(batch_dataset(windows.batches, 9, shuffle=True, epoch=3), num_workers=workers)
        batches = iter(loader)
        for _ in range(taken):
            next(batches)
        state = json.loads(json.dumps(loader.state_dict()))
        dataset = batch_dataset(windows.batches, 9, shuffle=True)  # at another epoch: that of the state is used
        resumed = load_statefully(dataset, num_workers=workers)
        resumed.load_state_dict(state)
        assert same(resumed, wanted[taken:])
        assert same(resumed, windows.batches(9, shuffle=True, epoch=4))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_saved_after_an_epoch_begins_the_one_that_is_set(
    windows, workers, load_statefully, batch_dataset
):
    loader = load_statefully(batch_dataset(windows.batches, 9, shuffle=True, epoch=3), num_workers=workers)
    list(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    dataset = batch_dataset(windows.batches, 9, shuffle=True)
    resumed = load_statefully(dataset, num_workers=workers)
    resumed.load_state_dict(state)
    dataset.set_epoch(4)
    assert same(resumed, windows.batches(9, shuffle=True, epoch=4))


def die_at_the_third(batch):
    """Kill the process, like the kernel if memory runs out; window 20 is in the third batch of 9."""
    if 20 in batch[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_that_is_killed_is_an_error_and_leaves_no_process_and_no_thread(windows, start, load, batch_dataset):
    processes = set(multiprocessing.active_children())
    dataset = batch_dataset(windows.batches, 9, index=True, transform=die_at_the_third)
    batches = iter(load(dataset, num_workers=2, multiprocessing_context=start))
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        list(batches)
    del batches
    gc.collect()
    assert set(multiprocessing.active_children()) <= processes
    assert not threads()  # those of torch that fed its queues end by themselves, a little later


def test_an_error_in_a_worker_keeps_its_type(windows, load, batch_dataset):
    def fail(_):
        raise ZeroDivisionError("by a user")

    batches: Any = iter(load(batch_dataset(windows.batches, 9, transform=fail), num_workers=2))
    with pytest.raises(ZeroDivisionError, match="by a user"):
        next(batches)
    batches._shutdown_workers()  # torch waits for 10 seconds if the garbage collector finds this


def test_an_error_that_cannot_be_pickled_is_reported(windows, load, batch_dataset):
    """torch drops it, and waits forever for that batch."""

    def fail(batch):
        class LocalError(Exception):
            pass

        if 20 in batch[2]:
            raise LocalError("by a user")
        return batch

    batches: Any = iter(load(batch_dataset(windows.batches, 9, index=True, transform=fail), num_workers=2))
    for _ in range(2):  # otherwise it would look like the end of an epoch
        with pytest.raises(WindowError, match="LocalError in a worker: by a user"):
            list(batches)
    batches._shutdown_workers()


@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork"), (2, "spawn")])
def test_a_loader_of_windows_gives_every_window_once_in_order(store, workers, start, data_loader):
    windows = store.windows(WINDOW, horizon=HORIZON)
    windows[0]  # caches are filled before the workers start
    loader = data_loader(windows, batch_size=5, num_workers=workers, multiprocessing_context=start)
    batches, wanted = list(loader), listed([*windows.store], windows.shape)
    assert [len(x) for x, _ in batches[:-1]] == [5] * (len(wanted) // 5)
    np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in batches]), [x for x, _ in wanted])
    np.testing.assert_array_equal(np.concatenate([y.numpy() for _, y in batches]), [y for _, y in wanted])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return walks(tmp_path_factory.mktemp("walks") / "walks.zarr", sequences=20, shard="200kB")


@pytest.mark.slow
def test_spawned_workers_read_a_url_and_forked_ones_refuse(folder, load, batch_dataset):
    due = store_spec.open_store(folder).windows(16, stride=4).batches(32, shuffle=True, seed=1)
    with serving(folder.parent) as server:
        windows = store_spec.open_store(f"{server.url}/walks.zarr").windows(16, stride=4)
        dataset = batch_dataset(windows.batches, 32, shuffle=True, seed=1)
        assert same(load(dataset, num_workers=2, multiprocessing_context="spawn"), due)
        forked = load(dataset, num_workers=1, multiprocessing_context="fork")
        begin = time.monotonic()
        with pytest.raises(Exception, match="obstore cannot be used in a forked process after its parent; start it by"):
            next(iter(forked))
        assert time.monotonic() - begin < 30


def seen_by(rank, windows, init):
    """Return the windows that a rank gets in each epoch, and those of the last one in a process without ranks."""
    from torch import distributed
    from torch.utils.data import DataLoader

    from store_spec.torch import BatchDataset

    def epoch_of(batches):
        return [number for *_, index in batches for number in index.tolist()]

    dataset = BatchDataset(windows.batches, 8, shuffle=True, drop_last=True, index=True)
    dataset = pickle.loads(pickle.dumps(dataset))  # created and sent here before there are ranks
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    try:
        loader = DataLoader(dataset, batch_size=None)
        seen = [epoch_of(loader) for _ in range(3)]
        sent = pickle.dumps(dataset)
    finally:
        distributed.destroy_process_group()
    # A worker that is not forked has no process group, but its copy of the dataset knows the rank.
    copy = pickle.loads(sent)
    copy.set_epoch(2)
    return seen, epoch_of(copy)


@pytest.mark.slow
def test_two_ranks_share_the_windows_of_each_epoch(windows, tmp_path, monkeypatch):
    """Together they have the batches of one process, which are twice as large."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        ranks = [processes.submit(seen_by, rank, windows, f"file://{tmp_path / 'meeting'}") for rank in (0, 1)]
        (first, first_alone), (second, second_alone) = (each.result(120) for each in ranks)
    for epoch, both in enumerate(zip(first, second, strict=True)):
        alone = windows.batches(16, shuffle=True, drop_last=True, index=True, epoch=epoch)
        assert np.ravel(both, order="F").tolist() == [number for *_, index in alone for number in index.tolist()]
    assert (first_alone, second_alone) == (first[-1], second[-1])
