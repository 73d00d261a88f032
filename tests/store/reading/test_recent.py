"""What readers keep: rows that were read last, in memory that is used again, and open files."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.disk import shards, storage
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.disk.tables import Tables
from store_spec.errors import ChecksumError, FormatError
from store_spec.format.codec import Codec
from tests.store.damage import contents, flipped, index, replace_file
from tests.store.forks import in_fork
from tests.store.oracle import same, store_of

STEPS, WIDTH = 60, 64
Stores = list[tuple[store_spec.Store, NDArray[np.float32]]]


def write(path: Path, rows: NDArray[np.float32]) -> store_spec.Store:
    """Write a store of one sequence, in chunks of 4 steps, and shards of 8."""
    row = 4 * WIDTH
    return store_of(path, [rows], [-rows[:, 0]], chunk=4 * row, shard=8 * row)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Two stores with different rows."""
    rows = np.arange(STEPS * WIDTH, dtype="float32").reshape(-1, WIDTH)
    return [(write(tmp_path_factory.mktemp("recent") / "s.zarr", each), each) for each in (rows, rows + 1000)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which chunks of shards are decompressed."""
    found: list[str] = []
    decode = Codec.decode

    def noted(codec: Codec, stored: Any, out: Any, where: str) -> None:
        if ": chunk " in where:
            found.append(where)
        decode(codec, stored, out, where)

    monkeypatch.setattr(Codec, "decode", noted)
    return found


@given(reads=st.lists(st.tuples(st.integers(0, 1), st.integers(0, STEPS), st.integers(0, 12)), max_size=25))
def test_any_reads_return_the_rows_of_their_store(stores: Stores, reads: list[tuple[int, int, int]]):
    for which, start, count in reads:
        store, rows = stores[which]
        stop = min(start + count, STEPS)
        x, y = store.read(0, start, stop)
        assert np.array_equal(x, rows[start:stop])
        assert np.array_equal(y, -rows[start:stop, 0])
    assert len(shards._RECENT.chunks) <= shards.MOST_CHUNKS


def test_rows_near_those_read_last_are_not_decompressed_again(stores: Stores, decoded: list[str]):
    store = store_spec.open_store(stores[0][0].path)
    store.read(0, 8, 10)
    assert len(decoded) == 2  # a chunk of inputs, one of labels
    for start in (9, 10, 11, 8):
        store.read(0, start, start + 1)
    assert len(decoded) == 2
    store.read(0, 10, 14)  # its first chunk is in memory
    store.read(0, 11, 13)
    assert len(decoded) == 4
    store_spec.open_store(stores[0][0].path).read(0, 8, 10)  # it may be of another commit
    assert len(decoded) == 6
    with ThreadPoolExecutor(1) as pool:
        pool.submit(store.read, 0, 8, 10).result()
    assert len(decoded) == 8


def test_the_chunks_that_were_used_last_are_cached_unless_they_are_large():
    chunks = shards._RecentChunks()
    keys: list[shards.ChunkKey] = [(chunks, "inputs", 0, number) for number in range(shards.MOST_CHUNKS + 2)]
    rows = [np.empty(100, np.uint8) for _ in keys]
    for key, each in zip(keys[:-1], rows, strict=False):
        chunks.add(key, each)
    assert list(chunks.chunks) == keys[1:-1]
    assert chunks.get(keys[0]) is None
    assert chunks.get(keys[1]) is rows[1]
    chunks.add(keys[-1], rows[-1])
    assert list(chunks.chunks) == [*keys[3:-1], keys[1], keys[-1]]
    chunks.add(keys[0], np.empty(shards.MOST_CHUNK_BYTES + 1, np.uint8))
    assert chunks.get(keys[0]) is None


def test_times_and_masks_in_order_decompress_each_chunk_once(tmp_path: Path, decoded: list[str]):
    row = 4 * WIDTH
    x = np.ones((STEPS, WIDTH), "float32")
    days = np.datetime64("2024-01-01") + np.arange(STEPS)
    more = [{"time": days.astype("datetime64[s]"), "filled": x == 0}]
    options: Any = {"time": "datetime64[s]", "filled": True, "chunk": 4 * row, "shard": 8 * row}
    store = store_of(tmp_path / "s.zarr", [x], [x[:, 0]], more=more, **options)
    for step in range(STEPS):
        assert store.times(0, step, step + 1) == days[step]
    chunks = len(decoded)
    assert chunks <= -(-STEPS // 4)
    windows = store.windows(3, value_mask=True)
    for number in range(len(windows)):
        assert windows[number][2].all()
    assert len(decoded) - chunks == 3 * -(-STEPS // 4)


@pytest.mark.parametrize("number", [1, STEPS // 8])  # one that is full, and the last one, which is kept whole
def test_after_an_error_the_files_are_read_again(tmp_path: Path, stores: Stores, number: int):
    """A repair may replace an older copy; rows that were read from that copy are outdated."""
    rows = stores[0][1]
    write(tmp_path / "older.zarr", np.zeros_like(rows))  # its chunks take fewer bytes
    write(tmp_path / "s.zarr", rows)
    name, step = f"inputs/c.{number}.0", number * 8 + 1
    store = store_spec.open_store(tmp_path / "s.zarr")
    right = (store.path / name).read_bytes()
    (store.path / name).write_bytes((tmp_path / "older.zarr" / name).read_bytes())
    assert store.read(0, step, step + 1)[0][0, 0] == 0  # nothing distinguishes a few rows from as many others
    with pytest.raises(ChecksumError, match="older copy"):
        store.read(0)
    replace_file(store.path / name, right)
    assert store.read(0, step, step + 1)[0][0, 0] == WIDTH * step
    assert np.array_equal(store.read(0)[0], rows)


def test_readers_without_a_cache_read_a_damaged_last_shard_once(tmp_path: Path, spy: Any):
    store = write(tmp_path / "s.zarr", np.arange(STEPS * WIDTH, dtype="float32").reshape(-1, WIDTH)[: STEPS - 1])
    key = f"inputs/c.{STEPS // 8}.0"
    for place in (20, -200):  # of its only chunk
        flipped(key, place)(store.path)
    get = spy(LocalStorage, "get")
    snapshot = pickle.loads(pickle.dumps(store.snapshot.slim()))
    for _ in range(3):
        with pytest.raises(ChecksumError):
            snapshot.rows("inputs", STEPS - 2, STEPS - 1)
    assert [call.args[1] for call in get.call_args_list].count(key) == 1


def test_a_read_keeps_its_files_when_another_thread_has_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Indexes and rows of different files are never combined, or cached as if they were of one file."""
    rows = np.arange(STEPS * WIDTH, dtype="float32").reshape(-1, WIDTH)
    write(tmp_path / "older.zarr", np.zeros_like(rows))
    store = write(tmp_path / "s.zarr", rows)
    file, right = store.path / "inputs" / "c.1.0", (store.path / "inputs" / "c.1.0").read_bytes()
    file.write_bytes((tmp_path / "older.zarr" / "inputs" / "c.1.0").read_bytes())
    get, met = shards.Shards._get, list[str]()

    def meanwhile(found: shards.Shards, one: Any, *place: int) -> bytes | memoryview:
        data = get(found, one, *place)
        if one.key == "inputs/c.1.0" and not met:
            met.append(one.key)
            replace_file(file, right)
            store.snapshot._forget(found)
        return data

    monkeypatch.setattr(shards.Shards, "_get", meanwhile)
    assert store.read(0, 9, 10)[0][0, 0] == 0  # of the older copy, whose bytes were read before
    assert met
    assert store.read(0, 9, 10)[0][0, 0] == 9 * WIDTH


def test_runs_of_missing_values_are_returned_if_another_thread_drops_them(tmp_path: Path):
    class Forgotten(dict[str, Any]):
        def __setitem__(self, name: str, runs: Any) -> None:
            """Keep nothing, as if it were forgotten at once."""

    x = np.array([[1], [np.nan], [3]], "float32")
    snapshot = store_of(tmp_path / "s.zarr", [x], missing="keep").snapshot
    snapshot._missing = Forgotten()
    assert snapshot.missing("inputs").tolist() == [[1, 2]]


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    """Return a store of many shards: each of 8 steps, in two chunks."""
    rows = np.arange(8 * 50 * 2, dtype="float32").reshape(-1, 2)
    return store_of(tmp_path / "s.zarr", [rows], [rows[:, 0]], chunk=32, shard=64)


def descriptors(store: store_spec.Store) -> list[str]:
    """Return the files below a store that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one of the listing
            continue
    return [path for path in found if path.startswith(f"{store.path}/")]


def test_files_of_chunks_stay_open_a_few_at_a_time_as_long_as_the_store(store, monkeypatch):
    monkeypatch.setattr(shards, "most_open_of_all", lambda: 10**6)  # files that stores of other tests have open
    mine, most = store_spec.open_store(store.path), 0
    for start in range(0, 380, 2):
        x, _ = mine.read(0, start, start + 2)
        assert x[0, 0] == 2 * start
        most = max(most, len(descriptors(store)))
    assert 1 < most <= shards.MOST_OPEN
    del mine
    assert not descriptors(store)


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_that_replaces_a_damaged_one_is_read(store, monkeypatch, cached):
    """A repair renames a file to it; a reader that keeps the old one open, or its index, would never see it."""
    monkeypatch.setattr(shards, "most_open_of_all", lambda: 10**6)
    name, slim = "inputs/c.1.0", store.snapshot.slim()
    path = store.path / name
    whole = path.read_bytes()
    damages: Any = [
        (index(name, 0, (0, 2**40)), FormatError),  # from here on, the file is open
        (contents(name, lambda data: bytes(20) + data[20:]), ChecksumError),
        (contents(name, lambda data: data[:20]), FormatError),
    ]

    def read() -> Any:
        return store.read(0, 8, 12)[0] if cached else slim.rows("inputs", 8, 12)

    for damage, error in damages if cached else damages[1:2]:  # without a cache an index is read once
        damage(store.path)
        with pytest.raises(error, match=r"c\.1\.0"):
            read()
        replace_file(path, whole)
        assert read()[0, 0] == 16


@pytest.mark.parametrize("deleted", [False, True])
def test_a_store_that_takes_the_place_of_an_open_one_is_not_read(tmp_path, monkeypatch, deleted):
    """It has the same lengths, so the tables and checksums of the open store would not show it."""
    monkeypatch.setattr(storage, "most_open_of_all", lambda: 10**6)  # folders that stores of other tests have open
    path, rows = tmp_path / "s.zarr", np.arange(80, dtype="float32").reshape(-1, 2)
    opened = store_of(path, [rows], [rows[:, 0]], chunk=32, shard=64)
    windows = opened.windows(2)
    path.rename(tmp_path / "old.zarr")
    store_of(path, [-rows], [rows[:, 0]], chunk=32, shard=64)
    if not deleted:
        assert same(opened.read(0, 3, 30)[0], rows[3:30])
        assert same(next(windows.batches(30)).inputs[:, 0], rows[:30])
        return
    shutil.rmtree(tmp_path / "old.zarr")
    for read in (lambda: opened.read(0, 3, 30), lambda: next(windows.batches(30)), opened.stats):
        with pytest.raises(store_spec.StoreError, match=r"missing; every committed chunk|without zarr\.json: no store"):
            read()
    assert store_spec.open_store(path).read(0, 3, 4)[0][0, 0] == -6


@pytest.mark.parametrize("how", ["pickled", "too many open folders", "in the same folder"])
@pytest.mark.parametrize("changed", ["rows", "lengths", "nothing", "appended"])
def test_a_store_that_takes_the_place_of_one_whose_folder_is_not_open_is_refused(tmp_path, monkeypatch, how, changed):
    """A store that continues it is read; an object without rows, such as statistics, can be used without any store."""
    monkeypatch.setattr(storage, "most_open_of_all", lambda: 0 if how == "too many open folders" else 10**6)
    path, rows = tmp_path / "s.zarr", [np.full((length, 2), length, "float32") for length in (20, 30, 10)]
    opened = store_of(path, rows, [one[:, 0] for one in rows], chunk=32, shard=64)
    objects = opened, opened.windows(6), opened.stats()
    data = pickle.dumps(objects)
    new = path if how != "in the same folder" else tmp_path / "new.zarr"
    if new == path:
        shutil.rmtree(path)
    if changed == "lengths":
        rows = [rows[1], rows[0], rows[2]]
    others = [-one for one in rows] if changed == "rows" else rows
    more = [others[0]] if changed == "appended" else []
    store_of(new, [*others, *more], [one[:, 0] for one in [*rows, *more]], chunk=32, shard=64)
    if new != path:  # as by rsync --delete, the root first
        for place in sorted(path.iterdir(), key=Path.is_dir):
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            shutil.move(new / place.name, place)
            if place.name == "zarr.json" and changed in ("rows", "lengths"):
                with pytest.raises(FormatError, match="another store was written here since this one was opened"):
                    objects[0].stats()
    store, windows, stats = pickle.loads(data) if how == "pickled" else objects
    assert stats.mean.tolist() == [pytest.approx(70 / 3)] * 2
    reads: list[Callable[[], Any]] = [
        lambda: store.read(1, 0, 3)[0],
        lambda: next(store.padded(2)).inputs,
        lambda: next(windows.batches(8)).inputs,
        store.stats,
        lambda: store.sources,
        lambda: store.array("inputs")[:],
    ]
    for read in reads:
        if changed in ("nothing", "appended"):
            read()
        else:
            with pytest.raises(FormatError, match="another store was written here since this one was opened"):
                read()


def test_a_new_root_is_compared_by_the_sequences_since_the_last_one(tmp_path, monkeypatch):
    rows, compared, read_all = np.ones((20, 2), "float32"), list[tuple[int, int]](), Tables.read_all
    snapshot = pickle.loads(pickle.dumps(store_of(tmp_path / "s.zarr", [rows] * 3))).snapshot

    def noted(self: Tables, names: Any, start: int = 0, stop: int | None = None) -> Any:
        compared.append((start, stop or -1))
        return read_all(self, names, start, stop)

    monkeypatch.setattr(Tables, "read_all", noted)
    for count in (4, 5):
        with store_spec.open_store(tmp_path / "s.zarr", "a") as writer:
            writer.append(rows, rows, source=f"later-{count}")
        compared.clear()
        snapshot.check_not_replaced()
        assert compared == [(count - 1, count)]


def test_a_forked_child_compares_a_new_root_while_a_thread_of_its_parent_does(tmp_path):
    rows = np.ones((20, 2), "float32")
    snapshot = store_of(tmp_path / "s.zarr", [rows], [rows[:, 0]], chunk=32, shard=64).snapshot
    with store_spec.open_store(tmp_path / "s.zarr", "a") as writer:
        writer.append(rows, rows[:, 0], source="later")
    held, done = threading.Event(), threading.Event()

    def compare() -> None:
        with snapshot._comparing():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=compare)
    thread.start()
    try:
        assert held.wait(60)
        in_fork(snapshot.check_not_replaced)
    finally:
        done.set()
        thread.join()


def test_a_forked_child_computes_a_property_while_a_thread_of_its_parent_does(tmp_path, monkeypatch):
    rows = np.ones((20, 2), "float32")
    store = store_of(tmp_path / "s.zarr", [rows], [rows[:, 0]])
    other, computing, done, sources = store[[0]], threading.Event(), threading.Event(), Snapshot.sources

    def slow(snapshot: Snapshot) -> Any:
        if threading.current_thread() is thread:
            computing.set()
            done.wait(60)
        return sources(snapshot)

    monkeypatch.setattr(Snapshot, "sources", slow)
    thread = threading.Thread(target=lambda: store.sources)
    thread.start()
    try:
        assert computing.wait(60)
        assert len(in_fork(lambda: other.sources)) == 1
    finally:
        done.set()
        thread.join()


def test_all_stores_of_a_process_keep_a_quarter_of_the_files_open_that_it_may_have():
    program = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    program += "from store_spec.disk import storage; print(storage.most_open_of_all())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "25\n"
    assert storage.most_open_of_all() <= 256


def test_with_too_many_stores_files_are_closed_at_once(store: store_spec.Store, monkeypatch: pytest.MonkeyPatch):
    most = 3 + len(shards._ALL_OPEN)
    monkeypatch.setattr(shards, "most_open_of_all", lambda: most)
    monkeypatch.setattr(storage, "most_open_of_all", lambda: 0)
    folders = len(storage._OPEN_FOLDERS)
    stores = [store_spec.open_store(store.path) for _ in range(4)]
    assert len(storage._OPEN_FOLDERS) <= folders
    for one in [store, *stores]:
        for start in (0, 100, 200):
            assert one.read(0, start, start + 1)[0][0, 0] == 2 * start
    assert len(descriptors(store)) <= 3


# Prints how many pages were new while 8 blocks of 1 MiB were taken and freed ten times.
NEW_PAGES = """
import resource, sys
import numpy as np, store_spec
for path in sys.argv[1:]:
    store_spec.open_store(path)
for turn in range(13):
    blocks = [np.ones(2**20, np.uint8) for _ in range(8)]
    del blocks
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_used_again_once_a_store_is_open(tmp_path: Path):
    write(tmp_path / "s.zarr", np.zeros((8, WIDTH), "float32"))

    def new_pages(*paths: Path) -> int:
        # Without the settings of glibc that a cluster of dask in another test leaves behind.
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        return int(subprocess.check_output([sys.executable, "-c", NEW_PAGES, *map(str, paths)], env=variables))

    assert new_pages(tmp_path / "s.zarr") <= new_pages() // 10
