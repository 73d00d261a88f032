"""Read the tables, which are arrays that are not in shards, and other files that a commit has counted."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.storage import Storage, in_order
from store_spec.errors import FormatError, MissingStoreError
from store_spec.format.codec import LARGEST_OVERHEAD, LARGEST_RATIO, LARGEST_TEXT_BYTES, decode_text
from store_spec.format.layout import BOUNDS, ROOT, Root, chunk_key
from store_spec.format.runs import Ints
from store_spec.schema import TABLE_CHUNK_BYTES, ArrayFact

KEPT_BYTES = 2**24  # of the tables of a remote store, as they are stored


class Tables:
    """The tables of one committed state: rows beyond its counts are ignored."""

    def __init__(self, storage: Storage, root: Root) -> None:
        self.storage, self.root = storage, root
        self._bounds: dict[str, Ints] = {}  # by axis
        self._kept: dict[tuple[str, int], bytes | memoryview] = {}  # remote chunks as stored, by table and number
        self.reads = 0  # how many remote chunks were read

    def bounds(self, name: str) -> Ints:
        """Return the offsets of the sequences in an array of their rows, such as `inputs`: int64 (sequences + 1,).

        They are checked: sequence i has the rows bounds[i] to bounds[i + 1].
        """
        axis = self.root.schema.axis(self.root.schema.fact(name))
        bounds = self._bounds.get(axis)
        if bounds is None:
            if axis == "sequence":
                bounds = np.arange(len(self.bounds("inputs")))  # the number of offsets has been checked
            else:
                bounds = self.check_offsets(axis, *self.read_all(BOUNDS[axis]))
            self._bounds[axis] = read_only(bounds)  # another thread may clear this, so `bounds` is returned
        return bounds

    def read_all(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> list[NDArray[Any]]:
        """Return rows of several tables, by default all committed ones; a remote store is asked for all at once."""
        due = [self._chunks(name, start, stop) for name in names]
        chunks = ((fact, number) for fact, numbers in due for number in numbers)
        stored = in_order(self.storage, lambda chunk: self._stored_or_kept(*chunk), chunks)
        if self.storage.requests > 1:
            stored = iter(list(stored))
        tables = []
        for fact, numbers in due:
            size = self.root.schema.chunking(fact.name).chunk
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
        stop, size = self._stop(fact, stop), self.root.schema.chunking(fact.name).chunk
        first, last = start // size, -(-stop // size)
        numbers = range(first, last if stop > start else first)
        if self.storage.requests == 1 and numbers:
            check_count(self.storage, name, last, "chunks")
        if self.root.schema.chunk_bytes(name) > TABLE_CHUNK_BYTES:  # chunks of one wide row
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
            data = self.stored(fact, number)
            self.reads += 1
            if sum(map(len, list(self._kept.values()))) + len(data) > KEPT_BYTES:
                self._kept.clear()
            if len(data) <= KEPT_BYTES:
                self._kept[key] = data
        return data

    def forget(self) -> None:
        """Drop the bounds and chunks that were kept, so that they are read again."""
        self._bounds.clear()
        self._kept.clear()

    def check_size(self, fact: ArrayFact, number: int) -> None:
        """Check the stored size of a chunk that is larger than usual."""
        decoded = self.root.schema.chunk_bytes(fact.name)
        if decoded > TABLE_CHUNK_BYTES:  # one wide row
            key = chunk_key(self.root.schema, fact.name, number)
            size = self.storage.size(key)
            if size not in stored_sizes(decoded):
                raise wrong_size(str(self.storage.path(key)), size, decoded)

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
        limit = LARGEST_TEXT_BYTES if fact.dtype == "string" else self.root.schema.chunk_bytes(fact.name)
        return get_whole(self.storage, chunk_key(self.root.schema, fact.name, number), limit + LARGEST_OVERHEAD)

    def check_offsets(self, axis: str, offsets: Ints, sizes: Ints) -> Ints:
        """Check that offsets begin with 0, never decrease, end with the last row, and agree with `sizes`; return them.

        `axis` is that of the rows: see `BOUNDS`.
        """
        (name, sizes_name), last = BOUNDS[axis], self.root.counts.of(axis)
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


def read_only(array: Ints) -> Ints:
    """Make a cached array read-only, because later reads depend on it; return it."""
    array.setflags(write=False)
    return array


def check_count(storage: Storage, name: str, due: int, what: str) -> None:
    """Check that an array has as many files as are committed, before memory is allocated by their number."""
    present = sum(file != ROOT for file in storage.list(name))
    if present < due:
        raise FormatError(f"{storage.path(name)}: {present:,} {what} where {due:,} are committed; some were lost")


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


def stored_sizes(decoded: int) -> range:
    """Return the possible stored sizes of a chunk from its decoded size."""
    return range(decoded // LARGEST_RATIO, decoded + LARGEST_OVERHEAD + 1)


def wrong_size(where: str, size: int, decoded: int) -> FormatError:
    """Return the error for a chunk whose stored size is impossible by the schema."""
    possible = stored_sizes(decoded)
    return FormatError(
        f"{where}: a chunk of {size:,} stored bytes; one of {decoded:,} decoded bytes has {possible[0]:,} to "
        f"{possible[-1]:,}"
    )


def missing_file(storage: Storage, key: str) -> FormatError:
    """Return the error for a missing file with committed rows."""
    return FormatError(f"{storage.path(key)}: missing; every committed chunk and shard is written, so it was lost")
