"""What becomes of steps with missing values: `--missing`, `--ffill-limit`, `--na-values`; and counts of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.column_choice import number_in
from builder.formats.convert import FILL_IN, per_row, refuse_any, require_finite
from builder.formats.table import HIDDEN, Array, Frame, Table, array_of, column_of
from builder.frames.transforms import as_floats
from builder.options.policies import Fill, Policy


@dataclass(frozen=True, slots=True, eq=False)
class CleanRows:
    """The steps that are left of a table, cut into parts.

    Args:
        table: All of them, one part after another, without missing values but NaN that is kept.
        rows: Which rows of the table that was cleaned they are, rising.
        lengths: Steps of each part, at least 1; there may be no part.
        dropped: (parts,) steps that were left out, each counted with the part after it, or the last.
        filled: (parts,) values that were filled in.
        fills: Where, (rows, ...), in the columns in which any were.
    """

    table: Table
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    dropped: NDArray[np.int64]
    filled: NDArray[np.int64]
    fills: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


def mark_missing(rows: Frame, na_values: Sequence[str], classes: Sequence[str] = ()) -> Frame:
    """Take the numbers among these words for missing values, wherever they stand.

    They are compared as numbers of the column's own dtype: -999.9 is found among float32 as it is rounded there.
    Columns of classes are left alone: what is missing among their texts is known, and their codes are no numbers.
    """
    numbers = [number for number in map(number_in, na_values) if number is not None and not math.isnan(number)]
    if not numbers:
        return rows
    frame = rows.frame if isinstance(rows, Table) else rows
    for place, name in enumerate(frame.column_names):
        if name.startswith(HIDDEN) or name in classes:
            continue
        array, absent = array_of(frame[name])
        equal = np.logical_or.reduce([_equals(array, number) for number in numbers])
        if equal.any():
            frame = frame.set_column(place, name, column_of(array, equal if absent is None else equal | absent))
    return frame


def _equals(column: Array, number: float) -> NDArray[np.bool_]:
    if column.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(column == column.dtype.type(number))
    if number != (whole := math.trunc(number) if math.isfinite(number) else None):
        return np.zeros(column.shape, np.bool_)
    return np.asarray(column == whole)  # of any size: NumPy compares Python's whole numbers exactly


def clean(
    table: Table,
    policies: Mapping[str, Policy],
    source: str,
    *,
    limit: int | None = None,
    first: Mapping[str, int] | None = None,
    time: NDArray[np.int64] | None = None,
    why: Callable[[str, int], str] = lambda _, __: "",
) -> CleanRows:
    """Fill the gaps of each column, and then leave out, keep or cut at what is still missing.

    The columns are filled first, from all rows; then a step goes, or ends a part, if any column says so.

    Args:
        table: Rows that follow one another.
        policies: Of each of its columns.
        source: For errors.
        limit: How many steps in a row `ffill` fills at most.
        first: Columns that have no value in so many rows at the start, only since there is none before them: those
            rows are left out whatever the policy, but `keep`.
        time: (rows,) when each step was, for `interpolate`; None: steps are equally far apart.
        why: Says more of a missing value, by its column and its row of the file.

    Raises:
        SourceError: A value is missing that must not be, or is infinite.
    """
    table = _floats_where_asked(table, policies, source)
    if table.is_full:
        return _whole(table)
    absent = table.gaps()
    require_finite(table, source, absent)
    columns = dict(table.columns)
    filled = np.zeros(table.rows, np.int64)
    left: dict[str, NDArray[np.bool_]] = {}
    fills: dict[str, NDArray[np.bool_]] = {}
    for name, gaps in absent.items():
        column, still = columns[name], gaps
        for fill in policies[name].fills:
            column, still = _filled(column, still, fill, limit, time)
        if (now := gaps & ~still).any():
            fills[name] = now
            filled += now.reshape(table.rows, -1).sum(axis=1)
        if policies[name].end == "keep":
            column = np.where(still, np.array(np.nan, column.dtype), column)
        columns[name], left[name] = column, still
    gone, ends = _left_out(table, left, policies, first or {}, source, why)
    after = Table(columns=columns, numbers=table.numbers)
    found = _parts(after, np.flatnonzero(~gone), np.cumsum(ends), filled)
    return replace(found, fills={name: where[found.rows] for name, where in fills.items()})


def _floats_where_asked(table: Table, policies: Mapping[str, Policy], source: str) -> Table:
    """Make floats of whole numbers where a policy may need them, in every file, so that all give one dtype."""
    asked = [name for name, column in table.columns.items() if policies[name].gives_floats and column.dtype.kind != "f"]
    if not asked:
        return table
    columns = {name: as_floats(table, name, source) if name in asked else one for name, one in table.columns.items()}
    return Table(columns=columns, missing=table.missing, numbers=table.numbers)


def _whole(table: Table) -> CleanRows:
    """Return a table of which nothing is missing."""
    none = np.zeros(min(1, table.rows), np.int64)
    table = Table(columns=table.columns, block=table.block, numbers=table.numbers)
    return CleanRows(table, np.arange(table.rows), none + table.rows, none, none)


def _left_out(  # noqa: PLR0917
    table: Table,
    absent: Mapping[str, NDArray[np.bool_]],
    policies: Mapping[str, Policy],
    first: Mapping[str, int],
    source: str,
    why: Callable[[str, int], str],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which rows go, and at which of them a part ends."""
    gone, ends = np.zeros(table.rows, np.bool_), np.zeros(table.rows, np.bool_)
    refused: dict[str, NDArray[np.bool_]] = {}
    for name, mask in absent.items():
        end = policies[name].end
        if end == "keep":
            continue
        rows, begin = per_row(mask), first.get(name, 0)
        gone[:begin] |= rows[:begin]
        rows[:begin] = False
        if end == "error":
            refused[name] = rows
            continue
        gone |= rows
        if end == "split":
            ends |= rows
    advice = FILL_IN
    if any(policies[name].fills for name, rows in refused.items() if rows.any()):
        advice = "ffill and interpolate leave what they cannot fill; say what becomes of it, as --missing ffill+drop"
    refuse_any(refused, table, source, "missing value", advice, why)
    return gone, ends


