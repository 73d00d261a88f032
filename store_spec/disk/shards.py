"""Read rows of the arrays in shards, of one committed state.

Full shards are never written again, except by a repair, with the same rows. The last shard may be replaced by one that
begins with the same rows, so it is read in one piece.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.storage import LocalStorage, OpenFile, in_order, most_open_of_all
from store_spec.disk.tables import (
    Tables,
    check_count,
    get_part,
    get_whole,
    missing_file,
    part_of,
    stored_sizes,
    wrong_size,
)
from store_spec.errors import FormatError, MissingStoreError
from store_spec.format import retired, shard
from store_spec.format.codec import Buffer
from store_spec.format.layout import chunk_key
from store_spec.format.runs import merged

MOST_INDEXES = 4096  # indexes of shards that are cached, of about 10 kB each
MOST_OPEN = 32  # files of shards that stay open
MOST_CHUNKS = 6  # that a thread caches: two of each of inputs, labels and filled, as a window may be in two chunks
MOST_CHUNK_BYTES = 2**20  # larger chunks are not cached
LARGEST_BLOCK = 2**25 - 2**16  # bytes, just below the largest threshold of glibc

ChunkKey = tuple[object, str, int, int]  # a unique object of the snapshot, array, shard, chunk


@dataclass(frozen=True, slots=True, eq=False)
class _Shard:
    """A shard whose index has been read."""

    key: str
    where: str  # its name in errors
    index: NDArray[np.uint64]  # (chunks, 2): offset and size of each chunk
    size: int  # the bytes that its chunks take
    sizes_right: bool  # whether the sizes of all chunks with committed rows are possible by the schema
    whole: bytes | memoryview | None  # its bytes, if a later commit may replace it


class _FetchedBytes(threading.local):
    """Stored bytes of several chunks that this thread fetched in one request; see `Shards.fetched`."""

    shards: Shards | None = None
    key = ""
    start = 0
    data: bytes | memoryview = b""


class _RecentChunks(threading.local):
    """The chunks that a thread decompressed last and needed only in part: it may need the rest next."""

    def __init__(self) -> None:
        self.chunks: dict[ChunkKey, NDArray[Any]] = {}  # the oldest first

    def get(self, key: ChunkKey) -> NDArray[Any] | None:
        """Return the rows of a chunk, which is the latest from now on; None if it is not cached."""
        rows = self.chunks.pop(key, None)
        if rows is not None:
            self.chunks[key] = rows
        return rows

    def add(self, key: ChunkKey, rows: NDArray[Any]) -> None:
        """Cache the rows of a chunk, unless it is large, in place of the oldest one."""
        if rows.nbytes <= MOST_CHUNK_BYTES:
            self.chunks[key] = rows
            for oldest in list(self.chunks)[:-MOST_CHUNKS]:
                self.chunks.pop(oldest, None)  # a signal handler in this thread may read, too


_FETCHED = _FetchedBytes()
_RECENT = _RecentChunks()
_ALL_OPEN: weakref.WeakSet[OpenFile] = weakref.WeakSet()


class Shards:
    """Reads shards, and caches their indexes and open files. Each read uses one such object from start to end.

    After an error the next read uses a new object, because a repair may have replaced the files. `tables` are those of
    the same state.
    """

    def __init__(self, tables: Tables) -> None:
        self._storage, self._root, self._tables = tables.storage, tables.root, tables
        self._shards: dict[tuple[str, int], _Shard] = {}  # by array and number
        self._fetching: dict[tuple[int, str, int], Any] = {}  # locks by process, array and shard: see `_lock`
        self._open: dict[str, OpenFile] = {}
        self._cache_id = object()  # identifies chunks of this object in the caches of threads
        _keep_freed_memory()

    def close_files(self) -> None:
        """Forget all open files, so that they are opened again."""
        self._open.clear()

    def fill(self, name: str, start: int, out: NDArray[Any], *, recent: bool) -> None:
        """Fill `out` with rows from `start` on, whose sizes have been checked; `recent` is as in `Snapshot.rows`."""
        at = 0
        for number, low, high in _in_shards(start, start + len(out), self._root.schema.chunking(name).shard):
            self._fill_from_shard(name, number, low, out[at : at + high - low], recent=recent)
            at += high - low

    def _fill_from_shard(self, name: str, number: int, start: int, out: NDArray[Any], *, recent: bool) -> None:
        """Fill `out` with rows of one shard, from its row `start` on."""
        where = self._shard(name, number).where
        codec, size = self._root.schema.codec, self._root.schema.chunking(name).chunk
        first, after = start // size, -(-(start + len(out)) // size)
        cache_id = self._cache_id

        def copy_recent(chunk: int) -> bool:
            rows = _RECENT.get((cache_id, name, number, chunk))
            if rows is not None:
                _copy(rows, chunk * size - start, out)
            return rows is not None

        if recent:  # only at both ends: reads decode the chunks between into `out`, and do not cache them
            while first < after and copy_recent(first):
                first += 1
            if first < after and copy_recent(after - 1):
                after -= 1
        if first == after:
            return
        chunks = range(first, after)
        for chunk, stored in zip(chunks, self.stored(name, number, chunks), strict=True):
            low = chunk * size - start  # the chunk's first row, counted from that of `out`
            if low >= 0 and low + size <= len(out):
                codec.decode(stored, out[low : low + size], f"{where}: chunk {chunk}")
                continue
            rows = np.empty((size, *out.shape[1:]), out.dtype)
            codec.decode(stored, rows, f"{where}: chunk {chunk}")
            _copy(rows, low, out)
            if recent:
                _RECENT.add((cache_id, name, number, chunk), rows)

    def stored(self, name: str, number: int, chunks: range) -> Iterator[Buffer]:
        """Yield the stored bytes of consecutive chunks of a shard."""
        one = self._shard(name, number)
        ranges = shard.chunk_ranges(one.index, chunks, one.size, one.where)
        together = shard.joined(ranges)
        if together is None:
            yield from (self._get(one, offset, length) for offset, length in ranges)
        elif ranges:
            first, size = together
            stored = np.frombuffer(self._get(one, first, size), np.uint8)
            for offset, length in ranges:
                yield stored[offset - first : offset - first + length]

    @contextmanager
    def fetched(self, name: str, start: int, stop: int) -> Iterator[None]:
        """Fetch the stored bytes of rows `start` to `stop` in one request, for reads of this thread in the meantime.

        Nothing is fetched if the rows are in several shards, or their bytes are not together.
        """
        chunking = self._root.schema.chunking(name)
        number, low = divmod(start, chunking.shard)
        high = low + stop - start
        if high <= chunking.shard and (number + 1) * chunking.shard <= self._root.committed(name):
            self.check_sizes(name, start, stop)
            one, chunks = self._shard(name, number), range(low // chunking.chunk, -(-high // chunking.chunk))
            together = shard.joined(shard.chunk_ranges(one.index, chunks, one.size, one.where))
            if together is not None:
                _FETCHED.data = self._get(one, *together)
                _FETCHED.shards, _FETCHED.key, _FETCHED.start = self, one.key, together[0]
        try:
            yield
        finally:
            _FETCHED.shards, _FETCHED.data = None, b""

    def value(self, name: str, number: int, start: int, length: int | None) -> bytes | memoryview:
        """Return bytes of a shard as `Storage.get` does, after checking by its index that no chunk is missing."""
        chunking = self._root.schema.chunking(name)
        first = number * chunking.shard
        self.check_sizes(name, first, min(first + chunking.shard, self._root.committed(name)))
        one = self._shard(name, number)
        if one.whole is not None:
            return part_of(one.whole, start, length)
        if start == 0 and length is None:
            return get_whole(self._storage, one.key, self._largest(name))
        return get_part(self._storage, one.key, start, length)

    def check_sizes(self, name: str, start: int, stop: int) -> None:
        """Check that the chunks of some rows exist, and have stored sizes that are possible by the schema."""
        chunking = self._root.schema.chunking(name)
        for number, low, high in _in_shards(start, stop, chunking.shard):
            one = self._shard(name, number)
            if one.sizes_right:
                continue
            first, decoded = low // chunking.chunk, self._root.schema.chunk_bytes(name)
            wrong = _impossible(one.index[first : -(-high // chunking.chunk), 1], decoded)
            if wrong.any():
                chunk = first + int(np.argmax(wrong))
                _, length = shard.chunk_range(one.index, chunk, one.size, one.where)
                raise wrong_size(f"{one.where}: chunk {chunk}", length, decoded)

    def check_files(self) -> None:
        """Check that all shards with visible rows exist, before memory is allocated by their number.

        A remote store is not listed: only the shard of each array's last visible row is looked for, and read.
        """
        names = (name for names in self._root.schema.sharded().values() for name in names)
        for _ in in_order(self._storage, self._check_files_of, names):
            pass

    def _check_files_of(self, name: str) -> None:
        if self._storage.requests > 1:
            _, stops = self._live(name)
            if len(stops):
                self.check_sizes(name, int(stops[-1]) - 1, int(stops[-1]))
            return
        check_count(self._storage, name, self._visible_shards(name), "shards")

    def _visible_shards(self, name: str) -> int:
        """Return how many shards have rows of sequences that are not retired; others may be missing."""
        if not self._root.retired:
            return self._root.files(name)
        starts, stops = self._live(name)
        size = self._root.schema.chunking(name).shard
        first, after = merged(starts // size, -(-stops // size))
        return int((after - first).sum())

    def _live(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return starts and stops of the sequences that have rows and are not retired."""
        bounds = self._tables.bounds(name)
        live = retired.others(self._root.retired, len(bounds) - 1)
        starts, stops = bounds[live], bounds[live + 1]
        return starts[starts < stops], stops[starts < stops]

    def _lock(self, name: str, number: int) -> Any:
        """Return the lock that a thread holds while it reads something that other threads wait for.

        There is one for each process, because a lock that is held at a fork stays held in the child. It is reentrant,
        because a signal handler in this thread may read, too.
        """
        return self._fetching.setdefault((os.getpid(), name, number), threading.RLock())

    def _largest(self, name: str) -> int:
        """Return the largest possible size of a shard."""
        chunking, most = self._root.schema.chunking(name), stored_sizes(self._root.schema.chunk_bytes(name))[-1]
        return chunking.shard // chunking.chunk * most + shard.tail_bytes(chunking)

    def _shard(self, name: str, number: int) -> _Shard:
        """Return a shard, after reading its index or, of the last one, all of it."""
        one = self._shards.get((name, number))
        if one is None:
            with self._lock(name, number):  # the last shard can be large, so others wait until it is kept
                one = self._shards.get((name, number)) or self._read_shard(name, number)
                if len(self._shards) >= MOST_INDEXES:
                    # The last shards stay, since each is read once, whole.
                    self._shards = {key: other for key, other in list(self._shards.items()) if other.whole is not None}
                    self._fetching.clear()
                self._shards[name, number] = one
        return one

    def _read_shard(self, name: str, number: int) -> _Shard:
        chunking, key, whole = self._root.schema.chunking(name), chunk_key(self._root.schema, name, number), None
        where, tail = f"{self._storage.root}/{key}", shard.tail_bytes(chunking)
        rows = self._root.committed(name) - number * chunking.shard
        if rows < chunking.shard:
            whole = get_whole(self._storage, key, self._largest(name))
        data = get_part(self._storage, key, -tail, None) if whole is None else whole
        index = shard.decode_index(data, chunking, where)
        self._check_rows(name, number, shard.stamped_rows(data, chunking, shard.ShardId(name, number), where), where)
        if whole is None:
            present = index[:, 0] != shard.ABSENT
            size = int(index[present].sum(axis=1).max(initial=0))
        else:
            size = len(whole) - tail
        lengths = index[: -(-rows // chunking.chunk), 1]
        sizes_right = not _impossible(lengths, self._root.schema.chunk_bytes(name)).any()
        return _Shard(key, where, index, size, sizes_right, whole)

    def _check_rows(self, name: str, number: int, rows: int, where: str) -> None:
        """Check that a shard has all visible rows; retired rows at its end may be missing."""
        chunking = self._root.schema.chunking(name)
        first = number * chunking.shard
        due = min(self._root.committed(name) - first, chunking.shard)
        if rows < due and self._root.retired:
            starts, stops = self._live(name)
            visible = stops[(starts < first + due) & (stops > first)].clip(max=first + due)
            due = int(visible.max(initial=first)) - first
        if rows < due:
            raise FormatError(
                f"{where}: has {rows:,} rows, by its stamp, where {due:,} are committed; it is an older copy: restore "
                "or rebuild it"
            )

    def _get(self, one: _Shard, start: int, length: int) -> bytes | memoryview:
        """Return `length` bytes of a shard: of memory, of `fetched`, of an open file, or of the storage."""
        if one.whole is not None:
            return part_of(one.whole, start, length)
        key = one.key
        if _FETCHED.shards is self and _FETCHED.key == key and start >= _FETCHED.start:
            data = part_of(_FETCHED.data, start - _FETCHED.start, length)
            if len(data) == length:
                return data
        file = self._open.get(key)
        if file is None and isinstance(self._storage, LocalStorage):
            file = self._open_file(self._storage, key)
        data = get_part(self._storage, key, start, length) if file is None else file.read(start, length)
        if len(data) != length:
            raise FormatError(
                f"{self._storage.path(key)}: ends at byte {start + len(data):,}, where {start + length:,} are due"
            )
        return data

    def _open_file(self, storage: LocalStorage, key: str) -> OpenFile:
        """Open a file and keep it open, because opening takes longer than reading a chunk."""
        try:
            file = storage.open(key)
        except MissingStoreError as error:
            raise missing_file(storage, key) from error
        if len(self._open) >= MOST_OPEN:
            self._open.clear()
        if len(_ALL_OPEN) < most_open_of_all():
            self._open[key] = file
            _ALL_OPEN.add(file)
        return file


@cache
def _keep_freed_memory() -> None:
    """Make glibc keep the memory of rows that are freed for the next ones; the system would clear it again each time.

    After a block is freed, glibc keeps up to twice its size (M_TRIM_THRESHOLD in mallopt(3)). This one is not written,
    so it takes no memory.
    """
    with suppress(MemoryError):
        np.empty(LARGEST_BLOCK, np.uint8)


def _copy(chunk: NDArray[Any], low: int, out: NDArray[Any]) -> None:
    """Copy the rows of a chunk that are in `out`; the chunk starts at row `low` of `out`."""
    start, stop = max(0, low), min(len(out), low + len(chunk))
    out[start:stop] = chunk[start - low : stop - low]


def _in_shards(start: int, stop: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each shard with rows in `start` to `stop`, and first and last of these within the shard."""
    for first in range(start - start % size, stop, size) if start < stop else ():
        yield first // size, max(start, first) - first, min(stop, first + size) - first


def _impossible(lengths: NDArray[np.uint64], decoded: int) -> NDArray[np.bool_]:
    """Return which lengths no chunk of this decoded size can have."""
    possible = stored_sizes(decoded)
    return (lengths < possible[0]) | (lengths > possible[-1])
