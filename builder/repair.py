"""`verify --repair`: put what is damaged again, from the sources, as it was; where they changed, as they are now."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from builder.build import BATCH_BYTES, build, read_again, worker_count
from builder.engine import start_engine
from builder.errors import UsageError
from builder.lost_names import told_names
from builder.one_source import Failure
from builder.process import ProcessFunction
from builder.reading import Reading
from builder.restoring import Dealing, Result, labels_gone, origins_of, restore_names
from builder.verification import Checking, verify
from store_spec.disk.job import ADD_NOTHING
from store_spec.disk.ledger import Ledger, check_root
from store_spec.disk.lock import locked
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.errors import DAMAGE, FormatError, MissingStoreError
from store_spec.format.layout import ROOT
from store_spec.schema import ROW_ARRAYS
from store_spec.verification.damage import Damage, DamagedFile
from store_spec.verification.problems import Problem
from store_spec.verification.repair import is_closed, restore_bounds, restore_folders


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
    process: ProcessFunction | str | None = None,
    manifest: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Checking], None] = lambda _: None,
) -> Repair:
    """Check a store, and put again what is damaged, with the rows that it had; nothing else changes.

    Sources of sequences that lost rows are processed again, as the build did. What they give is put only if it is, by
    the checksums that are whole, what the store had. Where it is not, since a source changed or is gone, the file
    stays as it is: those of its sequences whose sources are there are retired and built again, as `build(update=True)`
    does, behind the others, and behind the last shard if no row can follow in that any more. In a table of labels zeros
    take the place of those of retired sequences that nobody has, as their checksums tell. Names of sources, offsets,
    and checksums that are lost with their rows, are had again only as long as the sources are as they were, and the
    root never.

    Args:
        store: The store; its options are as it records them.
        sources: The folder or glob that it was built from.
        process: The process function, where the store's name for it finds none, or where `labels_from` of `tabular`
            leads out of the sources' folder.
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
    if place.is_dir():
        with contextlib.suppress(MissingStoreError, FormatError), locked(place.absolute()):  # as who opens it will say
            restore_folders(place)
    held, reading = read_again(place, sources, process, manifest)
    if not reading.names:
        raise UsageError(f"{sources}: holds none of the store's sources; is that the right folder, and is it mounted?")
    check_root(held.snapshot)
    check = partial(verify, store, workers=workers, scheduler=scheduler, on_progress=on_progress)
    put: list[str] = []
    failed: dict[Failure, None] = {}  # each once, in order
    unput: list[DamagedFile] = []
    rebuilt: tuple[str, ...] = ()
    with locked(place.absolute()) as folder:  # first: a check may take hours, and a writer would waste them
        # A repair that was killed may not have synced what it put, and that looks as if it was safe.
        LocalStorage(held.path).sync(["", *held.snapshot.root.schema.folders()])
        found = check()
        if not found:
            return Repair(found=(), files=(), rebuilt=(), failures=(), left=())
        with Ledger.under_lock(place, folder) as ledger:  # which puts metadata right that lag behind the root
            # What verify found in metadata is gone.
            left = check() if any(problem.where.endswith(ROOT) or problem.leftover for problem in found) else found
            while left:
                damage = Damage.of(ledger.snapshot(), left)
                files, failures, unput = _put_right(damage, ledger.snapshot(), reading, workers, scheduler)
                failed |= dict.fromkeys(failures)
                fresh = set(files) - set(put)
                put += files
                left = check() if files else left
                if damage.bounds or damage.names or damage.tables:
                    unput = []  # with nothing to prove rows with, nobody knows whether the sources have others
                if not fresh:  # nothing more can be put; or what was put is damaged again
                    break
            names = _to_rebuild(ledger.snapshot(), reading, unput)
            skipped = {one.array for one in unput if is_closed(ledger.snapshot(), one)}
            if skipped:
                try:
                    ledger.skip_shards(skipped)
                    ledger.commit()
                except FormatError as error:
                    failed[Failure(place.name, _cannot_add(error))] = None
                    names = ()
    if names:
        try:
            report = build(
                sources, store, process=process, manifest=manifest, workers=workers, scheduler=scheduler, redo=names
            )
            rebuilt = tuple(name for name in names if name not in {failure.source for failure in report.failures})
        except FormatError as error:
            failed[Failure(place.name, _cannot_add(error))] = None
    if skipped or names:
        left = check()
    return Repair(
        found=tuple(found),
        files=tuple(sorted(set(put))),
        rebuilt=rebuilt,
        failures=tuple(failed) if left else (),
        left=tuple(left),
    )


def _put_right(damage: Damage, snapshot: Snapshot, reading: Reading, workers: int | None, scheduler: Any) -> Result:
    """Put right what everything else is proved with, if that is damaged: bounds, tables, rows, and then statistics."""
    if damage.bounds and (put := restore_bounds(snapshot)):
        return put, [], []
    try:
        told = told_names(damage.names, snapshot, reading) if damage.names else None
        if told is not None and not damage.tables:
            return restore_names(damage.names, snapshot, told)
        origins = origins_of(snapshot, told)
    except DAMAGE as error:
        return [], [Failure(snapshot.storage.root.name, str(error))], []  # nobody knows whose the sequences are
    lost = {number for one in (*damage.tables, *damage.rows) for number in one.lost}
    if damage.bounds:
        lost = set(range(snapshot.root.counts.sequences))
    starts = np.array([origin.first for origin in origins], np.int64)
    which = np.unique(np.searchsorted(starts, np.fromiter(lost, np.int64), "right")) - 1
    sizes = [reading.file_bytes(origins[one].source) for one in which.tolist()]
    count = worker_count(workers, small=scheduler is None and reading.is_small(sizes, BATCH_BYTES))
    with start_engine(count, scheduler) as engine:
        dealing = Dealing(engine, snapshot, reading, origins)
        failures: list[Failure] = []
        unput: list[DamagedFile] = []
        try:
            if told is not None:  # which are not proved yet: no rows are held against these sources
                return dealing.tables((*damage.names, *damage.tables), bounds=damage.bounds, told=told)
            steps: list[Callable[[], Result]] = [dealing.bounds] if damage.bounds and not damage.tables else []
            steps += [partial(dealing.tables, damage.tables, bounds=damage.bounds)] if damage.tables else []
            steps += [partial(dealing.rows, damage.rows)] if damage.rows else []
            steps += [partial(dealing.missing, damage.missing)] if damage.missing else []
            steps += [partial(dealing.stats, damage.stats)] if damage.stats else []
            for step in steps:
                put, why, others = step()
                failures, unput = failures + why, unput + others
                if put:
                    return put, failures, unput
        except BaseException:
            engine.abandon()  # before the lock is free: no worker may put a file any more
            raise
    return [], failures, unput


def _cannot_add(error: FormatError) -> str:
    """Say what to do where a table that rows have to be added to is lost for good."""
    return f"{str(error).removesuffix(ADD_NOTHING)}; nothing can be added to this store any more: build another one"


def _to_rebuild(snapshot: Snapshot, reading: Reading, unput: Iterable[DamagedFile]) -> tuple[str, ...]:
    """Return the sources that are there of sequences that readers see and that lie in files that could not be put."""
    lost = {number for one in unput if one.array in ROW_ARRAYS for number in one.lost}
    if not lost:
        return ()
    there = {name for name in reading.names if labels_gone(reading, name) is None}
    return tuple(
        origin.source
        for origin in origins_of(snapshot)
        if not origin.retired
        and origin.source in there
        and not lost.isdisjoint(range(origin.first, origin.first + origin.count))
    )
