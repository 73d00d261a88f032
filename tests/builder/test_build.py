"""Builds, from files to a store, held against the list of the sequences: bit for bit, whatever runs the tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster

import builder
import store_spec
from builder.build_errors import BuildError, UsageError
from builder.planning.plan import Plan
from builder.workers.local_cluster import DASK_CONFIG
from store_spec.disk.storage import LocalStorage
from store_spec.errors import StorageError
from tests.builder.leftovers import threads_left
from tests.builder.made_sources import RAISED, Made, assert_store, expected, read_made, sources_in, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import Sequence, assert_holds, files

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers of a cluster that is not ours to stop, in this process: quick to start."""
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", memory_limit=0
    )
    with cluster, Client(cluster) as client:
        yield client


def many_sources(axis: Any = "step") -> dict[str, Made]:
    """Return good and bad sources, short and long ones; the bad ones in the middle and at the start."""
    lengths = [(0,), (5,), (40, 0, 3), (900,), (1,), (2, 2, 2)] * 4
    sources = {
        f"{'wälk' if number % 2 else 'b'}/{number:02}.made": Made(lengths=lengths[number], seed=number, axis=axis)
        for number in range(len(lengths))
    }
    sources["a.made"] = Made(fault="raises", axis=axis)
    sources["b/07.made"] = Made(lengths=(3, 4), fault="raises midway", axis=axis)
    sources["b/15.made"] = Made(fault="wrong shape", axis=axis)
    return sources


def build(place: Path, store: str = "store", **options: Any) -> builder.Report:
    """Build with shards of two chunks, so that there are many shards and many chunks."""
    defaults: dict[str, Any] = {"process": read_made, "chunk": 600, "shard": 1200, "workers": 0}
    return builder.build(place / "src", place / store, **defaults | options)


@pytest.mark.parametrize("axis", ["sequence", "own"])
def test_labels_of_the_other_axes_are_stored_too(tmp_path, client, axis):
    sources = many_sources(axis)
    write_made(tmp_path / "src", sources)
    build(tmp_path, "one", label_axis=axis)
    build(tmp_path, "two", label_axis=axis, scheduler=client, batch="150kB")
    assert assert_store(tmp_path / "one", sources) == assert_store(tmp_path / "two", sources)
    if axis == "sequence":
        build(tmp_path, "guessed")
        assert_store(tmp_path / "guessed", sources)


def test_batches_become_smaller_at_the_end_unless_a_size_is_asked_for(tmp_path, client, monkeypatch):
    asked, split_into_batches = [], Plan.batches

    def batches(self: Plan, *arguments: Any, workers: int = 0) -> Any:
        asked.append((arguments[0], workers))
        return split_into_batches(self, *arguments, workers=workers)

    monkeypatch.setattr(Plan, "batches", batches)
    write_made(tmp_path / "src", {"a.made": Made(), "b.made": Made(seed=1)})
    build(tmp_path, "one", scheduler=client, workers=1)  # the cluster has two, of a thread each
    build(tmp_path, "two", scheduler=client, workers=1, batch="150kB")
    build(tmp_path, "three")
    assert asked == [(2**25, 2), (150_000, 0), (2**25, 0)]


def test_only_what_is_new_is_processed_and_what_sorts_after_gives_the_store_of_one_build(tmp_path, client):
    sources = {f"{number:02}.made": Made(lengths=(30, number), seed=number) for number in range(20)}
    names = sorted(sources)
    log = tmp_path / "log"  # a list would not come back from where the function is called

    def counted(path: Path) -> Any:
        with log.open("a") as file:
            file.write(f"{path.name}\n")
        return read_made(path)

    write_made(tmp_path / "src", sources)
    build(tmp_path, "whole", process=counted)
    for name in names[7:]:
        (tmp_path / "src" / name).unlink()
    build(tmp_path, process=counted)
    assert_store(tmp_path / "store", {name: sources[name] for name in names[:7]})
    write_made(tmp_path / "src", sources)
    log.unlink()
    report = build(tmp_path, process=counted, scheduler=client, batch="150kB")
    calls = log.read_text().split()
    assert sorted(set(calls)) == names[7:]
    assert len(calls) == len(names[7:]) + 1  # the first is looked at before it is processed
    assert (report.unchanged, report.added) == (7, 13)
    assert assert_store(tmp_path / "store", sources) == assert_store(tmp_path / "whole", sources)

    before = files(tmp_path / "store")
    log.unlink()
    report = build(tmp_path, process=counted)
    assert (report.unchanged, report.added, report.sequences, report.total_sequences) == (20, 0, 0, 40)
    assert not log.exists()
    assert files(tmp_path / "store") == before


