"""Read the first lines of a text file: its column names, and the offset of its data."""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from builder.build_errors import SourceError
from builder.formats.column_choice import list_names
from builder.formats.files import check_first_bytes
from builder.formats.table import check_names_given, check_unique, shorten
from builder.formats.text_numbers import DECIMALS
from builder.formats.text_streams import lines_of, unclosed_quote
from builder.options.table_options import TableOptions

FIRST = 1 << 20  # bytes; a smaller file is read completely
_MOST = 1 << 24
# By decimal mark.
_NUMBER = {mark: re.compile(rf"[+-]?(\d+[{mark}]?\d*|[{mark}]\d+)([eE][+-]?\d+)?") for mark in DECIMALS}
_FIELD = re.compile(r'"(?:[^"]|"")*"(?!\S)|\S+')  # of text with blanks between fields
_MARKS = {  # of other encodings; that of UTF-16 is the start of that of UTF-32
    "32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextStart:
    """The start of a text file."""

    names: tuple[str, ...]
    named: bool
    offset: int  # bytes before the first data row
    first: tuple[str, ...]  # the fields of the first data row
    longest: int  # an upper bound of the bytes of the first two lines, or the size of a small file
    rest: bytes | None  # the data of a small file, which was read completely


def read_start(stream: Any, delimiter: str | None, options: TableOptions) -> TextStart:
    """Read the header and the first data row of a decompressed text; without a delimiter, blanks separate fields."""
    skip, decimal, column_names = options.skip_lines, options.decimal, options.column_names
    header = False if column_names else options.header
    has_header = header if header is not None else delimiter is not None
    after = options.skip_after_header if has_header else 0
    head, rows, whole = _first_rows(stream, delimiter, (skip, after))
    check_first_bytes("text", head)
    for bits, marks in _MARKS.items():
        if head.startswith(marks):
            raise SourceError(f"is UTF-{bits} text; write it as UTF-8, or say --encoding utf-{bits}")
    if not rows and skip:
        raise SourceError(f"holds nothing after the {skip:,} skipped lines; use a smaller --skip-lines")
    if not rows:
        raise SourceError("holds no header and no rows; write it again, or remove it")
    first, offset = rows[0]
    if has_header:
        # With an open quote in the header, the rest of the file would be part of the last name.
        may_be_open = len(rows) == 1 and whole and delimiter and head.count(b'"') % 2
        if may_be_open and unclosed_quote(io.BytesIO(head), delimiter or ","):
            raise SourceError("a quote is opened in the first line and not closed; close it, or remove it")
        names = _header_names(first, decimal, sure=header is True)
        data = rows[1][0] if len(rows) > 1 else []
        if len(names) == 1 and data and delimiter:
            _check_delimiter(names[0], delimiter.join(data), delimiter)
    else:
        data, offset = first, sum(map(len, islice(lines_of(io.BytesIO(head)), skip)))
        if not skip and head.startswith(codecs.BOM_UTF8):
            offset = len(codecs.BOM_UTF8)
        if delimiter is None and decimal == ".":
            _check_blanks(rows)
        if header is None and len(rows) > 1:
            _check_no_names(first, rows[1][0], decimal)
        names = tuple(column_names) or tuple(map(str, range(len(first))))
        check_names_given(names, len(first))
    return TextStart(
        names=names,
        named=has_header or bool(column_names),
        offset=offset,
        first=tuple(data),
        longest=len(head) if whole else max(rows[0][1], rows[1][1] - rows[0][1]),
        rest=head[offset:] if whole else None,
    )


def _first_rows(
    stream: Any, delimiter: str | None, skip: tuple[int, int]
) -> tuple[bytes, list[tuple[list[str], int]], bool]:
    """Read until two rows are complete; return the bytes, each row and its end, and whether they are the whole file."""
    head = b""
    size = FIRST
    while True:
        more = stream.read(size - len(head))
        head += more
        if more and len(head) < size:
            continue
        try:
            rows = list(_rows(head, delimiter, *skip))
        except csv.Error as error:
            check_first_bytes("text", head)
            raise SourceError(
                f"{error} near the start; is it text with this delimiter, and is each quote closed?"
            ) from error
        if not more or (len(rows) == 2 and rows[1][1] < len(head)):
            return head, rows, not more
        if size >= _MOST:
            raise SourceError(f"no two lines end within the first {size:,} bytes; is it text?")
        size *= 4


def _rows(head: bytes, delimiter: str | None, skip: int, after: int) -> Iterator[tuple[list[str], int]]:
    """Yield the fields of the first two lines that are not blank, and the offset after each.

    `skip` lines are skipped at the start, and `after` lines after the first row, which then includes them.
    """
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for number, line in enumerate(lines_of(io.BytesIO(head))):
            end += len(line)
            if number < skip:
                continue
            # Invalid bytes are replaced here: the header is checked later, and pyarrow checks data rows.
            yield line.encode("latin-1").decode("utf-8-sig" if end == len(line) else "utf-8", "replace")

    count, left = 0, lines()
    fields = map(_split_at_blanks, left) if delimiter is None else csv.reader(left, delimiter=delimiter)
    for row in fields:
        if len(row) > 1 or any(map(str.strip, row)):
            count += 1
            if count == 1:
                deque(islice(left, after), maxlen=0)
            yield row, end
            if count == 2:
                return


def _split_at_blanks(line: str) -> list[str]:
    """Split a line at runs of blanks, but not within quotes around a whole field.

    >>> _split_at_blanks('"2024-01-01 00:00"  1.5 5" "')
    ['2024-01-01 00:00', '1.5', '5"', '"']
    """
    fields = _FIELD.findall(line)
    return [one[1:-1].replace('""', '"') if len(one) > 1 and one[0] == one[-1] == '"' else one for one in fields]


def _header_names(fields: list[str], decimal: str, *, sure: bool) -> tuple[str, ...]:
    """Strip the names, and replace empty ones by `unnamed_` and their number."""
    # A file may be concatenated from files with byte-order marks.
    names = tuple(field.strip().lstrip("\ufeff").strip() or f"unnamed_{number}" for number, field in enumerate(fields))
    for name in names:
        if "\ufffd" in name:
            raise SourceError(
                f"the header is not valid UTF-8 ({_shown(name)}); write the file as UTF-8, or name its encoding, "
                "such as --encoding latin-1"
            )
        if "\0" in name:
            raise SourceError(f"the header holds NUL bytes ({_shown(name)}); is it UTF-16? Write it as UTF-8")
    numbered = names == tuple(map(str, range(len(names))))
    if not sure and not numbered and all(map(_NUMBER[decimal].fullmatch, names)):
        raise SourceError(
            f"the first line holds only numbers ({list_names(names[:5])}); say --no-header if it is data, "
            "--header if these are names"
        )
    check_unique(names)
    return names


def _check_delimiter(name: str, line: str, delimiter: str) -> None:
    """Refuse a single column that another delimiter would split, and a comment as the header."""
    for other in ",;\t|":
        if other != delimiter and name.count(other) == line.count(other) > 0:
            raise SourceError(
                f"the first line ({_shown(name)}) has one column between {delimiter!r}, and {name.count(other) + 1:,} "
                f"between {other!r}; say --delimiter {other!r} if that is right, or if files differ, read them with "
                "--process"
            )
    if name.startswith("#") and (delimiter in line or line.startswith("#")):
        raise SourceError(
            f"the first line is a comment ({_shown(name)}); say --comment '#' to leave out lines that begin with it"
        )


def _check_blanks(rows: list[tuple[list[str], int]]) -> None:
    """Refuse blank-separated text whose first lines have another delimiter, with or without blanks."""
    for other in ",;|":
        counts = {sum(field.count(other) for field in fields) for fields, _ in rows}
        divided = all(len(fields) == 1 or all(one.endswith(other) for one in fields[:-1]) for fields, _ in rows)
        if divided and len(counts) == 1 and counts != {0}:
            line, count = " ".join(rows[0][0]), counts.pop()
            decimals = ", or --decimal ',' if it is the decimal mark" if (other, count) == (",", 1) else ""
            raise SourceError(
                f"the first line ({_shown(line)}) has {count + 1:,} fields between {other!r}, and files with this "
                f"suffix have blanks between fields; say --delimiter {other!r}{decimals}"
            )


def _check_no_names(first: list[str], second: list[str], decimal: str) -> None:
    """Refuse an unexpected header: text in the first line, and numbers in the second."""
    if not any(map(_NUMBER[decimal].match, first)) and all(map(_NUMBER[decimal].fullmatch, second)):
        raise SourceError(
            f"the first line holds no numbers ({list_names(first[:5])}), and the second only numbers; say --header if "
            "it holds the column names, or remove it"
        )


def _shown(name: str) -> str:
    return shorten(repr(name), 60)
