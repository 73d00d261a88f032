"""How much finished work a killed or interrupted build loses, with slow and small sources."""

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder import build
from store_spec import MissingStoreError, open_store, verify
from tests.builder.slow_builds import slow_build
from tests.builder.source_files import write_files
from tests.documents import PROGRESS
from tests.store.cloud_servers import objects_at, s3_bucket
from tests.store.oracle import files

SOURCES = 240
KILLS = 4  # of a build into a bucket
# The same options in Python; without SLOW in the environment, sources take no time.
FAST: dict[str, Any] = {"process": "slow_source:read", "shard": "128kB", "chunk": "16kB", "workers": 0}
OPTIONS = ("--process", "slow_source:read", "--shard", "128kB", "--chunk", "16kB")
PATIENT = "STOP_SECONDS = 60"  # on a busy machine, workers take longer than usual to finish their batches

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


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return the working folder, with the sources and their process function."""
    (tmp_path / "slow_source.py").write_text(SLOW_SOURCE)
    (tmp_path / "finished").mkdir()
    write_files(tmp_path / "raw", {f"{number:03}.raw": "-" for number in range(SOURCES)})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_source", raising=False)
    return tmp_path


def rows_of(number: int) -> Any:
    return np.random.default_rng(number).normal(size=(30, 2))


def committed_at(url: str) -> int:
    """Return how many sequences a store has; 0 if it does not exist yet."""
    with contextlib.suppress(MissingStoreError):
        return len(open_store(url))
    return 0


def finished() -> set[str]:
    return set(os.listdir("finished"))


def assert_goes_on_to_the_same_bytes() -> None:
    committed = len(open_store("s.zarr"))
    assert build("raw", "s.zarr", **FAST).unchanged == committed
    build("raw", "whole.zarr", **FAST)
    assert files(Path("s.zarr")) == files(Path("whole.zarr"))


def is_behind() -> bool:
    """Return whether less than half of the finished sources are committed."""
    return not Path("s.zarr").exists() or 2 * len(open_store("s.zarr")) <= len(finished())


@pytest.mark.slow
def test_a_slow_build_that_is_killed_has_committed_more_than_half_of_what_was_finished():
    with slow_build(*OPTIONS, workers=2, setting=PATIENT) as started:
        at_least = time.monotonic() + 20
        # A busy machine may start late, and commit late.
        while time.monotonic() < at_least or len(finished()) < 100 or (is_behind() and len(finished()) < SOURCES - 30):
            assert started.poll() is None
            time.sleep(0.1)
    committed = open_store("s.zarr").sources
    assert finished().issuperset(committed)
    assert len(finished()) < SOURCES
    assert len(committed) > len(finished()) / 2
    assert_goes_on_to_the_same_bytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_finished_sources_of_an_interrupted_build_are_committed(folder, workers):
    """Before the first commit is due."""
    for path in sorted((folder / "raw").iterdir())[60:]:
        path.unlink()
    with slow_build(*OPTIONS, workers=workers, setting=PATIENT) as started:
        while len(finished()) < 9:
            assert started.poll() is None
            time.sleep(0.01)
        before = finished()
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=120)
    committed = open_store("s.zarr").sources
    assert (started.returncode, out) == (128 + signal.SIGINT, "")
    assert (
        PROGRESS.sub("", err)
        == f"interrupted: {len(committed):,} sequences are committed; the same command goes on from there\n"
    )
    # In this process, the signal interrupts a source that may just have reported that it is finished.
    assert len(before.difference(committed)) <= (workers == 0)
    assert_goes_on_to_the_same_bytes()


@pytest.mark.slow
def test_a_build_into_a_bucket_continues_after_each_kill_to_the_same_bytes():
    rng, seen = random.Random(0), [0]
    with s3_bucket() as bucket:
        url = f"{bucket}/s.zarr"
        for _ in range(KILLS):
            with slow_build(*OPTIONS, workers=2, setting="COMMIT_SECONDS = 0.5", store=url) as started:
                deadline = time.monotonic() + 60
                while committed_at(url) == seen[-1]:
                    assert started.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                time.sleep(rng.uniform(0, 1))  # it is killed in the middle of a batch, a shard or a commit
            store = open_store(url)
            seen.append(len(store))
            assert [problem for problem in verify(url) if not problem.leftover] == []
            assert all(np.array_equal(inputs, rows_of(number)) for number, (inputs, _) in enumerate(store))
        assert build("raw", url, **FAST).unchanged == seen[-1] < SOURCES
        build("raw", "whole.zarr", **FAST)
        assert objects_at(url) == files(Path("whole.zarr"))
