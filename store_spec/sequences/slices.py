"""Read slices of sequences into the arrays of batches, for all batches that have whole sequences or parts of them.

inputs of a batch   | a a a . |       a batch of 2 lanes and 4 steps; slices of sequences a, b and c,
                    | b c c c |       at the columns 0, 0 and 1; a dot is padding
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.codec import crc32c, flat_bytes
from store_spec.format.runs import Ints
from store_spec.reading.ahead import in_groups
from store_spec.reading.argument_checks import checked_fractions, checked_weights
from store_spec.reading.named_batch import Batch
from store_spec.reading.normalization import check_no_later_steps
from store_spec.reading.one_epoch import EpochOptions, EpochPlan, OneEpoch, Transform
from store_spec.reading.periods import usable_steps
from store_spec.reading.read_ranges import PIECE_BYTES, read_by_chunk
from store_spec.reading.row_options import RowOptions, RowSelection

if TYPE_CHECKING:
    from store_spec.store import Store

IN_FLIGHT = 4  # a quarter of the memory is for requests of a remote store that are made at once
MOST_TOGETHER = 2**12  # batches that are read in one group

Arrays = list[NDArray[Any]]  # one of each batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slices:
    """Slices of sequences, and their places in some batches."""

    shapes: list[tuple[int, int]]  # the lanes and steps of each batch
    batch: Ints  # (slices,), counted from the first of these batches
    lane: Ints  # (slices,), counted from the first of the batch
    column: Ints  # (slices,), the first step of the slice in the batch
    sequence: Ints  # (slices,), the sequence of the slice
    start: Ints  # (slices,), the first step of the slice in its sequence
    count: Ints  # (slices,), its steps

    def zeros(self, row: tuple[int, ...], dtype: DTypeLike) -> Arrays:
        """Return an array of zeros for each batch; separate ones, so that keeping one does not keep all in memory."""
        return [np.zeros((*shape, *row), dtype) for shape in self.shapes]

    def places(self, arrays: Arrays) -> Arrays:
        """Return the view of each slice in the arrays of the batches."""
        where = (self.batch, self.lane, self.column, self.column + self.count)
        return [
            arrays[batch][lane, start:stop]
            for batch, lane, start, stop in zip(*(each.tolist() for each in where), strict=True)
        ]

    def of_steps(self, values: NDArray[Any]) -> Arrays:
        """Return batches in which each step has the value (slices, ...) of its slice."""
        arrays = self.zeros(values.shape[1:], values.dtype)
        for place, value in zip(self.places(arrays), values, strict=True):
            place[:] = value
        return arrays

    def real(self) -> list[NDArray[np.bool_]]:
        """Return which steps of the batches are real; the others are padding."""
        return self.of_steps(np.ones(len(self.count), np.bool_))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceOptions(RowOptions):
    """The arguments about rows of all readers of sequences."""

    # `(low, high)`, with 0 <= low < high <= 1: use only a part of each sequence, as `WindowShape` does.
    steps: tuple[float, float] | None = None


class SliceReader(RowSelection[SliceOptions]):
    """Reads slices, each chunk once for all of them. Whole sequences are compared with their checksums."""

    def __init__(self, store: Store, options: SliceOptions, memory: int) -> None:
        super().__init__(store, options)
        if self.normalize == "window":
            raise WindowError(
                f'{store.path}: normalize="window", but these are not windows; use "sequence", or statistics'
            )
        self._memory = memory
        self.in_flight = memory // IN_FLIGHT if store.snapshot.storage.requests > 1 else 0
        self.first, stop = usable_steps(store, options.steps, **self.moments)
        self.lengths = stop - self.first  # (sequences,), the steps of each that may be used, from `first` on
        check_no_later_steps(store, self.normalize, stop, allow=options.allow_later)

    def __repr__(self) -> str:
        return repr(self.store)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of these rows, for a state, in types of JSON."""
        steps = self.options.steps
        return super().parameters() | {"steps": None if steps is None else list(checked_fractions(steps))}

    def row_bytes(self, name: str) -> int:
        """Return the bytes of a row of `inputs` or `labels`; those of `inputs` include the masks of their values."""
        masks = self.masks if name == "inputs" else ()
        return self.columns[name].nbytes + sum(self.columns[mask].nbytes for mask in masks)

    def check_labels_of_steps(self, name: str) -> None:
        """Check that each step of a slice has a label, so labels are not on the `own` axis."""
        if self.targets.axis == "own":
            raise WindowError(
                f"{self.store.path}: labels on the own axis have steps of their own, so it is unknown which of them "
                f'belong to a slice of inputs; {name} need labels on the step or sequence axis, or targets="inputs"; '
                "padded gives these whole"
            )

    @property
    def step_bytes(self) -> int:
        """The bytes of a step of a batch in which each step has a label and static columns."""
        return self.row_bytes("inputs") + self.row_bytes("labels") + self.static_bytes

    def room(self, batch: int, slices: int, what: str) -> int:
        """Return the bytes for batches, half of the memory apart from a chunk; refuse less than a batch needs.

        Args:
            batch: The bytes of a batch.
            slices: How many slices it has at least.
            what: A batch, for errors.
        """
        schema, columns, chunk = self.store.schema, self.columns.values(), 0
        for array in {column.array for column in columns}:
            converted = sum(column.nbytes for column in columns if column.array == array and not column.plain)
            # Stored, decompressed, and converted with a center and a scale for each row.
            chunk = max(chunk, schema.chunking(array).chunk * (2 * schema.rows(array).nbytes + 3 * converted))
        least = chunk + batch + slices * PIECE_BYTES
        if self._memory < least:
            raise WindowError(
                f"{self.store.path}: memory={self._memory:,} bytes is too little: {what} takes {batch:,}, and "
                f"{PIECE_BYTES:,} more a slice while it is read, a chunk {chunk:,}; give memory={least}"
            )
        return (self._memory - chunk - self.in_flight) // 2

    def read(self, slices: Slices, *arrays: str) -> dict[str, Arrays]:
        """Return the columns of these stored arrays, and the mask of values if there is one; padding is zero."""
        columns: dict[str, Arrays] = {}
        for array in arrays:
            names = [name for name, column in self.columns.items() if column.array == array]
            columns |= self._read(slices, array, names) if names else {}
        self.store.snapshot.check_not_replaced()
        for name in columns.keys() & self.masks:
            mask = columns.pop(name)
            for real, other in zip(columns.setdefault("value_mask", mask), mask, strict=True):
                np.logical_and(real, other, out=real)
        return columns

    def step_columns(self, slices: Slices) -> dict[str, Arrays]:
        """Return all arrays with a value for each step; labels and static columns of a sequence are repeated."""
        of_sequence = self.targets.axis == "sequence"
        columns = self.read(slices, "inputs", "filled", *(() if of_sequence else ("labels",)))
        if of_sequence:
            columns["labels"] = slices.of_steps(self.labels_of_sequences(slices.sequence))
        if self.static is not None:
            columns["static"] = slices.of_steps(self.static[slices.sequence])
        return columns

    def _read(self, slices: Slices, array: str, names: list[str]) -> dict[str, Arrays]:
        """Read the rows of slices once, and return the columns `names` of them."""
        store, columns = self.store, [self.columns[name] for name in names]
        starts, lengths = store.places(array)
        first = starts[slices.sequence] + slices.start
        is_whole = slices.count == lengths[slices.sequence]
        chunks = read_by_chunk(store.snapshot, array, first, first + slices.count, in_flight=self.in_flight)
        results, crcs = [slices.zeros(column.shape, column.dtype) for column in columns], [0] * len(first)
        batch, lane, step, whole = (each.tolist() for each in (slices.batch, slices.lane, slices.column, is_whole))
        for start, rows, pieces in chunks:
            data, size = flat_bytes(rows).data, rows.dtype.itemsize * rows[:1].size
            converted = list(zip(results, [column(rows, start) for column in columns], strict=True))
            for number, at, low, high in pieces:
                some, to_step = slice(low - start, high - start), step[number] + at
                if whole[number]:
                    crcs[number] = crc32c(data[some.start * size : some.stop * size], crcs[number])
                for arrays, values in converted:
                    arrays[batch[number]][lane[number], to_step : to_step + high - low] = values[some]
        numbers = store.selection[slices.sequence[is_whole]]
        store.snapshot.check_crcs(array, numbers, np.array(crcs, np.uint32)[is_whole])
        return dict(zip(names, results, strict=True))


