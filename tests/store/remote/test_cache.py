"""The cache of remote shards: the same batches, bounded, shared by processes; damage, kills and full disks."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.disk import cache
from store_spec.disk.cache import PAGE, Cache
from store_spec.disk.object_storage import _in_memory
from store_spec.errors import SchemaError, StorageError
from tests.store.object_server import ObjectServer, serving, walks
from tests.store.zarr_stores import bits

BYTES = np.random.default_rng(0).integers(0, 256, 20 * PAGE + 777, np.uint8).tobytes()


class Server:
    """A server that has some bytes, and counts how many of them are fetched."""

    def __init__(self) -> None:
        self.fetched = 0

    def fetch(self, start: int, length: int) -> bytes:
        data = BYTES[start : start + length]
        self.fetched += len(data)
        return data


@given(
    st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(1, 6 * PAGE)), max_size=12),
    st.integers(0, 30).map(lambda pages: pages * PAGE),
)
def test_any_ranges_have_the_bytes_of_the_object_within_the_size_of_the_cache(tmp_path_factory, ranges, limit):
    folder, server = tmp_path_factory.mktemp("cache"), Server()
    for _ in range(2):
        pages = Cache(folder, limit, "a store")
        for start, length in ranges:
            assert bytes(pages.get("a shard", start, length, server.fetch)) == BYTES[start : start + length]
        on_disk = sum(np.count_nonzero(np.fromfile(file, "<u4")) for file in folder.rglob("*.crc"))
        assert pages.use.cached_bytes == on_disk * PAGE <= limit
    if limit >= len(BYTES) + PAGE:
        assert (pages.use.fetched_bytes, pages.use.hit_bytes > 0) == (0, bool(ranges))


def test_damaged_and_lost_pages_are_fetched_again(tmp_path):
    server, pages = Server(), Cache(tmp_path, 10**9, "a store")
    pages.get("a shard", 0, len(BYTES), server.fetch)
    (data,) = tmp_path.rglob("*.data")
    content = bytearray(data.read_bytes())
    content[5 * PAGE + 7] ^= 1
    data.write_bytes(content)
    assert pages.get("a shard", 0, len(BYTES), server.fetch) == BYTES
    assert server.fetched == len(BYTES) + PAGE
    data.write_bytes(data.read_bytes()[: 10 * PAGE])
    assert pages.get("a shard", 0, len(BYTES), server.fetch) == BYTES
    data.unlink()
    assert pages.get("a shard", 0, len(BYTES), server.fetch) == BYTES


def test_a_full_disk_stops_caching_without_an_error(tmp_path, monkeypatch):
    server, pages = Server(), Cache(tmp_path, 10**9, "a store")
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(cache, "_write_pages", full)
    assert pages.get("a shard", 0, 5 * PAGE, server.fetch) == BYTES[: 5 * PAGE]
    assert pages.use.cached_bytes == 0


def test_pages_of_unused_stores_are_removed(tmp_path):
    server = Server()
    for number in range(3):
        Cache(tmp_path, 6 * PAGE + 100, f"store {number}").get("a shard", 0, 2 * PAGE, server.fetch)
    new = Cache(tmp_path, 6 * PAGE + 100, "store 3")
    new.get("a shard", 0, PAGE, server.fetch)
    assert new.use.cached_bytes == 6 * PAGE  # all are in use, so there is no room
    for age, number in enumerate((1, 0), 1):
        folder = tmp_path / cache._hash(f"store {number}")
        os.utime(folder, (0, time.time() - 5000 - age))
    new = Cache(tmp_path, 6 * PAGE + 100, "store 3")
    new.get("a shard", 0, PAGE, server.fetch)
    assert new.use.cached_bytes == 5 * PAGE  # only the oldest was removed
    before = server.fetched
    Cache(tmp_path, 6 * PAGE, "store 1").get("a shard", 0, 2 * PAGE, server.fetch)
    assert server.fetched == before


def test_a_cache_that_cannot_be_used_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: this cache cannot be used: "):
        Cache(tmp_path / "file", 10, "a store")
    with pytest.raises(SchemaError, match=r"cache='.*' is for a store at a URL"):
        store_spec.open_store(tmp_path, cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ObjectServer]:
    """A server of a store of 1 MB with complete shards of 200 kB."""
    folder = tmp_path_factory.mktemp("served")
    walks(folder / "walks.zarr", sequences=20, chunk="8kB", shard="200kB")
    with serving(folder) as running:
        yield running


def epochs(url: str, folder: Path, size: int, numbers: range) -> tuple[list[Any], Any]:
    store = store_spec.open_store(url, cache=folder, cache_size=size)
    windows = store.windows(32, stride=8)
    batches = [
        bits(batch) for epoch in numbers for batch in windows.batches(64, shuffle=True, epoch=epoch, memory="600kB")
    ]
    return batches, store.cache_use


def test_a_cache_is_not_used_for_objects_in_memory(tmp_path):
    url: Any = "memory://cached/walks.zarr"
    for seed in (0, 1):
        _in_memory.cache_clear()  # as in another process
        walks(url, sequences=5, seed=seed, chunk="8kB", shard="80kB")
        found, use = epochs(url, tmp_path, 10**7, range(1))
        assert use is None
        windows = store_spec.open_store(url).windows(32, stride=8)
        assert found == [bits(batch) for batch in windows.batches(64, shuffle=True, memory="600kB")]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.7, 2])
def test_the_hit_rate_of_the_next_epoch_is_at_least_the_size_of_the_cache(share, server, tmp_path):
    url, folder = f"{server.url}/walks.zarr", server.folder / "walks.zarr"
    local = store_spec.open_store(folder).windows(32, stride=8)
    due = [bits(batch) for batch in local.batches(64, shuffle=True, epoch=0, memory="600kB")]
    total = sum(file.stat().st_size for name in ("inputs", "labels") for file in (folder / name).iterdir())
    size = int(share * total)
    batches, first = epochs(url, tmp_path, size, range(1))
    assert batches == due
    _, second = epochs(url, tmp_path, size, range(1, 2))
    assert second.hit_bytes / (second.hit_bytes + second.fetched_bytes) >= min(1, share) * 0.97
    assert second.cached_bytes <= size
    assert first.fetched_bytes > 0


def _take(url: str, folder: Path, barrier: Any, results: Any) -> None:
    barrier.wait(60)
    batches, use = epochs(url, folder, 10**9, range(1))
    results.put((len(batches), use.fetched_bytes))


@pytest.mark.slow
def test_processes_that_read_the_same_fetch_it_once(server, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    url = f"{server.url}/walks.zarr"
    alone, use = epochs(url, tmp_path / "alone", 10**9, range(1))
    processes = [context.Process(target=_take, args=(url, tmp_path / "cache", barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert {count for count, _ in found} == {len(alone)}
    assert sum(fetched for _, fetched in found) <= 1.1 * use.fetched_bytes


def _read_again_and_again(url: str, folder: Path) -> None:
    for number in range(1000):
        epochs(url, folder, 7 * 10**5, range(number, number + 1))


def test_a_fork_does_not_keep_a_lock(tmp_path):
    """A thread that reads ahead may hold one during a fork."""
    used = Cache(tmp_path / "cache", 10**6, "store")
    with used._locked("locks/abc"):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with (tmp_path / "cache" / "locks" / "abc").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_cache_that_is_removed_is_not_a_damaged_store(server, tmp_path):
    store = store_spec.open_store(f"{server.url}/walks.zarr", cache=tmp_path / "cache")
    (tmp_path / "cache").rename(tmp_path / "gone")
    with pytest.raises(StorageError, match="cache: this cache cannot be used: No such file"):
        store.read(0)


@pytest.mark.slow
def test_pages_of_a_killed_process_are_right_or_fetched_again(server, tmp_path):
    url = f"{server.url}/walks.zarr"
    context = multiprocessing.get_context("spawn")
    due, _ = epochs(url, tmp_path / "other", 10**9, range(1))
    for seconds in (0, 0.05, 0.2, 0.5):
        process = context.Process(target=_read_again_and_again, args=(url, tmp_path / "cache"))
        process.start()
        deadline = time.monotonic() + 60
        while not list((tmp_path / "cache").rglob("*.crc")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(seconds)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(20)
        batches, use = epochs(url, tmp_path / "cache", 7 * 10**5, range(1))
        assert batches == due
        assert use.cached_bytes <= 7 * 10**5
