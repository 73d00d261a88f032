"""Batches of whole sequences, padded to the longest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import StateError, WindowError
from store_spec.reading.grouped_prefetch import Batch, GroupedPrefetch
from store_spec.reading.normalization import Normalize, Own, scales_of, state_name, without_windows
from store_spec.reading.one_epoch import OneEpoch
from store_spec.reading.ranks import Turns, memory_bytes, whole_number
from store_spec.reading.scaling import Scaler
from store_spec.reading.sequence_table import static_columns, static_parameter
from store_spec.sequences.buckets import Batching, BatchPlan
from store_spec.sequences.padding import Padding, Side
from store_spec.sequences.value_mask import ValueMask
from store_spec.windows.state import normalized_then, state_of, step_at, store_at

if TYPE_CHECKING:
    from store_spec.store import Store


class PaddedBatches(OneEpoch[Batch]):
    """An iterator over batches of whole sequences, each sequence once per epoch. Get one from `store.padded`.

    From the first batch on, a thread reads ahead. Threads may share an iterator. After a fork, parent and child both
    continue with all remaining batches. A second loop over an exhausted iterator raises a WindowError: make a new one
    for each epoch.

    A batch is a tuple of new arrays:

    * inputs (size, longest, *feature shape), padded with zeros,
    * labels: on the `step` axis (size, longest, *target shape), padded in the same way; on the `sequence` axis
      (size, *target shape); on the `own` axis (size, longest label sequence, *target shape), always padded at the end,
      as losses for label sequences need it,
    * mask, bool (size, longest), True for real steps,
    * only on the `own` axis, the same mask for labels, (size, longest label sequence),
    * with `value_mask=True`, bool (size, longest, *feature shape), True for real values of inputs, like `mask=True` of
      windows,
    * with `lengths=True`, int64 (size,), the number of real steps of each sequence, as `mask.sum(axis=1)`; on the `own`
      axis also the length of its label sequence, (size,),
    * with `static=` columns of the sequences, (size, columns),
    * with `index=True`, int64 (size,), the numbers of the sequences in `store`, for `store.sources[number]`.

    Sequences without steps are included, with a mask that is False.

    With `bucket=True`, sequences are sorted by length, longest first, so memory runs out at once or not at all. With
    `shuffle=True` as well, sequences are shuffled within buckets of several batches of similar lengths, and then the
    batches are shuffled, so different sequences meet in each epoch. `padding` shows how much that saves.

    The order depends only on the lengths and the arguments. The batches that several ranks take at the same time have
    similar lengths. Together these batches have the same sequences for any number of ranks with the same
    `size * world_size`. A state can be resumed with another number of ranks if this product is the same and at least
    one sequence is left for each; with `max_steps`, only with the same number of ranks.

    Args:
        store: The sequences.
        size: The largest number of sequences in a batch. Only the last batch has fewer (with several ranks the last
            two); with `bucket=True`, if less than half of a batch is left, two batches have fewer, in any place.
        max_steps: The largest product of the longest length and the number of sequences in a batch. With `size`, both
            limits apply. Label sequences of the `own` axis are not counted.
        bucket: Make batches of similar lengths.
        shuffle: Shuffle sequences. The order is a pure function of seed, epoch, the lengths and all arguments except
            `rank`, `memory` and `side`. The order of steps never changes.
        seed: Determines the order; at least 0.
        epoch: Another epoch has another order with the same seed; at least 0.
        side: Where padding is added: at the `end`, or at the `start`, so that all sequences end together.
        truncate: The largest number of steps to use of a sequence, and of its labels on the `step` axis; None for all.
            Truncated sequences are checked by the checksums of their chunks only, not by that of the sequence.
        truncate_side: Where sequences are truncated: at the `end`, which keeps the first steps, or at the `start`.
        rank: The number of this rank: it gets the batches `rank`, `rank + world_size`, ... of the epoch.
        world_size: How many ranks there are. All get the same number of batches, and together each sequence once; the
            sequences after the last whole batch of every rank are distributed evenly, as smaller batches.
        drop_last: Leave those sequences out, so that every batch has `size` sequences; not with `max_steps`.
        memory: The bytes for batches that are read ahead, such as `"256MB"`, in addition to a chunk. A single batch may
            always use what it needs.
        normalize: How to normalise inputs, and labels that are floats or the inputs: statistics, the result of their
            `minmax()` or `robust()`, or `"sequence"`; see `Windows`. Padding stays zero.
        static: Numeric columns of `store.sequences` to add, by name, in their common dtype; None for no such array.
        value_mask: Add a mask of values. It is False for values of inputs that were filled in, if the store records
            that (`--mask`, or `filled=True`); for NaN, in a store with missing values; and in padding.
        lengths: Add the lengths, as losses such as `torch.nn.CTCLoss` need them.
        index: Add the number of each sequence.

    Raises:
        WindowError: An argument is not as above, a sequence is longer than `max_steps`, there is no such column, the
            store has no information for `value_mask`, or sequences cannot be distributed over so many ranks.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     for number, steps in enumerate([9, 5, 8]):
    ...         x, y = np.ones((steps, 2), "float32"), np.ones((steps, 1), "float32")
    ...         writer.append(x, y, source=f"walk-{number}")
    >>> store = store_spec.open_store(path)
    >>> [mask.sum(axis=1).tolist() for x, y, mask in store.padded(2)]
    [[9, 5], [8]]
    >>> [mask.sum(axis=1).tolist() for x, y, mask in store.padded(2, bucket=True)]
    [[9, 8], [5]]
    >>> round(store.padded(2).padding, 3), round(store.padded(2, bucket=True).padding, 3)
    (0.154, 0.043)
    """

    _of = "store.padded"

    def __init__(
        self,
        store: Store,
        size: int | None = None,
        *,
        max_steps: int | None = None,
        bucket: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        side: Side = "end",
        truncate: int | None = None,
        truncate_side: Side = "end",
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory: int | str = "256MB",
        normalize: Normalize | None = None,
        static: Sequence[str] | None = None,
        value_mask: bool = False,
        lengths: bool = False,
        index: bool = False,
    ) -> None:
        self._batching = Batching(
            size=size,
            max_steps=max_steps,
            bucket=bucket,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
            world_size=world_size,
            drop_last=drop_last,
        )
        self._rank = Turns(samples=0, size=1, rank=rank, world_size=world_size).rank
        for name, value in (("side", side), ("truncate_side", truncate_side)):
            if value not in {"start", "end"}:
                raise WindowError(f"{name} is {value!r}; it must be 'start' or 'end'")
        self._side, self._truncate_side = side, truncate_side
        self._truncate = None if truncate is None else whole_number("truncate", truncate, 1)
        self._memory = memory_bytes(memory)
        self._normalize = without_windows(normalize, store.path)
        self._base = store, self._normalize  # a state may be of fewer sequences
        self._sequences = store.counts.sequences
        self._static = static
        self._value_mask = ValueMask.of(store) if value_mask else None
        self._lengths_too, self._index = lengths, index
        self._start(store, *self._make_plan(store), 0)

    def _make_plan(self, store: Store) -> tuple[NDArray[np.int64], BatchPlan]:
        """Return how many steps of each sequence are used, and the batches of the epoch."""
        store.snapshot.check_files()  # memory is allocated by the number of steps that the root claims
        lengths = store.lengths if self._truncate is None else np.minimum(store.lengths, self._truncate)
        most = self._batching.max_steps
        if most is not None and lengths.max(initial=0) > most:
            number = int(np.argmax(lengths > most))
            raise WindowError(
                f"{store.path}: sequence {number:,} ({store.sources[number]}) has {lengths[number]:,} steps, and a "
                f"whole batch max_steps={most:,}; give truncate={most} or max_steps={lengths.max()}"
            )
        return lengths, self._batching.plan(lengths)

    def _start(self, store: Store, lengths: NDArray[np.int64], plan: BatchPlan, step: int) -> None:
        """Continue after `step` batches of an epoch."""
        self._exhausted_in = None
        self._store, self._lengths, self._plan = store, lengths, plan
        self._padding = Padding(
            store=store,
            lengths=lengths,
            truncate_side=self._truncate_side,
            side=self._side,
            scales=scales_of(store, self._normalize),
            static=static_columns(store, self._static),
            value_mask=self._value_mask,
            lengths_too=self._lengths_too,
            index=self._index,
        )
        each = self._padding.batch_bytes(plan.longest(lengths), plan.longest(store.label_lengths))
        self._total_bytes = np.cumsum((each * np.diff(plan.first))[self._rank :: self._batching.world_size])
        reader = _PaddedReader(
            padding=self._padding,
            plan=plan,
            rank=self._rank,
            ranks=self._batching.world_size,
            total_bytes=self._total_bytes,
            memory=self._memory,
        )
        self._together = GroupedPrefetch(reader.read, reader.most, step, len(self))

    def __repr__(self) -> str:
        batching = self._batching
        limit = f"{batching.max_steps:,} padded steps" if batching.size is None else f"{batching.size:,} sequences"
        order = f"shuffled, seed {batching.seed}, epoch {batching.epoch}" if batching.shuffle else "in order"
        ranks = f", rank {self._rank} of {batching.world_size}" if batching.world_size > 1 else ""
        what = f"{len(self):,} batches of up to {limit}, {self._together.step:,} taken, {order}"
        return f"<{what}, {100 * self.padding:.1f} % padding{ranks}: {self._store!r}>"

    def __len__(self) -> int:
        """Return the number of batches of this rank in the epoch, including those already taken."""
        return len(self._total_bytes)

    def _take(self) -> Batch:
        return next(self._together)

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all batches of all ranks, such as 0.25."""
        return self._plan.padding(self._lengths)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the epoch as a small dict for JSON."""
        step = self._together.step
        sequences = self._plan.first[step * self._batching.world_size]
        parameters = self._parameters(self._store, self._normalize)
        return state_of("padded", self._store, self._sequences, parameters, step) | {"taken": int(sequences)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, in any process; no rows of earlier batches are read.

        If sequences were appended since, these become the batches of the sequences at that time, with their statistics
        if `normalize` is from `stats()` of this store. (If batches of all sequences raise an error, for example because
        one is longer than `max_steps`, make them from `store.first(sequences)`.)

        Raises:
            StateError: The state is of other sequences or arguments, or the remaining sequences cannot be distributed
                over this number of ranks.
        """
        store = store_at(state, "padded", self._base[0])
        lengths, plan = self._make_plan(store)
        ranks = self._batching.world_size
        normalize = normalized_then(self._base[1], state)
        step = step_at(state, self._parameters(store, normalize), (len(plan.first) - 1) // ranks, store)
        sequences = state.get("taken")
        if int(plan.first[step * ranks]) != sequences:  # another number of ranks distributed the last ones differently
            try:
                plan = self._batching.plan(lengths, (step, sequences))
            except WindowError as error:
                raise StateError(f"{store.path}: the epoch of the state cannot go on here: {error}") from error
        self._normalize, self._sequences = normalize, state["store"]["sequences"]
        self._start(store, lengths, plan, step)

    def _parameters(self, store: Store, normalize: Scaler | Own | None) -> dict[str, Any]:
        """Return the parameters that determine the epoch's batches, apart from the sequences."""
        batching = self._batching
        return {
            "size * world_size": batching.size and batching.size * batching.world_size,
            "world_size": batching.max_steps and batching.world_size,  # with `max_steps`, rounds depend on it
            "max_steps": batching.max_steps,
            "bucket": bool(batching.bucket),
            "shuffle": bool(batching.shuffle),
            "seed": batching.seed,
            "epoch": batching.epoch,
            "side": self._side,
            "truncate": self._truncate,
            "truncate_side": self._truncate_side,
            "drop_last": bool(batching.drop_last),
            "normalize": state_name(normalize),
            "static": static_parameter(self._static, static_columns(store, self._static)),
            "value_mask": self._value_mask is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PaddedReader:
    """Reads a rank's batches by number. It has no reference to the iterator, so that can be deleted."""

    padding: Padding
    plan: BatchPlan
    rank: int
    ranks: int
    total_bytes: NDArray[np.int64]  # of each of the rank's batches and all before it
    memory: int

    def most(self, step: int) -> int:
        """Return how many batches from `step` on fit into half of the memory."""
        before = int(self.total_bytes[step - 1]) if step else 0
        return int(np.searchsorted(self.total_bytes, before + self.memory // 2, side="right")) - step

    def read(self, start: int, stop: int) -> list[Batch]:
        """Read batches `start` to `stop`."""
        order, first = self.plan.order, self.plan.first
        batches = range(start * self.ranks + self.rank, stop * self.ranks, self.ranks)
        return self.padding.read([order[first[batch] : first[batch + 1]] for batch in batches])
