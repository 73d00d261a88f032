"""Run each measurement in a new process: its time, and the processor time and memory of all its processes."""

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_SECONDS = 0.1


def measure(function: Callable[..., dict[str, Any]], *arguments: Any, memory: bool = False) -> dict[str, Any]:
    """Call a function of these modules in a new process; return its result, with `peak` bytes if requested.

    Arguments and result are passed as JSON.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    command = [sys.executable, "-m", "tests.benchmarks.children", name, json.dumps(arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        peak = 0
        while memory and child.poll() is None:
            peak = max(peak, tree_memory(child.pid))
            time.sleep(SAMPLE_SECONDS)
        assert child.stdout is not None
        out = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {child.returncode}")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result | ({"peak": peak} if memory else {})


@contextmanager
def ready_pool(processes: int, initializer: Callable[..., object], *arguments: Any) -> Iterator[Pool]:
    """Start processes, and let each call a function, so that it has imported everything; let them end by themselves."""
    with multiprocessing.get_context("spawn").Pool(processes, initializer, arguments) as pool:
        pool.map(time.sleep, [0.2] * processes, 1)  # until all have started
        yield pool
        pool.close()
        pool.join()  # leaving the context would kill the processes, which then print errors


def timed(work: Iterable[object]) -> dict[str, float]:
    """Return the seconds and the processor time that all work takes."""
    cpu, start = processor_seconds(), time.perf_counter()
    for _ in work:
        pass
    return {"seconds": time.perf_counter() - start, "cpu": processor_seconds_since(cpu)}


def tree_memory(pid: int) -> int:
    """Return the bytes of memory of a process and its children; pages that several share count once."""
    return sum(map(_proportional_bytes, _tree(pid)))


def processor_seconds() -> float:
    """Return the processor time that this process and its living children have used."""
    return sum(sum(one.cpu_times()[:2]) for one in _tree(psutil.Process().pid))


def processor_seconds_since(before: float) -> float:
    """Return the increase of it: at least one tick of its clock, since others are divided by it."""
    return max(processor_seconds() - before, 1 / os.sysconf("SC_CLK_TCK"))


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _proportional_bytes(process: psutil.Process) -> int:
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Run the function that the command line names."""
    module, _, name = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), name)(*json.loads(sys.argv[2]))
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
