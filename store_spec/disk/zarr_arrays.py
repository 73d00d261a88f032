"""Where zarr is used: a committed state as groups and arrays to read, and the chunks of tables to write."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.storage import MemoryStore, StorePath

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import Put
from store_spec.disk.tables import part_of
from store_spec.format.layout import ROOT, Root, array_document, chunk_key, chunk_number
from store_spec.lazy_property import lazy_property
from store_spec.schema import GROUPS, ArrayFact, Schema


class SnapshotStore(Store):
    """The documents and the chunks of a committed state, regardless of later commits.

    A missing chunk is an error; with other zarr stores, zarr takes fill values for it.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__(read_only=True)
        self._snapshot = snapshot

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SnapshotStore) and self._state == other._state

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return str(self._snapshot.storage.root)

    def __repr__(self) -> str:
        return f"SnapshotStore({str(self)!r})"

    @property
    def _state(self) -> tuple[Any, Root]:
        return self._snapshot.storage.root, self._snapshot.root

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the value of a key, or a range of it; None for a key that the state does not have."""
        start, length = _start_and_length(byte_range)
        # In another thread: this may read from another zarr store, which needs the event loop that is running here.
        data = await asyncio.to_thread(self._get, key, start, length)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return some values, or ranges of them."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Return whether the state has a key."""
        return key in self._documents or self._chunk(key) is not None

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002  # zarr's signature
        """Refuse to write anything."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse to delete anything."""
        raise NotImplementedError(f"{self}/{key}: nothing is deleted through zarr")

    async def list(self) -> AsyncIterator[str]:
        """Yield every key of the state."""
        for key in self._keys(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with `prefix`."""
        for key in self._keys(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder, each once."""
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in dict.fromkeys(key.removeprefix(folder).partition("/")[0] for key in self._keys(folder)):
            yield name

    def _get(self, key: str, start: int, length: int | None) -> bytes | memoryview | None:
        if key in self._documents:
            return part_of(self._documents[key], start, length)
        chunk = self._chunk(key)
        if chunk is None:
            return None
        data = self._snapshot.stored(*chunk, start, length)
        self._snapshot.check_not_replaced()
        return data

    @lazy_property
    def _documents(self) -> dict[str, bytes]:
        """The metadata documents by key, computed from the root."""
        root = self._snapshot.root
        return {ROOT: root.encode()} | root.documents()

    def _chunk(self, key: str) -> tuple[str, int] | None:
        """Return the array and the number of a chunk or shard with committed rows."""
        name, _, file = key.rpartition("/")
        root = self._snapshot.root
        number = chunk_number(root.schema, name, file) if name in root.schema.folders() and name not in GROUPS else None
        return None if number is None or number >= root.files(name) else (name, number)

    def _keys(self, prefix: str) -> Iterator[str]:
        root = self._snapshot.root
        arrays = ((fact.name, range(root.files(fact.name))) for fact in root.schema.arrays())
        chunks = (chunk_key(root.schema, name, number) for name, numbers in arrays for number in numbers)
        return (key for key in chain(self._documents, chunks) if key.startswith(prefix))


def put_rows(put: Put, schema: Schema, fact: ArrayFact, first: int, rows: NDArray[Any]) -> None:
    """Write the chunks of a table from row `first` on, the first row of a chunk; the last chunk may be partial.

    zarr encodes the chunks in memory, so that an exception while writing, or Ctrl-C, does not reach zarr's event loop.
    """
    size = schema.chunking(fact.name).chunk
    document: Any = array_document(schema, fact, Root(schema=schema).counts)
    document["shape"][0] = first + len(rows)
    chunks = dict[str, Buffer]()
    place = StorePath(MemoryStore(chunks), fact.name)
    # Chunks of zeros are written too, so that a missing chunk always means a lost one.
    array = zarr.Array[Any](zarr.AsyncArray(document, place, {"write_empty_chunks": True}))
    for start in range(0, len(rows), size):
        array[first + start : first + start + size] = rows[start : start + size]
        while chunks:
            key, chunk = chunks.popitem()
            put(key, [chunk.as_numpy_array().data])


def _start_and_length(byte_range: ByteRequest | None) -> tuple[int, int | None]:
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.start, byte_range.end - byte_range.start
    if isinstance(byte_range, SuffixByteRequest):
        return -byte_range.suffix, None
    return (byte_range.offset if isinstance(byte_range, OffsetByteRequest) else 0), None
