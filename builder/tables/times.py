"""When each row was: time stamps of any kind, as whole numbers of one unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError, UsageError
from builder.formats.arrow import is_text, what_it_holds
from builder.formats.decimals import widest
from builder.formats.table import HIDDEN, ROW, Frame
from builder.formats.text_numbers import otherwise_written, with_point
from builder.tables.time_text import Moments, StampError, Zone, by_formats, calendar, iso

Unit = Literal["s", "ms", "us", "ns"]
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)
PER_SECOND: Final[dict[Unit, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# Of text, whatever its digits: a coarser one, that holds the first file, may not hold the next.
DEFAULT_UNIT: Final[Unit] = "ns"
MOST_COLUMNS: Final = 6
_HOLDS: Final = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeFormat:
    """How time stamps are written.

    Args:
        columns: The one that has them; or two of text, a date and a time of day; or three to six of whole numbers:
            year, month, day, hour, minute, second.
        formats: As `datetime.strptime` reads them; none: ISO 8601.
        unit: What numbers count, and what stamps are stored in; None: there are no numbers, and stamps of text are
            stored in nanoseconds. So are numbers that are text, floats or decimals, whatever they count.
        elapsed: Whether numbers count from some beginning, and not from 1970.
        decimal: What stands before decimals of numbers that are text.
    """

    columns: tuple[str, ...]
    formats: tuple[str, ...] = ()
    unit: Unit | None = None
    elapsed: bool = False
    decimal: str = "."

    def __post_init__(self) -> None:
        if len(self.columns) > MOST_COLUMNS:
            raise UsageError(
                f"time={','.join(self.columns)} has {len(self.columns)} columns; it is one, or a date and a time, or "
                "year, month, day, hour, minute, second"
            )
        if self.unit is not None and self.unit not in UNITS:
            raise UsageError(f"time_unit={self.unit!r:.80} is none of {', '.join(UNITS)}")
        if self.elapsed and (self.unit is None or self.formats or len(self.columns) > 1):
            raise UsageError("elapsed is for one column of numbers; say what they count with time_unit (--time-unit)")
        for form in self.formats:
            if not any(year in form for year in ("%Y", "%y", "%G", "%c", "%x", "%D", "%s")):
                raise UsageError(f"time_format={form!r:.80} has no year, as %Y; see Python's strptime")


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """When each of some rows was.

    Args:
        values: (rows,) whole numbers of the unit, since 1970, or since some beginning; anything where there is none.
        unit: Of these.
        absent: (rows,) where there is none.
        zone: `"UTC"`, or None for local times without a zone.
        elapsed: Whether they count from some beginning.
    """

    values: NDArray[np.int64]
    unit: Unit
    absent: NDArray[np.bool_]
    zone: Zone = None
    elapsed: bool = False

    @property
    def array(self) -> NDArray[Any]:
        """They as datetime64 or timedelta64."""
        return self.values.view(f"{'m' if self.elapsed else 'M'}8[{self.unit}]")

    def taken(self, rows: NDArray[np.int64]) -> Stamps:
        """Return those of some rows."""
        return replace(self, values=self.values[rows], absent=self.absent[rows])

    def text(self, row: int) -> str:
        """Write one down."""
        if self.elapsed:
            return f"{self.values[row]:,} {self.unit}"
        stamp = np.datetime_as_string(self.array[row], unit="auto")
        return f"{stamp}{'Z' if self.zone else ''}"


def stamps_in(frame: Frame, how: TimeFormat, source: str) -> Stamps:
    """Read the time stamps of some rows, from hidden columns that have them as they are.

    Args:
        frame: The rows.
        how: How they are written.
        source: For errors.

    Raises:
        SourceError: One cannot be read without guessing, or does not fit into the unit.
    """
    name = ",".join(how.columns)
    try:
        return _read([frame[HIDDEN + column].combine_chunks() for column in how.columns], how, source, name)
    except StampError as error:
        raise SourceError(source, f"row {frame[ROW][error.row].as_py():,}, column {name}: {error.why}") from None


def _read(columns: list[Any], how: TimeFormat, source: str, name: str) -> Stamps:
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    if len(columns) > 2:
        return _of_calendar(columns, how, source)
    column = columns[0]
    if len(columns) == 2:
        column = pc.binary_join_element_wise(*(one.cast(pa.string()) for one in columns), " ")
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    absent = column.is_null().to_numpy(zero_copy_only=False)
    kind = column.type
    if types.is_timestamp(kind):
        values = column.cast(pa.int64()).fill_null(0).to_numpy()
        return _in_unit(values, kind.unit, how.unit or kind.unit, absent, None if kind.tz is None else "UTC")
    if types.is_date(kind):
        days = column.cast(pa.date32()).cast(pa.int32()).fill_null(0).to_numpy().astype(np.int64)
        return _in_unit(days * 86_400, "s", how.unit or "s", absent, None)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        if how.unit is None:
            raise SourceError(source, f"column {name} holds numbers; say what they count with --time-unit, as s")
        if types.is_decimal(kind):
            return _counted_text(column.cast(pa.string()), replace(how, decimal="."), absent)
        return _counted(column, how.unit, absent, elapsed=how.elapsed)
    if not is_text(kind):
        raise SourceError(source, f"column {name} holds {what_it_holds(kind)}, and no times")
    if how.formats:
        return _exactly(by_formats(column, how.formats), how.unit, absent)
    if how.elapsed or (how.unit is not None and _looks_counted(column, how.decimal)):
        return _counted_text(column, how, absent)
    return _exactly(iso(column, how.decimal), how.unit, absent)


def _of_calendar(columns: list[Any], how: TimeFormat, source: str) -> Stamps:
    import pyarrow as pa

    whole = []
    for name, column in zip(how.columns, columns, strict=True):
        try:
            whole.append(widest(column).cast(pa.int64()))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise SourceError(
                source, f"column {name} holds no whole numbers; of several columns of --time, each is one of "
                "year, month, day, hour, minute, second",
            ) from None  # fmt: skip
    absent = np.logical_or.reduce([column.is_null().to_numpy(zero_copy_only=False) for column in whole])
    usual = (1970, 1, 1, 0, 0, 0)
    values = [
        np.where(absent, one, column.fill_null(one).to_numpy()) for column, one in zip(whole, usual, strict=False)
    ]
    return _in_unit(calendar(values).seconds, "s", how.unit or "s", absent, None)


def _looks_counted(column: Any, decimal: str) -> bool:
    """Whether the first stamp of a column of text is a number."""
    first = next((text.as_py() for text in column if text.is_valid), None)
    return first is not None and _decimal(first, decimal) is not None


def _counted(column: Any, unit: Unit, absent: NDArray[np.bool_], *, elapsed: bool) -> Stamps:
    """Return numbers of a unit: whole ones in that, and floats to the nearest nanosecond."""
    import pyarrow as pa

    zone: Zone = None if elapsed else "UTC"
    if pa.types.is_integer(column.type):
        try:
            return Stamps(column.cast(pa.int64()).fill_null(0).to_numpy(), unit, absent, zone, elapsed)
        except pa.ArrowInvalid:
            values = column.fill_null(0).to_numpy()
            row = int((values > _HOLDS.max).argmax())
            raise StampError(row, f"{values[row]} {unit} is beyond what int64 holds; correct it") from None
    floats = column.cast(pa.float64()).fill_null(0.0).to_numpy()
    absent = absent | np.isnan(floats)
    with np.errstate(over="ignore"):
        exact = np.where(absent, 0.0, floats) * (PER_SECOND["ns"] // PER_SECOND[unit])
    if (wrong := ~(np.abs(exact) < float(_HOLDS.max))).any():
        row = int(wrong.argmax())
        raise StampError(row, f"{floats[row]} {unit} is beyond what int64 holds in nanoseconds; correct it")
    return Stamps(np.rint(exact).astype(np.int64), "ns", absent, zone, elapsed)


def _counted_text(column: Any, how: TimeFormat, absent: NDArray[np.bool_]) -> Stamps:
    """Return numbers in text as nanoseconds, as exact as they are written, whether this file's are whole or not."""
    import pyarrow as pa

    unit, elapsed = how.unit or DEFAULT_UNIT, how.elapsed
    size = PER_SECOND["ns"] // PER_SECOND[unit]
    zone: Zone = None if elapsed else "UTC"
    try:
        whole = column.cast(pa.int64()).fill_null(0).to_numpy()
    except pa.ArrowInvalid:
        pass  # not all are whole numbers
    else:
        return replace(_in_unit(whole, unit, "ns", absent, zone), elapsed=elapsed)
    values = np.zeros(len(column), np.int64)
    for row, text in enumerate(column.to_pylist()):
        if text is None:
            continue
        value = _decimal(text, how.decimal)
        if value is None:
            advice = otherwise_written(text, how.decimal) or "correct it"
            raise StampError(row, f"{text!r:.80} is no number of {unit}, as others are; {advice}")
        exact = (value * size).to_integral_value()
        if abs(exact) > _HOLDS.max:
            raise StampError(row, f"{text:.80} {unit} is beyond what int64 holds in nanoseconds; correct it")
        values[row] = int(exact)
    return Stamps(values, "ns", absent, zone, elapsed)


