"""Writers on object stores: the same bytes as in a folder, one writer at a time, servers that ignore conditions."""

import contextlib
import os
import pickle
from typing import Any
from unittest import mock

import numpy as np
import obstore
import pytest
from obstore.store import LocalStore, MemoryStore
from zarr.storage import LocalStore as LocalZarrStore
from zarr.storage import ObjectStore

import store_spec
from store_spec import FormatError, errors
from store_spec.disk.object_storage import writable_objects
from store_spec.disk.storage import PROBE
from tests.campaigns.buckets import objects
from tests.store.make_golden import GOLDEN, STORES
from tests.store.oracle import files
from tests.store.zarr_stores import bits

WALKS: dict[str, Any] = {"inputs": ("float32", (3,)), "labels": ("float32", ()), "chunk": "256B", "shard": "1kB"}


@pytest.fixture
def memory() -> ObjectStore[MemoryStore]:
    """An object store in memory."""
    return ObjectStore(MemoryStore())


def append(writer: store_spec.Writer, start: int, stop: int) -> None:
    """Append some sequences whose values follow from their numbers."""
    for number in range(start, stop):
        rows = np.random.default_rng(number).normal(size=(20 + number, 3)).astype("float32")
        writer.append(rows, rows[:, 0], source=f"walk-{number}")


READS: dict[str, Any] = {
    "windows": lambda store: [*store.windows(8, stride=8).batches(16, shuffle=True, memory="64kB")],
    "a window": lambda store: store.windows(8)[3],
    "padded": lambda store: [*store.padded(4, steps=(0, 0.5))],
    "packed": lambda store: [*store.packed(40, steps=(0, 0.5))],
    "streams": lambda store: [*store.streams(2, 4)],
    "a slice": lambda store: store.read(1, 3, 9),
    "a sequence": lambda store: store[1],
    "statistics": lambda store: store.stats(),
    "quantiles": lambda store: store.quantiles(0.5),
    "class counts": lambda store: store.class_counts(),
    "windows of a period": lambda store: store.windows(8, before=np.datetime64(9, "s")),
    "a column": lambda store: store.sequences["site"],
    "sources": lambda store: store.sources,
    "contents": lambda store: store.contents,
    "a place": lambda store: store.windows(8).locate(3),
    "an array of zarr": lambda store: store.array("inputs")[:3],
    "a table of zarr": lambda store: store.group["sequences/site"][:],
}


@pytest.mark.parametrize("reads", READS.values(), ids=READS)
def test_rows_of_another_store_that_was_written_there_are_refused(memory, reads):
    def append_walks(writer: store_spec.Writer, factor: float, start: int, stop: int) -> None:
        for number in range(start, stop):
            rows = factor * np.random.default_rng(number).normal(size=(20 + number, 3)).astype("float32")
            labels, time = np.sign(rows[:, 0]), np.arange(len(rows))
            writer.append(rows, labels, source=f"walk-{number}", time=time, columns={"site": f"{factor}"})

    def write(factor: float, stop: int) -> None:
        with store_spec.create_store(memory, **WALKS, time="s", columns={"site": "string"}) as writer:
            append_walks(writer, factor, 0, stop)

    write(1, 12)
    early, unread = store_spec.open_store(memory), store_spec.open_store(memory)
    with store_spec.open_store(memory, "a") as writer:
        append_walks(writer, 1, 12, 15)
    reads(early)  # the store continues it
    later = store_spec.open_store(memory).select(range(12))
    obstore.delete(memory.store, list(objects(memory)))
    write(2, 15)
    for opened in unread, later, unread, later:
        with pytest.raises(FormatError, match="another store was written here since this one was opened"):
            reads(opened)


FIRST_READS: dict[str, Any] = {
    "lengths": lambda store: store.lengths,
    "steps": lambda store: store.read(2, 0, 2),
    "files": lambda store: (store.snapshot.check_files(), store.snapshot.check_not_replaced()),
    "windows": lambda store: [*store.windows(2, targets="inputs").batches(9)],
}


@pytest.mark.parametrize("other", [[(4, 2), (3, 3), (2, 4)], [(2, 2), (3, 3), (4, 3)], [(2, 2), (3, 3), (5, 4)]])
@pytest.mark.parametrize("reads", FIRST_READS.values(), ids=FIRST_READS)
def test_nothing_of_another_store_is_kept_after_the_error(memory, reads, other):
    def write(lengths: list[tuple[int, int]], value: float) -> None:
        obstore.delete(memory.store, list(objects(memory)))
        with store_spec.create_store(memory, **WALKS, label_axis="own") as writer:
            for number, (steps, rows) in enumerate(lengths):
                inputs, labels = np.full((steps, 3), value, np.float32), np.full(rows, value, np.float32)
                writer.append(inputs, labels, source=f"walk-{number}")

    write([(2, 2), (3, 3), (4, 4)], 1)
    before, store = objects(memory), store_spec.open_store(memory)
    write(other, 2)
    with pytest.raises(FormatError):
        reads(store)
    with pytest.raises(FormatError):
        store.snapshot.rows("inputs", 0, 9)  # as by another thread of the same batches
    obstore.delete(memory.store, list(objects(memory)))
    for key, data in before.items():
        obstore.put(memory.store, key, data)
    assert store.lengths.tolist() == [2, 3, 4]
    batches = [(batch.inputs, batch.labels) for batch in store.windows(1, targets="inputs").batches(9)]
    found = [array.ravel() for pair in (store.read(2, 0, 2), *store, *batches) for array in pair]
    assert {*np.concatenate(found).tolist()} == {1}


