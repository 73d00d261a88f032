"""Read JSON lines: one object per line, whose keys are the names of columns."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from builder.build_errors import SourceError
from builder.formats.arrow import ArrowTable, Place, numbers_of
from builder.formats.arrow_modules import pa
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import DType, Frame, reading, shorten
from builder.formats.text_numbers import ROUNDED, may_be_rounded
from builder.formats.text_streams import open_stream
from builder.options.table_options import TableOptions

_BLOCK = 1 << 20  # bytes that are parsed at once
_LONGEST = 1 << 24  # bytes of a line
_AS_INTEGERS = "write all numbers of the column as integers of 64 bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonTable(ArrowTable):
    """A file of JSON lines, in memory. As in text, all numbers are floats unless integers are requested."""

    # Returns the row, from 1, and value of the first integer of each column that float64 rounds.
    large: Callable[[], Mapping[str, tuple[int, int]]]
    text_numbers: bool = True

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read columns; those of `raw` with integers that the parser rounded are refused."""
        for name in raw:
            self._refuse_rounded(self.load([name])[name], name, _AS_INTEGERS)
        return ArrowTable._read(self, names, dtype, raw)  # noqa: SLF001  # super() does not work with slots

    def _numbers(self, column: Any, name: str, dtype: DType | None, place: Place) -> Any:  # noqa: ARG002
        """Return a column of single values as float64, or as integers if `dtype` is an integer type."""
        numbers = numbers_of(column)
        if dtype is not None and dtype.kind in "iu":
            self._refuse_rounded(numbers, name, _AS_INTEGERS)
            return numbers
        numbers = numbers.cast(pa.float64(), safe=False) if pa.types.is_integer(numbers.type) else numbers
        if dtype is None:
            self._refuse_rounded(numbers, name, "keep it with --dtype int64, or round it with --dtype float64")
        return numbers

    def _refuse_rounded(self, column: Any, name: str, advice: str) -> None:
        """Refuse floats among which is a rounded integer."""
        if pa.types.is_floating(column.type) and may_be_rounded(column.to_numpy()) and name in (large := self.large()):
            row, value = large[name]
            raise SourceError(f"row {row:,}, column {name}: {value} {ROUNDED}; {advice}")


def open_json_lines(path: Path, *, compression: str | None, options: TableOptions) -> JsonTable:
    """Read a file of JSON lines."""
    with reading(advice="is it JSON, one object per line?"):
        try:
            table = _parse(path, compression, options, {})
            # pyarrow would parse text that looks like a time stamp; only `--time` should.
            texts = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
            table = _parse(path, compression, options, texts) if texts else table
            table.validate(full=True)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            with open_stream(path, compression, options) as stream:
                _refuse_line(stream)
            if found := re.fullmatch(r"(.* in row )(\d+)", str(error)):  # pyarrow counts from 0
                raise pa.ArrowInvalid(f"{found[1]}{int(found[2]) + 1:,}") from error
            raise

    @cache
    def large() -> dict[str, tuple[int, int]]:
        with open_stream(path, compression, options) as stream:
            return _find_rounded(stream)

    return JsonTable.of(table.schema, table.select, rows=len(table), large=large)


def _parse(path: Path, compression: str | None, options: TableOptions, kinds: dict[str, Any]) -> Any:
    from pyarrow import json as arrow_json

    is_small = compression is None and path.stat().st_size <= _BLOCK
    read = arrow_json.ReadOptions(use_threads=False, block_size=_BLOCK if is_small else _LONGEST)
    parse = arrow_json.ParseOptions(explicit_schema=pa.schema(kinds.items()))
    with open_stream(path, compression, options) as stream:
        return arrow_json.read_json(stream, read_options=read, parse_options=parse)


def _refuse_line(stream: Any) -> None:
    """Refuse the first line that is not an object."""
    for number, line in enumerate(io.BufferedReader(stream, _BLOCK), 1):
        try:
            is_object = not line.strip() or isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        if not is_object:
            shown = shorten(repr(line.removesuffix(b"\n").decode("utf-8", "replace")), 80)
            raise SourceError(f"line {number:,} is not a JSON object ({shown}); correct it, or is it truncated?")


def _find_rounded(stream: Any) -> dict[str, tuple[int, int]]:
    """Return the first integer beyond 2**53 of each column, with its row, from 1."""
    first: dict[str, tuple[int, int]] = {}
    for row, line in enumerate(filter(bytes.strip, io.BufferedReader(stream, _BLOCK)), 1):
        for name, value in json.loads(line).items():
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, int) and abs(one) > EXACT_IN_FLOAT64:
                    first.setdefault(name, (row, one))
    return first
