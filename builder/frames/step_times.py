"""Read time stamps of any kind as whole numbers of one unit, and order rows by them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.arrow import describe_type, is_text, widen
from builder.formats.arrow_modules import pa, pc
from builder.formats.convert import refuse_any
from builder.formats.table import Array, Table
from builder.formats.text_numbers import first_cast_failure, notation_advice, use_point
from builder.frames.iso_times import StampError, Zone, convert_unit, parse_formats, parse_iso
from builder.frames.transforms import as_floats
from builder.options.option_syntax import NANOSECONDS, End, nanoseconds
from builder.options.table_options import TableOptions, Unit

# For text with any number of digits: a coarser unit that suits the first file may not suit the next.
DEFAULT_UNIT: Final[Unit] = "ns"
_INT64: Final = np.iinfo(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """The time stamps of some rows."""

    values: NDArray[np.int64]  # (rows,) whole numbers of the unit since 1970, or since some start; arbitrary if absent
    unit: Unit
    absent: NDArray[np.bool_]  # (rows,) True if a row has no time
    zone: Zone = None  # "UTC", or None for local times without a zone
    elapsed: bool = False  # whether `values` count from some start instead of 1970

    @property
    def array(self) -> NDArray[Any]:
        """The stamps as datetime64 or timedelta64."""
        return self.values.view(f"{'m' if self.elapsed else 'M'}8[{self.unit}]")

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the stamps of some rows."""
        return replace(self, values=self.values[rows], absent=self.absent[rows])

    def text(self, row: int) -> str:
        """Return the stamp of a row as text."""
        if self.elapsed:
            return f"{self.values[row]:,} {self.unit}"
        stamp = np.datetime_as_string(self.array[row], unit="auto")
        return f"{stamp}{'Z' if self.zone else ''}"


def to_utc(stamps: Stamps, zone: str, *, sort: bool) -> Stamps:
    """Convert local times of a zone to UTC.

    When clocks are set back, an hour occurs twice. In consecutive rows of such an hour, its second occurrence begins
    where the times decrease.

    Args:
        stamps: Local times, in the order of the file.
        zone: A name such as `Europe/Berlin`.
        sort: Whether the rows are unordered, so that such hours are ambiguous.

    Raises:
        StampError: A time does not exist in the zone, or is ambiguous.
    """
    local = pa.array(stamps.array, mask=stamps.absent)
    first, second = (pc.assume_timezone(local, zone, ambiguous=one, nonexistent=one) for one in ("earliest", "latest"))
    shown = pc.equal(pc.local_timestamp(first), local)
    if (row := pc.index(shown, False).as_py()) >= 0:
        raise StampError(row, f"{stamps.text(row)} does not exist in {zone}: clocks were set forward; correct it")
    early, late = (np.array(one.cast(pa.int64()).fill_null(0)) for one in (first, second))
    known = np.flatnonzero(~stamps.absent)
    twice = known[early[known] != late[known]]
    # Rows of one such hour are consecutive among the rows with a time, and less than a day apart.
    day = 86_400 * NANOSECONDS["s"] // NANOSECONDS[stamps.unit]
    apart = (np.diff(np.searchsorted(known, twice)) > 1) | (np.abs(np.diff(stamps.values[twice])) >= day)
    hours = np.split(twice, np.flatnonzero(apart) + 1)
    for rows in hours if len(twice) else ():
        falls = np.append(False, stamps.values[rows[1:]] <= stamps.values[rows[:-1]])
        if sort or falls.sum() != 1:
            raise StampError(
                int(rows[0]),
                f"{stamps.text(rows[0])} occurs twice in {zone}, as clocks were set back, and the order of the rows "
                "does not determine which it is; write the zone with each time",
            )
        early[rows[falls.argmax() :]] = late[rows[falls.argmax() :]]
    return replace(stamps, values=early, zone="UTC")


