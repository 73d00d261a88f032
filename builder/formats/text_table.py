"""Reading delimited and blank-separated text, by pyarrow."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builder.build_errors import SourceError
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import HIDDEN, DType, Frame, OpenTable, alone, reading, shortened
from builder.formats.text_header import FIRST, TextStart, read_start
from builder.formats.text_numbers import (
    FALSE,
    MISSING,
    TRUE,
    first_that_fails,
    number_type,
    numbers,
    refuse_large,
    without_blanks,
)
from builder.formats.text_quotes import QuoteCount, unclosed
from builder.formats.text_streams import CollapseBlanks, DropLastBlankLines, open_stream
from builder.options.table_options import TableOptions

_BLOCK = FIRST  # bytes that pyarrow parses at once
_WRONG_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A text file of which the first lines are read."""

    path: Path
    source: str
    compression: str | None
    delimiter: str | None  # one character; None: runs of blanks
    options: TableOptions
    start: TextStart
    is_text: bool = True

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Each column, alone in its group."""
        return alone(self.start.names)

    @property
    def named(self) -> bool:
        """Whether the columns have names."""
        return self.start.named

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:
        """Parse columns as float64, or as int64 or uint64 where whole numbers are asked for; raw ones are trimmed."""
        import pyarrow as pa

        columns = {}
        texts = {name: pa.string() for name in raw if name not in names}
        with reading(self.source):
            try:
                kinds = self._kinds(names, dtype)
                parsed = self.parse(kinds | texts)
                if not raw and dtype is not None and pa.bool_() not in kinds.values():
                    return parsed
                columns = {name: self._checked(parsed[name], name, dtype) for name in names}
            except pa.ArrowInvalid:
                # Rare: signs, blanks around words, or text, which is then named by row and column.
                parsed = self.texts([*names, *texts])
                for name in names:
                    columns[name] = numbers(
                        parsed[name], name, self.source, dtype, self.options.na_values, self.decimal
                    )
        others = self.texts([name for name in raw if name in names]) if len(texts) < len(raw) else parsed
        for name in raw:
            text = parsed[name] if name in texts else others[name]
            columns[HIDDEN + name] = without_blanks(text, [*MISSING, *self.options.na_values])
        return pa.table(columns)

    def _kinds(self, names: Sequence[str], dtype: DType | None) -> dict[str, Any]:
        """Return the types that columns are parsed as: bool where the first row has such a word."""
        import pyarrow as pa

        words = dict(zip(self.start.names, self.start.first, strict=False))
        number = number_type(dtype)
        return {name: pa.bool_() if words.get(name, "").strip() in (*TRUE, *FALSE) else number for name in names}

    def _checked(self, column: Any, name: str, dtype: DType | None) -> Any:
        """Return a column of numbers, with 1 for true; refuse whole numbers in text that float64 does not hold."""
        import pyarrow as pa

        if pa.types.is_boolean(column.type):
            return column.cast(pa.uint8()).cast(number_type(dtype))
        if dtype is None:
            values = column.to_numpy()
            # Half the time of fmax and fmin, which leave NaN out. pyarrow's min_max takes ten times as long.
            if not np.abs(values).max(initial=0) < EXACT_IN_FLOAT64 and (np.abs(values) >= EXACT_IN_FLOAT64).any():
                refuse_large(self.texts([name])[name], values, name, self.source)
        return column

    def texts(self, names: Sequence[str]) -> Frame:
        """Return columns as the text that stands in the file.

        Raises:
            SourceError: Some of it is not UTF-8.
        """
        import pyarrow as pa

        with reading(self.source):
            try:
                return self.parse({name: pa.string() for name in names})
            except pa.ArrowInvalid:
                raise self.not_utf8(names) from None

    @property
    def decimal(self) -> str:
        """What stands before decimals."""
        return self.options.decimal

    def pieces(self) -> Sequence[OpenTable]:
        """Return the file as one piece."""
        return (self,)

    @property
    def rows(self) -> int | None:
        """None: lines are not counted before they are read."""
        return None

    def parse(self, kinds: Mapping[str, Any]) -> Any:
        """Read columns as the given pyarrow types, as a pyarrow.Table; other columns are not looked at.

        A type of None is found out from the values.

        Raises:
            SourceError: A row has more or fewer fields than the first.
            pyarrow.ArrowInvalid: A value is not of the type.
        """
        import pyarrow as pa
        from pyarrow import csv

        if self.start.rest is not None and not self.start.rest.strip():
            return pa.schema([(name, kind or pa.null()) for name, kind in kinds.items()]).empty_table()
        options = {
            # Threads would be in the way of the workers beside this one.
            "read_options": csv.ReadOptions(
                use_threads=False,
                block_size=max(_BLOCK, 4 * self.start.longest),
                column_names=self.start.names,
            ),
            # Of one column, a blank line is a row of which the value is missing; of several, it is no row.
            "parse_options": csv.ParseOptions(
                delimiter=self.delimiter or " ", ignore_empty_lines=len(self.start.names) > 1
            ),
            "convert_options": csv.ConvertOptions(
                column_types={name: kind for name, kind in kinds.items() if kind is not None},
                include_columns=list(kinds),
                null_values=[*MISSING, *self.options.na_values],
                true_values=TRUE,
                false_values=FALSE,
                strings_can_be_null=False,
                decimal_point=self.decimal,
            ),
        }
        quotes = QuoteCount()
        try:
            if None in kinds.values():
                parsed = csv.read_csv(self._data(quotes), **options)
            else:
                # Half the time per small file, but it would find out types from the first block alone.
                with csv.open_csv(self._data(quotes), **options) as batches:
                    parsed = batches.read_all()
        except pa.ArrowInvalid as error:
            self._refuse_open_quote(quotes)
            problem = self._problem(str(error))
            if problem is None:
                raise
            raise SourceError(self.source, problem) from error
        self._refuse_open_quote(quotes)
        return parsed

    def _data(self, quotes: QuoteCount) -> Any:
        """Open the data rows as a stream, with single blanks where they are separated by runs."""
        import pyarrow as pa

        changes: list[Callable[[bytes], bytes]] = [quotes]
        if self.delimiter is None:
            changes.append(CollapseBlanks())
        if len(self.start.names) == 1:
            changes.append(DropLastBlankLines())
        if self.start.rest is not None:
            rest = self.start.rest
            for change in changes:
                rest = change(rest)
            return pa.BufferReader(rest)
        stream = open_stream(self.path, self.compression, self.source, self.options)
        stream.read(self.start.offset)
        for change in changes:
            stream = pa.TransformInputStream(stream, change)
        return stream

    def _refuse_open_quote(self, quotes: QuoteCount) -> None:
        """Refuse a field that swallows all that follows; pyarrow would take the file's end for its own."""
        if not quotes.odd:
            return
        with self._data(QuoteCount()) as stream:
            row = unclosed(iter(lambda: stream.read(_BLOCK), b""), self.delimiter or " ")
        if row is not None:
            raise SourceError(
                self.source,
                f"row {row:,}: a quote is opened and not closed before the file ends; close it, or is it cut off?",
            )

    def _problem(self, words: str) -> str | None:
        """Say what pyarrow's words on text that it cannot take apart mean; None: on a value, rather."""
        if "straddling object" in words:
            return f"a line is longer than {max(_BLOCK, 4 * self.start.longest):,} bytes; is it text, and whole?"
        # pyarrow's handler of invalid rows fails where the row is not UTF-8, so its message is read instead.
        wrong = _WRONG_WIDTH.search(words)
        if wrong is None:
            return None
        row, expected, actual, text = wrong.groups()
        advice = "is it cut off, or the delimiter another?"
        if "\0" in text:
            advice = "it holds NUL bytes, as files have that were being written when the power went; is it whole?"
        elif any(first.startswith("#") for first in (*self.start.names[:1], *self.start.first[:1])):
            advice = "say --comment '#' if lines that begin so are to be left out"
        return (
            f"row {int(row):,} has {int(actual):,} fields, but the first line has {int(expected):,} "
            f"({shortened(repr(text), 80)}); {advice}"
        )

    def not_utf8(self, names: Sequence[str]) -> SourceError:
        """Find the first value of some columns that is not UTF-8; there must be one."""
        import pyarrow as pa

        found = []
        values = self.parse({name: pa.binary() for name in names})
        for name in names:
            try:
                values[name].cast(pa.string())
            except pa.ArrowInvalid:
                found.append((first_that_fails(values[name], pa.string()), name))
        row, name = min(found, key=lambda one: one[0])
        shown = shortened(repr(values[name][row].as_py()), 80)
        return SourceError(
            self.source,
            f"row {row + 1:,}, column {name}: {shown} is not valid UTF-8; write the file as UTF-8, "
            "or say --encoding, as latin-1",
        )


def open_text(
    path: Path, *, source: str, compression: str | None, delimiter: str | None, options: TableOptions
) -> TextTable:
    """Open a text file and read its first lines; see `TextTable`.

    Raises:
        SourceError: It is empty or broken, or what stands before decimals stands between fields as well.
    """
    advice = f"is it whole, and packed by {compression}?" if compression else "is it whole?"
    with reading(source, advice=advice), open_stream(path, compression, source, options) as stream:
        start = read_start(stream, source, delimiter, options)
    # Not before: that one column would be several by another delimiter says more.
    if options.decimal == delimiter:
        raise SourceError(
            source,
            f"--decimal {delimiter!r} is to stand before decimals, and {delimiter!r} stands between the fields of such "
            "a file; say what does so with --delimiter, as ';'",
        )
    return TextTable(
        path=path, source=source, compression=compression, delimiter=delimiter, options=options, start=start
    )
