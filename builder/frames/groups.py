"""One file that holds many sequences: the rows of each group, found by the values of some columns: `--group-by`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.arrow import is_text, what_it_holds
from builder.formats.column_choice import as_option, select
from builder.formats.decimals import widest
from builder.formats.table import HIDDEN, ROW, DType, Frame, OpenTable, Table, column_of
from builder.formats.text_numbers import first_that_fails
from builder.frames.class_columns import CategoricalTable, numbers_in
from builder.options.table_options import AS_TEXT

Value = str | int
VALUE_BYTES: Final = 8  # that a value takes at most
Run = tuple[tuple[Value, ...], int]  # the values of some rows that follow one another, and how many these are
Group = tuple[dict[str, Value], Frame]  # the values of each column; and the rows in order, perhaps as a Table already

_WHOLE: Final = r"^(0|-?[1-9][0-9]{0,17})$"  # a whole number as it would be written again: 007 is a name


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


def groups_in(
    table: OpenTable | CategoricalTable,
    names: Sequence[str],
    dtype: DType | None,
    source: str,
    *,
    by: Sequence[str] = (),
    as_text: Collection[str] = (),
    raw: Sequence[str] = (),
) -> tuple[Iterator[Group], int | None]:
    """Return the groups of a file, in the order in which they first appear: the values of each, and its rows.

    Where the rows of each group follow one another, a Parquet file is read row group by row group: there are never more
    in memory than those in which the rows of the largest group lie. Otherwise the columns are read whole.

    Args:
        table: The file.
        names: The columns of numbers to read.
        dtype: What these will be converted to.
        source: For errors.
        by: The columns to group by; none: all rows are one group.
        as_text: Those of them whose whole numbers are to be text.
        raw: Further columns, to read as they are, hidden.

    Returns:
        The groups; and the bytes of rows that are in memory beside each, None where all are.

    Raises:
        SourceError: The file cannot be read, or a value to group by is missing, or of no type that can be.
    """
    pieces = table.pieces()
    runs = _adjacent(pieces, by, as_text, source) if by and len(pieces) > 1 else None
    if runs is not None:
        beside = max(piece.rows or 0 for piece in pieces) * len({*names, *raw}) * VALUE_BYTES
        return _cut(_frames(pieces, names, dtype, raw), runs, by), beside
    return _whole(table, names, dtype, source, by=by, as_text=as_text, raw=raw), None


def _frames(
    pieces: Iterable[OpenTable | CategoricalTable], names: Sequence[str], dtype: DType | None, raw: Sequence[str]
) -> Iterator[Frame]:
    """Read pieces one after another, each row with its number in the file."""
    before = 0
    for piece in pieces:
        frame = piece.read(names, dtype, raw)
        if ROW not in frame.column_names:
            frame = frame.append_column(ROW, column_of(np.arange(before + 1, before + 1 + len(frame))))
        before += len(frame)
        yield frame


def _cut(frames: Iterable[Frame], runs: Iterable[Run], by: Sequence[str]) -> Iterator[Group]:
    """Give groups whose rows follow one another in frames that follow one another."""
    import pyarrow as pa

    waiting = iter(runs)
    values, lacking = next(waiting, ((), 0))
    parts: list[Frame] = []
    for frame in frames:
        start = 0
        while start < len(frame):
            parts.append(frame.slice(start, lacking))
            start, lacking = start + len(parts[-1]), lacking - len(parts[-1])
            if not lacking:
                yield dict(zip(by, values, strict=True)), parts[0] if len(parts) == 1 else pa.concat_tables(parts)
                parts = []
                values, lacking = next(waiting, ((), 0))


def _whole(
    table: OpenTable | CategoricalTable,
    names: Sequence[str],
    dtype: DType | None,
    source: str,
    *,
    by: Sequence[str],
    as_text: Collection[str],
    raw: Sequence[str],
) -> Iterator[Group]:
    """Give groups whose rows lie anywhere in the file, which is read whole."""
    if not by and not raw:
        yield {}, numbers_in(table, names, dtype)
        return
    (frame,) = _frames([table], names, dtype, list(dict.fromkeys((*raw, *by))))
    if not by:
        yield {}, frame
        return
    values, codes = _keys(frame, by, as_text, source, is_text=table.is_text)
    counts = np.bincount(codes, minlength=len(values)).tolist()
    if (np.diff(codes) < 0).any():
        frame = frame.take(column_of(np.argsort(codes, kind="stable")))
    # Arrays are cut in less time than frames, where these are not needed.
    yield from _cut([frame if raw else Table.of(frame)], zip(values, counts, strict=True), by)


def _adjacent(
    pieces: Sequence[OpenTable | CategoricalTable], by: Sequence[str], as_text: Collection[str], source: str
) -> list[Run] | None:
    """Return each group and how many rows it has, from the columns to group by alone; None if one comes twice."""
    runs: list[Run] = []
    seen: set[tuple[Value, ...]] = set()
    before = 0
    for piece in pieces:
        values, codes = _keys(piece.read((), None, by), by, as_text, source, before, is_text=piece.is_text)
        before += len(codes)
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        lengths = np.diff(starts, append=len(codes)).tolist()
        for code, length in zip(codes[starts].tolist(), lengths, strict=True):
            if runs and runs[-1][0] == values[code]:
                runs[-1] = values[code], runs[-1][1] + length
            elif values[code] in seen:
                return None
            else:
                seen.add(values[code])
                runs.append((values[code], length))
    return runs


def _keys(
    frame: Frame, by: Sequence[str], as_text: Collection[str], source: str, before: int = 0, *, is_text: bool
) -> tuple[list[tuple[Value, ...]], NDArray[np.int64]]:
    """Return the different values in the order in which they appear, and for each row which of them it has."""
    raw = {name: _whole_numbers(frame[HIDDEN + name]) if is_text else frame[HIDDEN + name] for name in by}
    columns = [_encoded(column, name, source, before, as_text=name in as_text) for name, column in raw.items()]
    codes = np.zeros(len(frame), np.int64)
    for values, column in columns:  # numbered anew each time, so that no product of many columns is beyond int64
        codes = column_of(codes * max(1, len(values)) + column).dictionary_encode().indices.to_numpy().astype(np.int64)
    rows = np.unique(codes, return_index=True)[1].tolist()
    return [tuple(values[column[row]] for values, column in columns) for row in rows], codes


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


def _whole_numbers(column: Any) -> Any:
    """Return text as whole numbers, if it is such throughout."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return column.cast(pa.int64()) if pc.all(pc.match_substring_regex(column.drop_null(), _WHOLE)).as_py() else column