def test_a_source_that_failed_is_tried_again(tmp_path):
    sources = {"a.made": Made(seed=1), "b.made": Made(fault="raises"), "c.made": Made(seed=3)}
    write_made(tmp_path / "src", sources)
    build(tmp_path)
    assert store_spec.open_store(tmp_path / "store").provenance["failures"]["count"] == 1
    report = build(tmp_path)
    assert [failure.source for failure in report.failures] == ["b.made"]
    write_made(tmp_path / "src", {"b.made": Made(seed=2)})
    report = build(tmp_path)
    assert (report.failures, report.added) == ((), 1)
    store = store_spec.open_store(tmp_path / "store")
    assert store.sources == ("a.made", "c.made", "b.made")
    assert store.provenance["failures"] == {"count": 0, "listed": []}


def test_no_store_is_made_where_every_source_fails(tmp_path):
    write_made(tmp_path / "src", {f"{number}.made": Made(fault="raises") for number in range(3)})
    report = build(tmp_path, max_failures=99)
    assert [str(failure) for failure in report.failures] == [
        f"{number}.made: ValueError: {number}.made: cannot be read{RAISED}" for number in range(3)
    ]
    assert (report.added, report.total_sequences) == (0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_a_store_is_left_as_it_is_where_every_new_source_fails(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made()})
    build(tmp_path)
    write_made(tmp_path / "src", {"b.made": Made(fault="raises")})
    report = build(tmp_path)
    assert (report.unchanged, report.added, report.total_sequences) == (1, 0, 1)
    assert_store(tmp_path / "store", {"a.made": Made()})
    assert store_spec.open_store(tmp_path / "store").provenance["failures"]["count"] == 1


def test_a_source_larger_than_a_shard_and_than_a_batch_is_one_sequence(tmp_path, client):
    sources = {"a.made": Made(lengths=(10,)), "b.made": Made(lengths=(5_000,), seed=1), "c.made": Made(seed=2)}
    write_made(tmp_path / "src", sources)
    build(tmp_path, "one", batch=1)
    build(tmp_path, "two", batch=1, scheduler=client)
    assert assert_store(tmp_path / "one", sources) == assert_store(tmp_path / "two", sources)


