"""Iterate over the batches of one epoch: order, threads, errors, forks, pickling and states of all kinds of batches.

A kind of batches is a plan, which knows the rows of each batch and how they are assembled: see `EpochPlan`.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from copy import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Self, TypeVar

from numpy.typing import ArrayLike

from store_spec.errors import StateError, WindowError
from store_spec.format.moments import Floats
from store_spec.reading.argument_checks import digest_of, memory_bytes, whole_number
from store_spec.reading.named_batch import Batch
from store_spec.reading.ranks import Turns
from store_spec.reading.states import resumed_step, state_of

if TYPE_CHECKING:
    from store_spec.store import Store

Transform = Callable[[Batch], Any]
# Options that states do not record: batches do not depend on them, or they are recorded in another form.
NOT_IN_STATES = {"batch_size", "rank", "world_size", "memory", "index", "weights", "transform", "lengths"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochOptions:
    """The arguments that all kinds of batches have; the classes of the batches say more about some of them.

    Args:
        shuffle: Take windows or sequences in random order.
        seed: Determines the order; at least 0.
        epoch: Another epoch has another order with the same seed; at least 0.
        rank: The number of this rank, from 0.
        world_size: How many ranks there are. All get the same number of batches, and together each window, row or
            sequence of the epoch once.
        drop_last: Leave out what does not fill a batch of every rank.
        memory: The bytes that may be used, such as `"256MB"`, in addition to batches in use, and the last shard, which
            an open store may have in memory.
        index: Add the numbers of the windows or sequences.
        weights: (sequences,), numbers of at least 0, to draw as many windows or sequences as there are with
            replacement; only with `shuffle`. None: each occurs once.
        transform: A function that is called with each batch, in a thread that reads ahead or in a worker process; its
            result is returned instead of the batch, though type checkers still take it for a `Batch`.
    """

    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    memory: int | str = "256MB"
    index: bool = False
    weights: ArrayLike | None = None
    transform: Transform | None = None

    sizes: ClassVar[tuple[str, ...]] = ()  # the fields of a subclass that are whole numbers of at least 1

    def __post_init__(self) -> None:
        for name in self.sizes:
            self._set(name, whole_number(name, getattr(self, name), 1))
        turns = self.turns(samples=0, size=1)
        self._set("seed", whole_number("seed", self.seed, 0))
        self._set("epoch", whole_number("epoch", self.epoch, 0))
        self._set("rank", turns.rank)
        self._set("world_size", turns.world_size)
        for each in fields(self):
            if isinstance(each.default, bool):
                self._set(each.name, bool(getattr(self, each.name)))
        if self.transform is not None and not callable(self.transform):
            raise WindowError(f"transform={self.transform!r:.80}; give a function of the batch")
        if self.weights is not None and not self.shuffle:
            raise WindowError("weights with shuffle=False, but they draw at random")
        self._set("memory", memory_bytes(self.memory))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def random(self) -> tuple[int, int]:
        """Seed and epoch."""
        return self.seed, self.epoch

    @property
    def limit(self) -> int:
        """The memory in bytes."""
        return int(self.memory)

    def turns(self, samples: int, size: int) -> Turns:
        """Return which samples are in which batch of this rank, with `size` samples in a batch."""
        return Turns(samples=samples, size=size, rank=self.rank, world_size=self.world_size, drop_last=self.drop_last)


class EpochPlan(ABC):
    """The batches of one rank in an epoch.

    Threads that read ahead refer to the plan, but not to the iterator over it; so deleting the iterator ends them.
    `rows` are the windows of the epoch, or the reader of slices: a `RowSelection`. `weights` is (sequences,); None if
    each window or sequence occurs once.
    """

    def __init__(self, options: Any, rows: Any, weights: Floats | None) -> None:
        self.options, self.rows, self.weights = options, rows, weights

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches."""

    @abstractmethod
    def __str__(self) -> str:
        """Describe a batch, for the `repr` of the iterator."""

    @abstractmethod
    def batches(self, numbers: range) -> Generator[Any, None, None]:
        """Yield the batches of these ascending numbers; threads read ahead until the generator is closed."""

    def __repr__(self) -> str:
        return repr(self.rows)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that determine the batches, apart from the sequences, in types of JSON."""
        options = self.options
        return {
            **self.rows.parameters(),
            **{each.name: getattr(options, each.name) for each in fields(options) if each.name not in NOT_IN_STATES},
            "batch_size * world_size": options.batch_size and options.batch_size * options.world_size,
            "weights": digest_of(self.weights),
        }

    def state(self, step: int) -> dict[str, Any]:  # noqa: ARG002
        """Return the further entries of a state after `step` batches."""
        return {}

    def end(self) -> dict[str, Any]:
        """Return the entries of a worker's state that tell how the end of the epoch is distributed to ranks."""
        return {}

    def resumed(self, step: int, state: Mapping[str, Any]) -> Self:  # noqa: ARG002
        """Return the plan of the rest of an epoch after `step` batches, perhaps taken by another number of ranks."""
        return self

    @property
    def store(self) -> Store:
        """The sequences."""
        store: Store = self.rows.store
        return store


