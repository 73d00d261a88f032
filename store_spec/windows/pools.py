"""Windows whose rows are in memory together, and batches that several threads gather from them."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from store_spec.reading.ahead import in_turn, start
from store_spec.reading.named_batch import Batch
from store_spec.reading.ranks import Turns

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

UNLOCKED = 501  # with at least so many values, NumPy gathers without the interpreter's lock
LEAST_PART = 512  # bytes: with smaller parts of windows, gathering loses more time than releasing the lock gains

BLOCKS = 2  # of a thread: one in use, and one that is being gathered


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slots:
    """The run that each window belongs to, without an array with an entry for each window."""

    # (windows,), the slot of each window: runs have as many slots as windows, one run after another.
    order: NDArray[np.signedinteger]
    before: NDArray[np.signedinteger]  # (runs,), how many slots come before each run
    place: NDArray[np.int64]  # (runs,), where in the pool's rows each run's first window starts
    step: NDArray[np.int64]  # (runs,), the step of its sequence at which it starts
    sequence: NDArray[np.int64]  # (runs,), the position of the sequence in the index
    number: NDArray[np.int64]  # (runs,), the number of the first window
    stride: int  # rows from one window of a run to the next

    def find(self, start: int, stop: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return the run of windows `start` to `stop`, and how many windows of the run come before each."""
        slot = self.order[start:stop]
        run = np.searchsorted(self.before, slot, side="right") - 1
        return run, (slot - self.before[run]).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Pool:
    """Windows in memory, in the order of the epoch."""

    windows: Windows
    # (rows, *shape) each, of the same rows: see `assemble`. A padded window may reach beyond its sequence, but not
    # beyond these rows.
    rows: dict[str, NDArray[Any]]
    labels: NDArray[Any] | None  # (runs, *target shape), for labels of whole sequences
    # (windows,), where in these rows each window starts; or `Slots`, if padding, labels of sequences, static columns or
    # the index need the run of each window.
    position: NDArray[np.signedinteger] | Slots
    index: bool  # whether a batch has the numbers of its windows

    def cut(self, start: int, stop: int) -> Batch:
        """Return windows `start` to `stop` as new arrays."""
        slots = self.position
        if not isinstance(slots, Slots):
            return assemble(self.windows, self.rows, slots[start:stop].astype(np.intp))
        run, turn = slots.find(start, stop)
        past = turn * slots.stride
        return assemble(
            self.windows,
            self.rows,
            slots.place[run] + past,
            places=(slots.sequence[run], slots.step[run] + past),
            labels=None if self.labels is None else self.labels[run],
            index=slots.number[run] + turn if self.index else None,
        )


def assemble(
    windows: Windows,
    rows: dict[str, NDArray[Any]],
    at: NDArray[np.intp],
    *,
    places: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    labels: NDArray[Any] | None = None,
    index: NDArray[np.int64] | None = None,
) -> Batch:
    """Return windows as new arrays, in the order in which `Batches` names them.

    Args:
        windows: The windows.
        rows: (rows, *shape) each, by name, for the same rows: `inputs`, `labels` unless these are equal to `inputs`,
            `future`, and the masks of values.
        at: (windows,), where in these rows each window starts.
        places: (windows,) each, the sequence of each window and the step at which it starts there; None if neither
            padding nor static columns need them.
        labels: (windows, *target shape), labels of whole sequences.
        index: (windows,), the numbers of the windows, if they are asked for.
    """
    shape, mask, label_mask, padding, beyond = windows.shape, None, None, None, None
    real: Any = shape.window
    if places is not None and (shape.pads_inputs or shape.pads_labels):
        real = windows.index.real_rows(*places)
        mask = np.arange(shape.window) < real[:, None]
        padding = None if mask.all() else ~mask
        if shape.pads_labels:
            label_mask = np.arange(shape.horizon) < windows.index.real_labels(*places)[:, None]
            beyond = ~label_mask
    inputs = take_windows(rows["inputs"], at, shape.window, shape.sampling_rate)
    last = at + (real - 1) * shape.sampling_rate
    after, future = last + shape.label_offset, None
    if "future" in rows:
        future = take_windows(rows["future"], after, shape.horizon, shape.sampling_rate)
    if labels is None:
        of_steps = rows.get("labels", rows["inputs"])
        if shape.target == "future":
            labels = take_windows(of_steps, after, shape.horizon, shape.sampling_rate)
        elif shape.target == "aligned":
            labels, beyond = take_windows(of_steps, at, shape.window, shape.sampling_rate), padding
        else:
            labels = of_steps[last]
    _blank((padding, inputs), (beyond, labels), (beyond, future))
    if windows.window_scales is not None:
        inputs, labels, future = windows.window_scales(inputs, labels, future, None if isinstance(real, int) else real)
        _blank((padding, inputs), (beyond, labels), (beyond, future))
    value_mask = None
    for name in windows.masks:
        each = take_windows(rows[name], at, shape.window, shape.sampling_rate)
        value_mask = each if value_mask is None else value_mask & each
    _blank((padding, value_mask))
    if windows.has_mask and mask is None:
        mask = np.ones((len(at), shape.window), bool)
    return Batch.of(
        {
            "inputs": inputs,
            "labels": labels,
            "mask": mask if windows.has_mask else None,
            "label_mask": label_mask,
            "value_mask": value_mask,
            "future": future,
            "static": None if windows.static is None or places is None else windows.static[places[0]],
            "index": index,
        }
    )


