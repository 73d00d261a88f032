"""Time stamps out of text, as seconds since 1970 and nanoseconds: nothing is guessed, what is unsure is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from builder.formats.table import shortened
from builder.formats.text_numbers import first_that_fails, with_point

Zone = Literal["UTC"] | None

_ISO: Final = (
    r"^(?P<date>\d{4}-\d\d(?:-\d\d)?)"
    r"(?:[T ](?P<clock>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<part>\d{1,9}))?\s?(?P<zone>Z|z|[+-]\d\d(?::?\d\d)?)?)?$"
)
_BASIC: Final = r"^(\d{4})(\d\d)(\d\d)[T ](\d\d)(\d\d)(\d\d)?([.,Zz+-].*)?$"  # without hyphens and colons
_DAY_OR_MONTH: Final = re.compile(r"\d\d?([./-])\d\d?\1(\d{4}|\d\d)\b")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class StampError(Exception):
    """A row has no time that can be read.

    Args:
        row: Its index.
        why: What is wrong.
    """

    def __init__(self, row: int, why: str) -> None:
        super().__init__(row, why)
        self.row, self.why = row, why


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """When each row was, as (rows,) seconds since 1970, and the nanoseconds that follow; anything where it has no time.

    Args:
        seconds: Rounded down.
        nanoseconds: At least 0, and below 10**9.
        zone: `"UTC"`, or None for local times without a zone.
    """

    seconds: NDArray[np.int64]
    nanoseconds: NDArray[np.int64]
    zone: Zone = None


def iso(column: Any, decimal: str = ".") -> Moments:
    """Read ISO 8601: a date, or a date and a time of day, with a zone or without; basic (20200131T1200Z) or extended.

    Args:
        column: A pyarrow array of text; nulls are passed over.
        decimal: What stands before decimals of what is a number instead; those of seconds may have either mark.

    Raises:
        StampError: One is written otherwise, is no moment, or some have a zone and others none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.extract_regex(column, _ISO)
    wrong = pc.and_(column.is_valid(), found.is_null())
    if pc.any(wrong).as_py():
        found = pc.extract_regex(_extended(column), _ISO)
        wrong = pc.and_(column.is_valid(), found.is_null())
    if pc.any(wrong).as_py():
        row = wrong.index(True).as_py()
        raise StampError(row, _not_iso(column[row].as_py(), decimal))
    date, clock, part, zone = (pc.struct_field(found, name) for name in ("date", "clock", "part", "zone"))
    whole = pc.if_else(pc.equal(pc.utf8_length(date), 7), pc.binary_join_element_wise(date, "01", "-"), date)
    clock = pc.if_else(pc.equal(clock, ""), "00:00", clock)
    clock = pc.if_else(pc.equal(pc.utf8_length(clock), 5), pc.binary_join_element_wise(clock, "00", ":"), clock)
    text = pc.binary_join_element_wise(whole, clock, "T")
    try:
        seconds = _filled(text.cast(pa.timestamp("s")).cast(pa.int64()))
    except pa.ArrowInvalid:
        row = first_that_fails(text, pa.timestamp("s"))
        raise StampError(row, f"{_shown(column[row].as_py())} is no moment of any calendar; correct it") from None
    nanoseconds = _filled(pc.utf8_rpad(part, 9, padding="0").cast(pa.int64()))
    zoned = pc.not_equal(zone, "")
    _refuse_mix(zoned.fill_null(False).to_numpy(zero_copy_only=False), column)
    if not pc.any(zoned).as_py():
        return Moments(seconds, nanoseconds)
    digits = pc.utf8_rpad(pc.replace_substring_regex(zone, "[Zz:+-]", ""), 4, padding="0").cast(pa.int64())
    offset = _filled(digits)
    minutes = offset // 100 * 60 + offset % 100
    sign = np.where(pc.starts_with(zone, "-").fill_null(False).to_numpy(zero_copy_only=False), -1, 1)
    return Moments(seconds - sign * minutes * 60, nanoseconds, "UTC")


def _extended(column: Any) -> Any:
    """Put hyphens and colons into what is written without any."""
    import pyarrow.compute as pc

    to_the_minute = r"\1-\2-\3T\4:\5"
    basic = pc.match_substring_regex(column, _BASIC)
    second = pc.match_substring_regex(column, r"^\d{8}[T ]\d{6}")
    written = pc.if_else(
        second,
        pc.replace_substring_regex(column, _BASIC, rf"{to_the_minute}:\6\7"),
        pc.replace_substring_regex(column, _BASIC, rf"{to_the_minute}\7"),
    )
    return pc.if_else(basic, written, column)


