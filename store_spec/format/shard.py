"""A shard file: chunks one after another, a stamp, and the index (Zarr's sharding_indexed codec, index at the end).

The stamp says which shard the file is, and how many rows it has; the checksum of a chunk does not show where the chunk
belongs. Zarr finds chunks by the index, so other readers skip the stamp.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pickle import PickleBuffer
from typing import Any, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import ChecksumError, FormatError
from store_spec.format.codec import CRC_BYTES, Codec, crc32c
from store_spec.schema import Chunking, Rows

LEAST_OUT_OF_BAND = 2**14  # bytes: pickling smaller chunks out of band takes dask longer than copying them
Stored = bytes | memoryview  # a compressed chunk
ABSENT = 2**64 - 1  # offset and size of a chunk that is not in the shard
STAMP = struct.Struct("<16sQQ")  # the array's name, the shard's number, its rows; a crc32c follows
STAMP_BYTES = STAMP.size + CRC_BYTES


def index_bytes(chunking: Chunking) -> int:
    """Return the size of a shard's index: offset and size of each chunk, then a crc32c."""
    return chunking.shard // chunking.chunk * 16 + CRC_BYTES


def tail_bytes(chunking: Chunking) -> int:
    """Return the size of what follows the chunks: the stamp and the index."""
    return STAMP_BYTES + index_bytes(chunking)


@dataclass(frozen=True, slots=True)
class ShardId:
    """The identity of a shard: the name of its array, and its number."""

    name: str
    number: int

    def stamp(self, rows: int) -> bytes:
        """Return the stamp of this shard when it has `rows` rows."""
        data = STAMP.pack(self.name.encode(), self.number, rows)
        return data + crc32c(data).to_bytes(CRC_BYTES, "little")


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Consecutive rows of an array on their way into a shard. Whole chunks are compressed already."""

    head: NDArray[Any]  # rows before the first whole chunk
    stored: tuple[Stored, ...]  # whole chunks
    tail: NDArray[Any]  # rows after the last whole chunk
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __sizeof__(self) -> int:
        # dask uses this size when it decides where to run a task that needs these rows.
        return self.head.nbytes + self.tail.nbytes + sum(map(len, self.stored))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Pickle large chunks out of band, as arrays do: inside of the pickle they would be copied twice."""
        least = LEAST_OUT_OF_BAND if int(protocol) >= 5 else float("inf")
        stored = tuple(PickleBuffer(chunk) if len(chunk) >= least else bytes(chunk) for chunk in self.stored)
        return EncodedRows, (self.head, stored, self.tail, self.rows)


def compress(parts: Sequence[Any], first: int, rows: Rows, chunking: Chunking, codec: Codec) -> EncodedRows:
    """Compress consecutive parts, which begin at row `first` of the array; parts that are not arrays are converted."""
    total = sum(map(len, parts))
    head = min(-first % chunking.chunk, total)
    tail = (total - head) % chunking.chunk
    whole = between(parts, head, total - tail)
    return EncodedRows(
        # Copies, so that the arrays can be freed.
        np.concatenate([rows.empty(0), *between(parts, 0, head)]),
        tuple(_encoded(whole, rows, chunking, codec)),
        np.concatenate([rows.empty(0), *between(parts, total - tail, total)]),
        total,
    )


