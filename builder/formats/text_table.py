"""Read delimited and blank-separated text with pyarrow."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.amounts import count_text
from builder.build_errors import SourceError
from builder.formats.arrow_modules import pa
from builder.formats.table import HIDDEN, DType, Frame, OpenTable, for_each_column, reading, shorten, single_groups
from builder.formats.text_header import FIRST, TextStart, read_start
from builder.formats.text_numbers import (
    FALSE,
    TRUE,
    first_cast_failure,
    may_be_rounded,
    number_type,
    parse_numbers,
    refuse_large,
    strip_blanks,
)
from builder.formats.text_streams import (
    Change,
    QuoteCount,
    collapse_blanks,
    drop_last_blank_lines,
    lines_of,
    open_stream,
    unclosed_quote,
)
from builder.options.table_options import TableOptions

_BLOCK = FIRST  # bytes that pyarrow parses at once
_WRONG_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable(OpenTable):
    """A text file whose first lines were read."""

    path: Path
    compression: str | None
    delimiter: str | None  # one character; None: runs of blanks
    options: TableOptions
    start: TextStart
    is_text: bool = True
    text_numbers: bool = True

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Parse columns as float64, or as int64 or uint64 for integer dtypes; raw ones are stripped."""
        columns = {}
        texts = {name: pa.string() for name in raw if name not in names}
        words = dict(zip(self.start.names, self.start.first, strict=False))
        # Bool if the first row has such a word. Not integers at first, since pyarrow takes 0x10 for one.
        kinds = {name: pa.bool_() if words.get(name, "").strip() in (*TRUE, *FALSE) else pa.float64() for name in names}
        with reading():
            try:
                parsed = self.parse(kinds | texts)
                columns = {name: self._check_numbers(parsed[name], name, dtype) for name in names}
            except pa.ArrowInvalid:
                # Rare: plus signs, blanks around words, or text, for which `parse_numbers` raises.
                parsed = self.texts([*names, *texts])
                missing, decimal = self.options.missing_words, self.decimal
                columns = for_each_column(
                    names, lambda name: parse_numbers(parsed[name], name, dtype, missing, decimal)
                )
        unconverted = self.texts(raw) if len(texts) < len(raw) else parsed
        for name in raw:
            columns[HIDDEN + name] = strip_blanks(unconverted[name], self.options.missing_words)
        return pa.table(columns)

    def _check_numbers(self, column: Any, name: str, dtype: DType | None) -> Any:
        """Return a column as numbers for a dtype, with 1 for true; refuse integers that float64 would round."""
        kind = number_type(dtype)
        if pa.types.is_boolean(column.type):
            return column.cast(pa.uint8()).cast(kind)
        if (dtype is None or kind != pa.float64()) and may_be_rounded(values := column.to_numpy()):
            if dtype is not None:
                return self.parse({name: kind})[name]
            refuse_large(self.texts([name])[name], values, name)
        return column.cast(kind)

    def texts(self, names: Sequence[str]) -> Frame:
        """Return columns as text; refuse values that are not UTF-8."""
        with reading():
            try:
                return self.parse({name: pa.string() for name in names})
            except pa.ArrowInvalid:
                raise self.not_utf8(names) from None

    def parse(self, kinds: Mapping[str, Any]) -> Any:
        """Read columns as a pyarrow.Table.

        Args:
            kinds: The pyarrow type of each column to read; None: pyarrow infers the type.

        Raises:
            SourceError: A row has more or fewer fields than the first.
            pyarrow.ArrowInvalid: A value does not have the type of its column.
        """
        from pyarrow import csv as arrow_csv

        if self.start.rest is not None and not self.start.rest.strip():
            return pa.schema([(name, kind or pa.null()) for name, kind in kinds.items()]).empty_table()
        options = {
            # Other workers use the other cores.
            "read_options": arrow_csv.ReadOptions(
                use_threads=False,
                block_size=max(_BLOCK, 4 * self.start.longest),
                column_names=self.start.names,
            ),
            # In a file of one column a blank line is a missing value; otherwise it is ignored.
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self.delimiter or " ", ignore_empty_lines=len(self.start.names) > 1
            ),
            "convert_options": arrow_csv.ConvertOptions(
                column_types={name: kind for name, kind in kinds.items() if kind is not None},
                include_columns=list(kinds),
                null_values=self.options.missing_words,
                true_values=TRUE,
                false_values=FALSE,
                strings_can_be_null=False,
                decimal_point=self.decimal,
            ),
        }
        quotes = QuoteCount()
        try:
            if None in kinds.values():
                parsed = arrow_csv.read_csv(self._data(quotes), **options)
            else:
                # This takes half the time for small files, but would infer types from the first block only.
                with arrow_csv.open_csv(self._data(quotes), **options) as batches:
                    parsed = batches.read_all()
        except pa.ArrowInvalid as error:
            self._refuse_open_quote(quotes)
            problem = self._explain(str(error))
            if problem is None:
                raise
            raise SourceError(problem) from error
        self._refuse_open_quote(quotes)
        return parsed

    def _data(self, *first: Change) -> Any:
        """Open the data rows as a stream, after these changes; runs of blanks between fields become single blanks."""
        changes = [*first]
        if self.delimiter is None:
            changes.append(collapse_blanks())
        if len(self.start.names) == 1:
            changes.append(drop_last_blank_lines())
        if self.start.rest is not None:
            rest = self.start.rest
            for change in changes:
                rest = change(rest)
            return pa.BufferReader(rest)
        stream = open_stream(self.path, self.compression, self.options)
        stream.read(self.start.offset)
        for change in changes:
            stream = pa.TransformInputStream(stream, change)
        return stream

    def _refuse_open_quote(self, quotes: QuoteCount) -> None:
        """Refuse a quote that is not closed; pyarrow would close it at the end of the file."""
        if not quotes.odd:
            return
        with self._data() as stream:
            row = unclosed_quote(io.BufferedReader(stream, _BLOCK), self.delimiter or " ")
        if row is not None:
            raise SourceError(
                f"row {row:,}: a quote is opened and not closed before the file ends; close it, or is it truncated?"
            )

    def _explain(self, words: str) -> str | None:
        """Explain pyarrow's message about malformed text; None if it is about a value."""
        if "straddling object" in words:
            return f"a line is longer than {max(_BLOCK, 4 * self.start.longest):,} bytes; is it text, and whole?"
        # pyarrow's handler of invalid rows fails if the row is not UTF-8, so its message is parsed instead.
        match = _WRONG_WIDTH.search(words)
        if match is None:
            return None
        row, expected, actual, text = match.groups()
        advice = "is it truncated, or is the delimiter another?"
        if "\0" in text:
            advice = "it holds NUL bytes, as after a power cut during writing; is it whole?"
        elif any(first.startswith("#") for first in (*self.start.names[:1], *self.start.first[:1])):
            advice = "say --comment '#' to leave out lines that begin with it"
        return (
            f"row {int(row):,} has {count_text(int(actual), 'field')}, but the first line has {int(expected):,} "
            f"({shorten(repr(text), 80)}{self._count_of_wrong_rows()}); {advice}"
        )

    def _count_of_wrong_rows(self) -> str:
        """Return how many rows have another number of fields than the first, as text, if there are several."""
        count, right = 0, (0, len(self.start.names))
        with self._data() as stream, suppress(csv.Error):  # a field of more than 128 KiB
            rows = csv.reader(lines_of(io.BufferedReader(stream, _BLOCK)), delimiter=self.delimiter or " ")
            count = sum(len(row) not in right for row in rows)
        return f"; {count:,} such rows in all" if count > 1 else ""

    def not_utf8(self, names: Sequence[str]) -> SourceError:
        """Return the error for the first value of some columns that is not UTF-8; it must exist."""
        invalid = []
        values = self.parse({name: pa.binary() for name in names})
        for name in names:
            try:
                values[name].cast(pa.string())
            except pa.ArrowInvalid:
                invalid.append((first_cast_failure(values[name], pa.string()), name))
        row, name = min(invalid, key=lambda one: one[0])
        shown = shorten(repr(values[name][row].as_py()), 80)
        return SourceError(
            f"row {row + 1:,}, column {name}: {shown} is not valid UTF-8; write the file as UTF-8, or name its "
            "encoding, such as --encoding latin-1"
        )


def open_text(path: Path, *, compression: str | None, delimiter: str | None, options: TableOptions) -> TextTable:
    """Open a text file and read its first lines."""
    advice = f"is it whole, and packed by {compression}?" if compression else "is it whole?"
    with reading(advice=advice), open_stream(path, compression, options) as stream:
        start = read_start(stream, delimiter, options)
    # Checked last, since an error about another delimiter is more helpful.
    if options.decimal == delimiter:
        raise SourceError(
            f"--decimal {delimiter!r} is also the delimiter of such a file; say another with --delimiter, such as ';'"
        )
    return TextTable(
        path=path,
        compression=compression,
        delimiter=delimiter,
        options=options,
        start=start,
        groups=single_groups(start.names),
        named=start.named,
        decimal=options.decimal,
    )
