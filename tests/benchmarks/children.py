"""Run each measurement in a new process: its time, and the processor time and memory of all its processes."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.pool import Pool
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.1
CONTROLLER = Path("/sys/fs/cgroup/memory")  # of version 1 of the kernel's memory controller: root can set a limit here

Figures = dict[str, float]  # what a measurement returns


def measure(function: Callable[..., Figures], *arguments: object, memory: bool = False) -> Figures:
    """Call a function in a new process; return its result, with the `peak` bytes of its processes if requested."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        future, peak = pool.submit(function, *arguments), 0
        while memory and not future.done():
            peak = max(peak, sum(tree_memory(child.pid) for child in active_children() if child.pid))
            time.sleep(SAMPLE_SECONDS)
    with contextlib.suppress(OSError):
        _limited_group(os.getpid()).rmdir()
    return future.result() | ({"peak": peak} if memory else {})


def limit_memory(limit: int) -> bool:
    """Limit the memory of this process and its children, page cache included; return whether the kernel enforces it."""
    group = _limited_group(os.getppid())
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False
    return True


def _limited_group(parent: int) -> Path:
    return CONTROLLER / f"seqzarr-{parent}"


@contextmanager
def ready_pool(processes: int, initializer: Callable[..., object], *arguments: object) -> Iterator[Pool]:
    """Start processes, and let each call a function, so that it has imported everything; let them end by themselves."""
    with get_context("spawn").Pool(processes, initializer, arguments) as pool:
        pool.map(time.sleep, [0.2] * processes, 1)  # until all have started
        yield pool
        pool.close()
        pool.join()  # leaving the context would kill the processes, which then print errors


def timed(work: Callable[[], Iterable[object]]) -> Figures:
    """Return the seconds and the processor time that all work takes, its start included."""
    cpu, start = processor_seconds(), time.perf_counter()
    for _ in work():
        pass
    return {"seconds": time.perf_counter() - start, "cpu": processor_seconds_since(cpu)}


def processor_seconds() -> float:
    """Return the processor time that this process and its living children have used."""
    return sum(sum(one.cpu_times()[:2]) for one in _tree(os.getpid()))


def processor_seconds_since(before: float) -> float:
    """Return the increase of it: at least one tick of its clock, since others are divided by it."""
    return max(processor_seconds() - before, 1 / os.sysconf("SC_CLK_TCK"))


def tree_memory(pid: int) -> int:
    """Return the bytes of memory of a process and its children; pages that several share count once."""
    found = 0
    for process in _tree(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found += _kilobytes(Path(f"/proc/{process.pid}/smaps_rollup"), "Pss") * 1024
    return found


def start_of_memory() -> int:
    """Return the bytes of this process in memory, and have the kernel forget the peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return _kilobytes(Path("/proc/self/status"), "VmRSS") * 1024


def memory_since(start: int) -> Figures:
    """Return the peak of this process's memory since then, pages of mapped files included, and the growth to it."""
    peak = _kilobytes(Path("/proc/self/status"), "VmHWM") * 1024
    return {"peak": peak, "growth": peak - start}


def _kilobytes(path: Path, name: str) -> int:
    lines = path.read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
