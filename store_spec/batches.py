"""An epoch of windows in batches: blocks of rows are read, and windows are cut out of memory."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from store_spec import blocks
from store_spec.blocks import Costs, EpochPlan, PoolPlan
from store_spec.errors import StoreError, WindowError
from store_spec.pools import Batch, Pool, join, read_ahead
from store_spec.ranks import Deal, whole_number
from store_spec.schema import Rows
from store_spec.sizes import parse_bytes
from store_spec.spans import read_spans

if TYPE_CHECKING:
    from store_spec.windows import Windows

# Two pools are there at a time, each of a third of the memory. The last third is for a batch and the one before it,
# so a batch may take a sixth. None of this depends on the size of a batch, as the order of windows depends on it.
POOL_SHARE = 3
BATCH_SHARE = 6
READ_BYTES = 2**22  # rows that are decompressed at once, beside the pool that they are copied to


class Batches:
    """An iterator over the batches of one epoch. Get one from `windows.batches`.

    A batch is a tuple of new arrays, samples as `Windows` describes them, one under another: inputs (size, window,
    *feature shape), labels (size, ...), and with `short="pad"` a mask (size, window). Each window comes once.

    Not shuffled, windows come in the order of their numbers. Shuffled, contiguous blocks of rows are visited in random
    order, many of them from all over the store in memory at a time, and windows are drawn at random from these. The
    order is a pure function of `seed`, `epoch`, the windows, where their sequences lie in the store, the size of its
    chunks, and `memory`; it does not depend on `size`, `rank` or `world_size`.

    A thread reads ahead while batches are taken. It is started by the first `next`, and ends when the iterator is
    exhausted, closed or dropped. An error in it is raised by `next`, after which no batch comes. Each rank reads the
    rows of the whole epoch, and gathers its own windows only.

    Args:
        windows: Whose windows.
        size: Windows in a batch. The last batch may hold fewer.
        shuffle: Draw windows at random.
        seed: Which order; at least 0.
        epoch: Another epoch is another order of the same seed; at least 0.
        rank: Whose batches: this rank gets the batches `rank`, `rank + world_size`, ... of the epoch.
        world_size: How many ranks there are. All get equally many batches, and together each window once: the
            windows after the last batch that every rank has whole are dealt evenly (see `ranks.Deal`).
        drop_last: Leave these out, so that every batch has `size` windows.
        memory: Bytes that may be taken, as `"256MB"`, beside the last shard, which an open store may keep in memory.

    Raises:
        WindowError: An argument is not as above, windows cannot be dealt to so many ranks without leaving some out,
            or a block of rows or a batch does not fit the memory.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), source="walk-0")
    ...     writer.append(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"), source="walk-1")
    >>> windows = store_spec.open_store(path).windows(4)
    >>> [(x.shape, y.shape) for x, y in windows.batches(4, shuffle=True)]
    [((4, 4, 2), (4, 1, 1)), ((2, 4, 2), (2, 1, 1))]
    """

    def __init__(
        self,
        windows: Windows,
        size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory: int | str = "256MB",
    ) -> None:
        random = (whole_number("seed", seed, 0), whole_number("epoch", epoch, 0))
        self._deal = Deal(windows=len(windows), size=size, rank=rank, world_size=world_size, drop_last=drop_last)
        allowed = whole_number("memory", parse_bytes(memory) if isinstance(memory, str) else memory, 1)
        store = windows.store
        for name in ("inputs", "labels"):  # the plan takes memory by the steps that are said to be there
            store.snapshot.check_files(name)
        plan = blocks.plan(
            windows.index,
            store.starts,
            chunk=store.schema.steps.chunk,
            costs=_costs(windows),
            budget=allowed // POOL_SHARE,
            random=random if shuffle else None,
        )
        if len(plan):
            _check_memory(windows, plan.largest, self._deal.size, allowed)
        self._batches = _run(windows, plan, self._deal)
        self._process = 0

    def __len__(self) -> int:
        """Batches of this rank in the epoch, those already taken among them."""
        return len(self._deal)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        process = os.getpid()
        if self._process != process:
            if self._process:
                # The thread that reads ahead is not there after a fork, and would be waited for without end.
                raise WindowError(
                    f"these batches were begun in process {self._process}, but are asked for in {process}; "
                    "call windows.batches there"
                )
            self._process = process
        return next(self._batches)

    def __reduce__(self) -> tuple[type[Batches], tuple[Windows, int]]:
        raise WindowError(
            "batches cannot be pickled, as a thread reads ahead for them; pickle the windows, and call batches there"
        )

    def close(self) -> None:
        """Stop reading ahead and free the memory; no batch comes after that."""
        self._batches.close()


class _Loader:
    """Reads pools. Two buffers take turns, as at most two pools are there at a time."""

    def __init__(self, windows: Windows, plan: EpochPlan) -> None:
        self._windows = windows
        self._plan = plan
        self._buffers: list[dict[str, NDArray[Any]]] = [{}, {}]

    def __call__(self, number: int, cancelled: threading.Event) -> Pool:
        """Read pool `number` and put its windows into order."""
        windows, pool = self._windows, self._plan.pool(number)
        buffers = self._buffers[number % 2]
        shape, index, pieces = windows.shape, windows.index, pool.pieces
        inputs = self._rows("inputs", pool, buffers, cancelled)
        if shape.target == "sequence":
            row = windows.store.label_starts[pieces.sequence]
            read = read_spans(windows.store.snapshot, "labels", row, row + 1)
            labels = windows.given_labels(np.concatenate(read))
        else:
            labels = self._rows("labels", pool, buffers, cancelled)
        position = _spread(pool.places(), pieces.count, step=min(shape.stride, pool.rows))
        self._plan.shuffle(number, position)
        piece = real = None
        if shape.short == "pad":
            first = pieces.row - windows.store.starts[pieces.sequence]
            real = index.real_rows(pieces.sequence, first)
        if shape.short == "pad" or shape.target == "sequence":
            piece = _spread(np.arange(len(pieces.count)), pieces.count, step=0)
            self._plan.shuffle(number, piece)  # the same number of windows, so the same order
        return Pool(shape=shape, inputs=inputs, labels=labels, position=position, piece=piece, real=real)

    def _rows(
        self, name: str, pool: PoolPlan, buffers: dict[str, NDArray[Any]], cancelled: threading.Event
    ) -> NDArray[Any]:
        """Return the pool's rows of `inputs` or `labels`, one range after another."""
        windows, snapshot = self._windows, self._windows.store.snapshot
        rows, dtype = _rows_and_dtype(windows, name)
        given = windows.given_inputs if name == "inputs" else windows.given_labels
        needed = pool.rows + _slack(windows)
        if name not in buffers or len(buffers[name]) < needed:
            buffers.pop(name, None)  # before the larger one is made
            buffers[name] = np.empty((needed, *rows.shape), dtype)
        buffer, at = buffers[name], 0
        chunk, last = self._plan.chunk, windows.store.counts.steps
        step = chunk * max(1, READ_BYTES // (chunk * rows.nbytes))
        for start, stop in zip(pool.start.tolist(), pool.stop.tolist(), strict=True):
            for low in range(start, stop, step):
                if cancelled.is_set():
                    raise StoreError(f"{windows.store.path}: reading ahead was cancelled")
                high = min(low + step, stop, last)
                buffer[at + low - start : at + high - start] = given(snapshot.rows(name, low, high))
            at += stop - start
        return buffer[:needed]


def _run(windows: Windows, plan: EpochPlan, deal: Deal) -> Generator[Batch, None, None]:
    """Yield the batches. A function, not a method: it must not keep alive the iterator that is to close it."""
    if not len(deal):
        return
    pools = read_ahead(_Loader(windows, plan), len(plan))
    try:
        cut = _Cutter(pools, plan.first.tolist())
        for number in range(len(deal)):
            yield cut(*deal[number])
    finally:
        pools.close()


class _Cutter:
    """Takes ranges of the epoch's order, each after the one before, from pool after pool."""

    def __init__(self, pools: Iterator[Pool], first: list[int]) -> None:
        self._pools = pools
        self._first = first
        self._number = 0
        self._pool = next(pools)

    def __call__(self, start: int, stop: int) -> Batch:
        parts = []
        while start < stop:
            while start >= self._first[self._number + 1]:
                del self._pool  # its buffer is filled again
                self._pool = next(self._pools)
                self._number += 1
            before, after = self._first[self._number : self._number + 2]
            parts.append(self._pool.cut(start - before, min(stop, after) - before))
            start = min(stop, after)
        return join(parts)


def _spread(first: NDArray[np.int64], counts: NDArray[np.int64], *, step: int) -> NDArray[np.intp]:
    """Return `first[i]`, `first[i] + step`, ... (`counts[i]` of them) for each i, one after another."""
    spread = np.arange(int(counts.sum()), dtype=np.intp)
    spread -= np.repeat(np.cumsum(counts) - counts, counts)
    spread *= step
    spread += np.repeat(first, counts)
    return spread


def _rows_and_dtype(windows: Windows, name: str) -> tuple[Rows, np.dtype[Any]]:
    return windows.store.schema.rows(name), windows.dtypes[0 if name == "inputs" else 1]


def _row_bytes(windows: Windows, name: str) -> int:
    """Bytes of a row as it is given."""
    rows, dtype = _rows_and_dtype(windows, name)
    return math.prod(rows.shape) * dtype.itemsize


def _slack(windows: Windows) -> int:
    """Rows after those of a pool, so that a window that is padded may reach past the last."""
    return windows.shape.input_span if windows.shape.short == "pad" else 0


def _costs(windows: Windows) -> Costs:
    of_sequence, pad = windows.shape.target == "sequence", windows.shape.short == "pad"
    inputs, labels = _row_bytes(windows, "inputs"), _row_bytes(windows, "labels")
    row = inputs + (0 if of_sequence else labels)
    # A position, and as much again while it is worked out; the same for its piece.
    window = 2 * np.dtype(np.intp).itemsize * (2 if of_sequence or pad else 1)
    return Costs(row=row, window=window, piece=labels if of_sequence else 0, pool=_slack(windows) * row)


def _check_memory(windows: Windows, block: int, size: int, allowed: int) -> None:
    shape = windows.shape
    labels = (shape.label_steps or 1) * _row_bytes(windows, "labels")
    sample = shape.window * (_row_bytes(windows, "inputs") + (shape.short == "pad")) + labels
    batch = min(size, len(windows)) * sample
    needed = max(POOL_SHARE * block, BATCH_SHARE * batch)
    if needed > allowed:
        raise WindowError(
            f"{windows.store.path}: memory={allowed:,} bytes is too little: the rows and windows of a block take "
            f"{block:,} and may take a third, a batch takes {batch:,} and may take a sixth; give memory={needed}"
        )
