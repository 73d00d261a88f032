"""One shard file: chunks one after another, a stamp, and the index (Zarr's sharding_indexed codec, index at the end).

The stamp says which shard it is, and how many rows it has: a chunk's checksum binds no place. Zarr finds chunks by the
index, so that other readers never see it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pickle import PickleBuffer
from typing import Any, Protocol, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import ChecksumError, FormatError
from store_spec.format.codec import CRC_BYTES, Codec, crc32c
from store_spec.schema import Chunking, Rows

BESIDE = 2**14  # bytes of a chunk from which on it is sent by itself; of smaller ones dask takes longer for each
Stored = bytes | memoryview  # a compressed chunk, made here or sent
GROUPS = 8  # of chunks that are compressed one after another, for each thread
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
class Place:
    """Which shard it is: of which array, and its number."""

    name: str
    number: int

    def stamp(self, rows: int) -> bytes:
        """Return the stamp of this shard with so many rows."""
        data = STAMP.pack(self.name.encode(), self.number, rows)
        return data + crc32c(data).to_bytes(CRC_BYTES, "little")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some rows of an array on their way into a shard: what fills chunks is compressed, the rest are rows still."""

    head: NDArray[Any]  # rows that end a chunk which began before
    stored: tuple[Stored, ...]  # whole chunks
    tail: NDArray[Any]  # rows that begin a chunk which ends later
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __sizeof__(self) -> int:
        # What dask weighs when it decides where to run the task that needs this.
        return self.head.nbytes + self.tail.nbytes + sum(map(len, self.stored))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        """Give large chunks to whoever sends them beside the pickle, as arrays do: in it they are copied twice."""
        beside = BESIDE if int(protocol) >= 5 else float("inf")
        stored = tuple(PickleBuffer(chunk) if len(chunk) >= beside else bytes(chunk) for chunk in self.stored)
        return Stretch, (self.head, stored, self.tail, self.rows)


def compress(parts: Sequence[Sliceable], first: int, rows: Rows, chunking: Chunking, codec: Codec) -> Stretch:
    """Compress arrays that follow one another, the first of whose rows is row `first` of the whole array.

    What is no array yet is made one chunk by chunk.
    """
    total = sum(map(len, parts))
    head = min(-first % chunking.chunk, total)
    tail = (total - head) % chunking.chunk
    whole = between(parts, head, total - tail)
    with ThreadPoolExecutor(1) as pool:  # never in the main thread: see Codec.encode
        chunks = _chunks(whole, rows, chunking.chunk)
        stored = pool.submit(lambda: tuple(_encoded(chunk, codec) for chunk in chunks)).result()
    return Stretch(
        # Copies, so that the arrays can go.
        np.concatenate([rows.empty(0), *between(parts, 0, head)]),
        stored,
        np.concatenate([rows.empty(0), *between(parts, total - tail, total)]),
        total,
    )


