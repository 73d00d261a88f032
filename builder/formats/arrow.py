"""Read Parquet files, and Arrow IPC files and streams."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrow_modules import pa, pc
from builder.formats.files import first_bytes, unpacked_limit, unpacks_too_much
from builder.formats.table import (
    DATES,
    HIDDEN,
    TIME_STAMPS,
    DType,
    Frame,
    OpenTable,
    array_of,
    check_unique,
    check_width,
    column_of,
    for_each_column,
    not_numbers,
    reading,
)

_ROWS_TO_SEARCH: Final = 1_000  # for a value to quote in an error
_DECIMALS_AT_ONCE: Final = 2**16  # bounds the memory of their text
_MAGIC: Final = b"ARROW1"  # at the start of Arrow files, but not of streams
Place = Callable[[int], str]  # returns the row and column of a value in a file, for the index of the value


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowTable(OpenTable):
    """A Parquet or Arrow IPC file whose schema has been read."""

    schema: Any  # a pyarrow.Schema
    load: Callable[[list[str]], Any]  # reads top-level columns, as a pyarrow.Table
    first_rows: Callable[[str], Iterator[Any]]  # reads a top-level column as pyarrow.RecordBatches of one row
    named: bool = True
    row_groups: tuple[tuple[Callable[[list[str]], Any], int], ...] = ()  # for each, a `load` and the number of rows
    before: int = 0  # rows of the file before this piece

    @classmethod
    def of(cls, schema: Any, load: Callable[[list[str]], Any], **others: Any) -> Self:
        """Return the table of a file; without `first_rows`, whole columns are loaded for their first rows."""
        others.setdefault("first_rows", lambda column: iter(load([column]).to_batches(max_chunksize=1)))
        return cls(schema=schema, load=load, groups=_column_groups(schema, others["first_rows"]), **others)

    @property
    def types(self) -> object:
        """The types of the columns."""
        return {field.name: field.type for field in self.schema}

    def pieces(self) -> Sequence[OpenTable]:
        """Return each row group of a Parquet file."""
        if len(self.row_groups) <= 1:
            return (self,)
        ends = list(accumulate(rows for _, rows in self.row_groups))
        return tuple(
            replace(self, load=load, rows=rows, row_groups=(), before=end - rows)
            for (load, rows), end in zip(self.row_groups, ends, strict=True)
        )

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read these columns, or elements of list columns."""
        group_of = {name: column for column, elements in self.groups.items() for name in elements}
        top_columns = list(dict.fromkeys(group_of[name] for name in names))
        for name in raw:
            if self.groups.get(name) != (name,):
                raise SourceError(f"column {name} is one of lists; a column of single values is needed")
        with reading():
            for_each_column(top_columns, self._check_numbers)
            loaded = self.load([*top_columns, *(name for name in raw if name not in top_columns)])
            columns: dict[str, Any] = {}
            for name in top_columns:
                columns |= self._columns(loaded[name], name, dtype)
            columns = {name: columns[name] for name in names}
            return pa.table(columns | {HIDDEN + name: _decode(loaded[name]) for name in raw})

    def _check_numbers(self, column: str) -> None:
        """Refuse a column that is not numeric, quoting its first value, without loading it: text can be of any size."""
        kind = self.schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if is_numeric(kind.value_type if _is_list(kind) else kind):
            return
        value, row = None, 1
        for number, batch in enumerate(islice(self.first_rows(column), _ROWS_TO_SEARCH)):
            if batch.column(0)[0].is_valid:
                value, row = batch.column(0)[0].as_py(), number + 1
                break
        shown = str(value) if hasattr(value, "isoformat") else value
        raise not_numbers(column, describe_type(kind), shown, row)

    def _check_lengths(self, column: Any, name: str) -> None:
        """Refuse lists whose length differs from that of the first list."""
        width, lengths = len(self.groups[name]), pc.list_value_length(column)
        row = pc.index(pc.fill_null(pc.not_equal(lengths, width), False), True).as_py()
        if row >= 0:
            raise SourceError(
                f"column {name} holds {lengths[row].as_py():,} values in row {self.before + row + 1:,}, but {width:,} "
                "in row 1; lists must have one length to be features"
            )

    def _columns(self, column: Any, name: str, dtype: DType | None) -> dict[str, Any]:
        """Return a column, or the elements of its lists, as numbers; a missing list means missing elements."""
        is_list = _is_list(column.type)
        width, elements = len(self.groups[name]), self.groups[name]
        rows, lists = np.arange(len(column)), column
        if is_list:
            self._check_lengths(column, name)
            rows = np.flatnonzero(column.is_valid())
            lists = column.combine_chunks()
            column = pa.chunked_array([(lists.drop_null() if lists.null_count else lists).flatten()])

        def place(number: int) -> str:
            return f"row {self.before + int(rows[number // width]) + 1:,}, column {elements[number % width]}"

        numbers = self._numbers(column, name, dtype, place)
        if not is_list:
            return {name: numbers}
        values, absent = array_of(numbers)
        # One array for all elements: an array for each takes twice as long.
        block = np.zeros((width, len(lists)), values.dtype)
        missing = np.ones(block.shape, np.bool_)
        block[:, rows] = values.reshape(-1, width).T
        missing[:, rows] = False if absent is None else absent.reshape(-1, width).T
        masks = [mask if mask.any() else None for mask in missing]
        return {one: column_of(block[i], masks[i]) for i, one in enumerate(elements)}

    def _numbers(self, column: Any, name: str, dtype: DType | None, place: Place) -> Any:  # noqa: ARG002  # for JSON
        """Return a column of single values as numbers."""
        return numbers_of(column, dtype, place)


