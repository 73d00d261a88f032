"""How many values a Parquet file says that it has, cells of lists among them, before any is unpacked.

pyarrow would tell it too, but where the metadata contradict themselves, as those of a damaged file may, asking it for a
column of a row group ends the process.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Types of Thrift's compact protocol, in which the metadata are written.
_TRUE, _FALSE, _BYTE, _DOUBLE, _TEXT, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS: Final = {4, 5, 6}
_DEEPEST: Final = 64


def declared_values(path: Path) -> int:
    """Add up the values that the columns of all row groups are said to have.

    Raises:
        IndexError: The metadata end in the middle.
        ValueError: They are nested too deeply, or are none.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if not 0 < length <= size - 8:
            raise ValueError("the metadata are longer than the file")
        file.seek(size - 8 - length)
        metadata = _Metadata(file.read(length))
    total = 0
    for _ in metadata.structs_in(4):  # row groups
        for _ in metadata.structs_in(1):  # pieces of columns
            for field, kind in metadata.fields():
                if (field, kind) != (3, _STRUCT):  # what is known of a piece
                    metadata.skip(kind)
                    continue
                for known, of_kind in metadata.fields():
                    if known == 5 and of_kind in _INTEGERS:  # the number of values
                        total += metadata.integer()
                    else:
                        metadata.skip(of_kind)
    return total


class _Metadata:
    """Bytes in Thrift's compact protocol, read from front to back."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def structs_in(self, wanted: int) -> Iterator[None]:
        """Read a struct, and stop at each struct in its field `wanted`, a list, which the caller then reads."""
        for field, kind in self.fields():
            if field != wanted or kind != _LIST:
                self.skip(kind)
                continue
            count, of_kind = self._list()
            for _ in range(count):
                if of_kind == _STRUCT:
                    yield
                else:
                    self.skip(of_kind)

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield number and type of each field of a struct; the caller reads its value."""
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self.integer()
            yield field, head & 15

    def integer(self) -> int:
        """Read a whole number."""
        number = self._varint()
        return number >> 1 ^ -(number & 1)

    def skip(self, kind: int, depth: int = 0, *, in_list: bool = False) -> None:
        """Read over a value."""
        if depth > _DEEPEST:
            raise ValueError("the metadata are nested too deeply")
        if kind in {_TRUE, _FALSE}:
            self._place += in_list
        elif kind == _BYTE:
            self._place += 1
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self._place += 8
        elif kind == _TEXT:
            length = self._varint()
            self._place += length
        elif kind in {_LIST, _SET}:
            count, of_kind = self._list()
            for _ in range(count):
                self.skip(of_kind, depth + 1, in_list=True)
        elif kind == _STRUCT:
            for _, of_kind in self.fields():
                self.skip(of_kind, depth + 1)
        else:
            raise ValueError(f"the metadata hold a value of type {kind}, which Parquet does not have")

    def _list(self) -> tuple[int, int]:
        """Read how many values a list has, and of what type."""
        head = self._byte()
        return self._varint() if head >> 4 == 15 else head >> 4, head & 15

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("the metadata hold a number of more than 64 bits")
        return number | byte << shift

    def _byte(self) -> int:
        byte = self._data[self._place]
        self._place += 1
        return byte
