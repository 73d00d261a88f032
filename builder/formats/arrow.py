"""Reading Parquet files and Arrow IPC files and streams, and turning their columns into NumPy arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError
from builder.formats.table import Array, DType, Table, check_unique, not_numbers, reading


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrowTable:
    """A Parquet or Arrow IPC file of which the schema is read."""

    source: str
    load: Callable[[list[str]], Any]  # reads top-level columns, as a pyarrow.Table
    groups: Mapping[str, tuple[str, ...]]
    named: bool = True

    def read(self, names: Sequence[str], dtype: DType | None) -> Table:  # noqa: ARG002 - binary: nothing to parse
        """Read these columns; of a list column, its elements."""
        place = {name: (column, i) for column, names in self.groups.items() for i, name in enumerate(names)}
        wanted = list(dict.fromkeys(place[name][0] for name in names))
        with reading(self.source):
            table = self.load(wanted)
        values: dict[str, Array] = {}
        missing: dict[str, NDArray[np.bool_]] = {}
        for column in wanted:
            width = len(self.groups[column])
            scalar = self.groups[column] == (column,)
            with reading(self.source):
                array, absent = _numbers(table[column], column, None if scalar else width, self.source)
            for i, name in enumerate(self.groups[column]):
                values[name] = array[:, i]
                if absent is not None and absent[:, i].any():
                    missing[name] = absent[:, i]
        return Table(
            columns={name: values[name] for name in names},
            missing={name: missing[name] for name in names if name in missing},
        )


def open_parquet(path: Path, *, source: str) -> ArrowTable:
    """Open a Parquet file."""
    import pyarrow.parquet as pq

    with reading(source, advice="is it a whole Parquet file?"):
        file = pq.ParquetFile(path)

    def load(columns: list[str]) -> Any:
        table = file.read(columns=columns, use_threads=False)
        table.validate(full=True)
        return table

    def first_row(columns: list[str]) -> Any:
        return next(file.iter_batches(batch_size=1, columns=columns, use_threads=False), None)

    with reading(source):
        return ArrowTable(source=source, load=load, groups=_groups(file.schema_arrow, first_row, source))


def open_ipc(path: Path, *, source: str) -> ArrowTable:
    """Open an Arrow IPC file (Feather version 2 is the same) or stream."""
    import pyarrow as pa
    from pyarrow import ipc

    with path.open("rb") as stream:
        start = stream.read(6)
    if start[:4] == b"FEA1":
        raise SourceError(source, "is a Feather file of version 1; write it again as version 2")
    opened = ipc.open_file if start == b"ARROW1" else ipc.open_stream

    def schema() -> Any:
        with pa.OSFile(str(path)) as file:
            return opened(file).schema

    def load(columns: list[str]) -> Any:
        # Not mapped into memory: a file cut short while it is read would end the process.
        included = [index[name] for name in columns]
        with pa.OSFile(str(path)) as file:
            options = ipc.IpcReadOptions(included_fields=included, use_threads=False)
            table = opened(file, options=options).read_all()
        # A hostile file can hold offsets that point anywhere.
        table.validate(full=True)
        return table

    with reading(source, advice="is it a whole Arrow file?"):
        found = schema()
        index = {name: number for number, name in enumerate(found.names)}
        return ArrowTable(source=source, load=load, groups=_groups(found, load, source))


def column_values(column: Any) -> tuple[Array, NDArray[np.bool_] | None]:
    """Turn a pyarrow column of numbers or bool into an array.

    Returns:
        The values (rows,), and where they are missing (rows,); None where none is, or where NaN says so.
    """
    import pyarrow as pa

    # Only chunked arrays copy where they must.
    column = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan), None
    if not column.null_count:
        # A single chunk is not copied, but comes read-only.
        return column.to_numpy(), None
    if pa.types.is_floating(column.type):
        return column.to_numpy(), None
    absent = column.is_null().to_numpy()
    return column.fill_null(False if pa.types.is_boolean(column.type) else 0).to_numpy(), absent


def is_numeric(kind: Any) -> bool:
    """Whether a pyarrow type is of numbers or bool."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind))


def what_it_holds(kind: Any) -> str:
    """Say in words what a pyarrow type, that is not numeric, is of."""
    import pyarrow as pa

    types = pa.types
    if types.is_temporal(kind):
        return "time stamps" if types.is_timestamp(kind) else f"times ({kind})"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    return f"values of type {kind}"


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _groups(schema: Any, first_row: Callable[[list[str]], Any], source: str) -> dict[str, tuple[str, ...]]:
    """Name every column's elements; the first row tells how many a list has."""
    import pyarrow as pa

    check_unique(source, schema.names)
    if not schema.names:
        raise SourceError(source, "has no columns")
    widths: dict[str, int] = {}
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            widths[field.name] = field.type.list_size
        elif _is_list(field.type):
            row = first_row([field.name])
            value = row[field.name][0].as_py() if row is not None and len(row) else None
            widths[field.name] = len(value or ())
    groups = {
        name: tuple(f"{name}[{i}]" for i in range(widths[name])) if name in widths else (name,) for name in schema.names
    }
    check_unique(source, [name for names in groups.values() for name in names])
    return groups


def _numbers(column: Any, name: str, width: int | None, source: str) -> tuple[Array, NDArray[np.bool_] | None]:
    """Return what `column_values` does, as (rows, width); width None is 1, for a column that is no list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if width is None:
        if not is_numeric(column.type):
            raise _no_numbers(column, name, source)
        array, absent = column_values(column)
        return array[:, None], None if absent is None else absent[:, None]
    if not is_numeric(column.type.value_type):
        raise _no_numbers(column, name, source)
    lengths, null = column_values(pc.list_value_length(column))
    ragged = lengths != width if null is None else (lengths != width) & ~null
    if ragged.any():
        row = int(ragged.argmax())
        raise SourceError(
            source,
            f"column {name} holds {int(lengths[row]):,} values in row {row + 1:,}, but {width:,} in row 1; "
            "lists must have one length to be features",
        )
    lists = column.combine_chunks()
    flat, absent = column_values(lists.drop_null().flatten())
    # A row without a list lacks all its elements.
    present = np.ones(len(column), np.bool_) if null is None else ~null
    values = np.zeros((len(column), width), flat.dtype)
    values[present] = flat.reshape(-1, width)
    missing = np.repeat(~present[:, None], width, axis=1)
    if absent is not None:
        missing[present] |= absent.reshape(-1, width)
    return values, missing if missing.any() else None


def _no_numbers(column: Any, name: str, source: str) -> SourceError:
    """Say what a column holds instead of numbers, with its first value."""
    first = next((row for row in range(len(column)) if column[row].is_valid), 0)
    value = column[first].as_py() if len(column) else None
    holds = what_it_holds(column.type)
    return not_numbers(source, name, holds, value if not hasattr(value, "isoformat") else str(value), first + 1)
