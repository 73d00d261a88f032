"""The commit protocol (SPEC.md, "Commits"): which sequences are registered, written to shards, and visible.

Sequences are registered in order. Rows that fill a shard become a job, which any process may run. A commit makes all
sequences visible whose rows are completely in shards that were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.places import StoreLocation, place_of
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage, Put, WritableStorage, in_order
from store_spec.errors import DAMAGE, ConflictError, FormatError, MissingStoreError, SchemaError
from store_spec.format import retired, shard
from store_spec.format.layout import OFFSETS, ROOT, Counts, Root, chunk_key
from store_spec.format.names import Classes, check_extended
from store_spec.format.records import Records
from store_spec.schema import MISSING_RUNS, ArrayFact, Schema

JOIN_RECORDS = 1024  # records are joined in groups of so many: separately they take six times the memory

REPAIR_FIRST = (
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
            with _advice_to_repair():
                old = [Snapshot(self.storage, self.root).encoded_rows(self.name, first, self.start)]
        shard_id = shard.ShardId(self.name, self.number)
        pieces = shard.encode([*old, *parts], shard_id, rows, chunking, schema.codec)
        key = chunk_key(schema, self.name, self.number)
        self.storage.put(key, pieces, check=self._check_uncommitted)
        return sum(map(len, pieces))

    def _check_uncommitted(self) -> None:
        """Refuse to replace committed rows: they are another writer's, as ours commits rows after this job is done."""
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


