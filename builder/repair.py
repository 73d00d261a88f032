"""`verify --repair`: put what is damaged again, from the sources, as it was; where they changed, as they are now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build import BATCH_BYTES, build, read_again, worker_count
from builder.compare import READERS
from builder.engine import Engine, Task, as_done, start_engine
from builder.errors import SourceError, UsageError
from builder.fingerprints import BUFFER_BYTES, Fingerprint, read_fingerprint
from builder.given import check_given
from builder.labels.beside import LABELS_SHA256
from builder.one_source import Batch, Failure, UnusableError, read_source
from builder.process import Process, searching
from builder.reading import Reading, dealt, opened
from builder.run import workers_died
from builder.sequence import LongSequence
from builder.sequence import Sequence as SourceSequence
from builder.verification import Checking, verify
from store_spec.disk.ledger import Ledger, check_root
from store_spec.disk.lock import locked
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import StoreError
from store_spec.format import retired
from store_spec.format.layout import ROOT
from store_spec.format.missing_runs import no_runs
from store_spec.format.records import SourceId, derived
from store_spec.reading.spans import rows_in_file
from store_spec.schema import ROW_ARRAYS, TABLES, Schema
from store_spec.verification.parts import Part, cut
from store_spec.verification.problems import Problem
from store_spec.verification.repair import (
    Damage,
    DamagedFile,
    describe_part,
    put_chunks,
    readable,
    restore_bounds,
    restore_missing,
    restore_rows,
    restore_tables,
    runs_of_part,
)
from store_spec.verification.tables import present_files

LABELS = f"{TABLES}/{LABELS_SHA256}"
PARTS, SIZES, HASHES = (f"{TABLES}/{name}" for name in ("part", "source_size", "source_sha256"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What a repair did."""

    found: tuple[Problem, ...]  # before
    files: tuple[str, ...]  # put again, each with the rows that it had
    rebuilt: tuple[str, ...]  # sources whose sequences were retired and built again at the end
    failures: tuple[Failure, ...]  # why others were not put
    left: tuple[Problem, ...]  # afterwards

    def __repr__(self) -> str:
        done = f"{len(self.files):,} files put again, {len(self.rebuilt):,} sources built again"
        return f"<repair: {len(self.found):,} problems found, {done}, {len(self.left):,} left>"