def test_labels_come_from_the_manifest_where_the_function_returns_inputs_only(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(4):
        np.save(tmp_path / "src" / f"{number}.npy", np.full((number + 1, 2), number, np.float32))
    (tmp_path / "m.csv").write_text("source,speaker,age\n" + "".join(f"{n},{n * 7},{n + 0.5}\n" for n in range(4)))
    options = {"manifest": tmp_path / "m.csv", "label_column": "speaker,age"}
    build(tmp_path, process=np.load, **options)
    wanted = [Sequence(f"{n}.npy", np.full((n + 1, 2), n, np.float32), np.array([n * 7, n + 0.5])) for n in range(4)]
    store = store_spec.open_store(tmp_path / "store")
    assert_holds(store, wanted)
    assert store.schema.labels.names == ("speaker", "age")
    build(tmp_path, "tables", process=None, **options)
    assert_holds(store_spec.open_store(tmp_path / "tables"), wanted)


def test_options_of_a_manifest_without_one_are_refused(tmp_path):
    for option in ("key", "label_column", "manifest_only", "manifest_strict", "keep"):
        with pytest.raises(UsageError, match=f"{option} goes with a manifest"):
            build(tmp_path, **{option: "x"})
    write_made(tmp_path / "src", {"a.made": Made()})
    with pytest.raises(UsageError, match="workers=-1"):
        build(tmp_path, workers=-1)


@pytest.mark.slow
@pytest.mark.parametrize("refused", [1, 20, 45, 70])
def test_a_disk_that_is_full_is_told_and_the_next_build_ends_with_the_same_bytes(tmp_path, monkeypatch, refused):
    sources = {f"{number:02}.made": Made(lengths=(50,), seed=number) for number in range(30)}
    write_made(tmp_path / "src", sources)
    build(tmp_path, "whole")
    puts, put = 0, LocalStorage.put

    def put_until_full(storage: LocalStorage, key: str, parts: Any, check: Any = None) -> None:
        nonlocal puts
        puts += 1
        if puts >= refused:
            raise StorageError(28, f"{storage.path(key)}: writing failed: No space left on device")
        put(storage, key, parts, check)

    monkeypatch.setattr(LocalStorage, "put", put_until_full)
    with pytest.raises(StorageError, match="No space left"):
        build(tmp_path, batch="150kB")
    monkeypatch.undo()
    held = sources_in(tmp_path / "store")
    if (tmp_path / "store").exists():
        assert_holds(store_spec.open_store(tmp_path / "store"), expected({name: sources[name] for name in held}))
    build(tmp_path, batch="150kB")
    assert assert_store(tmp_path / "store", sources) == assert_store(tmp_path / "whole", sources)


def die_once(path: Path) -> Any:
    if path.name == "05.made" and (flag := path.parents[1] / "flag").exists():
        flag.unlink()
        os._exit(1)
    return read_made(path)


def die_always(path: Path) -> Any:
    if path.name == "05.made" and (path.parents[1] / "deadly").exists():
        os._exit(1)
    return read_made(path)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_no_process_or_thread_is_left(tmp_path):
    sources = {f"{number:02}.made": Made(lengths=(50, 20), seed=number) for number in range(12)}
    write_made(tmp_path / "src", sources)
    build(tmp_path, "whole", process=die_once)
    (tmp_path / "flag").touch()
    me = psutil.Process()
    children, threads = set(me.children(recursive=True)), set(threading.enumerate())
    build(tmp_path, process=die_once, workers=2, batch="150kB")
    assert not (tmp_path / "flag").exists()
    left = set(me.children(recursive=True)) - children
    assert not [child for child in left if "resource_tracker" not in " ".join(child.cmdline())]
    assert not threads_left(threads)
    assert assert_store(tmp_path / "store", sources) == assert_store(tmp_path / "whole", sources)


def crash(path: Path) -> Any:
    if path.name == "00.made" and (path.parents[1] / "deadly").exists():
        os.kill(os.getpid(), signal.SIGSEGV)
    return die_always(path)


@pytest.mark.slow
def test_sources_that_end_the_process_that_reads_them_are_left_out_and_named_and_tried_again(tmp_path):
    sources = {f"{number:02}.made": Made(lengths=(50,), seed=number) for number in range(12)}
    write_made(tmp_path / "src", sources)
    (tmp_path / "deadly").touch()
    report = build(tmp_path, process=crash, workers=2, batch="150kB")
    assert [failure.source for failure in report.failures] == ["00.made", "05.made"]
    segfault, left = (failure.reason for failure in report.failures)
    advice = "; the code that reads it crashed, or there was too little memory"
    assert segfault == "it ended the process that read it, by SIGSEGV" + advice
    assert left == "it ended the process that read it, with exit status 1" + advice
    failed = {failure.source for failure in report.failures}
    assert_store(tmp_path / "store", {name: made for name, made in sources.items() if name not in failed})
    (tmp_path / "deadly").unlink()
    assert not build(tmp_path, process=crash, workers=0).failures
    assert len(store_spec.open_store(tmp_path / "store")) == 12


def die_in_workers(path: Path) -> Any:
    if path.name == "05.made" and multiprocessing.parent_process() is not None:
        os._exit(1)
    return read_made(path)


@pytest.mark.slow
def test_workers_that_die_of_what_no_source_does_alone_are_an_error_that_names_them(tmp_path):
    write_made(tmp_path / "src", {f"{number:02}.made": Made(lengths=(50,), seed=number) for number in range(12)})
    with pytest.raises(BuildError, match=r"died repeatedly on one of these \d+ sources: .*05.made.*--workers 0"):
        build(tmp_path, process=die_in_workers, workers=1, batch="150kB")
    build(tmp_path, process=die_in_workers, workers=0)
    assert len(store_spec.open_store(tmp_path / "store")) == 12


def test_the_first_usable_source_is_found_wherever_it_is_and_each_failure_is_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["builder.execution.build"], "PROBED", 2)
    bad = {f"a{number:02}.made": Made(fault="raises") for number in range(11)}
    write_made(tmp_path / "src", bad)
    report = build(tmp_path, max_failures=99)
    assert sorted(failure.source for failure in report.failures) == sorted(bad)
    assert not (tmp_path / "store").exists()
    sources = bad | {"b.made": Made(lengths=(50,))}
    write_made(tmp_path / "src", sources)
    report = build(tmp_path, max_failures=99)
    assert sorted(failure.source for failure in report.failures) == sorted(bad)
    assert_store(tmp_path / "store", sources)


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


