"""Sources that are made to end workers, or to fill their memory: each is quarantined, and the build goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

import store_spec
from builder import build
from builder.workers.local_cluster import worker_memory

KILLERS = 3
SOURCES = 15
MEMORY = 3 * 2**29


def read_or_die(path: Path) -> Any:
    if path.read_bytes() == b"kill":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.2)  # so that batches are short, and the killers are in many
    rows = np.load(path)
    return rows, rows[:, :1]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_sources_that_kill_workers_are_all_quarantined_and_no_other_is(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(SOURCES):
        np.save(tmp_path / f"src/{number:02}.npy", np.full((9, 2), number, np.float32))
    killers = [f"{number:02}.npy" for number in range(2, SOURCES, SOURCES // KILLERS)]
    for name in killers:
        (tmp_path / "src" / name).write_bytes(b"kill")
    report = build(tmp_path / "src", tmp_path / "store", process=read_or_die, workers=2)
    assert [failure.source for failure in report.failures] == killers
    assert all("it ended the process that read it, by SIGSEGV" in failure.reason for failure in report.failures)
    store = store_spec.open_store(tmp_path / "store")
    assert list(store.sources) == [f"{n:02}.npy" for n in range(SOURCES) if f"{n:02}.npy" not in killers]
    assert all((store[at][0] == int(name[:2])).all() for at, name in enumerate(store.sources))


@pytest.mark.slow
def test_what_takes_more_memory_than_a_worker_may_have_is_quarantined(tmp_path, monkeypatch):
    """It holds zeros, packed, and no metadata say how many."""
    monkeypatch.setattr("builder.workers.local_cluster.worker_memory", lambda _: MEMORY)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/0 good.csv").write_text("a\n1\n3\n")
    zeros = pa.record_batch({"a": np.zeros(2**23)})
    options = ipc.IpcWriteOptions(compression="lz4")
    with ipc.new_file(tmp_path / "src/bomb.arrow", zeros.schema, options=options) as writer:
        for _ in range(2 * MEMORY // zeros.nbytes):
            writer.write_batch(zeros)
    report = build(tmp_path / "src", tmp_path / "store", workers=1)
    assert [failure.source for failure in report.failures] == ["bomb.arrow"]
    assert "it needs more memory than there is" in report.failures[0].reason
    assert store_spec.open_store(tmp_path / "store").lengths.tolist() == [2]


def test_workers_share_the_memory_of_the_machine_but_each_has_some(monkeypatch):
    shares = {}
    for machine in (2**30, 2**36):
        monkeypatch.setattr("distributed.system.memory_limit", lambda machine=machine: machine)
        shares[machine] = [worker_memory(workers) for workers in (0, 1, 2, 4, 64)]
    assert shares[2**30] == [2**31] * 5
    assert shares[2**36] == [7 * 2**33, 7 * 2**33, 7 * 2**32, 7 * 2**31, 7 * 2**31]
