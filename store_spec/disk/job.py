"""Jobs of writing one shard, which the ledger creates and any process may run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage, WritableStorage
from store_spec.errors import DAMAGE, ConflictError, FormatError, MissingStoreError
from store_spec.format import shard
from store_spec.format.layout import ROOT, Root, chunk_key

ADD_NOTHING = (
    "; new rows follow in that file, so nothing was added: restore it first (seqzarr verify STORE --sources SOURCES "
    "--repair), or build again into a new store"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """Write one shard: rows `start` to `stop` of an array, after the rows that are already committed in the shard."""

    storage: WritableStorage
    root: Root
    name: str
    number: int
    start: int
    stop: int

    def write(self, parts: Sequence[NDArray[Any] | shard.EncodedRows]) -> int:
        """Encode and write the shard; `parts` are its new rows. Return the number of bytes written.

        Two processes may write the same shard, even at the same time: each puts the same bytes in one step.

        Raises:
            ConflictError: Another writer, without the lock, committed rows that this would replace.
        """
        schema = self.root.schema
        chunking, rows = schema.chunking(self.name), schema.rows(self.name)
        count = sum(map(len, parts))
        if count != self.stop - self.start:
            raise ValueError(f"shard {self.number} of {self.name}: {count:,} rows for {self.stop - self.start:,}")
        first = self.number * chunking.shard
        old = []
        if first < self.start:
            with advice_to_repair():
                old = [Snapshot(self.storage, self.root).encoded_rows(self.name, first, self.start)]
        shard_id = shard.ShardId(self.name, self.number)
        pieces = shard.encode([*old, *parts], shard_id, rows, chunking, schema.codec)
        key = chunk_key(schema, self.name, self.number)
        self.storage.put(key, pieces, check=self._check_uncommitted)
        return sum(map(len, pieces))

    def _check_uncommitted(self) -> None:
        """Refuse to replace rows that others committed. Our own ledger commits no row before its shard is written."""
        storage = self.storage
        try:
            root = Root.decode(bytes(storage.get(ROOT)), str(storage.path(ROOT)))
        except MissingStoreError:
            return  # the store has no commit yet
        committed = root.committed(self.name)
        if committed > self.start:
            raise ConflictError(
                f"{storage.path(self.name)}: rows from {self.start:,} were to be put, but {committed:,} are committed: "
                "another writer, without the lock, was faster; open the store again"
            )


def replace_shard(snapshot: Snapshot, name: str, number: int, rows: NDArray[Any]) -> str | None:
    """Write a shard with all its committed rows and sync it; return its key, or None if it was the same before.

    Raises:
        ConflictError: A writer committed more rows meanwhile. The lock keeps writers out; this is for a process that
            outlives the one that holds it.
    """
    schema, storage = snapshot.root.schema, LocalStorage(Path(snapshot.storage.root))
    shard_id, key = shard.ShardId(name, number), chunk_key(schema, name, number)
    pieces = shard.encode([rows], shard_id, schema.rows(name), schema.chunking(name), schema.codec)
    with suppress(*DAMAGE):
        if storage.get(key) == b"".join(pieces):
            return None
    if Snapshot.of(storage).root.counts != snapshot.root.counts:
        raise ConflictError(f"{storage.root}: a writer committed meanwhile; nothing was put: check it again")
    storage.put(key, pieces)
    storage.sync([name])
    return key


@contextmanager
def advice_to_repair() -> Iterator[None]:
    """Add to the error, if old rows of a file cannot be read, that new rows cannot follow them before a repair."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{error}{ADD_NOTHING}") from error
