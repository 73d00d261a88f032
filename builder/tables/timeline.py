"""The rows of a group in the order of their times: sorted, one a moment, cut where time jumps, at a regular step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError, UsageError
from builder.formats.convert import refuse_any
from builder.formats.table import ROW, Frame, Table, column_of
from builder.tables.cleaning import End
from builder.tables.times import PER_SECOND, Stamps
from builder.tables.transforms import as_floats

Duplicates = Literal["error", "first", "last", "mean"]
DUPLICATES: Final[tuple[Duplicates, ...]] = get_args(Duplicates)
_NANOSECONDS: Final = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}  # fmt: skip
# As pandas writes them, a letter each, but for those that may be another unit too.
_LETTERS: Final = {"S": "s", "T": "min", "H": "h", "D": "d", "W": "w", "\u00b5s": "us", "\u03bcs": "us"}
_WORDS: Final = {
    word + plural: unit
    for word, unit in {
        "nanosecond": "ns", "microsecond": "us", "millisecond": "ms", "sec": "s", "second": "s", "min": "min",
        "minute": "min", "hr": "h", "hour": "h", "day": "d", "week": "w",
    }.items()
    for plural in ("", "s")
}  # fmt: skip
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z\u00b5\u03bc]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRules:
    """What the times of a file have to be like, and what becomes of rows whose are not.

    Args:
        sort: Put rows in the order of their times; otherwise that of the file must be that.
        duplicates: Of rows of one time: refuse them, take the first or the last, or the mean of each column, as floats.
        max_gap: A longer time between two rows ends a part, as `"2h"`.
        every: The time between any two rows of a part, as `"10s"`.
    """

    sort: bool = False
    duplicates: Duplicates = "error"
    max_gap: str | None = None
    every: str | None = None

    def __post_init__(self) -> None:
        if self.duplicates not in DUPLICATES:
            raise UsageError(f"duplicates={self.duplicates!r:.80} is none of {', '.join(DUPLICATES)}")
        for option in ("max_gap", "every"):
            text = getattr(self, option)
            if text is not None:
                object.__setattr__(self, option, duration_text(text, option))
        if self.max_gap and self.every and nanoseconds(self.max_gap, "") < nanoseconds(self.every, ""):
            raise UsageError(f"max_gap={self.max_gap} is less than every={self.every}, so that each step is a gap")


def duration_text(text: str, option: str) -> str:
    """Return a length of time in one form for all ways to write it.

    >>> duration_text("1.50 h", "every"), duration_text("3600s", "every"), duration_text("1500ms", "every")
    ('90min', '1h', '1500ms')
    >>> duration_text("60T", "every"), duration_text("24 Hours", "every"), duration_text("7D", "every")
    ('1h', '1d', '1w')
    """
    length = nanoseconds(text, option)
    unit = [unit for unit, size in _NANOSECONDS.items() if not length % size][-1]
    return f"{length // _NANOSECONDS[unit]}{unit}"


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Rows that follow one another, in time without a jump if there are times.

    Args:
        frame: The rows.
        dropped: How many rows beside them were left out: without a time, or with that of another.
        stamps: When each was, rising; None: nobody knows.
    """

    frame: Frame
    dropped: int = 0
    stamps: Stamps | None = None


def nanoseconds(text: str, option: str) -> int:
    """Return how long a time is.

    Raises:
        UsageError: It is not written as one, or not a whole number of nanoseconds above 0.

    >>> nanoseconds("1.5h", "max_gap") == 5400 * 10**9
    True
    """
    found = _DURATION.fullmatch(text.strip())
    size = _NANOSECONDS.get(_unit(found[2])) if found else None
    value = Decimal(found[1]) * size if found and size else Decimal(0)
    if found and found[2] in ("m", "M"):
        raise UsageError(
            f"{option}={text!r:.80} is of months or of minutes, and nothing says which; write {found[1]}min for "
            "minutes; months are of no one length, so give days, as 31d"
        )
    if not value or value != value.to_integral_value():
        raise UsageError(
            f"{option}={text!r:.80} is no length of time; write a number and one of {', '.join(_NANOSECONDS)}, as 2h"
        )
    return int(value)


def _unit(written: str) -> str:
    """Return the name of a unit of time, whatever way it is written; of what is none, something else."""
    return _LETTERS.get(written) or _WORDS.get(written.lower(), written)


