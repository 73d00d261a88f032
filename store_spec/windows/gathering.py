"""Gather batches from pools in several threads; each of n threads has every n-th block of batches."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from typing import Self

from store_spec.errors import StoreError
from store_spec.reading.ahead import Maker, NoThreadError, in_turn, start
from store_spec.reading.named_batch import Batch
from store_spec.reading.ranks import Turns
from store_spec.windows.pools import Pool, join

Block = tuple[list[Batch], StoreError | None]  # an error came after these batches
MOST_IN_BLOCK = 2  # batches: each block wakes the consumer once
LEAST_SLOTS = 2  # blocks of a thread: one in use, and one that is being gathered


class SharedPools:
    """The pools of an epoch, for threads that each take all of them in order.

    The next pool is loaded once all threads have dropped the one before, because its memory is reused.
    """

    def __init__(self, pools: Generator[Pool, None, None], threads: int) -> None:
        self._pools, self._threads = pools, threads
        self._taken = self._waiting = 0
        self._pool: Pool | None = None
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def take(self) -> Pool:
        """Return the next pool of this thread, which must have dropped the one before; all threads get its error."""
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
    """An iterator over some blocks of batches, each batch gathered from one or several pools; see `gather`.

    `pools` begins with the pool of the first batch of all threads.
    """

    def __init__(self, pools: SharedPools, bounds: list[int], turns: Turns, blocks: Iterator[range]) -> None:
        self._pools, self._bounds, self._turns, self._blocks = pools, bounds, turns, blocks
        self._at = -1
        self._pool: Pool | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Block:
        batches: list[Batch] = []
        for number in next(self._blocks):
            try:
                batches.append(self._batch(*self._turns[number]))
            except StoreError as error:
                return batches, error
        return batches, None

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
) -> Generator[Batch, None, None]:
    """Yield batches in order, which threads gather ahead.

    Args:
        pools: The pools, beginning with the pool of the first batch.
        bounds: (pools + 1,), how many windows of this rank come before each of these pools.
        turns: Which windows are in which batch.
        numbers: The ascending numbers of the batches.
        threads: The largest number of threads. With 0, or if none can be started, batches are gathered when needed.
        slots: How many batches may be in memory, with the one in use.
        cancelled: Set when the generator is closed.
    """
    threads = min(threads, slots // LEAST_SLOTS, len(numbers))
    makers: list[Maker[Block]] = []
    if threads:
        shared, size = SharedPools(pools, threads), min(MOST_IN_BLOCK, slots // (LEAST_SLOTS * threads))
        each = (islice(_blocks(numbers, threads, size), first, None, threads) for first in range(threads))
        makes = [partial(_Blocks, shared, bounds, turns, some) for some in each]
        with suppress(NoThreadError):
            makers = start(makes, slots // (threads * size), "seqzarr batches", cancelled)
    if makers:
        blocks = in_turn(makers)
    else:
        blocks = _closed(_Blocks(SharedPools(pools, 1), bounds, turns, _blocks(numbers, len(numbers), 1)))
    with closing(blocks):
        for batches, error in blocks:
            batches.reverse()
            while batches:
                yield batches.pop()
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # an error in its own traceback would keep the caller's objects alive


def _closed(blocks: _Blocks) -> Generator[Block, None, None]:
    with closing(blocks):
        yield from blocks


def _blocks(numbers: range, singles: int, size: int) -> Iterator[range]:
    """Divide numbers into blocks of `size`; the first ones are single, so that the first batches come soon."""
    for at in range(min(singles, len(numbers))):
        yield numbers[at : at + 1]
    for at in range(singles, len(numbers), size):
        yield numbers[at : at + size]
