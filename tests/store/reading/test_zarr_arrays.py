"""`store.group` and `store.array`, from which zarr, dask and xarray continue."""

import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray
import zarr

import store_spec
from store_spec import errors
from store_spec.disk.storage import LocalStorage
from store_spec.disk.zarr_arrays import put_rows
from store_spec.format.layout import ROOT
from tests.store.damage import flipped, index
from tests.store.forks import in_fork
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import ABSENT, FULL_SHARD, LAST_SHARD
from tests.store.oracle import files, same
from tests.store.zarr_stores import KINDS_OF_GOLDEN

LENGTHS = [5, 0, 90, 7]


@pytest.fixture(params=STORES, ids=lambda golden: golden.name)
def folder(request, tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN / f"{request.param.name}.zarr", tmp_path / "golden.zarr"))


@pytest.fixture
def steps(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN / "steps.zarr", tmp_path / "steps.zarr"))


def append(path: Path, *, first: int, mode: Any = None) -> None:
    """Write sequences whose rows count upwards from a number; shards of 16 rows, the last one partial."""
    made = mode or store_spec.create_store(path, inputs=("int64", ()), labels=("int64", ()), chunk=64, shard=128)
    with made as writer:
        for number, length in enumerate(LENGTHS):
            rows = np.arange(first, first := first + length)
            writer.append(rows, rows, source=f"{first}-{number}")


def check(array: zarr.Array[Any], rows: np.ndarray) -> None:
    assert same(array[:], rows)


def all_of(store: store_spec.Store) -> dict[str, np.ndarray]:
    """Return each array as our reader returns it, with the rows of retired sequences."""
    snapshot = store.snapshot
    return {
        fact.name: snapshot.rows(fact.name, 0, snapshot.root.committed(fact.name))
        if store.schema.is_sharded(fact.name)
        else snapshot.table(fact.name)
        for fact in store.schema.arrays()
    }


@pytest.mark.parametrize(("kind", "folder"), KINDS_OF_GOLDEN, indirect=["folder"])
def test_arrays_of_zarr_have_the_bits_that_we_read(placed, kind, folder):
    store = store_spec.open_store(placed(kind, folder))
    for name, rows in all_of(store).items():
        if rows.dtype.kind != "O":
            check(store.array(name), rows)
        else:
            assert np.asarray(store.array(name)[:]).tolist() == rows.tolist()


def test_the_group_equals_the_one_that_zarr_opens(folder):
    ours, theirs = store_spec.open_store(folder).group, zarr.open_group(folder, mode="r")
    assert ours.metadata == theirs.metadata
    assert sorted(ours.array_keys()) == sorted(theirs.array_keys())
    for name, array in theirs.members(max_depth=None):
        found = ours[name]
        assert found.metadata.to_dict() | {"consolidated_metadata": None} == array.metadata.to_dict() | {
            "consolidated_metadata": None
        }
    apart = zarr.open_group(ours.store, mode="r", use_consolidated=False)
    keys = {name for name, _ in apart.members(max_depth=None)}
    assert keys == {name for name, _ in theirs.members(max_depth=None)}


def test_xarray_continues_from_the_group(steps):
    store = store_spec.open_store(steps)
    with xarray.open_zarr(store.group.store) as dataset:
        assert dataset["inputs"].dims == ("step", "input_axis_1", "feature")[:: 2 if dataset["inputs"].ndim == 2 else 1]
        assert np.array_equal(dataset["inputs"].values, all_of(store)["inputs"])
        assert np.array_equal(dataset["row_size"].values, store.snapshot.table("row_size"))


def test_arrays_are_those_of_the_state_that_was_opened(tmp_path):
    path, count = tmp_path / "s.zarr", sum(LENGTHS)
    append(path, first=0)
    touched, untouched = store_spec.open_store(path), store_spec.open_store(path)
    assert touched.array("inputs")[-1] == count - 1  # in the last shard, which is kept
    append(path, first=count, mode=store_spec.open_store(path, "a"))
    last = path / "inputs" / f"c.{count // 16}"
    for store in (touched, untouched):
        assert np.array_equal(store.array("inputs")[:], np.arange(count))
        assert np.asarray(store.array("offsets")[:]).tolist() == [0, *np.cumsum(LENGTHS)]
        assert store.array("sequences/source").shape == (len(LENGTHS),)
    last.unlink()
    assert np.array_equal(touched.array("inputs")[:], np.arange(count))
    with pytest.raises(errors.FormatError, match="missing; every committed"):
        store_spec.open_store(path).array("inputs")[:]


