"""Checks of numbers that users pass for windows: fractions, numbers, lengths of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceIndexError, WindowError

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
    counts = np.asarray(values)
    if counts.size and (counts.dtype.kind not in "iu" or (counts.dtype == np.uint64 and counts.max() > INT64_MAX)):
        raise WindowError(f"{name} has dtype {counts.dtype}; it must hold integers that fit int64")
    counts = counts.astype(np.int64, copy=False)
    if counts.flags.writeable:  # a read-only array cannot change later
        counts = counts.copy()
    if counts.ndim != 1:
        raise WindowError(f"{name} has shape {counts.shape}; it must be (sequences,)")
    wrong = (counts < 0) | (counts > MOST_STEPS)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise WindowError(f"{name}[{at:,}] is {counts[at]:,}; it must be from 0 to {MOST_STEPS:,}")
    return counts


def positions(
    noun: str, numbers: ArrayLike, count: int, where: object, *, ndim: int | None = None, advice: str = ""
) -> NDArray[np.int64]:
    """Return the positions of some of `count` things by their numbers; negative ones count from the end.

    `noun` says what the things are, `where` is the store, and `ndim` the dimensions that `numbers` must have.
    """
    values = np.asarray(numbers)
    if not values.size:  # NumPy makes an empty list float64
        values = values.astype(np.int64)
    whole = values.dtype.kind in "iu" and ndim in (None, values.ndim)
    absent = (values < -count) | (values >= count) if whole else np.ones(values.shape, bool)
    if not whole or absent.any():
        wrong = f"{int(values[absent][0]):,}" if whole else f"{numbers!r:.80}"
        raise SequenceIndexError(
            f"{where}: {noun} {wrong} asked for, but there are {count:,}, by whole numbers from 0{advice}"
        )
    values = values.astype(np.int64, copy=False)
    return np.where(values < 0, values + count, values)
