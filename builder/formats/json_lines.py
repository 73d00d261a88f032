"""Read JSON lines: one object per line, whose keys are the names of columns."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.build_errors import SourceError
from builder.formats.arrow import ArrowTable, column_groups, numbers_of, single_rows
from builder.formats.arrow_modules import pa, pc
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import DType, reading, shorten
from builder.formats.text_numbers import ROUNDED
from builder.formats.text_streams import open_stream
from builder.options.table_options import TableOptions

_BLOCK = 1 << 20  # bytes that are parsed at once
_LONGEST = 1 << 24  # bytes of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonTable(ArrowTable):
    """A file of JSON lines, in memory. As in text, all numbers are floats unless integers are requested."""

    large: Mapping[str, tuple[int, int]]  # by column: the row, from 1, and value of an integer that float64 rounds
    text_numbers: bool = True

    def _numbers(self, column: Any, name: str, dtype: DType | None) -> Any:
        """Return a column of single values as float64, or as integers if `dtype` is an integer type."""
        if dtype is None and name in self.large:
            row, value = self.large[name]
            raise SourceError(
                self.source,
                f"row {row:,}, column {name}: {value} {ROUNDED}; keep it with --dtype int64, or round it with --dtype "
                "float64",
            )
        numbers = numbers_of(column)
        if not pa.types.is_integer(numbers.type) or (dtype is not None and dtype.kind in "iu"):
            return numbers
        return numbers.cast(pa.float64(), safe=False)


def open_json_lines(path: Path, *, source: str, compression: str | None, options: TableOptions) -> JsonTable:
    """Read a file of JSON lines."""
    with reading(source, advice="is it JSON, one object per line?"):
        try:
            table = _parse(path, compression, source, options, {})
            # pyarrow would parse text that looks like a time stamp; only `--time` should.
            texts = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
            table = _parse(path, compression, source, options, texts) if texts else table
            table.validate(full=True)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            with open_stream(path, compression, source, options) as stream:
                _refuse_line(stream, source)
            raise
        large = {}
        if any(_may_round(column) for column in table.columns):
            with open_stream(path, compression, source, options) as stream:
                large = _find_rounded(stream)

    def load(columns: list[str]) -> Any:
        return table.select(columns)

    first_rows = single_rows(load)
    return JsonTable(
        source=source,
        schema=table.schema,
        load=load,
        first_rows=first_rows,
        groups=column_groups(table.schema, first_rows, source),
        rows=len(table),
        large=large,
    )


def _parse(path: Path, compression: str | None, source: str, options: TableOptions, kinds: dict[str, Any]) -> Any:
    from pyarrow import json as arrow_json

    read = arrow_json.ReadOptions(use_threads=False, block_size=_LONGEST if path.stat().st_size > _BLOCK else _BLOCK)
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(kinds.items()))
    with open_stream(path, compression, source, options) as stream:
        return arrow_json.read_json(stream, read_options=read, parse_options=parse)


def _lines(stream: Any) -> Iterator[bytes]:
    rest = b""
    while piece := stream.read(_BLOCK):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest


def _refuse_line(stream: Any, source: str) -> None:
    """Refuse the first line that is not an object."""
    for number, line in enumerate(_lines(stream), 1):
        try:
            is_object = not line.strip() or isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        if not is_object:
            shown = shorten(repr(line.decode("utf-8", "replace")), 80)
            raise SourceError(
                source, f"line {number:,} is not a JSON object ({shown}); correct it, or is it truncated?"
            )


def _may_round(column: Any) -> bool:
    """Return whether a column has numbers of 2**53 or more."""
    flat = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        return False
    limits = pc.min_max(flat).as_py()
    return max(-(limits["min"] or 0), limits["max"] or 0) >= EXACT_IN_FLOAT64


def _find_rounded(stream: Any) -> dict[str, tuple[int, int]]:
    """Return the first integer beyond 2**53 of each column, with its row, from 1."""
    first: dict[str, tuple[int, int]] = {}
    for row, line in enumerate(filter(bytes.strip, _lines(stream)), 1):
        for name, value in json.loads(line).items():
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, int) and abs(one) > EXACT_IN_FLOAT64:
                    first.setdefault(name, (row, one))
    return first
