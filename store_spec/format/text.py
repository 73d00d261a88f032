"""Chunks of strings, as Zarr's vlen-utf8 codec lays them out: their number, then each one's size and its bytes."""

from __future__ import annotations

from collections.abc import Sequence

from store_spec.errors import FormatError

LARGEST_TEXT_BYTES = 2**26  # of a decoded chunk: 8,192 names of 4,096 bytes need half of it


def encode_text(strings: Sequence[str], chunk: int) -> bytes:
    """Return a whole chunk of strings, empty ones after the last."""
    parts = [chunk.to_bytes(4, "little")]
    for string in strings:
        data = string.encode()
        parts += (len(data).to_bytes(4, "little"), data)
    parts.append(bytes(4) * (chunk - len(strings)))
    return b"".join(parts)


def decode_text(data: bytes, chunk: int, where: str) -> list[str]:
    """Return the strings of a chunk.

    Raises:
        FormatError: There are not `chunk` of them, or they run over the end, or are not UTF-8.
    """
    found = int.from_bytes(data[:4], "little")
    if found != chunk:
        raise FormatError(f"{where}: a chunk of {found:,} strings where the schema gives {chunk:,}")
    strings, at = list[str](), 4
    filled = len(data.rstrip(b"\0"))  # after that are empty ones, which most of the last chunk are
    try:
        while at < filled and len(strings) < chunk:
            start = at + 4
            at = start + int.from_bytes(data[at:start], "little")
            strings.append(data[start:at].decode())
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: string {len(strings)} is not UTF-8 ({error.reason})") from error
    empty = chunk - len(strings)
    if at + 4 * empty != len(data):
        raise FormatError(f"{where}: its strings end at byte {at + 4 * empty:,} of {len(data):,}")
    return strings + [""] * empty


def shown(name: str) -> str:
    r"""Return a name as a message can have it: on one line, without what a terminal would take for a command.

    >>> shown("a.csv"), shown("a\nb")
    ('a.csv', "'a\\nb'")
    """
    return name if name.isprintable() else ascii(name)
