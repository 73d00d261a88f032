"""Reading delimited and blank-separated text, by pyarrow."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError
from builder.formats.arrow import column_values
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.files import most_unpacked, unpacks_to_much
from builder.formats.table import Array, DType, OpenTable, Table, alone, reading, shortened
from builder.formats.text_header import FIRST, TextStart, read_start
from builder.formats.text_numbers import FALSE, MISSING, TRUE, first_that_fails, numbers, refuse_large
from builder.formats.text_quotes import QuoteCount, unclosed

_BLOCK = FIRST  # bytes that pyarrow parses at once
_WRONG_WIDTH = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A text file of which the first lines are read."""

    path: Path
    source: str
    compression: str | None
    delimiter: str | None  # None: runs of blanks
    start: TextStart
    na_values: tuple[str, ...] = ()  # beside what usually stands for a missing value
    decimal: str = "."  # before decimals

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Each column, alone in its group."""
        return alone(self.start.names)

    @property
    def named(self) -> bool:
        """Whether the columns have names."""
        return self.start.named

    def read(self, names: Sequence[str], dtype: DType | None) -> Table:
        """Parse these columns as float64, or as int64 or uint64 where whole numbers are asked for."""
        import pyarrow as pa

        whole = dtype is not None and dtype.kind in "iu"
        number = pa.float64() if not whole else pa.uint64() if dtype == np.uint64 else pa.int64()
        words = dict(zip(self.start.names, self.start.first, strict=False))
        kinds = {name: pa.bool_() if words.get(name, "").strip() in (*TRUE, *FALSE) else number for name in names}
        with reading(self.source):
            try:
                parsed = self.parse(kinds)
            except pa.ArrowInvalid:
                # Rare: signs, blanks around words, or text, which is then named by row and column.
                return self._read_as_text(names, dtype)
            if whole:
                return _from_columns({name: column_values(parsed[name]) for name in names}, dtype)
            block = _block(parsed)
        if dtype is None and block.size:
            self._refuse_large(names, block)
        return Table.from_block(block, names)

    def raw(self, names: Sequence[str]) -> Any:
        """Return columns of text as a pyarrow.Table, without the blanks around it; what is missing is null."""
        import pyarrow as pa
        import pyarrow.compute as pc

        with reading(self.source):
            try:
                texts = self.parse({name: pa.string() for name in names})
            except pa.ArrowInvalid:
                raise self.not_utf8(names) from None
            words = pa.array([*MISSING, *self.na_values])
            trimmed = {name: pc.utf8_trim_whitespace(texts[name]) for name in names}
            return pa.table(
                {name: pc.if_else(pc.is_in(text, value_set=words), None, text) for name, text in trimmed.items()}
            )

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
                null_values=[*MISSING, *self.na_values],
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
        stream = _stream(self.path, self.compression, self.source)
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
        elif any(field.startswith("#") for field in (self.start.names if self.start.named else self.start.first)[:1]):
            advice = "lines that begin with # are not left out; say --skip-lines with how many come first"
        elif any(field.startswith("#") for field in self.start.first[:1]):
            advice = "a line that begins with # is not left out; remove such lines"
        return (
            f"row {int(row):,} has {int(actual):,} fields, but the first line has {int(expected):,} "
            f"({shortened(repr(text), 80)}); {advice}"
        )

    def _read_as_text(self, names: Sequence[str], dtype: DType | None) -> Table:
        """Read the columns as text, and make numbers of that, column by column."""
        import pyarrow as pa

        try:
            texts = self.parse({name: pa.string() for name in names})
        except pa.ArrowInvalid:
            raise self.not_utf8(names) from None
        columns = {name: numbers(texts[name], name, self.source, dtype, self.na_values, self.decimal) for name in names}
        return _from_columns(columns, dtype)

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
            self.source, f"row {row + 1:,}, column {name}: {shown} is not valid UTF-8; write the file as UTF-8"
        )

    def _refuse_large(self, names: Sequence[str], block: Array) -> None:
        """Refuse whole numbers in text that a float64 does not hold."""
        import pyarrow as pa

        # fmax and fmin, as NaN here is a missing value.
        largest = np.maximum(np.fmax.reduce(block, axis=0), -np.fmin.reduce(block, axis=0))
        large = [name for name, most in zip(names, largest, strict=True) if most >= EXACT_IN_FLOAT64]
        if large:
            with reading(self.source):
                texts = self.parse({name: pa.string() for name in large})
            for name in large:
                refuse_large(texts[name], block[:, list(names).index(name)], name, self.source)


class CollapseBlanks:
    r"""Turn runs of blanks and tabs into one blank, and none at the ends of lines, piece by piece of a text.

    >>> collapse = CollapseBlanks()
    >>> collapse(b"  1   2 "), collapse(b"\t 3  \n  4 5")
    (b'1 2', b' 3\n4 5')
    """

    def __init__(self) -> None:
        self._last = b"\n"  # the last byte so far; a blank there is held back, as it may end a line

    def __call__(self, piece: bytes) -> bytes:
        """Return the next piece, collapsed."""
        text = np.frombuffer(self._last + bytes(piece).replace(b"\t", b" "), np.uint8)
        # Blanks after a blank or a line end go: bytes up to 32. NumPy is three times as fast as replacing runs.
        kept = text[1:][(text[1:] != ord(" ")) | (text[:-1] > ord(" "))].tobytes()
        if self._last == b" ":
            kept = b" " + kept
        collapsed: bytes = kept.replace(b" \n", b"\n").replace(b" \r", b"\r")
        if collapsed:
            self._last = collapsed[-1:]
        return collapsed.removesuffix(b" ")


class DropLastBlankLines:
    r"""Take away the line ends, and blanks, that a text ends with, piece by piece.

    >>> drop = DropLastBlankLines()
    >>> drop(b"1\n2\n \n"), drop(b"\n3\n\n")
    (b'1\n2', b'\n \n\n3')
    """

    def __init__(self) -> None:
        self._held = b""  # line ends and blanks that may be the last

    def __call__(self, piece: bytes) -> bytes:
        """Return what is known to be no end, of what was held back and the next piece."""
        text = self._held + bytes(piece)
        kept = text.rstrip(b"\r\n \t")
        self._held = text[len(kept) :]
        return kept


def open_text(
    path: Path,
    *,
    source: str,
    compression: str | None,
    delimiter: str | None,
    header: bool | None,
    column_names: tuple[str, ...] | None,
    na_values: tuple[str, ...] = (),
    skip: int = 0,
    decimal: str = ".",
) -> TextTable:
    """Open a text file and read its first lines.

    Args:
        path: Where it lies.
        source: What to call it in errors.
        compression: None, "gzip" or "zstd".
        delimiter: One character; None for runs of blanks.
        header: Whether it starts with names; None: it does, unless it is blank-separated.
        column_names: Names where it has none.
        na_values: What stands for missing values, beside what usually does.
        skip: Lines before its names or its first row, which are left out.
        decimal: What stands before decimals.

    Raises:
        SourceError: It is empty or broken, or that stands between fields as well.
    """
    advice = f"is it whole, and packed by {compression}?" if compression else "is it whole?"
    with reading(source, advice=advice), _stream(path, compression, source) as stream:
        start = read_start(
            stream,
            source=source,
            delimiter=delimiter,
            header=header,
            column_names=column_names,
            skip=skip,
            decimal=decimal,
        )
    # Not before: that one column would be several by another delimiter says more.
    if decimal == delimiter:
        raise SourceError(
            source,
            f"--decimal {decimal!r} is to stand before decimals, and {delimiter!r} stands between the fields of such a "
            "file; say what does so with --delimiter, as ';'",
        )
    return TextTable(
        path=path,
        source=source,
        compression=compression,
        delimiter=delimiter,
        start=start,
        na_values=na_values,
        decimal=decimal,
    )


def _stream(path: Path, compression: str | None, source: str) -> Any:
    """Open a file for reading, decompressed; what unpacks to far more than its size ends in a SourceError."""
    import pyarrow as pa

    stream = pa.input_stream(str(path), compression=compression)
    if compression is None:
        return stream
    size = path.stat().st_size
    left = most_unpacked(size)

    def counted(piece: bytes) -> bytes:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise unpacks_to_much(source, size)
        return piece

    return pa.TransformInputStream(stream, counted)


def _block(parsed: Any) -> Array:
    """Copy a pyarrow.Table of float64 and bool into one array; missing is NaN."""
    import pyarrow as pa

    out = np.empty((parsed.num_columns, parsed.num_rows)).T  # column by column in memory, as they come
    start = 0
    for batch in parsed.to_batches():
        stop = start + batch.num_rows
        for number, column in enumerate(batch.columns):
            values = column if pa.types.is_floating(column.type) else column.cast(pa.uint8()).cast(pa.float64())
            out[start:stop, number] = values.to_numpy(zero_copy_only=False)
        start = stop
    return out


def _from_columns(columns: Mapping[str, tuple[Array, NDArray[np.bool_] | None]], dtype: DType | None) -> Table:
    """Make a table of columns that may differ in dtype, bool ones as what the others are parsed as."""
    whole = dtype is not None and dtype.kind in "iu"
    values = {
        name: array.astype(np.uint8 if whole else np.float64) if array.dtype.kind == "b" else array
        for name, (array, _) in columns.items()
    }
    return Table(columns=values, missing={name: absent for name, (_, absent) in columns.items() if absent is not None})
