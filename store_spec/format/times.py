"""Times of steps: units, checks of times, and conversion of moments to numbers (SPEC.md, "Time")."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from store_spec.errors import SchemaError, SequenceError, WindowError

TimeUnit = Literal["s", "ms", "us", "ns"]
UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
EPOCH = "1970-01-01"
ZONES = ("UTC", None)
CALENDAR = "proleptic_gregorian"  # as datetime64
NOT_A_TIME = -(2**63)  # NaT of datetime64
_CF = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SECONDS = {
    "W": Fraction(7 * 86400), "D": Fraction(86400), "h": Fraction(3600), "m": Fraction(60), "s": Fraction(1),
    "ms": Fraction(1, 10**3), "us": Fraction(1, 10**6), "ns": Fraction(1, 10**9), "ps": Fraction(1, 10**12),
    "fs": Fraction(1, 10**15), "as": Fraction(1, 10**18),
}  # fmt: skip


# A zone after a time of day: NumPy would convert it, with a warning.
_ZONED = re.compile(r"[T ]\s*\d.*(?:[+-]|Z\s*$)", re.IGNORECASE)
_DATE = re.compile(r"[+-]?\d{4,}-|\d{4}$")


@dataclass(frozen=True, slots=True)
class Time:
    """The meaning of the numbers in the array `time`.

    Args:
        unit: `s`, `ms`, `us` or `ns`.
        since: `1970-01-01` for dates, None for elapsed time.
        zone: `UTC` for dates in UTC, None for local times without a zone and for elapsed time.
    """

    unit: TimeUnit
    since: Literal["1970-01-01"] | None = EPOCH  # type: ignore[assignment]
    zone: Literal["UTC"] | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise SchemaError(f"time in {self.unit!r:.80}; take one of {', '.join(UNITS)}")
        if self.since not in (EPOCH, None):
            raise SchemaError(f"time since {self.since!r:.80}; take {EPOCH!r}, or None for elapsed time")
        if self.zone not in ZONES or (self.zone is not None and self.since is None):
            raise SchemaError(f"time of the zone {self.zone!r:.80}; take 'UTC' or None for dates, None for others")

    @classmethod
    def of(cls, value: Time | DTypeLike) -> Time:
        """Convert the argument of `create_store(time=...)`: a Time, a unit of dates, or a NumPy dtype.

        Raises:
            SchemaError: The argument is something else.

        >>> Time.of("ns"), Time.of("timedelta64[ms]").since
        (Time(unit='ns', since='1970-01-01', zone=None), None)
        """
        if isinstance(value, Time):
            return value
        if isinstance(value, str) and value in UNITS:
            return cls(value)
        try:
            dtype = np.dtype(value)
        except TypeError:
            dtype = np.dtype(object)
        if dtype.kind not in "mM":
            raise SchemaError(f"time={value!r:.80} is not a time; give a unit as 'ns', or a dtype as 'timedelta64[ms]'")
        unit, count = np.datetime_data(dtype)  # type: ignore[arg-type]  # its kind is checked above
        if unit not in UNITS or count != 1:
            raise SchemaError(f"time={value!r:.80}: take one of the units {', '.join(UNITS)}")
        return cls(unit, EPOCH if dtype.kind == "M" else None)  # type: ignore[arg-type]

    @classmethod
    def like(cls, times: Any, zone: Literal["UTC"] | None, source: object) -> Self:
        """Return the time of a new store whose first sequence has these times: in their unit, or seconds if longer."""
        array = np.asarray(times)
        unit = np.datetime_data(array.dtype)[0] if array.dtype.kind in "mM" else ""
        if unit in ("W", "D", "h", "m"):
            unit = "s"
        if unit not in UNITS:
            raise SequenceError(
                f"{source}: time is {array.dtype}, which tells no unit of {', '.join(UNITS)}: give datetime64 of one "
                "of them, in UTC with zone='UTC' or without a zone, or timedelta64"
            )
        return cls(unit, EPOCH if array.dtype.kind == "M" else None, zone)  # type: ignore[arg-type]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of times for users: datetime64, or timedelta64 for elapsed time."""
        return np.dtype(f"{'timedelta64' if self.since is None else 'datetime64'}[{self.unit}]")

    def to_json(self) -> dict[str, Any]:
        """Return the member of the root attributes."""
        return {"unit": self.unit, "since": self.since, "zone": self.zone}

    def attributes(self) -> dict[str, str]:
        """Return the array's attributes by the CF conventions."""
        if self.since is None:
            return {"units": _CF[self.unit]}
        return {"units": f"{_CF[self.unit]} since {self.since} 00:00:00", "calendar": CALENDAR}

    def shown(self, value: int) -> str:
        """Return a number of the array as text, for messages."""
        if self.since is None:
            return f"{value:,} {self.unit}"
        whole, dot, part = str(np.datetime64(value, self.unit)).partition(".")
        part = part.rstrip("0")
        return f"{whole}{dot if part else ''}{part}{'Z' if self.zone else ''}"


