"""Batches that go on where the one before ended, for networks that keep their state from batch to batch."""

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
from store_spec.whole import lanes as lanes_module
from store_spec.whole.lanes import LanePlan
from store_spec.whole.slices import read_slices
from store_spec.whole.value_mask import ValueMask
from store_spec.windows.state import normalized_then, state_of, step_at, store_at

if TYPE_CHECKING:
    from store_spec.store import Store


class Streams(OneEpoch[Batch]):
    """An iterator over batches that go on, lane by lane, where the one before ended. Get one from `store.streams`.

    Truncated backpropagation through time: the state of the network is kept between batches, gradients are not, and a
    sequence may be far longer than what is unrolled at once. Each step comes once an epoch. A thread reads ahead, from
    the first batch on. Threads may share it. After a fork, parent and child each go on with all batches that were left.
    A second loop over one that is exhausted is a WindowError: each epoch has its own. A batch is a tuple of new arrays:

    * inputs (lanes, steps, *feature shape),
    * labels (lanes, steps, *target shape): those of the steps, or on the `sequence` axis that of the sequence that the
      lane is in, at each of its steps,
    * reset, bool (lanes, steps), True where a sequence begins: before this step, the state of that lane is forgotten,
    * mask with `mask=True`, bool (lanes, steps), True where a step is real; all else is zero where it is not,
    * with `value_mask=True`, bool (lanes, steps, *feature shape), True where a value of inputs is real, as `mask=True`
      of windows gives it.

    Sequences follow one another without a gap, dealt to lanes so that all end at about the same time; then the only
    padding is behind the last sequence of each lane, and `padding` says how much it is. As a sequence may begin in the
    middle of a batch, reset is given by step, as networks want it that loop over steps themselves. Those that take a
    batch whole, such as `torch.nn.LSTM` and Keras, forget state between two calls only. They take a batch in parts:

        cuts = [0, *np.flatnonzero(reset[:, 1:].any(axis=0)) + 1, steps]  # one part, unless a sequence begins within
        for start, stop in itertools.pairwise(cuts):
            keep = torch.from_numpy(~reset[:, start, None])
            output, state = lstm(x[:, start:stop], tuple(each * keep for each in state))

    or `align=True`, with which sequences begin at the first step of a batch only: `reset[:, 0]` is all that is needed,
    at the cost of padding behind every sequence, on average half of `steps`: use `mask=True` to leave it out of a loss.

    Batches are read some at a time, as many as `memory` allows, so that a chunk is decompressed about once for each
    sequence that it has a part of.

    Args:
        store: Whose sequences. Those of no steps are left out. Labels may not be on the `own` axis.
        lanes: Sequences side by side, for each rank.
        steps: Steps of each lane in a batch.
        align: Begin sequences with a batch.
        mask: Give the mask of steps too.
        value_mask: Give the mask of values too: False where a value of inputs was filled in, as a store built with
            `--mask` (or of `filled=True`) keeps it; False where it is NaN, in a store that keeps missing values; and
            False in padding.
        shuffle: In an order that is a pure function of seed, epoch, the lengths, `lanes * world_size`, `steps` and
            `align`. Otherwise each lane has its sequences in the order of the store.
        seed: Which order; at least 0.
        epoch: Another epoch is another order of the same seed; at least 0.
        rank: Whose lanes: this rank has lanes `rank * lanes` to `(rank + 1) * lanes` of all.
        world_size: How many ranks there are. All get equally many batches, and together each step once. A state goes
            on with other ranks if `lanes * world_size` is the same.
        memory: Bytes that may be taken, as `"256MB"`, beside the batches that were taken, and the last shard, which an
            open store may keep in memory.
        normalize: What to normalise inputs by, and labels that are floats or the inputs: statistics, what their
            `minmax()` or `robust()` returns, or `"sequence"`, as `Windows` says. Padding stays zero.

    Raises:
        WindowError: An argument is not as above, labels are on the `own` axis, the store knows nothing for
            `value_mask`, or a batch does not fit the memory.

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
        allowed = memory_bytes(memory)
        if store.schema.label_axis == "own":
            raise WindowError(
                f"{store.path}: labels on the own axis have steps of their own, so it is unknown which of them belong "
                "to a slice of inputs; streams need labels on the step or sequence axis, padded gives these whole"
            )
        self._normalize = without_windows(normalize, store.path)
        self._asked = store, self._normalize  # a state may be of fewer sequences
        self._sequences = store.counts.sequences
        self._value_mask = ValueMask.of(store) if value_mask else None
        schema, scales = store.schema, scales_of(store, self._normalize)
        row = sum(row_bytes(schema.rows(name), scales[name]) for name in ("inputs", "labels"))
        row += 0 if self._value_mask is None else self._value_mask.row_bytes
        chunk = max(chunk_rows(schema, name) * schema.rows(name).nbytes for name in ("inputs", "labels"))
        chunk *= 2  # as it is stored, and decompressed
        self._batch_bytes = self._lanes * self._steps * (row + 2)
        self._spare = allowed - chunk
        if self._spare < self._batch_bytes + self._lanes * PIECE_BYTES:
            raise WindowError(
                f"{store.path}: memory={allowed:,} bytes is too little: a batch of {self._lanes:,} lanes of "
                f"{self._steps:,} steps takes {self._batch_bytes:,}, and {PIECE_BYTES:,} more a lane while it is read, "
                f"a chunk {chunk:,}; give memory={chunk + self._batch_bytes + self._lanes * PIECE_BYTES}"
            )
        self._begin(store, self._planned(store), 0)

    def _planned(self, store: Store) -> LanePlan:
        """Return where each sequence lies in the lanes of all ranks."""
        store.snapshot.check_files()  # memory is taken by the steps that are said to be there
        sequence = np.random.SeedSequence(self._random, spawn_key=(3,))
        return lanes_module.plan(
            store.lengths,
            lanes=self._lanes * self._ranks,
            steps=self._steps,
            align=self._align,
            random=np.random.default_rng(sequence) if self._shuffle else None,
        )

    def _begin(self, store: Store, plan: LanePlan, step: int) -> None:
        """Go on after `step` batches of an epoch."""
        self._exhausted_in = None
        self._store, self._plan = store, plan
        slices = self._lanes + len(plan.sequence) // max(1, plan.batches * self._ranks)  # in a batch, on average
        reader = _Reader(
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
        """Batches in the epoch, those already taken among them; the same for each rank."""
        return self._plan.batches

    def _take(self) -> Batch:
        return next(self._together)

    @property
    def padding(self) -> float:
        """The share of padding in all steps of the epoch's batches, of all ranks: 0.25 if every fourth is not real."""
        return self._plan.padding

    def state_dict(self) -> dict[str, Any]:
        """Return where the epoch stands, as a small dict of what JSON has. The state of the network is not in it."""
        return state_of("streams", self._store, self._sequences, self._parameters(self._normalize), self._together.step)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called, in any process: nothing of what was taken is read again.

        If the store was appended to since, these become the batches of the sequences that it had then, and by their
        statistics where `normalize` is of `stats()` of this store.

        Raises:
            StateError: The state is of other sequences or arguments.
        """
        store = store_at(state, "streams", self._asked[0])
        plan = self._planned(store)
        normalize = normalized_then(self._asked[1], state)
        step = step_at(state, self._parameters(normalize), plan.batches, store)
        self._normalize, self._sequences = normalize, state["store"]["sequences"]
        self._begin(store, plan, step)

    def _parameters(self, normalize: Scaler | Own | None) -> dict[str, Any]:
        """Return what the epoch's batches follow from, besides the sequences."""
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
class _Reader:
    """Reads a rank's batches by number. Not their iterator: that goes, with what was read ahead, when it is dropped."""

    store: Store
    plan: LanePlan
    rank: int
    lanes: int
    steps: int
    scales: Scales
    mask: bool
    value_mask: ValueMask | None
    fitting: int  # batches that take half of the memory

    def most(self, step: int) -> int:
        """Return how many batches take half of the memory, from that one on."""
        return min(self.fitting, self.plan.batches - step)

    def read(self, start: int, stop: int) -> list[Batch]:
        """Read batches `start` to `stop`."""
        slices = self.plan.slices(range(self.rank * self.lanes, (self.rank + 1) * self.lanes), range(start, stop))
        shape = (stop - start, self.lanes, self.steps)
        return read_slices(self.store, slices, shape, self.scales, mask=self.mask, value_mask=self.value_mask)