def test_a_moment_of_another_store_is_an_error(memory):
    def write(first: int) -> None:
        obstore.delete(memory.store, list(objects(memory)))
        with store_spec.create_store(memory, **WALKS, time="s") as writer:
            rows = np.zeros((900, 3), np.float32)
            writer.append(rows, rows[:, 0], source="walk", time=np.arange(first, first + 900))

    write(0)
    windows = store_spec.open_store(memory).windows(8)
    assert windows.locate(3).time == np.datetime64(3, "s")
    write(1000)
    with pytest.raises(FormatError, match="another store was written here since this one was opened"):
        windows.locate(800)


def test_a_store_has_the_bytes_of_a_folder_after_each_writer(memory, tmp_path):
    places: Any = (memory, tmp_path / "walks.zarr")
    for number in range(4):
        for place in places:
            with contextlib.ExitStack() as stack:
                if not number:
                    writer = stack.enter_context(store_spec.create_store(place, **WALKS, provenance={"made": "here"}))
                else:
                    writer = stack.enter_context(store_spec.open_store(place, "a"))
                if number == 2:
                    writer.retire("walk-5")
                append(writer, number * 5, number * 5 + 3)
                writer.commit()
                append(writer, number * 5 + 3, number * 5 + 5)
        assert objects(memory) == files(tmp_path / "walks.zarr")
        assert not [key for page in obstore.list(memory.store) for key in page if key["path"].startswith(PROBE)]
    assert store_spec.verify(memory) == []
    batches: Any = [store_spec.open_store(place).windows(8).batches(16, shuffle=True) for place in places]
    assert [bits(batch) for batch in batches[0]] == [bits(batch) for batch in batches[1]]


@pytest.mark.parametrize("name", [golden.name for golden in STORES])
def test_a_writer_that_does_nothing_leaves_the_bytes_of_each_kind_of_store(name, memory):
    there = files(GOLDEN / f"{name}.zarr")
    for key, data in there.items():
        obstore.put(memory.store, key, data)
    with store_spec.open_store(memory, "a"):
        assert objects(memory) != there  # claimed
    assert objects(memory) == there


def test_the_later_writer_continues_and_the_earlier_one_is_refused(memory):
    with store_spec.create_store(memory, **WALKS) as writer:
        append(writer, 0, 4)
    earlier = store_spec.open_store(memory, "a")
    append(earlier, 4, 6)
    with store_spec.open_store(memory, "a") as later:
        append(later, 6, 9)
    with pytest.raises(errors.ConflictError, match="another writer or build opened the store meanwhile; open it again"):
        earlier.commit()
    earlier.close()
    assert list(store_spec.open_store(memory).sources) == [f"walk-{number}" for number in (0, 1, 2, 3, 6, 7, 8)]
    assert store_spec.verify(memory) == []


def test_a_created_store_exists_at_once_and_a_second_one_is_refused(memory):
    writer = store_spec.create_store(memory, **WALKS)
    assert len(store_spec.open_store(memory)) == 0
    with pytest.raises(errors.StoreExistsError, match="something is there already"):
        store_spec.create_store(memory, **WALKS)
    append(writer, 0, 2)
    writer.commit()
    writer.close()
    assert len(store_spec.open_store(memory)) == 2


@pytest.mark.parametrize("key", ["notes.txt", "sequences/site/zarr.json"])  # the latter of a creation that was killed
def test_a_store_is_not_created_among_other_objects(memory, key):
    obstore.put(memory.store, key, b"mine")
    with pytest.raises(errors.StoreExistsError, match="something is there already"):
        store_spec.create_store(memory, **WALKS)
    assert objects(memory) == {key: b"mine"}
    with pytest.raises(errors.MissingStoreError, match="there is no store; create it first"):
        store_spec.open_store(memory, "a")


