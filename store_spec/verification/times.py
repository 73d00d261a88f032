"""Hold the times of sequences against their order, and against the first and last ones that the tables have."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from store_spec.format.records import derived
from store_spec.format.times import NOT_A_TIME, first_fall
from store_spec.verification.reading import PartRows


class Times(NamedTuple):
    """What the times of a sequence are: zeros where it has no steps."""

    first: int = 0
    last: int = 0
    steps: int = 0
    wrong: str = ""  # empty: nothing


def further(before: Times, times: NDArray[np.int64]) -> Times:
    """Return what the times of a sequence are, from what those before were, and the next ones.

    >>> further(further(Times(), np.array([3, 5])), np.array([4]))
    Times(first=3, last=4, steps=3, wrong='time falls at step 2, from 5 to 4')
    """
    if not len(times):
        return before
    first, last, steps, wrong = before
    joined = np.concatenate([np.array([last], np.int64), times]) if steps else times
    step, none = first_fall(joined), times == NOT_A_TIME
    if step is not None and not wrong:
        at = steps + step - bool(steps)
        wrong = f"time falls at step {at:,}, from {joined[step - 1]} to {joined[step]}"
    if none.any() and not wrong:
        wrong = f"step {steps + int(none.argmax()):,} has no time"
    return Times(first if steps else int(times[0]), int(times[-1]), steps + len(times), wrong)


class TimesCheck:
    """Checks the times of some sequences that follow one another; `MomentsCheck` does so for other rows.

    Args:
        rows: The part that they are in.
        start: Number of the first sequence.
        stop: The one after the last.
    """

    readable = True  # whether the tables can have what is to be compared

    def __init__(self, rows: PartRows, start: int, stop: int) -> None:
        self.start, self.stop = start, stop
        self._rows = rows
        self._found = [Times()] * (stop - start)

    def add(self, number: int, ends: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Take the next times.

        Args:
            number: The sequence that the first of them is of.
            ends: Where that one and those after it end, counted in these; the last may be behind them.
            rows: (rows,).
        """
        begin = 0
        for at, end in enumerate(ends.tolist(), number - self.start):
            self._found[at] = further(self._found[at], rows[begin:end])
            begin = end

    def compare(self, numbers: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        """Report what is wrong with sequences, all of whose times were added.

        Args:
            numbers: The sequences, rising.
            right: Whether each has its checksum; of others the tables are not held against the rows.
        """
        found = [self._found[number - self.start] for number in numbers.tolist()]
        for at, name in enumerate(derived("time")):
            values, known = (each[numbers - self.start] for each in self._rows.table(name).rows(self.start, self.stop))
            computed = np.array([times[at] for times in found], np.int64)
            for place in np.flatnonzero((values != computed) & known & right).tolist():
                what = f"has {values[place]}, where its rows give {computed[place]}"
                self._rows.wrong_table(name, int(numbers[place]), what, "times")
        for number, times in zip(numbers.tolist(), found, strict=True):
            if times.wrong:
                self._rows.wrong_sequence(number, times.wrong, "order")
