"""Batches that are read some at a time, as neighbours often need the same chunks."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from numpy.typing import NDArray

from store_spec.errors import StoreError

Batch = tuple[NDArray[Any], ...]

GROWTH = 8  # with 2, the first reads took more time than all others in an epoch of 600 batches


class Together:
    """Reads one batch, then 8, 64, ... at once, as many as may be there together.

    So the first comes soon, and later a chunk is decompressed once for all batches that are read together. Threads may
    share it: each batch goes to one of them. After a fork, parent and child each go on with all that were left.

    Args:
        read: Called with numbers `first` and `stop`: reads batches `first` to `stop`.
        most: Called with the number of a batch: how many may be read from it on; at least 1.
        step: The number of the first batch.
        steps: The number after the last.

    Attributes:
        step: The number of the next batch.
    """

    def __init__(
        self, read: Callable[[int, int], list[Batch]], most: Callable[[int], int], step: int, steps: int
    ) -> None:
        self._read, self._most, self.step, self._steps = read, most, step, steps
        self._count = 1
        self._ready: deque[Batch] = deque()
        self._process = os.getpid()
        self._locks: dict[int, threading.Lock] = {}  # by process: at a fork a thread that is not there may hold it

    def __getstate__(self) -> dict[str, Any]:
        with self._lock():
            return self.__dict__ | {"_locks": {}, "_count": 1, "_ready": deque()}  # which are read again

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Return the next batch. Nothing changes if it cannot be read: it is tried again, not left out."""
        with self._lock():
            if self._process != os.getpid():  # what a thread of the other process was about is not known
                self._process, self._count, self._ready = os.getpid(), 1, deque()
            if self.step == self._steps:
                raise StopIteration
            if not self._ready:
                self._fill()
            batch = self._ready.popleft()
            self.step += 1
            return batch

    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _fill(self) -> None:
        count = min(self._count, self._most(self.step))
        try:
            self._ready.extend(self._read(self.step, self.step + count))
            self._count = GROWTH * count
        except StoreError:
            if count == 1:
                raise
            self._count = 1  # it is raised by the batch that cannot be read, after those before it
            self._fill()
