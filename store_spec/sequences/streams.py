"""Batches that continue where the previous one ended, for networks that carry their state from batch to batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from store_spec.errors import WindowError
from store_spec.format.layout import chunk_rows
from store_spec.reading.grouped_prefetch import Batch, GroupedPrefetch
from store_spec.reading.normalization import (
    Normalize,
    Own,
    Scales,
    row_bytes,
    scales_of,
    state_name,
    without_windows,
)
from store_spec.reading.one_epoch import OneEpoch
from store_spec.reading.ranks import Turns, memory_bytes, whole_number
from store_spec.reading.read_by_chunk import PIECE_BYTES
from store_spec.reading.scaling import Scaler
from store_spec.sequences import lanes as lanes_module
from store_spec.sequences.lanes import LanePlan
from store_spec.sequences.slices import read_slices
from store_spec.sequences.value_mask import ValueMask
from store_spec.windows.state import normalized_then, state_of, step_at, store_at

if TYPE_CHECKING:
    from store_spec.store import Store


class Streams(OneEpoch[Batch]):
    """An iterator over batches that continue, lane by lane, where the previous one ended. Get one from `store.streams`.

    This is for truncated backpropagation through time: the state of the network is carried from batch to batch, but
    gradients are not, and a sequence may be far longer than a batch. Each step occurs once per epoch. From the first
    batch on, a thread reads ahead. Threads may share an iterator. After a fork, parent and child both continue with all
    remaining batches. A second loop over an exhausted iterator raises a WindowError: make a new one for each epoch. A
    batch is a tuple of new arrays:

    * inputs (lanes, steps, *feature shape),
    * labels (lanes, steps, *target shape): those of the steps; on the `sequence` axis, for each step the label of its
      sequence,
    * reset, bool (lanes, steps), True where a sequence starts: reset the state of this lane before this step,
    * mask with `mask=True`, bool (lanes, steps), True for real steps; the other arrays are zero at other steps,
    * with `value_mask=True`, bool (lanes, steps, *feature shape), True for real values of inputs, like `mask=True` of
      windows.

    In a lane, sequences follow each other without gaps, and lanes have about the same length. There is padding only
    after the last sequence of each lane; `padding` is its share. As a sequence may start in the middle of a batch,
    reset has a value for each step, for networks that loop over steps themselves. Networks that process a batch as a
    whole, such as `torch.nn.LSTM` and Keras, can reset their state only between two calls. Pass them a batch in parts:

        cuts = [0, *np.flatnonzero(reset[:, 1:].any(axis=0)) + 1, steps]  # one part, unless a sequence starts inside
        for start, stop in itertools.pairwise(cuts):
            keep = torch.from_numpy(~reset[:, start, None])
            output, state = lstm(x[:, start:stop], tuple(each * keep for each in state))

    Or use `align=True`: sequences then start at the first step of a batch only, so `reset[:, 0]` is enough. This adds
    padding after every sequence, on average half of `steps`; use `mask=True` to leave it out of the loss.

    Batches are read in groups, as many as `memory` allows, so that a chunk is decompressed about once for each sequence
    in it.

    Args:
        store: The sequences. Sequences without steps are left out. Labels may not be on the `own` axis.
        lanes: How many sequences are side by side in a batch of each rank.
        steps: Steps of each lane in a batch.
        align: Start sequences at the first step of a batch only.
        mask: Add a mask of steps.
        value_mask: Add a mask of values. It is False for values of inputs that were filled in, if the store records
            that (`--mask`, or `filled=True`); for NaN, in a store with missing values; and in padding.
        shuffle: Shuffle sequences. The order is a pure function of seed, epoch, the lengths, `lanes * world_size`,
            `steps` and `align`. Otherwise each lane has its sequences in the order of the store.
        seed: Determines the order; at least 0.
        epoch: Another epoch has another order with the same seed; at least 0.
        rank: The number of this rank: it has lanes `rank * lanes` to `(rank + 1) * lanes` of all.
        world_size: How many ranks there are. All get the same number of batches, and together each step once. A state
            can be resumed with another number of ranks if `lanes * world_size` is the same.
        memory: The bytes that may be used, such as `"256MB"`, in addition to batches in use, and the last shard, which
            an open store may have in memory.
        normalize: How to normalise inputs, and labels that are floats or the inputs: statistics, the result of their
            `minmax()` or `robust()`, or `"sequence"`; see `Windows`. Padding stays zero.

    Raises:
        WindowError: An argument is not as above, labels are on the `own` axis, the store has no information for
            `value_mask`, or a batch does not fit into the memory.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     for number, steps in enumerate([5, 4, 3, 4]):
    ...         x, y = np.ones((steps, 2), "float32"), np.ones((steps, 1), "float32")
    ...         writer.append(x, y, source=f"walk-{number}")
    >>> store = store_spec.open_store(path)
    >>> for x, y, reset in store.streams(2, 4):
    ...     print(x.shape, y.shape, [np.flatnonzero(lane).tolist() for lane in reset])
    (2, 4, 2) (2, 4, 1) [[0], [0]]
    (2, 4, 2) (2, 4, 1) [[1], [0]]
    >>> store.streams(2, 4).padding, round(store.streams(2, 4, align=True).padding, 3)
    (0.0, 0.333)
    """

    _of = "store.streams"

    def __init__(
        self,
        store: Store,
        lanes: int,
        steps: int,
        *,
        align: bool = False,
        mask: bool = False,
        value_mask: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        memory: int | str = "256MB",
        normalize: Normalize | None = None,
    ) -> None:
        self._lanes, self._steps = whole_number("lanes", lanes, 1), whole_number("steps", steps, 1)
        self._align, self._mask, self._shuffle = bool(align), bool(mask), bool(shuffle)
        self._random = (whole_number("seed", seed, 0), whole_number("epoch", epoch, 0))
        turns = Turns(samples=0, size=1, rank=rank, world_size=world_size)
        self._rank, self._ranks = turns.rank, turns.world_size
        limit = memory_bytes(memory)
        if store.schema.label_axis == "own":
            raise WindowError(
                f"{store.path}: labels on the own axis have steps of their own, so it is unknown which of them belong "
                "to a slice of inputs; streams need labels on the step or sequence axis, padded gives these whole"
            )
        self._normalize = without_windows(normalize, store.path)
        self._base = store, self._normalize  # a state may be of fewer sequences
        self._sequences = store.counts.sequences
        self._value_mask = ValueMask.of(store) if value_mask else None
        schema, scales = store.schema, scales_of(store, self._normalize)
        row = sum(row_bytes(schema.rows(name), scales[name]) for name in ("inputs", "labels"))
        row += 0 if self._value_mask is None else self._value_mask.row_bytes
        chunk = max(chunk_rows(schema, name) * schema.rows(name).nbytes for name in ("inputs", "labels"))
        chunk *= 2  # stored, and decompressed
        self._batch_bytes = self._lanes * self._steps * (row + 2)
        self._spare = limit - chunk
        if self._spare < self._batch_bytes + self._lanes * PIECE_BYTES:
            raise WindowError(
                f"{store.path}: memory={limit:,} bytes is too little: a batch of {self._lanes:,} lanes of "
                f"{self._steps:,} steps takes {self._batch_bytes:,}, and {PIECE_BYTES:,} more a lane while it is read, "
                f"a chunk {chunk:,}; give memory={chunk + self._batch_bytes + self._lanes * PIECE_BYTES}"
            )
        self._start(store, self._make_plan(store), 0)

    def _make_plan(self, store: Store) -> LanePlan:
        """Return the place of each sequence in the lanes of all ranks."""
        store.snapshot.check_files()  # memory is allocated by the number of steps that the root claims
        sequence = np.random.SeedSequence(self._random, spawn_key=(3,))
        return lanes_module.plan(
            store.lengths,
            lanes=self._lanes * self._ranks,
            steps=self._steps,
            align=self._align,
            random=np.random.default_rng(sequence) if self._shuffle else None,
        )

    def _start(self, store: Store, plan: LanePlan, step: int) -> None:
        """Continue after `step` batches of an epoch."""
        self._exhausted_in = None
        self._store, self._plan = store, plan
        slices = self._lanes + len(plan.sequence) // max(1, plan.batches * self._ranks)  # in a batch, on average
        reader = _StreamReader(
            store=store,
            plan=plan,
            rank=self._rank,
            lanes=self._lanes,
            steps=self._steps,
            scales=scales_of(store, self._normalize),
            mask=self._mask,
            value_mask=self._value_mask,
            fitting=self._spare // 2 // (self._batch_bytes + slices * PIECE_BYTES),
        )
        self._together = GroupedPrefetch(reader.read, reader.most, step, len(self))

    def __repr__(self) -> str:
        order = f"shuffled, seed {self._random[0]}, epoch {self._random[1]}" if self._shuffle else "in order"
        ranks = f", rank {self._rank} of {self._ranks}" if self._ranks > 1 else ""
        batches = f"{len(self):,} batches of {self._lanes:,} lanes of {self._steps:,} steps"
        padding = f"{100 * self.padding:.1f} % padding"
        return f"<{batches}, {self._together.step:,} taken, {order}, {padding}{ranks}: {self._store!r}>"

    def __len__(self) -> int:
        """Return the number of batches in the epoch, including those already taken; the same for each rank."""
        return self._plan.batches

    def _take(self) -> Batch:
        return next(self._together)

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all batches of all ranks, such as 0.25."""
        return self._plan.padding

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the epoch as a small dict for JSON, without the state of the network."""
        return state_of("streams", self._store, self._sequences, self._parameters(self._normalize), self._together.step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, in any process; no rows of earlier batches are read.

        If sequences were appended since, these become the batches of the sequences at that time, with their statistics
        if `normalize` is from `stats()` of this store.

        Raises:
            StateError: The state is of other sequences or arguments.
        """
        store = store_at(state, "streams", self._base[0])
        plan = self._make_plan(store)
        normalize = normalized_then(self._base[1], state)
        step = step_at(state, self._parameters(normalize), plan.batches, store)
        self._normalize, self._sequences = normalize, state["store"]["sequences"]
        self._start(store, plan, step)

    def _parameters(self, normalize: Scaler | Own | None) -> dict[str, Any]:
        """Return the parameters that determine the epoch's batches, apart from the sequences."""
        return {
            "lanes * world_size": self._lanes * self._ranks,
            "steps": self._steps,
            "align": self._align,
            "shuffle": self._shuffle,
            "seed": self._random[0],
            "epoch": self._random[1],
            "normalize": state_name(normalize),
            "value_mask": self._value_mask is not None,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _StreamReader:
    """Reads a rank's batches by number. It has no reference to the iterator, so that can be deleted."""

    store: Store
    plan: LanePlan
    rank: int
    lanes: int
    steps: int
    scales: Scales
    mask: bool
    value_mask: ValueMask | None
    fitting: int  # how many batches fit into half of the memory

    def most(self, step: int) -> int:
        """Return how many batches from `step` on fit into half of the memory."""
        return min(self.fitting, self.plan.batches - step)

    def read(self, start: int, stop: int) -> list[Batch]:
        """Read batches `start` to `stop`."""
        slices = self.plan.slices(range(self.rank * self.lanes, (self.rank + 1) * self.lanes), range(start, stop))
        shape = (stop - start, self.lanes, self.steps)
        return read_slices(self.store, slices, shape, self.scales, mask=self.mask, value_mask=self.value_mask)