def checked_times(time: Time | None, times: ArrayLike | None, steps: int, source: object) -> NDArray[np.int64] | None:
    """Return the times of one sequence (steps,) as they will be stored; None if the store has no times.

    Times never decrease, none is NaT, and each is a whole number of the store's unit; anything else is refused.
    """
    if time is None:
        if times is not None:
            raise SequenceError(f"{source}: time is given, but this store keeps none; leave it out")
        return None
    if times is None:
        raise SequenceError(f"{source}: no time, where this store keeps one for each step; give time=")
    array = np.asarray(times)
    if array.shape == (0,):
        array = array.astype(np.int64)
    if array.shape != (steps,):
        raise SequenceError(f"{source}: time has shape {array.shape} for {steps:,} input rows; give one for each")
    values = _in_unit(time, array, source)
    none = (values == NOT_A_TIME) | np.ma.getmaskarray(np.ma.asarray(times))
    if none.any():
        raise SequenceError(
            f"{source}: time: step {int(none.argmax()):,} has none (NaT), as {int(none.sum()):,} of {steps:,} steps; "
            "fill them, or leave these steps out"
        )
    step = first_fall(values)
    if step is not None:
        before, after = (time.shown(int(value)) for value in values[step - 1 : step + 1])
        raise SequenceError(
            f"{source}: time falls at step {step:,}, from {before} to {after}; sort the steps, or split the sequence "
            "there"
        )
    return np.ascontiguousarray(values, np.int64)


def first_fall(values: NDArray[np.int64]) -> int | None:
    """Return the first step whose time is before that of the previous step; None if there is no such step."""
    falls = values[1:] < values[:-1]  # not by a difference, which can overflow
    return 1 + int(falls.argmax()) if falls.any() else None


def _in_unit(time: Time, array: NDArray[Any], source: object) -> NDArray[np.int64]:
    """Convert times to numbers of the store's unit, and NaT to `NOT_A_TIME`; refuse times that would be rounded."""
    kind = array.dtype.kind
    if kind in "iu":
        if array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63:
            raise SequenceError(f"{source}: time: {int(array.max()):,} {time.unit} do not fit int64")
        return array.astype(np.int64)
    if kind != time.dtype.kind:
        raise SequenceError(
            f"{source}: time is {array.dtype}, where this store has {time.dtype} (or int64 of that unit): convert it "
            "yourself"
        )
    unit, count = np.datetime_data(array.dtype)
    if unit in ("Y", "M") and kind == "M":
        array, unit, count = array.astype("datetime64[D]"), "D", 1
    if unit not in _SECONDS:
        raise SequenceError(
            f"{source}: time is {array.dtype}, whose unit is not a number of seconds; convert it yourself"
        )
    factor = _SECONDS[unit] * count / _SECONDS[time.unit]
    values = array.astype(array.dtype.newbyteorder("=")).view(np.int64)
    none = values == NOT_A_TIME
    limit = (2**63 - 1) // factor.numerator
    over = ~none & ((values > limit) | (values < -limit))
    rest = ~none & (values % factor.denominator != 0) if factor.denominator > 1 else np.zeros(len(values), bool)
    for wrong, why in ((over, "does not fit int64"), (rest, "is not a whole number")):
        if wrong.any():
            step = int(wrong.argmax())
            raise SequenceError(
                f"{source}: time: step {step:,} ({array[step]}) {why} in the store's unit {time.unit}: make a store "
                "of another unit, or round it yourself"
            )
    converted = np.where(over, 0, values) * factor.numerator // factor.denominator
    return np.where(none, NOT_A_TIME, converted)


