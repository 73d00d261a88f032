"""Builds, from files to a store, compared with the list of the sequences bit for bit, on any engine."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

import builder
import store_spec
from builder import BuildError, UsageError, inspect, preview, repair
from builder.execution.run import put_shards
from builder.planning.plan import Plan
from store_spec.disk.ledger import Ledger
from tests.builder.command import python
from tests.builder.made_sources import RAISED, Made, assert_store, read_made, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import files


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of the user with two workers in this process, which is quick to start."""
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", memory_limit=0
    )
    with cluster, Client(cluster) as client:
        yield client


def build(place: Path, store: str = "store", **options: Any) -> builder.Report:
    """Build with shards of two chunks, so that there are many shards and many chunks."""
    defaults: dict[str, Any] = {"process": read_made, "chunk": 600, "shard": 1200, "workers": 0}
    return builder.build(place / "src", place / store, **defaults | options)


def test_batches_become_smaller_at_the_end_unless_a_size_is_requested(tmp_path, client, monkeypatch):
    asked, split_into_batches = [], Plan.batches

    def batches(self: Plan, *arguments: Any, workers: int = 0) -> Any:
        asked.append((arguments[0], workers))
        return split_into_batches(self, *arguments, workers=workers)

    monkeypatch.setattr(Plan, "batches", batches)
    write_made(tmp_path / "src", {"a.made": Made(), "b.made": Made(seed=1)})
    build(tmp_path, "one", scheduler=client, workers=1)  # the cluster has two, with one thread each
    build(tmp_path, "two", scheduler=client, workers=1, batch="150kB")
    build(tmp_path, "three")
    assert asked == [(2**25, 2), (150_000, 0), (2**25, 0)]


def test_only_new_sources_are_processed_and_later_ones_give_the_store_of_one_build(tmp_path, client):
    sources = {f"{number:02}.made": Made(lengths=(30, number), seed=number) for number in range(20)}
    first = dict(list(sources.items())[:7])
    log = tmp_path / "log"  # a list in a worker would not be this one

    def counted(path: Path) -> Any:
        with log.open("a") as file:
            file.write(f"{path.name}\n")
        return read_made(path)

    write_made(tmp_path / "src", first)
    build(tmp_path, process=counted)
    assert_store(tmp_path / "store", first)
    write_made(tmp_path / "src", sources)
    log.unlink()
    report = build(tmp_path, process=counted, scheduler=client, batch="150kB")
    assert sorted(log.read_text().split()) == sorted(sources.keys() - first)
    assert (report.unchanged, report.added) == (7, 13)
    one = build(tmp_path, "whole", process=counted)
    before = assert_store(tmp_path / "store", sources)
    assert before == assert_store(tmp_path / "whole", sources)
    rows = [len(data) for name, data in before.items() if name.startswith(("inputs/c.", "labels/c."))]
    assert one.bytes_written == sum(rows)
    other = build(tmp_path, "workers", process=counted, scheduler=client, batch=1)
    assert replace(other, store=one.store, seconds=one.seconds) == one

    log.unlink()
    report = build(tmp_path, process=counted)
    assert (report.unchanged, report.added, report.sequences, report.total_sequences) == (20, 0, 0, 40)
    assert not log.exists()
    assert files(tmp_path / "store") == before


def test_options_of_a_manifest_without_one_are_refused(tmp_path):
    for option in ("key", "label_column", "manifest_only", "manifest_strict", "keep"):
        with pytest.raises(UsageError, match=f"{option} goes with a manifest"):
            build(tmp_path, **{option: "x"})


def crash(path: Path) -> Any:
    if (path.parents[1] / "deadly").exists():
        if path.name == "00.made":
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name == "05.made":
            os._exit(1)
    return read_made(path)


