"""Where each window starts: arithmetic on the lengths of sequences, without reading any rows.

    steps      0  1  2  3  4  5  6  7  8  9 10 11        a sequence of 12 steps
    window 0   I  .  I  .  I  .  L  .  L                 I: input row, L: label row
    window 1            I  .  I  .  I  .  L  .  L        window=3, sampling_rate=2, horizon=2
               |------->|                                stride=3
               |---------->|                             input_span=5
                              |------->|                 label_span=4, span=9

A third window would start at step 6 and need steps up to 14, so there is none.

Windows with missing values are left out by arithmetic on runs of rows:

    steps      0  1  2  3  4  5  6  7  8  9 10 11        a sequence of 12 steps; step 5 has a missing value
                              ?
    starts     0  1  2  .  .  .  6  7  8                 window=3, horizon=1: 3, 4 and 5 would take step 5 as an input,
    starts     0  1  .  .  .  .  6  7  8                 and 2 as a label
    stretches  |--|              |-----|                 windows 0 and 1; windows 2 to 4

A *stretch* is a series of starts in one sequence, each one stride after the previous one, with none left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import Ints, bounds_of, merged, split_at, spread
from store_spec.reading.argument_checks import positions
from store_spec.windows.shape import Target, WindowShape

_MOST_WINDOWS = 2**62
TOGETHER = 2**18  # ranges of starts that are computed at once, each of about 100 bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """Steps that windows may not use."""

    sequence: Ints  # (gaps,), the position of each gap's sequence, ascending
    start: Ints  # (gaps,), the first step of the gap, counted from the first step of the sequence
    stop: Ints  # (gaps,), the step after its last
    # The target whose rows may not be in a gap. Input rows are those of an `aligned` target; a target of the whole
    # sequence (`sequence`) needs all of its rows.
    use: Target

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowIndex:
    """Where each window starts. The index takes 24 bytes per sequence, regardless of the number of windows.

    Windows are numbered sequence by sequence, and by their position within a sequence. They are at the steps `start`,
    `start + stride`, ..., as long as `least_span` steps from there end at or before `stop`; windows that use a gap are
    left out. Gaps take about 100 bytes each. If the `sampling_rate` does not divide the stride, a gap of fewer steps
    than the sampling rate may take 100 bytes for each row of a window.

    >>> shape = WindowShape(window=3, sampling_rate=2, horizon=2, stride=3)
    >>> index = WindowIndex(start=np.zeros(3, int), stop=np.array([12, 0, 9]), shape=shape)
    >>> len(index), [index.locate(number) for number in range(3)]
    (3, [(0, 0), (0, 3), (2, 0)])
    """

    start: NDArray[np.int64]  # (sequences,), each sequence's first usable step, counted from its step 0
    stop: NDArray[np.int64]  # (sequences,), the step after its last usable one
    shape: WindowShape
    gaps: tuple[Gaps, ...] = ()  # steps that no window may use
    # (seed, epoch), which determine how many rows windows of random length have; None: all have `window`.
    random: tuple[int, int] | None = None
    # (sequences + 1,), the number of each sequence's first window, then the number of windows.
    first: NDArray[np.int64] = field(init=False)
    # The same windows in runs without any left out; without gaps each sequence is one run.
    stretches: Stretches = field(init=False)

    def __post_init__(self) -> None:
        start, stop = self.start, self.stop
        first = _first_numbers(stop - start, self.shape)
        runs = Stretches(sequence=None, start=start, first=first)
        if any(map(len, self.gaps)):
            gaps = [replace(each, stop=np.minimum(each.stop, stop[each.sequence])) for each in self.gaps]
            runs = _stretches(self.shape, start, first, self.most_rows(np.arange(len(start)), start), gaps)
            assert runs.sequence is not None
            first = runs.first[np.searchsorted(runs.sequence, np.arange(len(start) + 1))]
        for array in (start, stop, first):
            array.setflags(write=False)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "stretches", runs)

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, number: int) -> tuple[int, int]:
        """Return (sequence, start) of one window; see `locate_many`."""
        sequence, start = self.locate_many(number)
        return int(sequence), int(start)

    def locate_many(
        self, numbers: ArrayLike, where: object = "windows", ndim: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (sequences, starts) of windows, in arrays of the shape of `numbers`, in O(log sequences) for each.

        A negative number counts from the end. Starts are counted from step 0 of the sequence. `where` and `ndim` are
        as for `positions`.
        """
        at, runs = positions("window", numbers, len(self), where, ndim=ndim), self.stretches
        which = np.asarray(np.searchsorted(runs.first, at, side="right") - 1, np.int64)
        return runs.sequences(which), runs.start[which] + (at - runs.first[which]) * self.shape.stride

    def real_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return how many input rows of each window are real; the rows after them are padding.

        All `window` rows are real, unless rows may be padded or lengths are random. If rows may be padded, row k is
        real if there is room for the label after it: `start + k * sampling_rate < stop - least_label_span`. If lengths
        are random, a window has at most as many real rows. The label follows the last real row: `"future"` starts
        `label_offset` steps after it, `"last"` is its label row, and `"aligned"` has as many real rows as the input.

        `sequences` and `starts` are those that `locate_many` returns.

        >>> shape = WindowShape(window=6, horizon=2, short="pad")
        >>> index = WindowIndex(start=np.zeros(2, int), stop=np.array([9, 5]), shape=shape)
        >>> index.real_rows(*index.locate_many([0, 1, 2])).tolist()
        [6, 6, 3]
        """
        most = self.most_rows(sequences, starts)
        least, window = self.shape.least_window, self.shape.window
        if self.random is None or least is None:
            return most
        random = np.random.SeedSequence(self.random, spawn_key=(3,)).generate_state(2, np.uint64)
        # The mixing function of splitmix64 (Steele, Lea and Flood, 2014).
        with np.errstate(over="ignore"):
            mixed = np.asarray(sequences, np.uint64) * random[0] + np.asarray(starts, np.uint64) * random[1]
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
            mixed ^= mixed >> np.uint64(31)
        return np.asarray(np.minimum(most, least + (mixed % np.uint64(window - least + 1)).astype(np.int64)), np.int64)

    def most_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return the largest number of real input rows that each window has in any epoch; see `real_rows`."""
        where, at = np.broadcast_arrays(np.asarray(sequences, np.int64), np.asarray(starts, np.int64))
        if self.shape.short != "pad" and not self.shape.pad_end:
            return np.full(where.shape, self.shape.window, np.int64)
        fitting = -((at - self.stop[where] + self.shape.least_label_span) // self.shape.sampling_rate)
        return np.asarray(np.minimum(fitting, self.shape.window), np.int64)

    def real_labels(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return how many rows of the `"future"` label of each window are real."""
        left = self.stop[np.asarray(sequences)] - self.last_rows(sequences, starts) - self.shape.label_offset
        return np.asarray(np.minimum(-(-left // self.shape.sampling_rate), self.shape.horizon), np.int64)

    def last_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return the step of each window's last real input row, counted from step 0 of its sequence.

        A `"future"` label starts at `last_rows(...) + shape.label_offset`, with or without padding.
        """
        past_start = (self.real_rows(sequences, starts) - 1) * self.shape.sampling_rate
        return np.asarray(np.asarray(starts, np.int64) + past_start, np.int64)

    def stops(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return a step after all those that each window, its label, and earlier windows of its sequence use."""
        # An earlier window may use a later step if rows are padded and the sampling rate does not divide the stride.
        if self.shape.pad_end:
            ends = np.asarray(starts, np.int64) + self.shape.span
            return np.asarray(np.minimum(ends, self.stop[np.asarray(sequences)]), np.int64)
        last = np.asarray(starts, np.int64) + (self.most_rows(sequences, starts) - 1) * self.shape.sampling_rate
        return last + 1 + self.shape.label_span


def _first_numbers(usable: NDArray[np.int64], shape: WindowShape) -> NDArray[np.int64]:
    """Return the number of each sequence's first window, then the number of all windows."""
    short = usable < shape.least_span
    if shape.short == "error" and short.any():
        at = int(np.argmax(short))
        raise WindowError(
            f"sequence {at:,} has {usable[at]:,} usable steps, but a window and its label need"
            f" {shape.least_span:,}; {np.count_nonzero(short):,} of {usable.size:,} sequences are too short;"
            ' use short="drop" or short="pad", or a smaller window'
        )
    counts = usable - shape.least_span  # changed in place below, as there may be millions
    counts //= shape.stride
    counts += 1
    counts[short] = 0
    if shape.short == "pad":
        counts[short & (usable > shape.least_label_span)] = 1
    # Summed in two halves, as the sum itself may not fit int64.
    total = (int((counts >> 32).sum()) << 32) + int((counts & 0xFFFFFFFF).sum())
    if total > _MOST_WINDOWS:
        raise WindowError(
            f"{usable.size:,} sequences give {total:,} windows, but at most {_MOST_WINDOWS:,} are allowed;"
            f" use a stride of more than {shape.stride:,}"
        )
    return bounds_of(counts)


def _stretches(shape: WindowShape, first_start: Ints, first: Ints, real: Ints, gaps: Sequence[Gaps]) -> Stretches:
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
    # With a sampling rate, a short gap may rule out a range of starts for each row of a window.
    some = max(1, TOGETHER // (shape.window + shape.horizon if shape.sampling_rate > 1 else 1))
    parts = [each[at : at + some] for each in gaps for at in range(0, len(each), some)]
    ranges = [merged(*_windows_that_use(shape, first_start, first, real, part)) for part in parts]
    low, high = (np.concatenate(bounds) for bounds in zip(*ranges, strict=True))
    return low, high


def _windows_that_use(shape: WindowShape, first_start: Ints, first: Ints, real: Ints, gaps: Gaps) -> tuple[Ints, Ints]:
    """Return, for each gap, the range of numbers of windows that use it, or a range for each row of a window."""
    sequence, count = gaps.sequence, first[gaps.sequence + 1] - first[gaps.sequence]
    some = count > 0
    sequence, count, start, stop = sequence[some], count[some], gaps.start[some], gaps.stop[some]
    if gaps.use == "sequence":
        return first[sequence], first[sequence + 1]
    # A window that starts at s uses the rows s + offset + k * step for k from 0 to rows - 1.
    step, rows, offset = shape.sampling_rate, real[sequence], np.zeros_like(start)
    if gaps.use != "aligned":
        horizon, least = gaps.use == "future", np.minimum(rows, shape.least_window or shape.window)
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
