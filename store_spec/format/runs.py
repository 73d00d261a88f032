"""Runs of consecutive numbers: arithmetic on their bounds, and the runs of rows that have a missing value.

    rows    1.0  nan  nan  2.0  3.0 | nan  4.0        two sequences; the second starts at row 5
    runs         [1, 3)             | [5, 6)          of the store, as in `missing_inputs`
    runs         [1, 3)             | [0, 1)          of each sequence, as in `SequenceRuns`

With these runs a reader can skip windows that have a missing value without reading any rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Integer = TypeVar("Integer", bound=np.signedinteger)

Ints = NDArray[np.int64]
Runs = NDArray[np.int64]  # (runs, 2): the first row of each run, and the row after its last


def bounds_of(counts: NDArray[Any]) -> Ints:
    """Return (counts + 1,): the sum of the counts before each, then that of all.

    >>> bounds_of(np.array([3, 0, 2])).tolist()
    [0, 3, 3, 5]
    """
    bounds = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=bounds[1:])
    return bounds


def spread(first: NDArray[Integer], counts: NDArray[np.int64], step: int = 1) -> NDArray[Integer]:
    """Return `first[i]`, `first[i] + step`, ... (`counts[i]` of them) for each i, of the dtype of `first`.

    >>> spread(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    dtype = first.dtype
    numbers = np.arange(int(counts.sum()), dtype=dtype)
    numbers -= np.repeat((np.cumsum(counts) - counts).astype(dtype), counts)
    numbers *= dtype.type(step)
    numbers += np.repeat(first, counts)
    return numbers


def merged(low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Merge ranges that overlap or touch, and return them in ascending order.

    >>> merged(np.array([7, 0, 2]), np.array([9, 2, 4]))
    (array([0, 7]), array([4, 9]))
    """
    if not len(low):
        return low, high
    by_low = np.argsort(low, kind="stable")
    low, reached = low[by_low], np.maximum.accumulate(high[by_low])
    apart = np.flatnonzero(low[1:] > reached[:-1]) + 1
    return low[np.concatenate(([0], apart))], reached[np.concatenate((apart - 1, [len(low) - 1]))]


def split_at(bounds: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Divide ranges of numbers, none of them empty, at the bounds of parts, (parts + 1,).

    For each piece it returns the range and the part that it is of, its first number, and the one after its last.

    >>> [each.tolist() for each in split_at(np.array([0, 5, 9]), np.array([1, 6]), np.array([7, 8]))]
    [[0, 0, 1], [0, 1, 1], [1, 5, 6], [5, 7, 8]]
    """
    first, last = (np.searchsorted(bounds, at, side="right") - 1 for at in (low, high - 1))
    counts = last + 1 - first
    of, part = np.repeat(np.arange(len(low)), counts), spread(first, counts)
    return of, part, np.maximum(low[of], bounds[part]), np.minimum(high[of], bounds[part + 1])


@dataclass(frozen=True, slots=True, eq=False)
class SequenceRuns:
    """Runs of consecutive sequences."""

    counts: NDArray[np.int64]  # (sequences,), the number of runs of each sequence
    runs: Runs  # rows are counted from the first row of the sequence

    def __getitem__(self, sequences: slice) -> SequenceRuns:
        ends = bounds_of(self.counts)
        start, stop, _ = sequences.indices(len(self.counts))
        return SequenceRuns(self.counts[start:stop], self.runs[ends[start] : ends[max(start, stop)]])

    @staticmethod
    def concatenate(several: Sequence[SequenceRuns]) -> SequenceRuns:
        """Join the runs of consecutive sequences; `several` has at least one item."""
        return SequenceRuns(
            np.concatenate([each.counts for each in several]), np.concatenate([each.runs for each in several])
        )

    def shifted(self, starts: NDArray[np.int64]) -> Runs:
        """Return the runs as rows of an array in which the sequences start at `starts`, int64 (sequences,)."""
        return self.runs + np.repeat(starts, self.counts)[:, None]


def no_runs() -> Runs:
    """Return an empty array of runs."""
    return np.zeros((0, 2), np.int64)


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """Return the runs of True, ascending, with at least one False between two runs.

    >>> runs_of(np.array([False, True, True, False, True])).tolist()
    [[1, 3], [4, 5]]
    """
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return np.asarray(edges.reshape(-1, 2), np.int64)


def missing_runs(rows: NDArray[Any]) -> Runs:
    """Return the runs of rows (rows, ...) that have a NaN, ascending, with at least one row between two runs.

    >>> missing_runs(np.array([[1.0, 2.0], [np.nan, 0.0], [np.nan, np.nan], [3.0, 4.0]])).tolist()
    [[1, 3]]
    """
    if rows.dtype.kind not in "fc":
        return no_runs()
    return runs_of(np.isnan(rows).any(axis=tuple(range(1, rows.ndim))))


def cut_at(runs: Runs, bounds: NDArray[np.int64]) -> Runs:
    """Return runs of the same rows, each in one sequence and as long as possible; `bounds` are of the sequences.

    >>> cut_at(np.array([[1, 3], [3, 7]]), np.array([0, 5, 5, 9])).tolist()
    [[1, 5], [5, 7]]
    """
    _, _, low, high = split_at(bounds, *merged(runs[:, 0], runs[:, 1]))
    return np.stack([low, high], axis=1)[low < high]


def wrong_run(runs: Runs, bounds: NDArray[np.int64]) -> tuple[int, str] | None:
    """Return the number of the first invalid run, and what is wrong with it; None if all are valid."""
    start, stop = runs[:, 0], runs[:, 1]
    before = np.concatenate([np.zeros(1, np.int64), stop[:-1]])
    ends = bounds[np.searchsorted(bounds, start, side="right").clip(max=len(bounds) - 1)]  # of their sequences
    wrong = (start < before) | (stop <= start) | (stop > ends)
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    what = f"ends after row {ends[at]:,}, the end of its sequence"
    if stop[at] <= start[at]:
        what = "is empty"
    elif start[at] < before[at]:
        what = f"begins before row {before[at]:,}, where the one before ends"
    return at, f"the run {start[at]:,} to {stop[at]:,} {what}"


def runs_of_sequences(
    runs: Runs, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the runs of sequences with the rows `starts` to `stops`, (sequences,) each, in any order.

    For each run it returns the sequence as a position in `starts`, ascending; and the rows as (runs, 2), counted from
    the first row of the sequence.
    """
    first, after = (np.searchsorted(runs[:, 0], rows, side="left") for rows in (starts, stops))
    counts = np.maximum(after - first, 0)
    sequence = np.repeat(np.arange(len(starts)), counts)
    return sequence, runs[spread(first, counts)] - starts[sequence, None]
