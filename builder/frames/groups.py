"""Files with many sequences: rows with the same values in some columns form a group (`--group-by`)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.arrow import describe_type, is_text, widen
from builder.formats.arrow_modules import pa, pc
from builder.formats.column_choice import as_option, select
from builder.formats.table import HIDDEN, ROW, DType, Frame, OpenTable, Table, column_of
from builder.formats.text_numbers import first_cast_failure
from builder.frames.class_columns import read_numbers
from builder.frames.digits import DigitNotes
from builder.options.table_options import AS_TEXT

Value = str | int
Run = tuple[tuple[Value, ...], int]  # the values of consecutive rows, and the number of these rows
Group = tuple[dict[str, Value], Table]  # the values by column, and the rows in order

_INTEGER: Final = r"^(0|-?[1-9][0-9]{0,17})$"  # only in canonical form: 007 is a name


def columns_to_group_by(group_by: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> dict[str, bool]:
    """Return the columns of a file to group by, and whether the values of each are kept as text.

    `k:text` means column k as text, unless the file has a column named `k:text` or `text`.
    """
    by: dict[str, bool] = {}
    for part in group_by:
        column = part.removesuffix(AS_TEXT) if part not in groups and AS_TEXT[1:] not in groups else part
        for name in select((column,), groups):
            if name in by:
                raise SourceError(f"column {name} is chosen twice by --group-by {as_option(*group_by)}")
            by[name] = column != part
    return by


def convert_group_values(values: dict[str, Value], types: Mapping[str, str]) -> dict[str, Value]:
    """Convert values to the types of the store's columns; refuse text if the store has whole numbers."""
    for name, value in values.items():
        if isinstance(value, str) and types.get(name) == "int64":
            text = as_option(name + AS_TEXT)
            raise SourceError(
                f"column {name}, which rows are grouped by, holds {value!r:.80}, but in the store and its first source "
                f"it has whole numbers; build to another path with --group-by {text}, which keeps numbers as text"
            )
    return {name: str(value) if types.get(name) == "string" else value for name, value in values.items()}


def read_groups(
    table: OpenTable,
    names: Sequence[str],
    dtype: DType | None,
    *,
    by: Mapping[str, bool],
    raw: Sequence[str] = (),
    digits: DigitNotes | None = None,
) -> Iterator[Group]:
    """Return the groups of a file, in order of first appearance.

    If the rows of each group are adjacent, a Parquet file is read one row group at a time, and only the row groups of
    one group are in memory. Otherwise the columns are read whole.

    Args:
        table: The file.
        names: The columns of numbers to read.
        dtype: The dtype to which they will be converted.
        by: The columns to group by, and whether their numbers become text; empty: all rows are one group.
        raw: Further columns, to read unconverted.
        digits: Where to note numbers with many digits.
    """

    def noted(rows: Table) -> Table:
        if digits is not None:
            digits.add(rows)
        return rows

    if not by and not raw:
        yield {}, noted(read_numbers(table, names, dtype))
        return
    pieces = table.pieces()
    runs = _find_runs(pieces, by) if by and len(pieces) > 1 else None
    if runs is not None:
        for key, rows in _split_into_groups(_read_frames(pieces, names, dtype, raw), runs):
            yield dict(zip(by, key, strict=True)), noted(Table.of(rows))
        return
    (frame,) = _read_frames([table], names, dtype, list(dict.fromkeys((*raw, *by))))
    if not by:
        yield {}, noted(Table.of(frame))
        return
    distinct, codes = _encode_rows(frame, by, is_text=table.is_text)
    counts = np.bincount(codes, minlength=len(distinct)).tolist()
    if (np.diff(codes) < 0).any():
        frame = frame.take(column_of(np.argsort(codes, kind="stable")))
    rows, start = noted(Table.of(frame)), 0  # slicing arrays is faster than slicing frames
    for key, count in zip(distinct, counts, strict=True):
        yield dict(zip(by, key, strict=True)), rows.slice(start, count)
        start += count


