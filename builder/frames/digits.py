"""Numbers in text that need more digits than float32 keeps: find and note them, or round them."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.table import Array, Table

_EXACT_POWER: Final = 22  # float64 holds the powers of ten up to this one
_POWERS: Final = 10.0 ** np.arange(_EXACT_POWER + 1)
_MOST_DIGITS: Final = 9  # float32 keeps hardly any value with more, by chance
_NEARLY: Final = 1e-6  # of half a unit of the last digit; a difference this close to it is computed exactly
_ALL_KEPT: Final = 2**23  # float32 keeps a decimal number if its digits, as a whole number, are below this


def needs_more_digits(values: Array) -> NDArray[np.bool_]:
    """Return a mask of the float64 values that float32 does not keep; NaN and infinities are kept.

    A value is kept if the nearest float32, written with as many digits as the value has, is the same number.

    >>> needs_more_digits(np.array([0.1, 1234.567, 116.318417, 2**24, 2**24 + 1])).tolist()
    [False, False, True, False, True]
    """
    kept = ~np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):
        # Most columns have few digits, so half a unit of their last digit exceeds the rounding error of float32.
        for decimals in (3, 6, 0):
            digits = np.rint(values * 10.0**decimals)
            kept |= (digits / 10.0**decimals == values) & (np.abs(digits) < _ALL_KEPT)
            if kept.all():
                return ~kept
        nearest = values.astype(np.float32).astype(np.float64)
        kept |= nearest == values
        lost = ~kept
        lost[~kept] = _differ(values[~kept], nearest[~kept])
    return lost


def _differ(values: Array, nearest: Array) -> NDArray[np.bool_]:
    """Return whether the nearest float32 of each value, which is inexact and not 0, differs in the value's digits."""
    exponents = np.floor(np.log10(np.abs(values))).astype(np.int64)
    decimals = np.clip(_MOST_DIGITS - 1 - exponents, -_EXACT_POWER, _EXACT_POWER)
    up, down = _POWERS[np.maximum(decimals, 0)], _POWERS[np.maximum(-decimals, 0)]
    scaled, off = values * up / down, np.abs(nearest - values) * up / down
    digits = np.rint(scaled)
    is_short = digits * down / up == values  # at most _MOST_DIGITS digits
    # Half a unit of the last digit of a short value, whose last digits can be 0; of other values, an upper bound.
    whole = np.where(is_short, digits, 1).astype(np.int64)
    half = np.where(is_short, 0.5, 0.05)
    for power in (10, 100, 1000):
        half[whole % power == 0] *= 10
    lost: NDArray[np.bool_] = off > half
    # What remains: very large and small values, ties, and values with more digits whose float32 is close by chance.
    unknown = np.abs(decimals) == _EXACT_POWER
    unknown |= ~(is_short | lost) | (np.abs(off / half - 1) < _NEARLY)
    for place in np.flatnonzero(unknown).tolist():
        lost[place] = _differs(float(values[place]), float(nearest[place]))
    return lost


def _differs(value: float, nearest: float) -> bool:
    digits = len(Decimal(repr(value)).normalize().as_tuple().digits)
    return float(f"{nearest:.{digits - 1}e}") != value


@dataclass(frozen=True, slots=True)
class ManyDigits:
    """Numbers in text with more digits than float32 keeps."""

    values: int = 0  # how many
    sources: int = 0  # in how many sources
    example: str = ""  # one of the numbers, with its column and source; empty if there are none

    def __add__(self, other: "ManyDigits") -> "ManyDigits":
        return ManyDigits(self.values + other.values, self.sources + other.sources, self.example or other.example)


NO_DIGITS: Final = ManyDigits()


@dataclass(slots=True)
class DigitNotes:
    """Notes the numbers with many digits while the text of a source is read."""

    found: ManyDigits | None = None  # None: no text was read

    def take(self, source: str = "") -> ManyDigits | None:
        """Return the notes on the source of this name, and clear them."""
        found, self.found = self.found, None
        return found and replace(found, example=found.example and f"{found.example} of {source}")

    def add(self, table: Table) -> None:
        """Note the values of the columns of a source, before they are rounded."""
        self.found = self.found or NO_DIGITS
        if table.block is not None and table.block.dtype == np.float64 and not needs_more_digits(table.block).any():
            return
        for name, column in table.columns.items():
            if column.dtype.kind not in "iuf" or not (lost := needs_more_digits(column.astype(np.float64))).any():
                continue
            value = str(column.reshape(-1)[lost.reshape(-1).argmax()].item()).removesuffix(".0")
            self.found += ManyDigits(int(lost.sum()), int(not self.found.values), f"{value} in column {name}")


def narrow(rows: Array, dtype: str | None) -> Array:
    """Round float64 to a dtype, if it is not None; return other rows unchanged."""
    if dtype is None or rows.dtype != np.float64:
        return rows
    with np.errstate(over="ignore"):
        rounded: Array = rows.astype(dtype)
    lost = np.isinf(rounded) & np.isfinite(rows)
    if lost.any():
        value = float(rows[lost][0])
        raise SourceError(
            f"{value!r} does not fit into {dtype}, which this store has because the first source has smaller numbers; "
            "build to another path with --dtype float64"
        )
    return rounded
