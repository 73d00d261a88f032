"""Rows of the arrays in shards, of one committed state, as the files of their shards show them.

Shards that a commit filled are never written again, but by a repair, with the same rows; the last one may be replaced
by one that begins with the same rows, so it is read in one piece.
"""

from __future__ import annotations

import os
import resource
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.committed import get_part, get_whole, open_file, part_of, wrong_size
from store_spec.disk.recent import Key, RecentChunks
from store_spec.disk.storage import OpenFile, Readable
from store_spec.disk.tables import Tables
from store_spec.errors import FormatError
from store_spec.format import retired, shard
from store_spec.format.codec import LARGEST_OVERHEAD, LARGEST_RATIO, Buffer
from store_spec.format.layout import ROOT, chunk_key
from store_spec.schema import Chunking

MOST_INDEXES = 4096  # of shards that are kept: some 10 kB each
MOST_OPEN = 32  # files of shards that are kept open


def _share_of_open_files() -> int:
    """Return how many files all readers of this process keep open: a quarter of those that it may have."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if allowed == resource.RLIM_INFINITY else min(256, allowed // 4)


_RECENT = RecentChunks()
MOST_OPEN_OF_ALL = _share_of_open_files()
_ALL_OPEN: weakref.WeakSet[OpenFile] = weakref.WeakSet()


class Shards:
    """Reads them, and keeps what it found in their files. A read keeps to one of these from its start to its end.

    After an error the next read begins with another: a repair may put other files in the places of these.

    Args:
        tables: Of the same state.
        compared: Whether whoever reads holds each sequence against its checksum, so that a shard of fewer rows than are
            committed is no error yet: the rest may be those of retired sequences alone.
    """

    def __init__(self, tables: Tables, *, compared: bool) -> None:
        self._storage, self._root = tables.storage, tables.root
        self._tables, self._compared = tables, compared
        self._indexes: dict[tuple[str, int], tuple[NDArray[np.uint64], int, bool]] = {}
        self._last: dict[str, bytes | memoryview] = {}  # by array: the shard that a later commit may replace
        self._fetching: dict[tuple[int, str], threading.RLock] = {}  # by process and array, for `_last`
        self._open: dict[str, OpenFile] = {}
        self._own = object()  # whose the chunks are that threads keep

    def close_files(self) -> None:
        """Have all files opened anew."""
        self._open.clear()

    def fill(self, name: str, start: int, out: NDArray[Any], *, recent: bool) -> None:
        """Fill `out` with rows from `start` on, of which the sizes are checked; `recent` is as in `Snapshot.rows`."""
        at = 0
        for number, low, high in _in_shards(start, start + len(out), self._root.schema.chunking(name).shard):
            self._fill(name, number, low, out[at : at + high - low], recent=recent)
            at += high - low

    def _fill(self, name: str, number: int, start: int, out: NDArray[Any], *, recent: bool) -> None:
        """Fill `out` with rows of one shard, from its row `start` on."""
        _, where = self._file(name, number)
        codec, size = self._root.schema.codec, self._root.schema.chunking(name).chunk
        first, after = start // size, -(-(start + len(out)) // size)
        # Only the first and the last may be there: of those between, all rows are wanted.
        while recent and first < after and _copied((self._own, name, number, first), first * size - start, size, out):
            first += 1
        last = after - 1
        if recent and first < after and _copied((self._own, name, number, last), last * size - start, size, out):
            after = last
        if first == after:
            return
        chunks, nbytes = range(first, after), size * out[:1].nbytes
        for chunk, stored in zip(chunks, self.stored(name, number, chunks), strict=True):
            low = chunk * size - start  # rows are counted from the first one of `out`
            if low >= 0 and low + size <= len(out):
                codec.decode(stored, out[low : low + size], f"{where}: chunk {chunk}")
                continue
            key = (self._own, name, number, chunk) if recent else None
            room = _RECENT.room(key, nbytes)
            codec.decode(stored, room[:nbytes].view(out.dtype), f"{where}: chunk {chunk}")
            _copy(room, low, size, out)
            _RECENT.give_back(key, room)

    def stored(self, name: str, number: int, chunks: range) -> Iterator[Buffer]:
        """Give the bytes of some chunks of a shard, which follow one another."""
        chunking = self._root.schema.chunking(name)
        key, where = self._file(name, number)
        whole = self._whole(name, number, key, chunking)
        index, size, _ = self._index(name, number, chunking)
        ranges = shard.chunk_ranges(index, chunks, size, where)
        if not ranges:
            return
        begin = min(offset for offset, _ in ranges)
        end = max(offset + length for offset, length in ranges)
        together = end - begin == sum(length for _, length in ranges)
        if whole is None and not together:
            yield from (self._get(key, offset, length) for offset, length in ranges)
            return
        data = np.frombuffer(self._get(key, begin, end - begin) if whole is None else whole, np.uint8)
        shift = begin if whole is None else 0
        for offset, length in ranges:
            yield data[offset - shift : offset - shift + length]

    def value(self, name: str, number: int, start: int, length: int | None) -> bytes | memoryview:
        """Return bytes of a shard as `Storage.get` does, after a look at its index: no chunk of it is missing."""
        chunking = self._root.schema.chunking(name)
        first = number * chunking.shard
        self.check_sizes(name, first, min(first + chunking.shard, self._root.committed(name)))
        key, _ = self._file(name, number)
        whole = self._whole(name, number, key, chunking)
        if whole is not None:
            return part_of(whole, start, length)
        if start == 0 and length is None:
            return get_whole(self._storage, key, self._largest(name, chunking))
        return get_part(self._storage, key, start, length)

    def check_sizes(self, name: str, start: int, stop: int) -> None:
        """Check that the chunks of rows have as many stored bytes as chunks of the schema can have.

        Raises:
            FormatError: They do not, or a shard has fewer rows than are committed, or is missing.
        """
        chunking = self._root.schema.chunking(name)
        for number, low, high in _in_shards(start, stop, chunking.shard):
            index, size, all_right = self._index(name, number, chunking)
            if all_right:
                continue
            decoded, least, most = self._stored_bytes(name)
            first = low // chunking.chunk
            wrong = _outside(index[first : -(-high // chunking.chunk), 1], least, most)
            if wrong.any():
                chunk = first + int(np.argmax(wrong))
                _, where = self._file(name, number)
                _, length = shard.chunk_range(index, chunk, size, where)
                raise wrong_size(f"{where}: chunk {chunk}", length, least, most, decoded)

    def check_files(self) -> None:
        """Check that there are as many shards as readers see rows of, for who takes memory by the count of these."""
        schema = self._root.schema
        for name in (name for names in schema.sharded().values() for name in names):
            due = self._seen(name)
            present = sum(entry.name != ROOT for entry in self._storage.list(name))
            if present < due:
                where = self._storage.path(name)
                raise FormatError(f"{where}: {present:,} shards where {due:,} are committed; some were lost")

    def _seen(self, name: str) -> int:
        """Return how many shards have rows of sequences that are not retired; those of others may have been lost."""
        if not self._root.retired:
            return self._root.files(name)
        starts, stops = self._live(name)
        size = self._root.schema.chunking(name).shard
        first, last = starts // size, (stops - 1) // size
        shared = int((first[1:] == last[:-1]).sum())  # with the sequence before
        return int((last - first + 1).sum()) - shared

    def _live(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the sequences begin and end that have rows and are not retired."""
        bounds = self._tables.bounds(name)
        live = retired.others(self._root.retired, len(bounds) - 1)
        starts, stops = bounds[live], bounds[live + 1]
        return starts[starts < stops], stops[starts < stops]

    def _stored_bytes(self, name: str) -> tuple[int, int, int]:
        """Return how many bytes a chunk has, and the least and the most that it is stored in."""
        decoded = self._root.schema.chunking(name).chunk * self._root.schema.rows(name).nbytes
        return decoded, decoded // LARGEST_RATIO, decoded + LARGEST_OVERHEAD

    def _whole(self, name: str, number: int, key: str, chunking: Chunking) -> bytes | memoryview | None:
        """Return the bytes of the shard that a later commit may replace; None for all others."""
        if (number + 1) * chunking.shard <= self._root.committed(name):
            return None
        data = self._last.get(name)
        if data is not None:
            return data
        # One thread fetches it, as it can be large, and the others wait. The lock is of this process: one that is held
        # at a fork stays held in the child. A signal handler that reads too must not wait for its own thread.
        with self._fetching.setdefault((os.getpid(), name), threading.RLock()):
            data = self._last.get(name)
            if data is None:
                data = self._last[name] = get_whole(self._storage, key, self._largest(name, chunking))
        return data

    def _largest(self, name: str, chunking: Chunking) -> int:
        """Return how many bytes a shard has at most."""
        chunk = chunking.chunk * self._root.schema.rows(name).nbytes
        return chunking.shard // chunking.chunk * (chunk + LARGEST_OVERHEAD) + shard.tail_bytes(chunking)

    def _index(self, name: str, number: int, chunking: Chunking) -> tuple[NDArray[np.uint64], int, bool]:
        """Return a shard's index, how many bytes its chunks take, and whether each has as many as one can have."""
        known = self._indexes.get((name, number))
        if known is None:
            key, where = self._file(name, number)
            whole = self._whole(name, number, key, chunking)
            data = get_part(self._storage, key, -shard.tail_bytes(chunking), None) if whole is None else whole
            index = shard.decode_index(data, chunking, where)
            self._check_rows(name, number, shard.stamped_rows(data, chunking, shard.Place(name, number), where), where)
            if whole is None:
                present = index[:, 0] != shard.ABSENT
                size = int(index[present].sum(axis=1).max(initial=0))
            else:
                size = len(whole) - shard.tail_bytes(chunking)
            _, least, most = self._stored_bytes(name)
            chunks = -(-(self._root.committed(name) - number * chunking.shard) // chunking.chunk)
            all_right = not _outside(index[:chunks, 1], least, most).any()
            if len(self._indexes) >= MOST_INDEXES:
                self._indexes.clear()
            known = self._indexes[name, number] = index, size, all_right
        return known

    def _check_rows(self, name: str, number: int, rows: int, where: str) -> None:
        """Check that a shard has all rows that readers see of it; those that are retired may be missing at its end."""
        chunking = self._root.schema.chunking(name)
        first = number * chunking.shard
        due = min(self._root.committed(name) - first, chunking.shard)
        if rows < due and self._compared:
            return
        if rows < due and self._root.retired:
            starts, stops = self._live(name)
            seen = stops[(starts < first + due) & (stops > first)].clip(max=first + due)
            due = int(seen.max(initial=first)) - first
        if rows < due:
            raise FormatError(
                f"{where}: has {rows:,} rows, by its stamp, where {due:,} are committed; it is an older copy: restore "
                "or rebuild it"
            )

    def _file(self, name: str, number: int) -> tuple[str, str]:
        """Return the key of a shard and how errors name it."""
        key = chunk_key(name, number, 1 + len(self._root.schema.rows(name).shape))
        return key, f"{self._storage.root}/{key}"

    def _get(self, key: str, start: int, length: int) -> bytes | memoryview:
        data = (self._open.get(key) or self._opened(key)).read(start, length)
        if len(data) != length:
            raise FormatError(
                f"{self._storage.path(key)}: ends at byte {start + len(data):,}, where {start + length:,} are due"
            )
        return data

    def _opened(self, key: str) -> Readable:
        """Open a file, and keep it open: each time, that takes longer than reading a chunk."""
        file = open_file(self._storage, key)
        if not isinstance(file, OpenFile):
            return file
        if len(self._open) >= MOST_OPEN:
            self._open.clear()
        if len(_ALL_OPEN) < MOST_OPEN_OF_ALL:
            self._open[key] = file
            _ALL_OPEN.add(file)
        return file


def _copied(key: Key, low: int, size: int, out: NDArray[Any]) -> bool:
    """Copy what `out` has of a chunk, which begins at its row `low`, if this thread kept it; tell whether."""
    room = _RECENT.take(key)
    if room is None:
        return False
    _copy(room, low, size, out)
    _RECENT.give_back(key, room)
    return True


def _copy(chunk: NDArray[np.uint8], low: int, size: int, out: NDArray[Any]) -> None:
    """Copy what `out` has of a chunk of so many rows, which begins at its row `low`; that may lie before the first."""
    rows = chunk[: size * out[:1].nbytes].view(out.dtype).reshape(size, *out.shape[1:])
    begin, end = max(0, low), min(len(out), low + size)
    out[begin:end] = rows[begin - low : end - low]


def _in_shards(start: int, stop: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Give the number of each shard of `size` rows that rows `start` to `stop` lie in, and which of its rows."""
    for first in range(start - start % size, stop, size) if start < stop else ():
        yield first // size, max(start, first) - first, min(stop, first + size) - first


def _outside(lengths: NDArray[np.uint64], least: int, most: int) -> NDArray[np.bool_]:
    """Tell which are fewer or more bytes than a chunk can have."""
    return (lengths < least) | (lengths > most)