def encode(
    parts: Sequence[NDArray[Any] | Stretch],
    place: Place,
    rows: Rows,
    chunking: Chunking,
    codec: Codec,
    *,
    threads: int = 1,
) -> list[Stored]:
    """Return the pieces of a shard file that holds these rows, one part after another.

    Rows after the last are zeros in the last chunk; chunks that would hold nothing else are left out.
    """
    index = np.full((chunking.shard // chunking.chunk, 2), ABSENT, "<u8")
    chunks = list(_chunks(_flat(parts), rows, chunking.chunk))
    # Many at a time: handing over a single chunk may take as long as the work on it.
    step = max(1, len(chunks) // (threads * GROUPS))
    groups = (chunks[start : start + step] for start in range(0, len(chunks), step))
    with ThreadPoolExecutor(threads) as pool:  # never in the main thread: see Codec.encode
        encoded = pool.map(lambda group: [_encoded(chunk, codec) for chunk in group], groups)
        stored = [chunk for group in encoded for chunk in group]
    sizes = np.array([len(chunk) for chunk in stored], "<u8")
    index[: len(stored), 1] = sizes
    index[: len(stored), 0] = np.cumsum(sizes) - sizes
    data = index.tobytes()
    stamp = place.stamp(sum(map(len, parts)))
    return [*stored, stamp, data, crc32c(data).to_bytes(CRC_BYTES, "little")]


def _encoded(chunk: NDArray[Any] | Stored, codec: Codec) -> Stored:
    return chunk if isinstance(chunk, Stored) else codec.encode(chunk)


def _flat(parts: Iterable[NDArray[Any] | Stretch]) -> Iterator[NDArray[Any] | Stored]:
    """Give rows, and chunks that are compressed already."""
    for part in parts:
        if isinstance(part, Stretch):
            yield part.head
            yield from part.stored
            yield part.tail
        else:
            yield part


class Sliceable(Protocol):
    """Rows, of which slices are the same: an array, or what NumPy makes one of when it needs that."""

    def __len__(self) -> int:
        """Return how many rows."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Return some of them."""

    def __array__(self) -> NDArray[Any]:
        """Return them all."""


Part = TypeVar("Part", bound=Sliceable)


def between(parts: Iterable[Part], start: int, stop: int) -> list[Part]:
    """Return rows `start` to `stop` of arrays that follow one another, without a copy."""
    found: list[Part] = []
    end = 0
    for part in parts:
        begin, end = end, end + len(part)
        low, high = max(start, begin), min(stop, end)
        if low < high:
            found.append(part[low - begin : high - begin])
    return found


def _chunks(parts: Iterable[Sliceable | Stored], rows: Rows, size: int) -> Iterator[NDArray[Any] | Stored]:
    """Cut arrays that follow one another into chunks, without a copy where a chunk lies in one of them."""
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
    """Return offset and size of each chunk from a shard's last bytes.

    Raises:
        ChecksumError: The bytes are not those that were written.
        FormatError: There are too few of them.
    """
    expected = tail_bytes(chunking)
    if len(data) < expected:
        raise FormatError(
            f"{where}: {len(data):,} bytes, where its stamp and index alone have {expected:,}; restore that file"
        )
    tail = memoryview(data)[len(data) - index_bytes(chunking) :]
    found, said = crc32c(tail[:-CRC_BYTES]), int.from_bytes(tail[-CRC_BYTES:], "little")
    if found != said:
        raise ChecksumError(f"{where}: its index has crc32c {found:08x}, not {said:08x} as stored; restore that file")
    return np.frombuffer(tail[:-CRC_BYTES], "<u8").reshape(-1, 2)


def stamped_rows(data: bytes | memoryview, chunking: Chunking, place: Place, where: str) -> int:
    """Return how many rows a shard has, by the stamp in its last bytes.

    Raises:
        ChecksumError: The bytes of the stamp are not those that were written.
        FormatError: The file is another shard's, or another array's.
    """
    begin = len(data) - tail_bytes(chunking)
    stamp = data[begin : begin + STAMP.size]
    found, said = crc32c(stamp), int.from_bytes(data[begin + STAMP.size : begin + STAMP_BYTES], "little")
    if found != said:
        raise ChecksumError(f"{where}: its stamp has crc32c {found:08x}, not {said:08x} as stored; restore that file")
    name, number, rows = STAMP.unpack(stamp)
    if (name.rstrip(b"\0"), number) != (place.name.encode(), place.number):
        told = f"shard {number:,} of {name.rstrip(bytes(1)).decode('ascii', 'replace')!r:.40}"
        raise FormatError(f"{where}: is {told}, by its stamp; a file is another's: restore or rebuild it")
    return int(rows)


def chunk_ranges(index: NDArray[np.uint64], chunks: range, size: int, where: str) -> list[tuple[int, int]]:
    """Return where chunks that follow one another lie in a shard file whose chunks take `size` bytes.

    Raises:
        FormatError: One is missing, or would lie outside the file.
    """
    ranges: list[tuple[int, int]] = list(map(tuple, index[chunks.start : chunks.stop].tolist()))
    if any(offset + length > size for offset, length in ranges):  # as that of one that is missing is
        return [chunk_range(index, chunk, size, where) for chunk in chunks]
    return ranges


def chunk_range(index: NDArray[np.uint64], number: int, size: int, where: str) -> tuple[int, int]:
    """Return where chunk `number` lies in a shard file whose chunks take `size` bytes.

    Raises:
        FormatError: The chunk is missing, or would lie outside the file.
    """
    offset, length = (int(value) for value in index[number])
    if offset == length == ABSENT:
        raise FormatError(f"{where}: chunk {number} is missing; every committed chunk is written, so it was lost")
    if offset + length > size:
        raise FormatError(f"{where}: chunk {number} ends at byte {offset + length:,} of {size:,}")
    return offset, length
