"""Exact statistics of a selection of sequences, and normalisation by them.

They are merged from the moments of each sequence in the store, so no rows are read, except for quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import Floats, Moments, merge, stacked
from store_spec.reading.quantiles import Quantiles, quantiles
from store_spec.reading.scaling import Scale, Scaler, between, standard
from store_spec.schema import MOMENTS

if TYPE_CHECKING:
    from store_spec.store import Store

MERGED_VALUES = 2**20  # values of each moment that are in memory together


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Count, mean, standard deviation, minimum and maximum of each feature and target. From `store.stats()`.

    A feature is a position on the last axis of a row: an image has one feature per colour. NaN values are ignored.

    Args:
        inputs: The statistics of the features.
        labels: The statistics of the targets, as in `stats.labels.mean`.
        store: The sequences, for quantiles, which read rows; None if there are none.

    >>> from store_spec.format.moments import moments
    >>> rows = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> stats = Statistics(inputs=moments(rows), labels=moments(rows[:, :1]))
    >>> stats.mean.tolist(), stats.std.tolist(), stats.normalize(rows).tolist()
    ([2.0, 7.0], [1.0, 0.0], [[-1.0, 0.0], [1.0, 0.0]])
    """

    inputs: Moments
    labels: Moments
    store: Store | None = field(default=None, repr=False)

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
        """Float64 (features,), of the inputs: the population standard deviation, as `np.std`."""
        return self.inputs.std

    @property
    def min(self) -> Floats:
        """Float64 (features,), of the inputs."""
        return self.inputs.min

    @property
    def max(self) -> Floats:
        """Float64 (features,), of the inputs."""
        return self.inputs.max

    def standard(self) -> Scaler:
        """Return the normalisation to mean 0 and standard deviation 1, which is also that of `normalize=stats`."""
        return self._scaler("standard", standard(self.inputs), standard(self.labels))

    def minmax(self) -> Scaler:
        """Return the normalisation to minimum 0 and maximum 1; a constant feature becomes 0."""
        inputs, labels = (between(each.min, each.min, each.max) for each in (self.inputs, self.labels))
        return self._scaler("minmax", inputs, labels)

    def robust(self, low: float = 0.25, high: float = 0.75) -> Scaler:
        """Return the normalisation to median 0 and inter-quartile range 1, which outliers do not change.

        A feature whose two quantiles are the same is divided by 1. This reads the rows several times: see `quantiles`.

        Args:
            low: The lower end of the range, as a quantile.
            high: The upper end.

        Raises:
            WindowError: `low` is not below `high`, one of them is not a quantile, or these statistics are not from
                `store.stats()`.
        """
        if not low < high:
            raise WindowError(f"robust(low={low}, high={high}); low is below high, both from 0 to 1")
        found = self.quantiles([0.5, low, high])
        return self._scaler("robust", between(*found.inputs), between(*found.labels), low, high)

    def quantiles(self, q: ArrayLike) -> Quantiles:
        """Return exact quantiles of the same sequences, as `store.quantiles` does."""
        if self.store is None:
            raise WindowError("quantiles need the rows, and these statistics are of none: take those of store.stats()")
        return quantiles(self.store, q)

    def normalize(self, x: ArrayLike) -> NDArray[Any]:
        """Return inputs minus their mean, divided by their standard deviation: `standard().normalize(x)`.

        A constant feature is divided by 1; a feature without any value is not changed.

        Args:
            x: (..., features), or any shape if rows are single numbers.

        Returns:
            The same shape: float32 for float32 and for dtypes that fit into it, otherwise float64.

        Raises:
            WindowError: The number of features differs, or values are complex.
        """
        return self.standard().normalize(x)

    def normalize_labels(self, y: ArrayLike) -> NDArray[Any]:
        """Return labels minus their mean, divided by their standard deviation; as `normalize`."""
        return self.standard().normalize_labels(y)

    def inverse(self, y: ArrayLike) -> NDArray[Any]:
        """Undo `normalize_labels`: bring predictions back to the units of the labels."""
        return self.standard().inverse(y)

    def inverse_inputs(self, x: ArrayLike) -> NDArray[Any]:
        """Undo `normalize`: bring inputs back to their units."""
        return self.standard().inverse_inputs(x)

    def _scaler(self, how: str, inputs: Scale, labels: Scale, *arguments: float) -> Scaler:
        """Return a scaler with these numbers, and with the names of features and targets."""
        if self.store is None:
            return Scaler(inputs=inputs, labels=labels)
        schema = self.store.schema
        inputs, labels = replace(inputs, names=schema.inputs.names), replace(labels, names=schema.labels.names)
        return Scaler(inputs=inputs, labels=labels, earlier=partial(_earlier, self.store, how, arguments))


def _earlier(store: Store, how: str, arguments: tuple[float, ...], count: int) -> Scaler:
    """Return the scaler of the selected sequences that are among the first `count` of the whole store."""
    scaler: Scaler = getattr(store.first(count).stats(), how)(*arguments)
    return scaler


def moments_of(store: Store, name: str) -> Moments:
    """Return the moments of `inputs` or `labels` of all these sequences together, from the tables."""
    tables = [f"stats/{name}_{moment}" for moment in MOMENTS]
    numbers, size = store.selection, _merge_size(store, name)
    if (np.diff(numbers) <= 0).any():  # not ascending: parts of the selection may be spread over the whole store
        return merge(Moments(*(store.snapshot.table(table)[numbers] for table in tables)))
    parts = []
    for start in range(0, max(1, len(numbers)), size):
        some = numbers[start : start + size]
        low, high = (int(some[0]), int(some[-1]) + 1) if len(some) else (0, 0)
        parts.append(merge(Moments(*(store.snapshot.table(table, low, high)[some - low] for table in tables))))
    return merge(stacked(parts))


def _merge_size(store: Store, name: str) -> int:
    """Return how many sequences to merge at a time: a power of 2, which gives the same bits as merging all at once."""
    return 1 << max(0, (MERGED_VALUES // store.schema.rows(name).features).bit_length() - 1)
