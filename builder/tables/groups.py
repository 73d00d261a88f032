"""One file that holds many sequences: the rows of each group, found by the values of some columns: `--group-by`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError
from builder.formats.arrow import is_text, what_it_holds
from builder.formats.columns import as_option, select
from builder.formats.decimals import widest
from builder.formats.table import DType, OpenTable, Table
from builder.formats.text import TextTable
from builder.formats.text_numbers import first_that_fails
from builder.labels.joined import WithLabels
from builder.tables.class_columns import ClassTable

AS_TEXT: Final = ":text"
Value = str | int
VALUE_BYTES: Final = 8  # that a value takes at most
Run = tuple[tuple[Value, ...], int]  # the values of some rows that follow one another, and how many these are

_WHOLE: Final = r"^(0|-?[1-9][0-9]{0,17})$"  # a whole number as it would be written again: 007 is a name


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The rows of a file that have the same values in the columns that it is grouped by.

    Args:
        values: These, of each column.
        table: The rows, in the order of the file.
        raw: Further columns of them as they are, a pyarrow.Table.
    """

    values: dict[str, Value]
    table: Table
    raw: Any


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """The groups of a file.

    Args:
        each: They, in the order in which they first appear.
        beside: Bytes of rows that are in memory beside each; None: all are.
    """

    each: Iterator[Group]
    beside: int | None


