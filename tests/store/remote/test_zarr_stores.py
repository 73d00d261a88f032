"""Stores of zarr are read like the folder from which they were copied: in threads, after a fork, and when damaged."""

import itertools
import multiprocessing
import pickle
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from zarr.storage import MemoryStore, WrapperStore

import builder
import store_spec
from store_spec import FormatError, errors
from store_spec.disk.storage import LocalStorage, storage_of
from tests.store.forks import in_fork
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FAULTS, read_and_compare
from tests.store.zarr_stores import (
    EACH_KIND,
    KINDS,
    KINDS_OF_GOLDEN,
    URL,
    in_memory,
    in_memory_of_obstore,
    read,
    read_elsewhere,
)

every_kind = pytest.mark.parametrize("kind", EACH_KIND)
every_kind_of_golden = pytest.mark.parametrize(("kind", "folder"), KINDS_OF_GOLDEN, indirect=["folder"])
BY_NAME = {golden.name: golden for golden in STORES}


@pytest.fixture
def folder(request, tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN / f"{request.param.name}.zarr", tmp_path / "golden.zarr"))


@pytest.fixture
def rivers(tmp_path) -> Path:
    """A store with times, whose labels are on the step axis."""
    return Path(shutil.copytree(GOLDEN / "rivers.zarr", tmp_path / "rivers.zarr"))


@every_kind_of_golden
def test_each_kind_of_store_gives_the_bits_of_the_folder(placed, kind, folder):
    assert read(placed(kind, folder)) == read(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* this server does not list keys")
@every_kind_of_golden
def test_inspect_and_verify_say_the_same_of_each_kind_as_of_the_folder(placed, kind, folder):
    store = placed(kind, folder)
    found = builder.inspect(store)
    assert replace(found, store=folder) == builder.inspect(folder)
    assert repr(found)
    assert found.to_json()["store"] == str(found.store)
    assert store_spec.verify(store) == builder.verify(store, workers=0) == []


@pytest.mark.parametrize("name", ["labels-nowhere", "sequences-nowhere"])
def test_a_remote_store_that_claims_chunks_without_end_is_refused_at_the_first(name, tmp_path):
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    fault.assemble(tmp_path / "s.zarr")
    (tmp_path / "s.zarr/offsets/c.0").unlink(missing_ok=True)
    with pytest.raises(FormatError, match="missing"):
        store_spec.open_store(in_memory_of_obstore(tmp_path / "s.zarr"))[0]


@pytest.mark.slow
@every_kind
def test_each_kind_can_be_read_in_threads_and_pickled(placed, kind, rivers):
    store, due = store_spec.open_store(placed(kind, rivers)), read(rivers)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(read_elsewhere, store, due) for _ in range(8)]:
            done.result()
    if kind != "ObjectStore of memory":  # obstore refuses to pickle it
        read_elsewhere(pickle.loads(pickle.dumps(store)), due)


@pytest.mark.slow
@every_kind
def test_each_kind_can_be_read_after_a_fork_or_refuses(placed, kind, rivers):
    due, store = read(rivers), store_spec.open_store(placed(kind, rivers))
    read_elsewhere(store, due)

    def refused() -> None:
        with pytest.raises(errors.StorageError, match="obstore cannot be used in a forked process"):
            store.snapshot.rows("inputs", 0, 1)
        with pytest.raises(errors.StorageError, match="obstore cannot be used in a forked process"):
            store_spec.open_store(placed(kind, rivers))

    in_fork(refused if kind.startswith("ObjectStore") or kind == URL else partial(read_elsewhere, store, due))
    read_elsewhere(store, due)


def test_a_zip_file_is_read_by_two_processes_at_once(rivers):
    """An open file has one position: a child that shared it would move that of the parent."""
    due, store = read(rivers), store_spec.open_store(KINDS["ZipStore"](rivers))
    read_elsewhere(store, due)

    def again_and_again() -> None:
        for _ in range(10):
            store.snapshot.storage.get("inputs/c.0.0", 0, 40)
            read_elsewhere(store, due)

    with ThreadPoolExecutor(1) as pool:
        forked = multiprocessing.get_context("fork").Process(target=again_and_again)
        forked.start()
        done = pool.submit(again_and_again)
        forked.join(60)
        assert forked.exitcode == 0
        done.result()


