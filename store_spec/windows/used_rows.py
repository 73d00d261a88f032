"""The rows that windows use, each once, and their statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from store_spec.errors import WindowError
from store_spec.format.moments import merge, moments, stacked
from store_spec.format.runs import Ints, merged, runs_of, spread
from store_spec.reading.statistics import Statistics, UsedRows, moments_of

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows


def stats_of_windows(windows: Windows) -> Statistics:
    """Return the statistics of all rows that windows use, each once."""
    _, distinct = np.unique(windows.store.selection, return_index=True)  # a sequence may be selected twice
    windows = windows.of(windows.store.view(distinct))
    store = windows.store
    if not len(windows):
        raise WindowError(f"{store.path}: statistics of 0 windows")
    shape, index = windows.shape, windows.index
    if shape.phase == "random":  # in some epoch a window starts at each step
        shape = replace(shape, stride=1)
        index = replace(windows.base, shape=shape)
    count = np.diff(index.stretches.first)
    some = np.flatnonzero(count)
    sequence = index.stretches.sequences(some)
    start, count, stride = index.stretches.start[some], count[some], shape.stride
    real = index.most_rows(sequence, start)
    least = np.minimum(real, shape.least_window or shape.window)
    last = start + (least - 1) * shape.sampling_rate
    inputs = labels = _rows(start, count, stride, real, shape.sampling_rate)
    if shape.target in ("future", "last"):
        offset, rows = (shape.label_offset, shape.horizon) if shape.target == "future" else (0, 1)
        labels = _rows(last + offset, count, stride, real - least + rows, shape.sampling_rate)
    inputs, labels = (_clipped(index.stop[sequence], *each) for each in (inputs, labels))
    ranges = {}
    for name, (run, low, high) in (("inputs", inputs), ("labels", labels)):
        first = store.starts[sequence[run]]
        ranges[name] = merged(first + low, first + high)
    if windows.targets.array == "inputs":
        ranges["inputs"] = merged(*(np.concatenate(each) for each in zip(*ranges.values(), strict=True)))
    stop = np.zeros(len(store), np.int64)
    for run, _, high in (inputs, labels):
        np.maximum.at(stop, sequence[run], high)
    used = UsedRows(ranges=ranges, stop=stop)
    names = ("inputs", "labels") if store.schema.label_axis == "step" else ("inputs",)
    found = {name: merge(stacked([*map(moments, used.blocks(store, name))])) for name in names}
    labels_moments = found.get("labels") or moments_of(store.view(np.unique(sequence)), "labels")
    store.snapshot.check_not_replaced()
    return Statistics(inputs=found["inputs"], labels=labels_moments, store=store, used=used)


def _clipped(end: Ints, run: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints]:
    """Cut ranges of steps at the `end` of their run, (runs,): windows may be padded beyond it."""
    high = np.minimum(high, end[run])
    some = low < high
    return run[some], low[some], high[some]


def _rows(start: Ints, count: Ints, stride: int, rows: Ints, rate: int) -> tuple[Ints, Ints, Ints]:
    """Return ranges of steps (run, first step, step after the last) that runs of windows use.

    A run has `count` windows, `stride` steps apart, and the first begins at the step `start`. Each has `rows` rows,
    `rate` steps apart. All arrays are (runs,).
    """
    if rate == 1 and (stride == 1 or ((stride <= rows) | (count == 1)).all()):
        return np.arange(len(start)), start, start + (count - 1) * stride + rows
    if rate == 1:
        low, run = spread(start, count, stride), np.repeat(np.arange(len(start)), count)
        return run, low, low + rows[run]
    found = []
    for number, (at, windows, each) in enumerate(zip(start.tolist(), count.tolist(), rows.tolist(), strict=True)):
        used = np.zeros((windows - 1) * stride + (each - 1) * rate + 1, bool)
        for row in range(each):
            used[row * rate : 1 + row * rate + (windows - 1) * stride : stride] = True
        runs = runs_of(used) + at
        found.append((np.full(len(runs), number), *runs.T))
    run, low, high = (np.concatenate(each) for each in zip(*found, strict=True))
    return run, low, high
