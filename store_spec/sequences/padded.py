"""Batches of whole sequences, padded to the longest of the batch."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import spread
from store_spec.reading.named_batch import Batch
from store_spec.reading.read_ranges import PIECE_BYTES
from store_spec.sequences.padded_order import BatchPlan, PaddedOptions, Side
from store_spec.sequences.slices import SliceBatches, SlicePlan, SliceReader, Slices, batches_of


class PaddedPlan(SlicePlan):
    """The batches of one rank in an epoch of whole sequences."""

    options: PaddedOptions

    def __init__(self, options: PaddedOptions, rows: SliceReader, weights: NDArray[np.float64] | None) -> None:
        super().__init__(options, rows, weights)
        store = rows.store
        store.snapshot.check_files()  # memory is allocated by the number of steps that the root claims
        lengths = rows.lengths if options.truncate is None else np.minimum(rows.lengths, options.truncate)
        self.lengths, most = lengths, options.max_steps  # (sequences,), how many steps of each sequence are used
        if most is not None and lengths.max(initial=0) > most:
            number = int(np.argmax(lengths > most))
            raise WindowError(
                f"{store.path}: sequence {number:,} ({store.sources[number]}) has {lengths[number]:,} steps, and a "
                f"whole batch max_steps={most:,}; give truncate={most} or max_steps={lengths.max()}"
            )
        self.label_lengths = lengths if rows.targets.axis == "step" else store.label_lengths  # likewise, of labels
        self.set_order(options.plan(lengths, weights=weights))
        self.room = self._room_for_batches()

    def set_order(self, order: BatchPlan) -> None:
        """Set which sequences are in which batch, and what follows from that."""
        size = np.diff(order.first)
        nbytes = self._bytes_of(size, size * order.longest(self.lengths), size * order.longest(self.label_lengths))
        nbytes += 2 * PIECE_BYTES * size
        self.order, self.padding = order, order.padding(self.lengths)
        self.bytes_of_each = nbytes[self.options.rank :: self.options.world_size]

    def _bytes_of(self, sequences: Any, steps: Any, labels: Any) -> Any:
        """Return the bytes of batches with so many sequences, steps and label rows, with padding."""
        rows = steps * (self.rows.row_bytes("inputs") + 1) + labels * (self.rows.row_bytes("labels") + 1)
        return rows + sequences * self.rows.static_bytes

    def _room_for_batches(self) -> int:
        """Return the bytes for batches that are read together; refuse less memory than any epoch needs for a batch."""
        used = slice(None) if self.weights is None else self.weights > 0  # others are never drawn
        lengths, label_lengths = self.lengths[used], self.label_lengths[used]
        size, longest = int(np.diff(self.order.first).max(initial=0)), int(lengths.max(initial=0))
        steps = labels = min(size * longest, self.options.max_steps or size * longest)
        if self.label_lengths is not self.lengths:  # fewer sequences are in a batch with a longer one
            order = np.argsort(lengths, kind="stable")
            sizes = np.minimum(self.options.batch_sizes(lengths[order]), size)
            labels = int((sizes * np.maximum.accumulate(label_lengths[order])).max(initial=0))
        what = f"a batch of {size:,} sequences of up to {longest:,} steps"
        return self.rows.room(self._bytes_of(size, steps, labels), 2 * size, what)

    def __len__(self) -> int:
        return (len(self.order.first) - 1) // self.options.world_size

    def __str__(self) -> str:
        size = self.options.batch_size
        limit = f"{self.options.max_steps:,} padded steps" if size is None else f"{size:,} sequences"
        return f"up to {limit} with {100 * self.padding:.1f} % padding"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that determine the batches, apart from the sequences, in types of JSON."""
        ranks = self.options.max_steps and self.options.world_size  # with `max_steps`, rounds depend on it
        return super().parameters() | {"world_size": ranks}

    def state(self, step: int) -> dict[str, Any]:
        """Return how many sequences all ranks have taken."""
        return {"taken": int(self.order.first[step * self.options.world_size])}

    def end(self) -> dict[str, Any]:
        """Return how many sequences are in whole rounds; buckets and `max_steps` do not depend on the ranks."""
        if self.options.bucket or self.options.max_steps is not None:
            return {}
        return {"last": int(self.order.first[self._whole_rounds() * self.options.world_size])}

    def resumed(self, step: int, state: Mapping[str, Any]) -> Self:
        """Return the plan of the rest of an epoch; another number of ranks distributed its end differently."""
        plan = self.after(self._whole_rounds(), state["last"]) if self.end().keys() & state.keys() else self
        return plan.after(step, state.get("taken"))

    def _whole_rounds(self) -> int:
        return len(self.order.order) // ((self.options.batch_size or 1) * self.options.world_size)

    def after(self, rounds: int, taken: object) -> Self:
        """Return the plan in which so many rounds hold `taken` sequences."""
        if self.state(rounds)["taken"] == taken:
            return self
        plan = copy(self)
        plan.set_order(self.options.plan(self.lengths, (rounds, taken), self.weights))
        return plan

    def _read(self, numbers: range) -> list[Batch]:
        """Read these batches, each chunk once for all of them."""
        ranks, first, axis = self.options.world_size, self.order.first, self.rows.targets.axis
        which = [number * ranks + self.options.rank for number in numbers]
        batches = [self.order.order[first[batch] : first[batch + 1]] for batch in which]
        options, slices = self.options, self._slices(batches, self.lengths, self.options.side)
        columns = self.rows.read(slices, "inputs", "filled", *(("labels",) if axis == "step" else ()))
        columns["mask"] = slices.real()
        if axis == "own":
            label_slices = self._slices(batches, self.store.label_lengths, "end")
            columns |= self.rows.read(label_slices, "labels") | {"label_mask": label_slices.real()}
        elif axis == "sequence":
            labels = self.rows.labels_of_sequences(slices.sequence)
            ends = np.cumsum([len(numbers) for numbers in batches])[:-1]
            columns["labels"] = [rows.copy() for rows in np.split(labels, ends)]
        if options.lengths:
            for name in {"mask", "label_mask"} & columns.keys():
                columns[name.replace("mask", "lengths")] = [real.sum(axis=1) for real in columns[name]]
        if self.rows.static is not None:
            columns["static"] = [self.rows.static[numbers] for numbers in batches]
        if options.index:
            columns["index"] = [numbers.copy() for numbers in batches]  # a view would keep the whole order in memory
        return batches_of(columns, options.transform)

    def _slices(self, batches: list[NDArray[np.int64]], lengths: NDArray[np.int64], side: Side) -> Slices:
        """Return the places of sequences of these lengths in batches: a lane for each of them."""
        every, sizes = np.concatenate(batches), np.array([len(numbers) for numbers in batches])
        count, longest = lengths[every], np.array([lengths[numbers].max() for numbers in batches])
        start = column = np.zeros_like(count)
        if lengths is self.lengths:  # labels on the own axis are always whole
            start = self.rows.first[every]
            if self.options.truncate_side == "start":
                start = start + self.rows.lengths[every] - count
        if side == "start":
            column = np.repeat(longest, sizes) - count
        return Slices(
            shapes=list(zip(sizes.tolist(), longest.tolist(), strict=True)),
            batch=np.repeat(np.arange(len(sizes)), sizes),
            lane=spread(np.zeros_like(sizes), sizes),
            column=column,
            sequence=every,
            start=start,
            count=count,
        )


