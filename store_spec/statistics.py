"""Exact statistics of a selection of sequences, and normalisation by them.

They are merged from the moments that the store keeps for each sequence, so no row is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from store_spec.errors import WindowError
from store_spec.moments import Floats, Moments

SMALL = ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32")  # float32 holds each of their values


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Count, mean, standard deviation, least and largest value of each feature and target. From `store.stats()`.

    A feature is a place on the last axis of a row: an image has one a colour. NaN values do not count.

    Args:
        inputs: Of the features.
        labels: Of the targets; `stats.labels.mean` and so on.

    >>> from store_spec.moments import moments
    >>> rows = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> stats = Statistics(inputs=moments(rows), labels=moments(rows[:, :1]))
    >>> stats.mean.tolist(), stats.std.tolist(), stats.normalize(rows).tolist()
    ([2.0, 7.0], [1.0, 0.0], [[-1.0, 0.0], [1.0, 0.0]])
    """

    inputs: Moments
    labels: Moments

    @property
    def count(self) -> NDArray[np.int64]:
        """Int64 (features,): how many values of the inputs are not NaN."""
        return self.inputs.count

    @property
    def mean(self) -> Floats:
        """Float64 (features,), of the inputs; NaN for a feature without any value."""
        return self.inputs.mean

    @property
    def std(self) -> Floats:
        """Float64 (features,), of the inputs: the root of the mean squared distance from the mean, as `np.std`."""
        return self.inputs.std

    @property
    def min(self) -> Floats:
        """Float64 (features,), of the inputs."""
        return self.inputs.min

    @property
    def max(self) -> Floats:
        """Float64 (features,), of the inputs."""
        return self.inputs.max

    def normalize(self, x: ArrayLike) -> NDArray[Any]:
        """Return inputs less their mean, divided by their standard deviation.

        A constant feature is divided by 1; one without any value stays as it is.

        Args:
            x: (..., features), or any shape where rows are plain numbers.

        Returns:
            The same shape: float32 for float32 and for dtypes whose values it holds, otherwise float64.

        Raises:
            WindowError: There is another number of features, or they are complex.
        """
        return _normalized(np.asarray(x), self.inputs, "inputs", "features")

    def normalize_labels(self, y: ArrayLike) -> NDArray[Any]:
        """Return labels less their mean, divided by their standard deviation; as `normalize`."""
        return _normalized(np.asarray(y), self.labels, "labels", "targets")

    def inverse(self, y: ArrayLike) -> NDArray[Any]:
        """Undo `normalize_labels`: bring predictions back to the units of the labels."""
        return _restored(np.asarray(y), self.labels, "labels", "targets")

    def inverse_inputs(self, x: ArrayLike) -> NDArray[Any]:
        """Undo `normalize`: bring inputs back to their units."""
        return _restored(np.asarray(x), self.inputs, "inputs", "features")


def normalized_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype that normalised values of a dtype have: float32 or float64."""
    return np.dtype("float32" if np.dtype(dtype).name in SMALL else "float64")


def _normalized(values: NDArray[Any], each: Moments, name: str, places: str) -> NDArray[Any]:
    shift, scale = _shift_and_scale(values, each, name, places)
    result = np.subtract(values, shift, dtype=shift.dtype)
    return np.asarray(np.divide(result, scale, out=result) if result.ndim else result / scale)


def _restored(values: NDArray[Any], each: Moments, name: str, places: str) -> NDArray[Any]:
    shift, scale = _shift_and_scale(values, each, name, places)
    result = np.multiply(values, scale, dtype=scale.dtype)
    return np.asarray(np.add(result, shift, out=result) if result.ndim else result + shift)


def _shift_and_scale(values: NDArray[Any], each: Moments, name: str, places: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what is subtracted and what is divided by, of the dtype of the result."""
    if values.dtype.kind == "c":
        raise WindowError(
            f"{name}: {values.dtype} values cannot be normalised; of complex numbers only the count is kept"
        )
    features = each.count.size
    if features > 1 and (values.ndim == 0 or values.shape[-1] != features):
        last = values.shape[-1] if values.ndim else 1
        raise WindowError(f"{name}: {last:,} {places} on the last axis, but these statistics are of {features:,}")
    dtype = normalized_dtype(values.dtype)
    # By least and largest value: rounding can leave a constant feature a standard deviation that is not quite 0.
    still = (each.count == 0) | (each.min == each.max) | (each.std == 0)
    shift = np.where(each.count == 0, 0.0, each.mean).astype(dtype)
    scale = np.where(still, 1.0, each.std).astype(dtype)
    return (shift, scale) if features > 1 else (shift[0], scale[0])  # rows may be plain numbers, without a last axis
