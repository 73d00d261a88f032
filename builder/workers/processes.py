"""What worker processes on this machine have in common: their share of the memory, and how they are started."""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker, spawn
from pathlib import Path
from typing import Any, Final

LEAST_MEMORY: Final = 2 * 2**30  # bytes that each worker may use, on any machine
_MOST_SHARES: Final = 4  # more workers hardly ever need much memory at the same time
_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def machine_memory() -> int:
    """Return the bytes of memory of this machine, or of this container."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            memory = min(memory, int(Path(limit).read_text()))
    return memory


def worker_memory(workers: int) -> int:
    """Return how many bytes each of `workers` processes on this machine, or in this container, may use."""
    return max(LEAST_MEMORY, machine_memory() * 7 // 8 // max(1, min(workers, _MOST_SHARES)))


def limit_memory(nbytes: int) -> None:
    """Make allocations of this process fail beyond `nbytes`, so that a hostile file cannot fill the machine's memory.

    A lower limit is kept.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > nbytes:
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, hard))


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block SIGINT in the threads and processes that start in this context, and in their children.

    A terminal sends Ctrl-C to all its processes. The coordinator handles it and stops the workers, which would
    otherwise each print a traceback.
    """
    # Python's process that removes the semaphores of killed workers; importing numcodecs creates one in each. It is
    # started now, since it unblocks the signal in the thread that starts it, and it does not warn of each semaphore.
    name, warnings = "PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS")
    os.environ[name] = ",".join([*filter(None, [warnings]), "ignore:resource_tracker"])
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ[name]
        os.environ.update({} if warnings is None else {name: warnings})
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def hide_main(prefix: str) -> Iterator[None]:
    """Keep worker processes from running the user's script, as `multiprocessing` does in each spawned process.

    Functions of the script are sent to the workers by value, so workers need not import it, and the script needs no
    `if __name__ == "__main__"`. Dead workers are replaced at any time, so this holds while there are workers. `prefix`
    is the beginning of the names of the processes.
    """
    before = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        data = before(name)
        is_worker = name.startswith(prefix)
        return {key: value for key, value in data.items() if not (is_worker and key.startswith("init_main_from_"))}

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = before
