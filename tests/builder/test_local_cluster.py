"""Worker processes that die while they start are replaced, whichever they are."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dask import config
from distributed import Client

import builder.workers.local_cluster
from builder.workers.local_cluster import local_cluster

SECONDS = 40  # for two processes to start, and for those that were killed to be replaced
OTHER_SECONDS = 1  # for one that is not killed to start meanwhile, as far as the machine lets it


@pytest.mark.slow
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(lambda pids: pids[:1], id="the first"),
        pytest.param(lambda pids: pids[-1:], id="the last"),
        pytest.param(lambda pids: pids, id="all"),
    ],
)
def test_workers_that_are_killed_as_they_start_are_replaced(
    chosen: Callable[[list[int]], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.workers.local_cluster, "START_SECONDS", SECONDS)
    others = set(multiprocessing.active_children())
    killed: list[int] = []

    def kill_two_that_start() -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            there = sorted(
                process.pid
                for process in set(multiprocessing.active_children()) - others
                if process.name.startswith("Dask Worker") and process.pid
            )
            if len(there) == 2:  # in the order in which they were started, if process numbers do not wrap around
                killed.extend(chosen(there))
                for number in signal.SIGSTOP, signal.SIGKILL:
                    for pid in killed:
                        os.kill(pid, number)
                    time.sleep(OTHER_SECONDS)
                return
            time.sleep(0.001)

    killer = threading.Thread(target=kill_two_that_start)
    killer.start()
    with local_cluster(2) as (client, _):
        killer.join()
        pids = client.run(os.getpid).values()
    assert killed
    assert len(pids) == 2
    assert not set(pids) & set(killed)


def test_a_worker_that_is_slow_to_start_again_is_waited_for() -> None:
    """Not given up as soon as dask is told to, which here is long before it can have started."""
    with (
        config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}),
        local_cluster(1) as (client, _),
    ):
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        assert client.submit(os.getpid, pure=False).result(timeout=SECONDS) != pid


def hold_gil(seconds: int) -> int:
    ctypes.PyDLL(None).usleep(seconds * 1_000_000)
    return os.getpid()


@pytest.mark.slow
def test_a_worker_whose_function_holds_the_gil_is_not_killed():
    """dask kills workers that do not answer, at the earliest after 5 s."""
    with config.set({"distributed.scheduler.worker-ttl": "1 s"}), local_cluster(1) as (client, _):
        (pid,) = client.run(os.getpid).values()
        assert client.submit(hold_gil, 8).result(timeout=SECONDS) == pid


UNGUARDED = """
import os, signal
from builder.workers.local_cluster import local_cluster

print(__name__, flush=True)
with local_cluster(1) as (client, _):
    (pid,) = client.run(os.getpid).values()
    os.kill(pid, signal.SIGKILL)
    assert client.submit(os.getpid, pure=False).result(timeout=20) != pid
"""


def test_a_worker_that_is_started_again_does_not_run_the_script(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "__main__\n", "")


def test_a_ctrl_c_while_workers_are_stopped_waits_for_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its exit Python would wait ten seconds for a cluster that is half closed."""
    close, closed = Client.__exit__, list[str]()

    def interrupted(client: Any, *error: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        close(client, *error)
        closed.append(client.status)

    monkeypatch.setattr(Client, "__exit__", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), local_cluster(1):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed == ["closed"]
