"""Read windows by number, and the numbers by which they were normalised. Each chunk is read once for all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.reading.named_batch import Batch
from store_spec.reading.read_ranges import read_ranges
from store_spec.reading.scaling import Scale, Scaler, unchanged

if TYPE_CHECKING:
    from store_spec.store import Store
    from store_spec.windows.windows import Windows

READ_TOGETHER = 64  # windows


def read_samples(windows: Windows, sequences: NDArray[np.int64], first: NDArray[np.int64]) -> list[Batch]:
    """Return the samples of windows that start at the steps `first` of these sequences, in this order."""
    shape = windows.shape
    read = partial(read_ranges, windows.store.snapshot, recent=True)
    real = windows.index.real_rows(sequences, first)
    start = windows.store.starts[sequences] + first
    last = start + (real - 1) * shape.sampling_rate
    after = last + shape.label_offset
    high = after + shape.horizon_span
    if shape.pads_labels:
        high = np.minimum(high, windows.store.starts[sequences] + windows.index.stop[sequences])
    rows = {"inputs": (start, read("inputs", start, last + 1))}
    if shape.target == "sequence":
        rows["labels"] = (windows.store.label_starts[sequences], read_labels(windows.store, sequences))
    else:
        bounds = (after, high) if shape.target == "future" else (last if shape.target == "last" else start, last + 1)
        rows["labels"] = (bounds[0], read(windows.targets.array, *bounds))
    for name in windows.masks:
        array = windows.columns[name].array
        rows[name] = (start, rows["inputs"][1] if array == "inputs" else read(array, start, last + 1))
    if "future" in windows.columns:
        rows["future"] = (after, read("inputs", after, high))
    samples = []
    for number, count in enumerate(real.tolist()):
        of_window = {name: (int(starts[number]), arrays[number]) for name, (starts, arrays) in rows.items()}
        samples.append(_sample(windows, of_window, count))
    if windows.static is not None:
        for sample, row in zip(samples, windows.static[sequences], strict=True):
            sample["static"] = row.copy()
    return list(map(Batch.of, samples))


def read_labels(store: Store, sequences: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Return the labels (1, *target shape) of whole sequences, each compared with its checksum."""
    row = store.label_starts[sequences]
    labels = read_ranges(store.snapshot, "labels", row, row + 1, recent=True)
    for number, rows in zip(store.selection[sequences].tolist(), labels, strict=True):
        store.snapshot.check("labels", number, rows)
    return labels


def _sample(windows: Windows, stored: dict[str, tuple[int, NDArray[Any]]], real: int) -> dict[str, NDArray[Any]]:
    """Make the arrays of a sample; `stored` has the first row in the store, and the rows, of each column."""
    shape, columns, real_labels = windows.shape, windows.columns, 0
    start, rows = stored["inputs"]
    inputs = _pad(columns["inputs"](rows[:: shape.sampling_rate], start), shape.window)
    start, rows = stored["labels"]
    labels = columns["labels"](rows, start)
    if shape.target == "aligned":
        labels = _pad(labels[:: shape.sampling_rate], shape.window)
    elif shape.target == "future":
        labels = labels[:: shape.sampling_rate]
        real_labels = len(labels)
        labels = _pad(labels, shape.horizon)
    elif shape.label_steps is None:
        labels = labels[0]
    future, beyond = None, real if shape.target == "aligned" else real_labels
    if "future" in stored:
        start, rows = stored["future"]
        future = _pad(columns["future"](rows, start)[:: shape.sampling_rate], shape.horizon)
    if windows.of_windows is not None:
        futures = None if future is None else future[None]
        xs, ys, futures = windows.of_windows(inputs[None], labels[None], futures, np.array([real]))
        inputs, labels, future = xs[0], ys[0], None if futures is None else futures[0]
        inputs[real:] = 0
        if shape.label_steps is not None:
            labels[beyond:] = 0
        if future is not None:
            future[beyond:] = 0
    sample = {"inputs": inputs, "labels": labels}
    if windows.has_mask:
        sample["mask"] = np.arange(shape.window) < real
    if shape.pads_labels:
        sample["label_mask"] = np.arange(shape.horizon) < real_labels
    if windows.masks:
        each = [columns[name](stored[name][1][:: shape.sampling_rate]) for name in windows.masks]
        sample["value_mask"] = _pad(np.logical_and.reduce(each), shape.window)
    if future is not None:
        sample["future"] = future
    return sample


def _pad(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Pad rows with zeros at the end to `count` rows; the result is contiguous."""
    if len(rows) == count:
        return np.ascontiguousarray(rows)
    padded = np.zeros((count, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded


def scaler_of(windows: Windows, numbers: NDArray[np.integer[Any]]) -> Scaler:
    """Return the normalisation of these windows, which differs between windows for `"sequence"` and `"window"`."""
    labels = windows.columns["labels"]
    targets = labels.rows.features if labels.take is None else len(labels.take)
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
    sequences = windows.store.selection[windows.index.locate_many(numbers, windows.store.path)[0]]
    inputs, targets_scale = (
        unchanged(column.rows.features) if column.scale is None else column.scale.of(sequences)
        for column in (windows.columns["inputs"], labels)
    )
    return Scaler(
        inputs=inputs if column.take is None else inputs.take(column.take),
        labels=targets_scale if labels.take is None else targets_scale.take(labels.take),
    )


def _scale_of_windows(windows: Windows, numbers: NDArray[np.integer[Any]]) -> Scale:
    """Read the inputs of some windows, and return their mean and standard deviation."""
    assert windows.of_windows is not None
    sequences, first = windows.index.locate_many(numbers, windows.store.path)
    real = windows.index.real_rows(sequences, first)
    start = windows.store.starts[sequences] + first
    column, shape = windows.columns["inputs"], windows.shape
    inputs = np.zeros((len(numbers), shape.window, *column.shape), column.dtype)
    rows_of_each = read_ranges(windows.store.snapshot, "inputs", start, start + (real - 1) * shape.sampling_rate + 1)
    for window, rows, count in zip(inputs, rows_of_each, real.tolist(), strict=True):
        window[:count] = column(rows[:: shape.sampling_rate])
    return windows.of_windows.scale(inputs, real)
