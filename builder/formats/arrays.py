"""Read NPY and NPZ files. Pickles in them are never loaded."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from builder.build_errors import SourceError
from builder.formats.column_choice import list_names
from builder.formats.files import check_first_bytes, first_bytes, unpacked_limit, unpacks_too_much
from builder.formats.npy_header import LONGEST_HEADER, MAGIC, NpyHeader, read_header
from builder.formats.table import (
    HIDDEN,
    Array,
    DType,
    Frame,
    OpenTable,
    check_unique,
    column_of,
    reading,
    single_groups,
)

_FIRST: Final = 1 << 18  # bytes; a smaller file is read completely with its header
_PIECE: Final = 1 << 20
LARGE_PIECE: Final = 1 << 24  # bytes of an array that are read at once, if it is read in pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyTable(OpenTable):
    """An NPY file; its second axis has the columns, and an array of one axis is one column."""

    path: Path
    header: NpyHeader
    whole: bytearray | None  # the bytes of a small file, which was read with its header
    names: tuple[str, ...]

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:  # noqa: ARG002
        """Read these columns; those of arrays with more than two axes hold lists."""
        import pyarrow as pa

        if raw and len(self.header.shape) > 2:
            shape = self.header.shape[2:]
            raise SourceError(self.source, f"column {raw[0]} holds arrays of shape {shape}, not one value")
        every = tuple(dict.fromkeys((*names, *raw)))
        block = self.block(every)
        columns = {name: column_of(block[:, number]) for number, name in enumerate(every)}
        return pa.table({name: columns[name] for name in names} | {HIDDEN + name: columns[name] for name in raw})

    def block(self, names: Sequence[str]) -> Array:
        """Read these columns as one array (rows, columns, ...)."""
        header = self.header
        with reading(self.source):
            if self.whole is not None:
                values = np.frombuffer(self.whole, header.dtype, header.count, header.offset)
            else:
                values = np.fromfile(self.path, header.dtype, header.count, offset=header.offset)
            if len(values) != header.count:
                raise SourceError(self.source, "became shorter while it was read; the next build tries it again")
            array = header.array(values, self.source)
        block = array[:, None] if array.ndim == 1 else array
        if tuple(names) != self.names:
            position = {name: number for number, name in enumerate(self.names)}
            block = block[:, [position[name] for name in names]]
        return block

    def pieces(self) -> Sequence[OpenTable]:
        """Return consecutive blocks of rows, if the file is large and in C order."""
        rows = self.header.shape[0]
        row_bytes = self.header.count // max(1, rows) * self.header.dtype.itemsize
        size = max(1, LARGE_PIECE // max(1, row_bytes))
        if rows <= 2 * size or (self.header.fortran and len(self.header.shape) > 1):
            return (self,)
        parts = (self.header.part(start, min(start + size, rows)) for start in range(0, rows, size))
        return tuple(replace(self, header=part, rows=part.shape[0], whole=None) for part in parts)


def open_npy(path: Path, *, source: str, column_names: tuple[str, ...] | None) -> NpyTable:
    """Read the header of an NPY file: (steps,), (steps, features), or steps of any shape."""
    start, size = first_bytes(path, source, _FIRST)
    if not start.startswith(MAGIC):
        check_first_bytes("NPY", start, source)
    header = read_header(start, size, source)
    if not header.shape:
        raise SourceError(source, "holds a single value; an array of steps is needed, (steps,) or (steps, features)")
    width = header.shape[1] if len(header.shape) > 1 else 1
    if column_names is not None and len(column_names) != width:
        raise SourceError(source, f"has {width:,} columns, but {len(column_names):,} column names were given")
    names = column_names or _column_numbers(width)
    return NpyTable(
        path=path,
        source=source,
        header=header,
        whole=start if size == len(start) else None,
        names=names,
        groups=single_groups(names),
        named=column_names is not None,
        rows=header.shape[0],
    )


def read_npz(path: Path, *, source: str, keys: Sequence[str]) -> dict[str, Array]:
    """Read some of the arrays of an NPZ file. A file that unpacks to far more than its size is refused."""
    with reading(source, path=path, format="NPZ", advice="is it a whole NPZ file?"), zipfile.ZipFile(path) as archive:
        size = path.stat().st_size
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        check_unique(source, archive.namelist(), "arrays")
        for key in keys:
            if key not in members:
                there = list_names(list(members)) or "none"
                raise SourceError(
                    source,
                    f"has no array {key!r}; it has: {there}; name them with --input-key and --label-key, by one name "
                    "where the labels are the inputs",
                )
        unpacked = 0
        arrays = {}
        for key in dict.fromkeys(keys):
            member, where = archive.getinfo(members[key]), f"array {key!r}: "
            unpacked += member.file_size
            with archive.open(member) as stream:
                start = stream.read(LONGEST_HEADER + 12)
                header = read_header(start, member.file_size, source, where)
                if unpacked > unpacked_limit(size):
                    advice = "save it with numpy.savez, which does not pack"
                    raise unpacks_too_much(source, size, where, advice=advice)
                data = bytearray(start)
                # zipfile compares the checksum at the end; the size is checked above.
                while piece := stream.read(_PIECE):
                    data += piece
            if len(data) != member.file_size:
                raise SourceError(source, f"{where}ends before its {member.file_size:,} bytes; is it cut off?")
            arrays[key] = header.array(np.frombuffer(data, header.dtype, header.count, header.offset), source, where)
    return arrays


@lru_cache(maxsize=16)
def _column_numbers(width: int) -> tuple[str, ...]:
    """Return the names of unnamed columns: their numbers."""
    return tuple(map(str, range(width)))
