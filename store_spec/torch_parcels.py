"""Batches from the worker processes of a torch `DataLoader`, in memory that both processes see and use again.

torch itself makes new shared memory for each tensor, and lets the receiving process ask for it through a socket: for a
batch of a megabyte that takes longer than reading it. Here a worker has a ring of segments. One goes to the other
process once, as a tensor; after that its number is enough. A flag in it says whether it is in use, and is cleared when
the last array over it is gone, in whichever process.
"""

import os
import pickle
import secrets
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_convert, get_worker_info

from store_spec.errors import WindowError

HEAD = 64  # bytes before the arrays, each of which begins at a multiple of so many: two flags
IN_USE, KNOWN = 0, 1  # the flags; known: the receiving process has the segment

Layout = list[tuple[str, tuple[int, ...], int]]  # dtype, shape and place of each array


class Segment:
    """Shared memory, uint8, and its flags, as arrays of NumPy: torch takes some 10 us for each look at them."""

    def __init__(self, memory: torch.Tensor) -> None:
        self.memory, self.bytes = memory, memory.numpy()
        self.flags: NDArray[np.int64] = self.bytes[:HEAD].view(np.int64)


class Lease:
    """Memory of a segment; arrays over it hold this, and free the segment when they are gone."""

    def __init__(self, segment: Segment) -> None:
        self.segment, self._process = segment, os.getpid()
        self.sent = False  # then another process frees it, or a fork has it too, and nobody does
        _LEASES[id(self)] = self
        self.__array_interface__ = segment.bytes.__array_interface__

    def __del__(self) -> None:
        if not self.sent and self._process == os.getpid():  # a fork has it too
            self.segment.flags[IN_USE] = 0

    def arrays(self, layout: Layout) -> tuple[NDArray[Any], ...]:
        """Return arrays over the segment."""
        whole = np.asarray(self)
        return tuple(np.ndarray(shape, dtype, whole, place) for dtype, shape, place in layout)


# Those of this process. A fork sees the same memory, which must not become another batch while it may look at it.
_LEASES: WeakValueDictionary[int, Lease] = WeakValueDictionary()


def _never_free() -> None:
    for reference in _LEASES.valuerefs():  # at once: other threads may add some
        if (lease := reference()) is not None:
            lease.sent = True


os.register_at_fork(before=_never_free)


class Parcel:
    """A batch in a segment: tensors that can be iterated over, which arrive as a plain tuple in another process."""

    def __init__(self, ring: str, number: int, lease: Lease, layout: Layout) -> None:
        self._ring, self._number, self._lease, self._layout = ring, number, lease, layout

    def __iter__(self) -> Iterator[torch.Tensor]:
        return map(torch.from_numpy, self._lease.arrays(self._layout))

    def __len__(self) -> int:
        return len(self._layout)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(self._lease.arrays(self._layout)[number])

    def __reduce__(self) -> tuple[Any, ...]:
        self._lease.sent = True
        segment = self._lease.segment
        memory = None if segment.flags[KNOWN] else segment.memory
        return _received, (self._ring, self._number, memory, self._layout)


def next_of(batches: Iterator[Any]) -> Any:
    """Return the next batch as tensors; in a worker an error is one that can be sent: torch drops others, and waits.

    Raises:
        WindowError: Instead of an error that cannot be pickled.
    """
    try:
        return tensors_of(next(batches))
    except Exception as error:
        if get_worker_info() is not None:
            try:
                pickle.dumps(type(error))
            except Exception:  # noqa: BLE001  # whatever pickle says of a class that it does not find
                raise WindowError(f"{type(error).__qualname__} in a worker: {error}") from error
        raise


def tensors_of(batch: Any) -> Any:
    """Return a batch with tensors for its arrays; in a worker, as a parcel where it is a tuple of nothing else."""
    if type(batch) is not tuple:
        return default_convert(batch)
    plain = all(type(one) is np.ndarray and one.dtype.kind in "biufc" for one in batch)
    if plain and get_worker_info() is not None:
        return Ring.of(os.getpid()).parcel(batch)
    if plain:  # torch has no tensors of reversed views, which a transform may give
        batch = tuple(one.copy() if min(one.strides, default=0) < 0 else one for one in batch)
    return tuple(default_convert(batch))


class Ring:
    """The segments of one process."""

    def __init__(self, process: int) -> None:
        self._name = f"{process}-{secrets.token_hex(8)}"
        self._segments: list[Segment] = []

    @staticmethod
    @cache
    def of(process: int) -> "Ring":
        """Return that of this process, which persists as long as it: a fork has another number."""
        return Ring(process)

    def parcel(self, batch: tuple[NDArray[Any], ...]) -> Parcel:
        """Copy a batch into a segment that nobody uses, or into a new one."""
        layout, place = [], HEAD
        for array in batch:
            layout.append((array.dtype.str, array.shape, place))
            place += -(-array.nbytes // HEAD) * HEAD
        number = self._free(place)
        lease = Lease(self._segments[number])
        lease.segment.flags[IN_USE] = 1
        for array, copy in zip(batch, lease.arrays(layout), strict=True):
            copy[...] = array
        return Parcel(self._name, number, lease, layout)

    def _free(self, size: int) -> int:
        """Return the number of a segment that nobody uses, and that has so many bytes."""
        free = [number for number, segment in enumerate(self._segments) if not segment.flags[IN_USE]]
        for number in free:
            if len(self._segments[number].bytes) >= size:
                return number
        segment = Segment(torch.zeros(size, dtype=torch.uint8).share_memory_())
        if free:  # in the place of one that is too small, which goes in both processes
            self._segments[free[0]] = segment
            return free[0]
        self._segments.append(segment)
        return len(self._segments) - 1


# What this process has received of each ring. Unpickling is a function call that gets nothing but what was sent, so
# there is no other place that it could be kept in.
_RECEIVED: dict[str, dict[int, Segment]] = {}


def _received(ring: str, number: int, memory: torch.Tensor | None, layout: Layout) -> tuple[torch.Tensor, ...]:
    """Return the tensors of a parcel, in the process that it was sent to."""
    if ring not in _RECEIVED:
        for other in list(_RECEIVED):
            if not _is_there(int(other.partition("-")[0])):
                del _RECEIVED[other]
        _RECEIVED[ring] = {}
    if memory is not None:
        _RECEIVED[ring][number] = Segment(memory)
    if number not in _RECEIVED[ring]:
        raise WindowError(f"a batch of worker {ring} came to process {os.getpid()}, and those before to another one")
    lease = Lease(_RECEIVED[ring][number])
    lease.segment.flags[KNOWN] = 1
    return tuple(map(torch.from_numpy, lease.arrays(layout)))


def _is_there(process: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True
