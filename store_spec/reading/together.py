"""Batches that are read some at a time, as neighbours often need the same chunks, while those before are in use."""

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

GROWTH = 8  # with 2, the first reads took more time than all others in an epoch of 600 batches


class Together:
    """Reads one batch, then 8, 64, ... at once, as many as may be there together.

    So the first comes soon, and later a chunk is decompressed once for all batches that are read together. From the
    first batch on, a thread reads the next ones while those that are there are taken. Threads may share it: each batch
    goes to one of them. After a fork, parent and child each go on with all that were left.

    Args:
        read: Called with numbers `first` and `stop`: reads batches `first` to `stop`. Also in the thread.
        most: Called with the number of a batch: how many may be read from it on while as many others are there. 0: one,
            and only when no others are.
        step: The number of the first batch.
        steps: The number after the last.

    Attributes:
        step: The number of the next batch.
    """

    def __init__(
        self, read: Callable[[int, int], list[Batch]], most: Callable[[int], int], step: int, steps: int
    ) -> None:
        self._read, self._most, self.step, self._steps = read, most, step, steps
        self._locks: dict[int, threading.Lock] = {}  # by process: at a fork a thread that is not there may hold it
        self._begin_here()

    def _begin_here(self) -> None:
        self._process = os.getpid()
        self._count = 1  # to read next
        self._ready: deque[Batch] = deque()
        self._ahead: Future[list[Batch]] | None = None  # those after the ones that are ready
        self._thread: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        with self._lock():
            return {"_read": self._read, "_most": self._most, "step": self.step, "_steps": self._steps, "_locks": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin_here()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Return the next batch. Nothing changes if it cannot be read: it is tried again, not left out."""
        with self._lock():
            if self._process != os.getpid():  # what a thread of the other process was about is not known
                self._begin_here()
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
            self._fill()  # it is raised by the batch that cannot be read, after those before it
        except Exception:
            self._ahead = None
            raise
        else:
            # Without a call between them, after which a Ctrl-C could leave these to come twice.
            self._ready, self._ahead, self._count = deque(batches), None, GROWTH * count

    def _read_ahead(self) -> None:
        start = self.step + len(self._ready)
        count = min(self._count, self._most(start)) if start < self._steps else 0
        if not count:
            if start == self._steps:
                self._thread = None  # it ends
            return
        self._count = count
        try:
            self._thread = self._thread or ThreadPoolExecutor(1, "seqzarr batches")
            self._ahead = self._thread.submit(self._read, start, start + count)
        except RuntimeError:  # there are as many threads as may be, or Python is about to end
            self._thread = None
