"""Ranges of a store's rows that are in memory one after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FEW_MORE = 8  # one row in 8 may be unneeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of rows, ascending and not overlapping."""

    start: Ints  # (ranges,), the first row of each range
    stop: Ints  # (ranges,), the row after its last
    before: Ints  # (ranges,), how many rows of other ranges come before it

    @property
    def rows(self) -> int:
        """The number of rows in all ranges."""
        return int(self.before[-1] + self.stop[-1] - self.start[-1]) if len(self.before) else 0

    def between(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """Return the parts of ranges between two rows: first row, row after the last, and position in memory."""
        first = int(np.searchsorted(self.stop, low, side="right"))
        after = int(np.searchsorted(self.start, high, side="left"))
        some = (each[first:after].tolist() for each in (self.start, self.stop, self.before))
        # Plain Python: for a few numbers NumPy takes longer.
        return [
            (max(low, start), min(stop, high), before + max(0, low - start))
            for start, stop, before in zip(*some, strict=True)
        ]

    def places(self, rows: Ints) -> Ints:
        """Return the positions in memory of rows of the store."""
        each = np.searchsorted(self.start, rows, side="right") - 1
        return np.asarray(rows - self.start[each] + self.before[each], np.int64)


def join_ranges(start: Ints, stop: Ints, room: int, chunk: int) -> tuple[Ints, Ints]:
    """Join ranges by including unneeded rows between them, as far as there is room.

    Rows that are read in one piece are decompressed directly into their place; separate pieces are copied there. Only
    gaps of less than a chunk are included, so no additional chunk is read.
    """
    if not len(start):
        return start, stop
    room = min(room, int((stop - start).sum()) // FEW_MORE)
    gaps = start[1:] - stop[:-1]
    smallest = np.argsort(gaps, kind="stable")
    fit = smallest[(np.cumsum(gaps[smallest]) <= room) & (gaps[smallest] < chunk)]
    apart = np.ones(len(gaps), bool)
    apart[fit] = False
    return start[np.concatenate(([True], apart))], stop[np.concatenate((apart, [True]))]
