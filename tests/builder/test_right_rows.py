"""Ways in which a build could store wrong rows, or the same rows twice, without an error."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from builder import build, tabular
from builder.build_errors import UsageError
from builder.execution.run import put_shards
from builder.sources.fingerprints import read_fingerprint
from store_spec.disk.ledger import Ledger
from tests.builder.made_sources import Made, read_made, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import files


def test_columns_are_found_by_name_whatever_their_order_in_a_file(tmp_path):
    tables = {
        "1.csv": "a,b,c\n1,2,3\n",
        "2.csv": "c,a,b\n300,100,200\n",
        "3.csv": "x,y,z\n7,8,9\n",
        "4.csv": "a,b\n1,2\n",
    }
    report = build(write_files(tmp_path / "src", tables), tmp_path / "store")
    store = store_spec.open_store(tmp_path / "store")
    assert store.schema.inputs.names == ("a", "b", "c")
    assert [inputs.tolist() for inputs, _ in store] == [[[1, 2, 3]], [[100, 200, 300]]]
    assert [str(failure) for failure in report.failures] == [
        (
            "3.csv: its columns for the inputs are not those of the store: it lacks a, b, c and has besides x, y, z; "
            "name the columns to take with --inputs, or leave some out with --exclude"
        ),
        (
            "4.csv: its columns for the inputs are not those of the store: it lacks c; "
            "name the columns to take with --inputs, or leave some out with --exclude"
        ),
    ]
    write_files(tmp_path / "src", {"5.csv": "b,c,a\n20,30,10\n"})  # the names come from the store now
    build(tmp_path / "src", tmp_path / "store")
    assert store_spec.open_store(tmp_path / "store")[2][0].tolist() == [[10, 20, 30]]


def test_a_range_of_columns_takes_the_same_ones_from_every_file(tmp_path):
    tables = {"1.csv": "a,b,c,y\n1,2,3,0\n", "2.csv": "b,a,c,y\n2,1,3,0\n", "3.csv": "a,q,c,y\n1,9,3,0\n"}
    write_files(tmp_path / "src", tables)
    report = build(tmp_path / "src", tmp_path / "store", process=tabular(inputs="a:c", labels="y"))
    # In 2.csv the range is a and c alone: that file must say which columns it means.
    assert [failure.source for failure in report.failures] == ["2.csv", "3.csv"]
    assert [inputs.tolist() for inputs, _ in store_spec.open_store(tmp_path / "store")] == [[[1, 2, 3]]]


def test_files_that_are_in_the_store_under_another_root_are_not_appended_again(tmp_path):
    write_files(tmp_path / "src", {"a/1.csv": "v\n1\n", "a/2.csv": "v\n2\n", "b/1.csv": "v\n3\n"})
    build(tmp_path / "src", tmp_path / "store")
    before = files(tmp_path / "store")
    with pytest.raises(UsageError, match=r"1\.csv is already in the store, as a/1\.csv"):
        build(tmp_path / "src/a", tmp_path / "store")
    with pytest.raises(UsageError, match=r"src/a/1\.csv is already in the store, as a/1\.csv"):
        build(tmp_path, tmp_path / "store", process=tabular())
    assert files(tmp_path / "store") == before
    # Not even where another one of the store's has the name of the first.
    write_files(tmp_path / "src", {"1.csv": "v\n5\n"})
    assert build(tmp_path / "src", tmp_path / "store").added == 1
    with pytest.raises(UsageError, match=r"2\.csv is already in the store, as a/2\.csv"):
        build(tmp_path / "src/a", tmp_path / "store", process=tabular())
    # Other bytes under such a name are another file.
    write_files(tmp_path / "more", {"2.csv": "v\n9\n"})
    assert build(tmp_path / "more", tmp_path / "store").added == 1


def test_an_old_source_that_cannot_be_read_now_keeps_no_new_one_out(tmp_path, monkeypatch):
    write_files(tmp_path / "src", {"a.csv": "v\n1\n", "b.csv": "v\n2\n"})
    build(tmp_path / "src", tmp_path / "store")
    write_files(tmp_path / "src", {"c.csv": "v\n3\n"})

    def read(path):
        if os.path.basename(path) == "a.csv":
            raise PermissionError(13, "Permission denied")
        return read_fingerprint(path)

    os.utime(tmp_path / "src/a.csv", ns=(0, 0))
    monkeypatch.setattr("builder.sources.folder.read_fingerprint", read)
    assert build(tmp_path / "src", tmp_path / "store", workers=0).added == 1


def test_a_copy_of_a_source_in_another_folder_and_one_that_was_moved_are_sources_of_their_own(tmp_path):
    """As in one build of them all; the other new files are added too."""
    write_files(tmp_path / "src", {"pump.csv": "v\n0\n0\n", "n1.csv": "v\n1\n", "stays.csv": "v\n2\n"})
    build(tmp_path / "src", tmp_path / "store")
    write_files(tmp_path / "src", {"day2/pump.csv": "v\n0\n0\n", "other.csv": "v\n5\n"})
    (tmp_path / "src/n1.csv").rename(tmp_path / "src/day2/n1.csv")
    report = build(tmp_path / "src", tmp_path / "store")
    assert (report.added, report.vanished) == (3, ("n1.csv",))
    new = ["day2/n1.csv", "day2/pump.csv", "other.csv"]
    assert list(store_spec.open_store(tmp_path / "store").sources[-3:]) == new
    build(tmp_path / "src", tmp_path / "store", retire_missing=True)
    assert "n1.csv" not in store_spec.open_store(tmp_path / "store").sources


def test_a_source_that_changes_while_it_is_read_is_not_taken(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made(seed=1), "b.made": Made(seed=2)})

    def touched(path: Path) -> Any:
        if path.name == "a.made":
            os.utime(path, ns=(0, 0))
        return read_made(path)

    os.utime(tmp_path / "src/a.made", ns=(1, 1))
    report = build(tmp_path / "src", tmp_path / "store", process=touched, workers=0, max_failures=99)
    # Looked at and read again: by then it has the time that it keeps.
    assert [failure.source for failure in report.failures] == []

    def growing(path: Path) -> Any:
        pairs = list(read_made(path))
        with path.open("a") as file:
            file.write(" ")
        return pairs

    report = build(tmp_path / "src", tmp_path / "other", process=growing, workers=0, max_failures=99)
    assert [failure.reason for failure in report.failures] == [
        "it changed while it was read; the next build tries it again"
    ] * 2
    assert not (tmp_path / "other").exists()


def test_a_label_axis_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="label_axis='both' is none of step, sequence, own"):
        build(tmp_path, tmp_path / "store", label_axis="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", ["step", "own"])
def test_labels_of_a_sequence_are_on_no_other_axis(tmp_path, axis):
    write_files(tmp_path, {"src/1.csv": "a\n1\n", "labels.csv": "source,lab\n1.csv,5\n"})
    for options, where in (
        ({"manifest": tmp_path / "labels.csv", "label_column": "lab"}, "a manifest (label_column)"),
        ({"process": tabular(label_pattern=r"(\d)")}, "names (label_pattern)"),
    ):
        said = f"label_axis={axis} (--label-axis): labels in {where} are one row per sequence; leave it out"
        with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
            build(tmp_path / "src", tmp_path / "store", label_axis=axis, workers=0, **options)
        assert not (tmp_path / "store").exists()
        build(tmp_path / "src", tmp_path / where, label_axis="sequence", workers=0, **options)
        build(tmp_path / "src", tmp_path / where, workers=0, **options)


def test_a_process_function_that_raises_what_a_ctrl_c_does_is_a_failure_but_in_the_main_thread(tmp_path):
    write_made(tmp_path / "src", {name: Made() for name in ("a.made", "b.made", "c.made")})

    def read(path: Path) -> Any:
        if path.name == "b.made":
            raise KeyboardInterrupt
        return read_made(path)

    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(build, tmp_path / "src", tmp_path / "s", process=read, workers=0).result()
    (failure,) = report.failures
    assert str(failure).startswith("b.made: KeyboardInterrupt (test_right_rows.py, line ")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "src", tmp_path / "t", process=read, workers=0)


def test_a_build_in_which_all_sources_fail_leaves_no_store_and_changes_none(tmp_path, monkeypatch):
    """The first source is good when it is looked at, and bad when it is processed."""
    write_made(tmp_path / "src", {"a.made": Made(seed=1)})
    calls: list[Path] = []

    def once(path: Path) -> Any:
        calls.append(path)
        if len(calls) % 2 == 0:
            raise ValueError("not twice")
        return read_made(path)

    assert build(tmp_path / "src", tmp_path / "store", process=once, workers=0, max_failures=99).added == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]
    # The same into a store that is there and empty: it is not waited for a lock that this build holds itself.
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    described: dict[str, Any] = {
        "process": {"function": f"{__name__}:{once.__qualname__}"},
        "label_axis": None,
        "manifest": None,
        "code": [],
    }
    found = store_spec.Schema.plan(store_spec.Rows(np.dtype("float32"), (3,)), store_spec.Rows(np.dtype("int16"), ()))
    with Ledger.create(tmp_path / "store", found, {"build": described}) as ledger:
        ledger.commit()
    report = build(tmp_path / "src", tmp_path / "store", process=once, workers=0, max_failures=99)
    (failure,) = report.failures
    assert failure.reason.startswith("ValueError: not twice (test_right_rows.py, line ")
    assert store_spec.open_store(tmp_path / "store").provenance["failures"]["count"] == 1


def test_what_a_dead_worker_left_half_written_is_gone_when_the_build_ends(tmp_path, monkeypatch):
    write_made(tmp_path / "src", {f"{number}.made": Made(lengths=(40,), seed=number) for number in range(9)})
    build(tmp_path / "src", tmp_path / "clean", process=read_made, workers=0, chunk=600, shard=1200)

    def litter(jobs: Any, *parts: Any) -> int:
        for job in jobs:
            (job.storage.root / job.name / f"c.{job.number}.0.dead.partial").write_bytes(b"half")
        return put_shards(jobs, *parts)

    monkeypatch.setattr("builder.execution.run.put_shards", litter)
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    build(tmp_path / "src", tmp_path / "store", process=read_made, workers=0, chunk=600, shard=1200)
    assert files(tmp_path / "store") == files(tmp_path / "clean")


class Panic(BaseException):
    """As libraries in Rust raise one: no Exception."""


def raising(path: Path) -> Any:
    if path.name == "2.csv":
        raise Panic("unwrap of None")
    if path.name == "3.csv":
        raise SystemExit(3)
    return np.ones((3, 1)), np.ones(3)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_a_process_function_raises_is_a_failure_of_that_source(tmp_path, workers):
    write_files(tmp_path / "src", {f"{number}.csv": "v\n1\n" for number in range(4)})
    report = build(tmp_path / "src", tmp_path / "store", process=raising, workers=workers, max_failures=99)
    assert report.added == 2
    said = [str(failure).partition(" (test_right_rows.py, line ") for failure in report.failures]
    assert [(what, bool(where)) for what, where, _ in said] == [
        ("2.csv: Panic: unwrap of None", True),
        ("3.csv: SystemExit: 3", True),
    ]


def test_a_process_function_that_goes_to_another_folder_does_not_take_the_store_along(tmp_path, monkeypatch):
    write_files(tmp_path / "src", {"1.csv": "v\n1\n", "2.csv": "v\n2\n"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def read(path: Path) -> Any:
        os.chdir(tmp_path / "elsewhere")
        return np.loadtxt(path, skiprows=1, ndmin=2), np.ones(1)

    assert build("src", "store", process=read, workers=0).added == 2
    assert [x.tolist() for x, _ in store_spec.open_store(tmp_path / "store")] == [[[1.0]], [[2.0]]]
    assert Path.cwd() == tmp_path
    assert not list((tmp_path / "elsewhere").iterdir())


class Locked:
    """A process function that cannot be sent to another process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, path: Path) -> Any:
        return np.loadtxt(path, skiprows=1, ndmin=2), np.ones(1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the process function uses values that cannot be compared")  # the lock
def test_a_process_function_that_cannot_be_sent_is_refused_in_words(tmp_path):
    write_files(tmp_path / "src", {"1.csv": "v\n1\n"})
    with pytest.raises(UsageError, match=r"cannot be sent to workers: TypeError: .*lock.*: workers=0"):
        build(tmp_path / "src", tmp_path / "store", process=Locked(), workers=1)
    assert build(tmp_path / "src", tmp_path / "store", process=Locked(), workers=0).added == 1
