"""`verify --sources`: read the sources once more, and hold every row of a store against them, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.execution.build import read_again, worker_count
from builder.maintenance.verification import Checking
from builder.planning.build_options import BATCH_BYTES
from builder.planning.comparison import Held
from builder.planning.plan import check_root
from builder.planning.recorded_failures import failures_in
from builder.planning.resolved_sources import dealt
from builder.processes.process import ProcessFunction, searching
from builder.sequence import LongSequence, Sequence
from builder.sources.fingerprints import BUFFER_BYTES
from builder.workers.conform import check_given
from builder.workers.crashes import workers_died
from builder.workers.engine import Task, as_done, start_engine
from builder.workers.process_source import Batch, UnusableError, read_source
from store_spec import DAMAGE, Problem, SequenceError
from store_spec.building import CheckedSequence, SourceId


def verify_sources(
    store: str | PathLike[str],
    sources: str | PathLike[str],
    *,
    process: ProcessFunction | str | None = None,
    manifest: str | PathLike[str] | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Checking], None] = lambda _: None,
) -> list[Problem]:
    """Process the sources of a store again, as its build did, and return what is not the same: nothing, if all is well.

    Args:
        store: The store; its options are as it records them.
        sources: The folder or glob that it was built from.
        process: The process function, where the store's name for it finds none, or where `labels_from` of `tabular`
            leads out of the sources' folder.
        manifest: The manifest, where it does not lie below the sources.
        workers: Processes on this machine; 0: work in this process. By default as `build`.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        on_progress: Called with a `Checking` whenever something was done.

    Raises:
        UsageError: There is no such folder or store, no build made the store, or options clash.
        StoreError: What is at `store` cannot be read at all; or a process has too many open files, or too little
            memory.
    """
    held, reading = read_again(Path(store), sources, process, manifest)
    numbers, there = Held(held).numbers, set(reading.names)
    new = [name for name in reading.names if name not in numbers]
    check_root(held, reading.sources, new)
    name = held.path.name
    _, listed = failures_in(held.provenance)
    failed = {one.source: f"is not in the store, as the last build failed on it: {one.reason}" for one in listed}
    found = [
        *(_problem(name, failure.source, failure.reason) for failure in reading.misnamed),
        *(_problem(name, source, failed.get(source, "is not in the store; a build adds it")) for source in new),
        *(_problem(name, source, "is gone, so it was not compared") for source in numbers.keys() - there),
    ]
    held_names = [number for number, source in enumerate(reading.names) if source in numbers]
    sizes = [reading.file_bytes(reading.names[number]) for number in held_names]
    checking = Checking(to_check=sum(sizes), problems=len(found))
    on_progress(checking)
    count = worker_count(workers, small=scheduler is None and reading.is_small(sizes, BATCH_BYTES))
    with start_engine(count, scheduler) as engine:
        batches = ((reading.batch(held_names[part]), sum(sizes[part])) for part, _ in dealt(sizes, BATCH_BYTES, 1.0))

        def compare(work: tuple[Batch, int]) -> Task:
            batch, _ = work
            return engine.submit(compare_batch, batch, held, [numbers[source] for source in batch.names], watch=True)

        for (batch, nbytes), task in as_done(engine, batches, compare):
            try:
                found += [_problem(name, source, what) for source, what in task.result()]
            except engine.lost as error:
                raise workers_died(batch.names) from error
            checking.checked += nbytes
            checking.problems = len(found)
            on_progress(checking)
    return sorted(found, key=lambda problem: problem.what)


def compare_batch(batch: Batch, store: store_spec.Store, numbers: list[list[int]]) -> list[tuple[str, str]]:
    """Return the names of the sources that do not give what the store has, and the first difference of each.

    Args:
        batch: The sources.
        store: The store.
        numbers: The sequences of each source.
    """
    found = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with searching(batch.search):
        for number, name in enumerate(batch.names):
            try:
                given, _ = read_source(batch, number, buffer, partial(_as_stored, store))
                what = next(_differences(store, numbers[number], given), None)
            except UnusableError as error:
                what = f"cannot be compared: {error.failure.reason}"
            except DAMAGE as error:
                what = f"the store cannot give its rows: {error}"
            if what is not None:
                found.append((name, what))
    return found


def _as_stored(store: store_spec.Store, origin: SourceId, sequence: Sequence | LongSequence) -> CheckedSequence | str:
    """Return a sequence as the store would have it, copied: a process function may fill its arrays again."""
    try:
        checked = check_given(store.schema, origin, sequence)
    except SequenceError as error:
        return str(error).removeprefix(f"{origin}: ")
    return CheckedSequence({name: rows.copy() for name, rows in checked.rows.items()}, checked.columns)


def _differences(store: store_spec.Store, numbers: list[int], given: list[CheckedSequence | str]) -> Iterator[str]:
    if len(given) != len(numbers):
        yield f"number of sequences: {len(given):,}, where the store has {len(numbers):,}"
        return
    snapshot = store.snapshot
    for number, checked in zip(numbers, given, strict=True):
        if isinstance(checked, str):
            yield f"sequence {number:,}: {checked}"
            return
        for array, now in checked.rows.items():
            offsets = snapshot.bounds(array)
            held = snapshot.rows(array, int(offsets[number]), int(offsets[number + 1]))
            if len(held) != len(now):
                yield f"sequence {number:,}: {array}: {len(now):,} rows, where the store has {len(held):,}"
            elif held.tobytes() != now.tobytes():
                yield f"sequence {number:,}: {array}: {_first_difference(held, now)}"
        for array, value in checked.columns.items():
            kept = snapshot.table(array, number, number + 1)
            (was,), (is_now,) = kept.tolist(), value.tolist()
            if repr(was) != repr(is_now):  # NaN is itself, and -0.0 is not 0.0
                yield f"sequence {number:,}: {array} is {is_now!r:.80}, where the store has {was!r:.80}"


def _first_difference(held: NDArray[Any], now: NDArray[Any]) -> str:
    size = held.dtype.itemsize
    bits = [np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8) for rows in (held, now)]
    row, byte = (int(axis[0]) for axis in np.nonzero(bits[0] != bits[1]))
    values = int((bits[0] != bits[1]).reshape(len(held), -1, size).any(axis=2).sum())
    place = np.unravel_index(byte // size, held.shape[1:]) if held.shape[1:] else ()
    where = f"row {row:,}" + (f", column {','.join(map(str, map(int, place)))}" if place else "")
    count = "1 value differs" if values == 1 else f"{values:,} values differ"
    return f"{where} is {now[(row, *place)]}, where the store has {held[(row, *place)]} ({count})"


def _problem(store: str, source: str, what: str) -> Problem:
    return Problem(store=store, where="", what=f"{source}: {what}")