def moment(time: Time, name: str, value: Any, where: object) -> int:
    """Return the smallest number of the store's unit that is not before a moment.

    For dates, `value` is text, a datetime (also a pandas Timestamp) or a datetime64; for elapsed time, a number of the
    unit, a timedelta or a timedelta64. `name` is the argument's name, for errors, and `where` the store.
    """
    if time.since is None:
        return _elapsed(time, name, value, where)
    if isinstance(value, datetime) and value.tzinfo is not None and time.zone == "UTC":
        value = value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, date):  # datetime and pandas.Timestamp are dates too
        value = value.isoformat()
    if not isinstance(value, str | np.datetime64):
        raise WindowError(f"{where}: {name}={value!r:.80}; give a date as text, '2020-01-01T12:00', or a datetime64")
    if isinstance(value, str):
        value = _date(time, name, value, where)
    return _ceiling(time, name, value, value, where)


def _date(time: Time, name: str, value: str, where: object) -> np.datetime64:
    """Parse a date as text; refuse a zone, except for `Z` in a store of times in UTC."""
    text = value.strip()
    if time.zone == "UTC" and text[-1:] in ("Z", "z"):
        text = text[:-1]
    if _ZONED.search(text):
        of = "its dates are UTC: give that" if time.zone else "its times are local, without a zone: leave the zone out"
        raise WindowError(f"{where}: {name}={value!r:.80} has a time zone; {of}")
    try:
        if not _DATE.match(text):  # NumPy takes "20200102" for a year, and knows "now"
            raise ValueError("it does not begin with a year, as 2020-")
        return np.datetime64(text)
    except ValueError as error:
        raise WindowError(
            f"{where}: {name}={value!r:.80} is not a date ({error}); write it as '2020-01-01T12:00'"
        ) from error


def _elapsed(time: Time, name: str, value: Any, where: object) -> int:
    if isinstance(value, timedelta):
        if not hasattr(value, "to_timedelta64"):  # as of pandas.Timedelta, which has nanoseconds
            return math.ceil(value // timedelta(microseconds=1) * _SECONDS["us"] / _SECONDS[time.unit])  # any size
        value = value.to_timedelta64()
    if isinstance(value, np.timedelta64):
        return _ceiling(time, name, value, value, where)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise WindowError(
            f"{where}: {name}={value!r:.80}, but its times are elapsed ones: give a number of {time.unit}, or a "
            "timedelta64"
        )
    if not math.isfinite(value):
        raise WindowError(f"{where}: {name}={value!r:.80} is not a number of {time.unit}")
    return int(value) if isinstance(value, int | np.integer) else math.ceil(value)


def _ceiling(time: Time, name: str, parsed: np.datetime64 | np.timedelta64, value: Any, where: object) -> int:
    unit, count = np.datetime_data(parsed.dtype)
    if unit in ("Y", "M") and parsed.dtype.kind == "M":
        parsed, unit, count = parsed.astype("datetime64[D]"), "D", 1
    if np.isnat(parsed) or unit not in _SECONDS:
        raise WindowError(f"{where}: {name}={value!r:.80} is not a moment")
    return math.ceil(int(parsed.astype(np.int64)) * _SECONDS[unit] * count / _SECONDS[time.unit])
