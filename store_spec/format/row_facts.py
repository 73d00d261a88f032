"""Facts about the rows of sequences that the tables record: checksums, moments, and first and last times."""

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


def describe_rows(array: str, rows: NDArray[Any], bounds: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the facts about consecutive sequences of an array, one row for each, by the names of the tables.

    `rows` are contiguous, and `bounds` is (sequences + 1,): where each sequence begins in them, and the last one ends.
    """
    if len(bounds) == 2:
        crcs = [crc32c(rows)]
    else:
        data, size = flat_bytes(rows), rows.dtype.itemsize * rows[:1].size
        crcs = [crc32c(data[start:stop]) for start, stop in pairwise((bounds * size).tolist())]
    columns: dict[str, NDArray[Any]] = {f"{TABLES}/{array}_crc32c": np.array(crcs, np.uint32)}
    if array in WITH_MOMENTS:
        columns |= _moment_columns(array, moments_of_sequences(rows, bounds))
    if array == "time":
        ends = np.zeros((2, len(bounds) - 1), np.int64)  # 0 for an empty sequence
        filled = bounds[:-1] < bounds[1:]
        ends[:, filled] = rows[bounds[:-1][filled]], rows[bounds[1:][filled] - 1]
        columns |= zip(derived("time"), ends, strict=True)
    return columns


def _moment_columns(array: str, moments: Moments) -> dict[str, NDArray[Any]]:
    return {f"stats/{array}_{name}": getattr(moments, name) for name in MOMENTS}


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

    def result(self) -> dict[str, NDArray[Any]]:
        """Return the facts about all rows, as `describe_rows` does; none can be added afterwards."""
        columns: dict[str, NDArray[Any]] = {f"{TABLES}/{self._array}_crc32c": np.array([self._crc], np.uint32)}
        if self._moments is not None:
            columns |= _moment_columns(self._array, self._moments.result().as_row())
        if self._array == "time":
            columns |= zip(derived("time"), np.array([[self.first], [self.last]], np.int64), strict=True)
        return columns
