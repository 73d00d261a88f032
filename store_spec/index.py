"""Where each window starts: arithmetic over the lengths of sequences, which reads nothing.

    steps      0  1  2  3  4  5  6  7  8  9 10 11        a sequence of 12 steps
    window 0   I  .  I  .  I  -  L  L                    I: input row, L: label row, -: lead
    window 1            I  .  I  .  I  -  L  L           window=3, sampling_rate=2, lead=1, horizon=2
               |------->|                                stride=3
               |---------->|                             input_span=5
                              |---->|                    label_span=3, span=8

A third window would start at step 6 and need steps up to 13, so there is none.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Literal, Self, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceIndexError, WindowError

Target = Literal["future", "last", "aligned", "sequence"]
Short = Literal["drop", "pad", "error"]

_INT64_MAX = 2**63 - 1
_MOST_STEPS = 2**53  # float64 is exact up to here, and `steps` multiplies lengths by a fraction
_MOST_WINDOWS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShape:
    """What one window takes from a sequence.

    The input rows of a window at step `s` are the `window` rows `s`, `s + sampling_rate`, .... Its label is

    * `"future"`: the `horizon` consecutive label rows that begin `1 + lead` steps after the last input row;
      `sampling_rate` does not thin them,
    * `"last"`: the one label row of the last input row,
    * `"aligned"`: the label row of each input row,
    * `"sequence"`: the sequence's own label.

    The last three ignore `horizon` and `lead`.

    Args:
        window: Input rows in a window, at least 1.
        stride: Steps between the starts of neighbouring windows, at least 1.
        horizon: Label rows in a `"future"` label, at least 1.
        lead: Steps between the last input row and a `"future"` label, at least 0.
        sampling_rate: Steps between neighbouring input rows, at least 1.
        target: Which label rows belong to a window.
        short: What becomes of a sequence with fewer than `span` usable steps. `"drop"`: it gives no window.
            `"error"`: it is a `WindowError`. `"pad"`: it gives one window, at its first usable step, if there
            is room for one input row and a whole label; see `WindowIndex.real_rows`.
        steps: `(low, high)`, with 0 <= low < high <= 1: of a sequence of n steps, only those from
            `floor(n * low)` up to, not including, `floor(n * high)` are usable; windows and their labels lie
            inside. The products are first rounded to six decimals, so 0.29 of 100 steps is 29. None: all are.

    Raises:
        WindowError: A field is not as above, or the span does not fit int64.

    >>> shape = WindowShape(window=3, sampling_rate=2, lead=1, horizon=2, stride=3)
    >>> shape.input_span, shape.label_span, shape.span, shape.label_steps
    (5, 3, 8, 2)
    """

    window: int
    stride: int = 1
    horizon: int = 1
    lead: int = 0
    sampling_rate: int = 1
    target: Target = "future"
    short: Short = "drop"
    steps: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("stride", 1), ("horizon", 1), ("lead", 0), ("sampling_rate", 1)):
            object.__setattr__(self, name, _checked_count(name, getattr(self, name), least))
        for name, allowed in (("target", get_args(Target)), ("short", get_args(Short))):
            if getattr(self, name) not in allowed:
                choices = ", ".join(f'"{choice}"' for choice in allowed)
                raise WindowError(f"{name} is {getattr(self, name)!r}; it must be one of {choices}")
        if self.steps is not None:
            object.__setattr__(self, "steps", _checked_fractions(self.steps))
        if self.span > _INT64_MAX:
            raise WindowError(
                f"window={self.window:,} with sampling_rate={self.sampling_rate:,}, lead={self.lead:,} and"
                f" horizon={self.horizon:,} spans {self.span:,} steps, but at most {_INT64_MAX:,} are allowed"
            )

    @property
    def input_span(self) -> int:
        """Steps from a window's first input row to its last, both counted."""
        return (self.window - 1) * self.sampling_rate + 1

    @property
    def label_span(self) -> int:
        """Steps that a label reaches past the window's last input row."""
        return self.lead + self.horizon if self.target == "future" else 0

    @property
    def span(self) -> int:
        """Steps that a window and its label take from a sequence."""
        return self.input_span + self.label_span

    @property
    def label_steps(self) -> int | None:
        """Rows in a label; None where a label is one row without a step axis."""
        if self.target == "future":
            return self.horizon
        return self.window if self.target == "aligned" else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowIndex:
    """Where each window starts. Knows lengths only, and takes 24 bytes a sequence, however many its windows.

    Windows are numbered sequence by sequence, and by their start within one. A sequence's starts are `begin`,
    `begin + stride`, ..., as long as the window's `span` steps end at or before `end`.

    Args:
        begin: (sequences,) int64, each sequence's first usable step, counted from the sequence's own step 0.
        end: (sequences,) int64, the step after its last usable one; at most 2**53.
        shape: What one window takes from a sequence.

    Attributes:
        first: (sequences + 1,) int64, the number of each sequence's first window, then the number of windows.

    Raises:
        WindowError: `begin` and `end` are not as above, there are more than 2**62 windows, or `shape.short`
            is `"error"` and a sequence has fewer than `shape.span` usable steps.

    >>> shape = WindowShape(window=3, sampling_rate=2, lead=1, horizon=2, stride=3)
    >>> index = WindowIndex.from_lengths([12, 0, 8], shape)
    >>> len(index), [index.locate(number) for number in range(3)]
    (3, [(0, 0), (0, 3), (2, 0)])
    """

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    shape: WindowShape
    first: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        begin, end = _step_counts("begin", self.begin), _step_counts("end", self.end)
        if begin.shape != end.shape:
            raise WindowError(f"begin has {begin.size:,} sequences but end has {end.size:,}; use one of each")
        if (begin > end).any():
            at = int(np.argmax(begin > end))
            raise WindowError(f"sequence {at:,} begins at step {begin[at]:,} but ends at {end[at]:,}")
        first = _first_numbers(end - begin, self.shape)
        for name, array in (("begin", begin), ("end", end), ("first", first)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_lengths(cls, lengths: ArrayLike, shape: WindowShape) -> Self:
        """Return the index of all windows of sequences of these lengths.

        Args:
            lengths: (sequences,) integers, the steps of each sequence, 0 to 2**53.
            shape: What one window takes from a sequence; its `steps` say which steps are usable.

        Raises:
            WindowError: As the class says, or a length is not as above.
        """
        steps = _step_counts("lengths", lengths)
        if shape.steps is None:
            return cls(begin=np.zeros_like(steps), end=steps, shape=shape)
        low, high = shape.steps
        return cls(begin=_fraction_of(steps, low), end=_fraction_of(steps, high), shape=shape)

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, number: int) -> tuple[int, int]:
        """Return (sequence, start) of window `number`, in O(log sequences).

        Args:
            number: The window's number; a negative one counts from the end, as in a list.

        Returns:
            The sequence's position, and the window's first step, counted from the sequence's own step 0.

        Raises:
            SequenceIndexError: There is no such window.
        """
        wanted = operator.index(number)
        if not -len(self) <= wanted < len(self):
            raise SequenceIndexError(_no_such("window", wanted, len(self)))
        wanted %= len(self)
        sequence = int(np.searchsorted(self.first, wanted, side="right")) - 1
        return sequence, int(self.begin[sequence]) + (wanted - int(self.first[sequence])) * self.shape.stride

    def locate_many(self, numbers: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (sequences, starts) of many windows, in arrays of the shape of `numbers`; see `locate`.

        Raises:
            SequenceIndexError: There is no window of one of these numbers.
            WindowError: `numbers` are not integers.
        """
        wanted = _int64("numbers", numbers)
        absent = (wanted < -len(self)) | (wanted >= len(self))
        if absent.any():
            raise SequenceIndexError(_no_such("window", int(wanted[absent][0]), len(self)))
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        sequences = np.asarray(np.searchsorted(self.first, wanted, side="right") - 1, np.int64)
        return sequences, self.begin[sequences] + (wanted - self.first[sequences]) * self.shape.stride

    @overload
    def windows_in(self, sequence: int, low: int, high: int) -> tuple[int, int]: ...
    @overload
    def windows_in(
        self, sequence: NDArray[np.int64], low: NDArray[np.int64] | int, high: NDArray[np.int64] | int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
    def windows_in(
        self, sequence: NDArray[np.int64] | int, low: NDArray[np.int64] | int, high: NDArray[np.int64] | int
    ) -> tuple[int, int] | tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the half-open range of numbers of a sequence's windows that start in steps [low, high).

        Steps count from the sequence's own step 0 and may lie outside of it. A range without windows is empty
        and lies where they would be. Arrays are broadcast against each other and give arrays.

        Raises:
            SequenceIndexError: There is no such sequence.

        >>> index = WindowIndex.from_lengths([12, 20], WindowShape(window=4, stride=3))
        >>> index.windows_in(1, 4, 10)  # windows 3, 4, ... of sequence 1 start at its steps 0, 3, 6, 9, ...
        (5, 7)
        """
        sequences = self._sequences(sequence)
        begin, end, first = self.begin[sequences], self.end[sequences], self.first[sequences]
        # Clipped first, so that no distance overflows however far outside the sequence a bound lies.
        to_low = np.clip(_int64("low", low), begin, end) - begin
        to_high = np.clip(_int64("high", high), begin, end) - begin
        count, stride = self.first[sequences + 1] - first, self.shape.stride
        number_low = first + np.minimum(-(-to_low // stride), count)
        number_high = np.maximum(first + np.minimum(-(-to_high // stride), count), number_low)
        if number_high.ndim == 0:
            return int(number_low), int(number_high)
        return np.broadcast_to(number_low, number_high.shape), number_high

    def real_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return how many input rows of each window are real; those after them are padding.

        All `window` of them are, unless `short="pad"` and the sequence has fewer than `span` usable steps.
        Then as many are real as fit before a whole label: `begin + k * sampling_rate < end - label_span`.
        The label follows the last real row: `"future"` begins `1 + lead` steps after it, `"last"` is its
        label row, and `"aligned"` has as many real rows as the input.

        Args:
            sequences: Integers, the windows' sequences.
            starts: Integers, their starts, as `locate` or `locate_many` return them.

        Raises:
            SequenceIndexError: There is no such sequence.

        >>> index = WindowIndex.from_lengths([9, 5], WindowShape(window=6, horizon=2, short="pad"))
        >>> index.real_rows(*index.locate_many([0, 1, 2])).tolist()
        [6, 6, 3]
        """
        where, at = np.broadcast_arrays(self._sequences(sequences), _int64("starts", starts))
        if self.shape.short != "pad":
            return np.full(where.shape, self.shape.window, np.int64)
        fitting = -((at - self.end[where] + self.shape.label_span) // self.shape.sampling_rate)
        return np.asarray(np.minimum(fitting, self.shape.window), np.int64)

    def last_rows(self, sequences: ArrayLike, starts: ArrayLike) -> NDArray[np.int64]:
        """Return the step of each window's last real input row, counted from its sequence's own step 0.

        The arguments and errors are those of `real_rows`. A `"future"` label is the `horizon` rows from
        `last_rows(...) + 1 + lead` on, padding or not.
        """
        past_start = (self.real_rows(sequences, starts) - 1) * self.shape.sampling_rate
        return np.asarray(_int64("starts", starts) + past_start, np.int64)

    def _sequences(self, sequences: ArrayLike) -> NDArray[np.int64]:
        """Return them as int64. A negative one is refused, as nothing here would return it."""
        wanted = _int64("sequences", sequences)
        absent = (wanted < 0) | (wanted >= self.begin.size)
        if absent.any():
            raise SequenceIndexError(_no_such("sequence", int(wanted[absent][0]), self.begin.size))
        return wanted


def _first_numbers(usable: NDArray[np.int64], shape: WindowShape) -> NDArray[np.int64]:
    """Return the number of each sequence's first window, then the number of all windows."""
    short = usable < shape.span
    if shape.short == "error" and short.any():
        at = int(np.argmax(short))
        raise WindowError(
            f"sequence {at:,} has {usable[at]:,} usable steps, but a window and its label need"
            f" {shape.span:,}; {np.count_nonzero(short):,} of {usable.size:,} sequences are too short;"
            ' use short="drop" or short="pad", or a smaller window'
        )
    counts = np.where(short, 0, (usable - shape.span) // shape.stride + 1)
    if shape.short == "pad":
        counts[short & (usable > shape.label_span)] = 1
    # Summed in two halves, as the sum itself may not fit int64.
    total = (int((counts >> 32).sum()) << 32) + int((counts & 0xFFFFFFFF).sum())
    if total > _MOST_WINDOWS:
        raise WindowError(
            f"{usable.size:,} sequences give {total:,} windows, but at most {_MOST_WINDOWS:,} are allowed;"
            f" use a stride of more than {shape.stride:,}"
        )
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)))


def _fraction_of(lengths: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return floor(lengths * fraction), the product rounded to six decimals.

    Not by `np.round`: it scales by a million, which is not exact for a product above 2**33.
    """
    product = lengths * fraction
    nearest = np.rint(product)
    return np.asarray(np.where(np.abs(product - nearest) <= 5e-7, nearest, np.floor(product)), np.int64)


def _checked_count(name: str, value: object, least: int) -> int:
    """Return `value` as an int, so that NumPy's narrow integers cannot overflow later."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= value <= _INT64_MAX:
        return int(value)
    raise WindowError(f"{name} is {value!r}; it must be a whole number from {least} to {_INT64_MAX:,}")


def _checked_fractions(steps: object) -> tuple[float, float]:
    """Return `steps` as a tuple of two floats."""
    if isinstance(steps, Sequence) and len(steps) == 2 and all(isinstance(bound, Real) for bound in steps):
        low, high = steps
        if 0 <= low < high <= 1:
            return float(low), float(high)
    raise WindowError(f"steps is {steps!r}; it must be (low, high) with 0 <= low < high <= 1, or None")


def _step_counts(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return a copy as int64, one per sequence, each from 0 to 2**53."""
    counts = _int64(name, values).copy()
    if counts.ndim != 1:
        raise WindowError(f"{name} has shape {counts.shape}; it must be (sequences,)")
    wrong = (counts < 0) | (counts > _MOST_STEPS)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise WindowError(f"{name}[{at:,}] is {counts[at]:,}; it must be from 0 to {_MOST_STEPS:,}")
    return counts


def _int64(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return an int64 array of the same integers."""
    array = np.asarray(values)
    if array.size == 0:  # NumPy makes an empty list float64
        return array.astype(np.int64)
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.max() > _INT64_MAX):
        raise WindowError(f"{name} has dtype {array.dtype}; it must hold integers that fit int64")
    return array.astype(np.int64, copy=False)


def _no_such(noun: str, number: int, count: int) -> str:
    """Say that `number` is out of range."""
    there = f"there are {count:,}, so the last is {count - 1:,}" if count else "there are none"
    return f"{noun} {number:,} asked for, but {there}"