class PaddedBatches(SliceBatches[PaddedPlan]):
    """An iterator over batches of whole sequences, each sequence once per epoch. Get one from `store.padded`.

    From the first batch on, a thread reads ahead. `OneEpoch` explains threads that share an iterator, forks, errors and
    a second loop.

    A `Batch` is a tuple of new arrays with names:

    * inputs (size, longest, *feature shape), padded with zeros,
    * labels: on the `step` axis (size, longest, *target shape), padded in the same way; on the `sequence` axis
      (size, *target shape); on the `own` axis (size, longest label sequence, *target shape), always padded at the end,
      as losses for label sequences need it,
    * mask, bool (size, longest), True for real steps,
    * label_mask, only on the `own` axis: the same for labels, (size, longest label sequence),
    * value_mask, with `value_mask=True`: bool (size, longest, *feature shape), True for real values of inputs,
    * lengths, with `lengths=True`: int64 (size,), the number of real steps of each sequence, as `mask.sum(axis=1)`; on
      the `own` axis also label_lengths, the length of its label sequence, (size,),
    * static, with `static=`: columns of the sequences, (size, columns),
    * index, with `index=True`: int64 (size,), the numbers of the sequences in `store`, for `store.sources[number]`.

    Sequences without steps are included, with a mask that is False.

    With `bucket=True`, sequences are sorted by length, longest first, so memory runs out at once or not at all. With
    `shuffle=True` as well, sequences are shuffled within buckets of several batches of similar lengths, and then the
    batches are shuffled, so different sequences meet in each epoch. `padding` shows how much that saves.

    The order depends only on the lengths and the arguments. The batches that several ranks take at the same time have
    similar lengths. Together these batches have the same sequences for any number of ranks with the same
    `batch_size * world_size`. A state can be resumed with another number of ranks if this product is the same and at
    least one sequence is left for each; with `max_steps`, only with the same number of ranks.

    Args:
        store: The sequences.
        batch_size: The largest number of sequences in a batch. Only the last batch has fewer (with several ranks the
            last two); with `bucket=True`, if less than half of a batch is left, two batches have fewer, in any place.
        max_steps: The largest product of the longest length and the number of sequences in a batch. With `batch_size`,
            both limits apply. Label sequences of the `own` axis are not counted.
        bucket: Make batches of similar lengths.
        shuffle: Shuffle sequences. The order is a pure function of seed, epoch, the lengths and all arguments except
            `rank`, `memory` and `side`. The order of steps never changes.
        side: Where padding is added: at the `end`, or at the `start`, so that all sequences end together.
        truncate: The largest number of steps to use of a sequence, and of its labels on the `step` axis; None for all.
            Truncated sequences are checked by the checksums of their chunks only, not by that of the sequence.
        truncate_side: Where sequences are truncated: at the `end`, which keeps the first steps, or at the `start`.
        rank: It gets the batches `rank`, `rank + world_size`, ... of the epoch.
        world_size: The sequences after the last whole batch of every rank are distributed evenly, as smaller batches.
        drop_last: Leave those sequences out, so that every batch has `batch_size` sequences; not with `max_steps`.
        lengths: Add the lengths, as losses such as `torch.nn.CTCLoss` need them.
        steps: Use only this part of each sequence, as for `windows`.

    `normalize`, `features`, `targets`, `static`, `before`, `after`, `dtype` and `value_mask` are those of
    `store_spec.reading.row_options.RowOptions`; all others are those of `store_spec.reading.one_epoch.EpochOptions`.
    Padding stays zero. Labels on the `own` axis are not affected by `steps`, `before` and `after`.

    Raises:
        WindowError: An argument is not as above, a sequence is longer than `max_steps`, there is no such column, the
            store has no information for `value_mask`, sequences cannot be distributed over so many ranks, or a batch
            does not fit into the memory.

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

    _of, _kind, _plan_class = "store.padded", "padded", PaddedPlan
    varying_axes = 2

    @property
    def same_length_in_all_epochs(self) -> bool:
        """Whether all epochs with these arguments have the same number of batches."""
        return not self._options.shuffle or self._plan.options.max_steps is None