class TurnsPlan(EpochPlan):
    """Batches of windows or rows that ranks take in turn: another number of ranks may resume them."""

    turns: Turns  # which windows or rows are in which batch

    def __len__(self) -> int:
        return len(self.turns)

    def state(self, step: int) -> dict[str, Any]:
        """Return how many windows or rows all ranks have taken."""
        return {"taken": self.turns.samples_before(step)}

    def end(self) -> dict[str, Any]:
        """Return how many windows or rows are in the batches that are the same for any number of ranks."""
        return {"last": self.turns.last[1]}

    def resumed(self, step: int, state: Mapping[str, Any]) -> Self:
        """Return the plan of the rest of an epoch; another number of ranks distributed its end differently."""
        turns = self.turns
        if "last" in state:
            turns = turns.after(turns.last[0], state["last"])
        plan = copy(self)
        plan.turns = turns.after(step, state.get("taken"))
        return plan


Plan = TypeVar("Plan", bound=EpochPlan)


class OneEpoch(Generic[Plan]):
    """An iterator that refuses a second loop: it would yield nothing, and a job would train for only one epoch.

    Make a new iterator for each epoch; a second loop over an exhausted one raises a WindowError. Several threads may
    share an iterator: each batch goes to one of them, and they are not refused if others have taken all batches. After
    a fork, parent and child both continue with all remaining batches, and after an error the next call tries the same
    batch again.
    """

    _of: ClassVar[str]  # the method that returns batches of another epoch, for errors
    _kind: ClassVar[str]  # in states
    varying_axes = 1  # how many of the first axes of arrays differ in size between batches

    def __init__(self, options: EpochOptions, plan: Plan) -> None:
        self._options = options
        self._worker, self._every = 0, 1  # it has the batches `_worker`, `_worker + _every`, ...
        self._base = plan  # after loading a state of other ranks, `_plan` has other batches
        # One for each process, as a thread may hold the lock at a fork. Reentrant, for signal handlers in this thread.
        self._locks: dict[int, threading.RLock] = {}
        self._start(plan, 0)
        if options.drop_last and not len(plan) and len(plan.store):
            text = f"{plan.store.path}: 0 batches of {plan}, as drop_last=True leaves out the last, incomplete ones"
            warnings.warn(text, stacklevel=4)

    def _start(self, plan: Plan, step: int) -> None:
        """Continue after `step` batches of a plan."""
        # The thread that got the StopIteration. Not its identifier, which a later thread may have, too.
        self._exhausted_in: weakref.ref[threading.Thread] | None = None
        self._plan, self._first = plan, step
        self._next = step + (self._worker - step) % self._every  # the first batch of this worker
        self._batches: Generator[Batch, None, None] | None = None
        self._process = 0  # the process that made `_batches`

    @property
    def same_length_in_all_epochs(self) -> bool:
        """Whether all epochs with these arguments have the same number of batches."""
        return not self._options.shuffle

    def _open(self) -> Generator[Batch, None, None]:
        """Return the batches that are left."""
        return self._plan.batches(range(self._next, len(self), self._every))

    def _begun(self) -> Generator[Batch, None, None]:
        """Return the batches that are left, begun in this process: after a fork, the parent's threads are not there."""
        if self._batches is None or self._process != os.getpid():
            self._process, self._batches = os.getpid(), self._open()
        return self._batches

    def __repr__(self) -> str:
        options, count = self._options, min(self._step(), len(self))
        order = f"shuffled, seed {options.seed}, epoch {options.epoch}" if options.shuffle else "in order"
        ranks = f", rank {options.rank} of {options.world_size}" if options.world_size > 1 else ""
        return f"<{len(self):,} batches of {self._plan}, {count:,} taken, {order}{ranks}: {self._plan!r}>"

    def __len__(self) -> int:
        """Return the number of batches of this rank in the epoch, including those already taken."""
        return len(self._plan)

    def __iter__(self) -> Self:
        if self._exhausted_in is not None and self._exhausted_in() is threading.current_thread():
            raise WindowError(
                f"{self!r}: all batches of this epoch were taken; get those of each epoch anew, by {self._of}(..., "
                "epoch=epoch)"
            )
        return self

    def __next__(self) -> Batch:
        with self._lock():
            try:
                batch = next(self._begun())
                self._next += self._every
            except StopIteration:
                self._exhausted_in = weakref.ref(threading.current_thread())
                raise
            except BaseException:
                self._batches = None
                raise
            return batch

    def _lock(self) -> threading.RLock:
        return self._locks.setdefault(os.getpid(), threading.RLock())

    def __getitem__(self, number: object) -> NoReturn:
        """Refuse: a `DataLoader` would regard an object with this method as a list of samples."""
        raise WindowError(
            f"batches of {self._of} come one after another in a loop, not by number; to a torch DataLoader give "
            "windows, or store_spec.torch.BatchDataset with batch_size=None"
        )

    def __getstate__(self) -> dict[str, Any]:
        with self._lock():
            return self.__dict__ | {"_locks": {}, "_batches": None, "_process": 0, "_exhausted_in": None}

    def close(self) -> None:
        """Stop reading ahead and free the memory, except for rows cached by windows; no more batches are returned.

        A thread that waits for a batch gets it first.
        """
        with self._lock():
            self._begun().close()

    def _step(self) -> int:
        """Return how many batches of this rank were taken."""
        return min(len(self), max(self._first, self._next - self._every + 1))

    def of_worker(self, worker: int, workers: int) -> Self:
        """Keep only the batches of one worker process: `worker`, `worker + workers`, ...

        Raises:
            WindowError: There is no such worker.
        """
        workers, worker = whole_number("workers", workers, 1), whole_number("worker", worker, 0)
        if worker >= workers:
            raise WindowError(f"worker={worker:,} of {workers:,} workers; they are 0 to {workers - 1:,}")
        self._worker, self._every = worker, workers
        self._start(self._plan, self._next)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the batches taken so far: a small dict, some hundred bytes as JSON.

        It is the same for every rank that has taken as many batches. Batches with the same arguments can continue from
        it with `load_state_dict`, in any process, also with another `world_size` if `batch_size * world_size` is the
        same and something is left for each rank.
        """
        plan, step = self._plan, self._step()
        # Workers may have taken different numbers of batches, but must agree on how the last ones are distributed.
        end = {} if self._every == 1 else plan.end()
        return state_of(self._kind, plan.store, plan.parameters(), step) | plan.state(step) | end

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called; no rows of earlier batches are read.

        If the store has more sequences by now, make the batches from `store.first(sequences)`, as the error says.

        Raises:
            StateError: The state is of another store, other arguments or a later version, is not a state, or its
                rest cannot be distributed over this number of ranks. Then nothing has changed.
        """
        plan, store = self._base, self._base.store
        step = resumed_step(state, self._kind, store, plan.parameters(), len(plan))
        try:
            plan = plan.resumed(step, state)
        except WindowError as error:
            raise StateError(f"{store.path}: the epoch of the state cannot continue here: {error}") from error
        self.close()
        self._start(plan, step)
