"""Batches of windows: the plan of an epoch, whose rows are read in the background, and the iterator over it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from store_spec.errors import WindowError
from store_spec.format.moments import Floats
from store_spec.format.runs import merged
from store_spec.reading.ahead import ahead
from store_spec.reading.argument_checks import checked_weights
from store_spec.reading.named_batch import Batch
from store_spec.reading.one_epoch import EpochOptions, OneEpoch, Transform, TurnsPlan
from store_spec.reading.read_ranges import requests_within
from store_spec.windows.loading import Loader, threads
from store_spec.windows.order import VERSION, EpochOrder
from store_spec.windows.pools import BLOCKS, Pool, gather
from store_spec.windows.rows_in_memory import CachedRows, Ranges, join_ranges
from store_spec.windows.units import Costs

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

# Eighths of the memory: two pools are in memory at a time, and at least two batches, one in use and one that is being
# made. None of this depends on the size of a batch, because the order of windows does not.
EIGHTHS = 8
POOL, BATCH = 3, 1
# Batches in memory at a time: more than a few only for the threads that gather, and if they take half of their share.
FEW_BATCHES = 4
BLOCK_BYTES, MOST_IN_BLOCK = 2**22, 64  # of batches that are gathered at once; larger blocks are not faster
INDEX_BYTES = 100  # at most, of a window while it is gathered
READ_BYTES = 2**21  # reading more at once is not faster
READ_SHARE = 64  # a thread may use 1/64 of the memory, in addition to the pools
# All requests of a remote store may use an eighth of the memory, and what the batches leave of theirs: most requests
# are small, so that more of them at once shorten the time spent waiting. At most twice as many as usual are made.
MORE_REQUESTS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchOptions(EpochOptions):
    """The arguments of `Batches`, apart from the windows."""

    sizes: ClassVar = ("batch_size",)
    batch_size: int


class Epoch(TurnsPlan):
    """The batches of windows of one rank, by number. Less memory than a unit, a batch and a chunk need is refused."""

    options: BatchOptions
    rows: Windows

    def __init__(self, options: BatchOptions, rows: Windows, weights: Floats | None) -> None:
        windows, memory = rows.of_epoch(*options.random), options.limit
        super().__init__(options, windows, weights)
        self.turns = options.turns(len(windows), options.batch_size)
        store = windows.store
        store.snapshot.check_files()  # the plan allocates memory by the number of steps that the root claims
        costs = _costs(windows)
        self.order = order = EpochOrder(
            windows.index,
            store.starts,
            chunk=store.schema.steps.chunk,
            costs=costs,
            budget=memory * POOL // EIGHTHS,
            random=options.random if options.shuffle else None,
            weights=weights,
            join=all(column.plain for column in windows.columns.values()),
        )
        batch = min(self.turns.size, len(windows)) * _sample_bytes(windows)
        chunk = 2 * max(map(store.schema.chunk_bytes, _loaded_arrays(windows)))  # stored plus decompressed
        least_memory = max(-(-order.largest * EIGHTHS // POOL), batch * EIGHTHS // BATCH, chunk) if len(order) else 0
        if least_memory > memory:
            raise WindowError(
                f"{store.path}: memory={memory:,} bytes is too little: the rows of a run of windows take "
                f"{order.largest:,} and may take {POOL} eighths, a batch takes {batch:,} and may take one, a chunk "
                f"{chunk:,}; give memory={least_memory}"
            )
        gathered = max(1, batch + min(self.turns.size, len(windows)) * INDEX_BYTES)
        fitting = memory * BATCH // EIGHTHS // gathered
        in_block = max(1, min(MOST_IN_BLOCK, BLOCK_BYTES // gathered))
        # How many batches are in memory at a time.
        self.slots = max(2, min(FEW_BATCHES, 2 * fitting), min(in_block * BLOCKS * threads(), fitting))
        # All rows of the windows, if they fit into memory and are read once for all epochs; otherwise None.
        self.kept = _rows_that_fit(windows, memory * 2 * POOL // EIGHTHS - 2 * order.beside, costs.row)
        # How many requests of a remote store are made at once, and the bytes of rows that a thread reads at once.
        self.requests, self.together = 1, min(READ_BYTES, memory // READ_SHARE)
        if store.snapshot.storage.requests > 1:
            least = requests_within(store.snapshot, memory // EIGHTHS, chunk)
            self.together = memory // EIGHTHS // least
            unused = max(0, memory * BATCH // EIGHTHS - self.slots * gathered)
            self.requests = min(MORE_REQUESTS * least, least + unused // self.together)

    def __str__(self) -> str:
        return f"{self.options.batch_size:,} windows"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that determine the batches, apart from the sequences, in types of JSON."""
        options = self.options
        random = np.random.default_rng(np.random.SeedSequence(options.random))
        order = random.permutation(64)
        if self.weights is not None:
            order = np.append(order, random.multinomial(10**6, np.arange(64) / 2016))
        return super().parameters() | {
            "memory": options.limit,
            "order": VERSION,
            # A new version of NumPy may shuffle differently, which changes the order.
            "generator": hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:8],
        }

    def batches(self, numbers: range, *, gathered_ahead: bool = True) -> Generator[Any, None, None]:
        """Yield the batches of these ascending numbers; threads read and gather ahead until the generator is closed.

        Without `gathered_ahead`, rows are read ahead, but a batch is gathered when it is needed. This is for worker
        processes, which make batches in advance anyway. A `transform` is called in one thread, with batches in order.
        """
        if not numbers:
            return
        first, cancelled, transform = self._pool_of(numbers[0]), threading.Event(), self.options.transform
        slots = self.slots if transform is None else self.slots - 1
        # It allocates its buffers in this thread: the C library keeps memory for the thread that allocated it, and each
        # epoch has other threads.
        loader = Loader(self, self._cached_rows(), cancelled)
        batches = gather(
            ahead(lambda: self._pools(loader, first), 2, "seqzarr pools", cancelled),
            [self.turns.share(int(windows)) for windows in self.order.first[first:]],
            self.turns,
            numbers,
            threads=threads() if gathered_ahead else 0,
            slots=slots,
            cancelled=cancelled,
            help_load=loader.help,
        )
        if transform is None:
            yield from batches
        elif gathered_ahead:
            # It has its own event, because the other one is set once all batches have been gathered.
            yield from ahead(lambda: _transformed(batches, transform), 2, "seqzarr transform", threading.Event())
        else:
            yield from _transformed(batches, transform)

    def _cached_rows(self) -> CachedRows | None:
        """Return the rows that earlier epochs have cached; None if not all rows fit into memory."""
        row_cache = self.rows.row_cache
        if self.kept is None:
            row_cache.drop()
            return None
        cached = row_cache.take()
        if cached is None or cached.ranges.rows > self.kept.rows:  # an epoch with more memory had more rows
            cached = CachedRows(ranges=self.kept)
        return cached

    def _pools(self, loader: Loader, number: int) -> Generator[Pool, None, None]:
        """Yield the pools from `number` on."""
        try:
            for pool in range(number, len(self.order)):
                yield loader(pool)
        finally:
            loader.close()
            if loader.cached is not None:
                self.rows.row_cache.give_back(loader.cached)

    def _pool_of(self, number: int) -> int:
        """Return the pool of the first window of a batch."""
        window = self.turns.rank + self.turns[number][0] * self.turns.world_size
        return int(np.searchsorted(self.order.first, window, side="right")) - 1