@pytest.mark.slow
def test_crashing_sources_are_left_out_named_and_tried_again(tmp_path):
    sources = {f"{number:02}.made": Made(lengths=(50,), seed=number) for number in range(12)}
    write_made(tmp_path / "src", sources)
    (tmp_path / "deadly").touch()
    report = build(tmp_path, process=crash, workers=2, batch="150kB")
    assert [str(failure).partition("; ")[0] for failure in report.failures] == [
        "00.made: it ended the process that read it, by SIGSEGV",
        "05.made: it ended the process that read it, with exit status 1",
    ]
    assert "; the code that reads it crashed, or there was too little memory" in report.failures[0].reason
    failed = {failure.source for failure in report.failures}
    assert_store(tmp_path / "store", {name: made for name, made in sources.items() if name not in failed})
    (tmp_path / "deadly").unlink()
    assert not build(tmp_path, process=crash, workers=0).failures
    assert len(store_spec.open_store(tmp_path / "store")) == 12


SCRIPT = """
import sys
from pathlib import Path

import builder
import numpy as np

scale = 3


def read(path):
    rows = np.loadtxt(path, dtype=np.float32, ndmin=2)
    return rows * scale, rows[:, :1]


place = Path(sys.argv[1])
print(len(builder.build(place / "src", place / "one", process=read, workers=2).failures))
print(len(builder.build(place / "src", place / "two", process=lambda path: read(path), workers=1).failures))
"""


@pytest.fixture
def numbers(tmp_path):
    """Three files of numbers, in a format that we do not read."""
    (tmp_path / "src").mkdir()
    for number in range(1, 4):
        np.savetxt(tmp_path / "src" / f"{number}.numbers", np.arange(number * 4.0).reshape(-1, 2))
    return tmp_path


@pytest.mark.slow
def test_functions_of_a_script_without_a_main_guard_work_on_worker_processes_and_nothing_else_is_printed(numbers):
    (numbers / "script.py").write_text(SCRIPT)
    done = python("script.py", numbers, folder=numbers)
    assert (done.stdout, done.stderr, done.returncode) == ("0\n0\n", "", 0)
    for name in ("one", "two"):
        store = store_spec.open_store(numbers / name)
        assert [store[number][0].tolist() for number in range(3)] == [
            (np.arange(number * 4.0).reshape(-1, 2) * 3).tolist() for number in range(1, 4)
        ]


@pytest.mark.slow
def test_a_function_that_workers_cannot_import_is_refused_before_anything_is_made(numbers):
    write_files(numbers / "hidden", {"unseen.py": "def read(path): ...\n"})
    (numbers / "script.py").write_text(
        "import sys\nsys.path.insert(0, 'hidden')\nimport unseen\nsys.path.remove('hidden')\n"
        "import builder\n"
        "try:\n    builder.build('src', 'store', process=unseen.read, workers=1)\n"
        "except builder.UsageError as error:\n    print(error)\n"
    )
    done = python("script.py", folder=numbers)
    assert done.stdout.startswith("the process function cannot be imported on a worker: ModuleNotFoundError: ")
    assert (done.stderr, done.returncode) == ("", 0)
    assert not (numbers / "store").exists()


@pytest.mark.parametrize("together", [2, 64])
def test_a_source_without_rows_does_not_determine_the_schema(tmp_path, monkeypatch, together):
    """They come first here, as tables with only a header."""
    monkeypatch.setattr(import_module("builder.execution.build"), "PROBED", together)  # by its name it is the function
    folder, store = tmp_path / "src", tmp_path / "some.zarr"
    write_files(folder, {f"{number}.csv": "time,a\n" for number in range(9)})
    with pytest.raises(BuildError, match="no store was made, as no source could be used: 0 failed, 9 skipped as empty"):
        builder.build(folder, store, workers=0)
    write_files(folder, {"9.csv": "a\n1\n2\n", "99.csv": "a\n"})
    report = builder.build(folder, store, workers=0)
    assert (report.added, report.steps, [one.source for one in report.skipped]) == (1, 2, ["99.csv"])
    assert [failure.source for failure in report.failures] == [f"{number}.csv" for number in range(9)]
    assert all("it has besides time" in failure.reason for failure in report.failures)
    for number in range(1, 9):
        (folder / f"{number}.csv").unlink()
    dry: Any = builder.preview(folder, tmp_path / "new.zarr")
    assert list(dry.result.inputs["names"]) == ["a"]