def test_each_missing_or_damaged_chunk_and_shard_is_an_error(steps):
    """For a missing one plain zarr returns its fill value; zarr's checksum may find the damage."""
    for file in [each for each in steps.rglob("c.*") if each.is_file()]:
        key, data = file.relative_to(steps).as_posix(), file.read_bytes()
        name = key.rpartition("/")[0]
        flipped(key, len(data) // 3)(steps)
        with pytest.raises((errors.StoreError, ValueError)):
            store_spec.open_store(steps).array(name)[:]
        file.unlink()
        zarr.open_group(steps, mode="r")[name][:]  # type: ignore[index]
        with pytest.raises(errors.FormatError, match=rf"{key}: missing; every committed chunk"):
            store_spec.open_store(steps).array(name)[:]
        file.write_bytes(data)


@pytest.mark.parametrize(("shard", "chunk"), [(FULL_SHARD, 1), (LAST_SHARD, 0)])
def test_a_chunk_that_is_missing_within_a_shard_is_an_error(shard, chunk, steps):
    """No setting of zarr makes it an error."""
    index(shard, chunk, (ABSENT, ABSENT))(steps)
    zarr.open_group(steps, mode="r")["inputs"][:]  # type: ignore[index]
    with pytest.raises(errors.FormatError, match=f"{shard}: chunk {chunk} is missing"):
        store_spec.open_store(steps).array("inputs")[:]


def test_zarr_arrays_are_read_only(steps):
    group = store_spec.open_store(steps).group
    array: Any = group["inputs"]
    before = files(steps)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        group.create_array("more", shape=(1,), dtype="int8")
    with pytest.raises(NotImplementedError, match="nothing is deleted through zarr"):
        zarr.core.sync.sync(group.store.delete(ROOT))
    assert files(steps) == before


def test_unknown_arrays_are_refused(steps):
    store = store_spec.open_store(steps)
    for name in ("other", "stats", "", "../inputs", "sequences/source/c.0"):
        with pytest.raises(errors.SchemaError, match=f"there is no array '{name}'; there are inputs, labels"):
            store.array(name)


def test_arrays_can_be_pickled_and_read_in_threads_and_after_a_fork(steps):
    store = store_spec.open_store(steps)
    array, due = store.array("inputs"), all_of(store)["inputs"]
    check(pickle.loads(pickle.dumps(array)), due)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(check, array, due) for _ in range(8)]:
            done.result()
    in_fork(partial(check, array, due))


def test_each_chunk_of_a_table_is_put_once_and_synced(tmp_path, monkeypatch, spy):
    path, synced = tmp_path / "s.zarr", list[str]()
    append(path, first=0)
    put = spy(LocalStorage, "put")
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")))
    append(path, first=1000, mode=store_spec.open_store(path, "a"))
    chunks = [key for _, key, *_ in (call.args for call in put.call_args_list) if "/c." in key]
    assert sorted(set(chunks)) == sorted(chunks)
    tables = {fact.name for fact in store_spec.open_store(path).schema.arrays()} - {"inputs", "labels"}
    assert {key.rpartition("/")[0] for key in chunks} >= tables
    for key in chunks:
        assert any(file.startswith(f"{path / key}.") for file in synced), key
        assert str((path / key).parent) in synced


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError])
def test_an_exception_in_a_put_reaches_the_caller_and_the_next_put_works(tmp_path, monkeypatch, error):
    """In zarr's event loop, a KeyboardInterrupt would end the loop, and every later call would hang."""
    path = tmp_path / "s.zarr"
    append(path, first=0)
    schema = store_spec.open_store(path).schema

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", mock.Mock(side_effect=error))
        with pytest.raises(error):
            put_rows(LocalStorage(path).put, schema, schema.fact("row_size"), 0, np.arange(4))
    put_rows(LocalStorage(path).put, schema, schema.fact("row_size"), 0, np.arange(4))
