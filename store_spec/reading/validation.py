"""Checks of numbers that users pass for windows: fractions, numbers, lengths of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError

INT64_MAX = 2**63 - 1
MOST_STEPS = 2**53  # float64 is exact up to here, and `steps` multiplies lengths by a fraction


def fraction_of(lengths: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return floor(lengths * fraction), the product rounded to six decimals.

    `np.round` is not used because it multiplies by a million, which is not exact for a product above 2**33.
    """
    product = lengths * fraction
    nearest = np.rint(product)
    return np.asarray(np.where(np.abs(product - nearest) <= 5e-7, nearest, np.floor(product)), np.int64)


def checked_fractions(steps: object) -> tuple[float, float]:
    """Check `steps`, and return it as a tuple of two floats."""
    if isinstance(steps, Sequence) and len(steps) == 2 and all(isinstance(bound, Real) for bound in steps):
        low, high = steps
        if 0 <= low < high <= 1:
            return float(low), float(high)
    raise WindowError(f"steps is {steps!r}; it must be (low, high) with 0 <= low < high <= 1, or None")


def step_counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return a copy as int64, one per sequence, each from 0 to 2**53."""
    counts = int64(name, values)
    if counts.flags.writeable:  # a read-only array cannot change later
        counts = counts.copy()
    if counts.ndim != 1:
        raise WindowError(f"{name} has shape {counts.shape}; it must be (sequences,)")
    wrong = (counts < 0) | (counts > MOST_STEPS)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise WindowError(f"{name}[{at:,}] is {counts[at]:,}; it must be from 0 to {MOST_STEPS:,}")
    return counts


def int64(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Convert integers to an int64 array."""
    array = np.asarray(values)
    if array.size == 0:  # NumPy makes an empty list float64
        return array.astype(np.int64)
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.max() > INT64_MAX):
        raise WindowError(f"{name} has dtype {array.dtype}; it must hold integers that fit int64")
    return array.astype(np.int64, copy=False)


def no_such(noun: str, number: int, count: int) -> str:
    """Return the text of an error that `number` is out of range."""
    there = f"there are {count:,}, so the last is {count - 1:,}" if count else "there are none"
    return f"{noun} {number:,} asked for, but {there}"
