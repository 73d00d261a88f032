"""Read the rows of a pool, many ranges at once, in several threads."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import StoreError
from store_spec.format.layout import chunk_rows
from store_spec.format.runs import merged, spread
from store_spec.reading.columns import Column
from store_spec.windows.order import EpochOrder
from store_spec.windows.pools import Pool, Slots
from store_spec.windows.ranges import Ints, Ranges
from store_spec.windows.row_cache import CachedRows
from store_spec.windows.samples import read_labels

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

MOST_THREADS = 8  # more would wait for the interpreter's lock
GATHERED = 8  # times as many bytes a thread gathers as one decompresses
PARTS = 4  # that each thread reads of a pool, so that all end at about the same time


def threads(decompressed: float = np.inf) -> int:
    """Return how many threads decompress: up to 8, and no more than there are processors for this process.

    Args:
        decompressed: How many bytes for each that is gathered: as much as one thread does while another gathers is left
            to one, as several would only wait for each other.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, MOST_THREADS, math.ceil(min(decompressed * GATHERED, MOST_THREADS))))


class Loader:
    """Reads what one rank takes of the pools of an epoch. Two buffers take turns: two pools are there at a time.

    Args:
        windows: Whose windows.
        order: Which pool has which.
        rank: Whose share.
        world_size: How many ranks there are.
        kept: What is there already, and keeps what is read; None for rows that go with their pool.
        index: Whether the number of each window is asked for.
        together: Bytes of rows that a thread reads at once, where a chunk is smaller.
        cancelled: Set when nobody wants the rows any more.
    """

    def __init__(
        self,
        windows: Windows,
        order: EpochOrder,
        rank: int,
        world_size: int,
        *,
        kept: CachedRows | None = None,
        index: bool,
        together: int,
        cancelled: threading.Event,
    ) -> None:
        self._windows, self._order = windows, order
        self._rank, self._world_size = rank, world_size
        self._kept = kept
        self._index, self._together, self._cancelled = index, together, cancelled
        self._buffers: list[dict[str, NDArray[Any]]] = [{}, {}]
        self._scratch = _Scratch()
        self._parts = PARTS * (workers := threads(order.decompressed))
        self._threads = ThreadPoolExecutor(workers, "seqzarr rows")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def __call__(self, number: int) -> Pool:
        """Read pool `number` and put its windows into order."""
        share = self._order.share(number, self._rank, self._world_size)
        windows, pieces, kept = self._windows, share.pieces, self._kept
        shape, columns = windows.shape, windows.columns
        # Each buffer is made for the largest pool: a larger one later would be of pages that the system clears first.
        ranges: Ranges = share
        buffers, room = self._buffers[number % 2], self._order.most_rows
        if kept is not None:
            ranges, buffers, room = kept.ranges, kept.space, kept.ranges.rows
        space = {
            name: self._space(name, column, ranges.rows, room, buffers)
            for name, column in columns.items()
            if name != "labels" or shape.target != "sequence"
        }
        parts, chunks = [], {}
        for array in ("inputs", "labels", "filled"):
            given = [(columns[name], rows) for name, rows in space.items() if columns[name].array == array]
            if not given or not share.rows:  # a rank may have nothing of a pool
                continue
            chunks[array] = self._chunks(share, array)
            stretches = self._stretches(*chunks[array], array)
            size = -(-len(stretches) // self._parts) or 1
            parts.append([(array, stretches[at : at + size], ranges, given) for at in range(0, len(stretches), size)])
        # By turns: labels have small chunks, and threads that read nothing else wait for the interpreter's lock.
        turns = itertools.chain.from_iterable(itertools.zip_longest(*parts))
        tasks = deque(self._threads.submit(self._read_part, *part) for part in turns if part)
        real = None
        if shape.short == "pad":
            real = windows.index.real_rows(pieces.sequence, pieces.row - windows.store.starts[pieces.sequence])
        place = ranges.places(pieces.row)
        small = np.dtype(np.int32 if ranges.rows < 2**31 else np.int64)
        position: NDArray[np.signedinteger] | Slots
        if shape.short == "pad" or shape.target == "sequence" or windows.static is not None or self._index:
            total = int(pieces.count.sum())
            position = Slots(
                order=self._order.arrange(number, share, np.arange(total, dtype=small)),
                before=(np.cumsum(pieces.count) - pieces.count).astype(small),
                place=place,
                number=pieces.number,
                stride=shape.stride,
            )
        else:
            positions = spread(place.astype(small), pieces.count, min(shape.stride, max(1, ranges.rows)))
            position = self._order.arrange(number, share, positions)
        if shape.target == "sequence":
            found = read_labels(windows.store, pieces.sequence)
            labels = columns["labels"](np.concatenate([columns["labels"].rows.empty(0), *found]))
        while tasks:  # one that is named here would hold its error, and the error, by its traceback, all of these
            tasks.popleft().result()  # of an error `close` cancels the others; `cancelled` would end without it
        if kept is not None:
            for array, (low, high) in chunks.items():
                kept.add(array, low, high)
        return Pool(
            shape=shape,
            inputs=space["inputs"],
            labels=labels if shape.target == "sequence" else space["labels"],
            future=space.get("future"),
            masks=tuple(space[name] for name in windows.masks),
            static=None if windows.static is None else windows.static[pieces.sequence],
            position=position,
            real=real,
            index=self._index,
            of_windows=windows.of_windows,
        )

    def _space(self, name: str, column: Column, rows: int, most: int, buffers: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Return room for so many rows, and for a window that is padded to reach past the last."""
        beyond = self._windows.shape.input_span if self._windows.shape.short == "pad" else 0
        if name not in buffers:
            buffers[name] = np.empty((most + beyond, *column.shape), column.dtype)
        return buffers[name][: rows + beyond]

    def _chunks(self, rows: Ranges, array: str) -> tuple[Ints, Ints]:
        """Return ranges of chunks that have these rows, and are not kept: each is decompressed once."""
        chunk = chunk_rows(self._windows.store.schema, array)
        low, high = merged(rows.start // chunk, -(-rows.stop // chunk))
        return (low, high) if self._kept is None else self._kept.missing(array, low, high)

    def _stretches(self, low: Ints, high: Ints, array: str) -> list[tuple[int, int]]:
        """Return the rows of these chunks, as many at a time as a thread reads at once."""
        schema, last = self._windows.store.schema, self._windows.store.counts.steps
        chunk = chunk_rows(schema, array)
        step = max(1, self._together // (chunk * schema.rows(array).nbytes))
        return [
            (at * chunk, min(min(at + step, end) * chunk, last))
            for begin, end in zip(low.tolist(), high.tolist(), strict=True)
            for at in range(begin, end, step)
        ]

    def _read_part(
        self, array: str, stretches: list[tuple[int, int]], ranges: Ranges, given: list[tuple[Column, NDArray[Any]]]
    ) -> None:
        for low, high in stretches:
            self._read(array, low, high, ranges, given)

    def _read(self, array: str, low: int, high: int, ranges: Ranges, given: list[tuple[Column, NDArray[Any]]]) -> None:
        """Read the rows of these ranges between two rows to their places."""
        if self._cancelled.is_set():
            raise StoreError(f"{self._windows.store.path}: reading ahead was cancelled")
        snapshot = self._windows.store.snapshot
        pieces = ranges.between(low, high)
        if len(given) == 1 and given[0][0].plain:
            if len(pieces) == 1:
                ((start, stop, place),) = pieces
                snapshot.fill(array, start, given[0][1][place : place + stop - start])
                return
            cuts = _cuts(pieces, chunk_rows(self._windows.store.schema, array), low, high)
            if len(cuts) > 2:
                for begin, end in itertools.pairwise(cuts):
                    self._read(array, begin, end, ranges, given)
                return
        first, last = pieces[0][0], pieces[-1][1]
        row, room = self._windows.store.schema.rows(array), None
        if (last - first) * row.nbytes <= self._together:  # for more, memory is taken once it is known to be there
            room = self._scratch.room(array, last - first, row.empty)
        rows = snapshot.rows_in(room, array, first, last)
        for column, space in given:
            for start, stop, place in pieces:
                space[place : place + stop - start] = column(rows[start - first : stop - first], start)


class _Scratch(threading.local):
    """Memory of each thread for rows that are copied from there: new memory would be cleared by the system first."""

    def __init__(self) -> None:
        self._rooms: dict[str, NDArray[Any]] = {}

    def room(self, array: str, count: int, make: Callable[[int], NDArray[Any]]) -> NDArray[Any]:
        """Return room for so many rows of an array or more, made like that; what was there is gone."""
        if array not in self._rooms or len(self._rooms[array]) < count:
            self._rooms.pop(array, None)
            self._rooms[array] = make(count)
        return self._rooms[array]


def _cuts(pieces: list[tuple[int, int, int]], chunk: int, low: int, high: int) -> list[int]:
    """Return where to cut rows, from `low` to `high`, so that only chunks that several pieces share hold more than one.

    A piece alone is decompressed where it is to lie; others are copied there.
    """
    cuts = {low, high}
    for (_, before, _), (after, _, _) in itertools.pairwise(pieces):
        begin = after - after % chunk
        cuts |= {begin, begin + chunk} if before > begin else {begin}
    return sorted(cut for cut in cuts if low <= cut <= high)
