"""HTML tables of stores and windows for notebooks, in which all names are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from store_spec.format.text import shown
from store_spec.schema import Rows

NAMES = 8  # of features that are listed
LONGEST_NAME = 40  # letters


def table_html(title: str, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a title and a table of names and values.

    >>> table_html("a<b", [("steps", "5")]).count("&lt;")
    1
    """
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(name)}</th>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in pairs
    )
    return f"<div><strong>{escape(shown(title))}</strong><table>{rows}</table></div>"


def rows_text(rows: Rows, per: str) -> str:
    """Describe one row.

    >>> rows_text(Rows("float32", (2,), ("open", "close")), "step"), rows_text(Rows("int64", ()), "sequence")
    ('float32 (2,) a step: open, close', 'int64, one number a sequence')
    """
    text = f"{rows.dtype} {rows.shape} a {per}" if rows.shape else f"{rows.dtype}, one number a {per}"
    return text if rows.names is None else f"{text}: {names_text(rows.names)}"


def names_text(names: Sequence[str]) -> str:
    """Return the first names as text; long names are shortened."""
    first = [shown(name) for name in names[:NAMES]]
    text = ", ".join(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in first)
    return text if len(names) <= NAMES else f"{text} and {len(names) - NAMES:,} more"


def option_text(value: object) -> str:
    """Return the value of an option as text: the first names of a list, only the type of statistics and the like.

    >>> option_text("skip"), option_text(["open", "close"]), option_text(np.datetime64("2020-01-01"))
    ('skip', 'open, close', '2020-01-01')
    """
    if isinstance(value, str | bool | int | float | np.generic):
        return names_text([str(value)])
    if isinstance(value, Iterable):
        return names_text([str(one) for one in value])
    return type(value).__name__
