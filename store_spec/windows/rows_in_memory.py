"""Which rows of a store are in memory: ranges of them, and a cache between epochs, if all rows of the windows fit."""

import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import Ints, bounds_of, merged, spread

FEW_MORE = 8  # one row in 8 may be unneeded, when ranges are joined
MOST_IDLE = 4  # caches that are kept between epochs: for training, validation, testing, and one more


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Ranges of rows, ascending and not overlapping."""

    start: Ints  # (ranges,), the first row of each range
    stop: Ints  # (ranges,), the row after its last
    before: Ints = field(init=False)  # (ranges,), how many rows of other ranges come before it

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", bounds_of(self.stop - self.start)[:-1])

    @property
    def rows(self) -> int:
        """The number of rows in all ranges."""
        return int((self.stop - self.start).sum())

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


@dataclass(slots=True, kw_only=True, eq=False)
class CachedRows:
    """All rows that windows may use, as far as they have been read. Rows that have been read are never overwritten."""

    ranges: Ranges  # the rows of the store for which there is space
    space: dict[str, NDArray[Any]] = field(default_factory=dict)  # the converted rows, by the names of columns
    loaded: dict[str, Ints] = field(default_factory=dict)  # by array of the store, the chunks that have been read

    @property
    def chunks(self) -> int:
        """How many chunks have been read."""
        return sum(map(len, self.loaded.values()))

    def missing(self, array: str, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return the parts of these ranges of chunks, which ascend and do not overlap, that have not been read."""
        chunks = np.setdiff1d(spread(low, high - low), self.loaded.get(array, ()))
        return merged(chunks, chunks + 1)

    def add(self, array: str, low: Ints, high: Ints) -> None:
        """Record that these ranges of chunks have been read."""
        chunks = spread(low, high - low)
        self.loaded[array] = np.union1d(self.loaded.get(array, chunks), chunks)


class RowCache:
    """Keeps rows between epochs. An epoch takes them out, so that no other epoch can change them meanwhile."""

    def __init__(self) -> None:
        self._idle: list[CachedRows] = []

    def take(self) -> CachedRows | None:
        """Remove the cached rows and return them; None if there are none."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def give_back(self, rows: CachedRows) -> None:
        """Cache these rows, or those of another epoch if more of them have been read; drop the oldest other cache."""
        self._idle[:] = [max([rows, *self._idle], key=lambda one: one.chunks)]
        _RECENT.pop(id(self), None)
        _RECENT[id(self)] = weakref.ref(self)
        for number in list(_RECENT)[:-MOST_IDLE]:
            reference = _RECENT.pop(number, None)
            if reference is not None and (other := reference()) is not None:
                other.drop()

    def drop(self) -> None:
        """Drop all rows."""
        self._idle.clear()


# By id, the caches that were used last: the oldest first.
_RECENT: dict[int, weakref.ref[RowCache]] = {}
