"""Operations on rows as loops over Python values: slow and simple."""

import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Part:
    """A part: its rows of numbers, steps dropped before it (or after the last), and filled values."""

    rows: list[list[float]]
    dropped: int = 0
    filled: int = 0


def filled_by_loop(values: list[float | None], fill: str, limit: int | None) -> list[float | None]:
    """Fill one column, value by value."""
    out = list(values)
    for row, value in enumerate(values):
        if value is not None:
            continue
        before = next((i for i in range(row, -1, -1) if values[i] is not None), None)
        after = next((i for i in range(row, len(values)) if values[i] is not None), None)
        if fill == "ffill":
            if before is not None and (limit is None or row - before <= limit):
                out[row] = values[before]
        elif before is not None and after is not None:
            low, high = values[before], values[after]
            assert low is not None
            assert high is not None
            out[row] = low + (high - low) * ((row - before) / (after - before))
    return out


def cleaned_by_loop(columns: list[list[float | None]], policies: list[str], limit: int | None) -> list[Part] | None:
    """Clean a table row by row; None: a value is missing that must not be."""
    full = []
    for values, policy in zip(columns, policies, strict=True):
        for fill in policy.split("+"):
            if fill in ("ffill", "interpolate"):
                values = filled_by_loop(values, fill, limit)  # noqa: PLW2901  # one way after another
        full.append(values)
    ends = [policy.split("+")[-1] for policy in policies]
    ends = ["error" if end in ("ffill", "interpolate") else end for end in ends]
    parts, part = [], Part([])
    for row in range(len(columns[0])):
        here = [values[row] for values in full]
        says = {end for value, end in zip(here, ends, strict=True) if value is None}
        if "error" in says:
            return None
        if "split" in says and part.rows:
            parts.append(part)
            part = Part([])
        if "split" in says or "drop" in says:
            part.dropped += 1
            continue
        part.filled += sum(values[row] is None and now is not None for values, now in zip(columns, here, strict=True))
        part.rows.append([math.nan if value is None else value for value in here])
    if part.rows:
        parts.append(part)
    elif parts:
        parts[-1].dropped += part.dropped
    return parts


def changed_by_loop(values: list[Any], transform: str, dtype: str) -> list[Any]:
    """Change one column, value by value, in its dtype."""
    kind, _, rest = transform.partition(" ")
    of = np.dtype(dtype).type
    out: list[Any] = []
    for row, value in enumerate(values):
        before = values[row - 1] if row else None
        if value is None or (kind == "diff" and before is None):
            out.append(None)
        elif kind == "diff":
            out.append(operator.sub(of(value), of(before)))
        elif kind == "scale":
            out.append(of(value) * of(float(rest.split("=")[1])))
        elif kind == "clip":
            low, high = (of(float(one)) for one in rest.split("=")[1].split(":"))
            out.append(min(max(of(value), low), high))
        else:
            out.append(np.log(of(value)))
    return out
