"""Columns scaled, clipped, differenced or their logarithm taken, as they come from a file: `--scale` and its like.

Anything more is a process function's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.column_choice import as_option
from builder.formats.convert import convert, per_row, refuse_any
from builder.formats.table import Array, Table
from builder.options.transform_syntax import Transform

_INT64: Final = np.dtype(np.int64)
_FLOAT64: Final = np.dtype(np.float64)


def apply_transforms(
    table: Table, transforms: Sequence[Transform], names: Sequence[Sequence[str]], source: str
) -> tuple[Table, Mapping[str, int]]:
    """Change columns, one transform after another.

    A value that is missing stays so, and a difference to or from one is missing. Floats keep their dtype. Of whole
    numbers and bool, a scaled column and a logarithm are float64, a difference is int64, and a clipped column keeps
    its dtype if the limits are whole.

    Args:
        table: Rows that follow one another.
        transforms: In this order.
        names: The columns that each changes.
        source: For errors.

    Returns:
        The table; and of columns that were differenced, how many rows at the start have no value for that reason alone.

    Raises:
        SourceError: A logarithm of what is not positive, or a result that its dtype does not hold.
    """
    if not transforms:
        return table, {}
    columns, missing, first = dict(table.columns), dict(table.missing), dict[str, int]()
    for transform, chosen in zip(transforms, names, strict=True):
        for name in chosen:
            now = Table(columns={name: columns[name]}, missing=_only(missing, name), numbers=table.numbers)
            after = _change(now, name, transform, source)
            columns[name] = after.columns[name]
            missing = {other: mask for other, mask in missing.items() if other != name} | dict(after.missing)
            if transform.kind == "diff":
                first[name] = min(first.get(name, 0) + 1, table.rows)
    return Table(columns=columns, missing=missing, numbers=table.numbers), first


def _only(missing: Mapping[str, NDArray[np.bool_]], name: str) -> dict[str, NDArray[np.bool_]]:
    return {name: missing[name]} if name in missing else {}


def _change(table: Table, name: str, transform: Transform, source: str) -> Table:
    """Change the one column of a table."""
    column = table.columns[name]
    match transform.kind, transform.numbers:
        case "scale", (float() | int() as factor,):
            with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused later, by row
                return _with(table, name, as_floats(table, name, source) * float(factor))
        case "clip", (low, high):
            return _with(table, name, _clipped(table, name, low, high, source))
        case "log", _:
            return _with(table, name, _log(table, name, source))
    absent = table.absent(name)
    if column.dtype.kind != "f":
        column = convert(column[:, None], _INT64, (name,), rounds=False, source=source, number=table.number)[:, 0]
    difference = np.zeros_like(column)
    gone = np.zeros(column.shape, np.bool_)
    gone[:1] = True
    with np.errstate(over="ignore", invalid="ignore"):
        difference[1:] = column[1:] - column[:-1]
    if absent is not None:
        gone |= absent
        gone[1:] |= absent[:-1]
    if column.dtype.kind == "f":
        difference[gone] = np.nan
        return _with(table, name, difference)
    # Whole numbers wrap round, silently: then the result is on the wrong side of what was subtracted.
    wrapped = np.zeros(column.shape, np.bool_)
    wrapped[1:] = (difference[1:] > 0) != (column[1:] > column[:-1])
    wrapped &= ~gone
    refuse_any(
        {name: per_row(wrapped)}, table, source, "its difference to the row before is beyond int64",
        "read it as floats, with --dtype float64 or by --scale",
    )  # fmt: skip
    return Table(columns={name: difference}, missing={name: gone}, numbers=table.numbers)


def _with(table: Table, name: str, column: Array) -> Table:
    return Table(columns={name: column}, missing=table.missing, numbers=table.numbers)


def as_floats(table: Table, name: str, source: str) -> Array:
    """Return a column as it is, if it is of floats; else as float64, where that holds all of it, NaN where missing."""
    column = table.columns[name]
    if column.dtype.kind == "f":
        return column
    absent = table.absent(name)
    known = column if absent is None else np.where(absent, np.zeros((), column.dtype), column)
    floats: Array = convert(known[:, None], _FLOAT64, (name,), rounds=False, source=source, number=table.number)[:, 0]
    if absent is not None:
        floats[absent] = np.nan
    return floats


def _clipped(table: Table, name: str, low: float | None, high: float | None, source: str) -> Array:
    column = table.columns[name]
    limits = [limit for limit in (low, high) if limit is not None]
    if column.dtype.kind == "f" or any(isinstance(limit, float) for limit in limits):
        with np.errstate(over="ignore"):  # of a limit beyond all float16
            return np.clip(as_floats(table, name, source), low, high)
    if column.dtype.kind == "b":
        column = column.astype(np.uint8)
    holds = np.iinfo(column.dtype)
    least, most = int(holds.min), int(holds.max)
    if (low is not None and low > most) or (high is not None and high < least):
        raise SourceError(
            source,
            f"column {name} is of {column.dtype}, which holds {least:,} to {most:,}: it cannot be clipped to "
            f"{'' if low is None else low}:{'' if high is None else high}; choose other limits",
        )
    # What lies beyond the dtype on its own side clips nothing.
    return np.clip(column, None if low is None else max(low, least), None if high is None else min(high, most))


def _log(table: Table, name: str, source: str) -> Array:
    column, absent = as_floats(table, name, source), table.absent(name)
    wrong = column <= 0  # NaN is not
    if absent is not None:
        wrong &= ~absent
    if wrong.any():
        row = int(per_row(wrong).argmax())
        value = column[row].reshape(-1)[int(wrong[row].reshape(-1).argmax())]
        raise SourceError(
            source,
            f"row {table.number(row):,}, column {name}: {value.item()!r} has no logarithm ({int(wrong.sum()):,} in "
            f"all); only positive numbers have one: correct it, or raise it first with --clip {as_option(name)}=LOW:",
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(column)
