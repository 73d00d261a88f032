"""Reading JSON lines: an object a line, whose names are those of columns."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.errors import SourceError
from builder.formats import ReadOptions
from builder.formats.arrow import ArrowTable, groups_of
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import DType, reading, shortened
from builder.formats.text_numbers import ROUNDED
from builder.formats.text_streams import open_stream

_BLOCK = 1 << 20  # bytes that are parsed at once
_LONGEST = 1 << 24  # bytes of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonTable(ArrowTable):
    """A file of JSON lines, in memory; its numbers are floats, as in text, whether they have a fraction or not."""

    def _numbers(self, column: Any, name: str, element: int, dtype: DType | None) -> Any:
        """Return a column, or an element of its lists, as float64, or whole numbers where these are asked for."""
        import pyarrow as pa

        numbers = ArrowTable._numbers(self, column, name, element, dtype)  # noqa: SLF001  # of the same class
        if not pa.types.is_integer(numbers.type) or (dtype is not None and dtype.kind in "iu"):
            return numbers
        values = numbers.fill_null(0).to_numpy()
        large = np.abs(values) > EXACT_IN_FLOAT64
        if dtype is None and large.any():
            row = int(large.argmax())
            raise SourceError(
                self.source,
                f"row {row + 1:,}, column {name}: {values[row]} {ROUNDED}; keep it with --dtype int64, or round it "
                "with --dtype float64",
            )
        return numbers.cast(pa.float64(), safe=False)


def open_json_lines(path: Path, *, source: str, compression: str | None, options: ReadOptions) -> JsonTable:
    """Read a file of JSON lines.

    Raises:
        SourceError: It is broken.
    """
    import pyarrow as pa

    with reading(source, advice="is it JSON, an object a line?"):
        try:
            table = _parsed(path, compression, source, options, {})
            # Text that looks like time stamps is text: `--time` says what it is.
            texts = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
            table = _parsed(path, compression, source, options, texts) if texts else table
            table.validate(full=True)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            with open_stream(path, compression, source, options) as stream:
                _refuse_line(stream, source)
            raise

    def load(columns: list[str]) -> Any:
        return table.select(columns)

    def first_rows(column: str) -> Iterator[Any]:
        return iter(table.select([column]).to_batches(max_chunksize=1))

    return JsonTable(
        source=source,
        schema=table.schema,
        load=load,
        first_rows=first_rows,
        groups=groups_of(table.schema, first_rows, source),
        rows=len(table),
    )


def _parsed(path: Path, compression: str | None, source: str, options: ReadOptions, kinds: dict[str, Any]) -> Any:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    read = arrow_json.ReadOptions(use_threads=False, block_size=_LONGEST if path.stat().st_size > _BLOCK else _BLOCK)
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(kinds.items()))
    with open_stream(path, compression, source, options) as stream:
        return arrow_json.read_json(stream, read_options=read, parse_options=parse)


def _refuse_line(stream: Any, source: str) -> None:
    """Refuse the first line that is no object."""
    rest, number = b"", 0
    while piece := stream.read(_BLOCK):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            _check_line(line, number, source)
    _check_line(rest, number + 1, source)


def _check_line(line: bytes, number: int, source: str) -> None:
    try:
        is_object = not line.strip() or isinstance(json.loads(line), dict)
    except ValueError:
        is_object = False
    if not is_object:
        shown = shortened(repr(line.decode("utf-8", "replace")), 80)
        raise SourceError(source, f"line {number:,} is no JSON object ({shown}); correct it, or is it cut off?")