class Ledger:
    """A store that is open for writing by one writer. `create` and `open` return context managers.

    `committed` is the bytes of the last commit, None if there is none yet. `spilled` is a local folder for rows that do
    not fit into memory, until they are in shards; it exists while the ledger is open.
    """

    def __init__(self, path: Any, storage: WritableStorage, root: Root, committed: bytes | None, spilled: Path) -> None:
        self.path = path  # the name of the store in messages: a Path, or an Address
        self.spilled = spilled
        self.root = root  # the last commit
        self.provenance = dict(root.provenance)
        self._schema = root.schema  # of the next commit
        self._storage = storage
        self._committed = committed
        self._pending = [Records.empty(root.schema)]  # registered and not committed, joined in groups
        self._latest: list[Records] = []  # registered after these, and not joined yet
        self.waiting = 0  # sequences registered and not committed
        self.waiting_bytes = 0  # of their table rows
        arrays = [name for names in root.schema.sharded().values() for name in names]
        # By array, the row up to which rows are registered, in jobs, and written. `_ahead` has the jobs (start: stop)
        # that were done before earlier ones.
        self._registered = {name: root.committed(name) for name in arrays}
        self._in_jobs = dict(self._registered)
        self._written = dict(self._registered)
        self._ahead: dict[str, dict[int, int]] = {name: {} for name in arrays}
        self.retiring: set[int] = set()  # in the next commit
        self._replaced: dict[str, Sequence[int]] = {}

    @classmethod
    def create(
        cls, store: StoreLocation, schema: Schema, provenance: dict[str, Any] | None = None
    ) -> AbstractContextManager[Ledger]:
        """Start a new store. In a folder it appears with its first commit; on an object store it is there at once.

        Raises:
            StoreExistsError: Something is there already, or the path is inside another store.
            SchemaError: `provenance` is not JSON, or no store can be written there.
            LockedError: Another writer is creating the store.
        """
        ledger_class, where = _class_and_place(store)
        root = Root(schema=schema, provenance={} if provenance is None else provenance)
        root.encode()  # raises now what a commit would raise later
        ledger: AbstractContextManager[Ledger] = ledger_class.create_at(where, root)
        return ledger

    @classmethod
    def open(cls, store: StoreLocation) -> AbstractContextManager[Ledger]:
        """Open a store to append to it, and clean up after a writer that died.

        Raises:
            MissingStoreError: There is no store.
            LockedError: Another writer has the store open.
            FormatError: The store cannot be written to by this version, or its root is an older copy.
            SchemaError: No store can be written there.
        """
        ledger_class, where = _class_and_place(store)
        ledger: AbstractContextManager[Ledger] = ledger_class.open_at(where)
        return ledger

    @property
    def schema(self) -> Schema:
        """The schema of the store as of the next commit."""
        return self._schema

    @property
    def is_new(self) -> bool:
        """Whether there was no commit yet. No job may run during the first commit, because it moves the store."""
        return self._committed is None

    @property
    def sequences(self) -> int:
        """Sequences committed and registered."""
        return self.root.counts.sequences + self.waiting

    def snapshot(self) -> Snapshot:
        """Return the committed state."""
        return Snapshot(self._storage, self.root)

    def register(self, records: Records) -> None:
        """Add the next sequences; their rows follow those registered before."""
        self._latest.append(records)
        if len(self._latest) == JOIN_RECORDS:
            self._pending.append(Records.concatenate(self._latest))
            self._latest = []
        self.waiting += len(records)
        self.waiting_bytes += records.nbytes
        for name in self._registered:
            self._registered[name] += int(self._lengths(name, records).sum())

    def extend_classes(self, classes: Classes | None) -> None:
        """Replace the classes in the next commit: for each target the existing ones in their order, then new ones."""
        labels = replace(self._schema.labels, classes=classes)
        check_extended(self._schema.labels.classes, labels.classes)
        schema = replace(self._schema, labels=labels)
        replace(self.root, schema=schema).encode()  # raises now what a commit would raise later
        self._schema = schema

    def retire(self, numbers: Iterable[int]) -> None:
        """Retire these sequences in the next commit: its readers skip them."""
        self.retiring.update(numbers)

    def replace(self, source: str, numbers: Sequence[int]) -> None:
        """Retire old sequences of a source in the commit that makes its new ones visible."""
        self._replaced[source] = numbers

    def jobs(self, *, final: bool = False) -> list[ShardJob]:
        """Return a job for each shard that registered rows fill, each once; with `final` also for partial shards."""
        jobs, slim = [], replace(self.root, provenance={}, retired=())
        for name, registered in self._registered.items():
            chunking = self.schema.chunking(name)
            while (start := self._in_jobs[name]) < registered:
                number = start // chunking.shard
                stop = min((number + 1) * chunking.shard, registered)
                if stop % chunking.shard and not final:
                    break
                jobs.append(
                    ShardJob(storage=self._storage, root=slim, name=name, number=number, start=start, stop=stop)
                )
                self._in_jobs[name] = stop
        return jobs

    def mark_done(self, job: ShardJob) -> None:
        """Record that a shard was written."""
        ahead = self._ahead[job.name]
        ahead[job.start] = job.stop
        while self._written[job.name] in ahead:
            self._written[job.name] = ahead.pop(self._written[job.name])

    def ready(self) -> int:
        """Return how many sequences a commit would add: those whose rows are all in shards that were written."""
        pending = self._join_pending()
        covered = len(pending)
        for name, written in self._written.items():
            ends = self.root.committed(name) + np.cumsum(self._lengths(name, pending))
            covered = min(covered, int(np.searchsorted(ends, written, "right")))
        # The parts of a source become visible together.
        while 0 < covered < len(pending) and pending.sources[covered - 1] == pending.sources[covered]:
            covered -= 1
        return covered

    def commit(self) -> int:
        """Make visible all sequences that are completely in shards that were written; return how many readers see.

        Raises:
            ConflictError: Another process wrote to the store.
            StorageError: The disk reported an error; earlier commits are untouched.
        """
        pending, covered = self._join_pending(), self.ready()
        new = pending[:covered]
        counts = Counts(
            sequences=self.root.counts.sequences + covered,
            steps=self.root.counts.steps + int(new.lengths.sum()),
            label_steps=self.root.counts.label_steps + int(new.label_lengths.sum()),
            **{name: getattr(self.root.counts, name) + len(each.runs) for name, each in new.missing.items()},
        )
        replaced = [number for source in set(new.sources.tolist()) for number in self._replaced.pop(source, ())]
        root = replace(
            self.root,
            schema=self._schema,
            counts=counts,
            retired=retired.add(self.root.retired, [*replaced, *self.retiring]),
            identity=new.identity(self.root.identity, self.schema),
            provenance=self.provenance,
        )
        data = root.encode()
        if data != self._committed:
            self._write(new, root, data)
        self.root, self._committed, self._pending = root, data, [pending[covered:]]
        self.waiting, self.waiting_bytes = len(pending) - covered, pending[covered:].nbytes
        self.retiring.clear()
        return counts.sequences - retired.count(root.retired)

    def tidy(self) -> None:
        """Remove what a dead worker left unfinished. No job may be running."""

    def _write(self, new: Records, root: Root, data: bytes) -> None:
        """Write tables and root, in an order that leaves a valid store if it is interrupted at any point."""
        raise NotImplementedError

    def _join_pending(self) -> Records:
        """Join the records that are registered and not committed, and return them."""
        self._pending, self._latest = [Records.concatenate(self._pending + self._latest)], []
        return self._pending[0]

    def _put_tables(self, put: Put, new: Records) -> None:
        """Write the chunks of all tables that have new rows."""
        from store_spec.disk.zarr_arrays import put_rows  # here, because zarr takes 0.1 s to import

        tables = in_order(self._storage, partial(self._table, new), self.schema.arrays())
        for fact, first, rows in filter(None, tables):
            put_rows(put, self.schema, fact, first, rows)

    def _table(self, new: Records, fact: ArrayFact) -> tuple[ArrayFact, int, NDArray[Any]] | None:
        """Return the rows of a table to write, and the number of the first; None if there are none.

        The last chunk so far is replaced as a whole, so its rows come first.
        """
        rows = self._table_rows(fact, new)
        if rows is None or not len(rows):
            return None
        size = self.schema.chunking(fact.name).chunk
        before = 0 if self._committed is None else self.root.committed(fact.name)
        first = before - before % size
        if first < before:
            with _advice_to_repair():
                rows = np.concatenate([self.snapshot().table(fact.name, first, before), rows])
        return fact, first, rows

    def _table_rows(self, fact: ArrayFact, new: Records) -> NDArray[Any] | None:
        """Return the new rows of a table; None for arrays in shards."""
        if fact.name in new.columns:
            return new.columns[fact.name]
        array = "labels" if fact.name in ("label_offsets", MISSING_RUNS["labels"]) else "inputs"
        lengths = self._lengths(array, new)
        ends = self.root.committed(array) + np.cumsum(lengths)
        if fact.name in OFFSETS:
            return ends if self._committed is not None else np.concatenate([np.zeros(1, np.int64), ends])
        if fact.name in new.missing:
            return new.missing[fact.name].shifted(ends - lengths)
        return None

    def _lengths(self, array: str, records: Records) -> NDArray[np.int64]:
        """Return how many rows each sequence has in an array."""
        axis = self.schema.axis(self.schema.fact(array))
        if axis == "sequence":
            return np.ones(len(records), np.int64)
        return records.label_lengths if axis == "label_step" else records.lengths


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

    def check() -> None:
        if Snapshot.of(storage).root.counts != snapshot.root.counts:
            raise ConflictError(f"{storage.root}: a writer committed meanwhile; nothing was put: check it again")

    storage.put(key, pieces, check)
    storage.sync([name])
    return key


@contextmanager
def _advice_to_repair() -> Iterator[None]:
    """Add advice to the error if old rows of a file cannot be read: no rows can be added to it before a repair."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{error}{REPAIR_FIRST}") from error


def _class_and_place(store: StoreLocation) -> tuple[Any, Any]:
    """Return the class of the ledger for a store, and the first argument of its `create_at` and `open_at`."""
    if getattr(store, "read_only", False):
        raise SchemaError(f"{store}: was opened for reading only")
    place = place_of(store)
    if isinstance(place, Path):
        from store_spec.disk.local_ledger import LocalLedger

        return LocalLedger, place
    from store_spec.disk.object_ledger import ObjectLedger  # here, because zarr takes 0.1 s to import
    from store_spec.disk.object_storage import writable_objects

    return ObjectLedger, writable_objects(place)
