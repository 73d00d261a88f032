"""Read slices of sequences into the arrays of batches, for all batches that have whole sequences or parts of them.

inputs of a batch   | a a a . |       a batch of 2 lanes and 4 steps; slices of sequences a, b and c,
                    | b c c c |       at the columns 0, 0 and 1; a dot is padding
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store_spec.reading.batch import Batch
from store_spec.reading.columns import Column
from store_spec.reading.normalization import Normalize, Own, Scales, row_bytes, scales_of, without_windows
from store_spec.reading.read_ranges import read_by_chunk
from store_spec.reading.scaling import Scale, Scaler, by_feature, normalized_dtype
from store_spec.windows.targets import masks_of

if TYPE_CHECKING:
    from store_spec.store import Store

Ints = NDArray[np.int64]
Arrays = list[NDArray[Any]]  # one of each batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slices:
    """Slices of sequences, and their places in some batches.

    Args:
        shapes: The lanes and steps of each batch.
        batch: (slices,), counted from the first of these batches.
        lane: (slices,), counted from the first of the batch.
        column: (slices,), the first step of the slice in the batch.
        sequence: (slices,), the sequence of the slice.
        start: (slices,), the first step of the slice in its sequence.
        count: (slices,), the number of steps.
    """

    shapes: list[tuple[int, int]]
    batch: Ints
    lane: Ints
    column: Ints
    sequence: Ints
    start: Ints
    count: Ints

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

    def real(self) -> list[NDArray[np.bool_]]:
        """Return which steps of the batches are real; the others are padding."""
        masks = self.zeros((), np.bool_)
        for place in self.places(masks):
            place[:] = True
        return masks


class SliceReader:
    """Reads slices, each chunk once for all of them. Whole sequences are compared with their checksums.

    Args:
        store: The sequences.
        normalize: How inputs and labels are normalised.
        value_mask: Whether there are masks of the real values of inputs.

    Raises:
        WindowError: The store has no information for a mask, or `normalize` is not for its features.
    """

    def __init__(self, store: Store, normalize: Normalize | None, *, value_mask: bool) -> None:
        self.store = store
        self.normalize: Scaler | Own | None = without_windows(normalize, store.path)
        self._scales: Scales = scales_of(store, self.normalize)
        self._masks: list[Column] = []
        if value_mask:
            self._masks = list(masks_of(store, None).values())

    def row_bytes(self, name: str) -> int:
        """Return the bytes of a row of `inputs` or `labels`, and of all that is read for it."""
        nbytes = row_bytes(self.store.schema.rows(name), self._scales[name])
        if name == "inputs" and self._masks:
            nbytes += self._masks[0].nbytes * (1 + sum(column.array != "inputs" for column in self._masks))
        return nbytes

    def inputs(self, slices: Slices) -> tuple[Arrays, Arrays | None]:
        """Return inputs, and the mask of values if there is one."""
        stored = self._rows("inputs", slices)
        masks = self._value_mask(slices, stored) if self._masks else None
        return self._normalized("inputs", slices, stored), masks

    def labels(self, slices: Slices) -> Arrays:
        """Return labels."""
        return self._normalized("labels", slices, self._rows("labels", slices))

    def labels_of_steps(self, slices: Slices) -> Arrays:
        """Return the label of its whole sequence for each step."""
        none, lanes = np.zeros_like(slices.lane), np.arange(len(slices.lane))
        once = Slices(
            shapes=[(len(lanes), 1)], batch=none, lane=lanes, column=none, sequence=slices.sequence, start=none,
            count=none + 1,
        )  # fmt: skip
        (labels,) = self.labels(once)
        arrays = slices.zeros(labels.shape[2:], labels.dtype)
        for place, label in zip(slices.places(arrays), labels, strict=True):
            place[:] = label
        return arrays

    def _rows(self, name: str, slices: Slices) -> Arrays:
        """Return stored rows of `inputs`, `labels` or `filled`."""
        store, rows = self.store, self.store.schema.rows(name)
        starts, lengths = store.places(name)
        first = starts[slices.sequence] + slices.start
        pieces = read_by_chunk(store.snapshot, name, first, first + slices.count)
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
        for column in self._masks:
            stored = inputs if column.array == "inputs" else self._rows(column.array, slices)
            each = [column(rows) for rows in stored]
            masks = [mask & other for mask, other in zip(masks, each, strict=True)] if masks else each
        for mask, real in zip(masks, slices.real(), strict=True):
            mask[~real] = False
        return masks

    def _normalized(self, name: str, slices: Slices, arrays: Arrays) -> Arrays:
        """Normalise the slices in the arrays, which may be overwritten; all other values stay zero."""
        scale, dtype = self._scales[name], normalized_dtype(self.store.schema.rows(name).dtype)
        if scale is None:
            return arrays
        if isinstance(scale, Scale):  # the same for all slices
            results = [scale.apply(array, name, inplace=True) for array in arrays]
            for rows, real in zip(results, slices.real(), strict=True):
                rows[~real] = 0
            return results
        results = [array if array.dtype == dtype else np.zeros(array.shape, dtype) for array in arrays]
        each = scale.of(self.store.selection[slices.sequence]).astype(dtype)
        places = zip(slices.places(arrays), slices.places(results), each.center, each.scale, strict=True)
        for rows, place, center, divisor in places:
            by_feature(np.subtract, rows, center, place)
            by_feature(np.divide, place, divisor, place)
        return results


def batches_of(columns: dict[str, Arrays]) -> list[Batch]:
    """Return batches from the arrays of all batches by name."""
    return [Batch.of(dict(zip(columns, arrays, strict=True))) for arrays in zip(*columns.values(), strict=True)]


class ReaderPlan:
    """What the plans of batches of whole sequences and of slices have in common."""

    __slots__ = ()
    reader: SliceReader

    @property
    def store(self) -> Store:
        """The sequences."""
        return self.reader.store

    @property
    def normalize(self) -> Scaler | Own | None:
        """How they are normalised."""
        return self.reader.normalize

    def __repr__(self) -> str:
        return repr(self.store)