def _decimal(text: str, decimal: str) -> Decimal | None:
    try:
        value = Decimal(with_point(text, decimal))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) < 400 else None


def _exactly(moments: Moments, unit: Unit | None, absent: NDArray[np.bool_]) -> Stamps:
    """Return moments in a unit that has to hold each exactly."""
    unit = unit or DEFAULT_UNIT
    per_second, size = PER_SECOND[unit], PER_SECOND["ns"] // PER_SECOND[unit]
    seconds = np.where(absent, 0, moments.seconds)
    nanoseconds = np.where(absent, 0, moments.nanoseconds)
    _refuse_inexact(nanoseconds, size, unit)
    # Dates of text have four digits of years, so that only nanoseconds can be too many.
    if (wrong := np.abs(seconds) >= _HOLDS.max // per_second).any():
        row = int(wrong.argmax())
        year = seconds[row : row + 1].view("M8[s]").astype("M8[Y]")[0]
        raise StampError(row, f"the year {year} is beyond what int64 holds in {unit}; store it with --time-unit s")
    return Stamps(seconds * per_second + nanoseconds // size, unit, absent, moments.zone)


def _in_unit(values: NDArray[np.int64], has: Unit, unit: Unit, absent: NDArray[np.bool_], zone: Zone) -> Stamps:
    """Return whole numbers of one unit as those of another."""
    values = np.where(absent, 0, values)
    if PER_SECOND[unit] < PER_SECOND[has]:
        size = PER_SECOND[has] // PER_SECOND[unit]
        _refuse_inexact(values, size, unit)
        return Stamps(values // size, unit, absent, zone)
    size = PER_SECOND[unit] // PER_SECOND[has]
    if (wrong := np.abs(values) > _HOLDS.max // size).any():
        row = int(wrong.argmax())
        raise StampError(
            row, f"{values[row]:,} {has} is beyond what int64 holds in {unit}; correct it, or store it in {has}"
        )
    return Stamps(values * size, unit, absent, zone)


def _refuse_inexact(values: NDArray[np.int64], size: int, unit: Unit) -> None:
    if (wrong := values % size != 0).any():
        row = int(wrong.argmax())
        raise StampError(
            row, f"its time is no whole number of {unit} ({int(wrong.sum()):,} in all); store it in a finer --time-unit"
        )
