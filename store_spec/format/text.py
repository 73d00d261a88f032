"""Chunks of strings in the layout of Zarr's vlen-utf8 codec: their number, then the size and the bytes of each."""

from __future__ import annotations

from typing import Any

from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray

from store_spec.errors import FormatError, StoreError

LARGEST_TEXT_BYTES = 2**26  # of a decoded chunk: 8,192 names of 4,096 bytes need half of it
_CODEC = VLenUTF8()


def decode_text(data: bytes, chunk: int, where: str) -> NDArray[Any]:
    """Return the strings of a chunk, (chunk,) object; check their number and that they end where the data end."""
    count = int.from_bytes(data[:4], "little")
    if count != chunk:  # checked first: the codec allocates as many as the data claim
        raise FormatError(f"{where}: a chunk of {count:,} strings where the schema gives {chunk:,}")
    try:
        strings: NDArray[Any] = _CODEC.decode(data)
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: one of its strings is not UTF-8 ({error.reason})") from error
    except ValueError as error:
        raise FormatError(f"{where}: its strings end beyond its {len(data):,} bytes") from error
    end = 4 * (1 + chunk) + len("".join(strings.tolist()).encode())
    if end != len(data):  # the codec does not check what follows the last string
        raise FormatError(f"{where}: its strings end at byte {end:,} of {len(data):,}")
    return strings


def check_text(text: str, what: str, most: int, error: type[StoreError]) -> None:
    """Raise `error`, which begins with `what`, unless a text is valid Unicode of at most `most` bytes of UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as cause:
        raise error(f"{what} is not valid Unicode") from cause
    if size > most:
        raise error(f"{what} has {size:,} bytes; at most {most:,} are kept: shorten it")


def shown(name: str) -> str:
    r"""Return a name for use in a message: on one line, and without control characters.

    >>> shown("a.csv"), shown("a\nb")
    ('a.csv', "'a\\nb'")
    """
    return name if name.isprintable() else ascii(name)