class Batches(OneEpoch[Epoch]):
    """An iterator over the batches of one epoch. Get one from `windows.batches`.

    A `Batch` is a tuple of new arrays with names, which stack the arrays of samples (see `Windows`): inputs (size,
    window, *feature shape); labels (size, ...); with `mask=True` or `short="pad"` mask (size, window); with
    `value_mask=True` value_mask (size, window, *feature shape); with `future=` future (size, horizon, columns); with
    `static=` static (size, columns); with `index=True` index, int64 (size,), the numbers of the windows, for which
    `batches.windows.locate` returns source, part and step. Each window occurs once, unless `weights` are given.

    Without `shuffle`, windows are in the order of their numbers. With it, short runs of windows are read in random
    order, many from all over the store are in memory at a time, and windows are drawn at random from these. The order
    is a pure function of `seed`, `epoch`, the windows, the places of their sequences in the store, the size of its
    chunks, and `memory`; it does not depend on `batch_size`, `rank` or `world_size`.

    Threads read and gather ahead. They are started by the first `next`, and end when the iterator is exhausted, closed
    or deleted. `OneEpoch` explains threads that share an iterator, forks, errors and a second loop.

    Args:
        windows: The windows.
        batch_size: Windows in a batch. The last batch may have fewer; with several ranks, the last two.
        epoch: With `phase="random"` or random lengths, another epoch has other windows, too.
        rank: It gets the windows `rank`, `rank + world_size`, ... of the epoch, and reads only their chunks if
            `world_size` divides 48. Windows that are too few for a whole batch of every rank are distributed evenly
            (see `ranks.Turns`).
        memory: If all rows of the windows fit, they stay in memory for later epochs of the same windows, up to three
            quarters of this, until the windows are deleted, start an epoch with less memory, or four other windows have
            cached rows since.
        weights: Windows have the weight of their sequence. No chunks are read for sequences of weight 0. With
            `windows.sequence_weights()` all classes are drawn equally often. To draw equally often from each sequence,
            whatever its length, use `weights / np.diff(windows.index.first)`.

    All other arguments, and more about these, are in `store_spec.reading.one_epoch.EpochOptions`.

    Raises:
        WindowError: An argument is not as above, windows cannot be distributed over so many ranks without leaving some
            out, or a run of windows or a batch does not fit into the memory.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), source="walk-0")
    ...     writer.append(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"), source="walk-1")
    >>> windows = store_spec.open_store(path).windows(4)
    >>> [(x.shape, y.shape) for x, y in windows.batches(4, shuffle=True)]
    [((4, 4, 2), (4, 1, 1)), ((2, 4, 2), (2, 1, 1))]
    >>> batches = windows.batches(4, shuffle=True)
    >>> x, y = next(batches)
    >>> state = batches.state_dict()  # can be saved as JSON
    >>> resumed = windows.batches(4, shuffle=True)
    >>> resumed.load_state_dict(state)
    >>> [len(x) for x, y in resumed]
    [2]
    """

    _of, _kind = "windows.batches", "windows"

    def __init__(self, windows: Windows, options: BatchOptions) -> None:
        weights = checked_weights(options.weights, np.diff(windows.index.first), windows.store.path)
        self._of_worker = False
        self.varying_axes = 0 if options.drop_last else 1
        super().__init__(options, Epoch(options, windows, weights))

    @property
    def windows(self) -> Windows:
        """The windows; with `phase="random"` those of this epoch."""
        return self._plan.rows

    @property
    def same_length_in_all_epochs(self) -> bool:
        """Whether all epochs with these arguments have the same number of batches."""
        return self.windows.shape.phase == "first"

    def _open(self) -> Generator[Batch, None, None]:
        numbers = range(self._next, len(self), self._every)
        return self._plan.batches(numbers, gathered_ahead=not self._of_worker)  # a DataLoader makes batches in advance

    def of_worker(self, worker: int, workers: int) -> Self:
        """Keep only the batches of one worker process: `worker`, `worker + workers`, ...

        Rows are read ahead; a batch is gathered and transformed when it is needed.

        Raises:
            WindowError: There is no such worker.
        """
        self._of_worker = True
        return super().of_worker(worker, workers)


