"""When a build starts worker processes: it begins in its own process, and starts them if that saves time."""

import math
import time
from collections.abc import Sequence

import numpy as np

from builder.planning.resolved_sources import FILE_COST, ResolvedSources

START_SECONDS = 1.0  # to start workers, stop them, and commit in between
WORKER_SPEEDUP = 0.75  # by each worker: two workers build 1.5 times (NPY) to 1.7 times (CSV) as fast as none
LEAST_SECONDS = 1.0  # of work before its rate is known: at first, modules are imported
FASTEST = 2**29  # bytes of files per second, more than one process reads and compresses


def least_seconds(workers: int) -> float:
    """Return how many seconds of work are left, at least, if workers that start now save more than their start.

    >>> least_seconds(1), round(least_seconds(2), 1), round(least_seconds(16), 1)
    (inf, 3.0, 1.1)
    """
    speedup = WORKER_SPEEDUP * workers
    return START_SECONDS / (1 - 1 / speedup) if speedup > 1 else math.inf


class WorkerStart:
    """Tells when workers are worth their start, from the rate of the work in this process.

    Args:
        file_bytes: The size of each source to process.
        workers: How many workers would start.
    """

    def __init__(self, file_bytes: Sequence[int], workers: int) -> None:
        self._costs = np.cumsum(np.append(0, np.asarray(file_bytes, np.int64) + FILE_COST))
        self._least_seconds = least_seconds(workers)
        self._began = time.monotonic()

    def may_begin_here(self, sources: ResolvedSources, names: Sequence[str]) -> bool:
        """Return whether the work begins in this process: no source can harm it, and it may be done before workers are.

        `names` are those of the sources to process.
        """
        return self._costs[-1] <= self._least_seconds * FASTEST and sources.are_harmless(names)

    def is_due(self, done: int) -> bool:
        """Return whether to start workers, after the first `done` sources."""
        seconds = time.monotonic() - self._began
        if seconds < LEAST_SECONDS or not done:
            return False
        left = seconds * (self._costs[-1] / self._costs[done] - 1)
        return bool(left > self._least_seconds)
