"""The prefetcher of all batches: run generators in threads, ahead of their consumer."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from queue import SimpleQueue
from typing import Any, TypeVar

from store_spec.collector import is_collecting
from store_spec.errors import StoreError

GROWTH = 8  # with 2, the first reads of an epoch of 600 batches took longer than all others
BEFORE_THE_END, AT_THE_END = 0.2, 10  # seconds to wait at exit: before makers are stopped, and then for each of them

Item = TypeVar("Item")
_ENDING = threading.Event()


def ahead(
    make: Callable[[], Generator[Item, None, None]], slots: int, name: str, cancelled: threading.Event
) -> Generator[Item, None, None]:
    """Yield what `make()` yields; a thread makes the next items while earlier ones are in use.

    The first `next` starts the thread. What `make` raises is raised in place of its next item.

    Args:
        make: Returns a generator, which runs in the thread and is closed there.
        slots: The largest number of items at a time: one in use, those that wait, and one that is being made.
        name: The name of the thread.
        cancelled: Set when the generator is closed. Closing waits for the thread, so `make` should check this.
    """
    yield from in_turn(start([make], slots, name, cancelled))


def start(makes: Sequence[Callable[[], Any]], slots: int, name: str, cancelled: threading.Event) -> list[Maker]:
    """Start a thread for each of some generators, or none if one cannot be started; see `ahead` for the arguments."""
    threads: list[Maker] = []
    try:
        for make in makes:
            threads.append(Maker(make, name, cancelled))
            threads[-1].start()
        for thread in threads:  # none makes an item before all have been started, as they may wait for each other
            for _ in range(slots):
                thread.free.put(None)
    except BaseException:
        for thread in threads:
            thread.cancel()
        raise
    return threads


def in_turn(threads: Sequence[Maker]) -> Generator[Any, None, None]:
    """Yield the items of threads in turn until one of them ends; then end the others."""
    try:
        for thread in itertools.cycle(threads):
            more, item = thread.ready.get()
            if not more:
                try:
                    if item is not None:
                        raise item
                    return
                finally:
                    del item  # an error in its own traceback would keep the caller's objects alive
            yield item
            del item
            thread.free.put(None)
    finally:
        for thread in threads:
            thread.cancel()
        for thread in threads:
            thread.wait()


def in_groups(
    read: Callable[[range], list[Item]], most: Callable[[range], int], numbers: range
) -> Generator[Item, None, None]:
    """Yield batches that are read in groups of 1, 8, 64, ..., as many as memory allows.

    The first batch is ready soon, and later each chunk is decompressed once for all batches of a group. A thread reads
    the next group while the current one is in use. If a group cannot be read, its batches are read one by one, so that
    those before the damaged one are still returned.

    Args:
        read: Called in the thread with some of the numbers; returns these batches.
        most: Called with the numbers that are left; returns how many of them, from the first on, may be read while a
            group of the same size is in memory. 0: read a single batch, and only when no other is in memory.
        numbers: The ascending numbers of the batches.
    """
    cancelled = threading.Event()
    for group in ahead(lambda: _groups(read, most, numbers, cancelled), 2, "seqzarr batches", cancelled):
        group.reverse()
        while group:
            yield group.pop()


def _groups(
    read: Callable[[range], list[Item]], most: Callable[[range], int], numbers: range, cancelled: threading.Event
) -> Generator[list[Item], None, None]:
    count = 1
    while numbers and not cancelled.is_set():
        fitting = most(numbers)
        if not fitting:
            yield []  # an empty group: once it is taken, no other group is in memory
        count = max(1, min(count, fitting))
        try:
            group = read(numbers[:count])
        except StoreError:
            if count == 1:
                raise
            count = 1
            continue
        numbers = numbers[count:]
        count *= GROWTH
        yield group
        del group


class Maker(threading.Thread):
    """A thread that puts `(True, item)` into `ready` for each item, then `(False, error or None)`.

    `make` returns an iterator with `close`, such as a generator.
    """

    def __init__(self, make: Callable[[], Any], name: str, cancelled: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.ready: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self.free: SimpleQueue[None] = SimpleQueue()  # used as a semaphore, because it is written in C
        self._make, self._cancelled = make, cancelled
        if _ENDING.is_set():
            raise RuntimeError("Python is about to end, and starts no threads any more")

    def cancel(self) -> None:
        """Stop this thread and the others with its event after their current items."""
        self._cancelled.set()
        self.free.put(None)

    # The functions are default arguments because names of a module are deleted when Python exits.
    def wait(
        self,
        ending: Callable[[], bool] = sys.is_finalizing,
        current: Callable[[], threading.Thread] = threading.current_thread,
        collecting: Callable[[], bool] = is_collecting,
    ) -> None:
        """Wait for the thread to end, unless that would be forever."""
        # At exit no thread runs. A thread that drops the last reference to a generator closes it, and waits for itself.
        if not ending() and not collecting() and self is not current():
            self.join()
            self.ready = SimpleQueue()  # drop the items that are left, such as an error that threads share

    def run(self) -> None:
        """Make all items, unless the thread is cancelled."""
        error: BaseException | None = None
        try:
            with contextlib.closing(self._make()) as results:
                self.free.get()
                while not self._cancelled.is_set():
                    item = next(results, self)
                    if item is self:
                        break
                    self.ready.put((True, item))
                    del item
                    self.free.get()
        except BaseException as raised:  # noqa: BLE001  # it is raised in the consumer
            error = raised
        self.ready.put((False, error))
        del error  # as in `in_turn`


@atexit.register
def _end() -> None:
    """End all threads before Python exits: it would kill them in the middle of a call, and then JAX aborts."""
    makers = [thread for thread in threading.enumerate() if isinstance(thread, Maker)]
    if makers:  # TensorFlow's threads take some batches in advance, and Python cannot exit until they have them
        time.sleep(BEFORE_THE_END)
    _ENDING.set()
    for maker in makers:
        maker.cancel()
    for maker in makers:
        if maker.is_alive():  # `join` refuses a thread that a Ctrl-C kept from starting
            maker.join(AT_THE_END)
