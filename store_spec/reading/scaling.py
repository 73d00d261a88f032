"""Normalisation of values by a center and a scale for each feature and target."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import WindowError
from store_spec.format.moments import Floats, Moments
from store_spec.lazy_property import lazy_property
from store_spec.reading.argument_checks import array_of
from store_spec.schema import MOMENTS

if TYPE_CHECKING:
    from store_spec.reading.statistics import Statistics
    from store_spec.store import Store

FEW_FEATURES = 16  # with more features, NumPy is about as fast row by row
MANY_VALUES = 2**13  # with fewer values, joining rows is not worth it
TOGETHER = 2**9  # values in joined rows
LEAST_REST = 2**-10  # scales: a larger rounding error of a center, in a narrower dtype, is subtracted as well
SMALL = ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32")  # float32 holds each of their values


def normalized_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype that normalised values of a dtype have: float32 or float64."""
    return np.dtype("float32" if np.dtype(dtype).name in SMALL else "float64")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scale:
    """A center to subtract from values and a scale to divide by, the same for all samples or one for each.

    >>> scale = Scale(center=np.array([1.0, 0.0]), scale=np.array([2.0, 1.0]))
    >>> scale.apply(np.array([[5.0, 5.0]])).tolist(), scale.undo(np.array([[2.0, 5.0]])).tolist()
    ([[2.0, 5.0]], [[5.0, 5.0]])
    """

    center: NDArray[Any]  # (features,), or (samples, features)
    scale: NDArray[Any]  # the same shape; never 0
    names: tuple[str, ...] | None = None  # of the features; None if they have no names, or these are unknown
    rest: NDArray[Any] | None = None  # what `center` lost by rounding, to subtract after it; None if that is too little

    def checked(self) -> Self:
        """Refuse infinite numbers, which would make values 0 or NaN; return these numbers."""
        for what, numbers in (("center", self.center), ("scale", self.scale)):
            if np.isinf(numbers).any():
                feature = int(np.nonzero(np.isinf(numbers))[-1][0])
                raise WindowError(
                    f"normalize: the {what} of feature {feature} is beyond {np.finfo(numbers.dtype).max:.3g}, the "
                    f"largest {numbers.dtype}, so its values would become 0 or NaN; store them in another unit"
                )
        return self

    @property
    def features(self) -> int:
        """The number of features."""
        return int(self.center.shape[-1])

    def of(self, samples: ArrayLike) -> Scale:
        """Return the numbers for some samples or for one; this object if the numbers are the same for all."""
        at = np.asarray(samples, np.int64)
        return self if self.center.ndim == 1 else self.mapped(lambda numbers: numbers[at])

    def mapped(self, change: Callable[[NDArray[Any]], Any]) -> Scale:
        """Return the results of a function for center, scale and rest, without names."""
        rest = None if self.rest is None else change(self.rest)
        return Scale(center=change(self.center), scale=change(self.scale), rest=rest)

    def take(self, features: ArrayLike) -> Scale:
        """Return the numbers for these features, in this order; for -1, numbers that do not change a value."""
        places = np.asarray(features, np.int64)
        taken = self.mapped(lambda numbers: np.where(places < 0, 0.0, numbers[..., places]))
        return replace(taken, scale=np.where(places < 0, 1.0, self.scale[..., places]))

    def astype(self, dtype: np.dtype[Any]) -> Scale:
        """Convert the numbers to a dtype; a scale that is too small for it becomes 1, as for a constant feature."""
        with np.errstate(over="ignore"):  # numbers that are too large are refused below
            center, scale = self.center.astype(dtype, copy=False), self.scale.astype(dtype, copy=False)
        if not scale.all():
            scale = np.where(scale == 0, dtype.type(1), scale)
        numbers = Scale(center=center, scale=scale).checked()
        rest = self.center - center
        is_large = np.abs(rest) > LEAST_REST * scale
        # A small rest is 0, so that the bits of a sample do not depend on other samples.
        return replace(numbers, rest=np.where(is_large, rest, 0.0).astype(dtype)) if is_large.any() else numbers

    def apply(self, values: NDArray[Any], name: str = "inputs", *, inplace: bool = False) -> NDArray[Any]:
        """Return `(values - center) / scale`, of `normalized_dtype`; `inplace` overwrites values of that dtype.

        Values are (..., features), or of any shape if there is one feature; (samples, ..., features) if there are
        numbers for each sample. `name` is `inputs` or `labels`, for errors.
        """
        numbers = self._fitted(values, name)
        out = values if inplace and values.dtype == numbers.center.dtype and values.ndim else None
        result = by_feature(np.subtract, values, numbers.center, out)
        if numbers.rest is not None:
            result = np.asarray(result - numbers.rest)
        scale = numbers.scale
        return np.asarray(by_feature(np.divide, result, scale, result) if result.ndim else result / scale)

    def undo(self, values: NDArray[Any], name: str = "inputs") -> NDArray[Any]:
        """Return `values * scale + center`, a new array; the arguments are as for `apply`."""
        numbers = self._fitted(values, name)
        result, center = by_feature(np.multiply, values, numbers.scale), numbers.center
        if numbers.rest is not None:
            result = np.asarray(result + numbers.rest)
        return np.asarray(by_feature(np.add, result, center, result) if result.ndim else result + center)

    def _fitted(self, values: NDArray[Any], name: str) -> Scale:
        """Return the numbers in the dtype of the result, and in a shape that can be broadcast with the values."""
        if values.dtype.kind in "cmMOST":
            raise WindowError(
                f"{name}: {values.dtype} values cannot be normalised; give real numbers, none of them masked (of "
                "complex numbers only the count is kept)"
            )
        if self.features > 1 and (values.ndim < self.center.ndim or values.shape[-1] != self.features):
            last, places = values.shape[-1] if values.ndim else 1, "features" if name == "inputs" else "targets"
            raise WindowError(
                f"{name}: {last:,} {places} on the last axis, but these statistics are of {self.features:,}"
            )
        dtype = normalized_dtype(values.dtype)
        numbers = self if self.center.dtype == self.scale.dtype == dtype else self.astype(dtype)
        if numbers.center.ndim == 1:
            return numbers if self.features > 1 else numbers.mapped(lambda one: one[0])  # rows may be single numbers
        samples = len(numbers.center)
        if not values.ndim or len(values) != samples:
            raise WindowError(
                f"{name}: {len(values) if values.ndim else 1:,} samples, but these are the numbers of {samples:,}"
            )
        shape = (samples, *(1 for _ in values.shape[1:]))
        if self.features > 1:
            shape = (*shape[:-1], self.features)
        return numbers.mapped(lambda each: each.reshape(shape))


