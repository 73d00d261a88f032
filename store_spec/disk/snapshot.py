"""One commit of a store, as its files show it: rows of the sharded arrays, and whole columns of the tables.

Everything is clipped to the counts of the one root document that was read. Shards that a commit filled are never
written again, but by a repair, with the same rows; the last one may be replaced by one that begins with the same rows,
so it is read in one piece.
"""

from __future__ import annotations

import math
import resource
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.recent import Key, RecentChunks
from store_spec.disk.storage import LocalStorage, OpenFile, check_local
from store_spec.errors import ChecksumError, FormatError, MissingStoreError, StoreError
from store_spec.format import retired, shard
from store_spec.format.codec import LARGEST_OVERHEAD, LARGEST_RATIO, Buffer, crc32c
from store_spec.format.layout import LARGEST_DOCUMENT, ROOT, Root, chunk_key, table_chunk
from store_spec.format.missing_runs import Runs, no_runs, wrong_run
from store_spec.format.text import LARGEST_TEXT_BYTES, decode_text, shown
from store_spec.schema import MISSING_RUNS, TABLE_CHUNK_BYTES, ArrayFact, Chunking

MOST_INDEXES = 4096  # of shards that are kept: some 10 kB each
MOST_OPEN = 32  # files of chunks that a snapshot keeps open


