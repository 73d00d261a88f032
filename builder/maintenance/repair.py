"""`verify --repair`: restore damaged shards of rows by processing the sources of their rows again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from builder.build_errors import UsageError
from builder.execution.build import open_with_sources, worker_count
from builder.maintenance.checks import Checking, verify
from builder.planning.build_options import BATCH_BYTES
from builder.planning.resolved_sources import ResolvedSources
from builder.processes.process import ProcessFunction
from builder.sequence import LongSequence, Sequence
from builder.sources.fingerprints import SourceRead
from builder.workers.conform import checked_pieces
from builder.workers.crashes import workers_died
from builder.workers.engine import Task, as_done, start_engine
from builder.workers.process_source import Failure, SourceBatch, read_source
from store_spec import DAMAGE, FormatError, Problem
from store_spec.building import (
    DamagedShard,
    LocalLedger,
    LocalStorage,
    LostSequence,
    Snapshot,
    SourceId,
    crc32c,
    damaged_shards,
    locked,
    replace_shard,
)

BUILD_AGAIN = "build a new store with the same options (seqzarr build SOURCES NEW ...), which gives the same rows"
UNPROVED = f"rows cannot be verified if a table is damaged, so nothing was restored: {BUILD_AGAIN}"
NOT_RESTORED = (
    "not all could be restored: restore the sources named here, or build with them as they are now (seqzarr build "
    f"SOURCES STORE with --update or --retire-missing), or {BUILD_AGAIN}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The result of a repair."""

    found: tuple[Problem, ...]  # problems before the repair
    files: tuple[str, ...]  # restored shards
    failures: tuple[Failure, ...]  # why other shards were not restored, and what to do
    left: tuple[Problem, ...]  # problems after the repair

    def __repr__(self) -> str:
        return f"<repair: {len(self.found):,} problems, {len(self.files):,} shards restored, {len(self.left):,} left>"


def repair(
    store: str | PathLike[str],
    sources: str | PathLike[str],
    *,
    process: ProcessFunction | str | None = None,
    manifest: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Checking], None] = lambda _: None,
) -> Repair:
    """Check a store, and restore damaged shards of rows from the sources, byte for byte; nothing else changes.

    The sources of sequences that lost rows are processed again, as the build did. A shard is written only if every
    sequence in it has the length and the checksum that the tables record. It is not restored if a source is gone or has
    changed; `failures` says which. If tables are damaged, rows cannot be verified, and the store must be built again.

    Args:
        store: The store, which records its options.
        sources: The folder or glob that it was built from.
        process: The process function, if it cannot be imported by its recorded name, or if `labels_from` of `tabular`
            leads outside the sources' folder.
        manifest: The manifest, if it is outside the sources.
        workers: Processes on this machine; 0: work in this process. By default as in `build`.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        on_progress: Called with a `Checking` whenever there is progress.

    Raises:
        UsageError: The folder or the store does not exist, no build made the store, or options conflict.
        StoreError: The root is damaged, or an older copy; another process writes to the store; or the disk refused.
        BuildError: Worker processes died repeatedly.
    """
    place = Path(store)
    try:
        opened_store, resolved = open_with_sources(place, sources, process, manifest)
    except FormatError as error:
        raise type(error)(f"{error}; {BUILD_AGAIN}") from error
    if not resolved.every.names:
        raise UsageError(f"{sources}: has none of the store's sources; is it the right folder, and is it mounted?")
    check = partial(verify, store, workers=workers, scheduler=scheduler, on_progress=on_progress)
    with locked(place.absolute()) as folder:  # before the check, which may take hours and would be lost to a writer
        # A killed repair may have written shards without a sync; they look complete, but are not safe yet.
        LocalStorage(opened_store.path).sync(["", *opened_store.snapshot.root.schema.folders()])
        found = tuple(check())
        # This restores the metadata of the arrays, and removes temporary files, also those of a killed repair.
        with LocalLedger.under_lock(place, folder) as ledger:
            files, failures = _restore(ledger.snapshot(), found, resolved, workers, scheduler) if found else ([], [])
        left = tuple(check()) if found else ()
    return Repair(found=found, files=tuple(sorted(files)), failures=tuple(failures) if left else (), left=left)


