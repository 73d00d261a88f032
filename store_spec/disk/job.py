"""A shard to be put: what the ledger hands out, and any process may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.errors import DAMAGE, ConflictError, FormatError, MissingStoreError
from store_spec.format import shard
from store_spec.format.layout import ROOT, Root, chunk_key

ADD_NOTHING = (
    "; new rows follow in that file, so nothing was added: restore it first (seqzarr verify STORE --sources SOURCES "
    "--repair), or build again into a new store"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """One shard to be put: rows `start` to `stop` of an array, after those that are committed in it already."""

    folder: Path
    root: Root
    name: str
    number: int
    start: int
    stop: int

    def write(self, parts: Sequence[NDArray[Any] | shard.Stretch], threads: int = 1) -> int:
        """Encode and put the shard; `parts` are its new rows, one array after another. Return the bytes put.

        Safe to do twice, in two processes at once: each puts the same bytes, whole.

        Raises:
            ConflictError: Another writer, without the lock, committed rows that this would replace.
        """
        schema = self.root.schema
        chunking, rows = schema.chunking(self.name), schema.rows(self.name)
        given = sum(map(len, parts))
        if given != self.stop - self.start:
            raise ValueError(f"shard {self.number} of {self.name}: {given:,} rows for {self.stop - self.start:,}")
        storage, first = LocalStorage(self.folder), self.number * chunking.shard
        with needed():
            kept = [Snapshot(storage, self.root).stretch(self.name, first, self.start)] if first < self.start else []
        place = shard.Place(self.name, self.number)
        pieces = shard.encode([*kept, *parts], place, rows, chunking, schema.codec, threads=threads)
        self._check_uncommitted(storage)
        storage.put(chunk_key(self.name, self.number, 1 + len(rows.shape)), pieces)
        return sum(map(len, pieces))

    def _check_uncommitted(self, storage: LocalStorage) -> None:
        """Refuse to replace what others committed. Our own ledger commits no row before its shard was put."""
        try:
            root = Root.decode(storage.get(ROOT), str(storage.path(ROOT)))
        except MissingStoreError:
            return  # a store that has no commit yet
        committed = root.committed(self.name)
        if committed > self.start:
            raise ConflictError(
                f"{storage.path(self.name)}: rows from {self.start:,} were to be put, but {committed:,} are committed: "
                "another writer, without the lock, was faster; open the store again"
            )


def replace_shard(snapshot: Snapshot, name: str, number: int, rows: NDArray[Any]) -> bool:
    """Put a shard again, given all its committed rows, and sync it; tell whether it was another file before.

    Raises:
        ConflictError: A writer committed more rows meanwhile. The lock keeps writers out; this is for a process that
            outlives the one that holds it.
    """
    schema, storage = snapshot.root.schema, LocalStorage(snapshot.storage.root)
    place, key = shard.Place(name, number), chunk_key(name, number, rows.ndim)
    pieces = shard.encode([rows], place, schema.rows(name), schema.chunking(name), schema.codec)
    with suppress(*DAMAGE):
        if storage.get(key) == b"".join(pieces):
            return False
    if Snapshot.of(storage).root.counts != snapshot.root.counts:
        raise ConflictError(f"{storage.root}: a writer committed meanwhile; nothing was put: check it again")
    storage.put(key, pieces)
    storage.sync([name])
    return True


@contextmanager
def needed() -> Iterator[None]:
    """Say of rows that cannot be read that others have to follow them in the same file."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{error}{ADD_NOTHING}") from error
