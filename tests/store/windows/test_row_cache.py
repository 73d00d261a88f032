"""Rows that stay in memory between epochs: batches of later epochs, compared with those of new windows."""

import pickle
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import ChecksumError, StoreError, WindowError
from store_spec.windows import loading, order
from store_spec.windows import rows_in_memory as rows_module
from store_spec.windows.rows_in_memory import MOST_IDLE, CachedRows, Ranges, RowCache
from store_spec.windows.windows import Windows
from tests.store.forks import in_fork
from tests.store.window_oracle import LENGTHS, all_same, write_numbered


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    return write_numbered(tmp_path / "s.zarr", "step", chunk=8).store


def cached_rows(windows: Windows) -> CachedRows | None:
    """Return the cached rows, and leave them in the cache."""
    kept = windows.row_cache.take()
    if kept is not None:
        windows.row_cache.give_back(kept)
    return kept


def empty_shards(store: store_spec.Store) -> None:
    """Empty all shards, so that later rows can only come from memory."""
    for name in ("inputs", "labels"):
        for path in (store.path / name).glob("c.*"):
            path.write_bytes(b"")


def batches_read(batches: Any) -> list[tuple[Any, ...]]:
    """Return copies of batches, made as soon as they come."""
    return [tuple(array.copy() for array in batch) for batch in batches]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("shape", [{}, {"stride": 3, "phase": "random"}], ids=["all", "a random phase"])
def test_rows_that_fit_into_memory_are_read_once(store, shape, shuffle):
    """With other starts in each epoch, and by any rank."""
    windows = store.windows(4, **shape)
    epochs: list[dict[str, Any]] = [
        {"shuffle": shuffle, "epoch": epoch, "rank": rank, "world_size": 2} for epoch, rank in product((1, 2), (0, 1))
    ]
    wanted = [batches_read(store.windows(4, **shape).batches(5, **one)) for one in epochs]
    assert batches_read(windows.batches(5))
    empty_shards(store)
    for one, each in zip(epochs, wanted, strict=True):
        assert all_same(batches_read(windows.batches(5, **one)), each)
    with pytest.raises(StoreError):
        list(store.windows(4, **shape).batches(5))


def test_rows_of_an_unfinished_loop_are_kept_and_others_read_later(store, monkeypatch, spy):
    windows, read_rows = store.windows(4), spy(Snapshot, "rows")

    def rows_read() -> list[int]:
        calls = [call.args[1:] for call in read_rows.call_args_list]
        return [row for name, start, stop in calls if name == "inputs" for row in range(start, stop)]

    monkeypatch.setattr(order, "ORDERED_POOL_BYTES", 1000)  # of many pools, at most two are read ahead
    monkeypatch.setattr(order, "unit_size", lambda *_, **__: 4)
    batches = windows.batches(1)
    first = next(batches)
    batches.close()
    half = len(rows_read())
    assert 0 < half < sum(LENGTHS)
    assert all_same([first], batches_read(windows.batches(1))[:1])
    rows = rows_read()
    assert sum(LENGTHS) == len(set(rows)) <= len(rows) < sum(LENGTHS) + half


def test_rows_of_a_chunk_that_could_not_be_read_are_not_kept(store: store_spec.Store):
    windows = store.windows(4)
    path = store.path / "inputs" / "c.0.0"
    whole = path.read_bytes()
    path.write_bytes(bytes(40) + whole[40:])
    for _ in range(2):
        with pytest.raises(ChecksumError, match=r"inputs/c\.0\.0"):
            list(windows.batches(5))
    path.write_bytes(whole)
    assert all_same(batches_read(windows.batches(5)), batches_read(store.windows(4).batches(5)))


def test_two_epochs_at_a_time_have_rows_of_their_own(store: store_spec.Store):
    windows = store.windows(4)
    wanted = [batches_read(store.windows(4).batches(5, shuffle=True, epoch=epoch)) for epoch in (0, 1)]
    for _ in range(2):  # nothing is read for the second
        pairs = list(zip(*(windows.batches(5, shuffle=True, epoch=epoch) for epoch in (0, 1)), strict=True))
        assert all(all_same([pair[epoch] for pair in pairs], wanted[epoch]) for epoch in (0, 1))
        empty_shards(store)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"stride": 3}, {"short": "pad"}])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_are_kept_within_the_memory_beside_that_of_pools_and_dropped_where_there_is_less(store, options, weighted):
    windows, rows = store.windows(4, **options), sum(LENGTHS)
    needed = rows * windows.columns["inputs"].nbytes + rows * windows.columns["labels"].nbytes
    weights = np.ones(len(LENGTHS)) if weighted else None
    sizes = {}
    for memory in range(4000, 100_000, 1500):
        try:
            batches = windows.batches(2, shuffle=True, memory=memory, weights=weights)
        except WindowError:
            continue
        order, planned = batches._plan.order, batches._plan.kept is not None
        list(batches)
        kept = cached_rows(windows)
        sizes[memory] = 0 if kept is None else sum(array.nbytes for array in kept.space.values())
        assert sizes[memory] >= needed if planned else not sizes[memory]  # more with a row of padding
        assert sizes[memory] + 2 * order.beside * planned <= memory * 6 // 8
    assert max(sizes.values()) < needed + 100
    assert needed < max(memory for memory, size in sizes.items() if not size) < 12 * needed  # pieces take the most here
    list(windows.batches(2, memory=min(sizes)))
    assert cached_rows(windows) is None


