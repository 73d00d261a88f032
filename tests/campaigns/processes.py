"""Run modules, calls, builds and dask clusters in processes, with time limits."""

import json
import math
import os
import random
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).parents[2]
SECONDS = 60.0  # limit for a build after the last kill, and for the start of a cluster
EXIT_SECONDS = 10.0  # limit for the processes of a build to exit after it
POLL_SECONDS = 0.02
MARK = "CAMPAIGN_BUILD"  # an environment variable that marks all processes of one build


def run_module(module: str, *arguments: str, seconds: float, variables: Mapping[str, str] | None = None) -> Any:
    """Run a module of this package, and return the JSON that it prints; RuntimeError if it hangs or fails."""
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


def run_build(
    arguments: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    gaps: Sequence[float],
    targets: Callable[[int], list[psutil.Process]],
    rng: random.Random | None = None,
) -> BuildResult:
    """Run `seqzarr build`, log what it prints to standard error, and kill processes meanwhile.

    The `gaps` are seconds from when there is something to kill to the first kill, and from each kill to the next.
    `targets` returns what to kill, given the process ID of the coordinator, and `rng` chooses one of them; without it,
    all are killed.
    """
    mark, count = uuid.uuid4().hex, 0
    command = [sys.executable, "-m", "tests.campaigns.worker_deaths", "build", "--quiet", *arguments]
    with log.open("wb") as file:  # a pipe would stay open until the last worker exits
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment, MARK: mark}, stdout=subprocess.DEVNULL, stderr=file
        )
    remaining, due, deadline = iter(gaps), math.inf, time.monotonic() + SECONDS
    has_begun = False
    while process.poll() is None and (now := time.monotonic()) < deadline:
        if not has_begun and targets(process.pid):
            has_begun, due = True, now + next(remaining, math.inf)
        if now >= due:
            found = targets(process.pid)
            count += kill_all(rng.sample(found, min(1, len(found))) if rng else found)
            due, deadline = now + next(remaining, math.inf), now + SECONDS
        time.sleep(POLL_SECONDS)

    def is_marked(process: psutil.Process) -> bool:
        return process.environ().get(MARK) == mark

    code = process.poll()
    process.kill()
    process.wait()
    deadline = time.monotonic() + EXIT_SECONDS
    while (left := _select(psutil.process_iter(), is_marked)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return BuildResult(code=code, error=log.read_text(), kills=count, left=kill_all(left))


def workers_of(coordinator: int) -> list[psutil.Process]:
    """Return the worker processes that a build has now."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(coordinator).children(recursive=True)
        return _select(children, lambda child: "spawn_main" in " ".join(child.cmdline()))
    return []


def kill_all(processes: Iterable[psutil.Process]) -> int:
    """Kill processes; return how many were still running."""

    def kill(process: psutil.Process) -> bool:
        process.kill()
        return True

    return len(_select(processes, kill))


def _select(processes: Iterable[psutil.Process], condition: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Return the processes that fulfil a condition, without those that have ended meanwhile."""
    selected = []
    for process in processes:
        with suppress(psutil.Error):
            if condition(process):
                selected.append(process)
    return selected


class Cluster(NamedTuple):
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
        yield Cluster(address, scheduler)


def _read_address(file: Path) -> str:
    """Return the address that a scheduler has written, or "" if it has not yet."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (FileNotFoundError, json.JSONDecodeError):
        return ""
