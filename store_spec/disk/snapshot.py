"""One committed state of a store: rows of the sharded arrays, columns of the tables, and their checks.

Everything is clipped to the counts of the one root document that was read.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.shards import Shards
from store_spec.disk.storage import LocalStorage, Storage, in_order
from store_spec.disk.tables import Tables, part_of, read_only
from store_spec.errors import DAMAGE, ChecksumError, FormatError, MissingStoreError, StoreError
from store_spec.format import shard
from store_spec.format.documents import LARGEST_DOCUMENT, decode_document
from store_spec.format.layout import ROOT, Root, chunk_key
from store_spec.format.names import shown
from store_spec.format.records import Records, proved, recorded
from store_spec.format.runs import Runs, SequenceRuns, no_runs, runs_of_sequences, wrong_run
from store_spec.schema import MISSING_RUNS, ArrayFact

MOST_MISSING = 100  # a malicious root may count any number of files


class Snapshot:
    """A committed state of a store. It can be pickled, without its caches.

    With `once`, the caller reads everything only once. Such callers may meet many errors, and the last shard, which is
    read in one piece, may be large; so after an error only open files are forgotten, not the caches.
    """

    def __init__(self, storage: Storage, root: Root, *, once: bool = False) -> None:
        self.storage = storage
        self.root = root
        self._tables = Tables(storage, root)
        self._once = once
        self._shards = Shards(self._tables)
        self._crcs: dict[str, NDArray[np.uint32]] | None = None
        self._missing: dict[str, Runs] = {}
        self._same = {root.identity}  # identities, and hashes of roots, of this state and of later ones
        self._lock = os.getpid(), threading.RLock()
        self._latest = root  # the latest root that continues this state
        self._check_first = False  # before the next read: see `_reading`
        self._checked_reads = 0  # the `reads` of the tables before the last successful `check_not_replaced`

    @classmethod
    def of(cls, storage: Storage, data: bytes | None = None) -> Snapshot:
        """Read the root of the store in a storage; everything else is read when it is needed.

        `data` is the bytes of the root, if they have been read.
        """
        root = Root.decode(read_root(storage) if data is None else data, str(storage.path(ROOT)))
        if isinstance(storage, LocalStorage):
            for folder in root.schema.folders():
                storage.check_folder(folder)
        return cls(storage, root)

    def __repr__(self) -> str:
        counts = self.root.counts
        return f"<snapshot of {self.storage.root.name}: {counts.sequences:,} sequences, {counts.steps:,} steps>"

    def __reduce__(self) -> tuple[Any, tuple[Storage, Root]]:
        return partial(Snapshot, once=self._once), (self.storage, self.root)

    @property
    def tables(self) -> Tables:
        """The tables of this state; a remote store is checked after all reads of a call, see `check_not_replaced`."""
        if self.storage.requests == 1:
            self.check_not_replaced()
        return self._tables

    def bounds(self, name: str) -> NDArray[np.int64]:
        """Return where each sequence begins in the rows of an array, and where the last one ends."""
        with self._reading():
            bounds = self.tables.bounds(name)
            self._check_reads()
        return bounds

    def table(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of a table, by default all."""
        return self.read_tables([name], start, stop)[0]

    def read_tables(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> list[NDArray[Any]]:
        """Return rows of several tables, by default all; a remote store is asked for all at once."""
        with self._reading():
            tables = self.tables.read_all(names, start, stop)
            self._check_reads()
        return tables

    def _check_reads(self) -> None:
        """Check that no other store took the place of this one, if remote tables were read since the last check."""
        if self._tables.reads != self._checked_reads:
            self.check_not_replaced()

    def slim(self) -> Snapshot:
        """Return a copy for other processes, which read everything once, without the data they do not need."""
        return Snapshot(self.storage, replace(self.root, provenance={}), once=True)

    def labels_are_inputs(self) -> bool:
        """Return whether labels repeat the inputs, as for forecasting, according to the checksums of all sequences."""
        schema = self.root.schema
        if schema.label_axis != "step" or schema.inputs != schema.labels or not self.root.counts.sequences:
            return False
        inputs, labels = self.read_tables(f"sequences/{name}_crc32c" for name in ("inputs", "labels"))
        return bool(np.array_equal(inputs, labels))

    def records(self, numbers: NDArray[np.int64], *, statistics: bool = True) -> Records:
        """Return the table rows of some sequences, in this order.

        Without `statistics`, only the columns that identify them, without moments and runs of missing values.
        """
        schema = self.root.schema
        if not len(numbers):
            return Records.empty(schema)
        first, last = int(numbers.min()), int(numbers.max()) + 1
        names = recorded(schema) if statistics else proved(schema)
        tables = self.read_tables(names, first, last)
        columns = {name: table[numbers - first] for name, table in zip(names, tables, strict=True)}
        missing = {}
        for name, table in MISSING_RUNS.items() if statistics and schema.missing == "keep" else ():
            bounds = self.bounds(name)
            of, runs = runs_of_sequences(self.missing(name), bounds[numbers], bounds[numbers + 1])
            missing[table] = SequenceRuns(np.bincount(of, minlength=len(numbers)), runs)
        return Records(columns, missing)

    def sources(self) -> list[str]:
        """Return the name of each sequence's source."""
        return [str(source) for source in self.table("sequences/source")]

    def missing(self, name: str) -> Runs:
        """Return the runs of rows of `inputs` or `labels` with a missing value: int64 (runs, 2), checked."""
        if self.root.schema.missing != "keep":
            return no_runs()
        runs = self._missing.get(name)
        if runs is None:
            runs = read_only(self.table(MISSING_RUNS[name]))
            if (wrong := wrong_run(runs, self.bounds(name))) is not None:
                raise FormatError(f"{self.storage.path(MISSING_RUNS[name])}: {wrong[1]}")
            self._missing[name] = runs  # another thread may clear this after an error, so `runs` is returned
        return runs

    def check_crcs(self, name: str, numbers: NDArray[np.int64], crcs: NDArray[np.uint32]) -> None:
        """Compare the crc32c of all rows of each of some sequences with the recorded one."""
        for place in np.flatnonzero(crcs != self._checksums()[name][numbers])[:1].tolist():
            self.check_crc(name, int(numbers[place]), int(crcs[place]))

    def check_crc(self, name: str, number: int, actual: int) -> None:
        """Compare the crc32c of all rows of a sequence with the recorded one."""
        expected = int(self._checksums()[name][number])
        if actual != expected:
            self._forget(self._shards)
            source = shown(self.table("sequences/source", number, number + 1)[0])
            raise ChecksumError(
                f"{self.storage.path(name)}: sequence {number:,} ({source}) has crc32c {actual:08x}, not "
                f"{expected:08x} as its table has: a file is a copy of another one, or an older copy; "
                "verify says which, restore or rebuild it"
            )

    def _checksums(self) -> dict[str, NDArray[np.uint32]]:
        # Not a cached property: Python 3.11 has a lock for these, which a thread that reads ahead may hold at a fork.
        crcs = self._crcs
        if crcs is None:
            names = self.root.schema.row_arrays
            tables = self.read_tables(f"sequences/{name}_crc32c" for name in names)
            self._crcs = crcs = dict(zip(names, tables, strict=True))
        return crcs

    def rows(
        self, name: str, start: int, stop: int, *, out: NDArray[Any] | None = None, recent: bool = False
    ) -> NDArray[Any]:
        """Return rows `start` to `stop` of an array with rows of sequences; the caller has checked that they exist.

        With `recent`, this thread caches the chunks, because it may need their other rows next. Rows of arrays in
        shards are read into `out`, unless it is None.
        """
        if not self.root.schema.is_sharded(name):
            return self.table(name, start, stop)
        with self._reading() as shards:
            shards.check_sizes(name, start, stop)  # first: a malicious root may count rows that do not exist
            out = self.root.schema.rows(name).empty(stop - start) if out is None else out
            shards.fill(name, start, out, recent=recent)
        return out

    @contextmanager
    def fetched(self, name: str, start: int, stop: int) -> Iterator[None]:
        """Fetch the stored bytes of rows in one request, if possible, for reads of this thread in the meantime.

        Nothing is fetched of a local store, or of a table.
        """
        if self.storage.requests == 1 or not self.root.schema.is_sharded(name):
            yield
            return
        with self._reading() as shards, shards.fetched(name, start, stop):
            yield

    def encoded_rows(self, name: str, start: int, stop: int) -> shard.EncodedRows:
        """Return the first rows of a shard, up to `stop`: whole chunks as they are stored, the rest decoded."""
        chunking, rows = self.root.schema.chunking(name), self.root.schema.rows(name)
        whole = (stop - start) // chunking.chunk
        shards = self._shards
        shards.check_sizes(name, start, start + whole * chunking.chunk)
        stored = tuple(map(bytes, shards.stored(name, start // chunking.shard, range(whole))))
        tail = self.rows(name, start + whole * chunking.chunk, stop)
        return shard.EncodedRows(rows.empty(0), stored, tail, stop - start)

    def stored(self, name: str, number: int, start: int, length: int | None) -> bytes | memoryview:
        """Return stored bytes of a chunk or shard with committed rows; `start` and `length` are as in `Storage.get`."""
        if not self.root.schema.is_sharded(name):
            return part_of(self._tables.stored(self.root.schema.fact(name), number), start, length)
        with self._reading() as shards:
            return shards.value(name, number, start, length)

    def file_names(self, name: str) -> list[str]:
        """Return the names of an array's files."""
        if self.storage.requests == 1:
            return self.storage.list(name)
        return [key.removeprefix(f"{name}/") for key in self.file_sizes([name])]

    def file_sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the size of each file of these arrays, by key.

        A remote store is not listed: it is asked for the files that the root counts, until many are missing.
        """
        if self.storage.requests == 1:
            keys = (f"{name}/{file}" for name in names for file in self.storage.list(name))
        else:
            keys = (key for name in names for key in self._file_keys(name))
        sizes, missing = dict[str, int](), 0
        for key, size in in_order(self.storage, lambda key: (key, self.storage.size(key)), keys):
            if size:
                sizes[key] = size
            elif (missing := missing + 1) > MOST_MISSING:
                break
        return sizes

    def _file_keys(self, name: str) -> Iterator[str]:
        yield f"{name}/{ROOT}"
        yield from (chunk_key(self.root.schema, name, number) for number in range(self.root.files(name)))

    def check_not_replaced(self) -> None:
        """Check that no other store took the place of this one, so that everything read before belongs to this state.

        Chunks have their own checksums, so those of another store look right. A new store writes its root first. If
        the root there still begins with this state, so did all files that were read before. This need not be checked
        while a local folder is kept open, and has the same root.
        """
        if self.storage.keeps_state:
            return
        reads = self._tables.reads  # first, since other threads may read tables meanwhile
        folder = self.storage.folder if isinstance(self.storage, LocalStorage) else None
        root_file = None if folder is None else folder.root_file()
        with self._reading():  # after an error, caches may have content of the other store
            data = read_root(self.storage)
            seen = hashlib.sha256(data).hexdigest()
            with self._comparing():
                if seen not in self._same:
                    now = Snapshot.of(self.storage, data)
                    known = self._latest, self.root
                    if now.root.identity not in self._same and not any(map(now.follows, known)):
                        raise FormatError(
                            f"{self.storage.root}: another store was written here since this one was opened; open it "
                            "again"
                        )
                    self._same |= {seen, now.root.identity}
                    self._latest = max(self._latest, now.root, key=lambda root: root.counts.sequences)
        self._checked_reads = reads
        if folder is not None:
            folder.confirmed = root_file

    def _comparing(self) -> threading.RLock:
        """Return a lock, so that one thread compares a new root: this takes 1 s for a million new sequences.

        A child process has a lock of its own, since a thread of its parent may have held the other at the fork.
        """
        if self._lock[0] != os.getpid():
            self._lock = os.getpid(), threading.RLock()
        return self._lock[1]

    def follows(self, earlier: Root) -> bool:
        """Return whether this state begins with the sequences of an earlier one, and the tables have the others.

        Identities form a chain. A root may be new already while the tables are old: files are not copied at once.
        """
        count, every = earlier.counts.sequences, self.root.counts.sequences
        if every <= count:
            return False
        try:
            names = proved(earlier.schema)
            records = Records(dict(zip(names, self._tables.read_all(names, count, every), strict=True)))
        except (*DAMAGE, LookupError):
            return False
        return records.identity(earlier.identity, earlier.schema) == self.root.identity

    def check_files(self) -> None:
        """Check that all shards with visible rows exist, before memory is allocated by their number."""
        with self._reading() as shards:
            shards.check_files()

    @contextmanager
    def _reading(self) -> Iterator[Shards]:
        """Yield the shards; after an error, all caches are dropped.

        The next read then checks first that no other store is there: other threads of a call that failed may still
        read, and nothing checks what they keep.
        """
        if self._check_first:
            self._check_first = False
            self.check_not_replaced()
        shards = self._shards
        try:
            yield shards
        except StoreError:
            self._forget(shards)
            raise

    def _forget(self, shards: Shards) -> None:
        shards.close_files()
        if not self._once:
            self._check_first = True
            self._shards = Shards(self._tables)
            self._crcs = None
            self._missing.clear()
            self._tables.forget()


def read_root(storage: Storage) -> bytes:
    """Return the bytes of the root document; of one that is too large, one byte more than `Root.decode` accepts."""
    try:
        return bytes(storage.get(ROOT, 0, LARGEST_DOCUMENT + 1))
    except MissingStoreError as error:
        raise MissingStoreError(f"{storage.root}: a folder without {ROOT}: no store") from error


def check_root(snapshot: Snapshot) -> None:
    """Refuse a root that is older than the arrays' own documents: a writer would remove everything newer.

    These documents are written after the root was synced, so no crash leads to this.

    Raises:
        FormatError: The root is older; nothing must be written before the right one is restored.
        StorageError: The process has too many open files, or too little memory, to check.
    """
    root, read, more = snapshot.root, 0, []

    def shape_of(fact: ArrayFact) -> Any:
        try:
            data = snapshot.storage.get(f"{fact.name}/{ROOT}", 0, LARGEST_DOCUMENT + 1)
            return decode_document(bytes(data), fact.name).get("shape")
        except DAMAGE:
            return None  # a lost document proves nothing

    facts = root.schema.arrays()
    for fact, shape in zip(facts, in_order(snapshot.storage, shape_of, facts), strict=True):
        if shape is None:
            continue
        rows, counted = shape[0] if isinstance(shape, list) and shape else None, root.committed(fact.name)
        read += 1
        if type(rows) is int and rows > counted:
            more.append(f"{counted:,} rows of {fact.name}, which has {rows:,}")
    if 2 * len(more) > read:  # otherwise these few are damaged, or belong to other arrays
        raise FormatError(
            f"{snapshot.storage.path(ROOT)}: an older copy: it counts {more[0]} by its own {ROOT}, and so with "
            f"{len(more) - 1} others; restore the root first: nothing was touched"
        )
