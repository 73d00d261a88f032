"""Scale, clip and difference columns, and take logarithms: `--scale`, `--clip`, `--diff`, `--log`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from builder.build_errors import SourceError
from builder.formats.column_choice import as_option, select
from builder.formats.convert import convert, per_row, refuse_any
from builder.formats.table import Array, Table
from builder.options.option_syntax import Transform, Transforms, parse_transform

_INT64: Final = np.dtype(np.int64)
_FLOAT64: Final = np.dtype(np.float64)


def apply_transforms(table: Table, transforms: Transforms) -> tuple[Table, Mapping[str, int]]:
    """Apply transforms in order.

    Missing values stay missing, and a difference with a missing value is missing. Floats keep their dtype. For integers
    and bool, scaled values and logarithms are float64, differences are int64, and clipped values keep their dtype if
    the limits are whole.

    Args:
        table: Consecutive rows.
        transforms: The transforms, and the columns that each changes; some may not be in the table.

    Returns:
        The table; and for columns that were differenced, the number of rows at the start that have no difference.
    """
    if not transforms:
        return table, {}
    columns, missing, first = dict(table.columns), dict(table.missing), dict[str, int]()
    for transform, names in transforms:
        for name in filter(columns.__contains__, names):
            absent = {name: missing.pop(name)} if name in missing else {}
            column = Table(columns={name: columns[name]}, missing=absent, numbers=table.numbers)
            changed = _change(column, name, transform)
            columns |= changed.columns
            missing |= changed.missing
            if transform.kind == "diff":
                first[name] = min(first.get(name, 0) + 1, table.rows)
    return Table(columns=columns, missing=missing, numbers=table.numbers), first


def _change(table: Table, name: str, transform: Transform) -> Table:
    """Apply a transform to the only column of a table."""
    column = table.columns[name]
    match transform.kind, transform.numbers:
        case "scale", (float() | int() as factor,):
            with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused later, by row
                return replace(table, columns={name: as_floats(table, name) * float(factor)})
        case "clip", (low, high):
            return replace(table, columns={name: _clip(table, name, low, high)})
        case "log", _:
            return replace(table, columns={name: _log(table, name)})
    absent = table.absent(name)
    if column.dtype.kind != "f":
        column = convert(column[:, None], _INT64, (name,), rounds=False, number=table.number)[:, 0]
    difference = np.zeros_like(column)
    absent_rows = np.zeros(column.shape, np.bool_)
    absent_rows[:1] = True
    with np.errstate(over="ignore", invalid="ignore"):
        difference[1:] = column[1:] - column[:-1]
    if absent is not None:
        absent_rows |= absent
        absent_rows[1:] |= absent[:-1]
    if column.dtype.kind == "f":
        difference[absent_rows] = np.nan
        return replace(table, columns={name: difference})
    # int64 overflows silently; the sign of the difference is then wrong.
    wrapped = np.zeros(column.shape, np.bool_)
    wrapped[1:] = (difference[1:] > 0) != (column[1:] > column[:-1])
    wrapped &= ~absent_rows
    refuse_any(
        {name: per_row(wrapped)}, table, "its difference to the row before is beyond int64",
        "read it as floats, with --dtype float64 or by --scale",
    )  # fmt: skip
    return Table(columns={name: difference}, missing={name: absent_rows}, numbers=table.numbers)


def as_floats(table: Table, name: str) -> Array:
    """Return a column as floats, NaN where missing: floats unchanged, others as float64; refuse values that change."""
    column = table.columns[name]
    if column.dtype.kind == "f":
        return column
    absent = table.absent(name)
    known = column if absent is None else np.where(absent, np.zeros((), column.dtype), column)
    floats: Array = convert(
        known[:, None],
        _FLOAT64,
        (name,),
        rounds=False,
        number=table.number,
        # With --dtype it would be converted only afterwards.
        advice="write the column as floats, or leave the column out with --exclude",
    )[:, 0]
    if absent is not None:
        floats[absent] = np.nan
    return floats


def _clip(table: Table, name: str, low: float | None, high: float | None) -> Array:
    column = table.columns[name]
    limits = [limit for limit in (low, high) if limit is not None]
    if column.dtype.kind == "f" or any(isinstance(limit, float) for limit in limits):
        with np.errstate(over="ignore"):  # a limit may exceed float16
            return np.clip(as_floats(table, name), low, high)
    if column.dtype.kind == "b":
        column = column.astype(np.uint8)
    limits_of_dtype = np.iinfo(column.dtype)
    least, most = int(limits_of_dtype.min), int(limits_of_dtype.max)
    if (low is not None and low > most) or (high is not None and high < least):
        raise SourceError(
            f"column {name} is {column.dtype}, which holds {least:,} to {most:,}: it cannot be clipped to "
            f"{'' if low is None else low}:{'' if high is None else high}; choose other limits"
        )
    # `low` below the dtype, or `high` above it, has no effect.
    return np.clip(column, None if low is None else max(low, least), None if high is None else min(high, most))


def _log(table: Table, name: str) -> Array:
    column, absent = as_floats(table, name), table.absent(name)
    wrong = column <= 0  # False for NaN
    if absent is not None:
        wrong &= ~absent
    if wrong.any():
        row = int(per_row(wrong).argmax())
        value = column[row].reshape(-1)[int(wrong[row].reshape(-1).argmax())]
        raise SourceError(
            f"row {table.number(row):,}, column {name}: {value.item()!r} has no logarithm ({int(wrong.sum()):,} in "
            f"all); only positive numbers have one: correct it, or raise it first with --clip {as_option(name)}=LOW:"
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(column)


def in_other_units(transforms: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return the columns whose unit differs from the file's, since they are scaled or logarithms."""
    parsed = [parse_transform(text) for text in transforms]
    changed = [select(one.columns, groups) for one in parsed if one.kind in {"scale", "log"}]
    return frozenset(name for names in changed for name in names)
