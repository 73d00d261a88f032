"""Facts about the rows of sequences that the tables record: checksums, moments, and first and last times."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.format.codec import crc32c, flat_bytes
from store_spec.format.moments import Moments, RunningMoments, moments_of_sequences
from store_spec.schema import MISSING_RUNS, MOMENTS, TABLES, Rows

WITH_MOMENTS = tuple(MISSING_RUNS)  # inputs and labels
_DERIVED = {array: tuple(f"stats/{array}_{moment}" for moment in MOMENTS) for array in WITH_MOMENTS}
_DERIVED["time"] = f"{TABLES}/time_first", f"{TABLES}/time_last"


def derived(array: str) -> tuple[str, ...]:
    """Return the tables that are computed from the rows of an array, besides its checksums."""
    return _DERIVED.get(array, ())


@dataclass(frozen=True, slots=True)
class RowFacts:
    """Facts about the rows of some sequences in one array."""

    crcs: NDArray[np.uint32]  # (sequences,), the crc32c of the rows of each
    moments: Moments | None = None  # (sequences, features), of inputs and labels
    ends: NDArray[np.int64] | None = None  # (2, sequences), the first and the last time; 0 for an empty sequence

    def columns(self, array: str) -> dict[str, NDArray[Any]]:
        """Return one row for each sequence, by the names of the tables."""
        values: tuple[NDArray[Any], ...] = () if self.ends is None else tuple(self.ends)
        if (found := self.moments) is not None:
            values = found.count, found.mean, found.m2, found.min, found.max
        return {f"{TABLES}/{array}_crc32c": self.crcs, **dict(zip(derived(array), values, strict=True))}


def describe_rows(array: str, rows: NDArray[Any], bounds: NDArray[np.int64]) -> RowFacts:
    """Return the facts of consecutive sequences of an array.

    `rows` are contiguous, and `bounds` is (sequences + 1,): where each sequence begins in them, and the last one ends.
    """
    if len(bounds) == 2:
        crcs = np.array([crc32c(rows)], np.uint32)
    else:
        data, size = flat_bytes(rows), rows.dtype.itemsize * rows[:1].size
        edges = pairwise((bounds * size).tolist())
        crcs = np.array([crc32c(data[start:stop]) for start, stop in edges], np.uint32)
    if array in WITH_MOMENTS:
        return RowFacts(crcs, moments_of_sequences(rows, bounds))
    if array != "time":
        return RowFacts(crcs)
    ends = np.zeros((2, len(bounds) - 1), np.int64)
    filled = bounds[:-1] < bounds[1:]
    ends[:, filled] = rows[bounds[:-1][filled]], rows[bounds[1:][filled] - 1]
    return RowFacts(crcs, ends=ends)


class RunningRows:
    """Describes one sequence of an array from pieces of its rows; the bits do not depend on where these are cut."""

    def __init__(self, array: str, of: Rows) -> None:
        self.length, self.first, self.last = 0, 0, 0  # first and last are of times
        self._array, self._crc = array, 0
        self._moments = RunningMoments(of.shape, of.dtype) if array in WITH_MOMENTS else None

    def add(self, rows: NDArray[Any]) -> None:
        """Add the next rows; no reference to them is kept."""
        self._crc = crc32c(rows, self._crc)
        if self._moments is not None:
            self._moments.add(rows)
        if self._array == "time" and len(rows):
            self.first = self.first if self.length else int(rows[0])
            self.last = int(rows[-1])
        self.length += len(rows)

    def result(self) -> RowFacts:
        """Return the facts of all rows; none can be added afterwards."""
        crcs = np.array([self._crc], np.uint32)
        if self._moments is not None:
            return RowFacts(crcs, self._moments.result().as_row())
        ends = np.array([[self.first], [self.last]], np.int64)
        return RowFacts(crcs, ends=ends if self._array == "time" else None)
