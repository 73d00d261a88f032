"""Ranges of retired sequences, as in the root document.

The rows of a retired sequence stay in the store, so a snapshot that was opened earlier can still read them.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import FormatError

Ranges = tuple[tuple[int, int], ...]  # the first number, and the one after the last; ascending, with gaps between


def add(ranges: Ranges, numbers: Iterable[int]) -> Ranges:
    """Return the ranges with some numbers added.

    >>> add(((0, 2),), [5, 2, 1])
    ((0, 3), (5, 6))
    """
    every = np.union1d(np.fromiter(numbers, np.int64), members(ranges))
    cuts = np.flatnonzero(np.diff(every) != 1) + 1
    runs = np.split(every, cuts) if len(every) else []
    return tuple((int(run[0]), int(run[-1]) + 1) for run in runs)


def members(ranges: Ranges) -> NDArray[np.int64]:
    """Return the numbers in the ranges, ascending."""
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(start, stop) for start, stop in ranges)])


def count(ranges: Ranges) -> int:
    """Return how many numbers are in the ranges."""
    return sum(stop - start for start, stop in ranges)


def others(ranges: Ranges, sequences: int) -> NDArray[np.int64]:
    """Return the numbers below `sequences` that are in no range, ascending.

    >>> others(((0, 2), (3, 4)), 6).tolist()
    [2, 4, 5]
    """
    return np.delete(np.arange(sequences), members(ranges))


def decode(value: Any, sequences: int, where: str) -> Ranges:
    """Read ranges of sequence numbers from JSON: a list of pairs, ascending, with gaps, up to the last sequence."""
    if not isinstance(value, list):
        raise FormatError(f"{where}: retired is {value!r:.80}, not a list of ranges")
    before = -1
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair)):
            raise FormatError(f"{where}: retired holds {pair!r:.80}, which is not a pair of whole numbers")
        start, stop = pair
        if not before < start < stop <= sequences:
            raise FormatError(
                f"{where}: retired: the range {start:,} to {stop:,} is empty, does not follow the one before with a "
                f"gap, or ends behind the last of {sequences:,} sequences"
            )
        before = stop
    return tuple((start, stop) for start, stop in value)
