"""Ranges of a store's rows that lie in memory one after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

FEW_MORE = 8  # one row in so many may be one that nobody needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of rows, ascending and apart from each other.

    Args:
        start: (ranges,), the first row of each.
        stop: (ranges,), the row after its last.
        before: (ranges,), how many rows come before it.
    """

    start: Ints
    stop: Ints
    before: Ints

    @property
    def rows(self) -> int:
        """Rows of all."""
        return int(self.before[-1] + self.stop[-1] - self.start[-1]) if len(self.before) else 0

    def between(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """Return what of each lies between two rows: its first row, the one after its last, and its place in memory."""
        first = int(np.searchsorted(self.stop, low, side="right"))
        after = int(np.searchsorted(self.start, high, side="left"))
        some = (each[first:after].tolist() for each in (self.start, self.stop, self.before))
        # Not by NumPy, which takes longer to begin with a few numbers than all of this.
        return [
            (max(low, start), min(stop, high), before + max(0, low - start))
            for start, stop, before in zip(*some, strict=True)
        ]

    def places(self, rows: Ints) -> Ints:
        """Return where rows of the store lie in memory."""
        each = np.searchsorted(self.start, rows, side="right") - 1
        return np.asarray(rows - self.start[each] + self.before[each], np.int64)


def join_ranges(start: Ints, stop: Ints, room: int, chunk: int) -> tuple[Ints, Ints]:
    """Return ranges that hold these, with rows between them that nobody needs as far as there is room for them.

    Rows that are read in one piece are decompressed where they are to lie; of others each piece is copied there.
    Of less than a chunk, each row lies in a chunk with one that is needed: no further chunk is read.
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
