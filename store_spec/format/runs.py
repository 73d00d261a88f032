"""Arithmetic on ranges of numbers."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Integer = TypeVar("Integer", bound=np.signedinteger)


def spread(first: NDArray[Integer], counts: NDArray[np.int64], step: int = 1) -> NDArray[Integer]:
    """Return `first[i]`, `first[i] + step`, ... (`counts[i]` of them) for each i, of the dtype of `first`.

    >>> spread(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    dtype = first.dtype
    numbers = np.arange(int(counts.sum()), dtype=dtype)
    numbers -= np.repeat((np.cumsum(counts) - counts).astype(dtype), counts)
    numbers *= dtype.type(step)
    numbers += np.repeat(first, counts)
    return numbers


def merged(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Merge ranges that overlap or touch, and return them in ascending order.

    >>> merged(np.array([7, 0, 2]), np.array([9, 2, 4]))
    (array([0, 7]), array([4, 9]))
    """
    if not len(low):
        return low, high
    by_low = np.argsort(low, kind="stable")
    low, reached = low[by_low], np.maximum.accumulate(high[by_low])
    apart = np.flatnonzero(low[1:] > reached[:-1]) + 1
    return low[np.concatenate(([0], apart))], reached[np.concatenate((apart - 1, [len(low) - 1]))]
