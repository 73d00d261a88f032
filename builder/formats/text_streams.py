"""The bytes of a text file as they are parsed: unpacked, as UTF-8, without comments, with single blanks."""

import codecs
import lzma
import re
from pathlib import Path
from typing import Any

import numpy as np

from builder.build_errors import SourceError
from builder.formats.files import most_unpacked, unpacks_to_much
from builder.options.table_options import TableOptions


def open_stream(path: Path, compression: str | None, source: str, options: TableOptions) -> Any:
    """Open a text file for reading; what unpacks to far more than its size ends in a SourceError.

    Args:
        path: Where it lies.
        compression: None, "gzip", "zstd", "bz2" or "xz".
        source: What to call it in errors.
        options: Its encoding, and what lines of comments begin with.
    """
    import pyarrow as pa

    if compression == "xz":
        stream = pa.PythonFile(lzma.open(path), mode="r")  # noqa: SIM115  # closed with the stream
    else:
        stream = pa.input_stream(str(path), compression=compression)
    if compression is not None:
        stream = pa.TransformInputStream(stream, LimitUnpacked(path, source))
    if options.encoding is not None:
        stream = pa.TransformInputStream(stream, Recode(options.encoding, source))
    if options.comment is not None:
        stream = pa.TransformInputStream(stream, DropComments(options.comment))
    return stream


class LimitUnpacked:
    """Pass pieces of a text through, as long as they are not far more than the packed file."""

    def __init__(self, path: Path, source: str) -> None:
        self._size, self._source = path.stat().st_size, source
        self._left = most_unpacked(self._size)

    def __call__(self, piece: bytes) -> bytes:
        """Return the piece as it is."""
        self._left -= len(piece)
        if self._left < 0:
            raise unpacks_to_much(self._source, self._size)
        return piece


class Recode:
    r"""Write text of another encoding as UTF-8, piece by piece.

    >>> recode = Recode("utf-16", "x.csv")
    >>> recode(b"\xff\xfea\x00,"), recode(b"\x00b\x00")
    (b'a', b',b')
    """

    def __init__(self, encoding: str, source: str) -> None:
        self._encoding, self._source = encoding, source
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def __call__(self, piece: bytes) -> bytes:
        """Return what is complete of the piece, and of the one before."""
        try:
            return self._decoder.decode(bytes(piece)).encode()
        except UnicodeError as error:
            raise SourceError(
                self._source, f"is not {self._encoding} text ({error}); say --encoding with what it is"
            ) from None


class DropComments:
    r"""Leave out the lines that begin with a mark, piece by piece of a text.

    >>> drop = DropComments("#")
    >>> drop(b"# a\n1\n#"), drop(b" b\n# c\n2#\n")
    (b'1\n', b'2#\n')
    """

    def __init__(self, mark: str) -> None:
        self._whole = re.compile(rb"(?<=[\r\n])" + re.escape(mark.encode()) + rb"[^\r\n]*(\r\n?|\n)")
        self._open = re.compile(rb"(?<=[\r\n])" + re.escape(mark.encode()) + rb"[^\r\n]*\r?\Z")
        self._last, self._rest = b"\n", b""  # the byte before; a comment that goes on

    def __call__(self, piece: bytes) -> bytes:
        """Return the next piece, but for comments."""
        text = self._last + self._rest + bytes(piece)
        goes_on = self._open.search(text)
        self._rest = text[goes_on.start() :] if goes_on else b""
        text = text[: goes_on.start()] if goes_on else text
        self._last = text[-1:]
        return self._whole.sub(b"", text)[1:]


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
