"""An epoch of windows in batches: rows are read in the background, and windows are gathered from memory."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import StateError, WindowError
from store_spec.reading.normalization import state_name
from store_spec.reading.one_epoch import OneEpoch
from store_spec.reading.ranks import Turns, memory_bytes, whole_number
from store_spec.windows.epoch import Epoch, Transform
from store_spec.windows.order import VERSION
from store_spec.windows.state import normalized_then, state_of, step_at, store_at
from store_spec.windows.weighted import checked_weights

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

KIND = "windows"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """An epoch of windows: which windows, their weights, and how they are distributed and read."""

    base: Windows
    windows: Windows  # of the epoch
    weights: NDArray[np.float64] | None
    epoch: Epoch

    @property
    def turns(self) -> Turns:
        """How windows are distributed over batches and ranks."""
        return self.epoch.turns


class Batches(OneEpoch[Any]):
    """An iterator over the batches of one epoch. Get one from `windows.batches`.

    A batch is a tuple of new arrays, which stack the arrays of samples (see `Windows`): inputs (size, window, *feature
    shape); labels (size, ...); with `short="pad"` a mask (size, window), or with `mask=True` a mask of values (size,
    window, *feature shape); with `future=` its columns over the horizon (size, horizon, columns); with `static=`
    columns of the sequences (size, columns); with `index=True` the numbers of the windows, int64 (size,), for which
    `batches.windows.locate` returns source, part and step. Each window occurs once, unless `weights` are given.

    Without `shuffle`, windows are in the order of their numbers. With it, short runs of windows are read in random
    order, many from all over the store are in memory at a time, and windows are drawn at random from these. The order
    is a pure function of `seed`, `epoch`, the windows, the places of their sequences in the store, the size of its
    chunks, and `memory`; it does not depend on `size`, `rank` or `world_size`.

    Threads read and gather ahead. They are started by the first `next`, and end when the iterator is exhausted, closed
    or deleted. An error in them is raised by `next`, and ends the epoch: each later `next`, in any thread, raises a
    WindowError. Several threads may share an iterator: each batch goes to one of them. After a fork, an iterator that
    was in use is refused in the child. A second loop over an exhausted iterator raises a WindowError: make a new
    iterator for each epoch.

    Args:
        windows: The windows.
        size: Windows in a batch. The last batch may have fewer; with several ranks, the last two.
        shuffle: Draw windows at random.
        seed: Determines the order; at least 0.
        epoch: Another epoch has another order with the same seed, and other starts with `phase="random"`; at least 0.
        rank: The number of this rank. It gets the windows `rank`, `rank + world_size`, ... of the epoch, and reads only
            their chunks if `world_size` divides 48.
        world_size: How many ranks there are. All get the same number of batches, and together each window once; windows
            that are too few for a whole batch of every rank are distributed evenly (see `ranks.Turns`).
        drop_last: Leave those windows out, so that every batch has `size` windows.
        memory: The bytes that may be used, such as `"256MB"`, in addition to the last shard, which an open store may
            have in memory. If all rows of the windows fit, they stay in memory for later epochs of the same windows,
            up to three quarters of this, until the windows are deleted, start an epoch with less memory, or four other
            windows have cached rows since.
        index: Add the number of each window.
        weights: (sequences,), numbers of at least 0. The epoch draws as many windows as there are, with replacement, by
            the weight of their sequence, and shuffles them. No chunks are read for sequences of weight 0. With
            `windows.sequence_weights()` all classes are drawn equally often. To draw equally often from each sequence,
            whatever its length, use `weights / np.diff(windows.index.first)`. None: each window occurs once.
        transform: A function that is called with each batch, in a thread that reads ahead or in a worker process; its
            result is returned instead of the batch.

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

    _of = "windows.batches"

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
        index: bool = False,
        weights: ArrayLike | None = None,
        transform: Transform | None = None,
    ) -> None:
        self._random = (whole_number("seed", seed, 0), whole_number("epoch", epoch, 0))
        self._shuffle, self._drop_last, self._index = shuffle, drop_last, index
        self._memory = memory_bytes(memory)
        self._rank, self._size, self._world_size = rank, size, world_size
        if transform is not None and not callable(transform):
            raise WindowError(f"{windows.store.path}: transform={transform!r:.80}; give a function of the batch")
        self._transform = transform
        self._base = windows  # `load_state_dict` may go back to fewer sequences
        self._sequences = windows.store.counts.sequences
        self._worker, self._workers, self._of_worker = 0, 1, False
        self._process = 0
        self._lock = threading.Lock()
        self._ended_by: str | None = None
        self._base_weights = None
        if weights is not None:
            if not shuffle:
                raise WindowError(f"{windows.store.path}: weights with shuffle=False, but they draw at random")
            self._base_weights = checked_weights(weights, np.diff(windows.index.first), windows.store.path)
        self._plan = self._make_plan(windows, self._base_weights)
        self._start(0)

    @property
    def windows(self) -> Windows:
        """The windows; with `phase="random"` those of this epoch."""
        return self._plan.windows

    def _make_plan(self, base: Windows, weights: NDArray[np.float64] | None) -> _Plan:
        """Plan the epoch of these windows."""
        windows = base.of_epoch(*self._random)
        turns = Turns(
            samples=len(windows),
            size=self._size,
            rank=self._rank,
            world_size=self._world_size,
            drop_last=self._drop_last,
        )
        epoch = Epoch.plan(
            windows,
            turns,
            memory=self._memory,
            random=self._random if self._shuffle else None,
            index=self._index,
            transform=self._transform,
            weights=weights,
        )
        return _Plan(base=base, windows=windows, weights=weights, epoch=epoch)

    def _start(self, number: int) -> None:
        """Continue with batch `number` of this rank, or the first one after it that belongs to this worker."""
        self._exhausted_in, self._ended_by = None, None
        self._next = number + (self._worker - number) % self._workers
        numbers = range(self._next, len(self), self._workers)
        self._batches = self._plan.epoch.batches(numbers, gathered_ahead=not self._of_worker)

    def __repr__(self) -> str:
        order = f"shuffled, seed {self._random[0]}, epoch {self._random[1]}" if self._shuffle else "in order"
        ranks = f", rank {self._rank} of {self._world_size}" if self._world_size > 1 else ""
        count = min(self._next // self._workers, len(self))
        return f"<{len(self):,} batches of {self._size:,} windows, {count:,} taken, {order}{ranks}: {self.windows!r}>"

    def __len__(self) -> int:
        """Return the number of batches of this rank in the epoch, including those already taken."""
        return len(self._plan.turns)

    def _take(self) -> Any:
        process = os.getpid()
        if self._process not in (0, process):
            # Threads that read ahead or hold the lock do not exist after a fork, and waiting for them would not end.
            raise WindowError(
                f"these batches were begun in process {self._process}, but are asked for in {process}; "
                "call windows.batches there"
            )
        self._process = process
        with self._lock:
            if self._ended_by is not None:
                raise WindowError(
                    f"{self.windows.store.path}: these batches ended with an error, {self._ended_by:.200}; call "
                    "windows.batches anew, and load a state to go on after the batches that came before"
                )
            try:
                batch = next(self._batches)
            except StopIteration:
                raise
            except BaseException as error:
                self._ended_by = repr(error)
                raise
            self._next += self._workers
            return batch

    def __reduce__(self) -> tuple[type[Batches], tuple[Windows, int]]:
        raise WindowError(
            "batches cannot be pickled, as a thread reads ahead for them; pickle the windows, and call batches there"
        )

    def of_worker(self, worker: int, workers: int) -> Self:
        """Keep only the batches of one worker process: `worker`, `worker + workers`, ...

        Rows are read ahead; a batch is gathered and transformed when it is needed.

        Raises:
            WindowError: There is no such worker.
        """
        workers, worker = whole_number("workers", workers, 1), whole_number("worker", worker, 0)
        if worker >= workers:
            raise WindowError(f"worker={worker:,} of {workers:,} workers; they are 0 to {workers - 1:,}")
        self._worker, self._workers, self._of_worker = worker, workers, True
        self._start(self._next)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the batches taken so far: a small dict, some hundred bytes as JSON.

        It is the same for every rank that has taken as many batches. Batches with the same arguments can continue from
        it with `load_state_dict`, in another process, and with another `world_size` if `size * world_size` is the same
        and there is a window left for each rank.
        """
        step = min(len(self), max(self._plan.turns.resumed[0], self._next - self._workers + 1))
        state = state_of(KIND, self.windows.store, self._sequences, self._parameters(self._plan), step)
        # Workers have taken different numbers of batches, but must agree on how the last ones are distributed.
        last = {} if self._workers == 1 else {"last": self._plan.turns.last[1]}
        return state | {"taken": self._plan.turns.samples_before(step)} | last

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called; no rows of earlier batches are read.

        The store may have more sequences by now. The epoch continues with the sequences it was started with, and with
        their statistics if `normalize` is from `stats()` of this store. (If batches of all sequences raise an error,
        make them from `store.first(sequences)`.)

        Raises:
            StateError: The state is of another store, other arguments or a later version, is not a state, or its
                windows cannot be distributed like this. Then nothing has changed.
        """
        store = store_at(state, KIND, self._base.store)
        sequences, normalize = state["store"]["sequences"], normalized_then(self._base.normalize, state)
        plan = self._plan
        if len(store) != len(plan.base.store) or state_name(normalize) != state_name(plan.base.normalize):
            weights = self._base_weights
            if weights is not None:  # only of the sequences at that time
                weights = weights[self._base.store.selection < sequences]
            try:
                plan = self._make_plan(self._base.of(store, normalize), weights)
            except WindowError as error:
                raise StateError(f"the epoch of the state cannot go on here: {error}") from error
        step = step_at(state, self._parameters(plan), len(plan.turns), store)
        turns = replace(plan.turns, resumed=(0, 0))  # without the effect of a state that was loaded before
        try:
            if "last" in state:
                turns = turns.after(turns.last[0], state["last"])
            turns = turns.after(step, state.get("taken"))
        except WindowError as error:
            raise StateError(f"{store.path}: the epoch of the state cannot go on here: {error}") from error
        plan = replace(plan, epoch=replace(plan.epoch, turns=turns))
        self.close()
        self._plan, self._process, self._sequences = plan, 0, sequences
        self._start(step)

    def close(self) -> None:
        """Stop reading ahead and free the memory, except for rows cached by the windows; no more batches are returned.

        A thread that waits for a batch gets it first.
        """
        if self._process in (0, os.getpid()):  # after a fork there are no threads to stop or to release the lock
            with self._lock:
                self._batches.close()

    def _parameters(self, plan: _Plan) -> dict[str, Any]:
        seed, epoch = self._random
        random = np.random.default_rng(np.random.SeedSequence(self._random))
        order, weights = random.permutation(64), None
        if plan.weights is not None:
            weights = hashlib.sha256(plan.weights.astype("<f8").tobytes()).hexdigest()[:16]
            order = np.append(order, random.multinomial(10**6, np.arange(64) / 2016))
        return {
            **plan.windows.parameters(),
            "size * world_size": plan.turns.size * plan.turns.world_size,
            "shuffle": bool(self._shuffle),
            "seed": seed,
            "epoch": epoch,
            "drop_last": bool(self._drop_last),
            "memory": self._memory,
            "weights": weights,
            "order": VERSION,
            # A new version of NumPy may shuffle differently, which changes the order.
            "generator": hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:8],
        }
