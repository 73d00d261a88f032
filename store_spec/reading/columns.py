"""What is given of each stored row: chosen columns of it, normalised where asked for."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.reading.scaling import OfSequences, Scale, normalized_dtype
from store_spec.schema import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """What is given of each row of an array.

    Args:
        array: `inputs`, `labels` or `filled`.
        rows: What a stored row is.
        take: Which places of its last axis, in this order; None for all.
        scale: What it is normalised by; None to leave it as it is stored.
        real: Give, instead of values of `inputs` or `filled`, whether each is real: not NaN, or not filled in.
    """

    array: str
    rows: Rows
    take: tuple[int, ...] | None = None
    scale: Scale | OfSequences | None = None
    real: bool = False

    @property
    def plain(self) -> bool:
        """Whether rows are given as they are stored."""
        return self.take is None and self.scale is None and not self.real

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is given: normalised values are float32 or float64."""
        if self.real:
            return np.dtype(bool)
        return normalized_dtype(self.rows.dtype) if self.scale is not None else self.rows.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is given of a row."""
        return self.rows.shape if self.take is None else (*self.rows.shape[:-1], len(self.take))

    @property
    def nbytes(self) -> int:
        """Bytes of what is given of a row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __call__(self, rows: NDArray[Any], first: int = 0) -> NDArray[Any]:
        """Return what is given of stored rows (rows, *row shape); `first` is where in the store these begin."""
        if self.real:
            chosen_rows = rows if self.take is None else rows[..., self.take]
            # A file may hold any byte for a bool, and these become what users select by.
            unreal = chosen_rows.view(np.uint8) if self.array == "filled" else np.isnan(chosen_rows)
            return np.asarray(unreal == 0)
        if self.scale is not None:
            scale = self.scale if isinstance(self.scale, Scale) else self.scale.of_rows(first, len(rows))
            rows = scale.apply(rows, self.array)
        return rows if self.take is None else rows[..., self.take]


def chosen(name: str, wanted: Any, rows: Rows, where: object) -> tuple[int, ...] | None:
    """Return the places of columns of `inputs` that are named, or numbered (negative ones from the end).

    Args:
        name: The argument that names them.
        wanted: A list of names and numbers; None for all columns.
        rows: What a row of inputs is.
        where: Named in errors.

    Raises:
        WindowError: There is no such column, none is named or one twice, or rows are plain numbers.
    """
    if wanted is None:
        return None
    # A set has no order, and which column is which follows from it.
    if isinstance(wanted, str | set | frozenset) or not isinstance(wanted, Collection) or not len(wanted):
        raise WindowError(f"{where}: {name}={wanted!r:.80}; give a list of names or numbers of features")
    if not rows.shape:
        raise WindowError(f"{where}: {name}={list(wanted)!r:.80}, but a row of inputs is a plain number: leave it out")
    return _distinct(name, [_place(name, one, rows, where) for one in wanted], where)


def _place(name: str, wanted: Any, rows: Rows, where: object) -> int:
    count, names = rows.shape[-1], rows.names or ()
    if isinstance(wanted, str):
        if wanted not in names:
            there = ", ".join(names[:20]) if names else "none has a name: give numbers"
            raise WindowError(f"{where}: {name} names {wanted!r:.80}; of the {count:,} features {there}")
        return names.index(wanted)
    if isinstance(wanted, bool | np.bool_):
        raise WindowError(f"{where}: {name} has {wanted!r}, as a mask has; np.flatnonzero(mask) gives its numbers")
    if not isinstance(wanted, int | np.integer) or not -count <= wanted < count:
        raise WindowError(f"{where}: {name} asks for feature {wanted!r:.80}; there are {count:,}, 0 to {count - 1:,}")
    return int(wanted) % count


def _distinct(name: str, places: list[int], where: object) -> tuple[int, ...]:
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise WindowError(f"{where}: {name} has feature {twice:,} twice; name each once")
    return tuple(places)
