"""Run a build: submit batches, register their sequences in source order, write shards, commit.

Only table rows return to this process; the rows of the sequences go from the worker that made them to the one that
writes their shard. The batches in flight bound the memory: if a batch needs more than its share, further rows wait in
files beside the store.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from builder.build_errors import BuildError
from builder.execution.batch_queue import BatchInFlight, BatchQueue, Work
from builder.execution.report import Tally
from builder.workers.batch import (
    BatchSummary,
    FirstResult,
    ProcessedBatch,
    RowRange,
    compress,
    process_batch,
    recode,
    summarise,
)
from builder.workers.crashes import find_crashes, workers_died
from builder.workers.engine import Engine, Task
from builder.workers.interrupts import Interrupts
from builder.workers.process_source import SourceBatch
from builder.workers.processes import worker_memory
from builder.workers.row_blocks import Space
from store_spec import Schema
from store_spec.building import EncodedRows, Ledger, ShardJob

BATCH_MEMORY = 2**27  # bytes of a batch's rows in memory: four times the usual size of a batch
COMMIT_SECONDS = 5.0
COMMIT_SEQUENCES = 100_000  # commit earlier if so many are registered, since their table rows are in memory,
COMMIT_BYTES = 2**27  # or if these have so many bytes: with many features, statistics are larger than short sequences
STOP_SECONDS = 10.0  # how long an interrupted build waits for the batches of workers
LOOK_SECONDS = 0.1  # between checks for signals and due commits


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSteps:
    """The functions that a run calls for each batch and each commit."""

    process: Callable[..., ProcessedBatch] = process_batch  # processes a batch, on a worker
    # Receives the summary of a registered batch, and the names of its sources.
    after_batch: Callable[[BatchSummary, tuple[str, ...]], None] = lambda _summary, _names: None
    before_commit: Callable[[Ledger], None] = lambda _: None
    # Receives the number of registered sources, and returns whether the run ends there, with a commit.
    ends_after: Callable[[int], bool] = lambda _: False


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """The rows of a batch that go into one shard of each array on an axis."""

    batch: BatchInFlight
    rows: RowRange
    task: Task  # its result is the batch, or these rows of it, compressed
    compressed: bool


class Run:
    """One build in progress.

    Args:
        engine: Runs the tasks.
        ledger: The open store.
        batches: The sources of each batch, and the estimated bytes of its rows.
        tally: The counts, which the run updates.
        memory: No batch is submitted while at least this many bytes of rows are in memory.
        batch_memory: Bytes of one batch's rows that may be in memory; further rows go to files beside the store.
        on_progress: Called with the tally whenever it changed.
        steps: The functions to call for each batch and commit.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        batches: Iterator[tuple[Work, int]],
        tally: Tally,
        *,
        memory: int,
        batch_memory: int = BATCH_MEMORY,
        on_progress: Callable[[Tally], None],
        steps: RunSteps = RunSteps(),
    ) -> None:
        self._engine = engine
        self._ledger = ledger
        self._tally = tally
        self._batch_memory = batch_memory
        self._queue = BatchQueue(
            batches,
            workers=engine.workers,
            memory=memory,
            batch_memory=batch_memory,
            folder=ledger.spilled,
            labels=ledger.schema.labels,
        )
        self._on_progress = on_progress
        self._steps = steps
        self._schema = ledger.schema
        self._arrays = self._schema.sharded()
        self._classes = self._schema.labels.classes  # of the sequences that are registered
        self._ends = {axis: ledger.root.counts.of(axis) for axis in self._arrays}  # the number of registered rows
        self._batches: dict[Task, BatchInFlight] = {}  # by submitted task
        # By submitted task: shards, with the batches of their rows and the number of rows of each.
        self._jobs: dict[Task, tuple[tuple[ShardJob, ...], list[tuple[BatchInFlight, int]]]] = {}
        # Pieces that are registered, in order, and in no shard yet.
        self._pieces: dict[str, deque[_Piece]] = {axis: deque() for axis in self._arrays}
        self._partial: dict[tuple[str, int], int] = {}  # bytes of shards that this run wrote and that are not full yet
        self._committing = False  # all registered rows were handed out, and are committed when they are written
        self._registered = 0  # sources
        self._last_commit = time.monotonic()
        self._interrupts = Interrupts()
        self._interrupt: KeyboardInterrupt | None = None

    def finish(self) -> int:
        """Process every batch, write every shard, and commit; return how many sources were registered.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; finished sources are committed.
        """
        try:
            self._finish()
        except BaseException:
            # Before the lock is released, so that no worker of ours writes a shard afterwards. Workers of the user's
            # cluster may go on; once the ledger is closed, no file of theirs gets its name.
            self._engine.abandon()
            raise
        return self._registered

    def _finish(self) -> None:
        with self._interrupts.delayed():
            self._submit_batches()
            while self._batches or self._jobs:
                try:
                    task = self._wait()
                    if task is not None:
                        self._use_result(task)
                except KeyboardInterrupt:
                    self._commit_finished()
                    raise
                self._submit_batches()
                self._commit_if_due()
                self._on_progress(self._tally)
                if self._interrupt is None and self._steps.ends_after(self._registered):
                    self._commit_finished()
                    return
            if self._tally.sequences or not self._ledger.is_new:  # a new store without sequences gets no name
                self._ledger.tidy()
                self._commit()
            self._on_progress(self._tally)

    def _wait(self) -> Task | None:
        """Wait for a task; return None if a commit is due first."""
        if self._interrupt is not None:
            raise self._interrupt
        if not self._engine.workers:  # the task runs in this process, and can be interrupted
            with self._interrupts.allowed():
                self._engine.wait(LOOK_SECONDS)
            return self._engine.next_finished()  # without interrupts, so that no task is lost
        self._interrupts.check()
        while not self._engine.wait(LOOK_SECONDS):
            self._interrupts.check()
            if self._is_due() and not self._committing:
                return None
        return self._engine.next_finished()

    def _use_result(self, task: Task) -> None:
        """Note the written shards or the summary of a finished task, and register the batches that are ready."""
        if task in self._jobs:
            jobs, rows_of = self._jobs.pop(task)
            self._note_written(jobs, rows_of, self._result(task, [batch for batch, _ in rows_of]))
            return
        processed = self._batches.pop(task)
        if processed.has_codes:  # its labels have the codes of the store now
            processed.summary, processed.is_ready = self._result(task, [processed]), True
        else:
            self._take_summary(task, processed)
        for batch, summary in self._queue.pop_ready():
            self._register(batch, summary)

    def _commit_if_due(self) -> None:
        """Submit the full shards, or all shards if a commit is due; commit when they are written."""
        last = self._queue.is_done
        if not self._committing:
            self._committing = self._is_due()
            self._submit_jobs(final=last or self._committing)
        # The next rows of a partial shard wait until its present rows are committed.
        if self._committing and not self._jobs:
            self._commit()
            self._submit_jobs(final=last)

    def _is_due(self) -> bool:
        """Return whether a commit is due, and there is something to commit."""
        waiting = self._ledger.waiting
        if waiting > COMMIT_SEQUENCES or self._ledger.waiting_bytes > COMMIT_BYTES:
            return True
        return waiting > 0 and time.monotonic() - self._last_commit > COMMIT_SECONDS

    def _commit_finished(self) -> None:
        """Before the end of all batches, commit the sources that are finished or that workers finish soon.

        Sources after an unfinished one are left out, since rows are in the order of the sources.
        """
        self._queue.is_stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        while self._engine.workers and self._batches:
            self._interrupts.check()  # a second interrupt ends the wait
            if self._engine.wait(LOOK_SECONDS):
                self._use_result(self._engine.next_finished())
                self._submit_batches()
                self._commit_if_due()
            if time.monotonic() > deadline:
                break
        if self._committing:
            self._commit_open_jobs()
        self._submit_jobs(final=True)
        self._commit_open_jobs()

    def _commit_open_jobs(self) -> None:
        """Wait for the submitted shards, and commit."""
        while self._jobs:
            self._interrupts.check()
            if self._engine.wait(LOOK_SECONDS):
                self._use_result(self._engine.next_finished())
        if self._ledger.ready():
            self._commit()

    def _result(self, task: Task, batches: list[BatchInFlight]) -> Any:
        try:
            return self._engine.result(task)
        except self._engine.death_errors as error:
            raise self._death_error(batches) from error

    def _death_error(self, batches: list[BatchInFlight]) -> BuildError:
        # The task that the engine reports first need not be at fault: it may only have been on the worker that died.
        return workers_died(
            sorted({name for batch in (*batches, *self._batches.values()) for name in batch.work.names})
        )

    def _take_summary(self, task: Task, batch: BatchInFlight) -> None:
        """Take the summary of a batch; if workers died, process it again without the sources that crash them.

        If no source of the batch crashes a worker, another batch may have done so, and the batch is processed once more
        as it is. If workers die again, all batches are searched, and without such a source the build ends.
        """
        try:
            summary = self._engine.result(task)
        except self._engine.death_errors as error:
            if self._queue.is_stopping:
                return  # the next build finds out why
            crashed = self._find_crashes(batch)
            if batch.retried and not crashed and not any(self._find_crashes(one) for one in self._batches.values()):
                raise self._death_error([batch]) from error
            if isinstance(batch.work, SourceBatch):
                batch.work = replace(batch.work, crashed={**batch.work.crashed, **crashed})
            batch.retried = True
            batch.remove_files()
            self._submit_batch(batch)
        else:
            self._note_summary(batch, summary)

    def _find_crashes(self, batch: BatchInFlight) -> dict[str, str]:
        """Return further sources of a batch that crash the process that reads them, and how."""
        if not isinstance(batch.work, SourceBatch):
            return {}
        space, memory = Space(memory=self._batch_memory), worker_memory(self._engine.workers)
        with self._interrupts.allowed():  # it may take long
            return find_crashes(batch.work, memory, self._steps.process, self._schema, space)

    def _submit_batches(self) -> None:
        while self._queue.has_room() or not (self._batches or self._jobs):
            batch = self._queue.next()
            if batch is None:
                return
            self._submit_batch(batch)

    def _submit_batch(self, batch: BatchInFlight) -> None:
        space = Space(memory=self._batch_memory, folder=batch.folder)
        batch.rows = self._engine.submit(self._steps.process, batch.work, self._schema, space)
        self._batches[self._engine.submit(summarise, batch.rows, watch=True, urgent=True)] = batch

    def _note_summary(self, batch: BatchInFlight, summary: BatchSummary) -> None:
        self._queue.note_summary(batch, summary)
        if isinstance(batch.work, SourceBatch):
            space = Space(memory=self._batch_memory, folder=batch.folder)
            again = partial(self._steps.process, batch.work, self._schema, space, whole=True)
            batch.first = FirstResult(summary.content, again)
        self._interrupt = self._interrupt or summary.interrupt
        for other, recoding in self._queue.give_codes():
            other.rows = self._engine.submit(recode, other.rows, recoding, self._schema, other.first, urgent=True)
            other.first = None  # the result of `recode` is always complete
            self._batches[self._engine.submit(summarise, other.rows, watch=True, urgent=True)] = other

    def _register(self, batch: BatchInFlight, summary: BatchSummary) -> None:
        """Register a batch: its rows follow those of all earlier batches."""
        records = summary.records
        for axis in self._arrays:
            rows = int((records.label_lengths if axis == "label_step" else records.lengths).sum())
            self._divide(batch, axis, rows)
        batch.rows = None  # its memory is free when its pieces are compressed
        self._ledger.register(records)
        self._registered += len(batch.work.names)
        self._classes = batch.classes
        self._count_written(batch, 0)
        self._tally.add(summary)
        self._steps.after_batch(summary, batch.work.names)
        self._tally.check_failures()

    def _divide(self, batch: BatchInFlight, axis: str, rows: int) -> None:
        """Divide a batch's rows into pieces, one for each shard, and compress those that do not fill a shard.

        Pieces that fill a shard are compressed when it is written, since a large batch has many of them.
        """
        names = self._arrays[axis]
        chunking = self._schema.chunking(names[0])
        assert batch.rows is not None
        start, done = self._ends[axis], 0
        self._ends[axis] += rows
        batch.rows_left += rows
        while done < rows:
            first = start + done
            count = min(chunking.shard - first % chunking.shard, rows - done)
            chosen = RowRange(names=names, rows=slice(done, done + count), first=first)
            task, fills = batch.rows, count == chunking.shard
            if not fills:
                task = self._engine.submit(compress, batch.rows, chosen, self._schema, batch.first, urgent=True)
            self._pieces[axis].append(_Piece(batch, chosen, task, compressed=not fills))
            done += count

    def _submit_jobs(self, *, final: bool) -> None:
        every_job = self._ledger.jobs(final=final)
        for axis, names in self._arrays.items():
            # One task writes the same shard of all arrays of an axis.
            for jobs in zip(*([job for job in every_job if job.name == name] for name in names), strict=True):
                pieces, missing = [], jobs[0].stop - jobs[0].start
                while missing:
                    pieces.append(self._pieces[axis].popleft())
                    missing -= len(pieces[-1].rows)
                self._jobs[self._submit_job(jobs, pieces)] = jobs, [(one.batch, len(one.rows)) for one in pieces]

    def _submit_job(self, jobs: tuple[ShardJob, ...], pieces: list[_Piece]) -> Task:
        if pieces[0].compressed:
            return self._engine.submit(put_shards, jobs, *(piece.task for piece in pieces), watch=True, urgent=True)
        (piece,) = pieces  # it fills the shard
        arguments = piece.task, piece.rows, self._schema, piece.batch.first
        return self._engine.submit(compress_and_put, jobs, *arguments, watch=True, urgent=True)

    def _note_written(self, jobs: tuple[ShardJob, ...], rows_of: list[tuple[BatchInFlight, int]], written: int) -> None:
        """Note written shards: their bytes, and the number of rows of each batch in them."""
        for job in jobs:
            self._ledger.mark_done(job)
        shard = jobs[0].name, jobs[0].number
        self._tally.bytes_written += written - self._partial.pop(shard, 0)
        if jobs[0].stop % self._schema.chunking(jobs[0].name).shard:
            self._partial[shard] = written
        for batch, rows in rows_of:
            self._count_written(batch, rows)

    def _count_written(self, batch: BatchInFlight, rows: int) -> None:
        """Count rows of a batch that are in shards; after the last, free its memory and files."""
        batch.rows_left -= rows
        if not batch.rows_left:
            self._queue.nbytes -= batch.nbytes
            batch.remove_files()

    def _commit(self) -> None:
        self._steps.before_commit(self._ledger)
        if self._classes != self._ledger.schema.labels.classes:
            self._ledger.extend_classes(self._classes)
        self._tally.committed = self._ledger.commit()
        self._last_commit, self._committing = time.monotonic(), False


def put_shards(jobs: tuple[ShardJob, ...], *parts: dict[str, EncodedRows]) -> int:
    """Write one shard of each array on an axis, from encoded rows; return the bytes written."""
    return sum(job.write([rows[job.name] for rows in parts]) for job in jobs)


def compress_and_put(
    jobs: tuple[ShardJob, ...],
    processed: ProcessedBatch,
    chosen: RowRange,
    schema: Schema,
    first: FirstResult | None,
) -> int:
    """Write one shard of each array on an axis, filled by rows of a single batch; return the bytes written."""
    return put_shards(jobs, compress(processed, chosen, schema, first))