def encode(
    parts: Sequence[NDArray[Any] | EncodedRows], shard: ShardId, rows: Rows, chunking: Chunking, codec: Codec
) -> list[Stored]:
    """Return the bytes of a shard file, in pieces. `parts` are all rows of the shard, in order.

    The last chunk is padded with zeros; chunks without any row are left out.
    """
    index = np.full((chunking.shard // chunking.chunk, 2), ABSENT, "<u8")
    stored = _encoded(chain.from_iterable(map(_pieces, parts)), rows, chunking, codec)
    sizes = np.array([len(chunk) for chunk in stored], "<u8")
    index[: len(stored), 1] = sizes
    index[: len(stored), 0] = np.cumsum(sizes) - sizes
    data = index.tobytes()
    stamp = shard.stamp(sum(map(len, parts)))
    return [*stored, stamp, data, crc32c(data).to_bytes(CRC_BYTES, "little")]


def _encoded(parts: Iterable[Any], rows: Rows, chunking: Chunking, codec: Codec) -> list[Stored]:
    """Compress consecutive parts chunk by chunk, in another thread than the main one: see Codec.encode."""
    chunks = _chunks(parts, rows, chunking.chunk)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: [one if isinstance(one, Stored) else codec.encode(one) for one in chunks]).result()


def _pieces(part: NDArray[Any] | EncodedRows) -> tuple[NDArray[Any] | Stored, ...]:
    """Return the rows of a part, and whole compressed chunks if it has them already."""
    return (part.head, *part.stored, part.tail) if isinstance(part, EncodedRows) else (part,)


SomeRows = TypeVar("SomeRows", bound=Sized)


def between(parts: Iterable[SomeRows], start: int, stop: int) -> list[SomeRows]:
    """Return rows `start` to `stop` of consecutive parts, without a copy."""
    slices: list[SomeRows] = []
    part_stop = 0
    for part in parts:
        part_start, part_stop = part_stop, part_stop + len(part)
        low, high = max(start, part_start), min(stop, part_stop)
        if low < high:
            slices.append(part[low - part_start : high - part_start])  # type: ignore[index]
    return slices


def _chunks(parts: Iterable[Any], rows: Rows, size: int) -> Iterator[NDArray[Any] | Stored]:
    """Cut consecutive parts into chunks, without a copy if a chunk is within one part."""
    waiting: list[Any] = []
    have = 0
    for part in parts:
        if isinstance(part, Stored):
            if have:
                raise ValueError(f"a compressed chunk follows {have:,} rows of a chunk of {size:,}")
            yield part
            continue
        at = 0
        while at < len(part):
            take = min(size - have, len(part) - at)
            waiting.append(part[at : at + take])
            at, have = at + take, have + take
            if have == size:
                yield np.ascontiguousarray(waiting[0] if len(waiting) == 1 else np.concatenate(waiting))
                waiting, have = [], 0
    if have:
        last = np.zeros((size, *rows.shape), rows.dtype)
        np.concatenate(waiting, out=last[:have])
        yield last


def decode_index(data: bytes | memoryview, chunking: Chunking, where: str) -> NDArray[np.uint64]:
    """Return offset and size of each chunk, (chunks, 2), from the last bytes of a shard; check their checksum."""
    expected = tail_bytes(chunking)
    if len(data) < expected:
        raise FormatError(
            f"{where}: {len(data):,} bytes, where its stamp and index alone have {expected:,}; restore that file"
        )
    index = _without_crc(memoryview(data)[len(data) - index_bytes(chunking) :], f"{where}: its index")
    return np.frombuffer(index, "<u8").reshape(-1, 2)


def stamped_rows(data: bytes | memoryview, chunking: Chunking, shard: ShardId, where: str) -> int:
    """Return how many rows a shard has by the stamp in its last bytes; check that the stamp is of this shard."""
    start = len(data) - tail_bytes(chunking)
    stamp = _without_crc(memoryview(data)[start : start + STAMP_BYTES], f"{where}: its stamp")
    name, number, rows = STAMP.unpack(stamp)
    if (name.rstrip(b"\0"), number) != (shard.name.encode(), shard.number):
        what = f"shard {number:,} of {name.rstrip(bytes(1)).decode('ascii', 'replace')!r:.40}"
        raise FormatError(f"{where}: has the stamp of {what}, so it is a copy of another file: restore or rebuild it")
    return int(rows)


def _without_crc(data: memoryview, what: str) -> memoryview:
    """Compare bytes with the crc32c that follows them, and return them."""
    actual, expected = crc32c(data[:-CRC_BYTES]), int.from_bytes(data[-CRC_BYTES:], "little")
    if actual != expected:
        raise ChecksumError(f"{what} has crc32c {actual:08x}, not {expected:08x} as stored; restore that file")
    return data[:-CRC_BYTES]


def chunk_ranges(index: NDArray[np.uint64], chunks: range, size: int, where: str) -> list[tuple[int, int]]:
    """Return offsets and sizes of consecutive chunks; check that all are in the first `size` bytes of the file."""
    ranges: list[tuple[int, int]] = list(map(tuple, index[chunks.start : chunks.stop].tolist()))
    if any(offset + length > size for offset, length in ranges):  # also true for a missing chunk
        return [chunk_range(index, chunk, size, where) for chunk in chunks]
    return ranges


def joined(ranges: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Join the ranges of chunks into one, offset and size; return None if there are other bytes between them."""
    low = min((offset for offset, _ in ranges), default=0)
    size = max((offset + length for offset, length in ranges), default=0) - low
    return (low, size) if size == sum(length for _, length in ranges) else None


def chunk_range(index: NDArray[np.uint64], number: int, size: int, where: str) -> tuple[int, int]:
    """Return offset and size of a chunk, as `chunk_ranges` does for several."""
    offset, length = (int(value) for value in index[number])
    if offset == length == ABSENT:
        raise FormatError(f"{where}: chunk {number} is missing; every committed chunk is written, so it was lost")
    if offset + length > size:
        raise FormatError(f"{where}: chunk {number} ends at byte {offset + length:,} of {size:,}")
    return offset, length
