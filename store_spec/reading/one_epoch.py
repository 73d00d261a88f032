"""The base class of iterators over the batches of one epoch."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

from store_spec.errors import WindowError

Batch = TypeVar("Batch")


class OneEpoch(ABC, Generic[Batch]):
    """An iterator that refuses a second loop: it would yield nothing, and a job would train for only one epoch.

    Threads that share an iterator are not refused if other threads have taken all batches.
    """

    _of: ClassVar[str]  # the method that returns batches of another epoch, for errors
    # The thread that got the StopIteration. Not its number, which another thread may get later.
    _exhausted_in: weakref.ref[threading.Thread] | None = None

    def __iter__(self) -> Self:
        if self._exhausted_in is not None and self._exhausted_in() is threading.current_thread():
            raise WindowError(
                f"{self!r}: all batches of this epoch were taken; get those of each epoch anew, by {self._of}(..., "
                "epoch=epoch)"
            )
        return self

    def __next__(self) -> Batch:
        try:
            return self._take()
        except StopIteration:
            self._exhausted_in = weakref.ref(threading.current_thread())
            raise

    def __getitem__(self, number: object) -> NoReturn:
        """Refuse: a `DataLoader` would regard an object with this method as a list of samples."""
        raise WindowError(
            f"batches of {self._of} come one after another in a loop, not by number; to a torch DataLoader give "
            "windows, or store_spec.torch.WindowBatches with batch_size=None"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_exhausted_in"}

    @abstractmethod
    def _take(self) -> Batch:
        """Return the next batch."""
