"""Limit the memory of a worker process, so that a hostile file cannot fill the memory of the machine."""

from __future__ import annotations

import resource
from typing import Final

LEAST: Final = 2 * 2**30
_MOST_SHARES: Final = 4  # more workers hardly ever need much memory at the same time


def worker_memory(workers: int) -> int:
    """Return how many bytes each of `workers` processes on this machine, or in this container, may use."""
    from distributed.system import memory_limit

    return max(LEAST, memory_limit() * 7 // 8 // max(1, min(workers, _MOST_SHARES)))


def limit_memory(nbytes: int) -> None:
    """Make allocations of this process fail beyond `nbytes`; a lower limit is kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > nbytes:
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, hard))
