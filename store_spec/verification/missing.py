"""Hold the rows of sequences that miss a value against the runs that the tables have of them; what was filled in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.format.missing_runs import Runs, cut_at, missing_runs, no_runs
from store_spec.format.records import surely_finite
from store_spec.schema import MISSING_RUNS
from store_spec.verification.reading import PartRows


class MissingCheck:
    """Checks the runs of one part. One may go on from piece to piece, so they are compared at the end.

    Args:
        rows: The part: inputs or labels.
        said: (runs, 2), what the table says of it.
    """

    def __init__(self, rows: PartRows, said: Runs) -> None:
        self._rows, self._said = rows, said
        self._found: list[Runs] = [no_runs()]
        self._right: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]  # sequences that have their checksum

    def add(self, start: int, rows: NDArray[Any]) -> None:
        """Take the next rows that can be read; the first of them is row `start` of the array."""
        if not surely_finite(rows):
            self._found.append(missing_runs(rows) + start)

    def compare(self, numbers: NDArray[np.int64]) -> None:
        """Take note that these sequences, all of whose rows were added, have their checksum."""
        self._right.append(numbers)

    def finish(self) -> None:
        """Report the sequences of which the table says something else than their rows do."""
        part = self._rows.part
        assert part.bounds is not None
        found = cut_at(np.concatenate(self._found), part.bounds)
        if np.array_equal(found, self._said):
            return
        ours, theirs = (set(map(tuple, runs.tolist())) for runs in (found, self._said))
        differ = sorted(ours ^ theirs)
        starts = np.array([start for start, _ in differ], np.int64)
        of = part.first + np.searchsorted(part.bounds, starts, side="right") - 1
        wrong = np.flatnonzero(np.isin(of, np.concatenate(self._right)))
        if not len(wrong):
            return  # of rows that are damaged themselves
        run = differ[int(wrong[0])]
        is_there = "lacks a run that its rows have" if run in ours else "has a run that its rows have not"
        what = f"{is_there}: {run[0]:,} to {run[1]:,} of {part.array} that miss a value; restore or rebuild it"
        sequences = tuple((number, number + 1) for number in np.unique(of[wrong]).tolist())
        self._rows.report.add(MISSING_RUNS[part.array], what, kind="missing", sequences=sequences)


class FilledCheck:
    """Checks which values of some sequences were filled in: of that the tables have the checksums alone.

    Args:
        rows: The part that they are in.
        start: Number of the first sequence.
        stop: The one after the last.
    """

    readable = True  # whether the tables can have what is to be compared

    def __init__(self, rows: PartRows, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self._rows = rows
        self._wrong: set[int] = set()

    def add(self, number: int, ends: NDArray[np.int64], rows: NDArray[np.bool_]) -> None:
        """Take the next rows.

        Args:
            number: The sequence that the first of them is of.
            ends: Where that one and those after it end, counted in these; the last may be behind them.
            rows: (rows, *feature shape).
        """
        odd = (rows.view(np.uint8) > 1).any(axis=tuple(range(1, rows.ndim)))
        of = number + np.searchsorted(ends, np.flatnonzero(odd), side="right")
        self._wrong |= set(of.tolist())

    def compare(self, numbers: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        """Report bytes that are no bool, of sequences that have their checksums; as `TimesCheck`."""
        for number in numbers[right].tolist():
            if number in self._wrong:
                self._rows.wrong_sequence(number, "a bool is neither 0 nor 1", "bool")
