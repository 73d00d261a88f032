"""Where each window starts: arithmetic on the lengths of sequences, without reading any rows.

    steps      0  1  2  3  4  5  6  7  8  9 10 11        a sequence of 12 steps
    window 0   I  .  I  .  I  .  L  .  L                 I: input row, L: label row
    window 1            I  .  I  .  I  .  L  .  L        window=3, sampling_rate=2, horizon=2
               |------->|                                stride=3
               |---------->|                             input_span=5
                              |------->|                 label_span=4, span=9

A third window would start at step 6 and need steps up to 14, so there is none.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceIndexError, WindowError
from store_spec.reading.validation import fraction_of, int64, no_such, step_counts
from store_spec.windows.shape import WindowShape
from store_spec.windows.stretches import Gaps, Stretches, stretches

_MOST_WINDOWS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowIndex:
    """Where each window starts. The index takes 16 bytes per sequence, regardless of the number of windows.

    Windows are numbered sequence by sequence, and by their position within a sequence. They are at the steps `start`,
    `start + stride`, ..., as long as `least_span` steps from there end at or before `stop`, without those whose windows
    use a gap. Gaps take about 100 bytes each; with a `sampling_rate` that does not divide the stride, gaps that are
    shorter than it may take as much for each row of a window.

    >>> shape = WindowShape(window=3, sampling_rate=2, horizon=2, stride=3)
    >>> index = WindowIndex.from_lengths([12, 0, 9], shape)
    >>> len(index), [index.locate(number) for number in range(3)]
    (3, [(0, 0), (0, 3), (2, 0)])
    """

    start: NDArray[np.int64]  # (sequences,), each sequence's first usable step, counted from its step 0
    stop: NDArray[np.int64]  # (sequences,), the step after its last usable one; at most 2**53
    shape: WindowShape
    gaps: tuple[Gaps, ...] = ()  # steps that no window may use
    # (seed, epoch), which determine how many rows windows of random length have; None: all have `window`.
    random: tuple[int, int] | None = None
    # (sequences + 1,), the number of each sequence's first window, then the number of windows.
    first: NDArray[np.int64] = field(init=False)
    # The same windows in runs without any left out; without gaps each sequence is one run.
    stretches: Stretches = field(init=False)
    _every: NDArray[np.int64] = field(init=False, repr=False)  # `first`, if no window were left out

    def __post_init__(self) -> None:
        start, stop = step_counts("start", self.start), step_counts("stop", self.stop)
        if start.shape != stop.shape:
            raise WindowError(f"start has {start.size:,} sequences but stop has {stop.size:,}; use one of each")
        if (start > stop).any():
            at = int(np.argmax(start > stop))
            raise WindowError(f"sequence {at:,} begins at step {start[at]:,} but ends at {stop[at]:,}")
        first = _first_numbers(stop - start, self.shape)
        for name, array in (("start", start), ("stop", stop), ("first", first)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "_every", first)
        runs = Stretches(sequence=None, start=start, first=first, number=first[:-1])
        if any(map(len, self.gaps)):
            gaps = [replace(each, stop=np.minimum(each.stop, stop[each.sequence])) for each in self.gaps]
            runs = stretches(self.shape, start, first, self.most_rows(np.arange(len(start)), start), gaps)
            assert runs.sequence is not None
            first = runs.first[np.searchsorted(runs.sequence, np.arange(len(start) + 1))]
            first.setflags(write=False)
            object.__setattr__(self, "first", first)
        object.__setattr__(self, "stretches", runs)

    def __repr__(self) -> str:
        return f"<index of {len(self):,} windows of {len(self.start):,} sequences: {self.shape}>"

    @classmethod
    def from_lengths(cls, lengths: ArrayLike, shape: WindowShape) -> Self:
        """Return the index of all windows of sequences of these lengths.

        Args:
            lengths: (sequences,) integers, the steps of each sequence, 0 to 2**53.
            shape: The shape of a window; its `steps` say which steps are usable.
        """
        steps = step_counts("lengths", lengths)
        if shape.steps is None:
            zeros = np.broadcast_to(np.zeros(1, np.int64), steps.shape)  # takes no memory
            return cls(start=zeros, stop=steps, shape=shape)
        low, high = shape.steps
        return cls(start=fraction_of(steps, low), stop=fraction_of(steps, high), shape=shape)

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, number: int) -> tuple[int, int]:
        """Return (sequence, start) of window `number`, in O(log sequences).

        Args:
            number: The window's number; a negative one counts from the end, as in a list.

        Returns:
            The sequence's position, and the window's first step, counted from the sequence's step 0.
        """
        position = operator.index(number)
        if not -len(self) <= position < len(self):
            raise self._no_such(position)
        position %= len(self)
        sequences, starts = self._place(np.int64(position))
        return int(sequences), int(starts)

    def locate_many(self, numbers: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (sequences, starts) of many windows, in arrays of the shape of `numbers`; see `locate`."""
        positions = int64("numbers", numbers)
        absent = (positions < -len(self)) | (positions >= len(self))
        if absent.any():
            raise self._no_such(int(positions[absent][0]))
        positions = np.where(positions < 0, positions + len(self), positions)
        return self._place(positions)

    def _no_such(self, number: int) -> SequenceIndexError:
        why, most = no_such("window", number, len(self)), int((self.stop - self.start).max(initial=0))
        if not len(self) and most < self.shape.least_span:
            why += (
                f", as a window and its label need {self.shape.least_span:,} steps, and the longest of "
                f"{self.start.size:,} sequences has {most:,} usable ones"
            )
        return SequenceIndexError(why)

    def _place(self, numbers: NDArray[np.int64] | np.int64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        runs = self.stretches
        which = np.asarray(np.searchsorted(runs.first, numbers, side="right") - 1, np.int64)
        return runs.sequences(which), runs.start[which] + (numbers - runs.first[which]) * self.shape.stride

    def windows_in(self, sequence: ArrayLike, low: ArrayLike, high: ArrayLike) -> tuple[Any, Any]:
        """Return the half-open range of numbers of a sequence's windows that start in steps [low, high).

        Steps count from the sequence's step 0 and may be outside the sequence. A range without windows is empty, at the
        place where they would be. Arrays are broadcast, and the result then has arrays.

        >>> index = WindowIndex.from_lengths([12, 20], WindowShape(window=4, stride=3))
        >>> index.windows_in(1, 4, 10)  # windows 3, 4, ... of sequence 1 start at its steps 0, 3, 6, 9, ...
        (5, 7)
        """
        sequences = self._sequences(sequence)
        start, stop, first = self.start[sequences], self.stop[sequences], self._every[sequences]
        # Clipped first, so that no distance overflows, however far a bound is outside the sequence.
        to_low = np.clip(int64("low", low), start, stop) - start
        to_high = np.clip(int64("high", high), start, stop) - start
        count, stride = self._every[sequences + 1] - first, self.shape.stride
        number_low = first + np.minimum(-(-to_low // stride), count)
        number_high = np.maximum(first + np.minimum(-(-to_high // stride), count), number_low)
        number_low, number_high = (self.stretches.renumbered(number) for number in (number_low, number_high))
        if number_high.ndim == 0:
            return int(number_low), int(number_high)
        return np.broadcast_to(number_low, number_high.shape), number_high

    def real_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return how many input rows of each window are real; the rows after them are padding.

        All `window` rows are real, unless lengths are random, or rows may be padded and the sequence ends before them.
        Then as many are real as fit before the label: `start + k * sampling_rate < stop - least_label_span`. The label
        follows the last real row: `"future"` starts `label_offset` steps after it, `"last"` is its label row, and
        `"aligned"` has as many real rows as the input.

        Args:
            sequences: Integers, the windows' sequences.
            starts: Integers, their starts, as `locate` or `locate_many` return them.

        >>> index = WindowIndex.from_lengths([9, 5], WindowShape(window=6, horizon=2, short="pad"))
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
        where, at = np.broadcast_arrays(self._sequences(sequences), int64("starts", starts))
        if self.shape.short != "pad" and not self.shape.pad_end:
            return np.full(where.shape, self.shape.window, np.int64)
        fitting = -((at - self.stop[where] + self.shape.least_label_span) // self.shape.sampling_rate)
        return np.asarray(np.minimum(fitting, self.shape.window), np.int64)

    def real_labels(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return how many rows of the `"future"` label of each window are real; arguments are those of `real_rows`."""
        left = self.stop[self._sequences(sequences)] - self.last_rows(sequences, starts) - self.shape.label_offset
        return np.asarray(np.minimum(-(-left // self.shape.sampling_rate), self.shape.horizon), np.int64)

    def last_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return the step of each window's last real input row, counted from its sequence's step 0.

        The arguments and errors are those of `real_rows`. A `"future"` label starts at
        `last_rows(...) + shape.label_offset`, with or without padding.
        """
        past_start = (self.real_rows(sequences, starts) - 1) * self.shape.sampling_rate
        return np.asarray(int64("starts", starts) + past_start, np.int64)

    def stops(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return the step after the last that each window or an earlier one of its sequence uses, with their labels.

        The arguments are those of `real_rows`.
        """
        if (
            self.shape.pad_end
        ):  # an earlier window may use a later step, if the sampling rate does not divide the stride
            return np.minimum(int64("starts", starts) + self.shape.span, self.stop[self._sequences(sequences)])
        last = int64("starts", starts) + (self.most_rows(sequences, starts) - 1) * self.shape.sampling_rate
        return last + 1 + self.shape.label_span

    def _sequences(self, sequences: ArrayLike) -> NDArray[np.int64]:
        """Check positions of sequences, and return them as int64; negative ones are refused."""
        positions = int64("sequences", sequences)
        absent = (positions < 0) | (positions >= self.start.size)
        if absent.any():
            raise SequenceIndexError(no_such("sequence", int(positions[absent][0]), self.start.size))
        return positions


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
    first = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    return first
