"""Make calls, builds and dask clusters in processes, with time limits."""

import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import psutil

ROOT = Path(__file__).parents[2]
SECONDS = 60.0  # limit for the start of a cluster
POLL_SECONDS = 0.02


def in_process(call: Callable[[], Any], *, seconds: float, method: str = "spawn") -> Any:
    """Make a call in a new process, and return its result; RuntimeError if it hangs or fails."""
    context: Any = get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, call))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of forks while threads run
        process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise RuntimeError("the process hangs")
        result, failure = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if failure:
        raise RuntimeError(failure)
    return result


def _send_result(sender: Any, call: Callable[[], Any]) -> None:
    warnings.simplefilter("ignore")
    try:
        outcome = call(), ""
    except Exception as error:  # noqa: BLE001
        outcome = None, "".join(traceback.format_exception(error))
    sender.send(outcome)


def run_together(calls: Sequence[Callable[[], Any]], *, seconds: float) -> tuple[list[Any], list[str]]:
    """Make each call in a process, all starting at the same time; return their results, and a message per failure."""
    barrier, results, failures = get_context("spawn").Barrier(len(calls)), [], []
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(in_process, partial(_call_after, barrier, call), seconds=seconds) for call in calls]
        for future in futures:
            try:
                results.append(future.result())
            except RuntimeError as error:
                failures.append(str(error))
    return results, failures


def _call_after(barrier: Any, call: Callable[[], Any]) -> Any:
    barrier.wait()
    return call()


def workers_of(coordinator: int) -> list[psutil.Process]:
    """Return the worker processes that a build has now."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(coordinator).children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def kill_all(processes: Iterable[psutil.Process]) -> int:
    """Kill processes; return how many were still running."""
    count = 0
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
            count += 1
    return count


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
        output: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, **output)
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
    with suppress(FileNotFoundError, json.JSONDecodeError):
        return str(json.loads(file.read_text())["address"])
    return ""