def stretches_of(
    frame: Frame, stamps: Stamps, rules: TimeRules, without: End, *, name: str, source: str
) -> Iterator[Stretch]:
    """Give the stretches of some rows, one after another.

    Args:
        frame: The rows.
        stamps: When each was.
        rules: What that has to be like.
        without: What becomes of rows without a time: `drop` leaves them out, `split` ends the stretch there as well,
            unless they are sorted; anything else refuses them.
        name: The column of the times, for errors.
        source: For errors.

    Raises:
        SourceError: A time is missing, falls, comes twice, or is off the regular step.
    """
    if stamps.absent.any() and without not in ("drop", "split"):
        advice = f"fill it in, or leave such rows out with --missing {name}=drop"
        refuse_any({name: stamps.absent}, Table.of(frame), source, "missing value", advice)
    rows = np.flatnonzero(~stamps.absent)
    if rules.sort:
        rows = rows[np.argsort(stamps.values[rows], kind="stable")]
    now, before = stamps.values[rows[1:]], stamps.values[rows[:-1]]
    wrong = partial(_wrong, frame, stamps, rows, f"column {name}", source)
    if (falls := now < before).any():
        clocks = (
            "" if stamps.zone or stamps.elapsed else "; where clocks were set back, write the zone beside each time"
        )
        raise wrong(falls, "comes before", f"--sort-time sorts the rows{clocks}")
    same = np.zeros(len(rows), np.bool_)
    same[1:] = now == before
    if same.any() and rules.duplicates == "error":
        raise wrong(same[1:], "is the time of", "--duplicates first, last or mean says which is taken")
    first, last = ~same, ~np.append(same[1:], False)[: len(rows)]  # whether each row is that of its time
    times = rows[last if rules.duplicates == "last" else first]
    jumps = _jumps(stamps, times, rules.max_gap)
    if without == "split" and not rules.sort:
        gone = np.cumsum(stamps.absent)
        jumps[1:] |= gone[rows[first]][1:] > gone[rows[last]][:-1]
    wrong = partial(_wrong, frame, stamps, times, f"column {name}", source)
    _check_step(stamps, times, jumps, rules.every, wrong)
    moment, number = np.cumsum(~same) - 1, np.cumsum(jumps)  # of each row its time, of each time its stretch
    dropped = _left_out(stamps.absent, rows, number[moment], sort=rules.sort) - np.bincount(number)
    if rules.duplicates == "mean":
        frame = _means(frame, rows, moment, times, source)
    elif len(times) < len(frame) or rules.sort:
        frame = frame.take(column_of(times))
    for one, count in enumerate(dropped.tolist()):
        start, stop = np.searchsorted(number, [one, one + 1]).tolist()
        yield Stretch(frame.slice(start, stop - start), count, stamps.taken(times[start:stop]))


def _jumps(stamps: Stamps, rows: NDArray[np.int64], max_gap: str | None) -> NDArray[np.bool_]:
    """Return where a stretch begins that is not the first: before which of the rows time jumps."""
    jumps = np.zeros(len(rows), np.bool_)
    if max_gap is not None:
        longest = nanoseconds(max_gap, "max_gap") // (PER_SECOND["ns"] // PER_SECOND[stamps.unit])
        jumps[1:] = _steps(stamps, rows) > min(longest, np.iinfo(np.uint64).max)
    return jumps


def _steps(stamps: Stamps, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the time between each row and the next; they rise, so that it is exact, however far they are apart."""
    values = stamps.values[rows].view(np.uint64)
    return values[1:] - values[:-1]


def _check_step(
    stamps: Stamps,
    rows: NDArray[np.int64],
    jumps: NDArray[np.bool_],
    every: str | None,
    wrong: Callable[..., SourceError],
) -> None:
    """Refuse rows of which one is not `every` after the last, but where a stretch begins."""
    if every is None:
        return
    size = PER_SECOND["ns"] // PER_SECOND[stamps.unit]
    step, rest = divmod(nanoseconds(every, "every"), size)
    steps = _steps(stamps, rows)
    off = ((steps != step) if not rest else np.ones(len(steps), np.bool_)) & ~jumps[1:]
    if off.any():
        away = f"{int(steps[off.argmax()]) * size / PER_SECOND['ns']:.9g} s"
        raise wrong(off, f"is {away} after", f"each step should be {every}; --max-gap ends a sequence at longer ones")


def _left_out(
    absent: NDArray[np.bool_], rows: NDArray[np.int64], number: NDArray[np.int64], *, sort: bool
) -> NDArray[np.int64]:
    """Count all rows of each stretch; those without a time with the one that comes after them, or the last.

    Args:
        absent: (all rows,) where there is no time.
        rows: Those that have one.
        number: Of each of these, which stretch it is in.
        sort: Whether their order is not that of the file; those without a time then count with the first.
    """
    counts = np.bincount(number)
    gone = np.flatnonzero(absent)
    if len(rows) and len(gone):
        after = np.minimum(np.searchsorted(rows, gone), len(rows) - 1)
        np.add.at(counts, np.zeros_like(gone) if sort else number[after], 1)
    return counts


def _means(
    frame: Frame, rows: NDArray[np.int64], moment: NDArray[np.int64], times: NDArray[np.int64], source: str
) -> Frame:
    """Return the mean of each column over the rows of each moment, as floats; what is missing does not count."""
    table = Table.of(frame)
    means = frame.select([ROW]).take(column_of(times))
    for name in table.columns:
        floats = as_floats(table, name, source)
        gaps = table.absent(name)
        absent = np.zeros(floats.shape, np.bool_) if gaps is None else gaps
        known = np.where(absent, 0.0, floats)[rows].astype(np.float64)
        sums = np.zeros((len(times), *floats.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        np.add.at(sums, moment, known)
        np.add.at(counts, moment, ~absent[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = means.append_column(name, column_of((sums / counts).astype(floats.dtype)))
    return means


def _wrong(  # noqa: PLR0917
    frame: Frame,
    stamps: Stamps,
    rows: NDArray[np.int64],
    column: str,
    source: str,
    where: NDArray[np.bool_],
    what: str,
    advice: str,
) -> SourceError:
    """Say what is wrong between a row and the one before; `where` (rows - 1,) that is."""
    before, row = rows[where.argmax() :][:2].tolist()
    number, other = (frame[ROW][one].as_py() for one in (row, before))
    return SourceError(
        source,
        f"row {number:,}, {column}: {stamps.text(row)} {what} {stamps.text(before)} in row {other:,} "
        f"({int(where.sum()):,} in all); {advice}",
    )
