"""Reading NPY and NPZ files. Pickles in them are never loaded."""

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from builder.convert import is_number
from builder.errors import SourceError
from builder.formats.table import Array, DType, Table, check_unique, reading


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyHeader:
    """What an NPY file says of its array, held against how long the file is."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: DType
    offset: int  # bytes before the first value

    def array(self, values: Array) -> Array:
        """Give the values their shape and this machine's byte order."""
        shaped = values.reshape(self.shape, order="F" if self.fortran else "C")
        return shaped.astype(self.dtype.newbyteorder("="), copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyTable:
    """An NPY file; its columns are those along the second axis, or the one there is."""

    path: Path
    source: str
    header: NpyHeader
    groups: Mapping[str, tuple[str, ...]]
    named: bool

    def read(self, names: Sequence[str], dtype: DType | None) -> Table:  # noqa: ARG002 - binary: nothing to parse
        """Read the array, and take these columns of it."""
        with reading(self.source):
            count = math.prod(self.header.shape)
            values = np.fromfile(self.path, dtype=self.header.dtype, count=count, offset=self.header.offset)
            array = self.header.array(values)
        block = array[:, None] if array.ndim == 1 else array
        if tuple(names) != tuple(self.groups):
            position = {name: number for number, name in enumerate(self.groups)}
            block = block[:, [position[name] for name in names]]
        return Table.from_block(block, names)


def open_npy(path: Path, *, source: str, column_names: tuple[str, ...] | None) -> NpyTable:
    """Read an NPY file's header: (steps,), (steps, features), or steps of any shape.

    Raises:
        SourceError: It is broken, cut short, no array of numbers, or of other width than there are names.
    """
    with reading(source, advice="is it a whole NPY file?"), path.open("rb") as stream:
        header = _read_header(stream, path.stat().st_size, source)
    if not header.shape:
        raise SourceError(source, "holds a single value; an array of steps is needed, (steps,) or (steps, features)")
    width = header.shape[1] if len(header.shape) > 1 else 1
    if not width:
        raise SourceError(source, f"an array of shape {header.shape} has no columns")
    if column_names is not None and len(column_names) != width:
        raise SourceError(source, f"has {width:,} columns, but {len(column_names):,} column names were given")
    names = column_names or tuple(map(str, range(width)))
    groups = {name: (name,) for name in names}
    return NpyTable(path=path, source=source, header=header, groups=groups, named=column_names is not None)


def read_npz(path: Path, *, source: str, keys: Sequence[str]) -> dict[str, Array]:
    """Read some of the arrays of an NPZ file.

    Raises:
        SourceError: It is broken, has no such key (the error lists those it has), or holds no numbers there.
    """
    with reading(source, advice="is it a whole NPZ file?"), zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        check_unique(source, archive.namelist())
        for key in keys:
            if key not in members:
                there = ", ".join(members) or "none"
                raise SourceError(
                    source,
                    f"has no array {key!r}; it has: {there}; name them with --input-key and --label-key",
                )
        arrays = {}
        for key in dict.fromkeys(keys):
            member = archive.getinfo(members[key])
            with archive.open(member) as stream:
                header = _read_header(stream, member.file_size, source, f"array {key!r}: ")
                values = np.frombuffer(bytearray(stream.read()), header.dtype)
            arrays[key] = header.array(values)
    return arrays


def _read_header(stream: IO[bytes], size: int, source: str, where: str = "") -> NpyHeader:
    """Read the header of an array in a file of `size` bytes, and check that it promises what is there."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = npy.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = npy.read_array_header_2_0(stream)
    else:
        raise SourceError(source, f"{where}NPY version {version[0]}.{version[1]} is not one of 1.0 and 2.0")
    if dtype.hasobject:
        raise SourceError(source, f"{where}holds Python objects (a pickle), which are never loaded; save numbers")
    if not is_number(dtype):
        advice = "save bool, whole numbers, or floats up to 64 bits"
        raise SourceError(source, f"{where}holds {dtype}, which is not stored; {advice}")
    header = NpyHeader(shape=shape, fortran=fortran, dtype=dtype, offset=stream.tell())
    expected = header.offset + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != expected:
        raise SourceError(
            source,
            f"{where}the header, shape {shape} of {dtype}, makes {expected:,} bytes, but there are {size:,}; "
            "write it again, one array a file",
        )
    return header
