"""Read the tables, which are arrays that are not in shards, and other files that a commit has counted."""

import math
from collections.abc import Iterable
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.storage import Storage, in_order
from store_spec.errors import FormatError, MissingStoreError
from store_spec.format.codec import LARGEST_OVERHEAD, LARGEST_RATIO, LARGEST_TEXT_BYTES, decode_text
from store_spec.format.layout import ROOT, Root, chunk_key, table_chunk
from store_spec.schema import TABLE_CHUNK_BYTES, ArrayFact

KEPT_BYTES = 2**24  # of the tables of a remote store, as they are stored


class Tables:
    """The tables of one committed state: rows beyond its counts are ignored."""

    def __init__(self, storage: Storage, root: Root) -> None:
        self.storage, self.root = storage, root
        self._kept: dict[tuple[str, int], bytes | memoryview] = {}  # remote chunks as stored, by table and number
        self.has_new = False  # whether remote chunks were read since `Snapshot.check_not_replaced`

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Int64 (sequences + 1,), checked: sequence i has the rows offsets[i] to offsets[i + 1]."""
        return read_only(self._offsets("offsets", "row_size", self.root.counts.steps))

    @cached_property
    def label_offsets(self) -> NDArray[np.int64]:
        """The same for `labels`, whatever their axis."""
        axis = self.root.schema.label_axis
        if axis == "step":
            return self.offsets
        if axis == "sequence":
            return read_only(np.arange(len(self.offsets)))  # the number of offsets has been checked
        return read_only(self._offsets("label_offsets", "label_row_size", self.root.counts.label_steps))

    def bounds(self, name: str) -> NDArray[np.int64]:
        """Return the offsets of the sequences in an array of their rows, such as `inputs`: int64 (sequences + 1,)."""
        return self.label_offsets if name == "labels" else self.offsets

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of a table, by default all committed ones."""
        return self.read_all([name], start, stop)[0]

    def read_all(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> list[NDArray[Any]]:
        """Return rows of several tables, by default all committed ones; a remote store is asked for all at once."""
        due = [self._chunks(name, start, stop) for name in names]
        chunks = ((fact, number) for fact, numbers in due for number in numbers)
        stored = in_order(self.storage, lambda chunk: self._stored_or_kept(*chunk), chunks)
        if self.storage.requests > 1:
            stored = iter(list(stored))
        tables = []
        for fact, numbers in due:
            size = table_chunk(self.root.schema, fact)
            out = np.empty((len(numbers) * size, *self.root.schema.shape(fact)), self.root.schema.dtype(fact))
            for at, (number, data) in enumerate(zip(numbers, stored, strict=False)):  # takes only its own chunks
                self.decode_chunk(fact, number, data, out[at * size : (at + 1) * size])
            low = start - numbers.start * size
            tables.append(out[low : low + self._stop(fact, stop) - start] if numbers else out)
        return tables

    def _stop(self, fact: ArrayFact, stop: int | None) -> int:
        return self.root.committed(fact.name) if stop is None else stop

    def _chunks(self, name: str, start: int, stop: int | None) -> tuple[ArrayFact, range]:
        """Return a table and the numbers of its chunks with some rows, after checking that these chunks can exist.

        A malicious root may count more rows than there are, or larger ones, and memory is allocated for the chunks.
        """
        fact = self.root.schema.fact(name)
        stop, size = self._stop(fact, stop), table_chunk(self.root.schema, fact)
        first, last = start // size, -(-stop // size)
        numbers = range(first, last if stop > start else first)
        if self.storage.requests == 1 and numbers:
            present = sum(file != ROOT for file in self.storage.list(name))
            if present < last:
                raise FormatError(
                    f"{self.storage.path(name)}: {present:,} chunks where {last:,} are committed; some were lost"
                )
        if self._decoded_bytes(fact) > TABLE_CHUNK_BYTES:  # chunks of one wide row
            for _ in in_order(self.storage, partial(self.check_size, fact), numbers):
                pass
        return fact, numbers

    def _stored_or_kept(self, fact: ArrayFact, number: int) -> bytes | memoryview:
        """Return the stored bytes of a chunk; those of a remote store are kept for the next read."""
        if self.storage.requests == 1:
            return self.stored(fact, number)
        key = fact.name, number
        data = self._kept.get(key)
        if data is None:
            data, self.has_new = self.stored(fact, number), True
            if sum(map(len, list(self._kept.values()))) + len(data) > KEPT_BYTES:
                self._kept.clear()
            if len(data) <= KEPT_BYTES:
                self._kept[key] = data
        return data

    def forget(self) -> None:
        """Drop the chunks that were kept, so that they are read again."""
        self._kept.clear()

    def check_size(self, fact: ArrayFact, number: int) -> None:
        """Check the stored size of a chunk that is larger than usual."""
        decoded = self._decoded_bytes(fact)
        if decoded > TABLE_CHUNK_BYTES:  # one wide row
            key = chunk_key(self.root.schema, fact.name, number)
            least, most = decoded // LARGEST_RATIO, decoded + LARGEST_OVERHEAD
            size = self.storage.size(key)
            if not least <= size <= most:
                raise wrong_size(str(self.storage.path(key)), size, least, most, decoded)

    def decode_chunk(self, fact: ArrayFact, number: int, stored: bytes | memoryview, out: NDArray[Any]) -> None:
        """Decode the stored bytes of one chunk into `out`."""
        where = str(self.storage.path(chunk_key(self.root.schema, fact.name, number)))
        text = fact.dtype == "string"
        codec = self.root.schema.codec_of(fact)
        if text:
            out[:] = decode_text(codec.decode_bytes(stored, LARGEST_TEXT_BYTES, where), len(out), where)
        else:
            codec.decode(stored, out, where)
            committed = out[: max(0, self.root.committed(fact.name) - number * len(out))]
            if out.dtype == bool and (committed.view(np.uint8) > 1).any():
                # NumPy miscounts such a mask, and selecting by it then goes out of bounds.
                raise FormatError(f"{where}: a bool of {committed.view(np.uint8).max()}, where 0 or 1 is due")

    def stored(self, fact: ArrayFact, number: int) -> bytes | memoryview:
        """Return the bytes of one chunk as they are stored."""
        limit = LARGEST_TEXT_BYTES if fact.dtype == "string" else self._decoded_bytes(fact)
        return get_whole(self.storage, chunk_key(self.root.schema, fact.name, number), limit + LARGEST_OVERHEAD)

    def _decoded_bytes(self, fact: ArrayFact) -> int:
        schema = self.root.schema
        return table_chunk(schema, fact) * schema.dtype(fact).itemsize * math.prod(schema.shape(fact))

    def check_offsets(
        self, name: str, offsets: NDArray[np.int64], sizes_name: str, sizes: NDArray[np.int64], last: int
    ) -> NDArray[np.int64]:
        """Check that offsets begin with 0, never decrease, end with `last`, and agree with `sizes`; return them."""
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

    def _offsets(self, name: str, sizes_name: str, last: int) -> NDArray[np.int64]:
        offsets, sizes = self.read_all([name, sizes_name])
        return self.check_offsets(name, offsets, sizes_name, sizes, last)


def read_only(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make a cached array read-only, because later reads depend on it; return it."""
    array.setflags(write=False)
    return array


def get_whole(storage: Storage, key: str, limit: int) -> bytes | memoryview:
    """Return all bytes of a file that must have at most `limit` bytes; a missing file is a FormatError."""
    data = get_part(storage, key, 0, limit + 1)
    if len(data) > limit:
        raise FormatError(f"{storage.path(key)}: larger than the {limit:,} bytes that it can need")
    return data


def get_part(storage: Storage, key: str, start: int, length: int | None) -> bytes | memoryview:
    """Return bytes of a file, as `LocalStorage.get` does; a missing file is a FormatError."""
    try:
        return storage.get(key, start, length)
    except MissingStoreError as error:
        raise missing_file(storage, key) from error


def part_of(data: bytes | memoryview, start: int, length: int | None) -> bytes | memoryview:
    """Return bytes of data in memory, as `LocalStorage.get` does."""
    first = start if start >= 0 else max(0, len(data) + start)
    return data[first:] if length is None else data[first : first + max(0, length)]


def wrong_size(where: str, size: int, least: int, most: int, decoded: int) -> FormatError:
    """Return the error for a chunk whose stored size is impossible by the schema."""
    if size > most:
        return FormatError(f"{where}: a chunk of {size:,} stored bytes; it cannot have more than {most:,}")
    return FormatError(
        f"{where}: a chunk of {size:,} stored bytes cannot hold the {decoded:,} that the schema gives; "
        f"it has at least {least:,}"
    )


def missing_file(storage: Storage, key: str) -> FormatError:
    """Return the error for a missing file with committed rows."""
    return FormatError(f"{storage.path(key)}: missing; every committed chunk and shard is written, so it was lost")
