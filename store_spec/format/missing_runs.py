"""Runs of rows that miss a value: found in rows, kept of each sequence, and read back with nothing taken on trust.

    rows    1.0  nan  nan  2.0  3.0 | nan  4.0        two sequences; row 5 begins the second one
    runs         [1, 3)             | [5, 6)          of the store, as `missing_inputs` has them
    runs         [1, 3)             | [0, 1)          of each sequence, as `SequenceRuns` has them

They follow from the rows, so that windows that touch a missing value can be told without reading any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import merged, spread

Runs = NDArray[np.int64]  # (runs, 2): the first row of each, and the one after its last


@dataclass(frozen=True, slots=True, eq=False)
class SequenceRuns:
    """Runs of some sequences that follow one another.

    Args:
        counts: Int64 (sequences,), how many each has.
        runs: Int64 (runs, 2), counted from each sequence's own first row.
    """

    counts: NDArray[np.int64]
    runs: Runs

    def __getitem__(self, sequences: slice) -> SequenceRuns:
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])
        start, stop, _ = sequences.indices(len(self.counts))
        return SequenceRuns(self.counts[start:stop], self.runs[ends[start] : ends[max(start, stop)]])

    @staticmethod
    def joined(several: Sequence[Runs]) -> SequenceRuns:
        """Join the runs of each of some sequences."""
        counts = np.array([len(runs) for runs in several], np.int64)
        return SequenceRuns(counts, np.concatenate([no_runs(), *several]))

    @staticmethod
    def concatenate(several: Sequence[SequenceRuns]) -> SequenceRuns:
        """Join those of sequences that follow one another; at least one."""
        return SequenceRuns(
            np.concatenate([each.counts for each in several]), np.concatenate([each.runs for each in several])
        )

    def shifted(self, starts: NDArray[np.int64]) -> Runs:
        """Return the runs counted from where these sequences begin: `starts`, int64 (sequences,)."""
        return self.runs + np.repeat(starts, self.counts)[:, None]


class RunningRuns:
    """The runs of the rows of one sequence that come piece by piece.

    >>> runs = RunningRuns()
    >>> for piece in ([1.0, np.nan], [np.nan], [2.0]):
    ...     runs.add(np.array(piece))
    >>> runs.result().tolist()
    [[1, 3]]
    """

    def __init__(self) -> None:
        self._rows, self._found = 0, [no_runs()]

    def add(self, rows: NDArray[Any]) -> None:
        """Take the next rows; they stay the caller's."""
        self._found.append(missing_runs(rows) + self._rows)
        self._rows += len(rows)

    def result(self) -> Runs:
        """Return the runs of all rows so far, as long as can be."""
        return cut_at(np.concatenate(self._found), np.array([0, self._rows]))


def no_runs() -> Runs:
    """Return the runs of rows that miss nothing."""
    return np.zeros((0, 2), np.int64)


def missing_runs(rows: NDArray[Any]) -> Runs:
    """Return the runs of rows that have a NaN.

    Args:
        rows: (rows, ...).

    Returns:
        Int64 (runs, 2), rising, with a row between each and the next.

    >>> missing_runs(np.array([[1.0, 2.0], [np.nan, 0.0], [np.nan, np.nan], [3.0, 4.0]])).tolist()
    [[1, 3]]
    """
    if rows.dtype.kind not in "fc":
        return no_runs()
    missing = np.isnan(rows).any(axis=tuple(range(1, rows.ndim)))
    edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
    return np.asarray(edges.reshape(-1, 2), np.int64)


def cut_at(runs: Runs, bounds: NDArray[np.int64]) -> Runs:
    """Return the same rows in runs that are as long as can be, each in one sequence.

    Args:
        runs: (runs, 2), rows of an array.
        bounds: (sequences + 1,), where the sequences of that array begin and end.

    >>> cut_at(np.array([[1, 3], [3, 7]]), np.array([0, 5, 5, 9])).tolist()
    [[1, 5], [5, 7]]
    """
    low, high = merged(runs[:, 0], runs[:, 1])
    first, last = (np.searchsorted(bounds, row, side="right") - 1 for row in (low, high - 1))
    sequence, run = spread(first, last + 1 - first), np.repeat(np.arange(len(low)), last + 1 - first)
    found = np.stack([np.maximum(low[run], bounds[sequence]), np.minimum(high[run], bounds[sequence + 1])], axis=1)
    return np.asarray(found[found[:, 0] < found[:, 1]], np.int64)


def wrong_run(runs: Runs, bounds: NDArray[np.int64]) -> tuple[int, str] | None:
    """Return the first run that cannot be one, and what is wrong with it; None where all can.

    Args:
        runs: (runs, 2), rows of an array.
        bounds: (sequences + 1,), where the sequences of that array begin and end.
    """
    start, stop = runs[:, 0], runs[:, 1]
    before = np.concatenate([np.zeros(1, np.int64), stop[:-1]])
    last = int(bounds[-1])
    # One after another, and each inside of what there is, before sequences are looked up.
    wrong = (start < before) | (stop <= start) | (stop > last)
    if wrong.any():
        at = int(np.argmax(wrong))
        what = "is empty" if stop[at] <= start[at] else f"does not lie in the {last:,} rows"
        if stop[at] > start[at] and start[at] < before[at]:
            what = f"begins before row {before[at]:,}, where the one before ends"
        return at, f"the run {start[at]:,} to {stop[at]:,} {what}"
    crosses = bounds[np.searchsorted(bounds, start, side="right").clip(max=len(bounds) - 1)] < stop
    if crosses.any():
        at = int(np.argmax(crosses))
        return at, f"the run {start[at]:,} to {stop[at]:,} crosses from one sequence to the next"
    return None


def runs_of_sequences(
    runs: Runs, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs of some sequences of a store, by the numbers that these have among those given.

    Args:
        runs: (runs, 2), of the store.
        starts: (sequences,), the row at which each begins, in any order.
        stops: (sequences,), the one after its last.

    Returns:
        (found,) which of the sequences each run is of, rising; and (found, 2) its rows, counted from that one's first.
    """
    first, after = (np.searchsorted(runs[:, 0], rows, side="left") for rows in (starts, stops))
    counts = np.maximum(after - first, 0)
    sequence = np.repeat(np.arange(len(starts)), counts)
    return sequence, runs[spread(first, counts)] - starts[sequence, None]
