"""The commit protocol (SPEC.md, "Commits"): which sequences are registered, written to shards, and visible.

Sequences are registered in order. Rows that fill a shard become a job, which any process may do. A commit makes all
sequences visible whose rows are completely in shards that were written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.job import ShardJob, advice_to_repair
from store_spec.disk.lock import folder_locked, locked
from store_spec.disk.snapshot import Snapshot, check_root
from store_spec.disk.storage import LocalStorage, check_local, check_outside, remove_tree, sync_folder
from store_spec.errors import ConflictError, MissingStoreError, StorageError, StoreExistsError
from store_spec.format import retired
from store_spec.format.class_names import Classes, check_extended
from store_spec.format.documents import encode_document, group_document, tables_document
from store_spec.format.layout import ROOT, Counts, Root, array_document, chunk_number, table_chunk
from store_spec.format.records import SOURCES, Records, no_records
from store_spec.schema import GROUPS, MISSING_RUNS, TABLES, ArrayFact, Schema

NEW = "new"  # the store in the build folder, until its first commit
JOIN_RECORDS = 1024  # so many records are joined: kept one by one they take six times the memory
SPILLED = "spilled"  # the folder of rows that do not fit into memory, until they are in shards


class Ledger:
    """A store that is open for writing, under its lock. Use it as a context manager."""

    def __init__(self, path: Path, storage: LocalStorage, root: Root, committed: bytes | None, beside: Path) -> None:
        self.path = path
        # The folder for rows that do not fit into memory; it is removed when a ledger is opened or closed.
        self.spilled = beside / SPILLED
        self.root = root
        self.provenance = dict(root.provenance)
        self._schema = root.schema  # of the next commit
        self._storage = storage
        self._committed = committed  # the bytes of the last root; None: no commit yet
        self._pending = [no_records(root.schema)]  # registered and not committed
        self._latest: list[Records] = []  # the last of these, not joined yet
        self.waiting = 0  # sequences registered and not committed
        arrays = [name for names in root.schema.sharded().values() for name in names]
        # Rows by array: registered, part of a job, and written without a gap; `ahead`: jobs done before earlier ones.
        self._registered = {name: root.committed(name) for name in arrays}
        self._in_jobs = dict(self._registered)
        self._written = dict(self._registered)
        self._ahead: dict[str, dict[int, int]] = {name: {} for name in arrays}
        self._retiring: set[int] = set()
        self._replaced: dict[str, Sequence[int]] = {}

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: Path, schema: Schema, provenance: dict[str, Any] | None = None) -> Iterator[Ledger]:
        """Start a new store. It appears at `path` with its first commit.

        Raises:
            StoreExistsError: Something is at that path already, or the path is inside another store.
            SchemaError: `provenance` is not JSON, or the path is a URL.
            LockedError: Another writer is creating the store.
        """
        check_local(path)
        check_outside(path)
        path = path.absolute()  # the caller may change to another folder before the commit
        root = Root(schema=schema, provenance={} if provenance is None else provenance)
        root.encode()  # raises now what a commit would raise later
        with locked(path) as folder:
            if path.exists() or path.is_symlink():
                raise StoreExistsError(f"{path}: something is there already; remove it, or open it with mode='a'")
            new = folder / NEW
            remove_tree(new)
            remove_tree(folder / SPILLED)
            storage = LocalStorage(new)
            for key in ("", *schema.folders()):
                storage.make_folder(key)
            for name in GROUPS:
                storage.put(f"{name}/{ROOT}", [encode_document(group_document())])
            try:
                with folder_locked(new):  # the lock stays when the folder is renamed
                    yield cls(path, storage, root, None, folder)
            finally:
                remove_tree(new)
                remove_tree(folder / SPILLED)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[Ledger]:
        """Open a store to append to it, and clean up after a writer that died.

        Raises:
            MissingStoreError: There is no store at that path.
            LockedError: Another writer has the store open.
            FormatError: The store cannot be written to by this version, or its root is an older copy.
            SchemaError: The path is a URL.
        """
        check_local(path)
        path = path.absolute()
        if not path.is_dir():
            raise MissingStoreError(f"{path}: there is no store; create it first")
        with locked(path) as folder, cls.under_lock(path, folder) as ledger:
            yield ledger

    @classmethod
    @contextlib.contextmanager
    def under_lock(cls, path: Path, folder: Path) -> Iterator[Ledger]:
        """Open a store like `open`; the caller holds the lock, which is in `folder`.

        Raises:
            MissingStoreError: There is no store at that path.
            FormatError: The store cannot be written to by this version, or its root is an older copy.
        """
        path = path.absolute()
        remove_tree(folder / NEW)
        remove_tree(folder / SPILLED)
        storage = LocalStorage(path)
        try:
            data = storage.get(ROOT)
        except MissingStoreError as error:
            raise MissingStoreError(f"{path}: a folder without {ROOT}: no store") from error
        # An earlier writer may have died before its commit was synced, and this writer builds on that commit.
        storage.sync([""])
        sync_folder(path.parent)
        snapshot = Snapshot.open(path)
        check_root(snapshot)
        ledger = cls(path, storage, snapshot.root, data, folder)
        ledger._recover()
        try:
            yield ledger
        finally:
            remove_tree(folder / SPILLED)

    @property
    def schema(self) -> Schema:
        """The schema of the store as of the next commit."""
        return self._schema

    @property
    def is_new(self) -> bool:
        """Whether there was no commit yet. The first commit moves the store, so no job may be running then."""
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
        for name, lengths in self._lengths(records).items():
            self._registered[name] += int(lengths.sum())

    def extend_classes(self, classes: Classes | None) -> None:
        """Add classes in the next commit; existing classes keep their numbers.

        Args:
            classes: For each target all of its classes: the existing ones, then the new ones.

        Raises:
            SchemaError: An existing class is missing or has another number.
        """
        labels = replace(self._schema.labels, classes=classes)
        check_extended(self._schema.labels.classes, labels.classes)
        schema = replace(self._schema, labels=labels)
        replace(self.root, schema=schema).encode()  # raises now what a commit would raise later
        self._schema = schema

    def retire(self, numbers: Iterable[int]) -> None:
        """Retire these sequences in the next commit: its readers skip them."""
        self._retiring.update(numbers)

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
                    ShardJob(folder=self._storage.root, root=slim, name=name, number=number, start=start, stop=stop)
                )
                self._in_jobs[name] = stop
        return jobs

    def mark_done(self, job: ShardJob) -> None:
        """Record that a shard was written."""
        ahead = self._ahead[job.name]
        ahead[job.start] = job.stop
        while self._written[job.name] in ahead:
            self._written[job.name] = ahead.pop(self._written[job.name])

    def tidy(self) -> None:
        """Remove partial files that a dead worker left. No job may be running."""
        for key in ("", *self.schema.folders()):
            self._storage.delete_partial(key)

    def ready(self) -> int:
        """Return how many sequences a commit would add: those that are completely in shards that were written."""
        pending = self._join_pending()
        covered = len(pending)
        for name, lengths in self._lengths(pending).items():
            ends = self.root.committed(name) + np.cumsum(lengths)
            covered = min(covered, int(np.searchsorted(ends, self._written[name], "right")))
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
        replaced = [number for source in set(new.sources) for number in self._replaced.pop(source, ())]
        root = replace(
            self.root,
            schema=self._schema,
            counts=counts,
            retired=retired.add(self.root.retired, [*replaced, *self._retiring]),
            identity=new.identity(self.root.identity, self.schema),
            provenance=self.provenance,
        )
        data = root.encode()
        if data != self._committed:
            self._write(new, root, data)
        self.root, self._committed, self._pending = root, data, [pending[covered:]]
        self.waiting = len(pending) - covered
        self._retiring.clear()
        return counts.sequences - retired.count(root.retired)

    def _write(self, new: Records, root: Root, data: bytes) -> None:
        """Write tables and root, in an order that leaves a valid store if it is interrupted at any point."""
        self._check_root()  # before the last chunks of the tables are replaced
        for fact in self.schema.arrays():
            self._put_table(fact, new)
        folders = ["", *self.schema.folders()]
        if self._committed is None:
            self._put_documents(root)
            self._storage.put(ROOT, [data])
            self._storage.sync(folders)
            self._appear()
            return
        self._storage.sync(folders)
        self._check_root()
        self._storage.put(ROOT, [data])
        self._storage.sync([""])
        self._put_documents(root)

    def _join_pending(self) -> Records:
        """Join the records that are registered and not committed, and return them."""
        self._pending, self._latest = [Records.concatenate(self._pending + self._latest)], []
        return self._pending[0]

    def _check_root(self) -> None:
        if self._committed is not None and self._storage.get(ROOT) != self._committed:
            raise ConflictError(f"{self.path}: another writer, without the lock, committed meanwhile; open it again")

    def _appear(self) -> None:
        """Give the new store its name: the first commit."""
        try:
            if self.path.exists():
                raise StoreExistsError(f"{self.path}: something appeared there meanwhile; nothing of it was touched")
            self._storage.root.rename(self.path)
        except OSError as error:
            if isinstance(error, StoreExistsError):
                raise
            raise StorageError(error.errno, f"{self.path}: naming the new store failed: {error.strerror}") from error
        sync_folder(self.path.parent)
        self._storage = LocalStorage(self.path)

    def _put_documents(self, root: Root) -> list[str]:
        """Refresh the arrays' own metadata, for readers that skip the root.

        Offsets come last, so that no such reader sees more than the other arrays have.

        Returns:
            The folders in which something changed; they are not synced yet.
        """
        last = ("label_offsets", "offsets")
        facts = sorted(self.schema.arrays(), key=lambda fact: (fact.name in last, fact.name))
        documents = {f"{name}/{ROOT}": group_document() for name in GROUPS}
        documents[f"{TABLES}/{ROOT}"] = tables_document(retired.count(root.retired))
        documents |= {f"{fact.name}/{ROOT}": array_document(self.schema, fact, root.counts) for fact in facts}
        folders = []
        for key, document in documents.items():
            data = encode_document(document)
            try:
                if self._storage.get(key) == data:
                    continue
            except MissingStoreError:
                pass
            self._storage.put(key, [data])
            folders.append(key.removesuffix(f"/{ROOT}"))
        return folders

    def _put_table(self, fact: ArrayFact, new: Records) -> None:
        """Write the chunks of a table that have new rows; its last chunk so far is replaced as a whole."""
        rows = self._table_rows(fact, new)
        if rows is None or not len(rows):
            return
        size = table_chunk(self.schema, fact)
        before = 0 if self._committed is None else self.root.committed(fact.name)
        first = before - before % size
        if first < before:
            with advice_to_repair():
                rows = np.concatenate([self.snapshot().table(fact.name, first, before), rows])
        from store_spec.disk.zarr_arrays import put_rows  # here, because zarr takes 0.1 s to import

        put_rows(self._storage, self.schema, fact, first, rows)

    def _table_rows(self, fact: ArrayFact, new: Records) -> NDArray[Any] | None:
        """Return the new rows of a table; None for arrays in shards."""
        if fact.name in new.columns:
            return new.columns[fact.name]
        of_labels = fact.name.startswith("label_")
        lengths = new.label_lengths if of_labels else new.lengths
        if fact.name in ("row_size", "label_row_size"):
            return lengths
        if fact.name in ("offsets", "label_offsets"):
            counts = self.root.counts
            ends = np.cumsum(lengths, dtype=np.int64) + (counts.label_steps if of_labels else counts.steps)
            return ends if self._committed is not None else np.concatenate([np.zeros(1, np.int64), ends])
        if fact.name == SOURCES:
            return np.array(new.sources, object)
        if fact.name in new.missing:
            return new.missing[fact.name].shifted(self._starts(new, fact.name))
        return None

    def _starts(self, new: Records, name: str) -> NDArray[np.int64]:
        """Return the first row of each new sequence in the array whose runs are in the table `name`."""
        of_labels = name == MISSING_RUNS["labels"]
        counts, axis = self.root.counts, self.schema.label_axis
        if of_labels and axis == "sequence":
            return counts.sequences + np.arange(len(new))
        own_lengths = of_labels and axis == "own"
        lengths = new.label_lengths if own_lengths else new.lengths
        return (counts.label_steps if own_lengths else counts.steps) + np.cumsum(lengths) - lengths

    def _recover(self) -> None:
        """Remove files that belong to no commit, and bring the arrays' own metadata up to date with the root."""
        for fact in self.schema.arrays():
            dimensions = 1 + len(self.schema.shape(fact))
            files = self.root.files(fact.name)
            for entry in self._storage.list(fact.name):
                number = chunk_number(entry.name, dimensions)
                if number is not None and number >= files:
                    self._storage.delete(f"{fact.name}/{entry.name}")
        self.tidy()
        # After this, a power cut leaves documents that are at worst behind the root.
        self._storage.sync(self._put_documents(self.root))

    def _lengths(self, records: Records) -> dict[str, NDArray[np.int64]]:
        """Return the number of rows of each sequence, for each array in shards."""
        own_lengths = ("labels",) if self.schema.label_axis == "own" else ()
        return {name: records.label_lengths if name in own_lengths else records.lengths for name in self._registered}
