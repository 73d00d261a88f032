"""Make things in a thread while those before are in use."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from queue import SimpleQueue
from typing import Any, TypeVar

BEFORE_THE_END, AT_THE_END = 0.2, 10  # seconds to wait for threads that take batches, and for one that makes them

Made = TypeVar("Made")
_ENDING = threading.Event()


def ahead(
    make: Callable[[], Generator[Made, None, None]], slots: int, name: str, cancelled: threading.Event
) -> Generator[Made, None, None]:
    """Yield what `make()` yields, each made in a thread while those before are in use.

    Args:
        make: Its generator runs in the thread, and is closed there.
        slots: How many things there are at most: the one in use, those that wait, and the one that is being made.
        name: Of the thread, which is started by the first `next`.
        cancelled: Set when the generator is closed; the thread is waited for, so `make` should look at it.

    Raises:
        BaseException: Whatever `make` raised, where its next result would have come.
    """
    thread = _Maker(make, slots, name, cancelled)
    try:
        while True:
            more, made = thread.ready.get()
            if not more:
                try:
                    if made is not None:
                        raise made
                    return
                finally:
                    del made  # an error that its own traceback held would keep what the caller has until it is found
            yield made
            del made
            thread.free.put(None)
    finally:
        thread.cancel()
        thread.wait()


class _Maker(threading.Thread):
    """Puts `(True, made)` for each result, then `(False, error or None)`."""

    def __init__(
        self, make: Callable[[], Generator[Any, None, None]], slots: int, name: str, cancelled: threading.Event
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.ready: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self.free: SimpleQueue[None] = SimpleQueue()  # a semaphore, but written in C
        for _ in range(slots):
            self.free.put(None)
        self._make, self._cancelled = make, cancelled
        if _ENDING.is_set():
            raise RuntimeError("Python is about to end, and starts no threads any more")
        self.start()

    def cancel(self) -> None:
        """Let it make nothing more."""
        self._cancelled.set()
        self.free.put(None)

    # What this calls is found now, as names of a module are gone when Python ends.
    def wait(
        self,
        ending: Callable[[], bool] = sys.is_finalizing,
        current: Callable[[], threading.Thread] = threading.current_thread,
    ) -> None:
        """Wait for the end of the thread, where it can come."""
        # The garbage collector may close a generator in any thread, this one among them. When Python ends, none runs.
        if not ending() and self is not current():
            self.join()

    def run(self) -> None:
        error: BaseException | None = None
        try:
            with contextlib.closing(self._make()) as results:
                self.free.get()
                while not self._cancelled.is_set():
                    made = next(results, self)
                    if made is self:
                        break
                    self.ready.put((True, made))
                    del made
                    self.free.get()
        except BaseException as raised:  # noqa: BLE001  # it is raised where the result is asked for
            error = raised
        self.ready.put((False, error))
        del error  # as above


@atexit.register
def _end() -> None:
    """End all threads before Python does, which would kill them in the midst of what they call: JAX aborts at that."""
    makers = [thread for thread in threading.enumerate() if isinstance(thread, _Maker)]
    if makers:  # threads of TensorFlow's take some batches in advance: until they have them, Python cannot end either
        time.sleep(BEFORE_THE_END)
    _ENDING.set()
    for maker in makers:
        maker.cancel()
    for maker in makers:
        maker.join(AT_THE_END)
