"""`verify`: check a store in several processes, and compare every row with its sources, which are processed again."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.amounts import bytes_text, count_text
from builder.build_errors import BuildError
from builder.execution.build import open_with_sources, worker_count
from builder.execution.progress_bar import View, view_of
from builder.formats.column_choice import list_names
from builder.labels.text_classes import ClassCodes
from builder.planning.build_options import BATCH_BYTES
from builder.planning.plan import StoredSources, check_root
from builder.planning.provenance import RecordedSkips, failures_in
from builder.planning.resolved_sources import split_into_batches
from builder.processes.process import ProcessFunction
from builder.sequence import LongSequence
from builder.sequence import Sequence as SourceSequence
from builder.workers.conform import checked_pieces
from builder.workers.crashes import workers_died
from builder.workers.engine import Task, as_done, start_engine
from builder.workers.process_source import Failure, Skipped, SourceBatch, read_source
from store_spec import DAMAGE, Problem, SequenceError
from store_spec.building import Checked, CheckedSequence, Part, PartCheck, SourceId, checked_times, place_of

SMALL_BYTES = 2**29  # checking fewer decoded bytes takes less time than starting worker processes
BUNDLE_BYTES = 2**28  # decoded bytes of a task, so that progress is shown several times a second


@dataclass(slots=True, kw_only=True)
class Checking:
    """The progress of a check."""

    to_check: int = 0  # bytes: decoded rows, or the sources' files
    checked: int = 0
    problems: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the check started."""
        return time.monotonic() - self.started


def of_check(checking: Checking) -> View:
    """Return the progress of a check.

    >>> of_check(Checking(to_check=5000, checked=1200, problems=2)).account
    '1.2 kB of 5.0 kB checked; 2 problems'
    """
    problems = f"; {count_text(checking.problems, 'problem')}" if checking.problems else ""
    account = f"{bytes_text(checking.checked)} of {bytes_text(checking.to_check)} checked{problems}"
    done = checking.checked / checking.to_check if checking.checked else None
    return view_of(account, done, checking.checked, checking.seconds)


def verify(
    store: store_spec.StoreLocation,
    *,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Checking], None] = lambda _: None,
) -> list[Problem]:
    """Return all problems of a store, like `store_spec.verify`, but check in several processes.

    The result does not depend on the number of processes.

    Args:
        store: Its path, its URL as a str, or a zarr store, which is pickled for the workers.
        workers: Processes on this machine; 0: work in this process. By default one per core, or none if starting
            them would take longer.
        scheduler: The address of a dask scheduler, or a dask client, to use instead; its workers read the store.
        on_progress: Called with a `Checking` whenever there is progress.

    Raises:
        MissingStoreError: The store does not exist.
        StorageError: A process has too many open files, or too little memory; or the root or a folder cannot be read.
        BuildError: Worker processes died repeatedly.
    """
    is_default = workers is None and scheduler is None
    count = worker_count(workers, small=is_default and _decoded_bytes(store) <= SMALL_BYTES)
    checking = Checking()
    with start_engine(count, scheduler) as engine:

        def mapper(check: PartCheck, parts: Sequence[Part]) -> Iterator[Checked]:
            """Check the parts, several at once, and yield the results in the order of the parts."""
            checking.to_check = sum(part.nbytes for part in parts)
            on_progress(checking)
            done: dict[int, list[Checked]] = {}
            number_due = 0  # of the task whose results are yielded next
            sizes = [part.nbytes for part in parts]
            if engine.workers and check.at_once == 1:
                tasks = [one for one, _ in split_into_batches(sizes, BUNDLE_BYTES, 1.0, workers=engine.workers)]
            else:  # in this process, or a remote store
                tasks = [slice(at, at + check.at_once) for at in range(0, len(parts), check.at_once)]

            def submit(number: int) -> Task:
                return engine.submit(_check_each, check, parts[tasks[number]], watch=True)

            def death_error(number: int) -> BuildError:
                part, *more = parts[tasks[number]]
                beside = f" and {count_text(len(more), 'such part')} more" if more else ""
                return BuildError(
                    f"worker processes died repeatedly while rows {part.start:,} to {part.stop:,} of {part.array}"
                    f"{beside} were checked; they ran out of memory: check with workers=0 (--workers 0)"
                )

            for number, checked in as_done(engine, range(len(tasks)), submit, death_error):
                done[number] = checked
                checking.checked += sum(sizes[tasks[number]])
                checking.problems += sum(each.report.count for each in checked)
                on_progress(checking)
                while number_due in done:
                    yield from done.pop(number_due)
                    number_due += 1

        return store_spec.verify(store, mapper=mapper)


