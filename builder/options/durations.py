"""Lengths of time, as options write them: `2h`, `1.5 days`, or as pandas does, `10T`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from builder.build_errors import UsageError

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