@pytest.mark.parametrize("known", [(), ("create",)])
@pytest.mark.parametrize("exists", [False, True])
def test_a_server_that_ignores_conditions_is_refused_before_anything_is_written(memory, known, exists):
    put = obstore.put

    def put_as_known(store, key, data, mode):
        return put(store, key, data, mode=mode if mode in known else "overwrite")

    if exists:
        with store_spec.create_store(memory, **WALKS) as writer:
            append(writer, 0, 2)
    before = objects(memory)
    with (
        mock.patch.object(obstore, "put", put_as_known),
        pytest.raises(errors.StorageError, match="ignores the conditions"),
    ):
        _ = store_spec.open_store(memory, "a") if exists else store_spec.create_store(memory, **WALKS)
    assert objects(memory) == before


def test_a_store_of_obstore_that_has_no_conditions_is_refused(tmp_path):
    with pytest.raises(errors.StorageError, match="writing failed"):
        store_spec.create_store(ObjectStore(LocalStore(tmp_path)), **WALKS)


def test_an_older_copy_of_a_root_is_refused_and_not_changed(memory):
    with store_spec.create_store(memory, **WALKS) as writer:
        append(writer, 0, 4)
    older = objects(memory)["zarr.json"]
    with store_spec.open_store(memory, "a") as writer:
        append(writer, 4, 8)
    obstore.put(memory.store, "zarr.json", older)
    before = objects(memory)
    with pytest.raises(errors.FormatError, match="an older copy"):
        store_spec.open_store(memory, "a")
    assert objects(memory) == before


def test_a_worker_writes_under_the_same_claim(memory):
    with store_spec.create_store(memory, **WALKS) as writer:
        storage = writable_objects(memory, writer._ledger._storage.writer)  # type: ignore[union-attr]
        storage.put("inputs/c.9.0", [b"rows"])
    with pytest.raises(errors.ConflictError):
        storage.put("inputs/c.9.0", [b"others"])
    assert objects(memory)["inputs/c.9.0"] == b"rows"


def test_a_file_url_is_a_folder(tmp_path):
    with store_spec.create_store(f"file://{tmp_path}/a%20b.zarr", **WALKS) as writer:
        append(writer, 0, 2)
    with store_spec.open_store(f"file://{tmp_path}/a%20b.zarr", "a") as writer:
        append(writer, 2, 3)
    assert len(store_spec.open_store(tmp_path / "a b.zarr")) == 3
    assert store_spec.open_store(f"file://{tmp_path}/a%20b.zarr").path == tmp_path / "a b.zarr"
    assert os.listdir(tmp_path) == ["a b.zarr"]


def test_a_job_can_be_done_in_another_process(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    storage = writable_objects("s3://bucket/walks.zarr", "0123")
    data = pickle.dumps(storage)
    assert b"secret" not in data
    assert (str(pickle.loads(data).root), pickle.loads(data).writer) == ("s3://bucket/walks.zarr", "0123")


def test_a_creation_that_fails_leaves_no_root(memory):
    obstore.put(memory.store, "inputs/zarr.json", b"of another store")
    with pytest.raises(errors.StoreExistsError, match="is there already, of another store"):
        store_spec.create_store(memory, **WALKS)
    assert "zarr.json" not in objects(memory)
    empty, put = ObjectStore(MemoryStore()), obstore.put

    def refused(store, key, data, mode):
        if key == "offsets/c.0":
            raise OSError("the network is gone")
        return put(store, key, data, mode=mode)

    with mock.patch.object(obstore, "put", refused), pytest.raises(errors.StorageError, match="the network is gone"):
        store_spec.create_store(empty, **WALKS)
    with pytest.raises(errors.MissingStoreError):
        store_spec.open_store(empty)
    store_spec.create_store(empty, **WALKS).close()
    assert len(store_spec.open_store(empty)) == 0


def test_a_store_that_was_opened_for_reading_is_not_written_to(memory, tmp_path):
    stores: Any = (ObjectStore(memory.store, read_only=True), LocalZarrStore(tmp_path / "s.zarr", read_only=True))
    for store in stores:
        with pytest.raises(errors.SchemaError, match="was opened for reading only"):
            store_spec.create_store(store, **WALKS)
    assert objects(memory) == {}


def test_a_memory_url_names_objects_of_this_process():
    rows = np.arange(18, dtype=np.float32).reshape(6, 3)
    with store_spec.create_store("memory://walks/s.zarr", **WALKS) as writer:
        writer.append(rows, np.arange(6), source="a")
    inputs, labels = store_spec.open_store("memory://walks/s.zarr")[0]
    assert (inputs.tolist(), labels.tolist()) == (rows.tolist(), list(range(6)))
    assert store_spec.verify("memory://walks/s.zarr") == []
    with pytest.raises(errors.MissingStoreError):
        store_spec.open_store("memory://walks/t.zarr")


@pytest.mark.parametrize("url", ["file:///data/run#2.zarr", "file:///data/run?2", "file://data/run.zarr"])
def test_a_file_url_that_means_something_else_is_refused(url):
    with pytest.raises(errors.SchemaError):
        store_spec.open_store(url)
    with pytest.raises(errors.SchemaError):
        store_spec.create_store(url, **WALKS)
