"""An epoch of windows in batches: rows are read in the background, and windows are cut out of memory."""

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
    """An epoch of windows: of which, by which weights, and how they are dealt and read."""

    asked: Windows
    windows: Windows  # of the epoch
    weights: NDArray[np.float64] | None
    epoch: Epoch

    @property
    def turns(self) -> Turns:
        """How they are dealt."""
        return self.epoch.turns


class Batches(OneEpoch[Any]):
    """An iterator over the batches of one epoch. Get one from `windows.batches`.

    A batch is a tuple of new arrays, samples as `Windows` describes them, one under another: inputs (size, window,
    *feature shape), labels (size, ...), with `short="pad"` a mask (size, window) or with `mask=True` one of each value
    (size, window, *feature shape), with `future=` these columns over the horizon (size, horizon, columns), with
    `static=` columns of the sequences (size, columns), with `index=True` the numbers of the windows, int64 (size,):
    `batches.windows.locate` tells source, part and step of them. Each window comes once, unless `weights` are given.

    Not shuffled, windows come in the order of their numbers. Shuffled, short runs of them are read in random order,
    many from all over the store in memory at a time, and windows are drawn at random from these. The order is a pure
    function of `seed`, `epoch`, the windows, where their sequences lie in the store, the size of its chunks, and
    `memory`; it does not depend on `size`, `rank` or `world_size`.

    Threads read and gather ahead while batches are taken. They are started by the first `next`, and end when the
    iterator is exhausted, closed or dropped. An error in them is raised by `next`, and no batch comes after it: by each
    later `next`, or in each other thread, a WindowError is raised that says so, as an epoch would be cut short. Several
    threads may take batches from one iterator: each batch goes to one of them. After a fork, one that was begun is
    refused in the child. A second loop over an iterator that is exhausted is a WindowError: each epoch has its own.

    Args:
        windows: Whose windows.
        size: Windows in a batch. The last batch may hold fewer; of several ranks, the last two.
        shuffle: Draw windows at random.
        seed: Which order; at least 0.
        epoch: Another epoch is another order of the same seed, and other starts with `phase="random"`; at least 0.
        rank: Whose batches: this rank gets the windows `rank`, `rank + world_size`, ... of the epoch, and reads the
            chunks of these alone where `world_size` divides 48.
        world_size: How many ranks there are. All get equally many batches, and together each window once: the windows
            after the last batch that every rank has whole are dealt evenly (see `ranks.Turns`).
        drop_last: Leave these out, so that every batch has `size` windows.
        memory: Bytes that may be taken, as `"256MB"`, beside the last shard, which an open store may keep in memory. If
            all rows that windows may take fit, what was read of them stays with `windows`, and their later epochs do
            not read it again: up to three quarters of this, until the windows are gone, or begin an epoch with less
            memory, or four others have kept rows of theirs since.
        index: Give the number of each window too.
        weights: (sequences,), numbers from 0 on: the epoch draws as many windows as there are, with replacement, each
            by the weight of the sequence that it is of, and shuffles them. No chunk is read for sequences of weight 0.
            With `windows.sequence_weights()` all classes come equally often. For as much of each sequence, whatever its
            length, divide by its windows: `weights / np.diff(windows.index.first)`. None: each window comes once.
        transform: A function of the batch, called in a thread that reads ahead, or where a worker asks for it; what it
            returns is given instead.

    Raises:
        WindowError: An argument is not as above, windows cannot be dealt to so many ranks without leaving some out,
            or a run of windows or a batch does not fit the memory.

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
    >>> state = batches.state_dict()  # JSON can hold it
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
        self._asked = windows  # `load_state_dict` may go back to fewer
        self._sequences = windows.store.counts.sequences
        self._worker, self._workers, self._of_worker = 0, 1, False
        self._process = 0
        self._lock = threading.Lock()
        self._ended_by: str | None = None
        self._asked_weights = None
        if weights is not None:
            if not shuffle:
                raise WindowError(f"{windows.store.path}: weights with shuffle=False, but they draw at random")
            self._asked_weights = checked_weights(weights, np.diff(windows.index.first), windows.store.path)
        self._plan = self._planned(windows, self._asked_weights)
        self._begin(0)

    @property
    def windows(self) -> Windows:
        """Whose windows; with `phase="random"` those of this epoch."""
        return self._plan.windows

    def _planned(self, asked: Windows, weights: NDArray[np.float64] | None) -> _Plan:
        """Work out the epoch of these windows."""
        windows = asked.of_epoch(*self._random)
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
        return _Plan(asked=asked, windows=windows, weights=weights, epoch=epoch)

    def _begin(self, number: int) -> None:
        """Go on with that batch of this rank, or the first after it that is this worker's."""
        self._exhausted_in, self._ended_by = None, None
        self._next = number + (self._worker - number) % self._workers
        numbers = range(self._next, len(self), self._workers)
        self._batches = self._plan.epoch.batches(numbers, gathered_ahead=not self._of_worker)

    def __repr__(self) -> str:
        order = f"shuffled, seed {self._random[0]}, epoch {self._random[1]}" if self._shuffle else "in order"
        ranks = f", rank {self._rank} of {self._world_size}" if self._world_size > 1 else ""
        taken = min(self._next // self._workers, len(self))
        return f"<{len(self):,} batches of {self._size:,} windows, {taken:,} taken, {order}{ranks}: {self.windows!r}>"

    def __len__(self) -> int:
        """Batches of this rank in the epoch, those already taken among them."""
        return len(self._plan.turns)

    def _take(self) -> Any:
        process = os.getpid()
        if self._process not in (0, process):
            # Threads that read ahead or hold the lock are not there after a fork, and would be waited for without end.
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
        """Give only every so many batches of the epoch, from the one with that number on: one worker's of several.

        Rows are read ahead; a batch is gathered, and transformed, when it is asked for.

        Raises:
            WindowError: There is no such worker.
        """
        workers, worker = whole_number("workers", workers, 1), whole_number("worker", worker, 0)
        if worker >= workers:
            raise WindowError(f"worker={worker:,} of {workers:,} workers; they are 0 to {workers - 1:,}")
        self._worker, self._workers, self._of_worker = worker, workers, True
        self._begin(self._next)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on after the batches taken so far: some hundred bytes, once they are JSON.

        It is the same for every rank that has taken as many batches. `load_state_dict` of batches that were made with
        the same arguments goes on from it, in another process, and with another `world_size` where
        `size * world_size` is the same and a window is left for each rank.
        """
        step = min(len(self), max(self._plan.turns.resumed[0], self._next - self._workers + 1))
        state = state_of(KIND, self.windows.store, self._sequences, self._parameters(self._plan), step)
        # Workers stand at different batches, and have to be dealt the last ones alike.
        last = {} if self._workers == 1 else {"last": self._plan.turns.last[1]}
        return state | {"taken": self._plan.turns.samples_before(step)} | last

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called; nothing of what comes before is read.

        The store may have more sequences by now: the epoch goes on with those that it was begun with, and with their
        statistics where `normalize` is of `stats()` of this store. (Where batches of all that is there now are refused,
        make them of `store.first(sequences)`.)

        Raises:
            StateError: The state is of another store, of other arguments, of a later version, or no state; or its
                windows cannot be dealt so. Then nothing has changed.
        """
        store = store_at(state, KIND, self._asked.store)
        sequences, normalize = state["store"]["sequences"], normalized_then(self._asked.normalize, state)
        plan = self._plan
        if len(store) != len(plan.asked.store) or state_name(normalize) != state_name(plan.asked.normalize):
            weights = self._asked_weights
            if weights is not None:  # of those that were there
                weights = weights[self._asked.store.selection < sequences]
            try:
                plan = self._planned(self._asked.of(store, normalize), weights)
            except WindowError as error:
                raise StateError(f"the epoch of the state cannot go on here: {error}") from error
        step = step_at(state, self._parameters(plan), len(plan.turns), store)
        turns = replace(plan.turns, resumed=(0, 0))  # not as a state that was loaded before had them
        try:
            if "last" in state:
                turns = turns.after(turns.last[0], state["last"])
            turns = turns.after(step, state.get("taken"))
        except WindowError as error:
            raise StateError(f"{store.path}: the epoch of the state cannot go on here: {error}") from error
        plan = replace(plan, epoch=replace(plan.epoch, turns=turns))
        self.close()
        self._plan, self._process, self._sequences = plan, 0, sequences
        self._begin(step)

    def close(self) -> None:
        """Stop reading ahead and free the memory, but for what stays with the windows; no batch comes after that.

        A thread that waits for a batch gets it first.
        """
        if self._process in (0, os.getpid()):  # a fork has no threads to stop, and nobody to give the lock back
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
            # NumPy may change how it shuffles, and with it the order.
            "generator": hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()[:8],
        }
