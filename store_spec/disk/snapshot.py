"""One commit of a store: rows of the sharded arrays, whole columns of the tables, and what is kept to check them by.

Everything is clipped to the counts of the one root document that was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.committed import part_of
from store_spec.disk.shards import Shards
from store_spec.disk.storage import Storage, StoreLocation, storage_of
from store_spec.disk.tables import Tables, kept
from store_spec.errors import ChecksumError, FormatError, MissingStoreError, StoreError
from store_spec.format import shard
from store_spec.format.codec import crc32c
from store_spec.format.layout import LARGEST_DOCUMENT, ROOT, Root
from store_spec.format.missing_runs import Runs, no_runs, wrong_run
from store_spec.format.text import shown
from store_spec.schema import MISSING_RUNS


class Snapshot:
    """A committed state of a store. Picklable: what is cached stays behind.

    Args:
        storage: Where the store lies.
        root: The root document of the state.
        compared: Whether whoever reads holds each sequence against its checksum: see `Shards`.
        once: Whether whoever reads does so once: after an error only files are opened anew, and what was found in them
            is kept. Such readers meet many, and the last shard, which is read in one piece, may be large.

    Attributes:
        tables: The arrays that do not lie in shards.
    """

    def __init__(self, storage: Storage, root: Root, *, compared: bool = False, once: bool = False) -> None:
        self.storage = storage
        self.root = root
        self.tables = Tables(storage, root)
        self._compared, self._once = compared, once
        self._shards = Shards(self.tables, compared=compared)
        self._crcs: dict[str, NDArray[np.uint32]] | None = None
        self._missing: dict[str, Runs] = {}

    @classmethod
    def open(cls, store: StoreLocation) -> Snapshot:
        """Read the root once; nothing else is read before it is asked for.

        Raises:
            MissingStoreError: There is no store at that path.
            FormatError: It is not one that may be read.
            SchemaError: The path is a URL.
        """
        return cls.of(storage_of(store))

    @classmethod
    def of(cls, storage: Storage) -> Snapshot:
        """Read the root likewise of the store that lies there."""
        try:
            data = storage.get(ROOT, 0, LARGEST_DOCUMENT + 1)
        except MissingStoreError as error:
            raise MissingStoreError(f"{storage.root}: a folder without {ROOT}: no store") from error
        root = Root.decode(bytes(data), str(storage.path(ROOT)))
        for folder in root.schema.folders():
            storage.check_folder(folder)
        return cls(storage, root)

    def __repr__(self) -> str:
        counts = self.root.counts
        return f"<snapshot of {self.storage.root.name}: {counts.sequences:,} sequences, {counts.steps:,} steps>"

    def __reduce__(self) -> tuple[Any, tuple[Storage, Root]]:
        return partial(Snapshot, compared=self._compared, once=self._once), (self.storage, self.root)

    def slim(self, *, compared: bool = True) -> Snapshot:
        """Return the same for other processes, which read once: without what these do not need.

        Args:
            compared: Whether they hold each sequence against its checksum; others need to know which are retired.
        """
        root = replace(self.root, provenance={}, retired=() if compared else self.root.retired)
        return Snapshot(self.storage, root, compared=compared, once=True)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Int64 (sequences + 1,): sequence i is rows offsets[i] to offsets[i + 1]. Checked."""
        return self.tables.offsets

    @property
    def label_offsets(self) -> NDArray[np.int64]:
        """The same for `labels`, whatever their axis."""
        return self.tables.label_offsets

    def bounds(self, name: str) -> NDArray[np.int64]:
        """Int64 (sequences + 1,): where the sequences begin and end in `inputs`, `labels` or `time`. Checked."""
        return self.tables.bounds(name)

    def table(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows of an array that has one row a sequence (or a bound)."""
        return self.tables.read(name, start, stop)

    def labels_are_inputs(self) -> bool:
        """Tell whether labels repeat the inputs, as forecasting has them; by the checksums of all sequences."""
        schema = self.root.schema
        if schema.label_axis != "step" or schema.inputs != schema.labels or not self.root.counts.sequences:
            return False
        inputs, labels = (self.table(f"sequences/{name}_crc32c") for name in ("inputs", "labels"))
        return bool(np.array_equal(inputs, labels))

    def sources(self) -> list[str]:
        """Return the name of each sequence's source."""
        return [str(source) for source in self.table("sequences/source")]

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
            self._forget(self._shards)
            source = shown(self.table("sequences/source", number, number + 1)[0])
            raise ChecksumError(
                f"{self.storage.path(name)}: sequence {number:,} ({source}) has crc32c {found:08x}, not {said:08x} as "
                "its table has: a file is another's, or an older copy; verify says which, restore or rebuild it"
            )

    def _checksums(self) -> dict[str, NDArray[np.uint32]]:
        # No cached property: Python 3.11 has a lock for these, and a thread that reads ahead may hold it at a fork.
        found = self._crcs
        if found is None:
            found = {name: self.table(f"sequences/{name}_crc32c") for name in self.root.schema.row_arrays}
            self._crcs = found
        return found

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
        with self._reading() as shards:
            shards.check_sizes(name, start, stop)  # first: a hostile root may count rows that are nowhere
            if buffer is None or len(buffer) < count:
                buffer = self.root.schema.rows(name).empty(count)
            shards.fill(name, start, buffer[:count], recent=recent)
        return buffer[:count]

    def fill(self, name: str, start: int, out: NDArray[Any]) -> None:
        """Fill the contiguous array `out` with rows of `inputs` or `labels` from `start` on, committed ones only."""
        if not self.root.schema.is_sharded(name):
            out[:] = self.table(name, start, start + len(out))
            return
        with self._reading() as shards:
            shards.check_sizes(name, start, start + len(out))
            shards.fill(name, start, out, recent=False)

    def stretch(self, name: str, start: int, stop: int) -> shard.Stretch:
        """Return rows of one shard, from its first on: whole chunks as they are stored, the rest decoded."""
        chunking, rows = self.root.schema.chunking(name), self.root.schema.rows(name)
        whole = (stop - start) // chunking.chunk
        shards = self._shards
        shards.check_sizes(name, start, start + whole * chunking.chunk)
        stored = tuple(map(bytes, shards.stored(name, start // chunking.shard, range(whole))))
        return shard.Stretch(rows.empty(0), stored, self.rows(name, start + whole * chunking.chunk, stop), stop - start)

    def stored(self, name: str, number: int, start: int, length: int | None) -> bytes | memoryview:
        """Return bytes of a chunk or shard with committed rows, as they are stored and as `Storage.get` counts them.

        Raises:
            FormatError: It is missing, or a shard lacks a chunk or is an older copy.
        """
        if not self.root.schema.is_sharded(name):
            return part_of(self.tables.stored(self.root.schema.fact(name), number), start, length)
        with self._reading() as shards:
            return shards.value(name, number, start, length)

    def check_files(self) -> None:
        """Check that there are as many shards as readers see rows of, for who takes memory by the count of these."""
        self._shards.check_files()

    @contextmanager
    def _reading(self) -> Iterator[Shards]:
        """Give the shards with what was found in them so far, which is forgotten after an error."""
        shards = self._shards
        try:
            yield shards
        except StoreError:
            self._forget(shards)
            raise

    def _forget(self, shards: Shards) -> None:
        shards.close_files()
        if not self._once:
            self._shards = Shards(self.tables, compared=self._compared)
            self._crcs = None
            self._missing.clear()