def columns_to_group_by(
    group_by: Sequence[str], groups: Mapping[str, tuple[str, ...]], source: str
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the columns of a file that an option chooses, and those of them that are to be text.

    `k:text` is column k as text, unless the file has a column of that name, or one named `text`.

    Raises:
        SourceError: There is no such column, or one is chosen twice.
    """
    names: list[str] = []
    as_text: set[str] = set()
    for part in group_by:
        column = part.removesuffix(AS_TEXT) if part not in groups and AS_TEXT[1:] not in groups else part
        found = select((column,), groups, source)
        as_text.update(found if column != part else ())
        names += found
    if twice := [name for name in names if names.count(name) > 1]:
        raise SourceError(source, f"column {twice[0]} is chosen twice by --group-by {as_option(*group_by)}")
    return tuple(names), frozenset(as_text)


def of_types(values: dict[str, Value], types: Mapping[str, str], source: str) -> dict[str, Value]:
    """Return values of the types that a store has for their columns.

    Raises:
        SourceError: One is text, where the store has whole numbers.
    """
    for name, value in values.items():
        if isinstance(value, str) and types.get(name) == "int64":
            text = as_option(name + AS_TEXT)
            raise SourceError(
                source,
                f"column {name}, which rows are grouped by, holds {value!r:.80}, where the store has whole numbers, as "
                f"its first source; build to another path with --group-by {text}, which takes all for text",
            )
    return {name: str(value) if types.get(name) == "string" else value for name, value in values.items()}


def grouped(
    opened: OpenTable | ClassTable,
    names: Sequence[str],
    dtype: DType | None,
    source: str,
    *,
    by: Sequence[str] = (),
    as_text: Collection[str] = (),
    raw: Sequence[str] = (),
) -> Groups:
    """Return the groups of a file.

    Where the rows of each group follow one another, a Parquet file is read row group by row group: there is never more
    in memory than one of them, and the largest group. Otherwise the columns are read whole.

    Args:
        opened: The file.
        names: The columns of numbers to read.
        dtype: What these will be converted to.
        source: For errors.
        by: The columns to group by; none: all rows are one group.
        as_text: Those of them whose whole numbers are to be text.
        raw: Further columns, to read as they are.

    Raises:
        SourceError: The file cannot be read, or a value to group by is missing, or of no type that can be.
    """
    pieces = opened.pieces()
    runs = _adjacent(pieces, by, as_text, source) if by and len(pieces) > 1 else None
    if runs is None:
        return Groups(_whole(opened, names, dtype, source, by=by, as_text=as_text, raw=raw), None)
    beside = max(piece.rows or 0 for piece in pieces) * len({*names, *raw}) * VALUE_BYTES
    return Groups(_streamed(pieces, runs, names, dtype, by=by, raw=raw), beside)


def _whole(
    opened: OpenTable | ClassTable,
    names: Sequence[str],
    dtype: DType | None,
    source: str,
    *,
    by: Sequence[str],
    as_text: Collection[str],
    raw: Sequence[str],
) -> Iterator[Group]:
    """Give groups whose rows lie anywhere in the file, which is read whole."""
    table = opened.read(names, dtype)
    beside = opened.raw(raw) if raw else None
    if not by:
        yield Group({}, table, beside)
        return
    values, codes = _keys(_of(opened, by), as_text, source)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(values))).tolist()
    for group, begin, end in zip(values, [0, *ends], ends, strict=False):
        rows = order[begin:end]
        yield Group(dict(zip(by, group, strict=True)), table.taken(rows), None if beside is None else beside.take(rows))


def _streamed(
    pieces: Sequence[OpenTable],
    runs: list[Run],
    names: Sequence[str],
    dtype: DType | None,
    *,
    by: Sequence[str],
    raw: Sequence[str],
) -> Iterator[Group]:
    """Give groups whose rows follow one another, piece by piece."""
    import pyarrow as pa

    waiting = iter(runs)
    values, missing = next(waiting, ((), 0))
    tables: list[Table] = []
    besides: list[Any] = []
    before = 0  # rows of the file that come before the piece
    for piece in pieces:
        table, beside = piece.read(names, dtype), piece.raw(raw) if raw else None
        place = 0
        while place < table.rows:
            count = min(missing, table.rows - place)
            rows = table.taken(np.arange(place, place + count))
            tables.append(
                Table(columns=rows.columns, missing=rows.missing, numbers=np.arange(count) + before + place + 1)
            )
            if beside is not None:
                besides.append(beside.slice(place, count))
            place, missing = place + count, missing - count
            if not missing:
                stacked = pa.concat_tables(besides) if besides else None
                yield Group(dict(zip(by, values, strict=True)), Table.joined(tables), stacked)
                tables, besides = [], []
                values, missing = next(waiting, ((), 0))
        before += table.rows
        del table, beside


def _adjacent(
    pieces: Sequence[OpenTable], by: Sequence[str], as_text: Collection[str], source: str
) -> list[Run] | None:
    """Return each group and how many rows it has, from the columns to group by alone; None if one comes twice."""
    runs: list[Run] = []
    seen: set[tuple[Value, ...]] = set()
    before = 0
    for piece in pieces:
        values, codes = _keys(_of(piece, by), as_text, source, before)
        before += len(codes)
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        lengths = np.diff(begins, append=len(codes)).tolist()
        for code, length in zip(codes[begins].tolist(), lengths, strict=True):
            if runs and runs[-1][0] == values[code]:
                runs[-1] = values[code], runs[-1][1] + length
            elif values[code] in seen:
                return None
            else:
                seen.add(values[code])
                runs.append((values[code], length))
    return runs


def _keys(
    table: Any, as_text: Collection[str], source: str, before: int = 0
) -> tuple[list[tuple[Value, ...]], NDArray[np.int64]]:
    """Return the different values in the order in which they appear, and for each row which of them it has."""
    columns = [_encoded(table[name], name, source, before, as_text=name in as_text) for name in table.column_names]
    codes = np.zeros(len(table), np.int64)
    for values, column in columns:
        codes = codes * max(1, len(values)) + column
        _, codes = np.unique(codes, return_inverse=True)  # so that no product of many columns is beyond int64
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    found = [tuple(values[column[row]] for values, column in columns) for row in first[order].tolist()]
    return found, rank[codes]


def _encoded(
    column: Any, name: str, source: str, before: int, *, as_text: bool
) -> tuple[list[Value], NDArray[np.int64]]:
    """Return the different values of a column, and for each row which of them it has."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = before + column.is_null().to_numpy().argmax() + 1
        raise SourceError(
            source,
            f"row {row:,}, column {name}: missing value, where rows are grouped by it; fill it in; in text "
            "NA, N/A, null and None stand for one too, so give what is called so another name",
        )
    column = widest(column)
    if types.is_floating(column.type) or types.is_integer(column.type) or types.is_decimal(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            row = first_that_fails(column, pa.int64())
            raise SourceError(
                source,
                f"row {before + row + 1:,}, column {name}: {column[row].as_py()} is no whole number of 64 bits; rows "
                "are grouped by text, or by whole numbers",
            ) from None
    elif types.is_boolean(column.type) or types.is_date(column.type):
        column = column.cast(pa.string())
    elif not is_text(column.type):
        raise SourceError(
            source, f"column {name} holds {what_it_holds(column.type)}; rows are grouped by text, or by whole numbers"
        )
    if as_text:
        column = column.cast(pa.string())
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _of(opened: OpenTable, by: Sequence[str]) -> Any:
    """Read the columns to group by; of text files, those that are whole numbers throughout as such."""
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = opened.raw(by)
    own = opened.inner if isinstance(opened, ClassTable) else opened
    own = own.inputs if isinstance(own, WithLabels) else own
    if not isinstance(own, TextTable):
        return raw
    whole = {name: pc.all(pc.match_substring_regex(raw[name].drop_null(), _WHOLE)).as_py() for name in by}
    return pa.table({name: raw[name].cast(pa.int64()) if whole[name] else raw[name] for name in by})
