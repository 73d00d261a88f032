"""The problems that `verify` finds in a store, one line for each."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, starmap
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np

from store_spec.disk.places import Address
from store_spec.errors import StoreError
from store_spec.format.names import shown
from store_spec.format.retired import Ranges
from store_spec.format.runs import merged

RETIRED = "; all of these are retired, so readers skip them: this is not a failure, and `seqzarr compact` removes them"
NAMED_SEQUENCES = 3  # that the text of a problem names


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a store; as text, one line.

    Args:
        store: The store's name.
        where: The file or folder, relative to the store; empty for the store itself.
        what: What is wrong with it, what to do, and which sequences it concerns.
        sequences: Ranges of the numbers of those sequences: the first, and the one after the last.
        sources: The names of their sources, each once, if they can be read.
        kind: The kind of a problem that several sequences of a file may have, which are counted together; else empty.
        retired: Whether all of `sequences` are retired, so that readers skip them, unless they opened the store before.
        leftover: Whether an interrupted writer left this. Committed data are right, and the next writer repairs it
            when it opens the store.
    """

    store: str
    where: str
    what: str
    sequences: Ranges = ()
    sources: tuple[str, ...] = ()
    kind: str = ""
    retired: bool = False
    leftover: bool = False

    def __str__(self) -> str:
        return f"{PurePosixPath(self.store, self.where)}: {self.what}"


class ProblemList:
    """Collects problems, with one entry for all sequences that have the same problem in the same file.

    It can be pickled, so that several processes collect.
    """

    def __init__(self, root: Path | Address) -> None:
        self._root = root
        self._groups: dict[tuple[str, str], _Group] = {}  # by file, and kind or text

    def add(self, where: str, what: str, *, kind: str = "", sequences: Ranges = (), leftover: bool = False) -> bool:
        """Add a problem; further ones of the same `kind` in the same file are only counted.

        Args:
            where: The file.
            what: What is wrong.
            kind: As in `Problem`; by default, problems with the same text are of one kind.
            sequences: The sequences that it concerns.
            leftover: See `Problem`.

        Returns:
            Whether it is the first of its kind.
        """
        group = self._groups.get((where, kind or what))
        new = group is None
        if group is None:
            name = self._root.name or Path(self._root).resolve().name
            group = _Group(Problem(store=name, where=where, what=what, kind=kind, leftover=leftover))
            self._groups[where, kind or what] = group
        group.times += bool(kind)
        group.sequences += sequences
        return new

    def error(self, error: StoreError, sequences: Ranges = ()) -> bool:
        """Add an error, whose text begins with the path of a file; return whether it is new."""
        text = getattr(error, "strerror", None) or str(error)
        inside = text.startswith(f"{self._root}/")
        where, _, what = text.removeprefix(f"{self._root}/" if inside else str(self._root)).partition(": ")
        return self.add(where, what, sequences=sequences)

    def take(self, other: Self) -> None:
        """Add the problems of another list."""
        for key, group in other._groups.items():
            mine = self._groups.setdefault(key, _Group(group.problem))
            mine.times += group.times
            mine.sequences += group.sequences

    @property
    def count(self) -> int:
        """The number of problems."""
        return len(self._groups)

    def problems(self, names: Sequence[str] | None = None, retired_ranges: Ranges = ()) -> list[Problem]:
        """Return all problems in the order in which they were added.

        Args:
            names: The source of each sequence; None if they cannot be read.
            retired_ranges: The sequences that are retired.
        """
        return [_completed(group, () if names is None else names, retired_ranges) for group in self._groups.values()]


@dataclass(slots=True)
class _Group:
    problem: Problem  # the first of its kind, without sequences
    times: int = 0
    sequences: list[tuple[int, int]] = field(default_factory=list)  # of all


def _completed(group: _Group, names: Sequence[str], retired_ranges: Ranges) -> Problem:
    """Complete the text of a problem: how often it was found, or which sequences it concerns."""
    low, high = merged(*np.array(group.sequences, np.int64).reshape(-1, 2).T)
    problem, sequences = group.problem, tuple(zip(low.tolist(), high.tolist(), strict=True))
    if not sequences:
        more = f" ({group.times - 1:,} more like this)" if group.times > 1 else ""
        return replace(problem, what=f"{problem.what}{more}")
    count = sum(stop - start for start, stop in sequences)
    numbers = islice(chain.from_iterable(starmap(range, sequences)), NAMED_SEQUENCES)
    named = [f"{number:,}" + (f" ({shown(names[number])})" if number < len(names) else "") for number in numbers]
    which = f"sequence {named[0]}" if count == 1 else f"{count:,} sequences: {', '.join(named)}"
    more = ", ..." if count > len(named) else ""
    of = (names[number] for start, stop in sequences for number in range(start, min(stop, len(names))))
    gone = _within(sequences, retired_ranges)
    return replace(
        problem,
        what=f"{problem.what}; concerns {which}{more}" + (RETIRED if gone else ""),
        retired=gone,
        sequences=sequences,
        sources=tuple(dict.fromkeys(of)),
    )


def _within(ranges: Ranges, others: Ranges) -> bool:
    """Return whether all of these ranges are within the others; both ascend with gaps between them."""
    starts = [start for start, _ in others]
    places = [(bisect_right(starts, start) - 1, stop) for start, stop in ranges]
    return all(place >= 0 and stop <= others[place][1] for place, stop in places)
