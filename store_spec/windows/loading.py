"""Read the rows of a pool in several threads."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import StoreError
from store_spec.format.runs import Ints, merged, spread
from store_spec.reading.columns import Column
from store_spec.reading.read_ranges import in_requests
from store_spec.windows.order import Share
from store_spec.windows.pools import Pool, Slots
from store_spec.windows.rows_in_memory import CachedRows, Ranges

if TYPE_CHECKING:
    from store_spec.windows.batches import Epoch

MOST_THREADS = 8  # more would wait for the interpreter's lock
GATHERED = 8  # a thread gathers about 8 times as many bytes as it would decompress in the same time
DECOMPRESSED = 8  # a thread decompresses an eighth of a request at a time
LOOK_SECONDS = 0.01  # between looks whether the next pool of a remote store can begin
PARTS = 4  # parts of a pool for each thread, so that all threads end at about the same time

Reads = list[tuple[int, int]]  # the first row of each read, and the row after its last
Parts = deque[Callable[[], None]]  # parts of a pool that no thread has begun to read
Tasks = deque[Future[None]]  # one for each thread that reads parts of a pool


def threads(decompressed: float = np.inf) -> int:
    """Return how many threads decompress: at most 8, and at most the number of processors for this process.

    `decompressed` is the bytes to decompress for each byte to gather. Meanwhile other threads gather, one on each
    processor. So decompressing gets as many threads as its share of all work needs; more would wait for each other.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = 1 - 1 / (1 + decompressed * GATHERED)
    return max(1, min(MOST_THREADS, round(available * share)))


@dataclass(frozen=True, slots=True)
class _PendingPool:
    """A pool whose rows are being read."""

    pool: Pool
    tasks: Tasks
    chunks: dict[str, tuple[Ints, Ints]]  # by array: the ranges of chunks that are read


def _read_all(parts: Parts) -> None:
    """Read parts until none is left, or until one cannot be read; other threads may take parts, too."""
    while parts:
        try:
            part = parts.popleft()
        except IndexError:  # another thread took it
            return
        try:
            part()
        except BaseException:
            parts.clear()
            raise


def _remove_done(tasks: Tasks) -> None:
    """Remove the tasks that have ended, and raise the error of one of them, if there is any."""
    for _ in range(len(tasks)):
        tasks.rotate(1)
        if tasks[0].done():  # not assigned to a name: the traceback of its error would keep all of them alive
            tasks.popleft().result()


