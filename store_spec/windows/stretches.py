"""Which windows are left out since they touch rows that miss a value: arithmetic over runs of such rows.

    steps      0  1  2  3  4  5  6  7  8  9 10 11        a sequence of 12 steps, of which step 5 misses a value
                              ?
    starts     0  1  2  .  .  .  6  7  8                 window=3, horizon=1: 3, 4 and 5 would take step 5 as an input,
    starts     0  1  .  .  .  .  6  7  8                 and 2 as a label
    stretches  |--|              |-----|                 windows 0 and 1; windows 2 to 4

A *stretch* is a run of starts of one sequence with none left out between them, each a stride behind the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import merged, spread
from store_spec.windows.shape import WindowShape

Ints = NDArray[np.int64]
GapUse = Literal["window", "horizon", "last", "sequence"]

TOGETHER = 2**18  # ranges of starts that are worked out at once, of some 100 bytes each meanwhile


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """Steps that no window may take.

    Args:
        sequence: (gaps,), the position of the sequence that each is of, rising.
        start: (gaps,), its first step, counted from the sequence's own step 0.
        stop: (gaps,), the one after its last.
        taken: As what a window may not take them: as a row of the `window` itself, of its `horizon`, as its `last`
            row; or, for labels of whole sequences, at all (`sequence`).
    """

    sequence: Ints
    start: Ints
    stop: Ints
    use: GapUse

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, some: slice) -> Gaps:
        return Gaps(sequence=self.sequence[some], start=self.start[some], stop=self.stop[some], use=self.use)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretches:
    """Runs of windows whose starts follow one another.

    Args:
        sequence: (stretches,), the position of the sequence that each is of, rising; None: one of each sequence.
        begin: (stretches,), where its first window starts, counted from the sequence's own step 0.
        first: (stretches + 1,), the number of its first window, then the number of windows.
        number: (stretches,), which number its first window would have if none were left out.
    """

    sequence: Ints | None
    begin: Ints
    first: Ints
    number: Ints

    def sequences(self, which: Ints) -> Ints:
        """Return the sequence of each of some stretches."""
        return which if self.sequence is None else self.sequence[which]

    def renumbered(self, numbers: Ints) -> Ints:
        """Return how many windows are left before those that would have these numbers if none were left out."""
        if self.sequence is None:
            return numbers
        if not len(self.sequence):
            return np.zeros_like(numbers)
        which = np.searchsorted(self.number, numbers, side="right") - 1
        inside = np.clip(numbers - self.number[which], 0, np.diff(self.first)[which])
        return np.asarray(np.where(which < 0, 0, self.first[which] + inside), np.int64)


def stretches(shape: WindowShape, begin: Ints, first: Ints, real: Ints, gaps: Sequence[Gaps]) -> Stretches:
    """Return what is left of the windows of all sequences.

    Args:
        shape: What one window takes.
        begin: (sequences,), where the first window of each starts.
        first: (sequences + 1,), the number of each one's first window if none were left out, then how many there are.
        real: (sequences,), how many input rows the first window of each has; all others have as many.
        gaps: The steps that they may not take.
    """
    low, high = merged(*_left_out(shape, begin, first, real, gaps))
    from_number, to_number = np.append(np.zeros(1, np.int64), high), np.append(low, first[-1:])
    some = from_number < to_number
    from_number, to_number = from_number[some], to_number[some]
    at, last = (np.searchsorted(first, number, side="right") - 1 for number in (from_number, to_number - 1))
    sequence, run = spread(at, last + 1 - at), np.repeat(np.arange(len(at)), last + 1 - at)
    number = np.maximum(from_number[run], first[sequence])
    count = np.minimum(to_number[run], first[sequence + 1]) - number
    some = count > 0
    sequence, number = sequence[some], number[some]
    return Stretches(
        sequence=sequence,
        begin=begin[sequence] + (number - first[sequence]) * shape.stride,
        first=np.append(np.zeros(1, np.int64), np.cumsum(count[some])),
        number=number,
    )


def _left_out(shape: WindowShape, begin: Ints, first: Ints, real: Ints, gaps: Sequence[Gaps]) -> tuple[Ints, Ints]:
    """Return ranges of numbers of windows that touch a gap; they may overlap."""
    found: list[tuple[Ints, Ints]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for each in gaps:
        at = 0
        while at < len(each):
            # Where rows are apart, a short gap may leave out a range of starts for each of them.
            some = max(1, TOGETHER // (shape.window if shape.sampling_rate > 1 else 1))
            found.append(merged(*_touching(shape, begin, first, real, each[at : at + some])))
            at += some
    low, high = (np.concatenate(bounds) for bounds in zip(*found, strict=True))
    return low, high


def _touching(shape: WindowShape, begin: Ints, first: Ints, real: Ints, gaps: Gaps) -> tuple[Ints, Ints]:
    sequence, count = gaps.sequence, first[gaps.sequence + 1] - first[gaps.sequence]
    some = count > 0
    sequence, count, start, stop = sequence[some], count[some], gaps.start[some], gaps.stop[some]
    if gaps.use == "sequence":
        return first[sequence], first[sequence + 1]
    # A window that starts at s takes the rows s + offset + k * step, k from 0 up to, not including, `rows`.
    step, rows, offset = shape.sampling_rate, real[sequence], np.zeros_like(start)
    if gaps.use != "window":
        horizon = gaps.use == "horizon"
        offset = (rows - 1) * step + (1 + shape.lead if horizon else 0)
        step, rows = 1, np.full_like(rows, shape.horizon if horizon else 1)
    if step > 1 and shape.stride % step == 0:
        # All windows of a sequence take every so many of the same rows; of a gap only these count.
        start = start + (begin[sequence] + offset - start) % step
        stop = start + (stop - 1 - start) // step * step + 1
    elif step > 1:
        # A gap shorter than a step lies between the rows of some windows.
        short = stop - start < step
        parts = np.where(short, rows, 1)
        back = spread(np.zeros_like(start), parts) * step
        sequence, count, start, stop, rows, offset, short = (
            np.repeat(each, parts) for each in (sequence, count, start, stop, rows, offset, short)
        )
        start, stop, rows = start - back, stop - back, np.where(short, 1, rows)
    low = start - offset - (rows - 1) * step - begin[sequence]
    high = stop - offset - begin[sequence]
    low, high = (np.clip(-(-bound // shape.stride), 0, count) for bound in (low, high))
    some = (low < high) & (start < stop)
    return first[sequence[some]] + low[some], first[sequence[some]] + high[some]
