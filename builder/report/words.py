"""How the page writes numbers and names of strangers."""

from __future__ import annotations

import math

from builder.amounts import printable

LONGEST_NAME = 80  # letters of a name; of longer ones beginning and end are shown
LONGEST_TEXT = 300  # letters of a reason, or of an option's value


def name_text(name: str) -> str:
    """Write a name on one line; of a long one, beginning and end.

    >>> name_text("a" * 60 + "b" * 60) == "a" * 39 + "…" + "b" * 40
    True
    """
    text = printable(name)
    half = LONGEST_NAME // 2
    return text if len(text) <= LONGEST_NAME else f"{text[: half - 1]}…{text[-half:]}"


def long_text(text: str) -> str:
    """Write what may be longer, on one line: its beginning."""
    text = printable(text)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def number_text(value: float | None) -> str:
    """Write a number in a few digits.

    >>> number_text(1234567.0), number_text(0.000123456), number_text(-1533.9), number_text(None)
    ('1,234,567', '0.0001235', '-1,534', '-')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):  # of a stranger's store
        return str(value)
    if value == round(value) and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"


def percent_text(share: float) -> str:
    """Write a share: 0 and all only where it is nothing and all.

    >>> percent_text(0.0), percent_text(0.0001), percent_text(0.123), percent_text(0.9999), percent_text(1.0)
    ('0 %', '<0.1 %', '12.3 %', '>99.9 %', '100 %')
    """
    percent = 100 * share
    if 0 < percent < 0.1:
        return "<0.1 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"
