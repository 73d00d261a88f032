"""Encode and decode single chunks, of rows or text. A chunk is compressed by Blosc and always ends with its crc32c."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise, product, starmap
from typing import Any, ClassVar, Self

import crc32c as checksum
import numpy as np
from numcodecs import blosc
from numcodecs.vlen import VLenUTF8
from numpy.typing import NDArray

from store_spec.errors import ChecksumError, FormatError, SchemaError

Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]

COMPRESSORS = ("zstd", "lz4", "none")
DEFAULT_LEVELS = {"zstd": 3, "lz4": 9, "none": 1}
LEVELS = range(1, 10)
SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
CRC_BYTES = 4
_CRC = struct.Struct("<I")
BLOSC_HEADER_BYTES = 16
BLOSC_SIZES = struct.Struct("<4xI4xI")  # in the header: decoded bytes, and bytes of the whole buffer
LARGEST_OVERHEAD = BLOSC_HEADER_BYTES + CRC_BYTES  # Blosc copies what it cannot compress, after its header
LARGEST_RATIO = 2**15  # a zstd block has at least 4 bytes and decodes to at most 128 KiB; an lz4 block to far less
LARGEST_CHUNK_BYTES = 2**31 - 1 - 16  # Blosc 1 counts in signed 32 bits and adds a header of 16 bytes
LARGEST_TEXT_BYTES = 2**26  # of a decoded chunk: 8,192 names of 4,096 bytes need half of it
_STRINGS = VLenUTF8()


def crc32c(data: Buffer | NDArray[Any], before: int = 0) -> int:
    """Return the crc32c (Castagnoli) of a contiguous buffer; `before` is the crc32c of the preceding bytes."""
    return checksum.crc32c(data if isinstance(data, memoryview) else flat_bytes(data).data, before)


def crc32c_each(rows: NDArray[Any], bounds: Iterable[int]) -> list[int]:
    """Return the crc32c of each range of contiguous rows; `bounds` are where each begins, and the last one ends."""
    data, size = flat_bytes(rows).data, rows.dtype.itemsize * rows[:1].size
    return [checksum.crc32c(data[start * size : stop * size]) for start, stop in pairwise(bounds)]


def flat_bytes(data: Buffer | NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a contiguous buffer as an array: the C extensions take arrays, but not all memoryviews."""
    return data.reshape(-1).view(np.uint8) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)


