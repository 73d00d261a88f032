"""Read the header of an NPY array, and check the number of bytes after it."""

import io
import math
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib import format as npy_format

from builder.build_errors import SourceError
from builder.formats.convert import is_number
from builder.formats.table import Array, DType, check_width, shorten

# NumPy's own limit; arrays of numbers need far less.
LONGEST_HEADER: Final = 10_000
MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4}
_READ: Final = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_MOST_DIMENSIONS: Final = 64  # NumPy's limit
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

    def array(self, values: Array, source: str, where: str = "") -> Array:
        """Return the values (count,) in their shape and in native byte order; refuse bools other than 0 and 1."""
        if self.dtype.kind == "b" and values.size and (most := int(values.view(np.uint8).max())) > 1:
            raise SourceError(source, f"{where}has the byte {most} as a bool, not 0 or 1; write it again")
        shaped = values.reshape(self.shape, order="F" if self.fortran else "C")
        return shaped if self.dtype.isnative else shaped.astype(self.dtype.newbyteorder("="))


def read_header(start: bytes | bytearray, size: int, source: str, where: str = "") -> NpyHeader:
    """Read the header of an array, and check that its size is `size`.

    Args:
        start: The first bytes of the array, including the whole header.
        size: Bytes of the array and its header.
        source: The name of the source.
        where: Which array of the source, for errors.
    """
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2:
        raise SourceError(source, f"{where}cannot be read: it does not begin like an NPY file; is it a whole NPY file?")
    version = start[6], start[7]
    length_bytes = _LENGTH_BYTES.get(version)
    if length_bytes is None:
        raise SourceError(source, f"{where}NPY version {version[0]}.{version[1]} is not one of 1.0 and 2.0")
    offset = 8 + length_bytes
    length = int.from_bytes(start[8:offset], "little")
    if length > LONGEST_HEADER:
        raise SourceError(source, f"{where}the header has {length:,} bytes, but at most {LONGEST_HEADER:,} are read")
    offset += length
    if size < offset:
        raise SourceError(
            source, f"{where}the header ends at byte {offset:,}, but there are {size:,}; is it truncated?"
        )
    parsed = _parse(bytes(start[8:offset]), version)
    if parsed is None:
        shown = shorten(repr(bytes(start[offset - length : offset]).decode("latin-1")), 80)
        raise SourceError(
            source, f"{where}cannot be read: the header describes no array: {shown}; {_ADVICE}, with numpy.save"
        )
    shape, fortran, dtype = parsed
    _check_dtype(dtype, source, where)
    header = NpyHeader(shape=shape, fortran=fortran, dtype=dtype, offset=offset)
    expected = offset + header.count * dtype.itemsize
    if size != expected:
        raise SourceError(
            source,
            f"{where}the header, shape {shape} of {dtype}, makes {expected:,} bytes, but there are {size:,}; "
            "write it again, one array per file",
        )
    _check_shape(shape, source, where)
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


def _check_dtype(dtype: DType, source: str, where: str) -> None:
    """Refuse a dtype that cannot be stored."""
    if dtype.names is not None:
        raise SourceError(source, f"{where}holds records, {shorten(str(dtype), 80)}, which cannot be stored; {_ADVICE}")
    if dtype.hasobject:
        raise SourceError(source, f"{where}holds Python objects (a pickle), which are never loaded; save numbers")
    if not is_number(dtype):
        raise SourceError(source, f"{where}holds {dtype}, which cannot be stored; {_ADVICE}")


def _check_shape(shape: tuple[int, ...], source: str, where: str) -> None:
    """Refuse arrays with no columns or too many; if there are no steps, the file's size does not limit them."""
    if len(shape) < 2:
        return
    if not all(shape[1:]):
        raise SourceError(source, f"{where}an array of shape {shape} has no columns")
    if not shape[0]:
        check_width(math.prod(shape[1:]), source, f"{where}has")
    check_width(shape[1], source, f"{where}has")