def _check_each(check: PartCheck, parts: Sequence[Part]) -> list[Checked]:
    return list(check.each(parts))


def _decoded_bytes(store: store_spec.StoreLocation) -> int:
    """Return the decoded bytes of a store; 0 if it cannot be read, which `verify` reports."""
    try:
        root = store_spec.open_store(store).snapshot.root
    except DAMAGE:
        return 0
    return sum(root.committed(name) * root.schema.rows(name).nbytes for name in root.schema.row_arrays)


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
    """Process the sources of a store again, as its build did, and return the differences.

    The arguments are those of `repair`.

    Raises:
        UsageError: The folder or the store does not exist, no build made the store, or options conflict.
        StoreError: The store cannot be read; or a process has too many open files, or too little memory.
    """
    place = place_of(store)
    opened_store, resolved = open_with_sources(place, sources, process, manifest)
    every, stored = resolved.every, StoredSources(opened_store)
    numbers, skips = stored.numbers, RecordedSkips.of(opened_store.provenance)
    new = [name for name in every.names if name not in numbers and name not in skips]
    gone = numbers.keys() - {*every.names}
    check_root(stored, resolved.listing, new, place)
    name = opened_store.path.name
    _, listed = failures_in(opened_store.provenance)
    failed = {one.source: f"is not in the store: it failed in the last build: {one.reason}" for one in listed}
    problems = [
        *(_problem(name, failure.source, failure.reason) for failure in resolved.misnamed),
        *(_problem(name, source, failed.get(source, "is not in the store; a build adds it")) for source in new),
        *(_problem(name, source, "no longer exists, so it was not compared") for source in gone),
    ]
    places = [number for number, source in enumerate(every.names) if source in numbers or source in skips]
    sizes = [resolved.file_bytes(every.names[number]) for number in places]
    unreadable: dict[str, list[str]] = {}  # the sources with rows in each damaged shard
    checking = Checking(to_check=sum(sizes), problems=len(problems))
    on_progress(checking)
    count = worker_count(workers, small=scheduler is None and resolved.is_small(sizes, BATCH_BYTES))
    with start_engine(count, scheduler, process=every.process) as engine:
        batches = (
            (every.take(places[part]), sum(sizes[part])) for part, _ in split_into_batches(sizes, BATCH_BYTES, 1.0)
        )

        def submit(work: tuple[SourceBatch, int]) -> Task:
            batch, _ = work
            return engine.submit(
                compare_batch, batch, opened_store, [numbers.get(source, []) for source in batch.names], watch=True
            )

        compared = as_done(engine, batches, submit, lambda work: workers_died(work[0].names))
        for (_, nbytes), (differences, damage) in compared:
            problems += [_problem(name, source, what) for source, what in differences]
            for source, what in damage:
                unreadable.setdefault(what, []).append(source)
            checking.checked += nbytes
            checking.problems = len(problems) + len(unreadable)
            on_progress(checking)
    for what, some in unreadable.items():
        who = f"{count_text(len(some), 'source')} ({list_names(sorted(some), 3)})"
        problems.append(_problem(name, who, f"rows in the store cannot be read: {what}"))
    return sorted(problems, key=lambda problem: problem.what)


