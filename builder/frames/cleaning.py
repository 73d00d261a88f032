"""Fill, drop, keep or split at missing values: `--missing`, `--ffill-limit`, `--na-values`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import EmptySourceError
from builder.formats.column_choice import parse_number
from builder.formats.convert import FILL_IN, check_all, per_row, refuse_any, require_finite
from builder.formats.table import Array, Table
from builder.frames.transforms import as_floats
from builder.options.option_syntax import Fill, Policy
from builder.options.table_options import TableOptions


@dataclass(frozen=True, slots=True, eq=False)
class CleanRows:
    """The rows of a table after cleaning, split into parts."""

    table: Table  # the rows of all parts, in order; NaN only where the policy is `keep`
    rows: NDArray[np.int64]  # the index of each row in the table before cleaning, ascending
    lengths: NDArray[np.int64]  # (parts,) steps of each part, at least 1; there may be no parts
    dropped: NDArray[np.int64]  # (parts,) dropped steps; a step counts with the next part, or with the last
    filled: NDArray[np.int64]  # (parts,) values that were filled in
    fills: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # masks (rows, ...) of filled values, if any


def mark_missing(table: Table, options: TableOptions, classes: Sequence[str] = ()) -> Table:
    """Mark the numbers among the option `na_values` as missing, in all columns but those of classes, which are codes.

    They are compared in the dtype of the column: -999.9 matches the float32 nearest to it.
    """
    words = [word.replace(options.decimal, ".") for word in options.na_values]
    numbers = [number for number in map(parse_number, words) if number is not None and not math.isnan(number)]
    marked = {}
    for name, column in table.columns.items() if numbers else ():
        equal = np.logical_or.reduce([_equals(column, number) for number in numbers])
        if name not in classes and equal.any():
            marked[name] = equal | table.missing.get(name, np.False_)
    return replace(table, block=None, missing={**table.missing, **marked}) if marked else table


def _equals(column: Array, number: float) -> NDArray[np.bool_]:
    if column.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(column == column.dtype.type(number))
    # NumPy compares Python integers of any size exactly.
    return np.asarray(column == (int(number) if float(number).is_integer() else number))


def clean(
    table: Table,
    policies: Mapping[str, Policy],
    *,
    limit: int | None = None,
    first: Mapping[str, int] | None = None,
    time: NDArray[np.int64] | None = None,
    why: Callable[[str, int], str] = lambda _, __: "",
) -> CleanRows:
    """Fill the gaps of each column; then drop, keep or split at the values that are still missing.

    All columns are filled first, from all rows. Then a row is dropped, or ends a part, if the policy of any column
    requires it. Infinite values, and missing values where the policy is `error`, are refused.

    Args:
        table: Consecutive rows.
        policies: The policy of each column.
        limit: The most consecutive steps that `ffill` fills.
        first: For columns that were differenced, the number of rows at the start that have no difference. Such rows
            are dropped under every policy but `keep`.
        time: (rows,) the time of each step, for `interpolate`; None: steps are equally spaced.
        why: Returns an explanation of a missing value, from its column and row of the file.
    """
    # Integers become floats if a policy may need NaN, even without gaps, so that all files have one dtype.
    floats = {name: as_floats(table, name) for name in table.columns if policies[name].gives_floats}
    if any(table.columns[name] is not column for name, column in floats.items()):
        table = replace(table, columns={**table.columns, **floats}, block=None)
    if table.is_full:
        zeros = np.zeros(min(1, table.rows), np.int64)
        return CleanRows(table, np.arange(table.rows), zeros + table.rows, zeros, zeros)
    absent = table.gaps()
    columns = dict(table.columns)
    filled = np.zeros(table.rows, np.int64)
    fills: dict[str, NDArray[np.bool_]] = {}
    # Masks of the rows to drop, of those among them that end a part, and of rows that are refused, by column.
    dropped_rows, ends = np.zeros(table.rows, np.bool_), np.zeros(table.rows, np.bool_)
    refused: dict[str, NDArray[np.bool_]] = {}
    for name, gaps in absent.items():
        column, remaining, policy = columns[name], gaps, policies[name]
        for fill in policy.fills:
            column, remaining = _fill(column, remaining, fill, limit, time)
        if (filled_now := gaps & ~remaining).any():
            fills[name] = filled_now
            filled += filled_now.reshape(table.rows, -1).sum(axis=1)
        columns[name] = column
        if policy.end == "keep":
            columns[name] = np.where(remaining, np.array(np.nan, column.dtype), column)
            continue
        rows = per_row(remaining)
        dropped_rows |= rows
        rows[: (first or {}).get(name, 0)] = False
        if policy.end == "split":
            ends |= rows
        elif policy.end == "error":
            refused[name] = rows
    advice = FILL_IN
    for policy in (policies[name] for name, rows in refused.items() if policies[name].fills and rows.any()):
        advice = f"{policy} cannot fill all of them; say in --missing what to do with the rest, as {policy}+drop"
    check_all(
        lambda: require_finite(table, absent),
        lambda: refuse_any(refused, table, "missing value", advice, why),
    )
    cleaned = Table(columns=columns, numbers=table.numbers)
    parts = _split_rows(cleaned, np.flatnonzero(~dropped_rows), np.cumsum(ends), filled)
    return replace(parts, fills={name: mask[parts.rows] for name, mask in fills.items()})


def _split_rows(table: Table, rows: NDArray[np.int64], part: NDArray[np.int64], filled: NDArray[np.int64]) -> CleanRows:
    """Split the remaining `rows` into parts; `part` is the ascending part number of each row of the table."""
    present, lengths = np.unique(part[rows], return_counts=True)
    if not len(present):
        return CleanRows(table.take(rows), rows, lengths, lengths, lengths)
    dropped = np.zeros(len(present), np.int64)
    dropped_rows = np.ones(table.rows, np.bool_)
    dropped_rows[rows] = False
    np.add.at(dropped, np.minimum(np.searchsorted(present, part[dropped_rows]), len(present) - 1), 1)
    added = np.zeros(len(present), np.int64)
    np.add.at(added, np.searchsorted(present, part[rows]), filled[rows])
    return CleanRows(table.take(rows), rows, lengths.astype(np.int64), dropped, added)


def _fill(
    column: Array, absent: NDArray[np.bool_], fill: Fill, limit: int | None, time: NDArray[np.int64] | None
) -> tuple[Array, NDArray[np.bool_]]:
    """Fill a column (rows, ...); return it, and a mask of the values that are still missing."""
    rows = len(column)
    flat, gaps = column.reshape(rows, -1), absent.reshape(rows, -1)
    number = np.arange(rows)[:, None]
    before = np.maximum.accumulate(np.where(gaps, -1, number), axis=0)  # the last row with a value; -1: none
    if fill == "ffill":
        fills = gaps & (before >= 0) & (number - before <= (rows if limit is None else limit))
        row, place = np.nonzero(fills)
        values = flat[before[row, place], place]
    else:
        after = np.minimum.accumulate(np.where(gaps, rows, number)[::-1], axis=0)[::-1]
        fills = gaps & (before >= 0) & (after < rows)
        row, place = np.nonzero(fills)
        begin, end = before[row, place], after[row, place]
        # uint64 can hold any difference of ascending int64 values.
        at = np.arange(rows) if time is None else time.view(np.uint64)
        share = (at[row] - at[begin]) / (at[end] - at[begin])
        values = _interpolate(flat[begin, place].astype(np.float64), flat[end, place].astype(np.float64), share)
    full = flat.copy()
    full[row, place] = values
    return full.reshape(column.shape), (gaps & ~fills).reshape(column.shape)


def _interpolate(first: Array, last: Array, share: NDArray[np.float64]) -> Array:
    """Interpolate linearly: `share` of the way from `first` to `last`."""
    with np.errstate(over="ignore", invalid="ignore"):
        line: Array = first + (last - first) * share
        # last - first can overflow.
        return np.where(np.isfinite(line), line, first * (1 - share) + last * share)


def no_rows_left(table: Table, rows: int) -> EmptySourceError:
    """Return the error for a file of which no row remains; `table` has the last of its `rows` rows."""
    gaps = {name: int(per_row(mask).sum()) for name, mask in table.gaps().items()}
    worst = max(gaps, key=lambda name: gaps[name], default=None)
    of_them = "of them" if rows == table.rows else f"of the last {table.rows:,}"
    why = "" if worst is None else f"; column {worst} is missing in {gaps[worst]:,} {of_them}"
    return EmptySourceError(
        f"none of its {rows:,} rows is left{why}; leave that column out with --exclude, or give it a policy of its "
        "own with --missing COL=POLICY"
    )