def python(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as a user does, in a folder of the user's own."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def numbers(tmp_path):
    """Three files of numbers, which no format of ours reads."""
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
def test_a_function_is_named_by_its_module_in_the_working_folder(numbers):
    (numbers / "my_numbers.py").write_text(
        "import numpy as np\n\n"
        "def read(path):\n    import my_helper\n    return my_helper.pair(np.loadtxt(path, ndmin=2))\n"
    )
    (numbers / "my_helper.py").write_text("def pair(rows):\n    return rows, rows[:, 0]\n")
    # The script lies elsewhere, as the command `seqzarr` does, so the working folder is on nobody's path.
    (numbers / "bin").mkdir()
    (numbers / "bin" / "script.py").write_text(
        "import builder\nprint(builder.build('src', 'store', process='my_numbers:read', workers=1).failures)\n"
    )
    done = python("bin/script.py", folder=numbers)
    assert (done.stdout, done.stderr, done.returncode) == ("()\n", "", 0)
    assert store_spec.open_store(numbers / "store").lengths.tolist() == [2, 4, 6]


@pytest.mark.slow
def test_a_function_that_workers_cannot_import_is_told_before_anything_is_made(numbers):
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


def test_a_scheduler_is_reached_by_its_address_and_goes_on_afterwards(tmp_path, client):
    sources = many_sources()
    write_made(tmp_path / "src", sources)
    build(tmp_path, scheduler=client.scheduler.address, batch="300kB")
    assert_store(tmp_path / "store", sources)
    assert client.submit(len, "abc").result() == 3


def test_the_settings_are_known_to_dask():
    from dask import config

    # Of variables of the environment, dask has a mapping, to which any can be added.
    names = {name.rpartition(".")[0] if "environ." in name else name for name in DASK_CONFIG}
    assert all(config.get(name, default="unknown") != "unknown" for name in names)


@pytest.mark.parametrize("together", [2, 64])
def test_a_source_without_rows_does_not_say_what_the_others_are_like(tmp_path, monkeypatch, together):
    """They come first here, as tables of nothing but a header."""
    monkeypatch.setattr(import_module("builder.execution.build"), "PROBED", together)  # by its name it is the function
    folder, store = tmp_path / "src", tmp_path / "some.zarr"
    write_files(folder, {f"{number}.csv": "time,a\n" for number in range(9)})
    with pytest.raises(BuildError, match="no store was made, as no source could be used: 0 failed, 9 skipped as empty"):
        builder.build(folder, store, workers=0)
    (folder / "9.csv").write_text("a\n1\n2\n")
    (folder / "99.csv").write_text("a\n")
    report = builder.build(folder, store, workers=0)
    assert (report.added, report.steps, [one.source for one in report.skipped]) == (1, 2, ["99.csv"])
    assert [failure.source for failure in report.failures] == [f"{number}.csv" for number in range(9)]
    assert all("it has besides time" in failure.reason for failure in report.failures)
    for number in range(1, 9):
        (folder / f"{number}.csv").unlink()
    dry = builder.preview(folder, tmp_path / "new.zarr")
    assert dry.result is not None
    assert list(dry.result.inputs["names"]) == ["a"]
