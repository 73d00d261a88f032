"""How much finished work a build loses that is killed or interrupted, however slow and small its sources are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder import build
from store_spec import open_store
from tests.documents import PROGRESS
from tests.store.oracle import files

SOURCES = 240
OPTIONS = ("--process", "slow_source:read", "--shard", "128kB", "--chunk", "16kB")

# Each source takes 0.2 s, and leaves a file when it is finished.
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
# Where the tests run in the background, a shell has had them ignore a Ctrl-C. On a busy machine the workers take longer
# than usual to finish what they have in hand.
COMMAND = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.append({here!r})
import builder.execution.run
builder.execution.run.STOP_SECONDS = 60
from builder.cli import main
main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder, with the sources and their process function."""
    (tmp_path / "slow_source.py").write_text(SLOW_SOURCE)
    for name in ("raw", "finished"):
        (tmp_path / name).mkdir()
    for number in range(SOURCES):
        (tmp_path / "raw" / f"{number:03}.raw").write_text("-")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_source", raising=False)
    return tmp_path


@contextmanager
def slow_build(workers: int) -> Iterator[subprocess.Popen[str]]:
    code = COMMAND.format(here=str(Path(__file__).parents[2]))
    started = subprocess.Popen(
        [sys.executable, "-c", code, "build", "raw", "s.zarr", "--workers", str(workers), *OPTIONS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SLOW": "1"},
        start_new_session=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def finished() -> set[str]:
    return set(os.listdir("finished"))


def assert_goes_on_to_the_same_bytes() -> None:
    options: dict[str, Any] = {"process": "slow_source:read", "shard": "128kB", "chunk": "16kB", "workers": 0}
    committed = len(open_store("s.zarr"))
    assert build("raw", "s.zarr", **options).unchanged == committed
    build("raw", "whole.zarr", **options)
    assert files(Path("s.zarr")) == files(Path("whole.zarr"))


def is_behind() -> bool:
    """Whether less than half of the finished sources are committed."""
    return not Path("s.zarr").exists() or 2 * len(open_store("s.zarr")) <= len(finished())


@pytest.mark.slow
def test_a_slow_build_that_is_killed_has_committed_more_than_half_of_what_was_finished():
    with slow_build(workers=2) as started:
        at_least = time.monotonic() + 20
        # A busy machine may begin late, and commit late.
        while time.monotonic() < at_least or len(finished()) < 100 or (is_behind() and len(finished()) < SOURCES - 30):
            assert started.poll() is None
            time.sleep(0.1)
        started.kill()
        started.wait()
    committed = open_store("s.zarr").sources
    assert finished().issuperset(committed)
    assert len(finished()) < SOURCES
    assert len(committed) > len(finished()) / 2
    assert_goes_on_to_the_same_bytes()


@pytest.mark.parametrize(
    ("workers", "number"),
    [(0, signal.SIGINT), (2, signal.SIGINT), pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_what_is_finished_when_a_build_is_interrupted_is_committed(folder, workers, number):
    """Before the first commit that is due."""
    for path in sorted((folder / "raw").iterdir())[60:]:
        path.unlink()
    with slow_build(workers) as started:
        while len(finished()) < 9:
            assert started.poll() is None
            time.sleep(0.01)
        before = finished()
        started.send_signal(number)
        out, err = started.communicate(timeout=120)
    committed = open_store("s.zarr").sources
    assert (started.returncode, out) == (128 + number, "")
    assert (
        PROGRESS.sub("", err)
        == f"interrupted: {len(committed):,} sequences are committed; the same command goes on from there\n"
    )
    # In this process the signal cuts a source off, which may just have told that it is finished.
    assert len(before.difference(committed)) <= (workers == 0)
    assert_goes_on_to_the_same_bytes()
