"""Read NPY and NPZ files. Pickles in them are never loaded."""

import io
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib import format as npy_format

from builder.build_errors import SourceError, of_source
from builder.formats.arrow_modules import pa
from builder.formats.column_choice import list_names
from builder.formats.convert import is_number, take_columns
from builder.formats.files import check_file, check_first_bytes, first_bytes, unpacked_limit, unpacks_too_much
from builder.formats.table import (
    HIDDEN,
    Array,
    DType,
    Frame,
    OpenTable,
    Table,
    check_names_given,
    check_unique,
    check_width,
    column_of,
    reading,
    shorten,
    single_groups,
)

_FIRST: Final = 1 << 20  # bytes; a smaller file is read completely with its header
_PIECE: Final = 1 << 20
LARGE_PIECE: Final = 1 << 24  # bytes of an array that are read at once, if it is read in pieces
# NumPy's own limit; arrays of numbers need far less.
LONGEST_HEADER: Final = 10_000
MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4}
_READ: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_MOST_DIMENSIONS: Final = 64  # NumPy's limit
# A header as numpy.save writes it. Similar files differ only in the number of steps. If zeros replace it, they all have
# the same header, which NumPy parses once.
_USUAL: Final = re.compile(
    rb"({'descr': '[<>|][a-z][0-9]', 'fortran_order': False, 'shape': \()([1-9][0-9]{0,17})(,[0-9, ]*\), } *\n)"
)
_ADVICE: Final = "save bool, integers, or floats up to 64 bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyHeader:
    """The header of an NPY array; the file has the right number of bytes for it."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: DType
    offset: int  # bytes before the first value

    @property
    def count(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    def part(self, start: int, stop: int) -> "NpyHeader":
        """Return a header for the rows from `start` to `stop` of an array in C order."""
        before = self.count // self.shape[0] * start * self.dtype.itemsize
        return replace(self, shape=(stop - start, *self.shape[1:]), offset=self.offset + before)

    def array(self, values: Array) -> Array:
        """Return the values (count,) in their shape and in native byte order; refuse bools other than 0 and 1."""
        if self.dtype.kind == "b" and values.size and (most := int(values.view(np.uint8).max())) > 1:
            raise SourceError(f"has the byte {most} as a bool, not 0 or 1; write it again")
        shaped = values.reshape(self.shape, order="F" if self.fortran else "C")
        return shaped if self.dtype.isnative else shaped.astype(self.dtype.newbyteorder("="))


def read_header(start: bytes | bytearray, size: int) -> NpyHeader:
    """Read the header of an array from its first bytes; with the header, the array must have `size` bytes."""
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2:
        raise SourceError("cannot be read: it does not begin like an NPY file; is it a whole NPY file?")
    version = start[6], start[7]
    length_bytes = _LENGTH_BYTES.get(version)
    if length_bytes is None:
        raise SourceError(f"NPY version {version[0]}.{version[1]} is not one of 1.0 and 2.0")
    offset = 8 + length_bytes
    length = int.from_bytes(start[8:offset], "little")
    if length > LONGEST_HEADER:
        raise SourceError(f"the header has {length:,} bytes, but at most {LONGEST_HEADER:,} are read")
    offset += length
    if size < offset:
        raise SourceError(f"the header ends at byte {offset:,}, but there are {size:,}; is it truncated?")
    text, steps = bytes(start[8:offset]), None
    if usual := _USUAL.fullmatch(text, length_bytes):
        steps = int(usual[2])
        text = text[:length_bytes] + usual[1] + b"0" * len(usual[2]) + usual[3]
    parsed = _parse(text, version)
    if parsed is None:
        shown = shorten(repr(bytes(start[offset - length : offset]).decode("latin-1")), 80)
        raise SourceError(f"cannot be read: the header describes no array: {shown}; {_ADVICE}, with numpy.save")
    shape, fortran, dtype = parsed
    if steps is not None:
        shape = steps, *shape[1:]
    _check_dtype(dtype)
    header = NpyHeader(shape=shape, fortran=fortran, dtype=dtype, offset=offset)
    expected = offset + header.count * dtype.itemsize
    if size != expected:
        raise SourceError(
            f"the header, shape {shape} of {dtype}, makes {expected:,} bytes, but there are {size:,}; "
            "write it again, one array per file"
        )
    _check_shape(shape)
    return header


@lru_cache(maxsize=256)
def _parse(header: bytes, version: tuple[int, int]) -> tuple[tuple[int, ...], bool, DType] | None:
    """Return the shape of an array, whether it is in Fortran order, and its dtype; None if the header is malformed.

    `header` begins with the bytes of its length.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2, and old names of dtypes
            shape, fortran, dtype = _READ[version](io.BytesIO(header), max_header_size=LONGEST_HEADER)
    except Exception:  # noqa: BLE001  # a malformed header makes NumPy raise errors of many classes
        return None
    if len(shape) > _MOST_DIMENSIONS or any(size < 0 for size in shape):
        return None
    return shape, fortran, dtype


