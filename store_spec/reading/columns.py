"""Convert stored rows for users: select columns, normalise, or compute a mask of real values."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.reading.scaling import Scale, SequenceScales, normalized_dtype
from store_spec.schema import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How stored rows of an array are converted for users."""

    array: str  # `inputs`, `labels` or `filled`
    rows: Rows  # what a stored row is
    take: tuple[int, ...] | None = None  # which positions of the last axis, in this order; None for all
    scale: Scale | SequenceScales | None = None  # how values are normalised; None to leave them as they are stored
    # Return a mask of real values instead: those of `inputs` that are not NaN, or of `filled` that are False.
    real: bool = False
    cast: np.dtype[Any] | None = None  # the dtype of converted values; None for the stored or normalised one

    @property
    def plain(self) -> bool:
        """Whether rows are returned as they are stored."""
        # `in (None, dtype)` would not do: for NumPy, the dtype float64 equals None.
        same_dtype = self.cast is None or self.cast == self.rows.dtype
        return self.take is None and self.scale is None and not self.real and same_dtype

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of converted rows: normalised values are float32 or float64."""
        if self.real:
            return np.dtype(bool)
        if self.cast is not None:
            return self.cast
        return normalized_dtype(self.rows.dtype) if self.scale is not None else self.rows.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a converted row."""
        return self.rows.shape if self.take is None else (*self.rows.shape[:-1], len(self.take))

    @property
    def nbytes(self) -> int:
        """The bytes of a converted row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __call__(self, rows: NDArray[Any], first: int = 0) -> NDArray[Any]:
        """Convert stored rows (rows, *row shape), the first of which is row `first` of the store."""
        if self.real:
            columns = rows if self.take is None else rows.take(self.take, axis=-1)
            # A file may have any byte for a bool; the comparison below makes the mask safe to select by.
            unreal = columns.view(np.uint8) if self.array == "filled" else np.isnan(columns)
            return np.asarray(unreal == 0)
        if self.scale is not None:
            scale = self.scale if isinstance(self.scale, Scale) else self.scale.of_rows(first, len(rows))
            rows = scale.apply(rows, self.array)
        rows = rows if self.take is None else rows.take(self.take, axis=-1)  # in C order, unlike rows[..., take]
        return rows if self.cast is None else rows.astype(self.cast, copy=False)


def feature_positions(name: str, features: Any, rows: Rows, where: object) -> tuple[int, ...] | None:
    """Return the positions of features from a list of names or numbers (negative ones count from the end).

    None stands for all features. `name` is the name of the argument, for errors, and `where` the store.
    """
    if features is None:
        return None
    # A set is refused, as the order of the features is that of the columns.
    if isinstance(features, str | set | frozenset) or not isinstance(features, Collection) or not len(features):
        raise WindowError(f"{where}: {name}={features!r:.80}; give a list of names or numbers of features")
    if not rows.shape:
        raise WindowError(f"{where}: {name}={list(features)!r:.80}, but a row is a plain number: leave it out")
    places = [position(name, feature, rows, where) for feature in features]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise WindowError(f"{where}: {name} has feature {twice:,} twice; name each once")
    return tuple(places)


def position(name: str, feature: Any, rows: Rows, where: object) -> int:
    """Return the position of one feature or target from its name or number; see `feature_positions`."""
    count, names = rows.features, rows.names or ()
    if isinstance(feature, bool | np.bool_):
        raise WindowError(f"{where}: {name} has {feature!r}, as a mask has; np.flatnonzero(mask) gives its numbers")
    if isinstance(feature, str) and feature in names:
        return names.index(feature)
    if isinstance(feature, int | np.integer) and -count <= feature < count:
        return int(feature) % count
    there = f"named {', '.join(names[:20])}" if names else "without names"
    raise WindowError(f"{where}: {name}: {feature!r:.80}, but there are {count:,} (0 to {count - 1:,}), {there}")
