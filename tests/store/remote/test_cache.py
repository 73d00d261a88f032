"""The cache of remote shards: the same batches, bounded, shared by processes and stores; damage, kills, full disks."""

import errno
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import obstore
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from obstore.store import MemoryStore
from zarr.storage import ObjectStore

import store_spec
from store_spec.disk import cache
from store_spec.disk.cache import PAGE, Cache, _page_bytes
from store_spec.disk.object_storage import ObjectStorage, _in_memory
from store_spec.errors import FormatError, SchemaError, StorageError
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
@example([(20 * PAGE, PAGE + 1)], PAGE)  # reaches beyond the last page, which is in the cache
def test_any_ranges_have_the_bytes_of_the_object_within_the_size_of_the_cache(tmp_path_factory, ranges, limit):
    folder, server = tmp_path_factory.mktemp("cache"), Server()
    for _ in range(2):
        pages = Cache(folder, limit, "a store")
        for start, length in ranges:
            assert bytes(pages.get("a shard", "1", start, length, server.fetch)) == BYTES[start : start + length]
        on_disk = sum(np.count_nonzero(np.fromfile(file, "<u4")) for file in folder.rglob("*.crc"))
        assert pages.use.cached_bytes == on_disk * PAGE <= limit
    if limit >= len(BYTES) + PAGE:
        assert (pages.use.fetched_bytes, pages.use.hit_bytes > 0) == (0, bool(ranges))


def test_damaged_and_lost_pages_are_fetched_again(tmp_path):
    server, pages = Server(), Cache(tmp_path, 10**9, "a store")
    pages.get("a shard", "1", 0, len(BYTES), server.fetch)
    (data,) = tmp_path.rglob("*.data")
    content = bytearray(data.read_bytes())
    content[5 * PAGE + 7] ^= 1
    data.write_bytes(content)
    assert pages.get("a shard", "1", 0, len(BYTES), server.fetch) == BYTES
    assert server.fetched == len(BYTES) + PAGE
    data.write_bytes(data.read_bytes()[: 10 * PAGE])
    assert pages.get("a shard", "1", 0, len(BYTES), server.fetch) == BYTES
    data.unlink()
    assert pages.get("a shard", "1", 0, len(BYTES), server.fetch) == BYTES


def test_a_full_disk_stops_caching_without_an_error(tmp_path, monkeypatch):
    server, pages = Server(), Cache(tmp_path, 10**9, "a store")
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    monkeypatch.setattr(cache, "_write_pages", full)
    assert pages.get("a shard", "1", 0, 5 * PAGE, server.fetch) == BYTES[: 5 * PAGE]
    assert pages.use.cached_bytes == 0


def test_overlapping_requests_fetch_each_page_once(tmp_path):
    """The second request fetches what the first one does not, and waits for the rest."""
    server, asked, answer = Server(), threading.Event(), threading.Event()

    def slow(start: int, length: int) -> bytes:
        asked.set()
        assert answer.wait(60)
        return server.fetch(start, length)

    def other(start: int, length: int) -> bytes:
        answer.set()
        return server.fetch(start, length)

    pages = Cache(tmp_path, 10**9, "a store")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(pages.get, "a shard", "1", 0, 4 * PAGE, slow)
        assert asked.wait(60)
        assert pages.get("a shard", "1", 2 * PAGE, 4 * PAGE, other) == BYTES[2 * PAGE : 6 * PAGE]
        assert first.result() == BYTES[: 4 * PAGE]
    assert server.fetched == pages.use.fetched_bytes == 6 * PAGE
    assert pages.get("a shard", "1", 0, 6 * PAGE, server.fetch) == BYTES[: 6 * PAGE]
    assert server.fetched == 6 * PAGE


def test_pages_that_a_killed_process_was_fetching_are_fetched(tmp_path):
    server, pages = Server(), Cache(tmp_path, 10**9, "a store")
    child = os.fork()
    if not child:
        pages.get("a shard", "1", 0, 4 * PAGE, lambda *_: threading.Event().wait(60) * b"")
        os._exit(0)

    def killing(start: int, length: int) -> bytes:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return server.fetch(start, length)

    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("*.0-4")) and time.monotonic() < deadline:
        time.sleep(0.01)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(pages.get, "a shard", "1", PAGE, 2 * PAGE, server.fetch)
        assert pages.get("a shard", "1", 4 * PAGE, 2 * PAGE, killing) == BYTES[4 * PAGE : 6 * PAGE]
        assert waiting.result(60) == BYTES[PAGE : 3 * PAGE]
    assert not list(tmp_path.rglob("*.*-*"))


