"""Parse durations in options: `2h`, `1.5 days`, or `10T` as in pandas."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from builder.build_errors import UsageError

_NANOSECONDS: Final = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}  # fmt: skip
# The letters of pandas, except the ambiguous M.
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


def normalize_duration(text: str, option: str) -> str:
    """Return a duration in a normalised form.

    >>> [normalize_duration(text, "every") for text in ("1.50 h", "3600s", "1500ms", "60T", "24 Hours", "7D")]
    ['90min', '1h', '1500ms', '1h', '1d', '1w']
    """
    length = nanoseconds(text, option)
    unit = [unit for unit, size in _NANOSECONDS.items() if not length % size][-1]
    return f"{length // _NANOSECONDS[unit]}{unit}"


def nanoseconds(text: str, option: str) -> int:
    """Return a duration in nanoseconds, a whole number above 0.

    >>> nanoseconds("1.5h", "max_gap") == 5400 * 10**9
    True
    """
    match = _DURATION.fullmatch(text.strip())
    value = Decimal(0)
    if match:
        number, unit = match.groups()
        if unit in ("m", "M"):
            raise UsageError(
                f"{option}={text!r:.80} may mean months or minutes; write {number}min for minutes; months differ in "
                "length, so give days, as 31d"
            )
        value = Decimal(number) * _NANOSECONDS.get(_LETTERS.get(unit) or _WORDS.get(unit.lower(), unit), 0)
    if not value or value != value.to_integral_value():
        raise UsageError(
            f"{option}={text!r:.80} is not a duration; write a number and one of {', '.join(_NANOSECONDS)}, as 2h"
        )
    return int(value)
