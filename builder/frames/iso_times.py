"""Parse time stamps in text. Ambiguous ones are refused, never guessed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from builder.formats.arrow_modules import pa, pc
from builder.formats.table import shorten
from builder.formats.text_numbers import first_cast_failure, use_point
from builder.options.table_options import Unit

Zone = Literal["UTC"] | None

DIGITS: Final[dict[Unit, int]] = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_ZONE: Final = r"(Z|[+-]\d\d(:?\d\d)?)$"
_ISO: Final = rf"^\d{{4}}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{{1,9}})?)?{_ZONE[:-1]}?)?$"  # the form that pyarrow reads
_OTHER_ISO: Final = (  # other forms of ISO 8601, and their replacements
    (r"^(\d{4})(\d\d)(\d\d)[T ](\d\d)(\d\d)(\d\d)([.,Zz+-].*)?$", r"\1-\2-\3T\4:\5:\6\7"),
    (r"^(\d{4})(\d\d)(\d\d)[T ](\d\d)(\d\d)([Zz+-].*)?$", r"\1-\2-\3T\4:\5\6"),
    (r"^(\d{4}-\d\d)([T ].*)?$", r"\1-01\2"),
    (r"(\d),(\d)", r"\1.\2"),
    (r"(\d)\s?[Zz]$", r"\1Z"),
    (rf"(\d)\s{_ZONE}", r"\1\2"),
)
_DAY_AND_MONTH: Final = re.compile(r"(\d\d?)([./-])(\d\d?)\2(\d{4}|\d\d)\b")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class StampError(Exception):
    """The time of the row with index `row` cannot be read; `why` says what is wrong."""

    row: int
    why: str


def parse_iso(column: Any, unit: Unit, decimal: str = ".") -> tuple[NDArray[np.int64], Zone]:
    """Parse ISO 8601: a date, or a date and a time of day, with a zone or without; basic (20200131T1200Z) or extended.

    Args:
        column: A pyarrow array of text; nulls are skipped.
        unit: The unit of the result, counted from 1970; each time must be a whole number of units.
        decimal: The decimal mark of numbers, for error messages; seconds may have either mark.

    Raises:
        StampError: A text is not ISO 8601, is an impossible date or time, or does not fit into the unit; or only some
            of them have a zone.
    """
    text = column
    if (row := _first(text, _ISO, fits=False)) is not None:
        for pattern, written in _OTHER_ISO:
            text = pc.replace_substring_regex(text, pattern, written)
        row = _first(text, _ISO, fits=False)
    if row is not None:
        raise StampError(row, _not_iso(column[row].as_py(), decimal))
    zoned = pc.match_substring_regex(text, rf":.*{_ZONE}").fill_null(False).to_numpy(zero_copy_only=False)
    _refuse_mix(zoned, column)
    zone: Zone = "UTC" if zoned.any() else None
    if unit != "ns":
        finer = rf"([.]\d{{{DIGITS[unit]}}})\d*"
        if (row := _first(text, rf"{finer}[1-9]", fits=True)) is not None:
            count = pc.sum(pc.match_substring_regex(text, rf"{finer}[1-9]")).as_py()
            raise StampError(row, _inexact(count, unit))
        text = pc.replace_substring_regex(text, finer, r"\1" if DIGITS[unit] else "")
    try:
        values = text.cast(pa.timestamp(unit, zone))
    except pa.ArrowInvalid:
        row = first_cast_failure(text, pa.timestamp(unit, zone))
        why = "is not a valid date and time; correct it"
        second = pc.replace_substring_regex(text.slice(row, 1), r"[.]\d+", "")
        try:
            year = second.cast(pa.timestamp("s", zone))[0].as_py().year
        except pa.ArrowInvalid:
            raise StampError(row, f"{_shown(column[row].as_py())} {why}") from None
        why = f"the year {year} is beyond what int64 holds in {unit}; store it with --time-unit s"
        raise StampError(row, why) from None
    return values.cast(pa.int64()).fill_null(0).to_numpy(), zone


def _first(text: Any, pattern: str, *, fits: bool) -> int | None:
    """Return the first row that matches a regular expression (or does not match it, if not `fits`), or None."""
    row: int = pc.index(pc.match_substring_regex(text, pattern), fits).as_py()
    return None if row < 0 else row


def parse_formats(column: Any, formats: Sequence[str]) -> tuple[NDArray[np.int64], Zone]:
    """Parse text like `datetime.strptime`, by any of the formats, as microseconds since 1970.

    Raises:
        StampError: No format matches a text, or several do with different results; or only some texts have a zone.
    """
    encoded = column.dictionary_encode()
    moments = [_moment(text, formats) for text in encoded.dictionary.to_pylist()]
    for code, moment in enumerate(moments):
        if isinstance(moment, str):
            raise StampError(encoded.indices.index(code).as_py(), moment)
    known = [moment for moment in moments if isinstance(moment, datetime)]
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    codes = encoded.indices.to_numpy(zero_copy_only=False)[valid].astype(np.int64)
    zoned, values = np.zeros(len(column), np.bool_), np.zeros(len(column), np.int64)
    zoned[valid] = np.array([moment.tzinfo is not None for moment in known], np.bool_)[codes]
    _refuse_mix(zoned, column)
    since = [(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH for moment in known]
    values[valid] = np.array([one // timedelta(microseconds=1) for one in since], np.int64)[codes]
    return values, "UTC" if zoned.any() else None


def convert_unit(values: NDArray[np.int64], has: Unit, unit: Unit) -> NDArray[np.int64]:
    """Convert whole numbers of the unit `has` to `unit`; StampError if a result is not whole, or exceeds int64."""
    finer = DIGITS[has] - DIGITS[unit]
    if finer > 0:
        size = 10**finer
        if (wrong := values % size != 0).any():
            raise StampError(int(wrong.argmax()), _inexact(int(wrong.sum()), unit))
        return np.asarray(values // size)
    size = 10**-finer
    if (wrong := np.abs(values) > np.iinfo(np.int64).max // size).any():
        row = int(wrong.argmax())
        raise StampError(
            row, f"{values[row]:,} {has} is beyond what int64 holds in {unit}; correct it, or store it in {has}"
        )
    return np.asarray(values * size)


def _inexact(count: int, unit: Unit) -> str:
    return f"its time is not a whole number of {unit} ({count:,} in all); store it in a finer --time-unit"


def _moment(text: str, formats: Sequence[str]) -> datetime | str:
    """Return the time of a text according to the formats, or why it has none."""
    by_format: dict[str, datetime] = {}
    for form in formats:
        try:
            by_format[form] = datetime.strptime(text, form)  # noqa: DTZ007  # without a zone it is a local time
        except ValueError:
            continue
    if not by_format:
        return f"{_shown(text)} does not match {' or '.join(map(repr, formats))}; correct it, or --time-format"
    if len(set(by_format.values())) > 1:
        (first, a), (second, b), *_ = by_format.items()
        return f"{_shown(text)} is {a} by {first!r} and {b} by {second!r}; use only one of them for --time-format"
    return next(iter(by_format.values()))


def _refuse_mix(zoned: NDArray[np.bool_], column: Any) -> None:
    """Refuse a column in which only some time stamps have a zone."""
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
    """Return the explanation of a text that is not ISO 8601."""
    if match := _DAY_AND_MONTH.match(text):
        first, mark, second, digits = match.groups()
        year = "%Y" if len(digits) == 4 else "%y"
        orders = ((("%d", "%m", year), first, second), (("%m", "%d", year), second, first))
        forms = [
            f"'{mark.join(order)}'" for order, day, month in orders if 1 <= int(day) <= 31 and 1 <= int(month) <= 12
        ]
        if len(forms) == 2:
            both = " or ".join(forms)
            return f"{_shown(text)} may begin with a day or with a month; say which with --time-format, such as {both}"
        if forms:
            advice = f"give its format with --time-format, such as {forms[0]}"
            return f"{_shown(text)} is not a time stamp of ISO 8601; {advice}"
    try:
        float(use_point(text, decimal))
    except ValueError:
        return (
            f"{_shown(text)} is not a time stamp of ISO 8601, such as 2020-01-31T12:00:00Z; give its format with "
            "--time-format, such as '%d.%m.%Y %H:%M'"
        )
    return f"{_shown(text)} is a number; give its unit with --time-unit, such as s"


def _shown(text: str) -> str:
    return shorten(repr(text), 60)
