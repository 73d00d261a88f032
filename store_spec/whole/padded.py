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
from store_spec.whole.buckets import Batching, BatchPlan
from store_spec.whole.padding import Padding, Side
from store_spec.whole.value_mask import ValueMask
from store_spec.windows.state import normalized_then, state_of, step_at, store_at

if TYPE_CHECKING:
    from store_spec.store import Store


class PaddedBatches(OneEpoch[Batch]):
    """An iterator over batches of whole sequences, each sequence once an epoch. Get one from `store.padded`.

    A thread reads ahead, from the first batch on. Threads may share it. After a fork, parent and child each go on with
    all batches that were left. A second loop over one that is exhausted is a WindowError: each epoch has its own.

    A batch is a tuple of new arrays:

    * inputs (size, longest, *feature shape), zeros where a sequence has no step,
    * labels: on the `step` axis (size, longest, *target shape), padded likewise; on the `sequence` axis
      (size, *target shape); on the `own` axis (size, longest label sequence, *target shape), always padded at the end,
      as losses over label sequences take them,
    * mask, bool (size, longest), True where a step is real,
    * on the `own` axis alone the same mask for labels, (size, longest label sequence),
    * with `value_mask=True`, bool (size, longest, *feature shape), True where a value of inputs is real, as `mask=True`
      of windows gives it,
    * with `lengths=True`, int64 (size,), how many steps of each are real, as `mask.sum(axis=1)`; on the `own` axis that
      of its label sequence too, (size,),
    * with `static=` columns of the sequences, (size, columns),
    * with `index=True`, int64 (size,), the numbers of the sequences in `store`: `store.sources[number]` names each.

    A sequence of no steps stays: its mask is False throughout.

    With `bucket=True`, sequences are sorted by length, longest first, so memory runs out at once or not at all. With
    `shuffle=True` too, they are shuffled within buckets of several batches of similar lengths, and then the batches
    are shuffled: which sequences meet changes from epoch to epoch. `padding` says what that saves.

    The order follows from the lengths and the arguments alone. With several ranks, each group of batches that the ranks
    take at the same time is of similar lengths. The sequences of such a group are the same for any ranks that share
    `size * world_size` sequences; a state goes on with other ranks if that product is the same, and at least one
    sequence is left for each. With `max_steps`, it goes on with as many ranks.

    Args:
        store: Whose sequences.
        size: Sequences in a batch, at most. Only the last batch holds fewer, of several ranks the last two; with
            `bucket=True`, two do where less than half of a batch is left, and they may come anywhere.
        max_steps: The longest length in a batch times its sequences is at most that. With `size`, both limits hold.
            Label sequences of their own are not counted.
        bucket: Batches of similar lengths.
        shuffle: In an order that is a pure function of seed, epoch, the lengths and all arguments but `rank`, `memory`
            and `side`. Steps always keep their order.
        seed: Which order; at least 0.
        epoch: Another epoch is another order of the same seed; at least 0.
        side: Where steps are padded: at the `end`, or at the `start`, so that all sequences end together.
        truncate: Steps that a sequence keeps at most, and its labels on the `step` axis; None for all. Those of a
            sequence that is cut are not held against the checksum of the whole, only against those of their chunks.
        truncate_side: Where a sequence is cut off: at the `end`, so that its first steps stay, or at the `start`.
        rank: Whose batches: this rank gets the batches `rank`, `rank + world_size`, ... of the epoch.
        world_size: How many ranks there are. All get equally many batches, and together each sequence once: what
            remains after the last batch that every rank has whole is dealt evenly, as smaller batches.
        drop_last: Leave these out, so that every batch has `size` sequences; not with `max_steps`.
        memory: Bytes that batches may take that were read, and not taken yet, as `"256MB"`, beside a chunk. One batch
            may always take what it needs.
        normalize: What to normalise inputs by, and labels that are floats or the inputs: statistics, what their
            `minmax()` or `robust()` returns, or `"sequence"`, as `Windows` says. Padding stays zero.
        static: Which numeric columns of `store.sequences` are given along, by name, in the dtype that holds them all;
            None for no such array.
        value_mask: Give the mask of values too: False where a value of inputs was filled in, as a store built with
            `--mask` (or of `filled=True`) keeps it; False where it is NaN, in a store that keeps missing values; and
            False in padding.
        lengths: Give the lengths too, as losses such as `torch.nn.CTCLoss` take them.
        index: Give the number of each sequence too.

    Raises:
        WindowError: An argument is not as above, a sequence is longer than `max_steps`, there is no such column, the
            store knows nothing for `value_mask`, or sequences cannot be dealt to so many ranks.

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
        self._asked = store, self._normalize  # a state may be of fewer sequences
        self._sequences = store.counts.sequences
        self._static = static
        self._value_mask = ValueMask.of(store) if value_mask else None
        self._lengths_too, self._index = lengths, index
        self._begin(store, *self._planned(store), 0)

    def _planned(self, store: Store) -> tuple[NDArray[np.int64], BatchPlan]:
        """Return how many steps of each sequence are taken, and the batches of the epoch."""
        store.snapshot.check_files()  # memory is taken by the steps that are said to be there
        lengths = store.lengths if self._truncate is None else np.minimum(store.lengths, self._truncate)
        most = self._batching.max_steps
        if most is not None and lengths.max(initial=0) > most:
            number = int(np.argmax(lengths > most))
            raise WindowError(
                f"{store.path}: sequence {number:,} ({store.sources[number]}) has {lengths[number]:,} steps, and a "
                f"whole batch max_steps={most:,}; give truncate={most} or max_steps={lengths.max()}"
            )
        return lengths, self._batching.plan(lengths)

    def _begin(self, store: Store, lengths: NDArray[np.int64], plan: BatchPlan, step: int) -> None:
        """Go on after `step` batches of an epoch."""
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
        self._taken = np.cumsum((each * np.diff(plan.first))[self._rank :: self._batching.world_size])
        reader = _Reader(
            padding=self._padding,
            plan=plan,
            rank=self._rank,
            ranks=self._batching.world_size,
            taken=self._taken,
            memory=self._memory,
        )
        self._together = GroupedPrefetch(reader.read, reader.most, step, len(self))

    def __repr__(self) -> str:
        asked = self._batching
        limit = f"{asked.max_steps:,} padded steps" if asked.size is None else f"{asked.size:,} sequences"
        order = f"shuffled, seed {asked.seed}, epoch {asked.epoch}" if asked.shuffle else "in order"
        ranks = f", rank {self._rank} of {asked.world_size}" if asked.world_size > 1 else ""
        what = f"{len(self):,} batches of up to {limit}, {self._together.step:,} taken, {order}"
        return f"<{what}, {100 * self.padding:.1f} % padding{ranks}: {self._store!r}>"

    def __len__(self) -> int:
        """Batches of this rank in the epoch, those already taken among them."""
        return len(self._taken)

    def _take(self) -> Batch:
        return next(self._together)

    @property
    def padding(self) -> float:
        """The share of padding in all steps of the epoch's batches, of all ranks: 0.25 if every fourth is not real."""
        return self._plan.padding(self._lengths)

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands, as a small dict of what JSON has."""
        step = self._together.step
        taken = self._plan.first[step * self._batching.world_size]
        parameters = self._parameters(self._store, self._normalize)
        return state_of("padded", self._store, self._sequences, parameters, step) | {"taken": int(taken)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called, in any process: nothing of what was taken is read again.

        If the store was appended to since, these become the batches of the sequences that it had then, and by their
        statistics where `normalize` is of `stats()` of this store. (Where batches of all that is there now are refused,
        as of one longer than `max_steps`, make them of `store.first(sequences)`.)

        Raises:
            StateError: The state is of other sequences or arguments, or of ranks among which the rest is not dealt.
        """
        store = store_at(state, "padded", self._asked[0])
        lengths, plan = self._planned(store)
        ranks = self._batching.world_size
        normalize = normalized_then(self._asked[1], state)
        step = step_at(state, self._parameters(store, normalize), (len(plan.first) - 1) // ranks, store)
        taken = state.get("taken")
        if int(plan.first[step * ranks]) != taken:  # of other ranks, which were dealt the last ones otherwise
            try:
                plan = self._batching.plan(lengths, (step, taken))
            except WindowError as error:
                raise StateError(f"{store.path}: the epoch of the state cannot go on here: {error}") from error
        self._normalize, self._sequences = normalize, state["store"]["sequences"]
        self._begin(store, lengths, plan, step)

    def _parameters(self, store: Store, normalize: Scaler | Own | None) -> dict[str, Any]:
        """Return what the epoch's batches follow from, besides the sequences."""
        batching = self._batching
        return {
            "size * world_size": batching.size and batching.size * batching.world_size,
            "world_size": batching.max_steps and batching.world_size,  # a round of rank upon rank depends on it
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
class _Reader:
    """Reads a rank's batches by number. Not their iterator: that goes, with what was read ahead, when it is dropped."""

    padding: Padding
    plan: BatchPlan
    rank: int
    ranks: int
    taken: NDArray[np.int64]  # bytes of the rank's batches, those before each among them
    memory: int

    def most(self, step: int) -> int:
        """Return how many batches take half of the memory, from that one on."""
        before = int(self.taken[step - 1]) if step else 0
        return int(np.searchsorted(self.taken, before + self.memory // 2, side="right")) - step

    def read(self, start: int, stop: int) -> list[Batch]:
        """Read batches `start` to `stop`."""
        order, first = self.plan.order, self.plan.first
        batches = range(start * self.ranks + self.rank, stop * self.ranks, self.ranks)
        return self.padding.read([order[first[batch] : first[batch + 1]] for batch in batches])
