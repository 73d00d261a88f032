"""Batches that continue where the previous one ended, for networks that carry their state from batch to batch."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from store_spec.errors import WindowError
from store_spec.format.layout import chunk_rows
from store_spec.reading.ahead import in_groups
from store_spec.reading.batch import Batch
from store_spec.reading.normalization import Normalize, Own, state_name
from store_spec.reading.one_epoch import EpochOptions, OneEpoch
from store_spec.reading.ranks import whole_number
from store_spec.reading.read_ranges import PIECE_BYTES
from store_spec.reading.scaling import Scaler
from store_spec.sequences import lanes as lanes_module
from store_spec.sequences.lanes import LanePlan
from store_spec.sequences.slices import Arrays, ReaderPlan, SliceReader, batches_of

if TYPE_CHECKING:
    from store_spec.store import Store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamOptions(EpochOptions):
    """The arguments of `Streams`, apart from the sequences and their normalisation."""

    lanes: int
    steps: int
    align: bool = False
    mask: bool = False
    value_mask: bool = False

    def __post_init__(self) -> None:
        self._set("lanes", whole_number("lanes", self.lanes, 1))
        self._set("steps", whole_number("steps", self.steps, 1))
        EpochOptions.__post_init__(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StreamPlan(ReaderPlan):
    """The batches of one rank in an epoch of streams. Make one with `make`.

    Args:
        options: The arguments of the batches.
        reader: Reads the rows.
        places: The places of sequences in the lanes of all ranks.
        fitting: How many batches fit into half of the memory.
    """

    options: StreamOptions
    reader: SliceReader
    places: LanePlan
    fitting: int

    @classmethod
    def make(cls, options: StreamOptions, store: Store, normalize: Normalize | None) -> Self:
        """Plan an epoch of these sequences.

        Raises:
            WindowError: An argument does not fit the store, or a batch does not fit into the memory.
        """
        schema, lanes, steps, limit = store.schema, options.lanes, options.steps, options.limit
        if schema.label_axis == "own":
            raise WindowError(
                f"{store.path}: labels on the own axis have steps of their own, so it is unknown which of them belong "
                "to a slice of inputs; streams need labels on the step or sequence axis, padded gives these whole"
            )
        reader = SliceReader(store, normalize, value_mask=options.value_mask)
        # A chunk is in memory stored and decompressed.
        chunk = 2 * max(chunk_rows(schema, name) * schema.rows(name).nbytes for name in ("inputs", "labels"))
        batch = lanes * steps * (reader.row_bytes("inputs") + reader.row_bytes("labels") + 2)
        least = chunk + batch + lanes * PIECE_BYTES
        if limit < least:
            raise WindowError(
                f"{store.path}: memory={limit:,} bytes is too little: a batch of {lanes:,} lanes of {steps:,} steps "
                f"takes {batch:,}, and {PIECE_BYTES:,} more a lane while it is read, a chunk {chunk:,}; give "
                f"memory={least}"
            )
        store.snapshot.check_files()  # memory is allocated by the number of steps that the root claims
        sequence = np.random.SeedSequence(options.random, spawn_key=(3,))
        places = lanes_module.plan(
            store.lengths,
            lanes=lanes * options.world_size,
            steps=steps,
            align=options.align,
            random=np.random.default_rng(sequence) if options.shuffle else None,
        )
        slices = lanes + len(places.sequence) // max(1, places.batches * options.world_size)  # in a batch, on average
        fitting = (limit - chunk) // 2 // (batch + slices * PIECE_BYTES)
        return cls(options=options, reader=reader, places=places, fitting=fitting)

    def __len__(self) -> int:
        return self.places.batches

    def __str__(self) -> str:
        options, padding = self.options, 100 * self.places.padding
        return f"{options.lanes:,} lanes of {options.steps:,} steps with {padding:.1f} % padding"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that determine the batches, apart from the sequences, in types of JSON."""
        options = self.options
        return {
            "lanes * world_size": options.lanes * options.world_size,
            "steps": options.steps,
            "align": bool(options.align),
            "shuffle": options.shuffle,
            "seed": options.seed,
            "epoch": options.epoch,
            "normalize": state_name(self.normalize),
            "value_mask": bool(options.value_mask),
        }

    def state(self, step: int) -> dict[str, Any]:  # noqa: ARG002
        """Return what a state has in addition: nothing."""
        return {}

    def resumed(self, step: int, state: Mapping[str, Any]) -> Self:  # noqa: ARG002
        """Return this plan: lanes do not depend on the number of ranks."""
        return self

    def batches(self, numbers: range) -> Generator[Batch, None, None]:
        """Yield the batches of these numbers; a thread reads ahead until the generator is closed."""
        return in_groups(self._read, lambda step: min(self.fitting, len(self) - step), numbers)

    def _read(self, start: int, stop: int) -> list[Batch]:
        """Read batches `start` to `stop`, each chunk once for all of them."""
        first, lanes = self.options.rank * self.options.lanes, self.options.lanes
        slices = self.places.slices(range(first, first + lanes), range(start, stop))
        inputs, value_masks = self.reader.inputs(slices)
        of_sequence = self.store.schema.label_axis == "sequence"
        labels = self.reader.labels_of_steps(slices) if of_sequence else self.reader.labels(slices)
        resets = slices.zeros((), np.bool_)
        for place, step in zip(slices.places(resets), slices.start.tolist(), strict=True):
            place[0] = step == 0
        columns: dict[str, Arrays] = {"inputs": inputs, "labels": labels, "reset": resets}
        if self.options.mask:
            columns["mask"] = slices.real()
        if value_masks is not None:
            columns["value_mask"] = value_masks
        return batches_of(columns)


class Streams(OneEpoch[Batch, StreamPlan]):
    """An iterator over batches that continue, lane by lane, where the previous one ended. Get one from `store.streams`.

    This is for truncated backpropagation through time: the state of the network is carried from batch to batch, but
    gradients are not, and a sequence may be far longer than a batch. Each step occurs once per epoch. From the first
    batch on, a thread reads ahead. Threads may share an iterator. After a fork, parent and child both continue with all
    remaining batches. A second loop over an exhausted iterator raises a WindowError: make a new one for each epoch. A
    `Batch` is a tuple of new arrays with names:

    * inputs (lanes, steps, *feature shape),
    * labels (lanes, steps, *target shape): those of the steps; on the `sequence` axis, for each step the label of its
      sequence,
    * reset, bool (lanes, steps), True where a sequence starts: reset the state of this lane before this step,
    * mask, with `mask=True`: bool (lanes, steps), True for real steps; the other arrays are zero at other steps,
    * value_mask, with `value_mask=True`: bool (lanes, steps, *feature shape), True for real values of inputs.

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

    _of, _kind = "store.streams", "streams"

    def __init__(self, options: StreamOptions, store: Store, normalize: Normalize | None) -> None:
        super().__init__(options, StreamPlan.make(options, store, normalize))

    def _make_plan(self, store: Store, normalize: Scaler | Own | None) -> StreamPlan:
        return StreamPlan.make(self._base.options, store, normalize)

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all batches of all ranks, such as 0.25."""
        return self._plan.places.padding