def by_formats(column: Any, formats: Sequence[str]) -> Moments:
    """Read text as `datetime.strptime` does, by the one of some formats that fits.

    Raises:
        StampError: None fits one of them, several do and say different moments, or some have a zone and others none.
    """
    encoded = column.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(0).to_numpy().astype(np.int64)
    if not texts:
        return Moments(np.zeros(len(column), np.int64), np.zeros(len(column), np.int64))
    moments = [_moment(text, formats) for text in texts]
    for code, moment in enumerate(moments):
        if isinstance(moment, str):
            raise StampError(encoded.indices.index(code).as_py(), moment)
    zoned = np.array([isinstance(moment, datetime) and moment.tzinfo is not None for moment in moments])
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    _refuse_mix(zoned[codes] & valid, column)
    since = [
        (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
        for moment in moments
        if isinstance(moment, datetime)
    ]
    seconds = np.array([one // timedelta(seconds=1) for one in since], np.int64)
    nanoseconds = np.array([one % timedelta(seconds=1) // timedelta(microseconds=1) * 1_000 for one in since], np.int64)
    return Moments(seconds[codes], nanoseconds[codes], "UTC" if zoned.any() else None)


def calendar(columns: Sequence[NDArray[np.int64]]) -> Moments:
    """Put together year, month, day, and perhaps hour, minute and second, of a local time.

    Raises:
        StampError: There is no such day, or time of day.
    """
    year, month, day = columns[:3]
    limits = ((1, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 59))
    names = ("year", "month", "day", "hour", "minute", "second")
    for name, column, (low, high) in zip(names, columns, limits, strict=False):
        if (wrong := (column < low) | (column > high)).any():
            row = int(wrong.argmax())
            raise StampError(row, f"{name} {column[row]:,} is not within {low} to {high:,}; correct it")
    months = (year - 1970) * 12 + month - 1
    days = months.view("M8[M]").astype("M8[D]") + (day - 1)
    if (wrong := days.astype("M8[M]") != months.view("M8[M]")).any():
        row = int(wrong.argmax())
        raise StampError(row, f"month {month[row]} of {year[row]} has no day {day[row]}; correct it")
    seconds = days.astype(np.int64) * 86_400
    for column, size in zip(columns[3:], (3_600, 60, 1), strict=False):
        seconds = seconds + column * size
    return Moments(seconds, np.zeros_like(seconds))


def _moment(text: str, formats: Sequence[str]) -> datetime | str:
    """Return the moment that text says by the formats, or why it says none."""
    found: dict[str, datetime] = {}
    for form in formats:
        try:
            found[form] = datetime.strptime(text, form)  # noqa: DTZ007  # what has no zone is taken for a local time
        except ValueError:
            continue
    if not found:
        return f"{_shown(text)} is not of the format {' or '.join(map(repr, formats))}; correct it, or --time-format"
    if len(set(found.values())) > 1:
        (first, a), (second, b), *_ = found.items()
        return f"{_shown(text)} is {a} by {first!r} and {b} by {second!r}; give one of them as --time-format"
    return next(iter(found.values()))


def _refuse_mix(zoned: NDArray[np.bool_], column: Any) -> None:
    """Refuse stamps with a zone among stamps without."""
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if not zoned.any() or zoned[valid].all():
        return
    bare = int((valid & ~zoned).argmax())
    other = int(zoned.argmax())
    row, before = max(bare, other), min(bare, other)
    raise StampError(
        row,
        f"{_shown(column[row].as_py())} has {'no' if row == bare else 'a'} zone, but {_shown(column[before].as_py())} "
        f"before it has {'one' if row == bare else 'none'}; write all with their zone, or all without",
    )


def _not_iso(text: str, decimal: str) -> str:
    if found := _DAY_OR_MONTH.match(text):
        mark = found[1]
        year = "%Y" if len(found[2]) == 4 else "%y"
        forms = " or ".join(f"'{mark.join(order)}'" for order in (("%d", "%m", year), ("%m", "%d", year)))
        return f"{_shown(text)} may begin with a day or with a month; say which with --time-format, as {forms}"
    try:
        float(with_point(text, decimal))
    except ValueError:
        return (
            f"{_shown(text)} is no time stamp of ISO 8601, as 2020-01-31T12:00:00Z; say how it is written with "
            "--time-format, as '%d.%m.%Y %H:%M'"
        )
    return f"{_shown(text)} is a number; say what it counts with --time-unit, as s"


def _filled(column: Any) -> NDArray[np.int64]:
    values: NDArray[np.int64] = column.fill_null(0).to_numpy(zero_copy_only=False)
    return values


def _shown(text: str) -> str:
    return shortened(repr(text), 60)