def _share_of_open_files() -> int:
    """Return how many files all snapshots of this process keep open: a quarter of those that it may have."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if allowed == resource.RLIM_INFINITY else min(256, allowed // 4)


_RECENT = RecentChunks()
MOST_OPEN_OF_ALL = _share_of_open_files()
_ALL_OPEN: weakref.WeakSet[OpenFile] = weakref.WeakSet()


class _Found:
    """What was found in the files of shards. A read keeps to one from its start to its end.

    After an error the next read begins with another: a repair may put other files in the places of these.
    """

    def __init__(self) -> None:
        self.indexes: dict[tuple[str, int], tuple[NDArray[np.uint64], int, bool]] = {}
        self.last: dict[str, bytes] = {}  # by array: the shard that a later commit may replace
        self.open: dict[str, OpenFile] = {}
        self.own = object()  # whose the chunks are that threads keep


class Snapshot:
    """A committed state of the store in a folder. Picklable: what is cached stays behind.

    Args:
        storage: The folder.
        root: The root document of the state.
        compared: Whether whoever reads holds each sequence against its checksum, so that a shard of fewer rows than are
            committed is no error yet: the rest may be those of retired sequences alone.
        once: Whether whoever reads does so once: after an error only files are opened anew, and what was found in them
            is kept. Such readers meet many, and the last shard, which is read in one piece, may be large.
    """

    def __init__(self, storage: LocalStorage, root: Root, *, compared: bool = False, once: bool = False) -> None:
        self.storage = storage
        self.root = root
        self._compared, self._once = compared, once
        self._found = _Found()
        self._crcs: dict[str, NDArray[np.uint32]] | None = None
        self._missing: dict[str, Runs] = {}

    @classmethod
    def open(cls, path: Path) -> Snapshot:
        """Read the root once; nothing else is read before it is asked for.

        Raises:
            MissingStoreError: There is no store at that path.
            FormatError: It is not one that may be read.
            SchemaError: The path is a URL.
        """
        check_local(path)
        path = path.absolute()  # the caller may change to another folder
        if not path.is_dir():
            raise MissingStoreError(f"{path}: there is no store" + (", but a file" if path.exists() else ""))
        storage = LocalStorage(path)
        try:
            data = storage.get(ROOT, 0, LARGEST_DOCUMENT + 1)
        except MissingStoreError as error:
            raise MissingStoreError(f"{path}: a folder without {ROOT}: no store") from error
        root = Root.decode(data, str(path / ROOT))
        for folder in root.schema.folders():
            _check_folder(storage.path(folder))
        return cls(storage, root)

    def __repr__(self) -> str:
        counts = self.root.counts
        return f"<snapshot of {self.storage.root.name}: {counts.sequences:,} sequences, {counts.steps:,} steps>"

    def __reduce__(self) -> tuple[Any, tuple[LocalStorage, Root]]:
        return partial(Snapshot, compared=self._compared, once=self._once), (self.storage, self.root)

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Int64 (sequences + 1,): sequence i is rows offsets[i] to offsets[i + 1]. Checked."""
        return kept(self._offsets("offsets", "row_size", self.root.counts.steps))

    @cached_property
    def label_offsets(self) -> NDArray[np.int64]:
        """The same for `labels`, whatever their axis."""
        axis = self.root.schema.label_axis
        if axis == "step":
            return self.offsets
        if axis == "sequence":
            return kept(np.arange(len(self.offsets)))  # their number is known to be true
        return kept(self._offsets("label_offsets", "label_row_size", self.root.counts.label_steps))

    def _checksums(self) -> dict[str, NDArray[np.uint32]]:
        # No cached property: Python 3.11 has a lock for these, and a thread that reads ahead may hold it at a fork.
        found = self._crcs
        if found is None:
            found = {name: self.table(f"sequences/{name}_crc32c") for name in self.root.schema.row_arrays}
            self._crcs = found
        return found

    def slim(self, *, compared: bool = True) -> Snapshot:
        """Return the same for other processes, which read once: without what these do not need.

        Args:
            compared: Whether they hold each sequence against its checksum; others need to know which are retired.
        """
        root = replace(self.root, provenance={}, retired=() if compared else self.root.retired)
        return Snapshot(self.storage, root, compared=compared, once=True)

    def bounds(self, name: str) -> NDArray[np.int64]:
        """Int64 (sequences + 1,): where the sequences begin and end in `inputs`, `labels` or `time`. Checked."""
        return self.label_offsets if name == "labels" else self.offsets

    def missing(self, name: str) -> Runs:
        """Int64 (runs, 2): rows of `inputs` or `labels` that miss a value, one run after another. Checked."""
        if self.root.schema.missing != "keep":
            return no_runs()
        runs = self._missing.get(name)
        if runs is None:
            runs = kept(self.table(MISSING_RUNS[name]))
            if (wrong := wrong_run(runs, self.bounds(name))) is not None:
                raise FormatError(f"{self.storage.path(MISSING_RUNS[name])}: {wrong[1]}")
            self._missing[name] = runs  # which another thread that meets an error forgets
        return runs

    def had(self, name: str, number: int, rows: NDArray[Any]) -> bool:
        """Tell whether these are all rows of a sequence, by the checksum that is kept of them."""
        return crc32c(rows) == int(self._checksums()[name][number])

    def check(self, name: str, number: int, rows: NDArray[Any]) -> None:
        """Hold all rows of a sequence against the checksum that is kept of them: that of a chunk binds no place.

        Raises:
            ChecksumError: A file is another one, or an older copy of itself.
        """
        self.check_crc(name, number, crc32c(rows))

    def check_crc(self, name: str, number: int, found: int) -> None:
        """Hold the crc32c of all rows of a sequence against the one that is kept.

        Raises:
            ChecksumError: They are not the same.
        """
        said = int(self._checksums()[name][number])
        if found != said:
            self._forget(self._found)
            source = shown(self.table("sequences/source", number, number + 1)[0])
            raise ChecksumError(
                f"{self.storage.path(name)}: sequence {number:,} ({source}) has crc32c {found:08x}, not {said:08x} as "
                "its table has: a file is another's, or an older copy; verify says which, restore or rebuild it"
            )

    def rows(self, name: str, start: int, stop: int, *, recent: bool = False) -> NDArray[Any]:
        """Return rows `start` to `stop` of `inputs`, `labels` or `time`, committed ones: the caller has checked.

        Of `recent` ones, others of their chunks may be asked for next: this thread keeps some of these.
        """
        return self.rows_in(None, name, start, stop, recent=recent)

    def rows_in(
        self, buffer: NDArray[Any] | None, name: str, start: int, stop: int, *, recent: bool = False
    ) -> NDArray[Any]:
        """Return rows `start` to `stop` likewise; those of arrays in shards in the buffer, if it has enough rows."""
        if not self.root.schema.is_sharded(name):
            return self.table(name, start, stop)
        count = stop - start
        with self._finding() as found:
            self._check_sizes(found, name, start, stop)  # first: a hostile root may count rows that are nowhere
            if buffer is None or len(buffer) < count:
                buffer = self.root.schema.rows(name).empty(count)
            self._fill(found, name, start, buffer[:count], recent=recent)
        return buffer[:count]

    def fill(self, name: str, start: int, out: NDArray[Any]) -> None:
        """Fill the contiguous array `out` with rows of `inputs` or `labels` from `start` on, committed ones only."""
        if not self.root.schema.is_sharded(name):
            out[:] = self.table(name, start, start + len(out))
            return
        with self._finding() as found:
            self._check_sizes(found, name, start, start + len(out))
            self._fill(found, name, start, out, recent=False)

    def _fill(self, found: _Found, name: str, start: int, out: NDArray[Any], *, recent: bool) -> None:
        at = 0
        for number, low, high in _in_shards(start, start + len(out), self.root.schema.chunking(name).shard):
            self._fill_from_shard(found, name, number, low, out[at : at + high - low], recent=recent)
            at += high - low

    def stretch(self, name: str, start: int, stop: int) -> shard.Stretch:
        """Return rows of one shard, from its first on: whole chunks as they are stored, the rest decoded."""
        chunking, rows = self.root.schema.chunking(name), self.root.schema.rows(name)
        whole = (stop - start) // chunking.chunk
        found = self._found
        self._check_sizes(found, name, start, start + whole * chunking.chunk)
        stored = tuple(map(bytes, self._stored(found, name, start // chunking.shard, range(whole))))
        return shard.Stretch(rows.empty(0), stored, self.rows(name, start + whole * chunking.chunk, stop), stop - start)

    def table(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of an array that has one row a sequence (or a bound)."""
        schema, fact = self.root.schema, self.root.schema.fact(name)
        stop = self.root.committed(name) if stop is None else stop
        size = table_chunk(schema, fact)
        first, last = start // size, -(-stop // size)
        present = len(self.storage.list(name)) - 1  # its zarr.json is there too
        if stop > start and present < last:
            raise FormatError(
                f"{self.storage.path(name)}: {present:,} chunks where {last:,} are committed; some were lost"
            )
        chunks = max(0, last - first) if stop > start else 0
        for number in range(first, first + chunks):
            self.check_size(fact, number)
        out = np.empty((chunks * size, *schema.shape(fact)), schema.dtype(fact))
        for number in range(first, first + chunks):
            self.fill_from_chunk(fact, number, out[(number - first) * size : (number - first + 1) * size])
        return out[start - first * size : stop - first * size] if chunks else out

    def sources(self) -> list[str]:
        """Return the name of each sequence's source."""
        return [str(source) for source in self.table("sequences/source")]

    def fill_from_chunk(self, fact: ArrayFact, number: int, out: NDArray[Any]) -> None:
        """Decode one chunk of a table into `out`, which has the rows of a whole chunk."""
        key = chunk_key(fact.name, number, out.ndim)
        where = str(self.storage.path(key))
        text = fact.dtype == "string"
        stored = self._get_whole(key, (LARGEST_TEXT_BYTES if text else out.nbytes) + LARGEST_OVERHEAD)
        codec = self.root.schema.codec_of(fact)
        if text:
            out[:] = decode_text(codec.decode_bytes(stored, LARGEST_TEXT_BYTES, where), len(out), where)
        else:
            codec.decode(stored, out, where)
            committed = out[: max(0, self.root.committed(fact.name) - number * len(out))]
            if out.dtype == bool and (committed.view(np.uint8) > 1).any():
                # NumPy counts such a mask wrong, and then selects by it out of bounds.
                raise FormatError(f"{where}: a bool of {committed.view(np.uint8).max()}, where 0 or 1 is due")

    def _fill_from_shard(
        self, found: _Found, name: str, number: int, start: int, out: NDArray[Any], *, recent: bool
    ) -> None:
        """Fill `out` with rows of one shard, from its row `start` on."""
        _, where = self._shard_file(name, number)
        codec, size = self.root.schema.codec, self.root.schema.chunking(name).chunk
        first, after = start // size, -(-(start + len(out)) // size)
        # Only the first and the last may be there: of those between, all rows are wanted.
        while recent and first < after and _copied((found.own, name, number, first), first * size - start, size, out):
            first += 1
        last = after - 1
        if recent and first < after and _copied((found.own, name, number, last), last * size - start, size, out):
            after = last
        if first == after:
            return
        chunks, nbytes = range(first, after), size * out[:1].nbytes
        for chunk, stored in zip(chunks, self._stored(found, name, number, chunks), strict=True):
            low = chunk * size - start  # rows are counted from the first one of `out`
            if low >= 0 and low + size <= len(out):
                codec.decode(stored, out[low : low + size], f"{where}: chunk {chunk}")
                continue
            key = (found.own, name, number, chunk) if recent else None
            room = _RECENT.room(key, nbytes)
            codec.decode(stored, room[:nbytes].view(out.dtype), f"{where}: chunk {chunk}")
            _copy(room, low, size, out)
            _RECENT.give_back(key, room)

    @contextmanager
    def _finding(self) -> Iterator[_Found]:
        """Give what was found so far, and forget it after an error."""
        found = self._found
        try:
            yield found
        except StoreError:
            self._forget(found)
            raise

    def _forget(self, found: _Found) -> None:
        found.open.clear()
        if not self._once:
            self._found = _Found()
            self._crcs = None
            self._missing.clear()

    def _stored(self, found: _Found, name: str, number: int, chunks: range) -> Iterator[Buffer]:
        """Give the bytes of some chunks of a shard, which follow one another."""
        chunking = self.root.schema.chunking(name)
        key, where = self._shard_file(name, number)
        whole = self._whole_shard(found, name, number, key, chunking)
        index, size, _ = self._index(found, name, number, chunking)
        ranges = shard.chunk_ranges(index, chunks, size, where)
        if not ranges:
            return
        begin = min(offset for offset, _ in ranges)
        end = max(offset + length for offset, length in ranges)
        together = end - begin == sum(length for _, length in ranges)
        if whole is None and not together:
            yield from (self._get(found, key, offset, length) for offset, length in ranges)
            return
        data = np.frombuffer(self._get(found, key, begin, end - begin) if whole is None else whole, np.uint8)
        shift = begin if whole is None else 0
        for offset, length in ranges:
            yield data[offset - shift : offset - shift + length]

    def _check_sizes(self, found: _Found, name: str, start: int, stop: int) -> None:
        """Check that the chunks of rows have as many stored bytes as chunks of the schema can have."""
        chunking = self.root.schema.chunking(name)
        for number, low, high in _in_shards(start, stop, chunking.shard):
            index, size, all_right = self._index(found, name, number, chunking)
            if all_right:
                continue
            decoded, least, most = self._stored_bytes(name)
            first = low // chunking.chunk
            wrong = _outside(index[first : -(-high // chunking.chunk), 1], least, most)
            if wrong.any():
                chunk = first + int(np.argmax(wrong))
                _, where = self._shard_file(name, number)
                _, length = shard.chunk_range(index, chunk, size, where)
                raise _wrong_size(f"{where}: chunk {chunk}", length, least, most, decoded)

    def _stored_bytes(self, name: str) -> tuple[int, int, int]:
        """Return how many bytes a chunk of an array in shards has, and the least and the most that it is stored in."""
        decoded = self.root.schema.chunking(name).chunk * self.root.schema.rows(name).nbytes
        return decoded, decoded // LARGEST_RATIO, decoded + LARGEST_OVERHEAD

    def check_files(self) -> None:
        """Check that there are as many shards as readers see rows of, for who takes memory by the count of these."""
        schema = self.root.schema
        for name in (name for names in schema.sharded().values() for name in names):
            due = self._shards_seen(name)
            present = len(self.storage.list(name)) - 1  # its zarr.json is there too
            if present < due:
                where = self.storage.path(name)
                raise FormatError(f"{where}: {present:,} shards where {due:,} are committed; some were lost")

    def _shards_seen(self, name: str) -> int:
        """Return how many shards have rows of sequences that are not retired; those of others may have been lost."""
        if not self.root.retired:
            return self.root.files(name)
        bounds, size = self.bounds(name), self.root.schema.chunking(name).shard
        live = retired.others(self.root.retired, len(bounds) - 1)
        starts, stops = bounds[live], bounds[live + 1]
        starts, stops = starts[starts < stops], stops[starts < stops]
        first, last = starts // size, (stops - 1) // size
        shared = int((first[1:] == last[:-1]).sum())  # with the sequence before
        return int((last - first + 1).sum()) - shared

    def check_size(self, fact: ArrayFact, number: int) -> None:
        """Check that a chunk of a table has as many stored bytes as it needs, if it is larger than most are."""
        schema = self.root.schema
        decoded = table_chunk(schema, fact) * schema.dtype(fact).itemsize * math.prod(schema.shape(fact))
        if decoded > TABLE_CHUNK_BYTES:  # one wide row
            key = chunk_key(fact.name, number, 1 + len(schema.shape(fact)))
            least, most = decoded // LARGEST_RATIO, decoded + LARGEST_OVERHEAD
            found = self.storage.size(key)
            if not least <= found <= most:
                raise _wrong_size(str(self.storage.path(key)), found, least, most, decoded)

    def _whole_shard(self, found: _Found, name: str, number: int, key: str, chunking: Chunking) -> bytes | None:
        """Return the bytes of the shard that a later commit may replace; None for all others."""
        if (number + 1) * chunking.shard <= self.root.committed(name):
            return None
        data = found.last.get(name)
        if data is None:
            chunk = chunking.chunk * self.root.schema.rows(name).nbytes
            chunks = chunking.shard // chunking.chunk
            limit = chunks * (chunk + LARGEST_OVERHEAD) + shard.tail_bytes(chunking)
            data = found.last[name] = self._get_whole(key, limit)
        return data

    def _index(self, found: _Found, name: str, number: int, chunking: Chunking) -> tuple[NDArray[np.uint64], int, bool]:
        """Return a shard's index, how many bytes its chunks take, and whether each has as many as one can have."""
        known = found.indexes.get((name, number))
        if known is None:
            key, where = self._shard_file(name, number)
            whole = self._whole_shard(found, name, number, key, chunking)
            data = self._get_part(key, -shard.tail_bytes(chunking), None) if whole is None else whole
            index = shard.decode_index(data, chunking, where)
            self._check_rows(name, number, shard.stamped_rows(data, chunking, shard.Place(name, number), where), where)
            if whole is None:
                present = index[:, 0] != shard.ABSENT
                size = int(index[present].sum(axis=1).max(initial=0))
            else:
                size = len(whole) - shard.tail_bytes(chunking)
            _, least, most = self._stored_bytes(name)
            chunks = -(-(self.root.committed(name) - number * chunking.shard) // chunking.chunk)
            all_right = not _outside(index[:chunks, 1], least, most).any()
            if len(found.indexes) >= MOST_INDEXES:
                found.indexes.clear()
            known = found.indexes[name, number] = index, size, all_right
        return known

    def _check_rows(self, name: str, number: int, rows: int, where: str) -> None:
        """Check that a shard has all rows that readers see of it; those that are retired may be missing at its end."""
        chunking = self.root.schema.chunking(name)
        first = number * chunking.shard
        due = min(self.root.committed(name) - first, chunking.shard)
        if rows < due and self._compared:
            return
        if rows < due and self.root.retired:
            bounds = self.bounds(name)
            live = retired.others(self.root.retired, len(bounds) - 1)
            starts, stops = bounds[live], bounds[live + 1].clip(max=first + due)
            seen = stops[(starts < stops) & (stops > first)]
            due = int(seen.max(initial=first)) - first
        if rows < due:
            raise FormatError(
                f"{where}: has {rows:,} rows, by its stamp, where {due:,} are committed; it is an older copy: restore "
                "or rebuild it"
            )

    def _shard_file(self, name: str, number: int) -> tuple[str, str]:
        """Return the key of a shard and how errors name it."""
        key = chunk_key(name, number, 1 + len(self.root.schema.rows(name).shape))
        return key, f"{self.storage.root}/{key}"

    def _get_whole(self, key: str, limit: int) -> bytes:
        data = self._get_part(key, 0, limit + 1)
        if len(data) > limit:
            raise FormatError(f"{self.storage.path(key)}: larger than the {limit:,} bytes that it can need")
        return data

    def _get_part(self, key: str, start: int, length: int | None) -> bytes:
        with self._loss_told(key):
            return self.storage.get(key, start, length)

    def _opened(self, found: _Found, key: str) -> OpenFile:
        """Open a file of chunks, and keep it open: each time, that takes longer than reading a chunk."""
        with self._loss_told(key):
            file = self.storage.open(key)
        if len(found.open) >= MOST_OPEN:
            found.open.clear()
        if len(_ALL_OPEN) < MOST_OPEN_OF_ALL:
            found.open[key] = file
            _ALL_OPEN.add(file)
        return file

    @contextmanager
    def _loss_told(self, key: str) -> Iterator[None]:
        try:
            yield
        except MissingStoreError as error:
            raise FormatError(
                f"{self.storage.path(key)}: missing; every committed chunk and shard is written, so it was lost"
            ) from error

    def _get(self, found: _Found, key: str, start: int, length: int) -> bytes:
        data = (found.open.get(key) or self._opened(found, key)).read(start, length)
        if len(data) != length:
            raise FormatError(
                f"{self.storage.path(key)}: ends at byte {start + len(data):,}, where {start + length:,} are due"
            )
        return data

    def _offsets(self, name: str, sizes_name: str, last: int) -> NDArray[np.int64]:
        return self.check_offsets(name, self.table(name), sizes_name, self.table(sizes_name), last)

    def check_offsets(
        self, name: str, offsets: NDArray[np.int64], sizes_name: str, sizes: NDArray[np.int64], last: int
    ) -> NDArray[np.int64]:
        """Return offsets that begin with 0, never fall, end with `last`, and agree with the lengths.

        Raises:
            FormatError: They do not.
        """
        where = self.storage.path(name)
        if offsets[0] != 0:
            raise FormatError(f"{where}: begins with {offsets[0]:,}, not with 0")
        falls = offsets[1:] < offsets[:-1]  # not by a difference, which can overflow
        if falls.any():
            bad = int(np.argmax(falls))
            raise FormatError(
                f"{where}: sequence {bad} ends at {offsets[bad + 1]:,}, before its start {offsets[bad]:,}"
            )
        if offsets[-1] != last:
            raise FormatError(f"{where}: ends with {offsets[-1]:,}, but {last:,} steps are committed")
        by_offsets = np.diff(offsets)
        if not np.array_equal(sizes, by_offsets):
            bad = int(np.argmax(sizes != by_offsets))
            raise FormatError(
                f"{self.storage.path(sizes_name)}: sequence {bad} has {sizes[bad]:,} steps, "
                f"but {by_offsets[bad]:,} by {name}"
            )
        return offsets


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


def _wrong_size(where: str, found: int, least: int, most: int, decoded: int) -> FormatError:
    if found > most:
        return FormatError(f"{where}: a chunk of {found:,} stored bytes; it cannot have more than {most:,}")
    return FormatError(
        f"{where}: a chunk of {found:,} stored bytes cannot hold the {decoded:,} that the schema gives; "
        f"it has at least {least:,}"
    )


def kept(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make an array that is kept one that nobody can write to: what is read follows from it."""
    array.setflags(write=False)
    return array


def _check_folder(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError as error:
        raise FormatError(f"{path}: missing; restore that folder") from error
    if not stat.S_ISDIR(mode):
        kind = "a link; a store holds plain files and folders only" if stat.S_ISLNK(mode) else "not a folder"
        raise FormatError(f"{path}: {kind}")
