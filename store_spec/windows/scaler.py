"""The numbers by which windows were normalised, to undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.reading.read_ranges import read_ranges
from store_spec.reading.scaling import Scale, Scaler, unchanged
from store_spec.windows.samples import READ_TOGETHER

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows


def scaler_of(windows: Windows, numbers: NDArray[np.integer[Any]]) -> Scaler:
    """Return the normalisation of these windows, which differs between windows for `"sequence"` and `"window"`."""
    targets = windows.store.schema.labels.features
    if windows.of_windows is not None:
        parts = [
            _scale_of_windows(windows, numbers[at : at + READ_TOGETHER])
            for at in range(0, max(1, len(numbers)), READ_TOGETHER)
        ]
        scale = Scale(
            center=np.concatenate([part.center for part in parts]),
            scale=np.concatenate([part.scale for part in parts]),
        )
        return Scaler(inputs=scale, labels=windows.of_windows.scale_of_labels(scale, targets))
    column = windows.columns["inputs"]
    sequences = windows.store.selection[windows.index.locate_many(numbers)[0]]
    inputs, labels = (
        unchanged(features) if scale is None else scale.of(sequences)
        for scale, features in ((column.scale, column.rows.features), (windows.columns["labels"].scale, targets))
    )
    return Scaler(inputs=inputs if column.take is None else inputs.take(column.take), labels=labels)


def _scale_of_windows(windows: Windows, numbers: NDArray[np.integer[Any]]) -> Scale:
    """Read the inputs of some windows, and return their mean and standard deviation."""
    assert windows.of_windows is not None
    sequences, first = windows.index.locate_many(numbers)
    real = windows.index.real_rows(sequences, first)
    start = windows.store.starts[sequences] + first
    column, shape = windows.columns["inputs"], windows.shape
    inputs = np.zeros((len(numbers), shape.window, *column.shape), column.dtype)
    rows_of_each = read_ranges(windows.store.snapshot, "inputs", start, start + (real - 1) * shape.sampling_rate + 1)
    for window, rows, count in zip(inputs, rows_of_each, real.tolist(), strict=True):
        window[:count] = column(rows[:: shape.sampling_rate])
    return windows.of_windows.scale(inputs, real)