def read_stamps(table: Table, columns: Sequence[str], options: TableOptions, decimal: str = ".") -> Stamps:
    """Read the time stamps of some rows from unconverted columns.

    There is one column; or two of text, a date and a time of day; or three to six of whole numbers: year, month, day,
    hour, minute, second.
    """
    name = ",".join(columns)
    raw = {column: table.raw[column].combine_chunks() for column in columns}
    try:
        if len(columns) > 2:
            stamps = _from_calendar(raw, options.time_unit or "s")
        else:
            stamps = _read(list(raw.values()), options, name, decimal)
        if options.time_zone is not None and stamps.zone is None:
            return to_utc(stamps, options.time_zone, sort=options.sort_time)
        return stamps
    except StampError as error:
        raise SourceError(f"row {table.number(error.row):,}, column {name}: {error.why}") from None


def _read(columns: list[Any], options: TableOptions, name: str, decimal: str) -> Stamps:
    types = pa.types
    column = columns[0]
    if len(columns) == 2:
        column = pc.binary_join_element_wise(*(one.cast(pa.string()) for one in columns), " ")
    absent = column.is_null().to_numpy(zero_copy_only=False)
    kind = column.type
    if types.is_timestamp(kind) or types.is_date(kind):
        has: Unit = kind.unit if types.is_timestamp(kind) else "s"
        unit = options.time_unit or has
        values = column.cast(pa.timestamp(has, getattr(kind, "tz", None))).cast(pa.int64()).fill_null(0).to_numpy()
        return Stamps(convert_unit(values, has, unit), unit, absent, "UTC" if getattr(kind, "tz", None) else None)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        if options.time_unit is None:
            raise SourceError(f"column {name} holds numbers; give their unit with --time-unit, such as s")
        if types.is_decimal(kind):
            return _from_texts(column.cast(pa.string()), options.time_unit, absent, elapsed=options.elapsed)
        return _from_numbers(column, options.time_unit, absent, elapsed=options.elapsed)
    if not is_text(kind):
        raise SourceError(f"column {name} holds {describe_type(kind)}, not times")
    unit = options.time_unit or DEFAULT_UNIT
    if options.time_format:
        values, zone = parse_formats(column, options.time_format)
        return Stamps(convert_unit(values, "us", unit), unit, absent, zone)
    first = next((text.as_py() for text in column if text.is_valid), "")
    if options.elapsed or (options.time_unit is not None and _decimal(first, decimal) is not None):
        return _from_texts(column, unit, absent, elapsed=options.elapsed, decimal=decimal)
    values, zone = parse_iso(column, unit, decimal)
    return Stamps(values, unit, absent, zone)