def test_stores_share_a_full_cache_equally(tmp_path):
    server, limit = Server(), 12 * PAGE
    stores = [Cache(tmp_path, limit, f"store {number}") for number in range(3)]
    kept = []
    for _ in range(2):
        for store in stores:
            for start in range(0, 12 * PAGE, 2 * PAGE):
                shard = f"shard {start // (4 * PAGE)}"
                assert store.get(shard, "1", start, 2 * PAGE, server.fetch) == BYTES[start : start + 2 * PAGE]
            assert store.use.cached_bytes <= limit
        kept.append([_page_bytes(tmp_path / cache._hash(f"store {number}")) // PAGE for number in range(3)])
    assert kept == [[4, 4, 4], [4, 4, 4]]


def test_pages_of_unused_stores_are_removed_first(tmp_path):
    server = Server()
    for number in range(3):
        Cache(tmp_path, 6 * PAGE, f"store {number}").get("a shard", "1", 0, (1, 1, 4)[number] * PAGE, server.fetch)
    (tmp_path / "not ours").mkdir()
    for name in (cache._hash("store 1"), "not ours"):
        os.utime(tmp_path / name, (0, time.time() - 5000))
    new = Cache(tmp_path, 6 * PAGE, "store 3")
    new.get("a shard", "1", 0, PAGE, server.fetch)
    left = [_page_bytes(tmp_path / cache._hash(f"store {number}")) // PAGE for number in range(4)]
    assert (tmp_path / "not ours").exists()
    assert left == [1, 0, 4, 1]
    assert new.use.cached_bytes == 6 * PAGE


def test_pages_of_an_older_build_are_removed(tmp_path):
    server, pages = Server(), Cache(tmp_path, 8 * PAGE, "a store")
    for shard in ("a shard", "a shard that only the older build had"):
        pages.get(shard, "1", 0, 4 * PAGE, server.fetch)
    pages.get("a shard", "2", 0, 2 * PAGE, server.fetch)
    assert pages.use.cached_bytes == 2 * PAGE == _page_bytes(tmp_path / cache._hash("a store"))


def test_pages_of_a_shard_that_another_thread_found_replaced_are_not_kept(tmp_path, monkeypatch):
    memory, get = MemoryStore(), Cache.get
    storage = ObjectStorage(ObjectStore(memory), cached=(tmp_path, 10**6))
    obstore.put(memory, "shard", bytes(PAGE))
    storage.get("shard", -8)

    def get_late(*arguments: Any) -> Any:
        obstore.put(memory, "shard", b"1" * PAGE)
        storage.get("shard", -8)  # as another thread, which reads the index again
        return get(*arguments)

    monkeypatch.setattr(Cache, "get", get_late)
    with pytest.raises(FormatError, match="shard: replaced since its index was read"):
        storage.get("shard", 0, 8)
    assert storage.cache is not None
    assert storage.cache.use.cached_bytes == 0


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


def _take(url: str, folder: Path, rank: int, barrier: Any, results: Any) -> None:
    store = store_spec.open_store(url, cache=folder)
    barrier.wait(60)
    batches = store.windows(32, stride=8).batches(16, shuffle=True, memory="600kB", rank=rank, world_size=8)
    count, use = sum(1 for _ in batches), store.cache_use
    assert use is not None
    results.put((count, use.fetched_bytes))


@pytest.mark.slow
def test_eight_ranks_fetch_each_page_once(server, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.Queue()
    url = f"{server.url}/walks.zarr"
    processes = [
        context.Process(target=_take, args=(url, tmp_path / "cache", rank, barrier, results)) for rank in range(8)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert len({count for count, _ in found}) == 1
    used = Cache(tmp_path / "cache", 10**9, url)
    ends = sum(PAGE - 1 for _ in used.folder.glob("*/*/*.data"))  # the last page of a shard is shorter
    assert used.use.cached_bytes - ends <= sum(fetched for _, fetched in found) <= used.use.cached_bytes


def _read_again_and_again(url: str, folder: Path) -> None:
    for number in range(1000):
        epochs(url, folder, 7 * 10**5, range(number, number + 1))


def test_a_fork_does_not_keep_a_lock(tmp_path):
    """A thread that reads ahead may hold one during a fork."""
    used = Cache(tmp_path / "cache", 10**6, "store")
    with used._locked():
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with (tmp_path / "cache" / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_child_does_not_keep_the_claim_of_a_killed_parent(tmp_path):
    server, (reading, writing) = Server(), os.pipe()
    parent = os.fork()
    if not parent:
        pages = Cache(tmp_path, 10**9, "a store")

        def fork(*_: int) -> bytes:
            child = os.fork()
            if child:
                os.write(writing, child.to_bytes(8, "little"))
            time.sleep(60)
            os._exit(0)

        pages.get("a shard", "1", 0, 4 * PAGE, fork)
    child = int.from_bytes(os.read(reading, 8), "little")
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(Cache(tmp_path, 10**9, "a store").get, "a shard", "1", 0, 4 * PAGE, server.fetch)
            assert waiting.result(30) == BYTES[: 4 * PAGE]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_claim_that_cannot_be_removed_is_not_waited_for_again(tmp_path, monkeypatch):
    server, pages = Server(), Cache(tmp_path, 10**9, "a store")
    monkeypatch.setattr(Path, "unlink", mock.Mock(side_effect=PermissionError))
    assert pages.get("a shard", "1", 0, 2 * PAGE, server.fetch) == BYTES[: 2 * PAGE]
    (claim,) = tmp_path.rglob("*.0-2")
    claim.with_suffix(".crc").write_bytes(bytes(8))
    assert pages.get("a shard", "1", 0, 2 * PAGE, server.fetch) == BYTES[: 2 * PAGE]


def test_a_short_answer_is_an_error_and_not_kept(tmp_path):
    path = walks(tmp_path / "walks.zarr", sequences=6, shard="50kB")
    with serving(tmp_path) as server:
        store = store_spec.open_store(f"{server.url}/walks.zarr", cache=tmp_path / "cache")
        store.snapshot.rows("inputs", 0, 1)
        steps = store.counts.steps
        server.faults = dict.fromkeys(range(server.count, server.count + 100), "short")
        with pytest.raises(FormatError, match=r"the server sent [\d,]+ bytes, and claims"):
            store.snapshot.rows("inputs", 0, steps)
        server.faults = {}
        due = store_spec.open_store(path).snapshot.rows("inputs", 0, steps)
        assert np.array_equal(store.snapshot.rows("inputs", 0, steps), due)


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