def _read_frames(
    pieces: Iterable[OpenTable], names: Sequence[str], dtype: DType | None, raw: Sequence[str]
) -> Iterator[Frame]:
    """Read pieces one after another; the column ROW has the number of each row in the file."""
    before = 0
    for piece in pieces:
        frame = piece.read(names, dtype, raw)
        if ROW not in frame.column_names:
            frame = frame.append_column(ROW, column_of(np.arange(before + 1, before + 1 + len(frame))))
        before += len(frame)
        yield frame


def _split_into_groups(frames: Iterable[Frame], runs: Iterable[Run]) -> Iterator[tuple[tuple[Value, ...], Frame]]:
    """Yield the values and the rows of groups whose rows are adjacent in consecutive frames."""
    next_runs = iter(runs)
    values, remaining = next(next_runs, ((), 0))
    parts: list[Frame] = []
    for frame in frames:
        start = 0
        while start < len(frame):
            parts.append(frame.slice(start, remaining))
            start, remaining = start + len(parts[-1]), remaining - len(parts[-1])
            if not remaining:
                yield values, pa.concat_tables(parts)
                parts = []
                values, remaining = next(next_runs, ((), 0))


def _find_runs(pieces: Sequence[OpenTable], by: Mapping[str, bool]) -> list[Run] | None:
    """Read only the columns to group by, and return the run of each group; None if a group has several runs."""
    runs: list[Run] = []
    finished: set[tuple[Value, ...]] = set()
    before = 0
    for piece in pieces:
        values, codes = _encode_rows(piece.read((), None, tuple(by)), by, before, is_text=piece.is_text)
        before += len(codes)
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        lengths = np.diff(starts, append=len(codes)).tolist()
        for code, length in zip(codes[starts].tolist(), lengths, strict=True):
            if runs and runs[-1][0] == values[code]:
                runs[-1] = values[code], runs[-1][1] + length
            elif values[code] in finished:
                return None
            else:
                finished.add(values[code])
                runs.append((values[code], length))
    return runs


def _encode_rows(
    frame: Frame, by: Mapping[str, bool], before: int = 0, *, is_text: bool
) -> tuple[list[tuple[Value, ...]], NDArray[np.int64]]:
    """Return the distinct combinations of values in order of appearance, and for each row the index of its values."""
    raw = {name: as_integers(frame[HIDDEN + name]) if is_text else frame[HIDDEN + name] for name in by}
    columns = [_encode(column, name, before, as_text=by[name]) for name, column in raw.items()]
    codes = np.zeros(len(frame), np.int64)
    for values, column in columns:  # renumbered after each column, so that the product cannot exceed int64
        codes = column_of(codes * max(1, len(values)) + column).dictionary_encode().indices.to_numpy().astype(np.int64)
    rows = np.unique(codes, return_index=True)[1].tolist()
    return [tuple(values[column[row]] for values, column in columns) for row in rows], codes


def _encode(column: Any, name: str, before: int, *, as_text: bool) -> tuple[list[Value], NDArray[np.int64]]:
    """Return the distinct values of a column, and for each row the index of its value."""
    types = pa.types
    if column.null_count:
        row = before + column.is_null().to_numpy().argmax() + 1
        raise SourceError(
            f"row {row:,}, column {name}: missing value, but rows are grouped by this column; fill it in; in text "
            "NA, N/A, null and None also mean a missing value, so use other names"
        )
    column = widen(column)
    if types.is_floating(column.type) or types.is_integer(column.type) or types.is_decimal(column.type):
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid:
            row = first_cast_failure(column, pa.int64())
            raise SourceError(
                f"row {before + row + 1:,}, column {name}: {column[row].as_py()} is not a whole number of 64 bits; "
                "rows are grouped by text, or by whole numbers"
            ) from None
    elif types.is_boolean(column.type) or types.is_date(column.type):
        column = column.cast(pa.string())
    elif not is_text(column.type):
        raise SourceError(
            f"column {name} holds {describe_type(column.type)}; rows are grouped by text, or by whole numbers"
        )
    if as_text:
        column = column.cast(pa.string())
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def as_integers(column: Any) -> Any:
    """Return a column of text as integers if every value is one."""
    matches = pc.match_substring_regex(column.drop_null(), _INTEGER)
    return column.cast(pa.int64()) if pc.all(matches, min_count=0).as_py() else column