def _from_calendar(columns: Mapping[str, Any], unit: Unit) -> Stamps:
    """Read whole numbers as year, month, day, and perhaps hour, minute, second."""
    texts: list[Any] = []
    for name, column in columns.items():
        try:
            wide = widen(column)
            if is_text(wide.type):
                wide.cast(pa.float64())  # first, since pyarrow takes 0x10 for an integer
            whole = wide.cast(pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise SourceError(
                f"column {name} holds no whole numbers; three or more columns of --time must be year, month, "
                "day, hour, minute, second"
            ) from None  # fmt: skip
        texts.append(pc.utf8_lpad(whole.cast(pa.string()), 2 if texts else 4, "0"))
    date = pc.binary_join_element_wise(*texts[:3], "-")
    times = [*texts[3:], *[pa.scalar("00")] * (6 - len(texts))]
    column = pc.binary_join_element_wise(date, pc.binary_join_element_wise(*times, ":"), " ")
    kind = pa.timestamp(unit)
    try:
        values = column.cast(kind).cast(pa.int64()).fill_null(0).to_numpy()
    except pa.ArrowInvalid:
        row = first_cast_failure(column, kind)
        limit = "" if unit == "s" else f", or beyond what int64 holds in {unit}"
        raise StampError(row, f"{column[row]} is not a valid date and time{limit}; correct it") from None
    return Stamps(values, unit, column.is_null().to_numpy(zero_copy_only=False))


def _from_numbers(column: Any, unit: Unit, absent: NDArray[np.bool_], *, elapsed: bool) -> Stamps:
    """Return numbers as stamps: integers in their unit, floats rounded to nanoseconds."""
    zone: Zone = None if elapsed else "UTC"
    if pa.types.is_integer(column.type):
        try:
            return Stamps(column.cast(pa.int64()).fill_null(0).to_numpy(), unit, absent, zone, elapsed)
        except pa.ArrowInvalid:
            values = column.fill_null(0).to_numpy()
            row = int((values > _INT64.max).argmax())
            raise StampError(row, f"{values[row]} {unit} is beyond what int64 holds; correct it") from None
    floats = column.cast(pa.float64()).fill_null(0.0).to_numpy()
    absent = absent | np.isnan(floats)
    known, size = np.where(absent, 0.0, floats), NANOSECONDS[unit]
    with np.errstate(over="ignore"):
        wrong = ~(np.abs(known * size) < float(_INT64.max))
    if wrong.any():
        row = int(wrong.argmax())
        raise StampError(row, f"{floats[row]} {unit} is beyond what int64 holds in nanoseconds; correct it")
    whole = np.rint(known)  # a product of the whole number and a billion has more digits than float64
    values = whole.astype(np.int64) * size + np.rint((known - whole) * size).astype(np.int64)
    return Stamps(values, "ns", absent, zone, elapsed)


def _from_texts(column: Any, unit: Unit, absent: NDArray[np.bool_], *, elapsed: bool, decimal: str = ".") -> Stamps:
    """Return numbers in text as exact nanoseconds, so that files with and without fractions agree."""
    zone: Zone = None if elapsed else "UTC"
    with suppress(pa.ArrowInvalid):  # not all are whole numbers
        column.cast(pa.float64())  # first, since pyarrow takes 0x10 for an integer
        whole = column.cast(pa.int64()).fill_null(0).to_numpy()
        return Stamps(convert_unit(whole, unit, "ns"), "ns", absent, zone, elapsed)
    values = np.zeros(len(column), np.int64)
    for row, text in enumerate(column.to_pylist()):
        if text is None:
            continue
        value = _decimal(text, decimal)
        if value is None:
            advice = notation_advice(text, decimal) or "correct it"
            raise StampError(row, f"{text!r:.80} is not a number of {unit}, unlike other values; {advice}")
        exact = (value * NANOSECONDS[unit]).to_integral_value()
        if abs(exact) > _INT64.max:
            raise StampError(row, f"{text:.80} {unit} is beyond what int64 holds in nanoseconds; correct it")
        values[row] = int(exact)
    return Stamps(values, "ns", absent, zone, elapsed)


def _decimal(text: str, decimal: str) -> Decimal | None:
    try:
        value = Decimal(use_point(text, decimal))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) < 400 and "_" not in text else None


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive rows without a gap in time."""

    table: Table
    dropped: int = 0  # rows that were dropped: without a time, or duplicates
    stamps: Stamps | None = None  # the ascending times of the rows; None: they have no times


def split_by_time(table: Table, stamps: Stamps, options: TableOptions, without: End, *, name: str) -> Iterator[Stretch]:
    """Yield the stretches of some rows, in order.

    Args:
        table: The rows.
        stamps: The time of each row.
        options: `sort_time`, `duplicates`, `max_gap` and `every` are used.
        without: The policy for rows without a time: `drop` drops them; `split` also ends the stretch there, unless rows
            are sorted; any other policy refuses them.
        name: The column of the times.

    Raises:
        SourceError: A time is missing, decreases, occurs twice, or breaks the regular step.
    """
    if without not in ("drop", "split"):
        advice = f"fill it in, or drop such rows with --missing {name}=drop"
        refuse_any({name: stamps.absent}, table, "missing value", advice)
    rows = np.flatnonzero(~stamps.absent)
    if not len(rows):
        return
    rows = rows[np.argsort(stamps.values[rows], kind="stable")] if options.sort_time else rows

    def error(rows: NDArray[np.int64], where: NDArray[np.bool_], what: str, advice: str) -> SourceError:
        """Return the error about the first row that `where` (rows - 1,) marks, and the row before it."""
        before, row = rows[where.argmax() :][:2].tolist()
        return SourceError(
            f"row {table.number(row):,}, column {name}: {stamps.text(row)} {what} {stamps.text(before)} in row "
            f"{table.number(before):,} ({int(where.sum()):,} in all); {advice}"
        )

    now, before = stamps.values[rows[1:]], stamps.values[rows[:-1]]
    if (falls := now < before).any():
        clocks = "; if clocks were set back, give the zone with --time-zone, or write it with each time"
        clocks = "" if stamps.zone or stamps.elapsed else clocks
        raise error(rows, falls, "comes before", f"--sort-time sorts the rows{clocks}")
    same = np.zeros(len(rows), np.bool_)
    same[1:] = now == before
    if same.any() and options.duplicates == "error":
        raise error(rows, same[1:], "is also the time of", "choose one with --duplicates first, last or mean")
    first, last = ~same, ~np.append(same[1:], False)[: len(rows)]  # masks of the first and the last row of each time
    times = rows[last if options.duplicates == "last" else first]
    size, values = NANOSECONDS[stamps.unit], stamps.values[times].view(np.uint64)
    steps = values[1:] - values[:-1]  # uint64 can hold any difference of ascending int64 values
    jumps = np.zeros(len(times), np.bool_)  # a mask of the times that start a new stretch
    if options.max_gap is not None:
        jumps[1:] = steps > min(nanoseconds(options.max_gap, "max_gap") // size, np.iinfo(np.uint64).max)
    if without == "split" and not options.sort_time:
        absent_before = np.cumsum(stamps.absent)
        jumps[1:] |= absent_before[rows[first]][1:] > absent_before[rows[last]][:-1]
    every, fraction = divmod(0 if options.every is None else nanoseconds(options.every, "every"), size)
    if options.every is not None and (off := ((steps != every) | (fraction > 0)) & ~jumps[1:]).any():
        what = f"is {int(steps[off.argmax()]) * size / NANOSECONDS['s']:.9g} s after"
        raise error(times, off, what, f"each step should be {options.every}; --max-gap ends a sequence at longer ones")
    time_number, number = np.cumsum(~same) - 1, np.cumsum(jumps)  # the time of each row, the stretch of each time
    counts, absent_rows = np.bincount(number[time_number]), np.flatnonzero(stamps.absent)  # of rows in each stretch
    # Rows without a time count with the next stretch, or with the last; if rows are sorted, with the first.
    after = np.minimum(np.searchsorted(rows, absent_rows), len(rows) - 1)
    np.add.at(counts, np.zeros_like(after) if options.sort_time else number[time_number[after]], 1)
    dropped = counts - np.bincount(number)
    if options.duplicates == "mean":
        table = _means(table, rows, time_number, times)
    elif len(times) < table.rows or options.sort_time:
        table = table.take(times)
    for one, count in enumerate(dropped.tolist()):
        start, stop = np.searchsorted(number, [one, one + 1]).tolist()
        yield Stretch(table.slice(start, stop - start), count, stamps.take(times[start:stop]))


def _means(table: Table, rows: NDArray[np.int64], time_number: NDArray[np.int64], times: NDArray[np.int64]) -> Table:
    """Return the mean of each column over the rows of the same time, as floats; missing values are left out."""
    means: dict[str, Array] = {}
    for name in table.columns:
        floats = as_floats(table, name)
        gaps = table.absent(name)
        absent = np.zeros(floats.shape, np.bool_) if gaps is None else gaps
        known = np.where(absent, 0.0, floats)[rows].astype(np.float64)
        sums = np.zeros((len(times), *floats.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        np.add.at(sums, time_number, known)
        np.add.at(counts, time_number, ~absent[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            means[name] = (sums / counts).astype(floats.dtype)
    return replace(table.take(times), columns=means, block=None, missing={})
