"""Run modules, calls, builds and dask clusters in processes, with limits of time."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
SECONDS = 60.0  # limit for a build after the last kill, and for the start of a cluster
EXIT_SECONDS = 10.0  # limit for the processes of a build to exit after it
POLL_SECONDS = 0.02
MARK = "CAMPAIGN_BUILD"  # an environment variable that marks all processes of one build


def run_module(module: str, *arguments: str, seconds: float, variables: Mapping[str, str] | None = None) -> Any:
    """Run a module of this package, and return what it prints, which is JSON.

    Raises:
        RuntimeError: It hangs or fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"tests.campaigns.{module}", *arguments]
    environment = {**os.environ, **(variables or {})}
    try:
        process = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError("hangs") from None
    if process.returncode:
        raise RuntimeError(f"status {process.returncode}: {process.stderr[-1_000:]}")
    return json.loads(process.stdout)


def run_together(
    calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], *, seconds: float
) -> tuple[list[Any], list[str]]:
    """Make each call in a process, all starting at the same time; return their results, and a message per failure."""
    results, failures, others = [], [], active_children()
    context, deadline = get_context("spawn"), time.monotonic() + seconds
    with ProcessPoolExecutor(len(calls), context, initializer=context.Barrier(len(calls)).wait) as pool:
        futures = [pool.submit(function, *arguments) for function, arguments in calls]
        for future, (function, _) in zip(futures, calls, strict=True):
            try:
                results.append(future.result(max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                failures.append(f"{function.__name__} hangs")
                for process in set(active_children()).difference(others):
                    process.kill()
            except Exception as error:  # noqa: BLE001
                failures.append(f"{function.__name__} failed: {''.join(traceback.format_exception(error))}")
    return results, failures


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """How a build ended."""

    code: int | None  # the exit status; None: it hung and was killed
    error: str  # what it printed to standard error
    kills: int
    left: int  # processes that were still running afterwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """When to kill which processes of a build.

    Args:
        is_ready: Returns whether there is something to kill, given the process ID of the coordinator.
        gaps: Seconds from then to the first kill, and from each kill to the next.
        kill: Kills processes, given the process ID of the coordinator; returns how many.
    """

    is_ready: Callable[[int], bool]
    gaps: Sequence[float]
    kill: Callable[[int], int]


def run_build(arguments: Sequence[str], log: Path, environment: Mapping[str, str], kills: Kills) -> BuildResult:
    """Run `seqzarr build` and kill processes meanwhile."""
    mark, count = uuid.uuid4().hex, 0
    command = [sys.executable, "-m", "tests.campaigns.worker_deaths", "build", "--quiet", *arguments]
    with log.open("wb") as file:  # a pipe would stay open until the last worker exits
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment, MARK: mark}, stdout=subprocess.DEVNULL, stderr=file
        )
    gaps, due, deadline = iter(kills.gaps), math.inf, time.monotonic() + SECONDS
    is_ready = False
    while process.poll() is None and (now := time.monotonic()) < deadline:
        if not is_ready and kills.is_ready(process.pid):
            is_ready, due = True, now + next(gaps, math.inf)
        if now >= due:
            count += kills.kill(process.pid)
            due, deadline = now + next(gaps, math.inf), now + SECONDS
        time.sleep(POLL_SECONDS)
    code = process.poll()
    process.kill()
    process.wait()
    deadline = time.monotonic() + EXIT_SECONDS
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return BuildResult(code=code, error=log.read_text(), kills=count, left=kill_all(left))


def workers_of(coordinator: int) -> list[psutil.Process]:
    """Return the worker processes that a build has now."""
    workers = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(coordinator).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # also raised for a zombie
                if "spawn_main" in " ".join(child.cmdline()):
                    workers.append(child)
    return workers


def kill_all(processes: Sequence[psutil.Process]) -> int:
    """Kill processes; return how many were still running."""
    count = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
            count += 1
    return count


def _marked(mark: str) -> list[psutil.Process]:
    marked = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                marked.append(process)
    return marked


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A dask cluster that a build does not own."""

    address: str
    scheduler: subprocess.Popen[bytes]


@contextmanager
def cluster(place: Path, environment: Mapping[str, str], workers: int = 2) -> Iterator[Cluster]:
    """Start a scheduler and workers, each in a process, and kill them in the end."""
    file = place / "scheduler.json"

    def start(program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(file), *options]
        variables = {**os.environ, **environment}
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        started.callback(process.wait)
        started.callback(process.kill)
        return process

    with ExitStack() as started:
        scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        deadline = time.monotonic() + SECONDS
        while not (address := _read_address(file)):
            if scheduler.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"a dask scheduler did not start: exit status {scheduler.poll()}")
            time.sleep(POLL_SECONDS)
        for _ in range(workers):
            start("dask_worker", "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        yield Cluster(address=address, scheduler=scheduler)


def _read_address(file: Path) -> str:
    """Return the address that a scheduler has written, or "" if it has not yet."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (FileNotFoundError, json.JSONDecodeError):
        return ""
