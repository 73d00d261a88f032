"""Builds that are killed or interrupted: what they leave, and how much finished work they lose."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from builder import build
from builder.sources.fingerprints import CACHE
from store_spec.disk.lock import build_folder, locked
from tests.builder.command import ROOT
from tests.builder.made_sources import sources_in
from tests.builder.source_files import write_files
from tests.campaigns.processes import workers_of
from tests.documents import PROGRESS
from tests.store.oracle import files

SOURCES = 240
STORE = Path("s.zarr")
OPTIONS = ("--process", "slow_source:read", "--shard", "128kB", "--chunk", "16kB")
# The same options in Python; without SLOW in the environment, sources take no time.
FAST: dict[str, Any] = {"process": "slow_source:read", "shard": "128kB", "chunk": "16kB", "workers": 0}
PATIENT = "STOP_SECONDS = 60"  # on a busy machine, workers take longer than usual to finish their batches
EAGER = "COMMIT_SECONDS = 0"

# Each source takes 0.2 s, and writes a file when it is finished.
SLOW_SOURCE = """
import os
import time
from pathlib import Path

import numpy as np

def read(path):
    rows = np.random.default_rng(int(path.stem)).normal(size=(30, 2))
    if "SLOW" in os.environ:
        time.sleep(0.2)
        Path("finished", path.name).touch()
    return rows, rows[:, :1]
"""

# If the tests run in the background, a shell has made them ignore Ctrl-C.
COMMAND = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.append({root!r})
import builder.execution.run
builder.execution.run.{setting}
from builder.cli import main
main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the working folder, with the sources and their process function."""
    (tmp_path / "slow_source.py").write_text(SLOW_SOURCE)
    (tmp_path / "finished").mkdir()
    write_files(tmp_path / "raw", {f"{number:03}.raw": "-" for number in range(SOURCES)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_source", raising=False)
    return tmp_path


@contextmanager
def slow_build(*options: str, workers: int, setting: str) -> Iterator[subprocess.Popen[str]]:
    """Build in a new session, as from a terminal of its own, and kill the build if it still runs.

    The `setting` is an assignment to a constant of `builder.execution.run`.
    """
    code = COMMAND.format(root=str(ROOT), setting=setting)
    started = subprocess.Popen(
        [sys.executable, "-c", code, "build", "raw", STORE, "--workers", str(workers), *OPTIONS, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SLOW": "1", "PYTHONDONTWRITEBYTECODE": "1"},  # so that it adds no files
        start_new_session=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def finished() -> set[str]:
    return set(os.listdir("finished"))


def assert_interrupted(started: subprocess.Popen[str], number: int) -> None:
    """Wait for the end of a build that got this signal, and check its exit status and what it printed."""
    out, err = started.communicate(timeout=120)
    count = len(sources_in(STORE))
    said = "nothing is committed yet; the same command starts again"
    if count:
        are = "sequence is" if count == 1 else "sequences are"
        said = f"{count:,} {are} committed; the same command goes on from there"
    assert (started.returncode, out) == (128 + number, "")
    assert PROGRESS.sub("", err) == f"interrupted: {said}\n"


def assert_goes_on_to_the_same_bytes() -> None:
    before = len(sources_in(STORE))
    assert build("raw", STORE, **FAST).unchanged == before
    build("raw", "whole.zarr", **FAST)
    assert files(STORE) == files(Path("whole.zarr"))


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes to end, and return those that did not; their exit status need not have been collected."""
    _, left = psutil.wait_procs(processes, timeout=30)
    return [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
    ids=["a Ctrl-C in a terminal", "SIGTERM", "SIGKILL"],
)
def test_a_build_that_a_signal_ends_leaves_no_process_and_can_be_completed(number, to_all):
    with slow_build("--batch", "1", workers=2, setting=EAGER) as started:
        while not sources_in(STORE):
            assert started.poll() is None
            time.sleep(0.01)
        processes = psutil.Process(started.pid).children(recursive=True)
        assert len(processes) >= 2
        (os.killpg if to_all else os.kill)(started.pid, number)
        if number == signal.SIGKILL:
            assert started.wait(60) == -number
        else:
            assert_interrupted(started, number)
    assert left_of(processes) == []
    with locked(STORE):  # no other process holds the lock
        pass
    assert 0 < len(sources_in(STORE)) < SOURCES
    assert_goes_on_to_the_same_bytes()
    assert {path.name for path in build_folder(STORE).glob("*")} <= {CACHE}


@pytest.mark.slow
def test_a_ctrl_c_while_workers_start_leaves_nothing_and_prints_no_traceback(folder):
    before = sorted(folder.iterdir())
    with slow_build(workers=2, setting=EAGER) as started:
        while not workers_of(started.pid):
            assert started.poll() is None
        processes = psutil.Process(started.pid).children(recursive=True)
        os.killpg(started.pid, signal.SIGINT)
        assert_interrupted(started, signal.SIGINT)
    assert left_of(processes) == []
    assert sorted(folder.iterdir()) == before


@pytest.mark.slow
def test_a_slow_build_that_is_killed_has_committed_more_than_half_of_what_was_finished():
    with slow_build(workers=2, setting=PATIENT) as started:
        at_least = time.monotonic() + 20
        # A busy machine may start late, and commit late: less than half of what is finished.
        while (
            time.monotonic() < at_least
            or len(finished()) < 100
            or 2 * len(sources_in(STORE)) <= len(finished()) < SOURCES - 30
        ):
            assert started.poll() is None
            time.sleep(0.1)
    assert finished().issuperset(sources_in(STORE))
    assert len(finished()) < SOURCES
    assert len(sources_in(STORE)) > len(finished()) / 2
    assert_goes_on_to_the_same_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_finished_sources_of_an_interrupted_build_are_committed(folder, workers):
    """Before the first commit is due."""
    for path in sorted((folder / "raw").iterdir())[60:]:
        path.unlink()
    with slow_build(workers=workers, setting=PATIENT) as started:
        while len(finished()) < 9:
            assert started.poll() is None
            time.sleep(0.01)
        before = finished()
        started.send_signal(signal.SIGINT)
        assert_interrupted(started, signal.SIGINT)
    # In this process, the signal interrupts a source that may just have reported that it is finished.
    assert len(before.difference(sources_in(STORE))) <= (workers == 0)
    assert_goes_on_to_the_same_bytes()