def join(parts: list[Batch]) -> Batch:
    """Join the parts of a batch that come from several pools."""
    if len(parts) == 1:
        return parts[0]
    return type(parts[0])(*map(np.concatenate, zip(*parts, strict=True)))


def split(batch: Batch, bounds: list[tuple[int, int]]) -> list[Batch]:
    """Return some ranges of the windows of a batch as batches, which share its memory."""
    return [type(batch)(*(array[start:stop] for array in batch)) for start, stop in bounds]


def _blank(*arrays: tuple[NDArray[np.bool_] | None, NDArray[Any] | None]) -> None:
    """Set rows to zero where they are padding."""
    for padding, rows in arrays:
        if padding is not None and rows is not None:
            rows[padding] = 0


def _parts(windows: int, values: int, itemsize: int) -> int:
    """Return in how many equal parts to gather each window, so that NumPy releases the interpreter's lock."""
    least = -(-UNLOCKED // max(1, windows))
    most = min(2 * least, values * itemsize // LEAST_PART)
    return next((parts for parts in range(least, most + 1) if values % parts == 0), 1)


def take_windows(rows: NDArray[Any], at: NDArray[np.intp], count: int, step: int) -> NDArray[Any]:
    """Return (windows, count, *row shape): the rows `at[i]`, `at[i] + step`, ..., `count` of them, for each i."""
    values = math.prod(rows.shape[1:])
    if step == 1 or count == 1:
        # A window is contiguous, so it is copied as one value of many bytes, or as a few such values.
        size = count * values
        part = max(1, size // _parts(len(at), size, rows.itemsize))
        pieces: NDArray[Any] = np.ndarray(
            (max(0, rows.size - part + 1),),
            np.dtype((np.void, part * rows.itemsize)),
            rows,
            strides=(rows.itemsize,),
        )
        starts_of_parts = (at[:, None] * values + np.arange(0, size, part)).reshape(-1)
        windows: NDArray[Any] = pieces[starts_of_parts].view(rows.dtype).reshape(len(at), count, *rows.shape[1:])
        return windows
    starts = max(0, len(rows) - (count - 1) * step)
    each = values * rows.itemsize
    strides = (each, each * step, *rows.strides[1:])
    each_start: NDArray[Any] = np.ndarray((starts, count, *rows.shape[1:]), rows.dtype, rows, strides=strides)
    return each_start[at]


class SharedPools:
    """The pools of an epoch, for threads that each take all of them in order.

    The next pool is loaded once all threads have dropped the one before, because its memory is reused. A thread that
    waits for it calls `help_load`.
    """

    def __init__(
        self, pools: Generator[Pool, None, None], threads: int, help_load: Callable[[], None] = lambda: None
    ) -> None:
        self._pools, self._threads, self._help_load = pools, threads, help_load
        self._taken = self._waiting = 0
        self._pool: Pool | None = None
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def take(self) -> Pool:
        """Return the next pool. The thread must have dropped the one before; an error is raised in all threads."""
        self._help_load()
        with self._changed:
            taken = self._taken
            self._waiting += 1
            self._load_if_all_wait()
            while self._taken == taken:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            assert self._pool is not None
            return self._pool

    def leave(self) -> None:
        """End the use by this thread; the last one closes the pools."""
        with self._changed:
            self._threads -= 1
            self._load_if_all_wait()
            if not self._threads:
                self._pool = self._error = None
                self._pools.close()

    def _load_if_all_wait(self) -> None:
        if not self._waiting or self._waiting < self._threads:
            return
        self._waiting = 0
        self._pool = None
        try:
            self._pool = next(self._pools)
        except BaseException as error:  # noqa: BLE001  # it is raised in all threads
            self._error = error
        self._taken += 1
        self._changed.notify_all()


class _Blocks:
    """An iterator over some blocks of batches, each block gathered at once; see `gather`.

    `pools` begins with the pool of the first batch of all threads.
    """

    def __init__(self, pools: SharedPools, bounds: list[int], turns: Turns, blocks: Iterator[range]) -> None:
        self._pools, self._bounds, self._turns, self._blocks = pools, bounds, turns, blocks
        self._at = -1
        self._pool: Pool | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Batch]:
        bounds = [self._turns[number] for number in next(self._blocks)]
        first = bounds[0][0]
        block = self._batch(first, bounds[-1][1])
        return [block] if len(bounds) == 1 else split(block, [(low - first, high - first) for low, high in bounds])

    def _batch(self, start: int, stop: int) -> Batch:
        parts = []
        while start < stop:
            while self._pool is None or start >= self._bounds[self._at + 1]:
                self._pool = None  # its memory is reused
                self._pool = self._pools.take()
                self._at += 1
            until, before = min(stop, self._bounds[self._at + 1]), self._bounds[self._at]
            parts.append(self._pool.cut(start - before, until - before))
            start = until
        return join(parts)

    def close(self) -> None:
        """End the use of the pools."""
        self._pool = None
        self._pools.leave()


def gather(
    pools: Generator[Pool, None, None],
    bounds: list[int],
    turns: Turns,
    numbers: range,
    *,
    threads: int,
    slots: int,
    cancelled: threading.Event,
    help_load: Callable[[], None],
) -> Generator[Batch, None, None]:
    """Yield batches in order. Threads gather them ahead: of n threads, each gathers every n-th block of batches.

    Args:
        pools: The pools, beginning with the pool of the first batch.
        bounds: (pools + 1,), how many windows of this rank come before each of these pools, then up to their end.
        turns: Which windows are in which batch.
        numbers: The ascending numbers of the batches.
        threads: The largest number of threads. With 0, batches are gathered when they are needed.
        slots: How many batches may be in memory, with the one in use.
        cancelled: Set when the generator is closed.
        help_load: Called by one of these threads when it has nothing to gather before the next pool is there. It may
            not run in the caller's thread, where a Ctrl-C could interrupt it anywhere.
    """
    threads = min(threads, slots // BLOCKS, len(numbers))
    if threads:
        shared, size = SharedPools(pools, threads, help_load), slots // (BLOCKS * threads)
        each = (islice(_blocks(numbers, turns, bounds, size), first, None, threads) for first in range(threads))
        makes = [partial(_Blocks, shared, bounds, turns, some) for some in each]
        blocks = in_turn(start(makes, slots // (threads * size), "seqzarr batches", cancelled))
    else:
        blocks = _closed(_Blocks(SharedPools(pools, 1), bounds, turns, _blocks(numbers, turns, bounds, 1)))
    with closing(blocks):
        for batches in blocks:
            batches.reverse()
            while batches:
                yield batches.pop()


def _closed(blocks: _Blocks) -> Generator[list[Batch], None, None]:
    with closing(blocks):
        yield from blocks


def _blocks(numbers: range, turns: Turns, bounds: list[int], most: int) -> Iterator[range]:
    """Divide numbers into blocks of batches from the same pool; a batch from several pools is a block of its own.

    A block has at most `most` batches, and at most as many as come before it, so that the first batches come soon.
    """
    at = 0
    while at < len(numbers):
        block = numbers[at : at + max(1, min(most, at))]
        if len(block) > 1:
            end = bounds[bisect_right(bounds, turns[block[0]][0])]  # of the pool of its first window
            if turns[block[-1]][1] > end:
                block = block[: max(1, bisect_right(block, end, key=lambda number: turns[number][1]))]
        yield block
        at += len(block)
