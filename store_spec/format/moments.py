"""Statistics of one sequence, which can be merged into those of any selection without reading the rows again.

Count, mean and sum of squared differences from the mean are computed per feature, in float64, and merged by the formula
of Chan, Golub and LeVeque (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK_VALUES = 2**16  # values that are reduced together: they fit into the processor's cache


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean, sum of squared differences, minimum and maximum of each feature; NaN values are ignored.

    All arrays have the shape (..., features). Where the count is 0, mean, min and max are NaN and m2 is 0.
    """

    count: NDArray[np.int64]
    mean: Floats
    m2: Floats
    min: Floats
    max: Floats

    def __repr__(self) -> str:
        shown = (f"{name}={_array_text(getattr(self, name))}" for name in ("count", "mean", "std", "min", "max"))
        return f"Moments({', '.join(shown)})"

    def as_row(self) -> Moments:
        """Return the same with a first axis of 1."""
        return Moments(self.count[None], self.mean[None], self.m2[None], self.min[None], self.max[None])

    @property
    def std(self) -> Floats:
        """Population standard deviation (divided by the count); NaN where the count is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self.m2 / self.count)


class RunningMoments:
    """Computes the moments of rows from pieces of them; the bits do not depend on where the pieces are cut.

    The last axis of a row is the features. For complex numbers, which have no order, only the count is computed.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._features = shape[-1] if shape else 1
        self._of_block = _count_of_block if dtype.kind == "c" else _of_block
        self._size = max(1, BLOCK_VALUES // self._features)  # rows (features,) of a block, wherever pieces are cut
        self._total: Moments | None = None
        self._rest = np.empty((0, self._features), dtype)  # rows after the last whole block

    def add(self, rows: NDArray[Any], *, last: bool = False) -> None:
        """Add the next rows. Rows that do not fill a block yet are copied, unless they are the last."""
        flat = rows.reshape(-1, self._features)
        if len(self._rest):
            room = self._size - len(self._rest)
            self._rest = np.concatenate([self._rest, flat[:room]])
            flat = flat[room:]
            if len(self._rest) < self._size:
                return
            self._add_block(self._rest)
        whole = len(flat) - len(flat) % self._size
        for start in range(0, whole, self._size):
            self._add_block(flat[start : start + self._size])
        self._rest = flat[whole:] if last else flat[whole:].copy()

    def result(self) -> Moments:
        """Return the moments of all rows; none can be added afterwards."""
        if len(self._rest) or self._total is None:
            self._add_block(self._rest)
        assert self._total is not None
        return self._total

    def _add_block(self, block: NDArray[Any]) -> None:
        moments = self._of_block(block)
        self._total = moments if self._total is None else _merge(self._total, moments)


def moments(rows: NDArray[Any]) -> Moments:
    """Return the moments of rows of shape (steps, ..., features); for a row of shape () there is one feature.

    Axes between the first and the last count as further rows: an image has one feature per colour. For complex numbers,
    which have no order, only the count is computed.

    >>> moments(np.array([[1.0, 5.0], [3.0, np.nan]])).mean.tolist()
    [2.0, 5.0]
    """
    features = rows.shape[-1] if rows.ndim > 1 else 1
    if 0 < rows.size <= BLOCK_VALUES and rows.dtype.kind != "c":
        return _of_block(rows.reshape(-1, features))  # a single block: the same result, faster
    running = RunningMoments(rows.shape[1:], rows.dtype)
    running.add(rows, last=True)
    return running.result()


def _array_text(values: NDArray[Any]) -> str:
    """Return an array as text on one line: a few of its values, in a few digits."""
    text = np.array2string(values, threshold=8, edgeitems=3, separator=", ", formatter={"float_kind": "{:.5g}".format})
    return " ".join(text.split())


def _count_of_block(block: NDArray[Any]) -> Moments:
    count = (~np.isnan(block)).sum(axis=0, dtype=np.int64)
    nothing = np.full(block.shape[1], np.nan)
    return Moments(count, nothing, np.where(count > 0, np.nan, 0.0), nothing, nothing)


def _of_block(block: NDArray[Any]) -> Moments:
    # One row per feature: NumPy reduces along memory several times faster than across it.
    return _of_values(_floats(block.T))


def _floats(values: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a signalling NaN would cause a warning
        return values.astype(np.float64, order="C")


def moments_of_each(windows: NDArray[Any], real: NDArray[np.int64] | None = None) -> Moments:
    """Return the moments of each of many windows of shape (windows, steps, ..., features).

    The bits for a window do not depend on which other windows are passed with it. Windows have at least one step;
    without a third axis there is one feature. `real` is (windows,), how many of the first steps of each window are
    real; None if all are.

    >>> moments_of_each(np.array([[[1.0], [3.0]], [[5.0], [0.0]]]), np.array([2, 1])).mean.tolist()
    [[2.0], [5.0]]
    """
    count, steps = windows.shape[:2]
    features = windows.shape[-1] if windows.ndim > 2 else 1
    flat = windows.reshape(count, math.prod(windows.shape[1:-1]) if windows.ndim > 2 else steps, features)
    size = max(1, BLOCK_VALUES // max(1, flat.shape[1] * features))
    padded = None if real is None or (real == steps).all() else real * (flat.shape[1] // steps)
    parts = []
    for start in range(0, max(1, count), size):
        values = _floats(flat[start : start + size].transpose(0, 2, 1))
        if padded is not None:  # as if they were missing
            unreal = np.arange(values.shape[2]) >= padded[start : start + size, None]
            values[np.broadcast_to(unreal[:, None], values.shape)] = np.nan
        parts.append(_of_values(values.reshape(-1, values.shape[2])))
    return _joined(parts, lambda values: np.concatenate(values).reshape(count, features))


def moments_of_sequences(rows: NDArray[Any], bounds: NDArray[np.int64]) -> Moments:
    """Return the moments of consecutive sequences, (sequences, features), with the same bits as `moments` of each.

    `bounds` is (sequences + 1,): where each sequence begins in the rows, and the last one ends.
    """
    if len(bounds) == 2:
        return moments(rows).as_row()
    lengths, row_values = np.diff(bounds), max(1, rows[:1].size)
    distinct = np.unique(lengths)
    parts, order = [], []
    for length in distinct.tolist():  # sequences of one length together, as an array
        which = np.flatnonzero(lengths == length)
        order.append(which)
        if len(which) == 1 or not 0 < length * row_values <= BLOCK_VALUES or rows.dtype.kind == "c":
            parts += [stacked([moments(rows[start : start + length]) for start in bounds[which].tolist()])]
        elif len(distinct) == 1:
            parts.append(moments_of_each(rows.reshape(len(which), length, *rows.shape[1:])))
        else:
            parts.append(moments_of_each(rows[bounds[which][:, None] + np.arange(length)]))
    places = np.argsort(np.concatenate([np.zeros(0, np.int64), *order]))
    return _rows(_joined(parts, np.concatenate), places)


def _of_values(values: NDArray[np.float64]) -> Moments:
    """Return the moments of each row of `values`, which are overwritten."""
    features, steps = values.shape
    if not steps:
        nothing = np.full(features, np.nan)
        return Moments(np.zeros(features, np.int64), nothing, np.zeros(features), nothing, nothing)
    # Squares of numbers beyond about 1e154 overflow float64; the result is infinite or NaN, without a warning.
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.minimum.reduce(values, axis=1), np.maximum.reduce(values, axis=1)
        total = np.add.reduce(values, axis=1)
        if np.isnan(low).any():
            missing = np.isnan(values)
            low, high = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
            count = steps - missing.sum(axis=1, dtype=np.int64)
            mean = np.where(missing, 0.0, values).sum(axis=1) / count
            for each in (mean, low, high):
                each[count == 0] = np.nan  # always the same NaN, not one of the rows or of the processor
            values -= mean[:, None]
            values[missing] = 0.0
        else:
            count = np.full(features, steps, np.int64)
            mean = total / steps
            values -= mean[:, None]
        # Not einsum: on some processors it fuses multiplication and addition into one rounding, and moments must have
        # the same bits everywhere. For the same reason zeros lose their sign below.
        np.square(values, out=values)
        return Moments(count, mean, np.add.reduce(values, axis=1), low + 0.0, high + 0.0)


def _merge(a: Moments, b: Moments) -> Moments:
    count = a.count + b.count
    with np.errstate(over="ignore", invalid="ignore"):
        share = b.count / count
        delta = b.mean - a.mean
        if a.count.all() and b.count.all():  # the usual case: the same bits in half the time
            mean, between = a.mean + delta * share, delta * delta * a.count * share
            return Moments(count, mean, a.m2 + b.m2 + between, np.fmin(a.min, b.min), np.fmax(a.max, b.max))
        mean = np.where(a.count == 0, b.mean, np.where(b.count == 0, a.mean, a.mean + delta * share))
        between = np.where((a.count == 0) | (b.count == 0), 0.0, delta * delta * a.count * share)
        return Moments(count, mean, a.m2 + b.m2 + between, np.fmin(a.min, b.min), np.fmax(a.max, b.max))


def merge(each: Moments) -> Moments:
    """Merge moments of shape (sequences, features) into one of shape (features,), pairwise like a binary tree."""
    count = each.count.shape[0]
    if count == 0:
        return _of_values(np.zeros((each.count.shape[1], 0)))
    while count > 1:
        even, odd = _rows(each, slice(0, count - 1, 2)), _rows(each, slice(1, count, 2))
        merged = _merge(even, odd)
        if count % 2:
            merged = _joined([merged, _rows(each, slice(count - 1, count))], np.concatenate)
        each, count = merged, merged.count.shape[0]
    return _joined([each], lambda values: values[0][0])


def over_features(each: Moments) -> Moments:
    """Return the moments of the values of all features together, (features,), the same for each of them."""
    together = merge(_joined([each], lambda values: values[0][:, np.newaxis]))
    return _joined([together], lambda values: np.repeat(values[0], each.count.size))


def stacked(several: Sequence[Moments]) -> Moments:
    """Stack moments of shape (features,) to (several, features)."""
    return _joined(several, np.stack)


def _rows(each: Moments, rows: slice | NDArray[np.int64]) -> Moments:
    return _joined([each], lambda values: values[0][rows])


def _joined(several: Sequence[Moments], join: Callable[[list[Any]], Any]) -> Moments:
    """Return moments whose arrays are made by `join` from the arrays of several others."""
    return Moments(*(join([getattr(one, name) for one in several]) for name in Moments.__slots__))