@dataclass(frozen=True, slots=True)
class Codec:
    """How chunks are compressed by Blosc: `zstd` with bit-shuffle or `lz4` with byte-shuffle, or `none`.

    The level is 1 to 9; 0 stands for the default of the codec.
    """

    NAMES: ClassVar = COMPRESSORS

    name: str = "lz4"
    level: int = 0

    def __post_init__(self) -> None:
        if self.name not in COMPRESSORS:
            raise SchemaError(f"codec {self.name!r} is not known; take one of {', '.join(COMPRESSORS)}, as in 'zstd:5'")
        if not self.level:
            object.__setattr__(self, "level", DEFAULT_LEVELS[self.name])
        if self.level not in LEVELS:
            raise SchemaError(f"codec level {self.level} is outside {LEVELS[0]} to {LEVELS[-1]}")

    def __str__(self) -> str:
        """Write the codec as `parse` reads it: `lz4:5`, or `none`."""
        return self.name if self.name == "none" else f"{self.name}:{self.level}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `zstd`, `lz4:5` or `none`.

        >>> Codec.parse("lz4:5"), str(Codec("lz4", 5)), str(Codec("none"))
        (Codec(name='lz4', level=5), 'lz4:5', 'none')
        """
        name, colon, level = text.partition(":")
        if colon and not level.isdecimal():
            raise SchemaError(f"codec {text!r}: {level!r} is not a level; write for example 'zstd:5'")
        if colon and not int(level):
            raise SchemaError(f"codec level {int(level)} is outside {LEVELS[0]} to {LEVELS[-1]}")
        return cls(name, int(level)) if colon else cls(name)

    def metadata(self, itemsize: int) -> list[dict[str, Any]]:
        """Return the Zarr codecs that follow the array-to-bytes codec, for values of `itemsize` bytes."""
        crc = {"name": "crc32c"}
        if self.name == "none":
            return [crc]
        configuration = {
            "typesize": itemsize,
            "cname": self.name,
            "clevel": self.level,
            "shuffle": self._shuffle(itemsize),
            "blocksize": 0,
        }
        return [{"name": "blosc", "configuration": configuration}, crc]

    def _shuffle(self, itemsize: int) -> str:
        if itemsize == 1:
            return "noshuffle"
        # Bit-shuffle makes floats smaller with zstd; with lz4 it does not, and takes two to three times as long.
        return "bitshuffle" if self.name == "zstd" else "shuffle"

    @classmethod
    def from_metadata(cls, codecs: Any, itemsize: int, where: str) -> Self:
        """Read codecs that `metadata` returned."""
        every = [cls("none"), *starmap(cls, product(("zstd", "lz4"), LEVELS))]
        codec = next((one for one in every if one.metadata(itemsize) == codecs), None)
        if codec is None:
            raise FormatError(
                f"{where}: codecs {codecs!r:.200} are not those of version 1, such as {every[-1].metadata(itemsize)}"
            )
        return codec

    def encode(self, rows: NDArray[Any]) -> bytes:
        """Compress contiguous rows and append their crc32c.

        Call it from any thread but the main one: there Blosc compresses with a pool of threads, and the order in
        which these finish decides the order of the blocks in its output (Blosc/bcolz#385), so the same rows would
        not always give the same bytes.
        """
        if self.name == "none":
            body = flat_bytes(rows).tobytes()
        else:
            shuffle = SHUFFLES[self._shuffle(rows.itemsize)]
            body = blosc.compress(rows.reshape(-1), self.name.encode(), self.level, shuffle, 0)
        return body + crc32c(body).to_bytes(CRC_BYTES, "little")

    def decode(self, stored: Buffer, out: NDArray[Any], where: str) -> None:
        """Fill the contiguous array `out` with a chunk's rows; checksum and size are checked before decompressing."""
        body, size = self._body(stored, where)
        if size != out.nbytes:
            raise FormatError(f"{where}: a chunk of {size:,} bytes where the schema gives {out.nbytes:,}")
        self._fill(body, flat_bytes(out), where)

    def decode_bytes(self, stored: Buffer, limit: int, where: str) -> bytes:
        """Return the bytes of a chunk of text, at most `limit` of them."""
        body, size = self._body(stored, where)
        if size > limit:
            raise FormatError(f"{where}: a chunk of {size:,} bytes; at most {limit:,} are read")
        out = np.empty(size, np.uint8)
        self._fill(body, out, where)
        return out.tobytes()

    def _body(self, stored: Buffer, where: str) -> tuple[NDArray[np.uint8], int]:
        """Check the checksum; return the bytes before it, and how many bytes they claim to decode to."""
        # As few calls as possible: there are thousands of chunks per second.
        data = stored if isinstance(stored, np.ndarray) else np.frombuffer(stored, np.uint8)
        end = len(data) - CRC_BYTES
        if end < 0:
            raise ChecksumError(f"{where}: {len(data)} bytes, too few for a checksum; restore or rebuild that file")
        body = data[:end]
        actual, (expected,) = checksum.crc32c(body.data), _CRC.unpack_from(data.data, end)
        if actual != expected:
            raise ChecksumError(
                f"{where}: its bytes have crc32c {actual:08x}, not {expected:08x} as stored; "
                "restore or rebuild that file"
            )
        return body, end if self.name == "none" else _blosc_size(body, where)

    def _fill(self, body: NDArray[np.uint8], out: NDArray[np.uint8], where: str) -> None:
        if self.name == "none":
            out[:] = body
        elif out.nbytes:
            try:
                blosc.decompress(body, out)
            except (RuntimeError, ValueError) as error:
                raise FormatError(f"{where}: Blosc cannot decompress it ({error})") from error


def decode_text(data: bytes, chunk: int, where: str) -> NDArray[Any]:
    """Return the strings of a chunk, (chunk,) object; check their number and that they end where the data end.

    Zarr's codec vlen-utf8 has laid them out: their number, then the size and the bytes of each.
    """
    count = int.from_bytes(data[:4], "little")
    if count != chunk:  # checked first: the codec allocates as many as the data claim
        raise FormatError(f"{where}: a chunk of {count:,} strings where the schema gives {chunk:,}")
    try:
        strings: NDArray[Any] = _STRINGS.decode(data)
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: one of its strings is not UTF-8 ({error.reason})") from error
    except ValueError as error:
        raise FormatError(f"{where}: its strings end beyond its {len(data):,} bytes") from error
    end = 4 * (1 + chunk) + len("".join(strings.tolist()).encode())
    if end != len(data):  # the codec does not check what follows the last string
        raise FormatError(f"{where}: its strings end at byte {end:,} of {len(data):,}")
    return strings


def _blosc_size(body: NDArray[np.uint8], where: str) -> int:
    """Return the decoded size that a Blosc buffer claims, after checking its own length."""
    if len(body) < BLOSC_HEADER_BYTES:
        raise FormatError(f"{where}: {len(body)} bytes are too few for a Blosc buffer")
    size, stored = BLOSC_SIZES.unpack_from(body.data)
    if stored != len(body):
        raise FormatError(f"{where}: a Blosc buffer of {len(body):,} bytes says that it has {stored:,}")
    return int(size)