def open_parquet(path: Path) -> ArrowTable:
    """Open a Parquet file."""
    import pyarrow.parquet as pq

    with reading(path=path, format="Parquet", advice="is it a whole Parquet file?"):
        file = pq.ParquetFile(path)

    def load(read: Callable[..., Any], columns: list[str]) -> Any:
        return _check_table(read(columns=columns, use_threads=False), size)

    def first_rows(column: str) -> Iterator[Any]:
        return iter(file.iter_batches(batch_size=1, columns=[column], use_threads=False))

    with reading(advice="is it a whole Parquet file?"):
        size, metadata = path.stat().st_size, file.metadata
        row_groups = tuple(
            (partial(load, partial(file.read_row_group, number)), metadata.row_group(number).num_rows)
            for number in range(metadata.num_row_groups)
        )
        others = {"first_rows": first_rows, "rows": metadata.num_rows, "row_groups": row_groups}
        table = ArrowTable.of(file.schema_arrow, partial(load, file.read), **others)
        _check_amount(metadata.num_rows, table.schema, size)
    return table


def open_ipc(path: Path) -> ArrowTable:
    """Open an Arrow IPC file (Feather version 2 is the same) or stream."""
    start, size = first_bytes(path, len(_MAGIC))
    if start[:4] == b"FEA1":
        raise SourceError("is a Feather file of version 1; write it again as version 2")
    is_file = start == _MAGIC

    def load(columns: list[str]) -> Any:
        # Not mapped into memory: if the file were truncated meanwhile, that would crash the process.
        options = pa.ipc.IpcReadOptions(included_fields=[index[name] for name in columns], use_threads=False)
        with pa.OSFile(str(path)) as file:
            table = pa.ipc.open_file(file, options=options).read_all() if is_file else _read_stream(file, options)
        return _check_table(table, size)

    with reading(path=path, format="Arrow", advice="is it a whole Arrow file?"):
        with pa.OSFile(str(path)) as file:
            schema = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).schema
        index = {name: number for number, name in enumerate(schema.names)}
        return ArrowTable.of(schema, load)


def _read_stream(file: Any, options: Any) -> Any:
    """Read all record batches of a stream; refuse one without an end mark, which may be truncated."""
    messages = pa.ipc.MessageReader.open_stream(file)
    with suppress(StopIteration):
        while True:
            place = file.tell()
            messages.read_next_message()
    if file.tell() == place:  # pyarrow takes the end of the file for the end of the stream
        raise SourceError("cannot be read: the stream has no end mark; is it a whole Arrow file?")
    file.seek(0)
    return pa.ipc.open_stream(file, options=options).read_all()


def numbers_of(column: Any, dtype: DType | None = None, place: Place = str) -> Any:
    """Convert a pyarrow column of numbers, bool or nulls to a type of NumPy.

    Decimals become the nearest floats; but for an integer `dtype`, whole decimals become integers, and a SourceError
    names the place of the first that does not fit.
    """
    column = _decode(column)
    if pa.types.is_null(column.type):
        return pa.chunked_array([pa.nulls(len(column), pa.float64())])
    return _from_decimals(column, dtype, place) if pa.types.is_decimal(column.type) else column


