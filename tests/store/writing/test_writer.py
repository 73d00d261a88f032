"""The writer, compared with a list of arrays."""

import errno
import gc
import itertools
import os
import re
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import (
    FormatError,
    MissingStoreError,
    SchemaError,
    SequenceError,
    StorageError,
    StoreError,
    StoreExistsError,
)
from tests.store.oracle import Recipe, append, assert_holds, files, make, recipes, write

LENGTHS = st.lists(st.integers(0, 30), max_size=6)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(recipe=recipes(), filled=st.booleans(), lengths=LENGTHS, seed=st.integers(0, 2**32), data=st.data())
def test_a_store_is_the_list_of_its_sequences_however_often_it_was_committed_and_reopened(
    recipe, filled, lengths, seed, data
):
    recipe = replace(recipe, filled=filled)
    sequences = make(recipe, lengths, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        at_once = write(recipe, Path(folder, "at-once"), sequences)
        by_and_by = Path(folder, "by-and-by")
        writer = recipe.create(by_and_by)
        writer.commit()
        assert_holds(store_spec.open_store(by_and_by), [])
        assert store_spec.verify(by_and_by) == []
        for number, sequence in enumerate(sequences):
            step = data.draw(st.sampled_from(["append", "commit", "reopen"]))
            if step != "append":
                assert writer.commit() == number
            if step == "reopen":
                writer.close()
                writer = store_spec.open_store(by_and_by, "a")
            append(writer, [sequence])
            assert len(writer) == number + 1
        assert writer.commit() == len(sequences)
        writer.close()
        assert_holds(store_spec.open_store(by_and_by), sequences)
        assert files(by_and_by) == files(at_once)
        assert store_spec.verify(by_and_by) == []


def test_tables_of_several_chunks_are_read_and_appended_to(tmp_path):
    recipe = Recipe(inputs=("float32", (4000,)), labels=("int8", ()), label_axis="sequence", chunk=2**20, shard=2**22)
    sequences = make(recipe, [1] * 9)
    write(recipe, tmp_path / "at-once", sequences)
    assert len(list((tmp_path / "at-once/stats/inputs_mean").iterdir())) == 3
    write(recipe, tmp_path / "store", sequences[:3])
    for start in (3, 8):
        with store_spec.open_store(tmp_path / "store", "a") as writer:
            append(writer, sequences[start : {3: 8, 8: 9}[start]])
    assert_holds(store_spec.open_store(tmp_path / "store"), sequences)
    assert files(tmp_path / "store") == files(tmp_path / "at-once")


def nan_at(row, column):
    rows = np.ones((4, 3), "float32")
    rows[row, column] = np.nan
    return rows


class Variable:
    """Gives masked values as an array, like a variable of netCDF4."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ma.masked_array(GOOD, mask=GOOD > -1)


GOOD = np.ones((4, 3), "float32")
LABELS = np.ones(4, "int16")
REFUSED: dict[str, tuple[Any, Any, str]] = {
    "row shape": (np.ones((4, 2), "float32"), LABELS, r"bad: inputs have shape \(4, 2\).*\(rows, 3\)"),
    "no rows at all": (np.float32(1), LABELS, r"bad: inputs have shape \(\)"),
    "label shape": (GOOD, np.ones((4, 1), "int16"), r"bad: labels have shape \(4, 1\).*\(rows\)"),
    "masked": (np.ma.masked_array(GOOD, mask=GOOD > -1), LABELS, "bad: inputs: [0-9]+ values are masked"),
    "a variable with a mask": (Variable(), LABELS, "bad: inputs: [0-9]+ values are masked"),
    "masked rows": (list(np.ma.masked_array(GOOD, mask=GOOD > -1)), LABELS, "bad: inputs are a list of masked"),
    "a masked row among others": (
        ([1.0, 2.0, 3.0], np.ma.masked_array(GOOD[0], mask=[False, True, False]), *GOOD[2:]),
        LABELS,
        "bad: inputs are a list of masked arrays",
    ),
    "masked rows in lists": (
        [[np.ma.masked_array([1.0, 2.0, 3.0], mask=True)], GOOD[:1]],
        LABELS,
        "bad: inputs are a list of masked arrays",
    ),
    "masked labels": (GOOD, [np.ma.masked_array(1, mask=True)] * 4, "bad: labels are a list of masked"),
    "NaN": (nan_at(2, 1), LABELS, r"bad: inputs: row 2, column 1 is nan.*\(1 such"),
    "infinity": (np.full((4, 3), -np.inf, "float32"), LABELS, r"bad: inputs: row 0, column 0 is -inf.*\(12 such"),
    "lengths": (np.ones((5000, 3), "float32"), np.ones(4999, "int16"), "bad: 5,000 input rows but 4,999 label rows"),
    "ragged": ([[1.0, 2.0, 3.0], [1.0]], LABELS, "bad: inputs are not an array"),
    "ragged labels": (GOOD, [[1], [2, 3]], "bad: labels are not an array"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_sequence_is_named_and_leaves_the_writer_as_it_was(tmp_path, case):
    inputs, labels, message = REFUSED[case]
    sequences = make(Recipe(), [9, 30])
    with Recipe().create(tmp_path / "store") as writer:
        append(writer, sequences[:1])
        with pytest.raises(SequenceError, match=message) as caught:
            writer.append(inputs, labels, source="bad")
        assert isinstance(caught.value, ValueError)
        assert len(writer) == 1
        append(writer, sequences[1:])
    assert files(tmp_path / "store") == files(write(Recipe(), tmp_path / "other", sequences))


def test_infinities_are_refused_even_where_nan_may_stand(tmp_path):
    recipe = Recipe(missing="keep", labels=("complex64", ()))
    with recipe.create(tmp_path / "store") as writer:
        writer.append(nan_at(0, 0), np.full(4, np.nan, "complex64"), source="nan")
        with pytest.raises(SequenceError, match=r"bad: inputs: row 3, column 0 is inf, .* finite numbers or NaN"):
            writer.append(
                np.where(GOOD.cumsum(0) == 4, np.float32(np.inf), GOOD), np.zeros(4, "complex64"), source="bad"
            )
        with pytest.raises(SequenceError, match="bad: labels: row 1 is "):
            writer.append(GOOD, np.array([0, complex(0, np.inf), 0, 0], "complex64"), source="bad")
    assert len(store_spec.open_store(tmp_path / "store")) == 1


@pytest.mark.parametrize(
    ("label_axis", "labels", "message"),
    [
        ("sequence", np.ones((2, 2), "int16"), "bad: 2 label rows, where the sequence axis has 1"),
        ("sequence", np.ones((0, 2), "int16"), "bad: 0 label rows"),
        ("own", np.ones((3, 1), "int16"), r"bad: labels have shape \(3, 1\)"),
    ],
)
def test_labels_of_a_wrong_number_of_rows_are_refused(tmp_path, label_axis, labels, message):
    with (
        Recipe(labels=("int16", (2,)), label_axis=label_axis).create(tmp_path / "store") as writer,
        pytest.raises(SequenceError, match=message),
    ):
        writer.append(GOOD, labels, source="bad")


def test_a_source_is_appended_at_once(tmp_path):
    with Recipe().create(tmp_path / "store") as writer:
        for source in ("a", "a", "b"):
            writer.append(GOOD, LABELS, source=source)
        with pytest.raises(SequenceError, match=r"^a: its sequences are in the store already"):
            writer.append(GOOD, LABELS, source="a")
        writer.append(GOOD, LABELS, source="b")
        writer.commit()
        with pytest.raises(SequenceError, match=r"^b: its sequences are in the store already"):
            writer.append(GOOD, LABELS, source="b")
    with store_spec.open_store(tmp_path / "store", "a") as writer:
        for source in ("a", "b"):
            with pytest.raises(SequenceError, match=f"^{source}: its sequences are in the store already"):
                writer.append(GOOD, LABELS, source=source)
    store = store_spec.open_store(tmp_path / "store")
    assert store.sources == ("a", "a", "b", "b")
    assert store.parts.tolist() == [0, 1, 0, 1]


def test_a_refused_part_does_not_end_its_source(tmp_path):
    with Recipe().create(tmp_path / "store") as writer:
        writer.append(GOOD, LABELS, source="a")
        with pytest.raises(SequenceError, match=r"^a \(part 1\): "):
            writer.append(GOOD, LABELS[:2], source="a")
        writer.append(GOOD, LABELS, source="a")
    assert store_spec.open_store(tmp_path / "store").parts.tolist() == [0, 1]


def test_the_path_is_empty_before_the_first_commit_and_after_an_error_in_the_block(tmp_path):
    with suppress(KeyError), Recipe().create(tmp_path / "store") as writer:
        append(writer, make(Recipe(), [30, 200]))
        assert not (tmp_path / "store").exists()
        with pytest.raises(MissingStoreError):
            store_spec.open_store(tmp_path / "store")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_leaves_what_was_committed_before(tmp_path):
    sequences = make(Recipe(), [30, 40, 50])
    write(Recipe(), tmp_path / "store", sequences[:1])
    with suppress(KeyError), store_spec.open_store(tmp_path / "store", "a") as writer:
        append(writer, sequences[1:2])
        writer.commit()
        append(writer, sequences[2:])
        raise KeyError
    assert_holds(store_spec.open_store(tmp_path / "store"), sequences[:2])
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_an_abandoned_writer_leaves_nothing(tmp_path):
    writer = Recipe().create(tmp_path / "store")
    append(writer, make(Recipe(), [200]))
    del writer
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_writer_says_that_it_is_closed(tmp_path):
    with Recipe().create(tmp_path / "store") as writer:
        pass
    with pytest.raises(StoreError, match="it was closed"):
        writer.append(GOOD, LABELS, source="a")
    with pytest.raises(StoreError, match="it was closed"):
        writer.commit()
    writer.close()


@pytest.mark.parametrize("what", ["folder", "store", "file", "link", "dangling link"])
def test_files_at_the_path_are_never_touched(tmp_path, what):
    path = tmp_path / "store"
    if what == "folder":
        path.mkdir()
    elif what == "store":
        write(Recipe(), path, make(Recipe(), [3]))
    elif what == "file":
        path.write_text("mine")
    else:
        if what == "link":
            (tmp_path / "else").mkdir()
        path.symlink_to(tmp_path / "else")
    before = sorted(tmp_path.rglob("*")), files(tmp_path)
    with pytest.raises(StoreExistsError, match="something is there already") as caught:
        Recipe().create(path)
    assert isinstance(caught.value, FileExistsError)
    assert (sorted(tmp_path.rglob("*")), files(tmp_path)) == before


def test_a_path_that_appears_meanwhile_is_not_touched(tmp_path):
    writer = Recipe().create(tmp_path / "store")
    (tmp_path / "store").mkdir()
    with pytest.raises(StoreExistsError, match="appeared there meanwhile"):
        writer.commit()
    writer.close()
    assert [path.name for path in tmp_path.rglob("*")] == ["store"]


@pytest.mark.parametrize("mode", ["r", "a"])
def test_paths_without_a_store_cannot_be_opened(tmp_path, mode):
    (tmp_path / "file").write_text("no store")
    (tmp_path / "folder").mkdir()
    (tmp_path / "group").mkdir()
    (tmp_path / "group/zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    for name in ("nothing", "file", "folder"):
        with pytest.raises(MissingStoreError, match=name) as caught:
            store_spec.open_store(tmp_path / name, mode)
        assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(FormatError, match="this is not a seqzarr store"):
        store_spec.open_store(tmp_path / "group", mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "group"]


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="mode 'w' is not"):
        store_spec.open_store(tmp_path, "w")  # type: ignore[call-overload]


def test_a_store_is_opened_for_appending_from_inside_and_through_a_link(tmp_path, monkeypatch):
    sequences = make(Recipe(), [3, 4, 5])
    write(Recipe(), tmp_path / "store", sequences[:1])
    (tmp_path / "link").symlink_to(tmp_path / "store")
    monkeypatch.chdir(tmp_path / "store")
    for place, sequence in ((".", sequences[1]), (tmp_path / "link", sequences[2])):
        with store_spec.open_store(place, "a") as writer:
            append(writer, [sequence])
            with pytest.raises(StoreError, match="is writing to it"):
                store_spec.open_store(tmp_path / "store", "a")
    assert_holds(store_spec.open_store(tmp_path / "store"), sequences)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "store"]


def test_a_full_disk_is_an_error_that_names_file_and_step_and_the_store_stays(tmp_path, monkeypatch):
    sequences = make(Recipe(), [3, 400, 5])
    write(Recipe(), tmp_path / "store", sequences[:1])
    before = files(tmp_path)
    failed = r"cannot be used: it failed before .*No space left"

    def filled_disk(writer: store_spec.Writer) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", Mock(side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
            with pytest.raises(StorageError, match=r"inputs/c\.0\.0: writing failed: No space left") as caught:
                append(writer, sequences[1:])
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(StoreError, match=failed):
            writer.commit()

    # Leaving the block raises too; otherwise everything would seem to be committed.
    with pytest.raises(StoreError, match=failed), store_spec.open_store(tmp_path / "store", "a") as writer:
        filled_disk(writer)
    assert files(tmp_path) == before
    with store_spec.open_store(tmp_path / "store", "a") as writer:
        append(writer, sequences[1:])
    assert_holds(store_spec.open_store(tmp_path / "store"), sequences)


def test_a_single_label_that_the_dtype_cannot_hold_is_refused(tmp_path):
    asked: Any = {"inputs": ("float32", ()), "labels": ("int32", ()), "label_axis": "sequence"}
    with store_spec.create_store(tmp_path / "s", **asked) as writer:
        with pytest.raises(SequenceError, match="labels are float64, where this store has int32"):
            writer.append([1.5], 3.7, source="bad")
        writer.append([1.5], 3, source="good")
    assert store_spec.open_store(tmp_path / "s")[0][1] == 3


def assert_each_is_of_its_source(path: Path) -> list[str]:
    """Check that rows and labels belong to the source that they name; return the sources."""
    store = store_spec.open_store(path)
    for (x, y), source in zip(store, store.sources, strict=True):
        wanted = int(source.removeprefix("s"))
        assert x.tolist() == y.tolist() == [wanted] * len(x)
    return list(store.sources)


def test_threads_may_share_a_writer(tmp_path):
    """Rows and labels of a sequence stay together, and no sequence is lost."""
    with (
        store_spec.create_store(
            tmp_path / "s", inputs=("float32", ()), labels=("int64", ()), chunk=512, shard=4096
        ) as writer,
        ThreadPoolExecutor(8) as pool,
    ):

        def one(number: int) -> None:
            rows = np.full(500 + number, number)
            writer.append(rows.astype("float32"), rows, source=f"s{number}")
            if number % 10 == 3:
                writer.commit()

        list(pool.map(one, range(60)))
    assert sorted(assert_each_is_of_its_source(tmp_path / "s")) == sorted(f"s{number}" for number in range(60))
    assert store_spec.verify(tmp_path / "s") == []


def test_a_writer_is_closed_only_once_a_thread_has_appended(tmp_path):
    begun = threading.Event()
    steps: list[str] = []

    class Slow:
        def __array__(self, *_: object, **__: object) -> Any:
            begun.set()
            time.sleep(0.1)
            steps.append("given")  # it may be called more than once
            return np.array([1.0], "float32")

    writer = store_spec.create_store(tmp_path / "s", inputs=("float32", ()), labels=("int64", ()))
    with ThreadPoolExecutor(1) as pool:
        appended = pool.submit(writer.append, Slow(), [1], source="s1")
        assert begun.wait(10)
        writer.close()
        steps.append("closed")
    assert steps[-1] == "closed"
    assert appended.exception() is None
    assert len(writer) == 1
    assert not (tmp_path / "s").exists()


def test_a_writer_refuses_nested_calls(tmp_path):
    """For example by a signal handler during an append: nothing is written, and the writer continues."""
    with store_spec.create_store(tmp_path / "s", inputs=("float32", ()), labels=("int64", ())) as writer:

        class Rows:
            def __array__(self, *_: object, **__: object) -> Any:
                with pytest.raises(StoreError, match="it is at work in the same thread"):
                    writer.append([2.0], [2], source="s2")
                return np.array([1.0], "float32")

        writer.append(Rows(), [1], source="s1")
    assert assert_each_is_of_its_source(tmp_path / "s") == ["s1"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as when a file is closed
def test_a_writer_that_is_interrupted_at_any_line_commits_no_row_of_another_sequence(tmp_path):
    """Ctrl-C during an append, and the caller continues: the sequence is appended or not, or the writer is unusable.

    Tried at every third line.
    """
    ended = {"refused": 0, "went on": 0}
    for line in itertools.count(step=3):
        path, lines = tmp_path / f"s{line}", itertools.count()
        interrupted: list[str] = []

        def trace(frame: Any, event: str, _: Any, at: int = line, lines: Any = lines, done: Any = interrupted) -> Any:
            if "/store_spec/disk/" not in frame.f_code.co_filename:
                return None
            if event == "line" and next(lines) == at:
                sys.settrace(None)
                done.append(frame.f_code.co_name)
                raise KeyboardInterrupt
            return trace

        try:
            with store_spec.create_store(
                path, inputs=("float32", ()), labels=("int64", ()), chunk=32, shard=64
            ) as writer:
                for number in range(6):
                    if number == 3:
                        sys.settrace(trace)
                    with suppress(KeyboardInterrupt):
                        writer.append(np.full(10, number, "float32"), np.full(10, number), source=f"s{number}")
                    sys.settrace(None)
        except StoreError as error:
            assert re.search("cannot be used: it (failed before|is at work .* or was interrupted)", str(error))  # noqa: PT017
            ended["refused"] += 1
            assert not path.exists()
            continue
        finally:
            sys.settrace(None)
        assert assert_each_is_of_its_source(path) in ([f"s{n}" for n in range(6)], [f"s{n}" for n in (0, 1, 2, 4, 5)])
        ended["went on"] += 1
        if not interrupted:
            break
    assert min(ended.values()) > 5


def test_a_copy_that_fails_leaves_the_writer_as_it_was(tmp_path, monkeypatch):
    sequences = make(Recipe(), [9, 30])
    with Recipe().create(tmp_path / "store") as writer:
        append(writer, sequences[:1])
        with monkeypatch.context() as patch:
            patch.setattr("store_spec.format.records.describe_rows", Mock(side_effect=MemoryError))
            with pytest.raises(MemoryError):
                append(writer, sequences[1:])
        assert len(writer) == 1
        append(writer, sequences[1:])
    assert len(store_spec.open_store(tmp_path / "store")) == 2


@pytest.mark.parametrize("inside", ["new.zarr", "inputs/new.zarr"])
def test_a_store_cannot_be_in_another_store(tmp_path, inside):
    write(Recipe(), tmp_path / "store", make(Recipe(), [3]))
    before = sorted(tmp_path.rglob("*")), files(tmp_path)
    with pytest.raises(StoreExistsError, match=r"new.zarr: lies inside of the store .*store; give a path that does"):
        Recipe().create(tmp_path / "store" / inside)
    assert (sorted(tmp_path.rglob("*")), files(tmp_path)) == before


def test_a_path_that_leads_out_of_a_store_is_not_in_it(tmp_path, monkeypatch):
    write(Recipe(), tmp_path / "store", make(Recipe(), [3]))
    monkeypatch.chdir(tmp_path / "store")
    for number, path in enumerate(("../new0.zarr", tmp_path / "store/../new1.zarr", "inputs/../../new2.zarr")):
        write(Recipe(), Path(path), make(Recipe(), [4]))
        assert len(store_spec.open_store(tmp_path / f"new{number}.zarr")) == 1


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ("float64", np.array([0, 2**53, -(2**53)])),
        ("float64", np.array([0.1], "float32")),
        ("float64", np.array([1.5, -0.0], ">f4")),
        ("float32", np.array([2**24], "int32")),
        ("float32", [1.5, 2, True]),
        ("float32", []),
        ("float16", np.array([255], "uint8")),
        ("int32", np.array([2**31 - 1, -(2**31)])),
        ("int32", [7, 8]),
        ("int8", np.array([True, False])),
        ("complex64", np.array([-3], "int8")),
        ("complex128", [True, 2.5]),
    ],
)
def test_values_that_the_dtype_can_hold_are_converted(tmp_path, stored, given):
    """Values of lists, which have no dtype, are converted by value."""
    with store_spec.create_store(tmp_path / "s", inputs=(stored, ()), labels=(stored, ())) as writer:
        writer.append(given, given, source="a")
    for rows in store_spec.open_store(tmp_path / "s")[0]:
        assert rows.dtype == stored
        assert rows.tolist() == np.asarray(given).astype(stored).tolist()
        if not isinstance(given, list):
            assert rows.tolist() == given.tolist()


@pytest.mark.parametrize(
    ("stored", "given", "found"),
    [
        ("float64", np.array([2**53 + 1]), "int64"),
        ("float64", np.array([2**63 - 1]), "int64"),
        ("float32", np.array([2**64 - 1], "uint64"), "uint64"),
        ("float32", np.array([2**24 + 1], "int32"), "int32"),
        ("float32", np.array([0.5]), "float64"),
        ("float32", np.array([1], "complex64"), "complex64"),
        ("float32", np.array([1], object), "object"),
        ("float32", np.array(["1.5"]), "<U3"),
        ("float32", np.ma.masked_array([2**24 + 1, 5], mask=[False, True]), "int64"),
        ("float16", np.array([65535], "uint16"), "uint16"),
        ("int32", np.array([2**31]), "int64"),
        ("uint64", np.array([-1]), "int64"),
        ("int64", np.array([2**63], "uint64"), "uint64"),
        ("int64", np.array([1], "datetime64[s]"), r"datetime64\[s\]"),
        ("bool", np.array([1], "int8"), "int8"),
        ("int8", np.array([1], "float32"), "float32"),
        ("int64", [1.5, 2.7], "float64"),
        ("int8", [0.0, -0.9], "float64"),
        ("uint8", [300.0, 1.0], "float64"),
        ("bool", [1.5, 0.0], "float64"),
        ("int64", [1, np.float64(2.5)], "float64"),
        ("int64", [1e30, 1.0], "float64"),
        ("int64", [-1, 2**63 + 1], "float64|object"),
    ],
)
def test_values_that_the_dtype_might_not_hold_are_refused(tmp_path, stored, given, found):
    """In lists as in arrays."""
    fitting, said = np.zeros(len(given), stored), rf"are ({found}), where this store has {stored}; .* lose values"
    with store_spec.create_store(tmp_path / "s", inputs=(stored, ()), labels=(stored, ()), missing="keep") as writer:
        for rows in (given, np.asarray(given)) if isinstance(given, list) else (given,):
            with pytest.raises(SequenceError, match=f"bad: inputs {said}"):
                writer.append(rows, fitting, source="bad")
            with pytest.raises(SequenceError, match=f"bad: labels {said}"):
                writer.append(fitting, rows, source="bad")
    assert len(store_spec.open_store(tmp_path / "s")) == 0


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_masked_values_are_missing_values_where_these_are_kept(tmp_path, dtype):
    masked = np.ma.masked_array(np.arange(4, dtype=dtype), mask=[False, True, False, False])
    arrays: Any = {"inputs": ("float32", ()), "labels": ("float32", ())}
    with store_spec.create_store(tmp_path / "a", **arrays, missing="keep") as writer:
        writer.append(masked, masked, source="a")
    for rows in store_spec.open_store(tmp_path / "a")[0]:
        np.testing.assert_array_equal(rows, np.array([0, np.nan, 2, 3], "float32"))


@pytest.mark.parametrize("kept", [False, True])
def test_masks_of_filled_values_must_fit_the_inputs_and_the_store(tmp_path, kept):
    rows, labels = np.zeros((2, 2), "f4"), np.zeros(2, "i1")
    with store_spec.create_store(tmp_path / "s", inputs=("float32", (2,)), labels=("int8", ()), filled=kept) as writer:
        for wrong in ("x", [True, True], [[1, 0], [0, 1]], np.zeros((2, 2), "i1"), np.zeros((2, 1), bool)):
            with pytest.raises(SequenceError, match=r"filled is .*; it is bool of shape \(2, 2\), as inputs"):
                writer.append(rows, labels, source="a", filled=wrong)
        if not kept:
            with pytest.raises(SequenceError, match="filled is True for 4 of 4 values, where this store does not say "):
                writer.append(rows, labels, source="a", filled=rows == 0)
        writer.append(rows, labels, source="a", filled=rows == 1)
        writer.append(rows, labels, source="b")
    if kept:
        assert not store_spec.open_store(tmp_path / "s").snapshot.rows("filled", 0, 4).any()


@pytest.mark.parametrize(("source", "message"), [("", "name"), ("\ud800", "name"), (Path("x"), "is not text")])
def test_a_source_has_a_name_in_unicode(tmp_path, source, message):
    with Recipe().create(tmp_path / "store") as writer, pytest.raises(SequenceError, match=message):
        writer.append(GOOD, LABELS, source=source)