class Loader:
    """Reads the share of one rank of the pools of an epoch. Two pools are in memory at a time, in alternating buffers.

    Args:
        plan: The epoch.
        cached: The cache of rows for this and later epochs; None if rows are dropped with their pool.
        cancelled: Set when the rows are no longer needed.
    """

    def __init__(self, plan: Epoch, cached: CachedRows | None, cancelled: threading.Event) -> None:
        self._plan, self.cached, self._cancelled = plan, cached, cancelled
        self._windows, self._order, self._together = plan.rows, plan.order, plan.together
        self._columns = self._windows.loaded
        # Each buffer is made for the largest pool: a larger one later would be new memory, which the system clears.
        rows = 0 if cached is not None else self._order.most_rows
        self._buffers = [{name: self._space(column, rows) for name, column in self._columns.items()} for _ in range(2)]
        self._remote = plan.store.snapshot.storage.requests > 1
        # How many threads read while others gather, and how many read if those that gather have nothing to do.
        self._readers = plan.requests if self._remote else threads(plan.order.decompressed)
        self._most = max(self._readers, threads())
        self._threads = ThreadPoolExecutor(self._most, "seqzarr rows")
        self._helpers = threading.Semaphore(self._most - self._readers)
        self._has_begun = False  # whether a pool was begun
        self._reading: tuple[Parts, Tasks] = deque(), deque()  # the parts and the tasks of the pool that is being read
        # While the last requests of a pool are under way, those of the next one begin. Threads that decompress would
        # only wait for each other: disjoint windows of a local store are a tenth slower with this.
        self._overlaps = self._remote and cached is None
        self._next: _PendingPool | None = None  # the next pool, if it is being read already
        self._last: Callable[[], Pool | None] = lambda: None  # the pool before, while it is in use

    def close(self) -> None:
        """End the threads, wait for those that help, and free the memory."""
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self._most - self._readers):
            self._helpers.acquire()
        self._buffers = []

    def __call__(self, number: int) -> Pool:
        """Read pool `number`, and put its windows in order."""
        pending, self._next = self._next or self._begin(number), None
        while pending.tasks:
            waits = self._overlaps and self._next is None and number + 1 < len(self._order)
            # If the consumer waits for this pool, the buffer of the one before is free for the next.
            if waits and self._last() is None:
                self._next, waits = self._begin(number + 1), False
            wait(list(pending.tasks), LOOK_SECONDS if waits else None, FIRST_COMPLETED)
            _remove_done(pending.tasks)  # after an error `close` cancels the other tasks
        self._windows.store.snapshot.check_not_replaced()
        if self.cached is not None:
            for array, (low, high) in pending.chunks.items():
                self.cached.add(array, low, high)
        self._last = weakref.ref(pending.pool)
        return pending.pool

    def _begin(self, number: int) -> _PendingPool:
        """Start to read pool `number`."""
        share = self._order.share(number, self._plan.turns.rank, self._plan.turns.world_size)
        windows, cached, shape, columns = self._windows, self.cached, self._windows.shape, self._columns
        ranges: Ranges = share
        buffers = self._buffers[number % 2]
        if cached is not None:
            ranges, buffers = cached.ranges, cached.space
            for name, column in columns.items():
                if name not in buffers:
                    buffers[name] = self._space(column, ranges.rows)
        space = {name: buffers[name][: ranges.rows + shape.span_beyond] for name in columns}
        parts, chunks = [], {}
        for array in ("inputs", "labels", "filled"):
            targets = [(columns[name], rows) for name, rows in space.items() if columns[name].array == array]
            if not targets or not share.rows:  # a rank may have no rows of a pool
                continue
            chunks[array] = self._chunks(share, array)
            groups = self._groups(array, self._reads(*chunks[array], array))
            size = -(-len(groups) // (PARTS * self._most)) or 1
            parts.append([(array, groups[at : at + size], ranges, targets) for at in range(0, len(groups), size)])
        # Alternating: labels have small chunks, and threads that read only such chunks wait for the interpreter's lock.
        turns = itertools.chain.from_iterable(itertools.zip_longest(*parts))
        waiting = Parts(partial(self._read_part, *part) for part in turns if part)
        count = self._readers if self._has_begun else self._most  # nothing is gathered before the first pool
        tasks = Tasks(self._threads.submit(_read_all, waiting) for _ in range(min(count, len(waiting))))
        self._has_begun = True
        self._reading = waiting, tasks
        position, labels = self._positions(number, share, ranges), None
        if shape.target == "sequence":
            labels = windows.labels_of_sequences(share.pieces.sequence)
        pool = Pool(windows=windows, rows=space, labels=labels, position=position, index=self._plan.options.index)
        return _PendingPool(pool, tasks, chunks)

    def help(self) -> None:
        """Read parts of the next pool in the calling thread, which waits for it, if a processor is free."""
        parts, tasks = self._reading
        if not parts or not self._helpers.acquire(blocking=False):
            return
        task = Future[None]()
        tasks.append(task)  # before a part is taken: the pool is complete once all tasks are
        try:
            _read_all(parts)
        except BaseException as error:  # noqa: BLE001  # it is raised where the pool is waited for
            task.set_exception(error)
        else:
            task.set_result(None)
        finally:
            del task  # its error has a traceback with this frame
            self._helpers.release()

    def _positions(self, number: int, share: Share, ranges: Ranges) -> NDArray[np.signedinteger] | Slots:
        """Return where each window of a pool starts, in the order of the epoch."""
        windows, shape, pieces = self._windows, self._windows.shape, share.pieces
        place, small = ranges.places(pieces.row), np.dtype(np.int32 if ranges.rows < 2**31 else np.int64)
        pads = shape.pads_inputs or shape.pads_labels
        if not (pads or shape.target == "sequence" or windows.static is not None or self._plan.options.index):
            positions = spread(place.astype(small), pieces.count, min(shape.stride, max(1, ranges.rows)))
            return self._order.arrange(number, share, positions)
        return Slots(
            order=self._order.arrange(number, share, np.arange(int(pieces.count.sum()), dtype=small)),
            before=(np.cumsum(pieces.count) - pieces.count).astype(small),
            place=place,
            step=pieces.row - windows.store.starts[pieces.sequence],
            sequence=pieces.sequence,
            number=pieces.number,
            stride=shape.stride,
        )

    def _space(self, column: Column, rows: int) -> NDArray[Any]:
        """Return space for `rows` rows, and for a padded window that reaches beyond the last of them."""
        return np.empty((rows + self._windows.shape.span_beyond, *column.shape), column.dtype)

    def _chunks(self, rows: Ranges, array: str) -> tuple[Ints, Ints]:
        """Return ranges of chunks that have these rows and are not cached; each is decompressed once."""
        chunk = self._windows.store.schema.chunking(array).chunk
        low, high = merged(rows.start // chunk, -(-rows.stop // chunk))
        return (low, high) if self.cached is None else self.cached.missing(array, low, high)

    def _reads(self, low: Ints, high: Ints, array: str) -> Reads:
        """Return the ranges of rows of these chunks that a thread reads at once."""
        schema, last = self._windows.store.schema, self._windows.store.counts.steps
        chunk = schema.chunking(array).chunk
        together = self._together // DECOMPRESSED if self._remote else self._together
        step = max(1, together // (chunk * schema.rows(array).nbytes))
        return [
            (at * chunk, min(min(at + step, stop) * chunk, last))
            for start, stop in zip(low.tolist(), high.tolist(), strict=True)
            for at in range(start, stop, step)
        ]

    def _read_part(
        self, array: str, groups: list[Reads], ranges: Ranges, targets: list[tuple[Column, NDArray[Any]]]
    ) -> None:
        for group in groups:
            with self._windows.store.snapshot.fetched(array, group[0][0], group[-1][1]):
                for low, high in group:
                    self._read(array, low, high, ranges, targets)

    def _groups(self, array: str, reads: Reads) -> list[Reads]:
        """Return groups of reads; those of a remote store take one request, with the rows between them."""
        if not self._remote:
            return [[one] for one in reads]
        starts, stops = np.array(reads, np.int64).reshape(-1, 2).T
        requests = in_requests(self._windows.store.snapshot, array, starts, stops, self._together)
        return [reads[first:after] for first, after in requests]

    def _read(
        self, array: str, low: int, high: int, ranges: Ranges, targets: list[tuple[Column, NDArray[Any]]]
    ) -> None:
        """Read the parts of `ranges` from row `low` to `high` into their places in the targets."""
        if self._cancelled.is_set():
            raise StoreError(f"{self._windows.store.path}: reading ahead was cancelled")
        snapshot = self._windows.store.snapshot
        pieces = ranges.between(low, high)
        if len(pieces) == len(targets) == 1 and targets[0][0].plain:  # decompressed directly into its place
            ((start, stop, place),) = pieces
            out = targets[0][1][place : place + stop - start]
            rows = snapshot.rows(array, start, stop, out=out)
            assert rows is out, "rows were read elsewhere"
            return
        first, last = pieces[0][0], pieces[-1][1]
        rows = snapshot.rows(array, first, last)
        for column, space in targets:
            for start, stop, place in pieces:
                space[place : place + stop - start] = column(rows[start - first : stop - first], start)
