"""A build in processes of its own, some of which are killed: its workers, or the scheduler that it is given."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
SECONDS = 60.0  # within which a build ends, and a cluster starts, whatever is killed
LEFT_SECONDS = 10.0  # within which the processes of a build are gone; the system takes a moment to bury them
LOOK_SECONDS = 0.02
MARK = "CAMPAIGN_BUILD"  # a variable of the environment that all processes of one build have


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a build ended."""

    code: int | None  # its exit status; None: it hung, and was killed
    error: str  # what it printed there
    kills: int
    left: int  # processes that it left


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """When to kill, and what."""

    ready: Callable[[int], bool]  # tells, by the coordinator's number, whether there is something to kill
    gaps: Sequence[float]  # seconds from then to the first kill, and from each kill to the next
    strike: Callable[[int], int]  # kills; returns how many processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that is not the build's to stop."""

    address: str
    scheduler: subprocess.Popen[bytes]


def run_build(arguments: Sequence[str], log: Path, environment: Mapping[str, str], kills: Kills) -> Ended:
    """Run the command `seqzarr build`, and kill what there is to kill while it runs."""
    mark, count = uuid.uuid4().hex, 0
    command = [sys.executable, "-m", "tests.campaigns.worker_deaths", "build", "--quiet", *arguments]
    with log.open("wb") as file:  # a pipe would not end before the last process that has it
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment, MARK: mark}, stdout=subprocess.DEVNULL, stderr=file
        )
    gaps, due, deadline = iter(kills.gaps), math.inf, time.monotonic() + SECONDS
    began = False
    while process.poll() is None and (now := time.monotonic()) < deadline:
        if not began and kills.ready(process.pid):
            began, due = True, now + next(gaps, math.inf)
        if now >= due:
            count += kills.strike(process.pid)
            due, deadline = now + next(gaps, math.inf), now + SECONDS
        time.sleep(LOOK_SECONDS)
    code = process.poll()
    process.kill()
    process.wait()
    return Ended(code=code, error=log.read_text(), kills=count, left=_left(mark))


def workers_of(coordinator: int) -> list[psutil.Process]:
    """Return the worker processes that a build has just now."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(coordinator).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # nor is one that is dead and not yet buried
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def kill_each(processes: Sequence[psutil.Process]) -> int:
    """Kill processes at once; return how many were there to be killed."""
    count = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            count += 1
    return count


def _left(mark: str) -> int:
    """Return how many processes of a build are left some time after it ended, and kill them."""
    deadline = time.monotonic() + LEFT_SECONDS
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return kill_each(left)


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


@contextmanager
def cluster(place: Path, environment: Mapping[str, str], workers: int = 2) -> Iterator[Cluster]:
    """Start a scheduler and some workers, each a process of its own, and kill them in the end."""
    told = place / "scheduler.json"
    several = {**os.environ, **environment}

    def start(program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(told), *options]
        process = subprocess.Popen(command, cwd=ROOT, env=several, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.callback(process.wait)
        started.callback(process.kill)
        return process

    with ExitStack() as started:
        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + SECONDS
        while not (address := _address(told)):
            if scheduler.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a dask scheduler did not start: exit status {scheduler.poll()}")
            time.sleep(LOOK_SECONDS)
        for _ in range(workers):
            start("dask_worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        yield Cluster(address=address, scheduler=scheduler)


def _address(told: Path) -> str:
    """Return the address that a scheduler wrote down; nothing before it did."""
    try:
        return str(json.loads(told.read_text())["address"])
    except (FileNotFoundError, json.JSONDecodeError):
        return ""