@every_kind
def test_each_kind_returns_ranges_like_a_folder(placed, kind, tmp_path):
    (tmp_path / "s" / "a").mkdir(parents=True)
    (tmp_path / "s" / "a" / "few").write_bytes(b"0123456789")
    (tmp_path / "s" / "a" / "none").write_bytes(b"")
    local, storage = LocalStorage(tmp_path / "s"), storage_of(placed(kind, tmp_path / "s"))
    for key in ("a/few", "a/none"):
        assert storage.size(key) == local.size(key)
        for start in (-20, -10, -3, 0, 4, 9, 10, 11, 30):
            assert bytes(storage.get(key, start)) == local.get(key, start), (key, start)
        for start, length in itertools.product([0, 4, 9, 10, 11, 30], [0, 1, 6, 10, 40]):
            assert bytes(storage.get(key, start, length)) == local.get(key, start, length), (key, start, length)
    for key in ("a/other", "other/few"):
        assert storage.size(key) == 0
        with pytest.raises(errors.MissingStoreError, match=f"{key}: there is no such"):
            storage.get(key, 3, 4)
    if kind != URL:
        assert storage.list("a") == ["few", "none"]
        assert storage.list() == ["a"]
        assert list(storage.list("other")) == []


class Counting(WrapperStore[MemoryStore]):
    """Count how often each key is read, and fail for chosen keys."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.gets: Counter[str] = Counter()
        self.failing = ""

    async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
        self.gets[key] += 1
        if key == self.failing:
            raise RuntimeError("503 slow down")
        return await super().get(key, *arguments, **options)


def test_errors_of_object_stores_become_ours_and_name_the_key(rivers):
    store = Counting(in_memory(rivers))
    opened = store_spec.open_store(store)
    store.failing = "inputs/c.0.0"
    with pytest.raises(errors.UnreadableError, match=r"inputs/c\.0\.0: reading failed: RuntimeError: 503 slow down"):
        opened.snapshot.rows("inputs", 0, 1)
    assert [problem.where for problem in store_spec.verify(store)] == ["inputs/c.0.0"]
    store.failing = ""
    read_elsewhere(opened, read(rivers))


def test_zarr_stores_without_a_store_are_refused(tmp_path):
    with pytest.raises(errors.SchemaError, match="7 is neither a path nor a store of zarr"):
        store_spec.open_store(7)  # type: ignore[call-overload]
    with pytest.raises(errors.MissingStoreError, match=r"memory://.*: a folder without zarr\.json"):
        store_spec.open_store(MemoryStore())
    with pytest.raises(errors.SchemaError, match=r"memory://.*: stores are written to folders, to s3"):
        store_spec.open_store(MemoryStore(), "a")
    with pytest.raises(errors.MissingStoreError, match="there is no store"):
        store_spec.open_store(KINDS["LocalStore"](tmp_path / "none"))


def test_a_store_has_its_location(rivers):
    assert store_spec.open_store(KINDS["LocalStore"](rivers)).path == rivers
    store = store_spec.open_store(KINDS["ZipStore"](rivers))
    assert str(store.path).startswith("zip://")
    assert f"<seqzarr store {store.path.name}: " in repr(store)
    assert store.path.name.startswith("rivers.zarr-")
    with pytest.raises(errors.SequenceIndexError, match=f"^{store.path}: sequence 99 asked for"):
        store[99]


# A store of zarr has neither links nor folders, and cannot have a file larger than memory.
OTHER_ERRORS = {
    "root-is-folder": ("MissingStoreError", "a folder without zarr.json"),
    "array-folder-missing": ("FormatError", "stats/inputs_m2: 0 chunks where 1 are committed"),
    "group-folder-missing": ("FormatError", "sequences/"),
    "column-folder-missing": ("FormatError", "sequences/age: "),
    "time-folder-missing": ("FormatError", "time/c.0: missing"),
    "array-folder-is-file": ("FormatError", "offsets: "),
    "table-chunk-is-folder": ("FormatError", "offsets/c.0: missing"),
}
NOT_IN_MEMORY = {fault.name for fault in FAULTS if fault.name.endswith(("-link", "-huge"))}
# Every third of the damages that the same code refuses as on disk.
IN_MEMORY = [fault for fault in FAULTS[::3] if fault.name not in NOT_IN_MEMORY | set(OTHER_ERRORS)]
IN_MEMORY += [fault for fault in FAULTS if fault.name in OTHER_ERRORS]


@pytest.mark.slow
@pytest.mark.parametrize("fault", IN_MEMORY, ids=lambda fault: fault.name)
def test_a_malformed_store_in_memory_is_refused_as_on_disk(fault, tmp_path):
    path = tmp_path / "store.zarr"
    (fault.assemble if fault.committed else fault.make)(path)
    store = in_memory(path)
    with pytest.raises(errors.StoreError) as caught:
        read_and_compare(store, BY_NAME[fault.base])
    due = OTHER_ERRORS.get(fault.name, (fault.error, fault.text))
    assert type(caught.value).__name__ == due[0]
    assert due[1] in str(caught.value)
    if due[0] == "MissingStoreError":
        return
    if fault.name in OTHER_ERRORS:
        assert store_spec.verify(store)
    else:
        found = [(problem.where, problem.what) for problem in store_spec.verify(store)]
        assert found == [(problem.where, problem.what) for problem in store_spec.verify(path)]
