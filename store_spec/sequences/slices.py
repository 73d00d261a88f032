"""Read slices of sequences into the arrays of batches, for all batches that have whole sequences or parts of them.

inputs of a batch   | a a a . |       a batch of 2 lanes and 4 steps; slices of sequences a, b and c,
                    | b c c c |       at the columns 0, 0 and 1; a dot is padding
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.layout import chunk_rows
from store_spec.format.runs import Ints
from store_spec.reading.ahead import in_groups
from store_spec.reading.argument_checks import checked_fractions, weights_of_sequences
from store_spec.reading.columns import Column
from store_spec.reading.named_batch import Batch
from store_spec.reading.normalization import Normalization, check_no_later_steps
from store_spec.reading.one_epoch import EpochOptions, EpochPlan, OneEpoch, Transform
from store_spec.reading.periods import usable_steps
from store_spec.reading.read_ranges import PIECE_BYTES, read_by_chunk
from store_spec.reading.row_options import RowOptions, RowSelection
from store_spec.reading.scaling import SequenceScales, by_feature, normalized_dtype

if TYPE_CHECKING:
    from store_spec.store import Store

MOST_IN_FLIGHT = 2**24

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
        masks = self.zeros((), np.bool_)
        for place in self.places(masks):
            place[:] = True
        return masks


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
        # Bytes for requests of a remote store that are made at once.
        self.in_flight = min(MOST_IN_FLIGHT, memory // 8) if store.snapshot.storage.requests > 1 else 0
        self.first, stop = usable_steps(store, options.steps, **self.moments)
        self.lengths = stop - self.first  # (sequences,), the steps of each that may be used, from `first` on
        check_no_later_steps(store, self.normalize, stop, allow=options.allow_later)

    def of(self, store: Store, normalize: Normalization | None) -> SliceReader:
        """Return a reader of other sequences, with another normalisation."""
        return SliceReader(store, replace(self.options, normalize=normalize), self._memory)

    def __repr__(self) -> str:
        return repr(self.store)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of these rows, for a state, in types of JSON."""
        steps = self.options.steps
        return super().parameters() | {"steps": None if steps is None else list(checked_fractions(steps))}

    def row_bytes(self, name: str) -> int:
        """Return the bytes of a row of `inputs` or `labels`, and of all that is read for it."""
        column = self.columns[name]
        read = 0 if name == "labels" and self.targets.array == "inputs" else column.rows.nbytes
        nbytes = read + (0 if read and column.plain else column.nbytes)
        if name == "inputs" and self.masks:
            masks = [self.columns[mask] for mask in self.masks]
            nbytes += masks[0].nbytes * (1 + sum(mask.array != "inputs" for mask in masks))
        return nbytes

    def check_labels_of_steps(self, name: str) -> None:
        """Check that each step of a slice has a label, so labels are not on the `own` axis."""
        if self.targets.axis == "own":
            raise WindowError(
                f"{self.store.path}: labels on the own axis have steps of their own, so it is unknown which of them "
                f'belong to a slice of inputs; {name} need labels on the step or sequence axis, or targets="inputs"; '
                "padded gives these whole"
            )

    def batches_that_fit(self, *, steps: int, extra: int, slices: tuple[int, int], what: str) -> int:
        """Return how many batches fit into half of the memory, apart from a chunk; 0 if only a single one does.

        Args:
            steps: Steps in a batch, including padding.
            extra: Further bytes for each step.
            slices: How many slices a batch has at least, and how many on average.
            what: A batch, for errors.
        """
        schema, arrays = self.store.schema, ("inputs", self.targets.array)
        # Stored and decompressed.
        chunk = 2 * max(chunk_rows(schema, name) * schema.rows(name).nbytes for name in arrays)
        batch = steps * (self.row_bytes("inputs") + self.row_bytes("labels") + self.static_bytes + extra)
        least = chunk + batch + slices[0] * PIECE_BYTES
        if self._memory < least:
            raise WindowError(
                f"{self.store.path}: memory={self._memory:,} bytes is too little: {what} takes {batch:,}, and "
                f"{PIECE_BYTES:,} more a slice while it is read, a chunk {chunk:,}; give memory={least}"
            )
        return (self._memory - chunk - self.in_flight) // 2 // max(1, batch + slices[1] * PIECE_BYTES)

    def inputs(self, slices: Slices) -> dict[str, Arrays]:
        """Return inputs, targets if they come from the inputs, and the mask of values if there is one."""
        stored = self._rows("inputs", slices)
        arrays = {"value_mask": self._value_mask(slices, stored)} if self.masks else {}
        if self.targets.array == "inputs":
            column = self.columns["labels"]
            copies = [rows.copy() for rows in stored] if column.plain else stored
            arrays["labels"] = self._converted(slices, copies, column)
        arrays["inputs"] = self._converted(slices, stored, self.columns["inputs"])
        return arrays

    def labels(self, slices: Slices) -> Arrays:
        """Return targets that come from the labels."""
        return self._converted(slices, self._rows("labels", slices), self.columns["labels"])

    def step_columns(self, slices: Slices) -> dict[str, Arrays]:
        """Return all arrays with a value for each step; labels and static columns of a sequence are repeated."""
        columns = self.inputs(slices)
        if self.targets.array == "labels":
            of_sequence = self.targets.axis == "sequence"
            columns["labels"] = self.labels_of_steps(slices) if of_sequence else self.labels(slices)
        if self.static is not None:
            columns["static"] = slices.of_steps(self.static[slices.sequence])
        return columns

    def labels_of_steps(self, slices: Slices) -> Arrays:
        """Return the label of its whole sequence for each step."""
        none, lanes = np.zeros_like(slices.lane), np.arange(len(slices.lane))
        once = Slices(
            shapes=[(len(lanes), 1)], batch=none, lane=lanes, column=none, sequence=slices.sequence, start=none,
            count=none + 1,
        )  # fmt: skip
        (labels,) = self.labels(once)
        return slices.of_steps(labels[:, 0])

    def _rows(self, name: str, slices: Slices) -> Arrays:
        """Return stored rows of `inputs`, `labels` or `filled`."""
        store, rows = self.store, self.store.schema.rows(name)
        starts, lengths = store.places(name)
        first = starts[slices.sequence] + slices.start
        pieces = read_by_chunk(store.snapshot, name, first, first + slices.count, self.in_flight)
        arrays = slices.zeros(rows.shape, rows.dtype)
        places = slices.places(arrays)
        for number, at, piece in pieces:
            places[number][at : at + len(piece)] = piece
        for number in np.flatnonzero(slices.count == lengths[slices.sequence]).tolist():
            store.snapshot.check(name, int(store.selection[slices.sequence[number]]), places[number])
        return arrays

    def _value_mask(self, slices: Slices, inputs: Arrays) -> Arrays:
        """Return which values of stored inputs are real: normalisation may produce NaN from others too."""
        masks: Arrays = []
        for column in map(self.columns.__getitem__, self.masks):
            stored = inputs if column.array == "inputs" else self._rows(column.array, slices)
            each = [column(rows) for rows in stored]
            masks = [mask & other for mask, other in zip(masks, each, strict=True)] if masks else each
        for mask, real in zip(masks, slices.real(), strict=True):
            mask[~real] = False
        return masks

    def _converted(self, slices: Slices, stored: Arrays, column: Column) -> Arrays:
        """Convert the slices in arrays of stored rows; all other values stay zero."""
        if isinstance(column.scale, SequenceScales):
            dtype = normalized_dtype(column.rows.dtype)
            results = slices.zeros(column.rows.shape, dtype)
            each = column.scale.of(self.store.selection[slices.sequence]).astype(dtype)
            places = zip(slices.places(stored), slices.places(results), each.center, each.scale, strict=True)
            for rows, place, center, divisor in places:
                by_feature(np.subtract, rows, center, place)
                by_feature(np.divide, place, divisor, place)
            return [replace(column, scale=None)(array) for array in results]
        results = [column(array) for array in stored]
        if column.scale is not None:
            for rows, real in zip(results, slices.real(), strict=True):
                rows[~real] = 0
        return results