def _check_dtype(dtype: DType) -> None:
    if dtype.names is not None:
        raise SourceError(f"holds records, {shorten(str(dtype), 80)}, which cannot be stored; {_ADVICE}")
    if dtype.hasobject:
        raise SourceError("holds Python objects (a pickle), which are never loaded; save numbers")
    if not is_number(dtype):
        raise SourceError(f"holds {dtype}, which cannot be stored; {_ADVICE}")


def _check_shape(shape: tuple[int, ...]) -> None:
    """Refuse arrays with no columns or too many; if there are no steps, the file's size does not limit them."""
    if len(shape) < 2:
        return
    if not all(shape[1:]):
        raise SourceError(f"an array of shape {shape} has no columns")
    if not shape[0]:
        check_width(math.prod(shape[1:]))
    check_width(shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyTable(OpenTable):
    """An NPY file; its second axis has the columns, and an array of one axis is one column."""

    path: Path
    header: NpyHeader
    whole: bytearray | None  # the bytes of a small file, which was read with its header
    names: tuple[str, ...]

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:  # noqa: ARG002
        """Read these columns; those of arrays with more than two axes hold lists."""
        if raw and len(self.header.shape) > 2:
            shape = self.header.shape[2:]
            raise SourceError(f"column {raw[0]} holds arrays of shape {shape}, not one value")
        every = tuple(dict.fromkeys((*names, *raw)))
        block = self.block(every)
        columns = {name: column_of(block[:, number]) for number, name in enumerate(every)}
        return pa.table({name: columns[name] for name in names} | {HIDDEN + name: columns[name] for name in raw})

    def block(self, names: Sequence[str]) -> Array:
        """Read these columns as one array (rows, columns, ...)."""
        header = self.header
        with of_source(self.file), reading():
            if self.whole is not None:
                values = np.frombuffer(self.whole, header.dtype, header.count, header.offset)
            else:
                values = np.fromfile(self.path, header.dtype, header.count, offset=header.offset)
            if len(values) != header.count:
                raise SourceError("became shorter while it was read; the next build tries it again")
            array = header.array(values)
        block = array[:, None] if array.ndim == 1 else array
        return block if tuple(names) == self.names else take_columns(block, self.names, names)

    @property
    def types(self) -> object:
        """The dtype of all columns."""
        return self.header.dtype

    def pieces(self) -> Sequence[OpenTable]:
        """Return consecutive blocks of rows, if the file is large and in C order."""
        rows = self.header.shape[0]
        row_bytes = self.header.count // max(1, rows) * self.header.dtype.itemsize
        size = max(1, LARGE_PIECE // max(1, row_bytes))
        if rows <= 2 * size or (self.header.fortran and len(self.header.shape) > 1):
            return (self,)
        parts = (self.header.part(start, min(start + size, rows)) for start in range(0, rows, size))
        return tuple(replace(self, header=part, rows=part.shape[0], whole=None) for part in parts)


def open_npy(path: Path, *, column_names: tuple[str, ...] | None) -> NpyTable:
    """Read the header of an NPY file: (steps,), (steps, features), or steps of any shape."""
    start, size = first_bytes(path, _FIRST)
    if not start.startswith(MAGIC):
        check_first_bytes("NPY", start)
    header = read_header(start, size)
    if not header.shape:
        raise SourceError("holds a single value; an array of steps is needed, (steps,) or (steps, features)")
    width = header.shape[1] if len(header.shape) > 1 else 1
    if column_names is not None:
        check_names_given(column_names, width)
    names = column_names or tuple(map(str, range(width)))
    return NpyTable(
        path=path,
        header=header,
        whole=start if size == len(start) else None,
        names=names,
        groups=single_groups(names),
        named=column_names is not None,
        rows=header.shape[0],
    )


def read_npz(path: Path, *, keys: Sequence[str]) -> dict[str, Array]:
    """Read some of the arrays of an NPZ file. A file that unpacks to far more than its size is refused."""
    with reading(path=path, format="NPZ", advice="is it a whole NPZ file?"), zipfile.ZipFile(path) as archive:
        size = path.stat().st_size
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        check_unique(archive.namelist(), "arrays")
        for key in keys:
            if key not in members:
                there = list_names(list(members)) or "none"
                raise SourceError(
                    f"has no array {key!r}; it has: {there}; name them with --input-key and --label-key, by one name "
                    "where the labels are the inputs"
                )
        unpacked = 0
        arrays = {}
        for key in dict.fromkeys(keys):
            member = archive.getinfo(members[key])
            unpacked += member.file_size
            try:
                with archive.open(member) as stream:
                    start = stream.read(LONGEST_HEADER + 12)
                    header = read_header(start, member.file_size)
                    if unpacked > unpacked_limit(size):
                        raise unpacks_too_much(size, advice="save it with numpy.savez, which does not pack")
                    data = bytearray(start)
                    # zipfile compares the checksum at the end; the size is checked above.
                    while piece := stream.read(_PIECE):
                        data += piece
                if len(data) != member.file_size:
                    raise SourceError(f"ends before its {member.file_size:,} bytes; is it cut off?")
                arrays[key] = header.array(np.frombuffer(data, header.dtype, header.count, header.offset))
            except SourceError as error:
                raise SourceError(f"array {key!r}: {error.reason}") from error
    return arrays


def read_npz_tables(
    path: Path, input_key: str, label_key: str | None, whole: Callable[[Table], Array]
) -> tuple[Table, Table, Array | None]:
    """Return the inputs and the labels of an NPZ file as tables; or labels that are a single number as an array.

    The columns are `KEY 0`, `KEY 1`, ... The table of labels has none if they are a number, or if `label_key` is None.
    `whole` converts a table to an array.
    """
    check_file(path)
    keys = (input_key,) if label_key is None else (input_key, label_key)
    arrays = read_npz(path, keys=keys)
    inputs, no_columns = _npz_table(arrays[input_key], input_key), Table(columns={})
    if label_key is None:
        return inputs, no_columns, None
    labels = arrays[label_key]
    if not labels.ndim:
        # An array of one row would look like the labels of a file with one step.
        return inputs, no_columns, np.asarray(whole(_npz_table(labels[None], label_key))[0, 0])
    if len(labels) != inputs.rows:
        raise SourceError(
            f"{inputs.rows:,} rows of {input_key} but {len(labels):,} of {label_key}; there "
            "must be one label row per input row, or a single number"
        )
    return inputs, _npz_table(labels, label_key), None


def _npz_table(array: Array, key: str) -> Table:
    if not array.ndim:
        raise SourceError(f"{key} holds a single value; an array of steps is needed")
    block = array[:, None] if array.ndim == 1 else array
    names = [f"{key} {number}" for number in range(block.shape[1])]
    return Table.from_block(block, names)
