"""Delay Ctrl-C and SIGTERM during a build until its state is consistent."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupts:
    """Delays the handlers of SIGINT and SIGTERM within `delayed`, until `check` or `allowed`.

    Only handlers written in Python are delayed, and only in the main thread, where Python runs them.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._waiting: tuple[int, FrameType | None] | None = None
        self._allowed = False

    @contextmanager
    def delayed(self) -> Iterator[None]:
        """Delay signals in this block; one that came meanwhile is handled after it, unless the block raised."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    self._handlers[number] = handler
                    signal.signal(number, self._handle)
        try:
            yield
        finally:
            for delayed, handler in self._handlers.items():
                signal.signal(delayed, handler)
        self.check()

    def check(self) -> None:
        """Call the handler of a delayed signal, if there is one. Most raise KeyboardInterrupt."""
        if self._waiting is not None:
            (number, frame), self._waiting = self._waiting, None
            self._handlers[number](number, frame)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Call handlers at once in this block."""
        self._allowed = True
        try:
            self.check()
            yield
        finally:
            self._allowed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._waiting = number, frame
        if self._allowed:
            self.check()