def _restore(
    snapshot: Snapshot, problems: Iterable[Problem], resolved: ResolvedSources, workers: int | None, scheduler: Any
) -> tuple[list[str], list[Failure]]:
    """Restore shards; return their names, and why other shards were not restored."""
    name = snapshot.storage.root.name
    try:
        shards = damaged_shards(snapshot, problems)
    except DAMAGE as error:
        return [], [Failure(name, f"{error}; {UNPROVED}")]
    places = {source: number for number, source in enumerate(resolved.every.names)}
    restorable = [shard for shard in shards if places.keys() >= set(shard.sources)]
    gone = {source for shard in shards for source in shard.sources if source not in places}
    files, failures = list[str](), {Failure(source, "no longer exists") for source in gone}
    sizes = [resolved.file_bytes(source) for source in {source for shard in restorable for source in shard.sources}]
    count = worker_count(workers, small=scheduler is None and resolved.is_small(sizes, BATCH_BYTES))
    with start_engine(count, scheduler, process=resolved.every.process) as engine:

        def submit(shard: DamagedShard) -> Task:
            batch = resolved.every.take([places[source] for source in shard.sources])
            return engine.submit(restore_shard, batch, snapshot.slim(), shard, watch=True)

        try:
            done = as_done(engine, restorable, submit, lambda shard: workers_died(shard.sources))
            for _, (restored, reasons) in done:
                files += restored
                failures.update(reasons)
        except BaseException:
            engine.abandon()  # before the lock is released, so that no worker writes a file afterwards
            raise
    advice = [Failure(name, NOT_RESTORED)] if failures else []
    return files, [*sorted(failures, key=str), *advice]


def restore_shard(batch: SourceBatch, snapshot: Snapshot, shard: DamagedShard) -> tuple[list[str], list[Failure]]:
    """Restore one shard, with memory for its rows and one source; return its name, or why it was not restored."""
    failures = list[Failure]()
    try:
        rows = ShardRows(snapshot, shard)
        with batch.ready() as ready:
            for place, source in enumerate(ready.names):
                used = read_source(ready, place, rows.restore)
                if isinstance(used, Failure):
                    failures.append(Failure(source, used.reason))
                    continue
                reasons = [rows.failure_reason(one, used.read) for one in shard.lost if one.source == source]
                failures += [Failure(source, reason) for reason in reasons if reason][:1]
        key = None if failures else replace_shard(snapshot, shard.array, shard.number, rows.rows)
        return [] if key is None else [key], failures
    except DAMAGE as error:
        return [], [Failure(snapshot.storage.root.name, str(error))]


class ShardRows:
    """The rows of a shard: rows of damaged sequences from their sources, all other rows from the store."""

    def __init__(self, snapshot: Snapshot, shard: DamagedShard) -> None:
        root, array = snapshot.root, shard.array
        size = root.schema.chunking(array).shard
        self._schema, self._shard, self._start = root.schema, shard, shard.number * size
        at, stop = self._start, min(self._start + size, root.committed(array))
        self._verified: set[int] = set()  # sequences whose rows have the recorded length and checksum
        self.rows = root.schema.rows(array).empty(stop - at)
        for one in shard.lost:
            if at < one.start:
                self._copy(at, snapshot.rows(array, at, one.start))
            at = one.stop
        if at < stop:
            self._copy(at, snapshot.rows(array, at, stop))

    def restore(self, origin: SourceId, sequence: Sequence | LongSequence) -> None:
        """Take the rows of a sequence, piece by piece, if it lost rows."""
        lost = [one for one in self._shard.lost if (one.source, one.part) == (origin.name, origin.part)]
        length = crc = 0
        for _, checked in checked_pieces(self._schema, origin, sequence):
            rows = checked.rows[self._shard.array]
            for one in lost:
                self._copy(one.start + length, rows)
            length, crc = length + len(rows), crc32c(rows, crc)
        self._verified |= {one.number for one in lost if (one.stop - one.start, one.crc32c) == (length, crc)}

    def failure_reason(self, one: LostSequence, read: SourceRead) -> str:
        """Return why the rows of a sequence could not be restored from its source; empty if they were."""
        if (one.size, bytes(one.sha256)) != (read.size, read.hashes[0]):
            was = f"but the store records {one.size:,} with {bytes(one.sha256).hex()[:8]}"
            return f"it changed: {read.size:,} bytes with SHA-256 {read.hashes[0].hex()[:8]}, {was}"
        if one.number not in self._verified:
            code = "the code that reads it" + (f" or {read.files.labels}" if read.files.labels else "")
            return f"its rows of sequence {one.number:,} differ from the store's: {code} changed"
        return ""

    def _copy(self, at: int, rows: NDArray[Any]) -> None:
        """Copy rows that begin at row `at` of the array; only those in the shard."""
        low, high = max(at, self._start), min(at + len(rows), self._start + len(self.rows))
        if low < high:
            self.rows[low - self._start : high - self._start] = rows[low - at : high - at]
