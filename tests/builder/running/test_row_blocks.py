"""The rows of a batch, in memory and in files: complete, in order, and within the memory limit."""

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.workers.row_blocks import BLOCK_BYTES, BatchRows, RowBlocks, Space, SpillError
from store_spec.disk.storage import LocalStorage
from store_spec.errors import StorageError
from store_spec.schema import Schema
from tests.builder.made_sources import schema_for

SCHEMA = schema_for("own")  # 12 bytes per row of inputs, 4 per row of labels
Arrays = dict[str, np.ndarray[Any, Any]]


@given(lengths=st.lists(st.integers(0, 40_000), max_size=12))
def test_row_blocks_are_the_rows_in_order_in_few_arrays(lengths):
    blocks, rows = RowBlocks(), [np.full((length, 3), number, np.int8) for number, length in enumerate(lengths)]
    for one in rows:
        blocks.add(one)
    blocks.close()
    assert blocks.nbytes == blocks.in_memory == sum(one.nbytes for one in rows)
    found = blocks.between(0, blocks.rows)
    nothing = np.empty((0, 3), np.int8)
    assert np.array_equal(np.concatenate([nothing, *found]), np.concatenate([nothing, *rows]))
    assert sum(block.nbytes < BLOCK_BYTES for block in found) <= 1 + sum(one.nbytes >= BLOCK_BYTES for one in rows)


def arrays_of(number: int, lengths: tuple[int, int]) -> Arrays:
    rows = np.arange(3 * sum(lengths)).reshape(-1, 3) + 1_000 * number
    return {"inputs": rows[: lengths[0]].astype(np.float32), "labels": rows[lengths[0] :, :2].astype(np.int16)}


@pytest.mark.parametrize("alike", [False, True], ids=["labels unlike inputs", "labels like inputs"])
@given(
    sources=st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=4), st.booleans()),
        max_size=6,
    ),
    memory=st.integers(0, 800),
    shared=st.booleans(),
    places=st.tuples(st.integers(0, 99), st.integers(0, 99)),
)
def test_rows_are_those_that_were_added_without_those_of_failed_sources(alike, sources, memory, shared, places):
    """Each source adds the rows of some sequences, and is then kept or forgotten.

    Labels that may be the inputs are stored once until others come.
    """
    schema = Schema.plan(SCHEMA.inputs, SCHEMA.inputs) if alike else SCHEMA
    with tempfile.TemporaryDirectory() as place:
        rows, kept, same = BatchRows(schema, Space(memory=memory, folder=Path(place, "7"))), list[Arrays](), alike
        number = 0
        for sequences, fails in sources:
            mark, added = rows.ends(), []
            for steps, label_steps, equal in sequences:
                arrays = arrays_of(number := number + 1, (steps, label_steps))
                if alike:
                    arrays["labels"] = arrays["inputs"] if equal else arrays["inputs"] + 1
                    same = same and equal
                added.append({name: one.copy() for name, one in arrays.items()})
                rows.add(arrays, shared=["inputs", "labels"] if shared else [])
                if shared:
                    for one in arrays.values():
                        one[:] = -1  # a user's function may fill the same array again
                assert sum({id(one): one.in_memory for one in rows.arrays.values()}.values()) <= memory
            if fails:
                rows.truncate(mark)
            else:
                kept += added
        # Another worker gets the rows in memory, and the names of files.
        found = pickle.loads(pickle.dumps(rows.close()))
        assert (found["labels"] is found["inputs"]) == same
        for name, blocks in found.items():
            wanted = np.concatenate([schema.rows(name).empty(0), *(arrays[name] for arrays in kept)])
            assert (blocks.rows, blocks.nbytes) == (len(wanted), wanted.nbytes)
            start, stop = sorted(place % (len(wanted) + 1) for place in places)
            part = np.concatenate([schema.rows(name).empty(0), *blocks.between(start, stop)])
            assert part.tobytes() == wanted[start:stop].tobytes()


def test_a_large_array_is_written_to_its_file_without_a_copy(tmp_path, monkeypatch):
    """For example an array that is mapped from a file larger than memory."""
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (10_000, 3))
    mapped[:] = np.arange(30_000).reshape(-1, 3)
    written: list[Any] = []
    put = LocalStorage.put_for_now

    def noted(storage: LocalStorage, key: str, parts: Any) -> None:
        written.extend(parts)
        put(storage, key, written)

    monkeypatch.setattr(LocalStorage, "put_for_now", noted)
    rows = BatchRows(SCHEMA, Space(memory=5_000, folder=tmp_path / "0"))
    rows.add({"inputs": mapped}, shared=["inputs"])
    assert np.may_share_memory(np.frombuffer(written[0], np.float32), mapped)
    blocks = rows.close()["inputs"]
    assert (blocks.in_memory, blocks.nbytes) == (0, mapped.nbytes)
    assert len(pickle.dumps(blocks)) < 1_000
    (found,) = blocks.between(9980, 10_000)
    assert np.asarray(found[5:15]).tobytes() == mapped[9985:9995].tobytes()


def test_without_a_folder_further_rows_are_only_counted(tmp_path):
    rows = BatchRows(SCHEMA, Space(memory=100))
    given = [arrays_of(number, (5, 2)) for number in range(4)]
    for arrays in given:
        rows.add(arrays)
    inputs = rows.close()["inputs"]
    assert inputs.nbytes == 4 * 60
    found = np.concatenate(inputs.between(0, inputs.rows))
    assert 5 <= len(found) <= 100 // 12
    assert found.tobytes() == np.concatenate([one["inputs"] for one in given])[: len(found)].tobytes()
    assert not list(tmp_path.iterdir())


def test_full_disks_and_lost_or_short_files_are_named(tmp_path, monkeypatch):
    rows = BatchRows(SCHEMA, Space(memory=10, folder=tmp_path / "0"))
    rows.add(arrays_of(1, (5, 2)))
    blocks = rows.close()["inputs"]
    (path,) = (tmp_path / "0").glob("inputs.*")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(SpillError, match=r"0/inputs\.\w+: 50 bytes of 60 were read; what was committed is untouched"):
        np.concatenate(blocks.between(0, 5))
    path.unlink()
    with pytest.raises(SpillError, match=r"0/inputs\.\w+: there is no such file"):
        np.concatenate(blocks.between(0, 5))

    def full(storage: LocalStorage, key: str, _: Any) -> None:
        raise StorageError(28, f"{storage.path(key)}: writing failed: No space left on device")

    monkeypatch.setattr(LocalStorage, "put_for_now", full)
    with pytest.raises(SpillError, match=r"0/inputs\.\w+: writing failed: No space .*; 60 bytes of rows were") as told:
        rows.add(arrays_of(2, (5, 2)))
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)
    assert told.value.errno == 28