def _transformed(batches: Generator[Batch, None, None], transform: Transform) -> Generator[Any, None, None]:
    with closing(batches):
        for batch in batches:
            yield transform(batch)


def _costs(windows: Windows) -> Costs:
    shape, row = windows.shape, sum(column.nbytes for column in windows.loaded.values())
    of_sequence = windows.columns["labels"].nbytes if shape.target == "sequence" else 0
    return Costs(
        row=row,
        window=8,  # its position takes 4, once for the pool in use and three times for the one that is being loaded
        piece=100 + of_sequence + windows.static_bytes,
        pool=shape.span_beyond * row,
        stored=sum(windows.store.schema.rows(array).nbytes for array in _loaded_arrays(windows)),
        sample=_sample_bytes(windows),
    )


def _loaded_arrays(windows: Windows) -> set[str]:
    return {column.array for column in windows.loaded.values()}


def _rows_that_fit(windows: Windows, budget: int, row: int) -> Ranges | None:
    """Return all rows that windows may use in any epoch, if they take at most `budget` bytes, at `row` bytes each."""
    store, lengths = windows.store, windows.base.stop - windows.base.start
    room = budget // max(1, row) - int(lengths.sum())
    if room < 0:
        return None
    some = np.flatnonzero(lengths)
    first = store.starts[some] + windows.base.start[some]
    start, stop = merged(first, first + lengths[some])
    if all(column.plain for column in windows.columns.values()):
        start, stop = join_ranges(start, stop, room, store.schema.steps.chunk)
    return Ranges(start=start, stop=stop)


def _sample_bytes(windows: Windows) -> int:
    """Return the bytes of one window in a batch."""
    shape = windows.shape
    future = shape.horizon * windows.row_bytes("future") if "future" in windows.columns else 0
    masks = int(windows.has_mask) + (windows.columns[windows.masks[0]].nbytes if windows.masks else 0)
    inputs = shape.window * (windows.row_bytes("inputs") + masks)
    labels = (shape.label_steps or 1) * windows.row_bytes("labels") + shape.pads_labels * shape.horizon
    return inputs + labels + future + windows.static_bytes
