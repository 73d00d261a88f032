"""Leave out windows with missing values: arithmetic on runs of rows, without reading any.

    steps      0  1  2  3  4  5  6  7  8  9 10 11        a sequence of 12 steps; step 5 has a missing value
                              ?
    starts     0  1  2  .  .  .  6  7  8                 window=3, horizon=1: 3, 4 and 5 would take step 5 as an input,
    starts     0  1  .  .  .  .  6  7  8                 and 2 as a label
    stretches  |--|              |-----|                 windows 0 and 1; windows 2 to 4

A *stretch* is a series of starts in one sequence, each one stride after the previous one, with none left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from store_spec.format.runs import Ints, bounds_of, merged, runs_of_sequences, split_at, spread
from store_spec.windows.shape import Target, WindowShape

if TYPE_CHECKING:
    from store_spec.store import Store

GapUse = Literal["window", "horizon", "last", "sequence"]

TOGETHER = 2**18  # ranges of starts that are computed at once, each of about 100 bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """Steps that windows may not use."""

    sequence: Ints  # (gaps,), the position of each gap's sequence, ascending
    start: Ints  # (gaps,), the first step of the gap, counted from the first step of the sequence
    stop: Ints  # (gaps,), the step after its last
    # What windows may not use them for: rows of the `window`, rows of its `horizon`, its `last` row; or, for labels of
    # whole sequences, anything (`sequence`).
    use: GapUse

    def __len__(self) -> int:
        return len(self.sequence)

    def __getitem__(self, some: slice) -> Gaps:
        return Gaps(sequence=self.sequence[some], start=self.start[some], stop=self.stop[some], use=self.use)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stretches:
    """Runs of windows without any left out between them."""

    # (stretches,), the position of each stretch's sequence, ascending; None: one stretch per sequence.
    sequence: Ints | None
    start: Ints  # (stretches,), the start of its first window, counted from the first step of the sequence
    first: Ints  # (stretches + 1,), the number of its first window, then the number of windows

    def sequences(self, which: Ints) -> Ints:
        """Return the sequence of each of some stretches."""
        return which if self.sequence is None else self.sequence[which]


def gaps_of(store: Store, shape: WindowShape, targets: str, *, future: bool) -> tuple[Gaps, ...]:
    """Return the steps of these sequences with a missing value, by what windows would use them for.

    `targets` is the array of the targets, and with `future` windows also have input rows of the horizon.
    """
    by_target: dict[Target, GapUse] = {
        "future": "horizon", "last": "last", "aligned": "window", "sequence": "sequence",
    }  # fmt: skip
    uses: list[tuple[str, GapUse]] = [("inputs", "window"), (targets, by_target[shape.target])]
    if future:
        uses.append(("inputs", "horizon"))
    gaps = []
    for array, use in uses:
        starts, lengths = store.places(array)
        sequence, runs = runs_of_sequences(store.snapshot.missing(array), starts, starts + lengths)
        gaps.append(Gaps(sequence=sequence, start=runs[:, 0], stop=runs[:, 1], use=use))
    return tuple(gaps)


def stretches(shape: WindowShape, first_start: Ints, first: Ints, real: Ints, gaps: Sequence[Gaps]) -> Stretches:
    """Return the windows of all sequences that use no gap.

    Args:
        shape: The shape of a window.
        first_start: (sequences,), the start of each sequence's first window.
        first: (sequences + 1,), the number of its first window if none were left out, then the number of windows.
        real: (sequences,), how many input rows the first window of each sequence has; all others have as many.
        gaps: The steps that windows may not use.
    """
    low, high = merged(*_skipped(shape, first_start, first, real, gaps))
    from_number, to_number = np.append(np.zeros(1, np.int64), high), np.append(low, first[-1:])
    some = from_number < to_number
    _, sequence, number, after = split_at(first, from_number[some], to_number[some])
    some = number < after
    sequence, number, count = sequence[some], number[some], (after - number)[some]
    return Stretches(
        sequence=sequence,
        start=first_start[sequence] + (number - first[sequence]) * shape.stride,
        first=bounds_of(count),
    )


def _skipped(shape: WindowShape, first_start: Ints, first: Ints, real: Ints, gaps: Sequence[Gaps]) -> tuple[Ints, Ints]:
    """Return ranges of numbers of windows that use a gap; they may overlap."""
    ranges: list[tuple[Ints, Ints]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for each in gaps:
        at = 0
        while at < len(each):
            # With a sampling rate, a short gap may rule out a range of starts for each row of a window.
            some = max(1, TOGETHER // (shape.window + shape.horizon if shape.sampling_rate > 1 else 1))
            ranges.append(merged(*_windows_with(shape, first_start, first, real, each[at : at + some])))
            at += some
    low, high = (np.concatenate(bounds) for bounds in zip(*ranges, strict=True))
    return low, high


def _windows_with(shape: WindowShape, first_start: Ints, first: Ints, real: Ints, gaps: Gaps) -> tuple[Ints, Ints]:
    sequence, count = gaps.sequence, first[gaps.sequence + 1] - first[gaps.sequence]
    some = count > 0
    sequence, count, start, stop = sequence[some], count[some], gaps.start[some], gaps.stop[some]
    if gaps.use == "sequence":
        return first[sequence], first[sequence + 1]
    # A window that starts at s uses the rows s + offset + k * step for k from 0 to rows - 1.
    step, rows, offset = shape.sampling_rate, real[sequence], np.zeros_like(start)
    if gaps.use != "window":
        horizon, least = gaps.use == "horizon", np.minimum(rows, shape.least_window or shape.window)
        offset = (least - 1) * step + (shape.label_offset if horizon else 0)
        rows = rows - least + (shape.horizon if horizon else 1)
    if step > 1 and shape.stride % step == 0:
        # All windows of a sequence use the same rows, `step` apart; only these rows of a gap count.
        start = start + (first_start[sequence] + offset - start) % step
        stop = start + (stop - 1 - start) // step * step + 1
    elif step > 1:
        # A gap shorter than a step may be between the rows of a window.
        short = stop - start < step
        parts = np.where(short, rows, 1)
        back = spread(np.zeros_like(start), parts) * step
        sequence, count, start, stop, rows, offset, short = (
            np.repeat(each, parts) for each in (sequence, count, start, stop, rows, offset, short)
        )
        start, stop, rows = start - back, stop - back, np.where(short, 1, rows)
    low = start - offset - (rows - 1) * step - first_start[sequence]
    high = stop - offset - first_start[sequence]
    low, high = (np.clip(-(-bound // shape.stride), 0, count) for bound in (low, high))
    some = (low < high) & (start < stop)
    return first[sequence[some]] + low[some], first[sequence[some]] + high[some]