def batches_of(columns: dict[str, Arrays], transform: Transform | None) -> list[Any]:
    """Return batches, transformed if there is a transform, from the arrays of all batches by name."""
    each = zip(*columns.values(), strict=True)
    batches = [Batch.of(dict(zip(columns, arrays, strict=True))) for arrays in each]
    return batches if transform is None else [transform(batch) for batch in batches]  # `map` would hide StopIteration


class SlicePlan(EpochPlan):
    """What the plans of batches of whole sequences and of slices have in common."""

    rows: SliceReader
    padding: float  # the share of padding in the steps of all batches of all ranks
    fitting: int  # how many batches fit into half of the memory

    def batches(self, numbers: range) -> Generator[Any, None, None]:
        """Yield the batches of these numbers; a thread reads ahead until the generator is closed."""
        return in_groups(self._read, self._most, numbers)

    def _most(self, numbers: range) -> int:
        """Return how many of the first of these batches fit into half of the memory."""
        return min(self.fitting, len(numbers))

    @abstractmethod
    def _read(self, numbers: range) -> list[Any]:
        """Read these batches, each chunk once for all of them."""


Plan = TypeVar("Plan", bound=SlicePlan)


class SliceBatches(OneEpoch[Batch, Plan]):
    """Batches of whole sequences or of slices."""

    _plan_class: ClassVar[Any]

    def __init__(self, options: EpochOptions, store: Store, rows: SliceOptions) -> None:
        weights = weights_of_sequences(options.weights, store)
        super().__init__(options, self._plan_class(options, SliceReader(store, rows, options.limit), weights))

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all batches of all ranks, such as 0.25."""
        return self._plan.padding