def repair(
    store: str | PathLike[str],
    sources: str | PathLike[str],
    *,
    process: Process | str | None = None,
    manifest: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Checking], None] = lambda _: None,
) -> Repair:
    """Check a store, and put again what is damaged, with the rows that it had; nothing else changes.

    Sources of sequences that lost rows are processed again, as the build did. What they give is put only if it is, by
    the checksums that are whole, what the store had. Where it is not, since a source changed or is gone, the file
    stays as it is: those of its sequences whose sources are there are retired and built again, as `build(update=True)`
    does, behind the others. The root itself, and the names of the sources, cannot be had again from anywhere.

    Args:
        store: The store; its options are as it records them.
        sources: The folder or glob that it was built from.
        process: The process function, where the store's name for it finds none.
        manifest: The manifest, where it does not lie below the sources.
        workers: Processes on this machine; 0: work in this process. By default as `build`.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        on_progress: Called with a `Checking` whenever something was checked.

    Raises:
        UsageError: There is no such folder or store, no build made the store, or options clash.
        StoreError: The root is damaged, or an older copy; a writer has the store open; or the disk refused.
        BuildError: Worker processes died again and again.
    """
    place = Path(store)
    held, reading = read_again(place, sources, process, manifest)
    if not reading.names:
        raise UsageError(f"{sources}: holds none of the store's sources; is that the right folder, and is it mounted?")
    check_root(held.snapshot)
    check = partial(verify, store, workers=workers, scheduler=scheduler, on_progress=on_progress)
    put: list[str] = []
    failed: dict[str, Failure] = {}
    unput: list[DamagedFile] = []
    rebuilt: tuple[str, ...] = ()
    with locked(place.absolute()) as folder:  # first: a check may take hours, and a writer would waste them
        found = check()
        if not found:
            return Repair(found=(), files=(), rebuilt=(), failures=(), left=())
        with Ledger.under_lock(place, folder) as ledger:  # which puts metadata right that lag behind the root
            # What verify found in metadata is gone.
            left = check() if any(problem.where.endswith(ROOT) or problem.leftover for problem in found) else found
            while left:
                damage = Damage.of(ledger.snapshot(), left)
                files, failures, unput = _put_right(damage, ledger.snapshot(), reading, workers, scheduler)
                failed |= {failure.source: failure for failure in failures}
                fresh = set(files) - set(put)
                put += files
                left = check() if files else left
                if not fresh:  # nothing more can be put; or what was put is damaged again
                    break
    if names := _to_rebuild(place, reading, unput):
        report = build(
            sources, store, process=process, manifest=manifest, workers=workers, scheduler=scheduler, redo=names
        )
        rebuilt = tuple(name for name in names if name not in {failure.source for failure in report.failures})
        left = check()
    return Repair(
        found=tuple(found),
        files=tuple(sorted(set(put))),
        rebuilt=rebuilt,
        failures=tuple(failed.values()) if left else (),
        left=tuple(left),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sequences of one source, which follow one another."""

    source: str
    first: int
    count: int
    retired: bool


Result = tuple[list[str], list[Failure], list[DamagedFile]]  # files that were put; why, and which others were not


def _put_right(damage: Damage, snapshot: Snapshot, reading: Reading, workers: int | None, scheduler: Any) -> Result:
    """Put right what everything else is proved with, if that is damaged: bounds, tables, rows, and then statistics."""
    if damage.bounds and (put := restore_bounds(snapshot)):
        return put, [], []
    try:
        origins = origins_of(snapshot)
    except StoreError as error:
        return [], [Failure(snapshot.storage.root.name, str(error))], []  # nobody knows whose the sequences are
    lost = {number for one in (*damage.tables, *damage.rows) for number in one.lost}
    starts = np.array([origin.first for origin in origins], np.int64)
    which = np.unique(np.searchsorted(starts, np.fromiter(lost, np.int64), "right")) - 1
    sizes = [reading.file_bytes(origins[one].source) for one in which.tolist()]
    count = worker_count(workers, small=scheduler is None and reading.is_small(sizes, BATCH_BYTES))
    with start_engine(count, scheduler) as engine:
        dealing = _Dealing(engine, count, snapshot, reading, origins)
        failures: list[Failure] = []
        unput: list[DamagedFile] = []
        try:
            steps: tuple[Callable[[], Result] | None, ...] = (
                partial(dealing.tables, damage.tables) if damage.tables else None,
                partial(dealing.rows, damage.rows) if damage.rows else None,
                partial(dealing.missing, damage.missing) if damage.missing else None,
                partial(dealing.stats, damage.stats) if damage.stats else None,
            )
            for step in steps:
                if step is not None:
                    put, why, others = step()
                    failures, unput = failures + why, unput + others
                    if put:
                        return put, failures, unput
        except BaseException:
            engine.abandon()  # before the lock is free: no worker may put a file any more
            raise
    return [], failures, unput


def origins_of(snapshot: Snapshot) -> list[Origin]:
    """Return the sources, in the order of their sequences; one that was built again is there several times."""
    names = np.array(snapshot.sources(), object)
    gone = np.zeros(len(names), bool)
    gone[retired.members(snapshot.root.retired)] = True
    begins = np.ones(len(names), bool)
    begins[1:] = (names[1:] != names[:-1]) | (gone[1:] != gone[:-1])
    with contextlib.suppress(StoreError):  # it may be what is damaged
        # Only retired sequences may follow others of the same source.
        begins |= gone & (snapshot.table("sequences/part") == 0)
    starts = np.flatnonzero(begins).tolist()
    return [
        Origin(source=str(names[start]), first=start, count=stop - start, retired=bool(gone[start]))
        for start, stop in pairwise([*starts, len(names)])
    ]


def _to_rebuild(store: Path, reading: Reading, unput: Iterable[DamagedFile]) -> tuple[str, ...]:
    """Return the sources that are there of sequences that readers see and that lie in files that could not be put."""
    lost = {number for one in unput if one.array in ROW_ARRAYS for number in one.lost}
    if not lost:
        return ()
    there = {name for name in reading.names if labels_gone(reading, name) is None}
    held = opened(store)
    assert held is not None
    return tuple(
        origin.source
        for origin in origins_of(held.snapshot)
        if not origin.retired
        and origin.source in there
        and not lost.isdisjoint(range(origin.first, origin.first + origin.count))
    )


def labels_gone(reading: Reading, source: str) -> str | None:
    """Say that the file of a source's labels is there no more, if it is not."""
    with contextlib.suppress(SourceError):  # said when it is read
        beside = reading.label_file(source)
        if beside is not None and not reading.sources.path(beside).exists():
            return GONE_LABELS.format(beside)
    return None


class _Dealing:
    """Has files put again by the workers."""

    def __init__(
        self, engine: Engine, workers: int, snapshot: Snapshot, reading: Reading, origins: Sequence[Origin]
    ) -> None:
        self._engine, self._workers, self._reading, self._origins = engine, workers, reading, origins
        self._snapshot = snapshot.slim()
        self._places = {name: number for number, name in enumerate(reading.names)}
        self._starts = np.array([origin.first for origin in origins], np.int64)

    def tables(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put chunks of what has the identity: checksums of rows, hashes of files, numbers of parts, and columns."""
        schema = self._snapshot.root.schema
        names = {one.array for one in damaged}
        lost = {number for one in damaged for number in one.lost}
        columns = {name: readable(self._snapshot, name) for name in names}
        numbers = np.array(sorted(lost), np.int64)
        if PARTS in names:
            parts = np.concatenate([np.arange(origin.count) for origin in self._origins])
            columns[PARTS][numbers] = parts[numbers]
        if names & {SIZES, HASHES}:
            for origin, read in self._fingerprints(lost):
                inside = [one for one in range(origin.first, origin.first + origin.count) if one in lost]
                for name, value in ((SIZES, read.state.size), (HASHES, np.frombuffer(read.sha256, np.uint8))):
                    if name in names:
                        columns[name][inside] = value
        why: list[Failure] = []
        if kept := [column.array for column in schema.columns if column.array in names]:
            why += self._columns(lost, kept, columns)
        for array in schema.row_arrays:
            if (name := f"{TABLES}/{array}_crc32c") in names:
                why += self._describe(array, lost, [name], columns)
        try:
            return restore_tables(self._snapshot, damaged, columns), why, []
        except StoreError as error:
            return [], [*why, Failure(self._snapshot.storage.root.name, str(error))], []

    def _columns(self, lost: set[int], names: Sequence[str], columns: dict[str, NDArray[Any]]) -> list[Failure]:
        """Fill further columns of sequences from their sources; say which give none."""
        origins = [origin for origin in self._of(lost) if origin.source in self._places]
        sizes = [self._reading.file_bytes(origin.source) for origin in origins]
        some = (origins[part] for part, _ in dealt(sizes, BATCH_BYTES, 1.0))

        def give(group: list[Origin]) -> Task:
            batch = self._reading.batch([self._places[origin.source] for origin in group])
            return self._engine.submit(columns_of, batch, self._snapshot.root.schema, watch=True)

        why: list[Failure] = []
        for group, task in as_done(self._engine, self._workers, some, give):
            found, failures = self._result([origin.source for origin in group], task)
            why += failures
            for origin in group:
                for part, given in enumerate(found.get(origin.source, ())[: origin.count]):
                    for name in names if origin.first + part in lost else ():
                        columns[name][origin.first + part] = given[name][0]
        return why

    def stats(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put chunks of statistics, and of first and last times, from the rows of the store itself."""
        put: list[str] = []
        why: list[Failure] = []
        for array in self._snapshot.root.schema.row_arrays:
            ours = [one for one in damaged if one.array in derived(array)]
            if ours:
                names = sorted({one.array for one in ours})
                columns = {name: readable(self._snapshot, name) for name in names}
                failures = self._describe(array, {number for one in ours for number in one.lost}, names, columns)
                why += failures
                if not failures:
                    put += put_chunks(self._snapshot, ours, columns)
        return put, why, []

    def missing(self, arrays: Sequence[str]) -> Result:
        """Put the runs of rows that miss a value, from the rows of the store itself."""
        put: list[str] = []
        why: list[Failure] = []
        for array in arrays:
            found = {-1: no_runs()}
            errors: list[StoreError] = []
            try:
                parts = self._parts(array)
                for part, task in as_done(self._engine, self._workers, parts, partial(self._given, runs_of_part)):
                    try:
                        found[part.first] = self._result([], task)
                    except StoreError as error:
                        errors.append(error)
                if not errors:
                    runs = np.concatenate([found[first] for first in sorted(found)])
                    put += restore_missing(self._snapshot, array, runs)
            except StoreError as error:
                errors.append(error)
            why += [Failure(self._snapshot.storage.root.name, str(error)) for error in errors]
        return put, why, []

    def _parts(self, array: str) -> Iterator[Part]:
        """Cut an array into parts.

        Raises:
            StoreError: Nobody knows where its sequences begin.
        """
        bounds = self._snapshot.bounds(array)
        fact, size = self._snapshot.root.schema.fact(array), rows_in_file(self._snapshot, array)
        return cut(self._snapshot, array, bounds, present_files(self._snapshot, fact, size))

    def _given(self, function: Callable[[Snapshot, Part], Any], part: Part) -> Task:
        return self._engine.submit(function, self._snapshot, part, watch=True)

    def _describe(
        self, array: str, lost: set[int], names: Sequence[str], columns: dict[str, NDArray[Any]]
    ) -> list[Failure]:
        """Fill columns of sequences from their rows; say which rows cannot be read."""
        try:
            every = self._parts(array)
        except StoreError as error:
            return [Failure(self._snapshot.storage.root.name, str(error))]
        parts = (
            part
            for part in every
            if part.bounds is not None and not lost.isdisjoint(range(part.first, part.first + len(part.bounds) - 1))
        )
        why = []
        for part, task in as_done(self._engine, self._workers, parts, partial(self._given, describe_part)):
            assert part.bounds is not None
            try:
                found = self._result([], task)
            except StoreError as error:
                why.append(Failure(self._snapshot.storage.root.name, str(error)))
                continue
            inside = [one for one in range(part.first, part.first + len(part.bounds) - 1) if one in lost]
            for name in names:
                columns[name][inside] = found[name][[one - part.first for one in inside]]
        return why

    def _fingerprints(self, lost: set[int]) -> Iterator[tuple[Origin, Fingerprint]]:
        """Read the files of sequences again, as far as they are there."""
        origins = [origin for origin in self._of(lost) if origin.source in self._places]
        with ThreadPoolExecutor(READERS) as pool:
            for origin, read in zip(origins, pool.map(self._fingerprint, origins), strict=True):
                if read is not None:
                    yield origin, read

    def _fingerprint(self, origin: Origin) -> Fingerprint | None:
        try:
            return read_fingerprint(self._reading.sources.path(origin.source))
        except OSError:
            return None

    def rows(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put files of `inputs` and `labels`, those of the same sources in one task."""
        put: list[str] = []
        why: list[Failure] = []
        unput: list[DamagedFile] = []
        work: list[tuple[list[DamagedFile], list[Origin]]] = []
        ready = []
        for one in damaged:
            origins = self._of(one.lost)
            said = {one.source: self._gone(one.source) for one in origins}
            gone = {name: what for name, what in said.items() if what is not None}
            why += [Failure(name, what) for name, what in gone.items()]
            if gone:
                unput.append(one)
            else:
                ready.append((one, origins))
        for _, alike in groupby(ready, key=lambda item: (item[0].array, [origin.first for origin in item[1]])):
            group = list(alike)
            work.append(([one for one, _ in group], group[0][1]))

        def restore(item: tuple[list[DamagedFile], list[Origin]]) -> Task:
            some, origins = item
            batch = self._reading.batch([self._places[origin.source] for origin in origins])
            return self._engine.submit(restore_files, batch, origins, self._snapshot, some, watch=True)

        for (some, origins), task in as_done(self._engine, self._workers, work, restore):
            files, failures = self._result([origin.source for origin in origins], task)
            put += files
            why += failures
            unput += some if failures else []
        return put, why, unput

    def _gone(self, source: str) -> str | None:
        """Say what of a source is there no more, if anything."""
        return labels_gone(self._reading, source) if source in self._places else GONE

    def _of(self, numbers: Iterable[int]) -> list[Origin]:
        which = np.unique(np.searchsorted(self._starts, np.fromiter(numbers, np.int64), "right")) - 1
        return [self._origins[one] for one in which.tolist()]

    def _result(self, names: Sequence[str], task: Task) -> Any:
        try:
            return task.result()
        except self._engine.lost as error:
            raise workers_died(names) from error


def columns_of(batch: Batch, schema: Schema) -> tuple[dict[str, list[dict[str, NDArray[Any]]]], list[Failure]]:
    """Return the further columns of each sequence of some sources, and the sources that cannot be used."""
    found: dict[str, list[dict[str, NDArray[Any]]]] = {}
    failures: list[Failure] = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with searching(batch.search):
        for number, name in enumerate(batch.names):
            try:
                found[name], _ = read_source(batch, number, buffer, partial(_columns, schema))
            except UnusableError as error:
                failures.append(error.failure)
    return found, failures


def _columns(schema: Schema, origin: SourceId, sequence: SourceSequence | LongSequence) -> dict[str, NDArray[Any]]:
    return check_given(schema, origin, sequence).columns


def restore_files(
    batch: Batch, origins: Sequence[Origin], snapshot: Snapshot, damaged: Sequence[DamagedFile]
) -> tuple[list[str], list[Failure]]:
    """Put files of `inputs` or `labels` from the sources of the sequences of which they lost rows.

    Args:
        batch: The sources.
        origins: Which sequences are theirs.
        snapshot: The store.
        damaged: The files, all of one array.

    Returns:
        Those that were put; and the sources at fault where others could not be.
    """
    array, lost = damaged[0].array, {number for one in damaged for number in one.lost}
    given: dict[int, NDArray[Any]] = {}
    failures: list[Failure] = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    try:
        with searching(batch.search):
            for number, origin in enumerate(origins):
                try:
                    found, read = read_source(batch, number, buffer, partial(_rows, snapshot.root.schema, array))
                except UnusableError as error:
                    failures.append(error.failure)
                    continue
                mine = {origin.first + part: rows for part, rows in enumerate(found)}
                needed = [one for one in range(origin.first, origin.first + origin.count) if one in lost]
                if all(one in mine and snapshot.had(array, one, mine[one]) for one in needed):
                    given |= {one: mine[one] for one in needed}
                else:
                    failures.append(Failure(origin.source, _why_other(snapshot, origin, read)))
        if failures:
            return [], failures
        return [file for one in damaged if (file := restore_rows(snapshot, one, given)) is not None], []
    except StoreError as error:
        return [], [Failure(origins[0].source, str(error))]


def _why_other(snapshot: Snapshot, origin: Origin, read: Fingerprint) -> str:
    """Say why a source gives other rows than the store had."""
    if origin.retired:
        return OTHER_BEFORE
    if read.beside is not None:
        with contextlib.suppress(StoreError):  # the table may be damaged too
            (was,) = snapshot.table(LABELS, origin.first, origin.first + 1)
            if str(was) != read.beside[1].sha256.hex():
                return OTHER_LABELS.format(read.beside[0])
    return OTHER


def _rows(schema: Schema, array: str, origin: SourceId, sequence: SourceSequence | LongSequence) -> NDArray[Any]:
    return check_given(schema, origin, sequence).rows[array].copy()  # a process function may fill its arrays again


GONE = "it is there no more, so nobody has the rows that were lost; seqzarr build --retire-missing takes them away"
GONE_LABELS = "{}, where its labels were, is there no more, so nobody has the rows that were lost; put it back"
OTHER = "it gives other rows now than the store had: it changed, or the code that reads it"
OTHER_LABELS = "it gives other rows now than the store had: {}, where its labels are, changed"
OTHER_BEFORE = "the rows that it had before it was built again are lost, and it does not give them any more"