class Normalizer:
    """The methods that statistics and scalers share: statistics normalise by mean and standard deviation."""

    __slots__ = ()

    def _scaler(self) -> Scaler:
        raise NotImplementedError

    def _label_scale(self) -> Scale:
        scaler = self._scaler()
        store = scaler.statistics.store if scaler.statistics is not None else None
        if store is not None and not store.has_labels:
            raise WindowError(
                f"{store.path}: has no labels, so these statistics have none to undo; for targets from the inputs, use "
                "windows.scaler().inverse(y)"
            )
        return scaler.labels

    def normalize(self, x: ArrayLike) -> NDArray[Any]:
        """Return inputs minus their center, divided by their scale.

        A constant feature is divided by 1; a feature without any value is not changed.

        Args:
            x: (..., features), or any shape if rows are single numbers. If each sample has its own numbers, samples are
                the first axis.

        Returns:
            The same shape: float32 for float32 and for dtypes that fit into it, otherwise float64.

        Raises:
            WindowError: The number of features or samples differs, or values are complex, masked or no numbers.
        """
        return self._scaler().inputs.apply(array_of(x))

    def normalize_labels(self, y: ArrayLike) -> NDArray[Any]:
        """Return labels minus their center, divided by their scale; as `normalize`."""
        return self._label_scale().apply(array_of(y), "labels")

    def inverse(self, y: ArrayLike) -> NDArray[Any]:
        """Undo `normalize_labels`: bring predictions back to the units of the labels.

        For targets that come from the inputs, use `windows.scaler().inverse(y)`.

        Raises:
            WindowError: As for `normalize`, or the store has no labels.
        """
        return self._label_scale().undo(array_of(y), "labels")

    def inverse_inputs(self, x: ArrayLike) -> NDArray[Any]:
        """Undo `normalize`: bring inputs back to their units."""
        return self._scaler().inputs.undo(array_of(x))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaler(Normalizer):
    """Normalisation of inputs and labels. From `stats.standard()`, `minmax()`, `robust()`, and `windows.scaler()`.

    >>> from store_spec.format.moments import moments
    >>> both = standard(moments(np.array([[1.0], [3.0]])))
    >>> scaler = Scaler(inputs=both, labels=both)
    >>> scaler.normalize(np.array([[1.0], [3.0]])).tolist(), scaler.inverse(np.array([-1.0])).tolist()
    ([[-1.0], [1.0]], [1.0])
    """

    inputs: Scale
    labels: Scale
    # The statistics that it is made of; None if it does not come from a store.
    statistics: Statistics | None = field(default=None, repr=False)

    def _scaler(self) -> Scaler:
        return self

    def stop_of_each(self, store: Store) -> NDArray[np.int64]:
        """Return (sequences,): the step after the last that the statistics are of, or 0."""
        return np.zeros(len(store), np.int64) if self.statistics is None else self.statistics.stop_of_each(store)

    def digest(self) -> str:
        """Return a hash of all numbers, as 16 hexadecimal digits."""
        digest = hashlib.sha256()
        for each in (self.inputs, self.labels):
            for numbers in (each.center, each.scale):
                digest.update(numbers.astype("<f8").tobytes())
        return digest.hexdigest()[:16]


