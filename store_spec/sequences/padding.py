"""Read whole or truncated sequences into arrays that are padded to the longest sequence of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from store_spec.reading.grouped_prefetch import Batch
from store_spec.reading.normalization import Scales, row_bytes
from store_spec.reading.read_by_chunk import PIECE_BYTES, read_by_chunk
from store_spec.sequences.value_mask import ValueMask

if TYPE_CHECKING:
    from store_spec.store import Store

Side = Literal["start", "end"]
BatchRows = list[NDArray[Any]]  # of each batch
Steps = list[NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Padding:
    """How sequences are truncated and padded.

    Args:
        store: The sequences.
        lengths: (sequences,), how many steps of each sequence are used.
        truncate_side: Where sequences are truncated.
        side: Where padding is added. Labels that do not have one row per step are padded at the end.
        scales: How inputs and labels are normalised.
        static: (sequences, columns), further columns of batches; None if there are none.
        value_mask: How to find the real values of inputs; None if batches have no mask of values.
        lengths_too: Whether a batch has the lengths of its sequences, and of label sequences on the `own` axis.
        index: Whether a batch has the numbers of its sequences.
    """

    store: Store
    lengths: NDArray[np.int64]
    truncate_side: Side
    side: Side
    scales: Scales
    static: NDArray[Any] | None = None
    value_mask: ValueMask | None = None
    lengths_too: bool = False
    index: bool = False

    def batch_bytes(self, longest: NDArray[np.int64], longest_labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the bytes of one sequence in batches whose longest sequences have these steps and label rows."""
        if self.store.schema.label_axis == "step":
            longest_labels = longest
        inputs, labels = (row_bytes(self.store.schema.rows(name), self.scales[name]) for name in ("inputs", "labels"))
        static = 0 if self.static is None else self.static.shape[1] * self.static.itemsize
        values = 0 if self.value_mask is None else self.value_mask.row_bytes
        return longest * (inputs + values + 1) + longest_labels * (labels + 1) + static + 2 * PIECE_BYTES

    def read(self, batches: list[NDArray[np.int64]]) -> list[Batch]:
        """Read batches of these sequences, each chunk once for all of them."""
        axis = self.store.schema.label_axis
        inputs, steps = self._rows("inputs", batches)
        values: list[Steps] = []
        if self.value_mask is not None:
            beside = {name: self._rows(name, batches)[0] for name in self.value_mask.beside}
            values.append(self.value_mask({"inputs": inputs, **beside}, steps))
            del beside
        inputs = self._normalize("inputs", batches, inputs, steps)
        labels, label_steps = self._rows("labels", batches)
        labels = self._normalize("labels", batches, labels, label_steps)
        if axis == "sequence":
            labels = [rows[:, 0] for rows in labels]
        masks = [steps, label_steps] if axis == "own" else [steps]
        columns = [inputs, labels, *masks, *values]
        if self.lengths_too:
            columns += [[real.sum(axis=1) for real in mask] for mask in masks]
        if self.static is not None:
            columns.append([self.static[numbers] for numbers in batches])
        if self.index:
            columns.append(
                [numbers.copy() for numbers in batches]
            )  # copies, because these are views of the whole order
        return list(zip(*columns, strict=True))

    def _rows(self, name: str, batches: list[NDArray[np.int64]]) -> tuple[BatchRows, Steps]:
        """Return stored rows of `inputs`, `labels` or `filled` of each batch, and which of them are real."""
        store, snapshot, rows = self.store, self.store.snapshot, self.store.schema.rows(name)
        starts, whole = store.places(name)
        lengths, side = self.lengths, self.side
        if name == "labels" and store.schema.label_axis != "step":
            lengths, side = whole, "end"
        every = np.concatenate(batches)
        first = starts[every]
        if self.truncate_side == "start":
            first = first + whole[every] - lengths[every]
        pieces = read_by_chunk(snapshot, name, first, first + lengths[every])
        padded: BatchRows = []
        steps: Steps = []
        places: list[NDArray[Any]] = []  # the views for the rows of each sequence
        for numbers in batches:
            real = _real(lengths[numbers], side)
            array = np.zeros((*real.shape, *rows.shape), rows.dtype)
            padded.append(array)
            steps.append(real)
            for place, length in zip(array, lengths[numbers].tolist(), strict=True):
                places.append(place[:length] if side == "end" else place[len(place) - length :])
        for number, at, piece in pieces:
            places[number][at : at + len(piece)] = piece
        whole_ones = lengths[every] == whole[every]  # truncated sequences have no checksum
        for number in np.flatnonzero(whole_ones).tolist():
            snapshot.check(name, int(store.selection[every[number]]), places[number])
        return padded, steps

    def _normalize(self, name: str, batches: list[NDArray[np.int64]], arrays: BatchRows, steps: Steps) -> BatchRows:
        """Normalise rows of batches, keeping the padding zero; the arrays may be overwritten."""
        scale = self.scales[name]
        if scale is None:
            return arrays
        results = []
        for numbers, array, real in zip(batches, arrays, steps, strict=True):
            rows = scale.of(self.store.selection[numbers]).apply(array, name, inplace=True)
            rows[~real] = 0
            results.append(rows)
        return results


def _real(lengths: NDArray[np.int64], side: Side) -> NDArray[np.bool_]:
    """Return which steps of a batch are real."""
    step, longest = np.arange(lengths.max()), lengths.max()
    return step < lengths[:, None] if side == "end" else step >= longest - lengths[:, None]