def test_results_are_one_line_each(tmp_path: Path):
    sources = {f"{number}.made": Made(lengths=(9, 4), seed=number) for number in range(3)}
    write_made(tmp_path / "in", sources | {"bad.made": Made(fault="raises")})
    store = tmp_path / "s.zarr"
    ahead = preview(tmp_path / "in", store, process=read_made)
    assert repr(ahead).startswith("<preview of s.zarr: 4 of 4 sources to process, ")
    assert repr(ahead).endswith(" bytes to read, 1 of 4 read for this failed>")
    first, second = repr(builder.build(tmp_path / "in", store, process=read_made, workers=0)).splitlines()
    assert first.startswith("<build of s.zarr: 3 sources added, 6 sequences, 39 steps, ")
    assert first.endswith("; 1 failed>")
    assert second == f"  bad.made: ValueError: bad.made: cannot be read{RAISED}"
    found = repr(inspect(store))
    assert found.startswith("<inspection of s.zarr: 6 sequences of 3 sources, 39 steps, ")
    assert found.endswith(" files, 1 failures>")
    assert repr(repair(store, tmp_path / "in", process=read_made, workers=0)) == (
        "<repair: 0 problems, 0 shards restored, 0 left>"
    )


def test_a_build_without_usable_sources_is_an_error_unless_failures_are_expected(tmp_path: Path):
    bad = {f"{number}.made": Made(fault="raises") for number in range(7)}
    write_made(tmp_path / "src", bad | {"empty.made": Made(fault="nothing")})
    with pytest.raises(BuildError) as caught:
        build(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("store: no store was made, as no source could be used: 7 failed, 1 skipped as empty")
    assert lines[1].startswith("  0.made: ValueError: 0.made: cannot be read")
    assert (len(lines), lines[-1]) == (7, "  and 2 more: see failures")
    report = build(tmp_path, max_failures="100%")
    assert (len(report.failures), len(report.skipped)) == (7, 1)
    for name in bad:
        (tmp_path / "src" / name).unlink()
    empty = r"no source could be used: 0 failed, 1 skipped as empty\s+empty.made: it gave no"
    with pytest.raises(BuildError, match=empty):
        build(tmp_path)
    write_made(tmp_path / "src", {"good.made": Made()})
    build(tmp_path)
    write_made(tmp_path / "src", {"0.made": Made(fault="raises")})
    assert len(build(tmp_path).failures) == 1


def test_a_build_without_usable_sources_makes_no_store_and_changes_none(tmp_path, monkeypatch):
    """The first source is good when the schema is made from it, and bad when it is processed."""
    write_made(tmp_path / "src", {"a.made": Made(seed=1)})
    calls: list[Path] = []

    def once(path: Path) -> Any:
        calls.append(path)
        if len(calls) % 2 == 0:
            raise ValueError("not twice")
        return read_made(path)

    assert build(tmp_path, process=once, max_failures=99).added == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]
    calls.append(Path())  # the next call raises
    # The same into an existing empty store: the build must not wait for its own lock.
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    process = {"function": f"{__name__}:{once.__qualname__}"}
    described: dict[str, Any] = {"process": process, "label_axis": None, "manifest": None, "code": []}
    found = store_spec.Schema.plan(store_spec.Rows(np.dtype("float32"), (3,)), store_spec.Rows(np.dtype("int16"), ()))
    with Ledger.create(tmp_path / "store", found, {"build": described}) as ledger:
        ledger.commit()
    (failure,) = builder.build(tmp_path / "src", tmp_path / "store", process=once, workers=0, max_failures=99).failures
    assert failure.reason.startswith("ValueError: not twice (test_build.py, line ")
    assert store_spec.open_store(tmp_path / "store").provenance["failures"]["count"] == 1


def test_partial_files_of_a_dead_worker_are_removed(tmp_path, monkeypatch):
    write_made(tmp_path / "src", {f"{number}.made": Made(lengths=(40,), seed=number) for number in range(9)})
    build(tmp_path, "clean")

    def litter(jobs: Any, *parts: Any) -> int:
        for job in jobs:
            (job.storage.root / job.name / f"c.{job.number}.0.dead.partial").write_bytes(b"half")
        return put_shards(jobs, *parts)

    monkeypatch.setattr("builder.execution.run.put_shards", litter)
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    build(tmp_path)
    assert files(tmp_path / "store") == files(tmp_path / "clean")