def compare_batch(
    batch: SourceBatch, store: store_spec.Store, numbers: list[list[int]]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the sources that differ from the store, with their first difference; and those with damaged rows.

    `numbers` has the sequences of each source; none if the build skipped it.
    """
    differences, damage = list[tuple[str, str]](), list[tuple[str, str]]()
    row = "row" if batch.process.takes_all_rows else "step"  # a row has the same number in the file
    with batch.ready() as ready:
        for number, name in enumerate(ready.names):
            # A source that the build skipped may have classes that the store does not have.
            codes = None if numbers[number] else ClassCodes(ready.process.store_classes or ())
            try:
                used = read_source(ready, number, partial(_as_stored, store), codes=codes)
                if isinstance(used, Failure):
                    is_skipped = isinstance(used, Skipped) and not numbers[number]
                    what = None if is_skipped else f"cannot be compared: {used.reason}"
                else:
                    what = next(_differences(store, numbers[number], used.results, row), None)
            except DAMAGE as error:
                damage.append((name, str(error)))
            else:
                if what is not None:
                    differences.append((name, what))
    return differences, damage


def _as_stored(
    store: store_spec.Store, origin: SourceId, sequence: SourceSequence | LongSequence
) -> CheckedSequence | str:
    """Return a sequence as it would be stored, copied since a process function may reuse its arrays; or an error."""
    schema = store.schema
    try:
        pieces = [
            CheckedSequence({name: rows.copy() for name, rows in checked.rows.items()}, checked.columns)
            for _, checked in checked_pieces(schema, origin, sequence)
        ]
        if len(pieces) == 1:
            return pieces[0]
        rows = {name: np.concatenate([piece.rows[name] for piece in pieces]) for name in pieces[0].rows}
        if schema.label_axis == "sequence":
            rows["labels"] = pieces[0].rows["labels"]
        checked_times(schema.time, rows.get("time"), len(rows["inputs"]), origin)  # they may decrease between pieces
    except SequenceError as error:
        return str(error).removeprefix(f"{origin}: ")
    return CheckedSequence(rows, pieces[0].columns)


def _differences(
    store: store_spec.Store, numbers: list[int], sequences: list[CheckedSequence | str], row: str
) -> Iterator[str]:
    if len(sequences) != len(numbers):
        yield f"number of sequences: {len(sequences):,}, but the store has {len(numbers):,}"
        return
    snapshot = store.snapshot
    for number, checked in zip(numbers, sequences, strict=True):
        if isinstance(checked, str):
            yield f"sequence {number:,}: {checked}"
            return
        for array, now in checked.rows.items():
            offsets = snapshot.bounds(array)
            stored = snapshot.rows(array, int(offsets[number]), int(offsets[number + 1]))
            if len(stored) != len(now):
                yield f"sequence {number:,}: {array}: {len(now):,} rows, but the store has {len(stored):,}"
            elif stored.tobytes() != now.tobytes():
                names = store.schema.rows(array).names if array in {"inputs", "labels"} else None
                where = _first_difference(stored, now, names, row)
                yield f"sequence {number:,}: {array}: {where}"
        for array, value in checked.columns.items():
            stored = snapshot.table(array, number, number + 1)
            (was,), (is_now,) = stored.tolist(), value.tolist()
            if repr(was) != repr(is_now):  # by repr NaN equals NaN, and -0.0 differs from 0.0
                yield f"sequence {number:,}: {array} is {is_now!r:.80}, but the store has {was!r:.80}"


def _first_difference(stored: NDArray[Any], now: NDArray[Any], names: tuple[str, ...] | None, what: str) -> str:
    """Describe the first difference of two arrays, with row (from 1) and column as in errors of a build."""
    old, new = (np.ascontiguousarray(rows).reshape(-1, 1).view(np.uint8) for rows in (stored, now))
    differs = (old != new).any(axis=1).reshape(stored.shape)
    place = tuple(int(axis) for axis in np.unravel_index(int(differs.argmax()), differs.shape))
    column = [str(axis) for axis in place[1:]]
    if names is not None and column:
        column[0] = names[place[1]]
    where = f"{what} {place[0] + 1:,}" + (f", column {','.join(column)}" if column else "")
    values = int(differs.sum())
    count = "1 value differs" if values == 1 else f"{values:,} values differ"
    return f"{where} is {now[place]}, but the store has {stored[place]} ({count})"


def _problem(store: str, source: str, what: str) -> Problem:
    return Problem(store=store, where="", what=f"{source}: {what}")