def test_a_cache_made_with_more_memory_is_dropped_if_too_large(tmp_path: Path):
    """So are rows between those of a selection, which were joined."""
    store = write_numbered(tmp_path / "s.zarr", "step", chunk=64).store
    windows = store.select([2, 4, 6, 8, 10, 12, 14]).windows(4)
    list(windows.batches(5))
    most = windows.row_cache.take()
    assert most is not None
    windows.row_cache.give_back(most)
    memory = next(memory for memory in range(4000, 10**6, 100) if fits(windows, memory))
    list(windows.batches(5, memory=memory))
    kept = cached_rows(windows)
    assert kept is not None
    assert kept.ranges.rows < most.ranges.rows


def fits(windows: Windows, memory: int) -> bool:
    try:
        return windows.batches(5, memory=memory)._plan.kept is not None
    except WindowError:
        return False


@pytest.mark.parametrize("readers", [1, 2])  # one is helped by a thread that gathers
def test_rows_are_returned_to_the_cache_after_the_last_write(store, readers, monkeypatch):
    windows, reading, go_on = store.windows(4), threading.Event(), threading.Event()
    read_rows = Snapshot.rows

    def slow(self: Snapshot, name: str, start: int, stop: int, **more: Any) -> Any:
        if start >= 16:  # of the third pool or a later one
            if name == "inputs":
                assert reading.wait(60)
                raise ChecksumError("inputs")
            reading.set()
            assert go_on.wait(60)
        return read_rows(self, name, start, stop, **more)

    def help_later(self: loading.Loader, load: Any = loading.Loader.help) -> None:
        time.sleep(0.2)  # then a thread of its own has begun to read the next pool
        load(self)

    monkeypatch.setattr(Snapshot, "rows", slow)
    monkeypatch.setattr(loading.Loader, "help", help_later)
    monkeypatch.setattr(loading, "threads", lambda *share: readers if share else 2)
    monkeypatch.setattr(order, "ORDERED_POOL_BYTES", 1000)
    monkeypatch.setattr(order, "unit_size", lambda *_, **__: 4)
    batches = windows.batches(1)
    for _ in range(4):  # those of the first pool
        next(batches)
    assert reading.wait(60)
    time.sleep(0.2)  # then the error would end the epoch while a thread still writes
    assert windows.row_cache.take() is None
    go_on.set()
    with pytest.raises(ChecksumError):
        list(batches)
    assert cached_rows(windows) is not None


def test_only_a_few_windows_keep_rows(store: store_spec.Store):
    each = [store.windows(4) for _ in range(MOST_IDLE + 1)]
    for windows in each:
        list(windows.batches(5))
    assert [cached_rows(windows) is None for windows in each] == [True] + [False] * MOST_IDLE
    list(each[1].batches(5))  # now the last one
    list(each[0].batches(5))
    assert [cached_rows(windows) is None for windows in each] == [False, False, True] + [False] * (MOST_IDLE - 2)


def test_deleted_and_pickled_windows_keep_no_rows(store: store_spec.Store):
    windows = store.windows(4)
    before = len(pickle.dumps(windows))
    list(windows.batches(5))
    assert len(pickle.dumps(windows)) < before + sum(LENGTHS)
    assert cached_rows(pickle.loads(pickle.dumps(windows))) is None
    number = id(windows.row_cache)
    reference = rows_module._RECENT[number]
    del windows
    assert reference() is None


def test_the_larger_of_two_caches_is_kept():
    none, one = np.zeros(0, np.int64), np.ones(1, np.int64)
    more, less = (CachedRows(ranges=Ranges(start=none, stop=none)) for _ in range(2))
    more.add("inputs", 0 * one, 2 * one)
    less.add("inputs", 0 * one, one)
    for first, second in ((more, less), (less, more)):
        keeper = RowCache()
        keeper.give_back(first)
        keeper.give_back(second)
        assert keeper.take() is more


def test_a_fork_between_epochs_has_the_cached_rows(store: store_spec.Store):
    windows = store.windows(4)
    wanted = batches_read(windows.batches(5, shuffle=True))
    empty_shards(store)
    assert in_fork(lambda: all_same(batches_read(windows.batches(5, shuffle=True)), wanted))
    assert all_same(batches_read(windows.batches(5, shuffle=True)), wanted)
