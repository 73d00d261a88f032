"""`verify --repair`: put what is damaged again, from the sources, if these still give what the store had."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.batch import Batch, Failure, Summary, UnusableError, process_batch, read_source, summarise
from builder.build import BATCH_BYTES, manifest_labels, worker_count
from builder.engine import Engine, Task, as_done, start_engine
from builder.errors import UsageError
from builder.fingerprints import BUFFER_BYTES
from builder.process import Process, searching
from builder.reading import Reading, dealt, file_bytes, find_sources, opened
from builder.run import workers_died
from builder.verification import Checking, verify
from store_spec import retired
from store_spec.errors import StoreError
from store_spec.ledger import Ledger
from store_spec.problems import Problem
from store_spec.records import Records, SourceId, check_sequence
from store_spec.repair import Damage, DamagedFile, restore_bounds, restore_rows, restore_tables
from store_spec.schema import Schema
from store_spec.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What a repair did."""

    found: tuple[Problem, ...]  # before
    files: tuple[str, ...]  # put again, each with the bytes that it had
    failures: tuple[Failure, ...]  # sources that do not give any more what the store had
    left: tuple[Problem, ...]  # afterwards


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
    """Check a store, and put again what is damaged: nothing else changes, and readers that have it open go on.

    The sources of the sequences that are concerned are processed again, as the build did. What they give is put only
    if it is, by the checksums that are whole, what the store had. The root itself, and the names of the sources, cannot
    be had again from anywhere.

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
        StoreError: What is at `store` cannot be read at all, a writer has it open, or the disk refused.
        BuildError: Worker processes died again and again.
    """
    place = Path(store)
    held = opened(place)
    if held is None:
        raise UsageError(f"{store}: there is no store")
    labels = manifest_labels(manifest, None, None, manifest_only=False)
    reading = find_sources(Path(sources), place, held, process=process, manifest=labels, allow_none=True)
    reading = reading.for_schema(held.schema)
    check = partial(verify, store, workers=workers, scheduler=scheduler, on_progress=on_progress)
    found = left = check()
    put: list[str] = []
    failures: dict[str, Failure] = {}
    with Ledger.open(place) as ledger:  # which puts metadata right that lag behind the root
        while left:
            count = worker_count(workers, small=scheduler is None)
            with start_engine(count, scheduler) as engine:
                files, failed = _put_right(engine, count, ledger.snapshot(), reading, left)
            put += files
            failures |= {failure.source: failure for failure in failed}
            before, left = left, check()
            if not files and len(left) == len(before):
                break
    return Repair(
        found=tuple(found), files=tuple(sorted(set(put))), failures=tuple(failures.values()), left=tuple(left)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sequences of one source, which follow one another."""

    source: str
    first: int
    count: int


Result = tuple[list[str], list[Failure]]  # files that were put; why others were not


def _put_right(
    engine: Engine, workers: int, snapshot: Snapshot, reading: Reading, problems: Sequence[Problem]
) -> Result:
    """Put right what everything else is proved with: the bounds, then the tables, then the rows."""
    damage = Damage.of(snapshot, problems)
    if damage.bounds:
        return restore_bounds(snapshot), []
    try:
        origins = _origins(snapshot)
    except StoreError:
        return [], []  # nobody knows any more whose the sequences are
    dealing = _Dealing(engine, workers, snapshot, reading, origins)
    return dealing.tables(damage.tables) if damage.tables else dealing.rows(damage.rows)


def _origins(snapshot: Snapshot) -> list[Origin]:
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
        Origin(source=str(names[start]), first=start, count=stop - start)
        for start, stop in pairwise([*starts, len(names)])
    ]


class _Dealing:
    """Has the sources processed that are needed, and puts files."""

    def __init__(
        self, engine: Engine, workers: int, snapshot: Snapshot, reading: Reading, origins: Sequence[Origin]
    ) -> None:
        self._engine, self._workers, self._reading, self._origins = engine, workers, reading, origins
        self._snapshot = Snapshot(snapshot.storage, replace(snapshot.root, provenance={}, retired=()))
        self._places = {name: number for number, name in enumerate(reading.names)}
        self._starts = np.array([origin.first for origin in origins], np.int64)

    def tables(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put chunks of tables."""
        origins, failures = self._there(number for one in damaged for number in one.lost)
        sizes = [file_bytes(str(self._reading.sources.path(origin.source))) for origin in origins]
        work = [origins[part] for part, _ in dealt(sizes, BATCH_BYTES, 1.0)]
        records: dict[int, Records] = {}
        for some, task in as_done(self._engine, self._workers, work, self._describe):
            found: Summary = self._result(some, task)
            failures += found.failures
            for origin in some:
                mine = [number for number, source in enumerate(found.records.sources) if source == origin.source]
                if len(mine) == origin.count:
                    records |= {origin.first + at: found.records[number : number + 1] for at, number in enumerate(mine)}
                elif mine:
                    failures.append(_other(origin.source))
        whole = [one for one in damaged if all(number in records for number in one.lost)]
        try:
            return restore_tables(self._snapshot, whole, records), failures
        except StoreError as error:
            return [], [*failures, Failure(self._snapshot.storage.root.name, str(error))]

    def _describe(self, origins: Sequence[Origin]) -> Task:
        return self._engine.submit(describe_batch, self._batch(origins), self._snapshot.root.schema, watch=True)

    def rows(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put files of `inputs` and `labels`."""
        put: list[str] = []
        failures: list[Failure] = []
        work = []
        for one in damaged:
            origins, missing = self._there(one.lost)
            failures += missing
            if not missing:
                work.append((one, origins))

        def restore(item: tuple[DamagedFile, Sequence[Origin]]) -> Task:
            return self._engine.submit(restore_file, self._batch(item[1]), item[1], self._snapshot, item[0], watch=True)

        for (_, origins), task in as_done(self._engine, self._workers, work, restore):
            found: str | list[Failure] = self._result(origins, task)
            if isinstance(found, str):
                put.append(found)
            else:
                failures += found
        return put, failures

    def _there(self, numbers: Iterable[int]) -> tuple[list[Origin], list[Failure]]:
        """Return the origins of sequences, and the failures of those whose source is there no more."""
        which = np.unique(np.searchsorted(self._starts, np.fromiter(numbers, np.int64), "right")) - 1
        origins = [self._origins[one] for one in which.tolist()]
        gone = dict.fromkeys(origin.source for origin in origins if origin.source not in self._places)
        return [origin for origin in origins if origin.source not in gone], [Failure(name, GONE) for name in gone]

    def _batch(self, origins: Sequence[Origin]) -> Batch:
        return self._reading.batch([self._places[origin.source] for origin in origins])

    def _result(self, origins: Sequence[Origin], task: Task) -> Any:
        try:
            return task.result()
        except self._engine.lost as error:
            raise workers_died([origin.source for origin in origins]) from error


def describe_batch(batch: Batch, schema: Schema) -> Summary:
    """Process sources, and return their table rows."""
    return summarise(process_batch(batch, schema))


def restore_file(
    batch: Batch, origins: Sequence[Origin], snapshot: Snapshot, damaged: DamagedFile
) -> str | list[Failure]:
    """Put one file of `inputs` or `labels` from the sources of the sequences of which it lost rows.

    Args:
        batch: The sources.
        origins: Which sequences are theirs.
        snapshot: The store.
        damaged: The file.

    Returns:
        The file; or, where it could not be put, the sources at fault.
    """
    given: dict[int, NDArray[Any]] = {}
    failures: list[Failure] = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    lost = set(damaged.lost)
    with searching(batch.search):
        for number, origin in enumerate(origins):
            try:
                found, _ = read_source(batch, number, buffer, partial(_rows, snapshot.root.schema, damaged.array))
            except UnusableError as error:
                failures.append(error.failure)
                continue
            mine = {origin.first + part: rows for part, rows in enumerate(found)}
            right = len(found) == origin.count and all(
                snapshot.had(damaged.array, one, mine[one]) for one in mine.keys() & lost
            )
            if not right:
                failures.append(_other(origin.source))
            given |= {one: rows for one, rows in mine.items() if one in lost}
    return failures or restore_rows(snapshot, damaged, given)


def _rows(schema: Schema, array: str, origin: SourceId, inputs: Any, labels: Any) -> NDArray[Any]:
    x, y = check_sequence(schema, inputs, labels, origin)
    return (x if array == "inputs" else y).copy()  # a process function may fill its arrays again


GONE = "it is there no more; seqzarr build --retire-missing takes its sequences away"


def _other(source: str) -> Failure:
    return Failure(
        source,
        "it gives other rows than the store had, as it changed, or the code that reads it; seqzarr build --update puts "
        "its new rows in their place",
    )
