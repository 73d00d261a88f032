"""Read batches ahead in groups, because neighbouring batches often need the same chunks."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from numpy.typing import NDArray

from store_spec.errors import StoreError

Batch = tuple[NDArray[Any], ...]

GROWTH = 8  # with 2, the first reads of an epoch of 600 batches took longer than all others


class GroupedPrefetch:
    """Reads one batch, then groups of 8, 64, ..., as many as memory allows.

    So the first batch comes soon, and later each chunk is decompressed once for all batches of a group. From the first
    batch on, a thread reads the next group while the current one is in use. Threads may share the object: each batch
    goes to one of them. After a fork, parent and child both continue with all remaining batches.

    Args:
        read: Called with numbers `first` and `stop`, also in the thread; returns batches `first` to `stop`.
        most: Called with the number of a batch; returns how many batches from it on may be read while as many others
            are in memory. 0: a single batch, and only when there are no others.
        step: The number of the first batch.
        steps: The number after the last.

    Attributes:
        step: The number of the next batch.
    """

    def __init__(
        self, read: Callable[[int, int], list[Batch]], most: Callable[[int], int], step: int, steps: int
    ) -> None:
        self._read, self._most, self.step, self._steps = read, most, step, steps
        self._locks: dict[int, threading.Lock] = {}  # by process, as a thread may hold the lock at a fork
        self._restart()

    def _restart(self) -> None:
        self._process = os.getpid()
        self._count = 1  # to read next
        self._ready: deque[Batch] = deque()
        self._ahead: Future[list[Batch]] | None = None  # the batches after those that are ready
        self._thread: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        with self._lock():
            return {"_read": self._read, "_most": self._most, "step": self.step, "_steps": self._steps, "_locks": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._restart()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Return the next batch. If it cannot be read, the next call tries it again."""
        with self._lock():
            if self._process != os.getpid():  # the thread of the parent process does not exist here
                self._restart()
            if self.step == self._steps:
                raise StopIteration
            if not self._ready:
                self._fill()
            if self._ahead is None:
                self._read_ahead()
            batch = self._ready.popleft()
            self.step += 1
            return batch

    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _fill(self) -> None:
        try:
            if self._ahead is None:
                count = max(1, min(self._count, self._most(self.step)))
                batches = self._read(self.step, self.step + count)
            else:
                count, batches = self._count, self._ahead.result()
        except StoreError:
            alone = self._ahead is None and count == 1
            self._ahead, self._count = None, 1
            if alone:
                raise
            self._fill()  # the error is raised later, by the batch that cannot be read
        except Exception:
            self._ahead = None
            raise
        else:
            # In one statement without a call in between, where Ctrl-C could cause batches to occur twice.
            self._ready, self._ahead, self._count = deque(batches), None, GROWTH * count

    def _read_ahead(self) -> None:
        start = self.step + len(self._ready)
        count = min(self._count, self._most(start)) if start < self._steps else 0
        if not count:
            if start == self._steps:
                self._thread = None  # the thread ends
            return
        self._count = count
        try:
            self._thread = self._thread or ThreadPoolExecutor(1, "seqzarr batches")
            self._ahead = self._thread.submit(self._read, start, start + count)
        except RuntimeError:  # there are too many threads, or Python is about to exit
            self._thread = None
