"""The header of an NPY array, taken apart without evaluating it, and held against the bytes that follow."""

import math
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from builder.errors import SourceError
from builder.formats.convert import is_number
from builder.formats.table import Array, DType, check_width, shortened

# An array of numbers needs far less; NumPy itself reads no longer ones.
LONGEST_HEADER: Final = 10_000
MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4}
_MOST_DIMENSIONS: Final = 64  # of NumPy
# Text, True or False, a tuple of whole numbers (with the L of Python 2), or the list that describes records.
_ENTRY = re.compile(
    r"[ \n]*'(?P<key>\w+)'[ \n]*:[ \n]*"
    r"(?:'(?P<text>[^']*)'|(?P<flag>True|False)|\((?P<shape>[0-9L, \n]*)\)|(?P<fields>\[[^]]*\]))"
    r"[ \n]*(?:,|(?=\}))",
    re.ASCII,
)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
# Not "a", an old name of bytes of which NumPy warns.
_DTYPE = re.compile(r"[<>=|]?(?!a\d*$)[A-Za-z?]\w*(?:\[\w+\])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NpyHeader:
    """What an NPY array says of itself, held against how long it is."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: DType
    offset: int  # bytes before the first value

    @property
    def count(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    def part(self, start: int, stop: int) -> "NpyHeader":
        """Return the header of some of its rows, in C order, as they lie in the file."""
        before = self.count // self.shape[0] * start * self.dtype.itemsize
        return replace(self, shape=(stop - start, *self.shape[1:]), offset=self.offset + before)

    def array(self, values: Array, source: str, where: str = "") -> Array:
        """Give the values (count,) their shape and this machine's byte order.

        Raises:
            SourceError: They are bool, but some are neither 0 nor 1.
        """
        if self.dtype.kind == "b" and values.size and (most := int(values.view(np.uint8).max())) > 1:
            raise SourceError(source, f"{where}holds the byte {most} as a bool, which is 0 or 1; write it again")
        shaped = values.reshape(self.shape, order="F" if self.fortran else "C")
        return shaped if self.dtype.isnative else shaped.astype(self.dtype.newbyteorder("="))


def read_header(start: bytes | bytearray, size: int, source: str, where: str = "") -> NpyHeader:
    """Read the header of an array, and check that it promises what is there.

    Args:
        start: The first bytes of the array, header and all; it may be longer.
        size: Bytes of the whole array.
        source: For errors.
        where: For errors: which array of the source.

    Raises:
        SourceError: It is malformed, is not of numbers, or its values make another number of bytes.
    """
    if not start.startswith(MAGIC) or len(start) < len(MAGIC) + 2:
        raise SourceError(source, f"{where}cannot be read: it does not begin as NPY files do; is it a whole NPY file?")
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
        raise SourceError(source, f"{where}the header ends at byte {offset:,}, but there are {size:,}; is it cut off?")
    text = bytes(start[offset - length : offset])
    parsed = _parsed(text)
    if parsed is None:
        shown = shortened(repr(text.decode("latin-1")), 80)
        raise SourceError(
            source, f"{where}cannot be read: the header describes no array: {shown}; write it with numpy.save"
        )
    described, fortran, shape = parsed
    dtype = _stored_dtype(described, source, where)
    header = NpyHeader(shape=shape, fortran=fortran, dtype=dtype, offset=offset)
    expected = offset + header.count * dtype.itemsize
    if size != expected:
        raise SourceError(
            source,
            f"{where}the header, shape {shape} of {dtype}, makes {expected:,} bytes, but there are {size:,}; "
            "write it again, one array a file",
        )
    _check_shape(shape, source, where)
    return header


@lru_cache(maxsize=256)
def _parsed(text: bytes) -> tuple[str, bool, tuple[int, ...]] | None:
    """Take a header apart: what describes its dtype, whether it is in Fortran order, its shape; None: it is no header.

    NumPy evaluates it as Python; what is taken apart here is the form in which programs write it, keys in any order.
    """
    body = text.decode("latin-1").rstrip(" \n")
    found: dict[str, str] = {}
    position = 1 if body.startswith("{") else len(body)
    while match := _ENTRY.match(body, position):
        key, kind = match["key"], match.lastgroup
        if key in found or kind is None or kind not in _KINDS.get(key, ()):
            return None
        found[key] = match[kind]
        position = match.end()
    if body[position:].strip(" \n") != "}" or len(found) != len(_KINDS):
        return None
    sizes = [part.strip(" \n").removesuffix("L") for part in found["shape"].split(",")]
    if sizes[-1] == "":  # a single size is written with a comma behind
        sizes.pop()
    if len(sizes) > _MOST_DIMENSIONS or not all(map(_SIZE.fullmatch, sizes)):
        return None
    return found["descr"], found["fortran_order"] == "True", tuple(map(int, sizes))


_KINDS: Final = {"descr": ("text", "fields"), "fortran_order": ("flag",), "shape": ("shape",)}


@lru_cache(maxsize=64)
def _dtype(described: str) -> DType | None:
    """Return the dtype that a header describes, if it is one, and not of records."""
    if not _DTYPE.fullmatch(described):
        return None
    try:
        return np.dtype(described)
    except (TypeError, ValueError):
        return None


def _stored_dtype(described: str, source: str, where: str) -> DType:
    """Return the dtype, or refuse it."""
    dtype = _dtype(described)
    advice = "save bool, whole numbers, or floats up to 64 bits"
    if dtype is None:
        holds = "records" if described.startswith("[") or "," in described else "values of a dtype that is unknown,"
        raise SourceError(source, f"{where}holds {holds} {shortened(described, 80)}, which is not stored; {advice}")
    if dtype.hasobject:
        raise SourceError(source, f"{where}holds Python objects (a pickle), which are never loaded; save numbers")
    if not is_number(dtype):
        raise SourceError(source, f"{where}holds {dtype}, which is not stored; {advice}")
    return dtype


def _check_shape(shape: tuple[int, ...], source: str, where: str) -> None:
    """Refuse steps without a value; where there is no step, nothing else bounds their width."""
    if len(shape) < 2:
        return
    if not all(shape[1:]):
        raise SourceError(source, f"{where}an array of shape {shape} has no columns")
    if not shape[0]:
        check_width(math.prod(shape[1:]), source, f"{where}has")
    check_width(shape[1], source, f"{where}has")
