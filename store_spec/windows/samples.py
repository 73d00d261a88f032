"""Windows by number, read and put together one by one: each chunk once for all that are asked for together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.reading.read_ranges import read_ranges
from store_spec.windows.pools import Batch

if TYPE_CHECKING:
    from store_spec.store import Store
    from store_spec.windows.windows import Windows

READ_TOGETHER = 64  # windows


def read_samples(windows: Windows, sequences: NDArray[np.int64], first: NDArray[np.int64]) -> list[Batch]:
    """Return the samples of windows that start at these steps of these sequences, in the order given."""
    shape = windows.shape
    read = partial(read_ranges, windows.store.snapshot, recent=True)
    real = windows.index.real_rows(sequences, first)
    start = windows.store.starts[sequences] + first
    last = start + (real - 1) * shape.sampling_rate
    after = last + 1 + shape.lead
    rows = {"inputs": (start, read("inputs", start, last + 1))}
    if shape.target == "sequence":
        rows["labels"] = (windows.store.label_starts[sequences], read_labels(windows.store, sequences))
    else:
        low, high = _label_rows(windows, start, last)
        rows["labels"] = (low, read("labels", low, high))
    for name in windows.masks:
        array = windows.columns[name].array
        spans = rows["inputs"][1] if array == "inputs" else read(array, start, last + 1)
        rows[name] = (start, spans)
    if "future" in windows.columns:
        rows["future"] = (after, read("inputs", after, after + shape.horizon))
    samples = []
    for number, count in enumerate(real.tolist()):
        given = {name: (int(begin[number]), spans[number]) for name, (begin, spans) in rows.items()}
        samples.append(_sample(windows, given, count))
    if windows.static is not None:
        samples = [(*sample, row.copy()) for sample, row in zip(samples, windows.static[sequences], strict=True)]
    return samples


def read_labels(store: Store, sequences: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Return the own label (1, *target shape) of each of some sequences.

    Raises:
        ChecksumError: It is not the one that was written: a file is another's, or an older copy.
    """
    row = store.label_starts[sequences]
    found = read_ranges(store.snapshot, "labels", row, row + 1, recent=True)
    for number, rows in zip(store.selection[sequences].tolist(), found, strict=True):
        store.snapshot.check("labels", number, rows)
    return found


def _label_rows(
    windows: Windows, start: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the range of rows of `labels` that each window needs, where these are not the sequences' own."""
    if windows.shape.target == "future":
        start = last + 1 + windows.shape.lead
        return start, start + windows.shape.horizon
    return (last if windows.shape.target == "last" else start), last + 1


def _sample(windows: Windows, given: dict[str, tuple[int, NDArray[Any]]], real: int) -> Batch:
    """Return the sample of rows that were read, and where in the store they begin."""
    shape, columns = windows.shape, windows.columns
    begin, rows = given["inputs"]
    inputs = _padded(columns["inputs"](rows[:: shape.sampling_rate], begin), shape.window)
    begin, rows = given["labels"]
    labels = columns["labels"](rows, begin)
    if shape.target == "aligned":
        labels = _padded(labels[:: shape.sampling_rate], shape.window)
    elif shape.label_steps is None:
        labels = labels[0]
    future = None
    if "future" in given:
        begin, rows = given["future"]
        future = np.ascontiguousarray(columns["future"](rows, begin))
    if windows.of_windows is not None:
        known = None if future is None else future[None]
        xs, ys, known = windows.of_windows(inputs[None], labels[None], known, np.array([real]))
        inputs, labels, future = xs[0], ys[0], None if known is None else known[0]
        inputs[real:] = 0
        if shape.target == "aligned":
            labels[real:] = 0
    sample = [inputs, labels]
    if windows.masks:
        each = [columns[name](given[name][1][:: shape.sampling_rate]) for name in windows.masks]
        sample.append(_padded(np.logical_and.reduce(each), shape.window))
    elif shape.short == "pad":
        sample.append(np.arange(shape.window) < real)
    if future is not None:
        sample.append(future)
    return tuple(sample)


def _padded(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `count` rows, zeros after those given, one after another in memory."""
    if len(rows) == count:
        return np.ascontiguousarray(rows)
    padded = np.zeros((count, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded
