"""Read slices of sequences into the lanes of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store_spec.reading.grouped_prefetch import Batch
from store_spec.reading.normalization import Scales
from store_spec.reading.read_by_chunk import read_by_chunk
from store_spec.reading.scaling import Scale, SequenceScales, normalized_dtype
from store_spec.sequences.lanes import Slices
from store_spec.sequences.value_mask import ValueMask

if TYPE_CHECKING:
    from store_spec.store import Store

Shape = tuple[int, int, int]


def read_slices(
    store: Store, slices: Slices, shape: Shape, scales: Scales, *, mask: bool, value_mask: ValueMask | None
) -> list[Batch]:
    """Return batches of inputs, labels, resets and masks.

    Each chunk is decompressed once for all batches. Sequences that are completely in one batch are checked by their
    checksum.

    Args:
        store: The sequences, with labels on the `step` or `sequence` axis.
        slices: The content of the batches.
        shape: The numbers of batches, lanes and steps.
        scales: How inputs and labels are normalised.
        mask: Whether to add a mask of steps.
        value_mask: How to find the real values of inputs; None for no mask of values.
    """
    inputs = _rows(store, "inputs", slices, shape)
    masks: list[list[NDArray[np.bool_]]] = []
    if mask or value_mask is not None:
        steps = _zeros(shape, (), np.bool_)
        for place in _places(steps, slices):
            place[:] = True
        masks += [steps] if mask else []
        if value_mask is not None:
            beside = {name: _rows(store, name, slices, shape) for name in value_mask.beside}
            masks.append(value_mask({"inputs": inputs, **beside}, steps))
            del beside
    of_sequence = store.schema.label_axis == "sequence"
    labels = _labels(store, slices, shape) if of_sequence else _rows(store, "labels", slices, shape)
    inputs = _normalize(store, "inputs", slices, inputs, scales["inputs"])
    labels = _normalize(store, "labels", slices, labels, scales["labels"])
    resets = _zeros(shape, (), np.bool_)
    for place, start in zip(_places(resets, slices), slices.start.tolist(), strict=True):
        place[0] = start == 0
    return list(zip(inputs, labels, resets, *masks, strict=True))


def _rows(store: Store, name: str, slices: Slices, shape: Shape) -> list[NDArray[Any]]:
    """Return stored rows of `inputs`, `labels` or `filled`, one per step."""
    first = store.starts[slices.sequence] + slices.start
    pieces = read_by_chunk(store.snapshot, name, first, first + slices.count)
    rows = store.schema.rows(name)
    arrays = _zeros(shape, rows.shape, rows.dtype)
    places = _places(arrays, slices)
    for number, at, piece in pieces:
        places[number][at : at + len(piece)] = piece
    for number in np.flatnonzero(slices.count == store.lengths[slices.sequence]).tolist():
        store.snapshot.check(name, int(store.selection[slices.sequence[number]]), places[number])
    return arrays


def _labels(store: Store, slices: Slices, shape: Shape) -> list[NDArray[Any]]:
    """Return the label of each step's sequence."""
    row = store.label_starts[slices.sequence]
    pieces = read_by_chunk(store.snapshot, "labels", row, row + 1)
    arrays = _zeros(shape, store.schema.labels.shape, store.schema.labels.dtype)
    places = _places(arrays, slices)
    for number, _, piece in pieces:
        store.snapshot.check("labels", int(store.selection[slices.sequence[number]]), piece)
        places[number][:] = piece
    return arrays


def _normalize(
    store: Store, name: str, slices: Slices, arrays: list[NDArray[Any]], scale: Scale | SequenceScales | None
) -> list[NDArray[Any]]:
    """Normalise the slices in the arrays of batches; all other values stay zero."""
    if scale is None:
        return arrays
    dtype = normalized_dtype(store.schema.rows(name).dtype)
    results = [array if array.dtype == dtype else np.zeros(array.shape, dtype) for array in arrays]
    every = scale.of(store.selection[slices.sequence]).astype(dtype)
    for number, (rows, place) in enumerate(zip(_places(arrays, slices), _places(results, slices), strict=True)):
        place[:] = every.of(number).apply(rows, name)
    return results


def _zeros(shape: Shape, row: tuple[int, ...], dtype: DTypeLike) -> list[NDArray[Any]]:
    """Return an array of zeros for each batch; separate ones, so that keeping one does not keep all in memory."""
    batches, lanes, steps = shape
    return [np.zeros((lanes, steps, *row), dtype) for _ in range(batches)]


def _places(arrays: list[NDArray[Any]], slices: Slices) -> list[NDArray[Any]]:
    """Return the view of each slice in the arrays of the batches."""
    where = (slices.batch, slices.lane, slices.column, slices.column + slices.count)
    return [
        arrays[batch][lane, start:stop]
        for batch, lane, start, stop in zip(*(each.tolist() for each in where), strict=True)
    ]
