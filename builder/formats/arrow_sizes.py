"""How much an Arrow IPC file says that it unpacks to, before anything is unpacked.

Its record batches may be packed buffer by buffer, each preceded by its size, which pyarrow takes at its word.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.build_errors import SourceError

ARROW_MAGIC: Final = b"ARROW1"
_END_OF_STREAM: Final = (b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0")  # now, and before Arrow 0.15
_DICTIONARY_BATCH: Final = 2
_RECORD_BATCH: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the messages of a file say that they hold."""

    rows: int
    nbytes: int  # of packed buffers, when they are unpacked


def declared(path: Path, source: str) -> Declared:
    """Add up what the messages of a file or stream say.

    Raises:
        SourceError: The file or stream ends before its end mark, or its metadata lead nowhere.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        rows = nbytes = 0
        for metadata, body in _messages(descriptor, size, source):
            message = _Table.root(metadata)
            kind = message.number(1, "B")
            batch = message.table(2) if kind in {_DICTIONARY_BATCH, _RECORD_BATCH} else None
            if batch is not None and kind == _DICTIONARY_BATCH:
                batch = batch.table(1)
            if batch is None:
                continue
            rows += batch.number(0, "q") if kind == _RECORD_BATCH else 0
            if batch.table(3) is not None:
                nbytes += sum(_unpacked(descriptor, body + start, length) for start, length in batch.structs(2, "<qq"))
    except struct.error as error:
        raise SourceError(
            source, "cannot be read: it ends before what it announces; is it a whole Arrow file?"
        ) from error
    finally:
        os.close(descriptor)
    return Declared(rows=rows, nbytes=nbytes)


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of a flatbuffer: where its fields lie is said by a table of offsets in front of it."""

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, _number(data, 0, "I"))

    def field(self, index: int) -> int | None:
        """Return where a field lies; None: it has its default."""
        offsets = self.place - _number(self.data, self.place, "i")
        if 4 + 2 * index >= _number(self.data, offsets, "H"):
            return None
        return self.place + step if (step := _number(self.data, offsets + 4 + 2 * index, "H")) else None

    def number(self, index: int, code: str) -> int:
        place = self.field(index)
        return 0 if place is None else _number(self.data, place, code)

    def table(self, index: int) -> "_Table | None":
        place = self.field(index)
        return None if place is None else _Table(self.data, place + _number(self.data, place, "I"))

    def structs(self, index: int, layout: str) -> Iterator[tuple[int, ...]]:
        """Yield the numbers in each struct of a list."""
        place = self.field(index)
        if place is None:
            return
        start = place + _number(self.data, place, "I")
        width = struct.calcsize(layout)
        for number in range(_number(self.data, start, "I")):
            yield _unpack(layout, self.data, start + 4 + number * width)


def _messages(descriptor: int, size: int, source: str) -> Iterator[tuple[bytes, int]]:
    """Yield the metadata of each message, and where its body starts."""
    if os.pread(descriptor, len(ARROW_MAGIC), 0) == ARROW_MAGIC:
        tail = os.pread(descriptor, 10, max(size - 10, 0))
        length = _number(tail, 0, "i")
        if tail[4:] != ARROW_MAGIC or not 0 < length <= size - 10:
            raise SourceError(source, "cannot be read: it does not end as Arrow files do; is it a whole Arrow file?")
        footer = _Table.root(os.pread(descriptor, length, size - 10 - length))
        for index in (2, 3):  # dictionaries, record batches
            for place, length, body in footer.structs(index, "<qi4xq"):
                _check_within(place, length + max(0, body), size)
                metadata, start, _ = _message(descriptor, place, size)
                yield metadata, start
        return
    place = 0
    while True:
        mark = os.pread(descriptor, 8, place)
        if mark.startswith(_END_OF_STREAM):
            return
        if len(mark) < 8:
            raise SourceError(source, "cannot be read: the stream has no end mark; is it a whole Arrow file?")
        metadata, body, place = _message(descriptor, place, size)
        yield metadata, body


def _message(descriptor: int, place: int, size: int) -> tuple[bytes, int, int]:
    """Return the metadata of the message at a place, where its body starts, and where it ends."""
    _check_within(place, 8, size)
    prefix = os.pread(descriptor, 8, place)
    first = _number(prefix, 0, "I")
    start, length = (place + 8, _number(prefix, 4, "i")) if first == 0xFFFFFFFF else (place + 4, first)
    _check_within(start, length, size)
    metadata, body = os.pread(descriptor, length, start), start + length
    body_length = _Table.root(metadata).number(3, "q")
    _check_within(body, body_length, size)
    return metadata, body, body + body_length


def _check_within(place: int, length: int, size: int) -> None:
    """Refuse what does not lie in the file, before memory is set aside for it."""
    if min(place, length) < 0 or place + length > size:
        raise struct.error


def _unpacked(descriptor: int, place: int, length: int) -> int:
    """Return how many bytes a packed buffer says that it unpacks to."""
    if length < 8 or place < 0:
        return 0
    return max(0, _number(os.pread(descriptor, 8, place), 0, "q"))  # -1: it is stored as it is


def _number(data: bytes, place: int, code: str) -> int:
    """Return a little-endian number."""
    number: int = _unpack(f"<{code}", data, place)[0]
    return number


def _unpack(layout: str, data: bytes, place: int) -> tuple[int, ...]:
    """Unpack numbers; a negative place would count from the end."""
    if place < 0:
        raise struct.error
    return struct.unpack_from(layout, data, place)