def batches_of(columns: dict[str, Arrays], transform: Transform | None) -> list[Any]:
    """Return batches, transformed if there is a transform, from the arrays of all batches by name."""
    each = zip(*columns.values(), strict=True)
    batches = [Batch.of(dict(zip(columns, arrays, strict=True))) for arrays in each]
    return batches if transform is None else [transform(batch) for batch in batches]  # `map` would hide StopIteration


def drawn(random: np.random.Generator, count: int, weights: NDArray[np.float64] | None) -> Ints:
    """Return the numbers 0 to `count` in random order, or as many drawn with replacement by their weights."""
    if weights is None or not count:
        return random.permutation(count)
    return random.choice(count, count, p=weights / weights.sum())


class SlicePlan(EpochPlan):
    """What the plans of batches of whole sequences and of slices have in common."""

    rows: SliceReader
    padding: float  # the share of padding in the steps of all batches of all ranks
    room: int  # the bytes for batches that are read together
    bytes_of_each: Ints  # (batches,), what each batch of this rank takes while it is read

    def batches(self, numbers: range) -> Generator[Any, None, None]:
        """Yield the batches of these numbers; a thread reads ahead until the generator is closed."""
        return in_groups(self._read, self._most, numbers)

    def _most(self, numbers: range) -> int:
        """Return how many of the first of these batches fit into the room; 0 if only a single one does."""
        total = np.cumsum(self.bytes_of_each[numbers.start : numbers.stop : numbers.step][:MOST_TOGETHER])
        return int(np.searchsorted(total, self.room, side="right"))

    @abstractmethod
    def _read(self, numbers: range) -> list[Any]:
        """Read these batches, each chunk once for all of them."""


Plan = TypeVar("Plan", bound=SlicePlan)


class SliceBatches(OneEpoch[Plan]):
    """Batches of whole sequences or of slices."""

    _plan_class: ClassVar[Any]

    def __init__(self, options: EpochOptions, store: Store, rows: SliceOptions) -> None:
        reader = SliceReader(store, rows, options.limit)
        if store.lengths.any() and not reader.lengths.any():
            steps = int(store.lengths.sum())
            warnings.warn(f"{store.path}: there are no steps in this period, of {steps:,} in all", stacklevel=3)
        # Sequences without steps are in padded batches only.
        samples = ((reader.lengths > 0) | (self._kind == "padded")).astype(np.int64)
        weights = checked_weights(options.weights, samples, store.path)
        super().__init__(options, self._plan_class(options, reader, weights))

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all batches of all ranks, such as 0.25."""
        return self._plan.padding