def _parts(table: Table, rows: NDArray[np.int64], part: NDArray[np.int64], filled: NDArray[np.int64]) -> CleanRows:
    """Cut what is left into parts; the numbers `part`, one a row, rise from one to the next."""
    present, lengths = np.unique(part[rows], return_counts=True)
    if not len(present):
        return CleanRows(_taken(table, rows), rows, lengths, lengths, lengths)
    dropped = np.zeros(len(present), np.int64)
    gone = np.ones(table.rows, np.bool_)
    gone[rows] = False
    np.add.at(dropped, np.minimum(np.searchsorted(present, part[gone]), len(present) - 1), 1)
    added = np.zeros(len(present), np.int64)
    np.add.at(added, np.searchsorted(present, part[rows]), filled[rows])
    return CleanRows(_taken(table, rows), rows, lengths.astype(np.int64), dropped, added)


def _taken(table: Table, rows: NDArray[np.int64]) -> Table:
    """Return some rows of a table of which nothing is missing any more."""
    numbers = rows + 1 if table.numbers is None else table.numbers[rows]
    return Table(columns={name: column[rows] for name, column in table.columns.items()}, numbers=numbers)


def _filled(
    column: Array, absent: NDArray[np.bool_], fill: Fill, limit: int | None, time: NDArray[np.int64] | None
) -> tuple[Array, NDArray[np.bool_]]:
    """Fill a column (rows, ...); return it, and where values are still missing."""
    rows = len(column)
    flat, gaps = column.reshape(rows, -1), absent.reshape(rows, -1)
    number = np.arange(rows)[:, None]
    before = np.maximum.accumulate(np.where(gaps, -1, number), axis=0)  # the last row that has a value; -1: none
    if fill == "ffill":
        fills = gaps & (before >= 0) & (number - before <= (rows if limit is None else limit))
        row, place = np.nonzero(fills)
        values = flat[before[row, place], place]
    else:
        after = np.minimum.accumulate(np.where(gaps, rows, number)[::-1], axis=0)[::-1]
        fills = gaps & (before >= 0) & (after < rows)
        row, place = np.nonzero(fills)
        begin, end = before[row, place], after[row, place]
        at = np.arange(rows) if time is None else time
        share = (at[row] - at[begin]) / (at[end] - at[begin])
        values = _between(flat[begin, place].astype(np.float64), flat[end, place].astype(np.float64), share)
    full = flat.copy()
    full[row, place] = values
    return full.reshape(column.shape), (gaps & ~fills).reshape(column.shape)


def _between(first: Array, last: Array, share: NDArray[np.float64]) -> Array:
    """Return the values on lines between two, this share of the way."""
    with np.errstate(over="ignore", invalid="ignore"):
        line: Array = first + (last - first) * share
    # The ends of a line can be farther apart than floats reach.
    return np.where(np.isfinite(line), line, first * (1 - share) + last * share)


def nothing_left(table: Table, rows: int, source: str) -> SourceError:
    """Say that the policies leave nothing of a file of so many rows, of which a table has the last."""
    gaps = {name: int(per_row(mask).sum()) for name, mask in table.gaps().items()}
    worst = max(gaps, key=lambda name: gaps[name], default=None)
    of_them = "of them" if rows == table.rows else f"of the last {table.rows:,}"
    why = "" if worst is None else f"; column {worst} is missing in {gaps[worst]:,} {of_them}"
    return SourceError(
        source,
        f"none of its {rows:,} rows is left{why}; leave that column out with --exclude, give it a policy of its "
        "own with --missing COL=POLICY, or remove the file",
    )
