"""A build begins in its own process, and starts workers when they are worth their start."""

import gzip
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import builder
from builder.execution import worker_start
from builder.execution.worker_start import START_SECONDS, WORKER_SPEEDUP, WorkerStart
from builder.formats import is_unpacked
from builder.options.table_options import TableOptions
from builder.planning.resolved_sources import ResolvedSources
from builder.workers.engine import start_engine
from tests.builder.any_order import JumpyClock
from tests.builder.source_files import write_files
from tests.store.oracle import files

SIZES: dict[str, Any] = {"chunk": 600, "shard": 1200, "batch": 2000}


def arrays(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {f"{number:02}.npy": rng.normal(size=(10 + 7 * number, 3)).astype("f4") for number in range(count)}


def note_engines(monkeypatch: pytest.MonkeyPatch, *, in_process: bool = False) -> list[int]:
    """Return the numbers of workers of all engines that builds start from now on, on two cores."""
    found: list[int] = []
    build = importlib.import_module("builder.execution.build")

    @contextmanager
    def note(workers: int, *arguments: Any, **options: Any) -> Iterator[Any]:
        found.append(workers)
        with start_engine(0 if in_process else workers, *arguments, **options) as engine:
            yield engine

    monkeypatch.setattr(build, "start_engine", note)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    return found


def let_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let builds begin in this process, and start workers after the first batch."""
    monkeypatch.setattr(worker_start, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(worker_start, "START_SECONDS", 1e-6)
    monkeypatch.setattr(worker_start, "FASTEST", 1e15)
    monkeypatch.setattr(ResolvedSources, "is_small", lambda *_: False)


@pytest.mark.slow
def test_workers_that_start_late_give_the_bytes_of_a_build_without_workers(tmp_path, monkeypatch):
    """Sources of both phases fail; the second phase adds rows to a shard that the first one left partly filled."""
    write_files(tmp_path / "src", arrays(30) | {"03 bad.npy": b"no array", "25 bad.npy": b"no array"})
    once = builder.build(tmp_path / "src", tmp_path / "once", workers=0, **SIZES)
    engines = note_engines(monkeypatch)
    let_workers_start(monkeypatch)
    late = builder.build(tmp_path / "src", tmp_path / "late", **SIZES)
    assert engines == [0, 2]
    assert [str(one) for one in late.failures] == [str(one) for one in once.failures]
    assert (late.added, late.sequences, late.steps, late.bytes_read) == (30, 30, once.steps, once.bytes_read)
    assert files(tmp_path / "late") == files(tmp_path / "once")


def test_workers_do_not_start_late_for_a_store_in_the_memory_of_this_process(tmp_path, monkeypatch):
    """They would write to their own memory."""
    write_files(tmp_path / "src", arrays(12))
    let_workers_start(monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    with pytest.raises(builder.UsageError, match=r"is in the memory of this process.*workers=0"):
        builder.build(tmp_path / "src", "memory://late/s.zarr", **SIZES)


def test_no_workers_start_if_all_sources_are_done_before(tmp_path, monkeypatch):
    write_files(tmp_path / "src", arrays(8))
    engines = note_engines(monkeypatch)
    monkeypatch.setattr(ResolvedSources, "is_small", lambda *_: False)
    builder.build(tmp_path / "src", tmp_path / "store", **SIZES)
    assert engines == [0]


@pytest.mark.parametrize("seed", range(5))
def test_a_build_may_stop_after_any_batch_and_go_on(tmp_path, monkeypatch, seed):
    """Here the second engine has no workers either, and commits are due at any time."""
    write_files(tmp_path / "src", arrays(12))
    builder.build(tmp_path / "src", tmp_path / "once", workers=0, **SIZES)
    engines = note_engines(monkeypatch, in_process=True)
    let_workers_start(monkeypatch)
    for module in ("execution.run", "workers.batch", "execution.worker_start"):
        monkeypatch.setattr(f"builder.{module}.time", JumpyClock(seed))
    builder.build(tmp_path / "src", tmp_path / "late", **SIZES)
    assert engines == [0, 2]
    assert files(tmp_path / "late") == files(tmp_path / "once")


def test_functions_of_the_user_and_compressed_files_are_read_by_workers_from_the_start(tmp_path, monkeypatch):
    write_files(tmp_path / "src", arrays(2))
    write_files(tmp_path / "packed", {"a.csv": "a,b\n1,2\n", "b.csv.gz": gzip.compress(b"a,b\n3,4\n")})
    write_files(tmp_path / "table", {"a.csv": "a,b\n1,2\n"})
    engines = note_engines(monkeypatch, in_process=True)
    monkeypatch.setattr(ResolvedSources, "is_small", lambda *_: False)
    builder.build(tmp_path / "src", tmp_path / "function", process=lambda path: (np.load(path), np.ones(1)))
    builder.build(tmp_path / "packed", tmp_path / "of packed")
    assert engines == [2, 2]
    builder.build(tmp_path / "table", tmp_path / "of table")
    monkeypatch.setattr(worker_start, "FASTEST", 0.01)  # it would take long
    builder.build(tmp_path / "table", tmp_path / "of a large table")
    assert engines == [2, 2, 0, 2]


@pytest.mark.parametrize(
    ("name", "format_name", "unpacked"),
    [("a.npy", None, True), ("a.txt", None, True), ("a.jsonl", None, True), ("a", "csv", True), ("a", "parquet", False),
     ("a.npz", None, False), ("a.arrow", None, False), ("a.csv.zst", None, False), ("a.nc", None, False)],
)  # fmt: skip
def test_the_size_of_unpacked_files_limits_their_rows(name, format_name, unpacked):
    assert is_unpacked(name, TableOptions(format=format_name)) == unpacked


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 8, 64])
def test_workers_start_if_that_saves_more_time_than_it_takes(workers, monkeypatch):
    """The oracle compares the time that is left with workers and without."""
    now = 0.0

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    monkeypatch.setattr(worker_start, "time", Clock)
    rng = np.random.default_rng(workers)
    for _ in range(300):
        sizes = rng.integers(0, 10**6, rng.integers(1, 50))
        now = 0.0
        start = WorkerStart(sizes.tolist(), workers)
        done, now = int(rng.integers(0, len(sizes) + 1)), float(rng.choice([0.5, 1.0, 4.0, 20.0]))
        costs = sizes + 2**16
        left = now * costs[done:].sum() / costs[:done].sum() if done else 0.0
        is_better = WORKER_SPEEDUP * workers > 1 and left / (WORKER_SPEEDUP * workers) + START_SECONDS < left
        assert start.is_due(done) == (now >= 1 and is_better)
