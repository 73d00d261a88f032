"""Prepare streams of text for the parser: decompress, recode as UTF-8, drop comments, collapse blanks, check quotes."""

import codecs
import csv
import io
import lzma
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrow_modules import pa
from builder.formats.files import unpacked_limit, unpacks_too_much
from builder.options.table_options import TableOptions

_SENTINEL = "\x01 after the end"
Change = Callable[[bytes], bytes]  # takes the pieces of a text in turn, the last of which is empty


def open_stream(path: Path, compression: str | None, options: TableOptions) -> Any:
    """Open a text file for reading. Reading raises SourceError if it unpacks to far more than its size.

    `compression` is None, "gzip", "zstd", "bz2" or "xz"; of the options, `encoding` and `comment` are used.
    """
    stream = pa.input_stream(str(path), compression=None if compression == "xz" else compression)
    if compression is not None:
        limit = _limit_unpacked(path)
        stream = pa.TransformInputStream(stream, _unpack_xz(path, limit) if compression == "xz" else limit)
    if options.encoding is not None:
        stream = pa.TransformInputStream(stream, recode(options.encoding))
    if options.comment is not None:
        stream = pa.TransformInputStream(stream, drop_comments(options.comment))
    return stream


def _unpack_xz(path: Path, limit: Change) -> Change:
    """Return a function that unpacks the pieces of an xz file, and calls `limit` with the text of each.

    `lzma.open` ends without an error at a damaged stream that follows a whole one.
    """
    stream, most = lzma.LZMADecompressor(), unpacked_limit(path.stat().st_size) + 1

    def unpack(piece: bytes) -> bytes:
        nonlocal stream
        data, text = bytes(piece), b""
        if not data and not stream.eof:
            raise EOFError("the file ends within compressed data")
        while len(text) < most and (data := data.lstrip(b"\0") if stream.eof else data):  # zeros separate streams
            stream = lzma.LZMADecompressor() if stream.eof else stream
            text += stream.decompress(data, most - len(text))
            data = stream.unused_data
        return limit(text)

    return unpack


def _limit_unpacked(path: Path) -> Change:
    """Return a function that returns the pieces of a text, until they exceed the limit for the compressed file."""
    size = path.stat().st_size
    left = unpacked_limit(size)

    def check(piece: bytes) -> bytes:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise unpacks_too_much(size)
        return piece

    return check


def recode(encoding: str) -> Change:
    r"""Return a function that recodes text as UTF-8. The start of a character is kept for the next piece.

    >>> change = recode("utf-16")
    >>> change(b"\xff\xfea\x00,"), change(b"\x00b\x00")
    (b'a', b',b')
    """
    decoder = codecs.getincrementaldecoder(encoding)()

    def change(piece: bytes) -> bytes:
        try:
            return decoder.decode(bytes(piece), final=not piece).encode()  # at the end of the text the piece is empty
        except UnicodeError as error:
            raise SourceError(f"is not {encoding} text ({error}); name its encoding with --encoding") from None

    return change


def drop_comments(mark: str) -> Change:
    r"""Return a function that removes the lines that begin with a mark.

    >>> change = drop_comments("#")
    >>> change(b"# a\n1\n#"), change(b" b\n# c\n2#\n")
    (b'1\n', b'2#\n')
    """
    first = mark.encode()
    start = rb"(?<=[\r\n])" + re.escape(first) + rb"[^\r\n]*"
    whole, unfinished = re.compile(start + rb"(\r\n?|\n)"), re.compile(start + rb"\r?\Z")
    last, rest = b"\n", b""  # the byte before the piece; the start of an unfinished comment

    def change(piece: bytes) -> bytes:
        nonlocal last, rest
        text = last + rest + bytes(piece)
        # A file, or each of those it was joined from, may begin with a byte-order mark.
        text = text.replace(b"\n" + codecs.BOM_UTF8 + first, b"\n" + first)
        found = unfinished.search(text)
        end = found.start() if found else len(text)
        text, rest = text[:end], text[end:]
        last = text[-1:]
        return whole.sub(b"", text)[1:]

    return change


def collapse_blanks() -> Change:
    r"""Return a function that replaces runs of blanks and tabs by one blank, and removes them at the ends of lines.

    >>> change = collapse_blanks()
    >>> change(b"  1   2 "), change(b"\t 3  \n  4 5")
    (b'1 2', b' 3\n4 5')
    """
    last = b"\n"  # the last byte so far; a blank is held back, since it may be at the end of a line

    def change(piece: bytes) -> bytes:
        nonlocal last
        text = np.frombuffer(last + bytes(piece).replace(b"\t", b" "), np.uint8)
        # Drop blanks after a blank or line end (bytes up to 32). NumPy is three times as fast as `re`.
        output = text[1:][(text[1:] != ord(" ")) | (text[:-1] > ord(" "))].tobytes()
        if last == b" ":
            output = b" " + output
        collapsed: bytes = output.replace(b" \n", b"\n").replace(b" \r", b"\r")
        if collapsed:
            last = collapsed[-1:]
        return collapsed.removesuffix(b" ")

    return change


def drop_last_blank_lines() -> Change:
    r"""Return a function that removes the line ends and blanks at the end of a text.

    >>> change = drop_last_blank_lines()
    >>> change(b"1\n2\n \n"), change(b"\n3\n\n")
    (b'1\n2', b'\n \n\n3')
    """
    pending = b""  # line ends and blanks that may be at the end of the text

    def change(piece: bytes) -> bytes:
        nonlocal pending
        text = pending + bytes(piece)
        output = text.rstrip(b"\r\n \t")
        pending = text[len(output) :]
        return output

    return change


class QuoteCount:
    """Return the pieces of a text unchanged, and record whether their number of quotes is odd."""

    def __init__(self) -> None:
        self.odd = False

    def __call__(self, piece: bytes) -> bytes:
        """Return the piece unchanged."""
        # NumPy is five times as fast as `bytes.count`.
        self.odd ^= np.count_nonzero(np.frombuffer(piece, np.uint8) == ord('"')) % 2 == 1
        return piece


def lines_of(text: BinaryIO) -> io.TextIOWrapper:
    """Return an iterator of the lines of a text, with their ends, whose characters are the bytes of the text."""
    return io.TextIOWrapper(text, "latin-1", newline="")


def unclosed_quote(text: BinaryIO, delimiter: str) -> int | None:
    r"""Return the number, from 1, of the row whose quote is not closed; None if all quotes are closed.

    This takes far longer than counting, so it is used only if the number of quotes is odd. A quote within a field that
    does not start with one is valid, as in 5" for inches.

    >>> unclosed_quote(io.BytesIO(b'1,"2"\n3,"4\n5,6\n'), ","), unclosed_quote(io.BytesIO(b'1,5" wide\n'), ",")
    (2, None)
    """
    rows = csv.reader(chain(lines_of(text), [_SENTINEL]), delimiter=delimiter)  # an open quote swallows the sentinel
    number, last = 0, [_SENTINEL]
    try:
        for last in rows:
            number += bool(last)
    except csv.Error:  # a field of more than 128 KiB
        return number + 1
    return number if last != [_SENTINEL] else None
