"""The rows of a group in the order of their times: sorted, one a moment, cut where time jumps, at a regular step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError, UsageError
from builder.formats.convert import refuse_any
from builder.formats.table import Array, Table
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
    """Rows that follow one another in time, without a jump.

    Args:
        table: They.
        stamps: When each was, rising.
        rows: Which of the stamps are theirs.
        dropped: How many rows beside them were left out: without a time, or with that of another.
    """

    table: Table
    stamps: Stamps
    rows: NDArray[np.int64]
    dropped: int

    @property
    def time(self) -> NDArray[np.int64]:
        """When each row was, in the unit of the stamps."""
        return self.stamps.values[self.rows]


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


def in_time(
    table: Table, stamps: Stamps, rules: TimeRules, without: End, *, name: str, source: str
) -> Iterator[Stretch]:
    """Give the stretches of some rows, one after another.

    Args:
        table: The rows.
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
        refuse_any({name: stamps.absent}, table, source, "missing value", advice)
    rows = np.flatnonzero(~stamps.absent)
    if rules.sort:
        rows = rows[np.argsort(stamps.values[rows], kind="stable")]
    said = _Said(table, stamps, rows, name, source)
    now, before = stamps.values[rows[1:]], stamps.values[rows[:-1]]
    if (falls := now < before).any():
        clocks = (
            "" if stamps.zone or stamps.elapsed else "; where clocks were set back, write the zone beside each time"
        )
        raise said.wrong(falls, "comes before", f"--sort-time sorts the rows{clocks}")
    same = np.zeros(len(rows), np.bool_)
    same[1:] = now == before
    if same.any() and rules.duplicates == "error":
        raise said.wrong(same[1:], "is the time of", "--duplicates first, last or mean says which is taken")
    first, last = ~same, ~np.append(same[1:], False)[: len(rows)]  # whether each row is that of its time
    kept = last if rules.duplicates == "last" else first
    moment = np.cumsum(~same) - 1  # of each row, which of the different times it has
    times = rows[kept]
    jumps = _jumps(stamps, times, rules.max_gap)
    if without == "split" and not rules.sort:
        gone = np.cumsum(stamps.absent)
        jumps[1:] |= gone[rows[first]][1:] > gone[rows[last]][:-1]
    _check_step(_Said(table, stamps, times, name, source), jumps, rules.every)
    number = np.cumsum(jumps)  # of each time, which stretch it is in
    lost = _left_out(stamps.absent, rows, number[moment], sort=rules.sort) - np.bincount(number)
    if rules.duplicates == "mean":
        table = _means(table, rows, moment, source)
    places = np.arange(len(times)) if rules.duplicates == "mean" else times
    begins = [0, *np.flatnonzero(jumps).tolist()][: len(lost)]
    for begin, end, count in zip(begins, [*begins[1:], len(times)][: len(lost)], lost.tolist(), strict=True):
        whole = len(lost) == 1 and np.array_equal(places, np.arange(table.rows))
        yield Stretch(table if whole else table.taken(places[begin:end]), stamps, times[begin:end], count)


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


def _check_step(said: _Said, jumps: NDArray[np.bool_], every: str | None) -> None:
    if every is None:
        return
    size = PER_SECOND["ns"] // PER_SECOND[said.stamps.unit]
    step, rest = divmod(nanoseconds(every, "every"), size)
    found = _steps(said.stamps, said.rows)
    off = ((found != step) if not rest else np.ones(len(found), np.bool_)) & ~jumps[1:]
    if off.any():
        first = int(off.argmax())
        away = f"{int(found[first]) * size / PER_SECOND['ns']:.9g} s"
        raise said.wrong(
            off, f"is {away} after", f"each step should be {every}; --max-gap ends a sequence at longer ones"
        )


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


def _means(table: Table, rows: NDArray[np.int64], moment: NDArray[np.int64], source: str) -> Table:
    """Return the mean of each column over the rows of each moment, as floats; what is missing does not count."""
    count = int(moment[-1]) + 1 if len(moment) else 0
    columns: dict[str, Array] = {}
    for name in table.columns:
        floats = as_floats(table, name, source)
        gaps = table.absent(name)
        absent = np.zeros(floats.shape, np.bool_) if gaps is None else gaps
        known = np.where(absent, 0.0, floats)[rows].astype(np.float64)
        sums = np.zeros((count, *floats.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        np.add.at(sums, moment, known)
        np.add.at(counts, moment, ~absent[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            columns[name] = (sums / counts).astype(floats.dtype)
    first = np.flatnonzero(np.diff(moment, prepend=-1))
    return Table(columns=columns, numbers=np.array([table.number(row) for row in rows[first].tolist()], np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What errors say of rows and their times."""

    table: Table
    stamps: Stamps
    rows: NDArray[np.int64]
    name: str
    source: str

    def wrong(self, where: NDArray[np.bool_], what: str, advice: str) -> SourceError:
        """Say what is wrong between a row and the one before; (rows - 1,) where that is."""
        first = int(where.argmax())
        before, row = int(self.rows[first]), int(self.rows[first + 1])
        count = f"{int(where.sum()):,} in all"
        return SourceError(
            self.source,
            f"row {self.table.number(row):,}, column {self.name}: {self.stamps.text(row)} {what} "
            f"{self.stamps.text(before)} in row {self.table.number(before):,} ({count}); {advice}",
        )
