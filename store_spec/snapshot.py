"""One commit of a store, as its files show it: rows of the sharded arrays, and whole columns of the tables.

Everything is clipped to the counts of the one root document that was read. Shards that a commit filled are never
written again; the last one may be replaced by one that begins with the same rows, so it is read in one piece.
"""

from __future__ import annotations

import stat
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import shard
from store_spec.codec import LARGEST_OVERHEAD, crc32c
from store_spec.errors import ChecksumError, FormatError, MissingStoreError
from store_spec.layout import LARGEST_DOCUMENT, ROOT, Root, chunk_key, table_chunk
from store_spec.schema import ARRAYS, GROUPS, ArrayFact, Chunking
from store_spec.storage import LocalStorage
from store_spec.text import LARGEST_TEXT_BYTES, decode_text

FACTS = {fact.name: fact for fact in ARRAYS}


class Snapshot:
    """A committed state of the store in a folder. Picklable: what is cached stays behind."""

    def __init__(self, storage: LocalStorage, root: Root) -> None:
        self.storage = storage
        self.root = root
        self._indexes: dict[tuple[str, int], tuple[NDArray[np.uint64], int]] = {}
        self._last: dict[str, bytes] = {}

    @classmethod
    def open(cls, path: Path) -> Snapshot:
        """Read the root once; nothing else is read before it is asked for.

        Raises:
            MissingStoreError: There is no store at that path.
            FormatError: It is not one that may be read.
        """
        path = path.absolute()  # the caller may change to another folder
        if not path.is_dir():
            raise MissingStoreError(f"{path}: there is no store" + (", but a file" if path.exists() else ""))
        storage = LocalStorage(path)
        try:
            data = storage.get(ROOT, 0, LARGEST_DOCUMENT + 1)
        except MissingStoreError as error:
            raise MissingStoreError(f"{path}: a folder without {ROOT}: no store") from error
        root = Root.decode(data, str(path / ROOT))
        for folder in (*GROUPS, *(fact.name for fact in root.schema.arrays())):
            _check_folder(storage.path(folder))
        return cls(storage, root)

    def __reduce__(self) -> tuple[type[Snapshot], tuple[LocalStorage, Root]]:
        return Snapshot, (self.storage, self.root)

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

    @cached_property
    def _checksums(self) -> dict[str, NDArray[np.uint32]]:
        return {name: self.table(f"sequences/{name}_crc32c") for name in ("inputs", "labels")}

    def check(self, name: str, number: int, rows: NDArray[Any]) -> None:
        """Hold all rows of a sequence against the checksum that is kept of them: that of a chunk binds no place.

        Raises:
            ChecksumError: A file is another one, or an older copy of itself.
        """
        found, said = crc32c(rows), int(self._checksums[name][number])
        if found != said:
            source = self.table("sequences/source", number, number + 1)[0]
            raise ChecksumError(
                f"{self.storage.path(name)}: sequence {number:,} ({source}) has crc32c {found:08x}, not {said:08x} as "
                "its table has: a file is another's, or an older copy; verify says which, restore or rebuild it"
            )

    def rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop` of `inputs` or `labels`, committed ones only: the caller has checked."""
        chunking = self.root.schema.chunking(name)
        if chunking is None:
            return self.table(name, start, stop)
        rows = self.root.schema.rows(name)
        firsts = range(start - start % chunking.shard, stop, chunking.shard) if start < stop else range(0)
        for first in firsts:  # before memory is taken: a hostile root may count rows that are nowhere
            self._index(name, first // chunking.shard, chunking)
        out = rows.empty(stop - start)
        for first in firsts:
            low, high = max(start, first), min(stop, first + chunking.shard)
            self._fill_from_shard(
                name, first // chunking.shard, low - first, high - first, out[low - start : high - start]
            )
        return out

    def table(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of an array that has one row a sequence (or a bound)."""
        schema, fact = self.root.schema, FACTS[name]
        stop = self.root.counts.of(schema.axis(fact)) if stop is None else stop
        size = table_chunk(schema, fact)
        first, last = start // size, -(-stop // size)
        present = len(self.storage.list(name)) - 1  # its zarr.json is there too
        if stop > start and present < last:
            raise FormatError(
                f"{self.storage.path(name)}: {present:,} chunks where {last:,} are committed; some were lost"
            )
        chunks = max(0, last - first) if stop > start else 0
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

    def _fill_from_shard(self, name: str, number: int, start: int, stop: int, out: NDArray[Any]) -> None:
        """Fill `out` with rows `start` to `stop` of one shard."""
        schema = self.root.schema
        chunking, rows = schema.chunking(name), schema.rows(name)
        assert chunking is not None
        key = chunk_key(name, number, 1 + len(rows.shape))
        where = str(self.storage.path(key))
        whole = self._whole_shard(name, number, key, chunking)
        index, size = self._index(name, number, chunking)
        first, last = start // chunking.chunk, (stop - 1) // chunking.chunk
        ranges = [shard.chunk_range(index, chunk, size, where) for chunk in range(first, last + 1)]
        longest, limit = max(length for _, length in ranges), chunking.chunk * rows.nbytes + LARGEST_OVERHEAD
        if longest > limit:
            raise FormatError(f"{where}: a chunk of {longest:,} stored bytes; it cannot have more than {limit:,}")
        begin = min(offset for offset, _ in ranges)
        end = max(offset + length for offset, length in ranges)
        together = end - begin == sum(length for _, length in ranges)
        data = whole if whole is not None else self._get(key, begin, end - begin) if together else None
        shift = 0 if whole is not None else begin
        for chunk, (offset, length) in enumerate(ranges, first):
            stored = (
                self._get(key, offset, length)
                if data is None
                else memoryview(data)[offset - shift : offset - shift + length]
            )
            first_row = chunk * chunking.chunk - start  # counted from the first row of `out`
            self._fill_part(out, first_row, chunking.chunk, stored, f"{where}: chunk {chunk}")

    def _fill_part(self, out: NDArray[Any], low: int, size: int, stored: bytes | memoryview, where: str) -> None:
        """Decode a chunk of `size` rows to where they lie in `out`: from row `low`, which may be before its first."""
        high = low + size
        if low >= 0 and high <= len(out):
            self.root.schema.codec.decode(stored, out[low:high], where)
            return
        decoded = np.empty((size, *out.shape[1:]), out.dtype)
        self.root.schema.codec.decode(stored, decoded, where)
        low_in, high_in = max(0, low), min(len(out), high)
        out[low_in:high_in] = decoded[low_in - low : high_in - low]

    def _whole_shard(self, name: str, number: int, key: str, chunking: Chunking) -> bytes | None:
        """Return the bytes of the shard that a later commit may replace; None for all others."""
        if (number + 1) * chunking.shard <= self.root.counts.of(self.root.schema.axis(FACTS[name])):
            return None
        if name not in self._last:
            chunk = chunking.chunk * self.root.schema.rows(name).nbytes
            chunks = chunking.shard // chunking.chunk
            limit = chunks * (chunk + LARGEST_OVERHEAD) + shard.index_bytes(chunking)
            self._last[name] = self._get_whole(key, limit)
        return self._last[name]

    def _index(self, name: str, number: int, chunking: Chunking) -> tuple[NDArray[np.uint64], int]:
        """Return a shard's index and how many bytes its chunks take."""
        found = self._indexes.get((name, number))
        if found is None:
            key = chunk_key(name, number, 1 + len(self.root.schema.rows(name).shape))
            where = str(self.storage.path(key))
            whole = self._whole_shard(name, number, key, chunking)
            data = self._get_part(key, -shard.index_bytes(chunking), None) if whole is None else whole
            index = shard.decode_index(data, chunking, where)
            if whole is None:
                present = index[:, 0] != shard.ABSENT
                size = int(index[present].sum(axis=1).max(initial=0))
            else:
                size = len(whole) - shard.index_bytes(chunking)
            found = self._indexes[name, number] = index, size
        return found

    def _get_whole(self, key: str, limit: int) -> bytes:
        data = self._get_part(key, 0, limit + 1)
        if len(data) > limit:
            raise FormatError(f"{self.storage.path(key)}: larger than the {limit:,} bytes that it can need")
        return data

    def _get_part(self, key: str, start: int, length: int | None) -> bytes:
        try:
            return self.storage.get(key, start, length)
        except MissingStoreError as error:
            raise FormatError(
                f"{self.storage.path(key)}: missing; every committed chunk and shard is written, so it was lost"
            ) from error

    def _get(self, key: str, start: int, length: int) -> bytes:
        data = self._get_part(key, start, length)
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