def _from_decimals(column: Any, dtype: DType | None, place: Place) -> Any:
    """Return a pyarrow column of decimals as int64 or uint64 if `dtype` is an integer type, otherwise as float64.

    Numbers with a fraction always become float64, and `convert` refuses them later.
    """
    if dtype is None or dtype.kind not in "iu":
        return _nearest_floats(column)
    try:
        return widen(column).cast(pa.uint64() if dtype == np.uint64 else pa.int64())
    except pa.ArrowInvalid:
        pass
    # With fractions, `convert` refuses what does not fit; but the nearest float of a large number can be whole.
    limits, values, scale = np.iinfo(dtype), column.to_pylist(), column.type.scale
    beyond = [
        row
        for row, value in enumerate(values)
        if value is not None
        and (not limits.min <= value <= limits.max if scale <= 0 else value != int(value) and float(value).is_integer())
    ]
    if beyond:
        raise SourceError(  # worded like the error of `convert`
            f"{place(beyond[0])}: {values[beyond[0]]:f} does not fit into {dtype} ({len(beyond):,} in all); choose "
            "another --dtype, or leave the column out with --exclude"
        )
    return _nearest_floats(column)


def widen(column: Any) -> Any:
    """Widen decimals to 76 digits, since pyarrow does not cast narrow ones to int64; return other types unchanged."""
    return column.cast(pa.decimal256(76, column.type.scale)) if pa.types.is_decimal(column.type) else column


def _nearest_floats(column: Any) -> Any:
    """Return the float64 nearest to each value."""
    # Via text, which is parsed to the nearest float; pyarrow's direct cast can be off by one bit.
    floats = [
        chunk.slice(start, _DECIMALS_AT_ONCE).cast(pa.string()).cast(pa.float64())
        for chunk in column.chunks
        for start in range(0, len(chunk), _DECIMALS_AT_ONCE)
    ]
    return pa.chunked_array(floats, pa.float64())


def _decode(column: Any) -> Any:
    """Return a column without a dictionary, and text as plain strings, since pyarrow does not compute with views."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def is_numeric(kind: Any) -> bool:
    """Return whether a pyarrow type is numeric, bool or null."""
    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_null, types.is_decimal)
    return any(check(kind) for check in checks)


def is_all_null(kind: Any) -> bool:
    """Return whether a pyarrow type is null: every value is missing."""
    return bool(pa.types.is_null(kind.value_type if pa.types.is_dictionary(kind) else kind))


def is_text(kind: Any) -> bool:
    """Return whether a pyarrow type is text."""
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def describe_type(kind: Any) -> str:
    """Describe a non-numeric pyarrow type for errors."""
    types = pa.types
    if types.is_temporal(kind):
        if types.is_date(kind):
            return DATES
        return TIME_STAMPS if types.is_timestamp(kind) else f"times ({kind})"
    if is_text(kind):
        return "text"
    return f"values of type {_type_name(kind)}"


def _type_name(kind: Any) -> str:
    """Return the name of a pyarrow type without parameters, whose notation depends on pyarrow's version."""
    if _is_list(kind):
        return f"list of {_type_name(kind.value_type)}"
    return re.split(r"[<(\[]", str(kind))[0]


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _check_table(table: Any, size: int) -> Any:
    """Validate a table that was read from a file of `size` bytes, and return it."""
    table.validate(full=True)  # offsets in a hostile file can point anywhere
    _check_amount(table.num_rows, table.schema, size, table.nbytes)
    return table


def _check_amount(rows: int, schema: Any, size: int, nbytes: int = 0) -> None:
    """Refuse a table that takes far more memory than its file, as with columns without values."""
    # Decimals are in memory together with the floats to which they are converted.
    row_bytes = sum(8 + kind.bit_width // 8 if pa.types.is_decimal(kind) else 8 for kind in schema.types)
    if max(nbytes, rows * row_bytes) > unpacked_limit(size):
        raise unpacks_too_much(size, advice="split it into smaller files")


def _column_groups(schema: Any, first_rows: Callable[[str], Iterator[Any]]) -> dict[str, tuple[str, ...]]:
    """Return the elements of each column. The first row determines the length of lists."""
    check_unique(schema.names)
    if not schema.names:
        raise SourceError("has no columns")
    widths: dict[str, int] = {}
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            widths[field.name] = field.type.list_size
        elif _is_list(field.type):
            row = next(first_rows(field.name), None)
            widths[field.name] = 0 if row is None else pc.list_value_length(row.column(0))[0].as_py() or 0
        check_width(widths.get(field.name, 1), f"the lists in column {field.name} make")
    groups = {
        name: tuple(f"{name}[{i}]" for i in range(widths[name])) if name in widths else (name,) for name in schema.names
    }
    check_unique([name for names in groups.values() for name in names])
    return groups