def by_feature(
    ufunc: np.ufunc, values: NDArray[Any], numbers: NDArray[Any], out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Return `ufunc(values, numbers)`, treating several rows of few features as one row.

    NumPy processes each row by itself, which with three features takes five times as long as the arithmetic.
    """
    features = numbers.size
    if numbers.ndim != 1 or features > FEW_FEATURES or values.size < MANY_VALUES or not values.flags.c_contiguous:
        result: NDArray[Any] = ufunc(values, numbers, out=out, dtype=numbers.dtype)
        return result
    results = np.empty(values.shape, numbers.dtype) if out is None else out
    rows, places = values.reshape(-1), results.reshape(-1)
    row_size = TOGETHER - TOGETHER % features
    whole = values.size - values.size % row_size
    for part, size in ((slice(whole), row_size), (slice(whole, None), features)):
        ufunc(
            rows[part].reshape(-1, size), np.resize(numbers, size), out=places[part].reshape(-1, size),
            dtype=numbers.dtype,
        )  # fmt: skip
    return results


def standard(moments: Moments) -> Scale:
    """Return mean and standard deviation as center and scale.

    A constant feature gets the scale 1, so it becomes 0. A feature without any value is not changed.
    """
    # Compare minimum and maximum: by rounding, the standard deviation of a constant feature may not be exactly 0.
    same, none = moments.min == moments.max, moments.count == 0
    return Scale(
        center=np.where(none, 0.0, np.where(same, moments.min, moments.mean)),
        scale=np.where(none | same | (moments.std == 0), 1.0, moments.std),
    ).checked()


def range_scale(center: Floats, low: Floats, high: Floats) -> Scale:
    """Return `center`, and `high - low` as the scale, or 1 if that is 0. Features with NaN are not changed."""
    with np.errstate(over="ignore"):  # infinite numbers are refused below
        none, distance = np.isnan(center), high - low
    return Scale(center=np.where(none, 0.0, center), scale=np.where(none | (distance == 0), 1.0, distance)).checked()


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceScales:
    """A center and a scale for each sequence.

    Without groups, each sequence has its own mean and standard deviation, from its moments, 16 bytes per feature.
    """

    snapshot: Snapshot
    name: str  # `inputs` or `labels`; these are on the step axis or on the own axis
    groups: Scale | None = None  # the numbers of each group, (groups, features)
    group_of_each: NDArray[np.int64] | None = None  # (sequences,), the group of each sequence of the store that is read

    @lazy_property
    def _every(self) -> Scale:
        dtype = normalized_dtype(self.snapshot.root.schema.rows(self.name).dtype)
        if self.groups is not None:
            return self.groups.astype(dtype)
        tables = self.snapshot.read_tables(f"stats/{self.name}_{moment}" for moment in MOMENTS)
        return standard(Moments(*tables)).astype(dtype)

    def of(self, numbers: ArrayLike) -> Scale:
        """Return the numbers of sequences by their number in the whole store, (sequences, features)."""
        return self._every.of(numbers if self.group_of_each is None else self.group_of_each[np.asarray(numbers)])

    def of_rows(self, first: int, count: int) -> Scale:
        """Return the numbers for `count` rows of the array from `first` on, (rows, features) or (features,)."""
        offsets = self.snapshot.bounds(self.name)
        start = int(np.searchsorted(offsets, first, side="right")) - 1
        stop = int(np.searchsorted(offsets, first + count, side="left"))
        if stop - start == 1:
            return self.of(start)  # without an axis of rows, so that it is applied faster
        rows = np.diff(offsets[start : stop + 1].clip(first, first + count))
        return self.of(np.repeat(np.arange(start, stop), rows))
