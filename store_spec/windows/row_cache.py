"""Rows of windows that stay in memory from one epoch to the next, where all of them fit what an epoch may take."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.windows.ranges import Ints, Ranges

MOST_IDLE = 4  # windows that keep rows between their epochs: for training, validation, testing, and one more


@dataclass(slots=True, kw_only=True, eq=False)
class CachedRows:
    """All rows that windows may take, as far as they have been read. What is there is never written again.

    Args:
        ranges: Which rows of the store there is room for.
        space: Room for what is given of each, by the names of columns.
        there: (chunks,) for each array in the store, which of its chunks have been read.
    """

    ranges: Ranges
    space: dict[str, NDArray[Any]] = field(default_factory=dict)
    there: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def chunks(self) -> int:
        """How many chunks have been read."""
        return sum(int(there.sum()) for there in self.there.values())

    def missing(self, array: str, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Return which of these ranges of chunks, ascending and apart, have not been read."""
        there = self.there.get(array, np.zeros(0, bool))
        wanted = np.zeros(int(high.max(initial=0)) + 1, bool)  # the last one never is
        for begin, end in zip(low.tolist(), high.tolist(), strict=True):
            wanted[begin:end] = True
        wanted[: len(there)] &= ~there[: len(wanted)]
        edges = np.diff(wanted, prepend=False)
        bounds = np.flatnonzero(edges)
        return bounds[::2], bounds[1::2]

    def add(self, array: str, low: Ints, high: Ints) -> None:
        """Note that these ranges of chunks have been read."""
        there = self.there.get(array, np.zeros(0, bool))
        self.there[array] = there = np.append(there, np.zeros(max(0, int(high.max(initial=0)) - len(there)), bool))
        for begin, end in zip(low.tolist(), high.tolist(), strict=True):
            there[begin:end] = True


class RowCache:
    """Keeps the rows of windows between epochs. An epoch takes them, so that no other one fills them meanwhile."""

    def __init__(self) -> None:
        self._idle: list[CachedRows] = []

    def take(self) -> CachedRows | None:
        """Return what is kept, which nobody else gets before it is given back; None if there is nothing."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def give_back(self, kept: CachedRows) -> None:
        """Keep these, or those that were given back meanwhile if more is there, until others have kept theirs since."""
        self._idle[:] = [max([kept, *self._idle], key=lambda one: one.chunks)]
        _RECENT.pop(id(self), None)
        _RECENT[id(self)] = weakref.ref(self)
        for number in list(_RECENT)[:-MOST_IDLE]:
            reference = _RECENT.pop(number, None)
            if reference is not None and (other := reference()) is not None:
                other.drop()

    def drop(self) -> None:
        """Keep nothing."""
        self._idle.clear()


# By id, the last that were given something: the oldest first.
_RECENT: dict[int, weakref.ref[RowCache]] = {}
