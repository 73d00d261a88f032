"""Look up windows by number: their rows, their places, and their normalisation. Each chunk is read once for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.format.runs import Ints
from store_spec.reading.columns import Column
from store_spec.reading.named_batch import Batch
from store_spec.reading.read_ranges import read_ranges
from store_spec.reading.scaling import Scale, Scaler
from store_spec.windows.pools import assemble, take_windows

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

READ_TOGETHER = 64  # windows
BYTES_TOGETHER = 2**22  # of inputs that are read together; a single window may have more

Bounds = tuple[NDArray[np.int64], NDArray[np.int64]]


class Place(NamedTuple):
    """The place of a window in its source, or of several windows.

    Args:
        source: The name of the source, or an array of names.
        part: Int64, the part of the source.
        sequence: Int64, the number of the sequence in `windows.store`.
        step: Int64, the step of the sequence at which the window starts.
        time: The time of this step, datetime64 or timedelta64; None if the store has no times.
    """

    source: Any
    part: Any
    sequence: Any
    step: Any
    time: Any


def read_samples(windows: Windows, numbers: Sequence[int]) -> list[Batch]:
    """Return the samples of windows by number, in this order."""
    column, samples = windows.columns["inputs"], list[Batch]()
    nbytes = windows.shape.span * math.prod(column.shape) * column.dtype.itemsize
    together = max(1, BYTES_TOGETHER // max(1, nbytes))
    for start in range(0, max(1, len(numbers)), together):
        samples += _read_together(windows, numbers[start : start + together])
    return samples


def _read_together(windows: Windows, numbers: Sequence[int]) -> list[Batch]:
    """Return samples like `read_samples`; the rows of all of them are in memory at the same time."""
    store, shape, index = windows.store, windows.shape, windows.index
    sequences, first = index.locate_many(numbers, store.path, ndim=1)
    last = index.last_rows(sequences, first)
    after = last + shape.label_offset
    inputs, horizon = (first, last + 1), (after, np.minimum(after + shape.horizon_span, index.stop[sequences]))
    steps = {"inputs": inputs} | dict.fromkeys(windows.masks, inputs)
    if shape.target != "sequence":
        steps["labels"] = {"future": horizon, "last": (last, last + 1), "aligned": inputs}[shape.target]
    if "future" in windows.columns:
        steps["future"] = horizon
    rows, at = _read_steps(windows, sequences, first, steps)
    labels = windows.labels_of_sequences(sequences) if shape.target == "sequence" else None
    batch = assemble(windows, rows, at, places=(sequences, first), labels=labels)
    if len(first) == 1:
        return [type(batch)(*(array[0] for array in batch))]
    # Copies, so that a sample does not keep the others in memory.
    return [type(batch)(*(array[number].copy() for array in batch)) for number in range(len(first))]


def _read_steps(
    windows: Windows, sequences: NDArray[np.int64], first: NDArray[np.int64], steps: Mapping[str, Bounds]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Read windows as `assemble` takes them: their rows, one window after another, and where each window starts.

    `steps` has, for each column, the first step to read of each window and the step after the last, (windows,) each.
    """
    store, loaded, span = windows.store, windows.loaded, windows.shape.span
    at, first_row = np.arange(len(first)) * span, store.starts[sequences]
    stored: dict[tuple[str, int], list[NDArray[Any]]] = {}
    rows: dict[str, NDArray[Any]] = {}
    for name, (low, high) in steps.items():
        column, key, start = windows.columns[name], name if name in loaded else "inputs", first_row + low
        if (column.array, id(low)) not in stored:  # rows that several columns take are read once
            parts = read_ranges(store.snapshot, column.array, start, first_row + high, recent=True)
            stored[column.array, id(low)] = parts
        if key not in rows:
            rows[key] = np.empty((len(at) * span, *column.shape), column.dtype)
        places, parts = (at + low - first).tolist(), stored[column.array, id(low)]
        for place, row, part in zip(places, start.tolist(), parts, strict=True):
            rows[key][place : place + len(part)] = column(part, row)
    store.snapshot.check_not_replaced()
    return rows, at


def scaler_of(windows: Windows, numbers: NDArray[np.integer[Any]]) -> Scaler:
    """Return the normalisation of these windows, which differs between windows for `"sequence"` and `"window"`."""
    sequences = windows.store.selection[windows.index.locate_many(numbers, windows.store.path)[0]]
    inputs, labels = (_scale_of_sequences(windows.columns[name], sequences) for name in ("inputs", "labels"))
    if windows.window_scales is None:
        return Scaler(inputs=inputs, labels=labels)
    parts = [
        _scale_of_windows(windows, numbers[at : at + READ_TOGETHER])
        for at in range(0, max(1, len(numbers)), READ_TOGETHER)
    ]
    scale = Scale(
        center=np.concatenate([part.center for part in parts]),
        scale=np.concatenate([part.scale for part in parts]),
    )
    features = windows.window_scales.labels
    return Scaler(inputs=scale, labels=labels if features is None else scale.take(features))


def _scale_of_sequences(column: Column, sequences: Ints) -> Scale:
    """Return the numbers by which a column of these sequences is normalised; numbers without effect if it is not."""
    none = Scale(center=np.zeros(column.rows.features), scale=np.ones(column.rows.features))
    scale = none if column.scale is None else column.scale.of(sequences)
    return scale if column.take is None else scale.take(column.take)


def _scale_of_windows(windows: Windows, numbers: NDArray[np.integer[Any]]) -> Scale:
    """Read the inputs of some windows, and return their mean and standard deviation."""
    assert windows.window_scales is not None
    sequences, first = windows.index.locate_many(numbers, windows.store.path)
    real, shape = windows.index.real_rows(sequences, first), windows.shape
    stop = first + (real - 1) * shape.sampling_rate + 1
    rows, at = _read_steps(windows, sequences, first, {"inputs": (first, stop)})
    return windows.window_scales.scale(take_windows(rows["inputs"], at, shape.window, shape.sampling_rate), real)


def place_of(windows: Windows, numbers: ArrayLike) -> Place:
    """Return where a window starts, or many windows: see `Windows.locate`."""
    (sequences, steps), times = windows.index.locate_many(numbers, windows.store.path), None
    parts = windows.store.parts[sequences]
    if (time := windows.store.schema.time) is not None:
        rows = (windows.store.starts[sequences] + steps).reshape(-1)
        read = read_ranges(windows.store.snapshot, "time", rows, rows + 1, recent=True)
        windows.store.snapshot.check_not_replaced()
        times = np.concatenate([np.zeros(0, np.int64), *read]).view(time.dtype).reshape(sequences.shape)[()]
    if not sequences.ndim:
        return Place(windows.store.sources[int(sequences)], int(parts), int(sequences), int(steps), times)
    names = np.array([windows.store.sources[number] for number in sequences.ravel().tolist()], object)
    return Place(names.reshape(sequences.shape), parts, sequences, steps, times)
