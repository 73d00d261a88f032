"""Sources that kill the process that reads them are found in an extra process, one after another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyarrow import ipc

import store_spec
from builder import build
from builder.execution.build import _call_on_worker
from builder.manifest.kept_columns import KeptColumn
from builder.processes.function_process import FunctionProcess
from builder.sources.folder import LocalFolder
from builder.workers.crashes import find_crashes
from builder.workers.engine import InProcessEngine
from builder.workers.process_source import SourceBatch
from store_spec.format.sequence_columns import SequenceColumn
from tests.builder.source_files import write_files

MEMORY = 2**31
NAMES = ("a", "b", "c", "d", "e")


def batch_of(folder: Path, *, labels: Any = None, kept: tuple[KeptColumn, ...] = ()) -> SourceBatch:
    return SourceBatch(
        folder=LocalFolder(folder), names=NAMES, labels=labels, process=FunctionProcess(function=print), kept=kept
    )


def end_some(batch: SourceBatch, how: dict[str, int]) -> None:
    print("what a source prints is no answer", batch.names)
    os.write(1, b"3\n")
    status = how.get(batch.names[0])
    if status is not None and status < 0:
        os.kill(os.getpid(), -status)
    if status is not None:
        os._exit(status)


@pytest.mark.slow
def test_each_crashing_source_is_reported_with_the_cause(tmp_path):
    how = {"a": -signal.SIGSEGV, "b": -signal.SIGKILL, "d": 0, "e": 3}
    found = find_crashes(batch_of(tmp_path), MEMORY, end_some, how)
    assert list(found) == ["a", "b", "d", "e"]
    said = ["by SIGSEGV;", "by SIGKILL;", "with exit status 0;", "with exit status 3;"]
    assert all(
        text.startswith(f"it ended the process that read it, {end}")
        for text, end in zip(found.values(), said, strict=True)
    )
    assert find_crashes(batch_of(tmp_path), MEMORY, end_some, {}) == {}


@pytest.mark.slow
def test_after_a_crash_workers_read_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("builder.workers.crashes.MORE_SECONDS", -1)
    how = {"b": -signal.SIGSEGV, "d": -signal.SIGSEGV}
    assert list(find_crashes(batch_of(tmp_path), MEMORY, end_some, how)) == ["b"]


def die_of(batch: SourceBatch, how: dict[str, int]) -> tuple[str, ...]:
    if how.keys() - batch.crashed.keys():
        raise ChildProcessError
    return batch.names


def test_crashes_of_the_first_sources_are_found_one_by_one(tmp_path, monkeypatch):
    how = {"a": -signal.SIGSEGV, "d": -signal.SIGSEGV}
    engine = InProcessEngine()
    engine.lost = (ChildProcessError,)

    def find_next(batch: SourceBatch, *_: Any) -> dict[str, str]:
        return {next(name for name in how if name not in batch.crashed): "crashed"}

    monkeypatch.setattr("builder.execution.build.find_crashes", find_next)
    assert _call_on_worker(engine, batch_of(tmp_path), die_of, how) == NAMES


def fail(batch: SourceBatch, folder: Path) -> None:
    (folder / batch.names[0]).write_text(f"{batch.labels} {[one.values.tolist() for one in batch.kept]}")
    raise ValueError(batch.names)


def test_errors_are_not_crashes_and_each_source_is_tried_alone(tmp_path):
    kept = KeptColumn(SequenceColumn("site", "int64"), np.arange(10, 15))
    batch = batch_of(tmp_path, labels=np.arange(5.0).reshape(5, 1), kept=(kept,))
    assert find_crashes(batch, MEMORY, fail, tmp_path) == {}
    assert [(tmp_path / name).read_text() for name in NAMES] == [f"[[{at}.]] [[{10 + at}]]" for at in range(5)]


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_a_process_that_cannot_start_is_not_a_crash_of_a_source(tmp_path, monkeypatch, program):
    class Ended(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.wait()  # before it gets its task

    monkeypatch.setattr(sys, "executable", program)
    assert find_crashes(batch_of(tmp_path), MEMORY, end_some, {}) == {}
    monkeypatch.setattr("builder.workers.crashes.subprocess.Popen", Ended)
    more_than_a_pipe_holds = {"f" * 2**20: 0}
    for how in ({}, more_than_a_pipe_holds):
        assert find_crashes(batch_of(tmp_path), MEMORY, end_some, how) == {}


def wait(_: SourceBatch, folder: Path) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_extra_process_ends_with_its_parent(tmp_path, number):
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell may ignore it
        "from pathlib import Path; from builder.workers.crashes import find_crashes; "
        "from tests.builder.running.test_crashes import MEMORY, batch_of, wait; "
        f"find_crashes(batch_of(Path({str(tmp_path)!r})), MEMORY, wait, Path({str(tmp_path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as starter:
        deadline = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process = psutil.Process(int((tmp_path / "pid").read_text()))
        starter.send_signal(number)
        try:
            starter.wait(30)
        finally:
            starter.kill()
        psutil.wait_procs([process], timeout=30)
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_sources_that_exceed_the_memory_of_a_worker_are_quarantined(tmp_path, monkeypatch):
    """It holds compressed zeros, and no metadata give their number."""
    most = 3 * 2**29
    monkeypatch.setattr("builder.workers.local_cluster.worker_memory", lambda _: most)
    write_files(tmp_path / "src", {"0 good.csv": "a\n1\n3\n"})
    zeros = pa.record_batch({"a": np.zeros(2**23)})
    options = ipc.IpcWriteOptions(compression="lz4")
    with ipc.new_file(tmp_path / "src/bomb.arrow", zeros.schema, options=options) as writer:
        for _ in range(2 * most // zeros.nbytes):
            writer.write_batch(zeros)
    report = build(tmp_path / "src", tmp_path / "store", workers=1)
    assert [failure.source for failure in report.failures] == ["bomb.arrow"]
    assert "it needs more memory than there is" in report.failures[0].reason
    assert store_spec.open_store(tmp_path / "store").lengths.tolist() == [2]
