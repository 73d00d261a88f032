"""Running a build: batches out to the engine, offsets added up in source order, shards handed out, commits.

Only table rows come back here; the rows of the sequences go from the worker that made them to the one that puts their
shard. Memory is bounded by the batches in flight, whatever the size of the data: rows of a batch that takes more than
its share wait in files beside the store.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from builder.build_errors import BuildError
from builder.execution.batch_queue import BatchInFlight, BatchQueue, Work
from builder.frames.counts import StoreCleaning
from builder.planning.provenance import note_code
from builder.planning.recorded_failures import FAILURES, failures_recorded
from builder.sources.fingerprints import SeenFiles
from builder.workers.batch import BatchPart, Processed, Summary, compress, process_all, process_batch, summarise
from builder.workers.crashes import find_crashes, workers_died
from builder.workers.engine import Engine, Task
from builder.workers.interrupts import Interrupts
from builder.workers.memory import worker_memory
from builder.workers.process_source import Batch, Failure
from builder.workers.recode import recode, records_of
from builder.workers.row_blocks import Space
from store_spec import Schema
from store_spec.building import EncodedRows, Ledger, ShardJob

BATCH_MEMORY = 2**27  # bytes of a batch's rows that lie in memory: four times those of a batch that was judged well
COMMIT_SECONDS = 5.0
COMMIT_SEQUENCES = 100_000  # or when so many wait: their table rows are in memory until then
STOP_SECONDS = 10.0  # that an interrupted build waits for the batches that workers have in hand
LOOK_SECONDS = 0.1  # between looks at whether a signal came, or a commit is due


@dataclass(slots=True, kw_only=True)
class Tally:
    """How far a build is."""

    sources: int  # to process
    done: int = 0  # processed, failed ones among them
    sequences: int = 0  # of those processed
    steps: int = 0
    bytes_to_read: int = 0
    bytes_read: int = 0
    bytes_decoded: int = 0
    bytes_written: int = 0
    cleaning: StoreCleaning = field(default_factory=StoreCleaning)  # of the sequences of this build
    committed: int = 0  # sequences that readers see, those of earlier builds among them
    started: float = field(default_factory=time.monotonic)
    failures: list[Failure] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds since the build started."""
        return time.monotonic() - self.started


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """The rows of a batch that go into one shard of each array on an axis."""

    batch: BatchInFlight
    part: BatchPart
    source: Task  # the batch, or this part of it, compressed where it was
    compressed: bool


class Run:
    """One build in progress."""

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
        process: Callable[[Any, Schema, Space], Processed] = process_batch,
        before_commit: Callable[[Ledger], None] = lambda _: None,
        seen: SeenFiles | None = None,
        most_failures: float = math.inf,
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
        self._process = process
        self._before_commit = before_commit
        self._seen = seen
        self._most_failures = most_failures
        self._schema = ledger.schema
        self._arrays = self._schema.sharded()
        self._classes = self._schema.labels.classes  # of the sequences that are registered
        self._ends = {axis: ledger.root.counts.of(axis) for axis in self._arrays}
        # Tasks under way: a batch, or shards with the batches that have rows in them and how many.
        self._open: dict[Task, BatchInFlight | tuple[tuple[ShardJob, ...], list[tuple[BatchInFlight, int]]]] = {}
        # Registered, in order, and in no shard yet.
        self._pieces: dict[str, deque[_Piece]] = {axis: deque() for axis in self._arrays}
        self._partial: dict[tuple[str, int], int] = {}  # bytes of shards that this run put and that are not full yet
        self._committing = False  # all that is registered was handed out, and is committed when it is put
        self._last_commit = time.monotonic()
        self._interrupts = Interrupts()
        self._interrupt: KeyboardInterrupt | None = None

    def finish(self) -> None:
        """Process every batch, put every shard, and commit.

        Raises:
            KeyboardInterrupt: After Ctrl-C, once the sources that are finished are committed.
        """
        with self._interrupts:
            self._submit_batches()
            while self._open:
                try:
                    task = self._wait()
                    if task is not None:
                        self._go_on(task)
                except KeyboardInterrupt:
                    self._commit_finished()
                    raise
                self._submit_batches()
                self._commit_if_due()
                self._on_progress(self._tally)
            if self._tally.sequences or not self._ledger.is_new:  # a store of nothing is not worth a name
                self._ledger.tidy()
                self._commit()
            self._on_progress(self._tally)

    def _wait(self) -> Task | None:
        """Wait for a task that is done; None: a commit is due before."""
        if self._interrupt is not None:
            raise self._interrupt
        if not self._engine.workers:  # the task runs in here, and can be interrupted
            with self._interrupts.allowed():
                return self._engine.finished()
        self._interrupts.check()
        while not self._engine.wait(LOOK_SECONDS):
            self._interrupts.check()
            if self._is_due() and not self._committing:
                return None
        return self._engine.finished()

    def _go_on(self, task: Task) -> None:
        """Take what a task gave."""
        what = self._open.pop(task)
        if isinstance(what, BatchInFlight):
            (self._take_recoded if what.coded else self._take)(task, what)
            for batch, summary in self._queue.pop_ready():
                self._register(batch, summary)
        else:
            jobs, parts = what
            self._put(jobs, parts, self._result(task, [batch for batch, _ in parts]))

    def _commit_if_due(self) -> None:
        """Hand out the shards that are full, or all of them if a commit is due; commit when these are put."""
        last = self._queue.is_done
        if not self._committing:
            self._committing = self._is_due()
            self._submit_jobs(final=last or self._committing)
        # The next rows of a partial shard follow those that are committed, so they wait.
        if self._committing and not self._has_open_jobs():
            self._commit()
            self._submit_jobs(final=last)

    def _has_open_jobs(self) -> bool:
        return any(not isinstance(what, BatchInFlight) for what in self._open.values())

    def _is_due(self) -> bool:
        """Tell whether it is time for a commit, and there is something to commit."""
        waiting = self._ledger.waiting
        return waiting > COMMIT_SEQUENCES or (waiting > 0 and time.monotonic() - self._last_commit > COMMIT_SECONDS)

    def _commit_finished(self) -> None:
        """Commit what is finished after an interrupt, and what the workers finish soon.

        Sources that come after one that is not finished are left out: rows are in the order of the sources.
        """
        self._queue.is_stopping = True
        deadline = time.monotonic() + STOP_SECONDS
        while self._engine.workers and any(isinstance(what, BatchInFlight) for what in self._open.values()):
            self._interrupts.check()  # a second one ends this
            if self._engine.wait(LOOK_SECONDS):
                self._go_on(self._engine.finished())
                self._submit_batches()
                self._commit_if_due()
            if time.monotonic() > deadline:
                break
        if self._committing:
            self._commit_open_jobs()
        self._submit_jobs(final=True)
        self._commit_open_jobs()

    def _commit_open_jobs(self) -> None:
        """Wait for the shards that are handed out, and commit."""
        while self._has_open_jobs():
            self._interrupts.check()
            if self._engine.wait(LOOK_SECONDS):
                self._go_on(self._engine.finished())
        if self._ledger.ready():
            self._commit()

    def _result(self, task: Task, batches: list[BatchInFlight]) -> Any:
        try:
            return task.result()
        except self._engine.lost as error:
            raise self._died(batches) from error

    def _died(self, batches: list[BatchInFlight]) -> BuildError:
        # The task that the engine gives up first need not be at fault: the worker may only have had it in hand.
        return workers_died(sorted({name for batch in (*batches, *self._in_hand()) for name in batch.work.names}))

    def _take(self, task: Task, batch: BatchInFlight) -> None:
        """Take the summary of a batch; have it processed again without the sources of which workers died, if they did.

        Where none of them ends a process alone, the worker may have died of another batch that it had in hand: then
        the other batches are looked at too, and the build ends if none of those ends a process either.
        """
        try:
            summary = task.result()
        except self._engine.lost as error:
            if self._queue.is_stopping:
                return  # the next build finds out why
            crashed = self._find_crashes(batch)
            if batch.retried and not crashed and not any(self._find_crashes(one) for one in self._in_hand()):
                raise self._died([batch]) from error
            if isinstance(batch.work, Batch):
                batch.work = replace(batch.work, crashed={**batch.work.crashed, **crashed})
            batch.retried = True
            self._submit_batch(batch)
        else:
            self._take_summary(batch, summary)

    def _find_crashes(self, batch: BatchInFlight) -> dict[str, str]:
        """Return which sources of a batch end the process that reads them, beside those that are known, and how."""
        if not isinstance(batch.work, Batch):
            return {}
        space, memory = Space(memory=self._batch_memory), worker_memory(self._engine.workers)
        with self._interrupts.allowed():  # it may take long
            return find_crashes(batch.work, memory, self._process, self._schema, space)

    def _in_hand(self) -> list[BatchInFlight]:
        """Return the batches that workers have."""
        return [what for what in self._open.values() if isinstance(what, BatchInFlight)]

    def _submit_batches(self) -> None:
        while self._queue.has_room() or not self._open:
            batch = self._queue.next()
            if batch is None:
                return
            self._submit_batch(batch)

    def _submit_batch(self, batch: BatchInFlight) -> None:
        batch.rows = self._engine.submit(self._process, batch.work, self._schema, self._queue.space(batch))
        self._open[self._engine.submit(summarise, batch.rows, watch=True, urgent=True)] = batch

    def _take_summary(self, batch: BatchInFlight, summary: Summary) -> None:
        self._queue.note_summary(batch, summary)
        if isinstance(batch.work, Batch):
            arguments = batch.rows, batch.work, self._schema, self._queue.space(batch)
            batch.rows = self._engine.submit(process_all, *arguments, urgent=True)
        self._interrupt = self._interrupt or summary.interrupt
        for other, recoding in self._queue.give_codes():
            other.rows = self._engine.submit(recode, other.rows, recoding, self._schema, urgent=True)
            self._open[self._engine.submit(records_of, other.rows, watch=True, urgent=True)] = other

    def _take_recoded(self, task: Task, batch: BatchInFlight) -> None:
        """Take what the tables record about a batch with the codes of the store."""
        assert batch.summary is not None
        batch.summary, batch.ready = replace(batch.summary, records=self._result(task, [batch])), True

    def _register(self, batch: BatchInFlight, summary: Summary) -> None:
        """Give a batch's rows their place, after those of all batches before it."""
        records = summary.records
        for axis in self._arrays:
            rows = int((records.label_lengths if axis == "label_step" else records.lengths).sum())
            self._cut(batch, axis, rows)
        batch.rows = None  # its memory is free when its pieces are compressed
        self._ledger.register(records)
        self._classes = batch.classes
        self._let_go(batch, 0)
        tally = self._tally
        tally.done += len(set(records.sources)) + len(summary.failures)
        tally.sequences += len(records)
        tally.steps += int(records.lengths.sum())
        tally.cleaning += summary.cleaning
        tally.bytes_read += summary.bytes_read
        tally.bytes_decoded += summary.nbytes
        tally.failures += summary.failures
        if self._seen is not None:
            self._seen.add(summary.seen, batch.work.names)
        if len(tally.failures) > self._most_failures:
            raise too_many_failed(tally, self._most_failures)

    def _cut(self, batch: BatchInFlight, axis: str, rows: int) -> None:
        """Cut a batch's rows into pieces, each for a shard, and have those compressed that wait for others to fill it.

        A piece that fills a shard is compressed when that is put: a large batch has many, and needs no memory for all.
        """
        names = self._arrays[axis]
        chunking = self._schema.chunking(names[0])
        assert batch.rows is not None
        begin, done = self._ends[axis], 0
        self._ends[axis] += rows
        batch.rows_left += rows
        while done < rows:
            first = begin + done
            count = min(chunking.shard - first % chunking.shard, rows - done)
            part, fills = BatchPart(names=names, rows=slice(done, done + count), first=first), count == chunking.shard
            source = batch.rows if fills else self._engine.submit(compress, batch.rows, part, self._schema, urgent=True)
            self._pieces[axis].append(_Piece(batch, part, source, compressed=not fills))
            done += count

    def _submit_jobs(self, *, final: bool) -> None:
        handed = self._ledger.jobs(final=final)
        for axis, names in self._arrays.items():
            # Those of one array come after another's; shard by shard, those of all arrays on the axis go together.
            for jobs in zip(*([job for job in handed if job.name == name] for name in names), strict=True):
                pieces, missing = [], jobs[0].stop - jobs[0].start
                while missing:
                    pieces.append(self._pieces[axis].popleft())
                    missing -= len(pieces[-1].part)
                self._open[self._submit_job(jobs, pieces)] = jobs, [(one.batch, len(one.part)) for one in pieces]

    def _submit_job(self, jobs: tuple[ShardJob, ...], pieces: list[_Piece]) -> Task:
        sources = [piece.source for piece in pieces]
        if pieces[0].compressed:
            return self._engine.submit(put_shards, jobs, *sources, watch=True, urgent=True)
        arguments = *sources, pieces[0].part, self._schema
        return self._engine.submit(compress_and_put, jobs, *arguments, watch=True, urgent=True)

    def _put(self, jobs: tuple[ShardJob, ...], parts: list[tuple[BatchInFlight, int]], written: int) -> None:
        for job in jobs:
            self._ledger.mark_done(job)
        shard = jobs[0].name, jobs[0].number
        self._tally.bytes_written += written - self._partial.pop(shard, 0)
        if jobs[0].stop % self._schema.chunking(jobs[0].name).shard:
            self._partial[shard] = written
        for batch, rows in parts:
            self._let_go(batch, rows)

    def _let_go(self, batch: BatchInFlight, rows: int) -> None:
        """Take note that so many rows of a batch lie in shards."""
        batch.rows_left -= rows
        if not batch.rows_left:
            self._queue.nbytes -= batch.nbytes
            if batch.spilled:
                shutil.rmtree(batch.folder, ignore_errors=True)  # what is left goes with the ledger

    def _commit(self) -> None:
        self._before_commit(self._ledger)
        if self._classes != self._ledger.schema.labels.classes:
            self._ledger.extend_classes(self._classes)
        self._tally.committed = self._ledger.commit()
        self._last_commit, self._committing = time.monotonic(), False


def note_build(ledger: Ledger, tally: Tally, code: str | None = None, *, only_code: bool = False) -> None:
    """Have the next commit record the code that made the new sequences, and the sources that failed.

    With `only_code` those of the last build stay: this one did not try all.
    """
    if code is not None and ledger.ready():
        note_code(ledger.provenance, ledger.root.counts.sequences, code)
    if only_code:
        return
    ledger.provenance[FAILURES] = failures_recorded(tally.failures)


def too_many_failed(tally: Tally, most: float) -> BuildError:
    """Say that a build gives up."""
    # Some are processed together, so that more than the first may have failed.
    if most:
        why = f"at most {int(most):,} may (max_failures, --max-failures); the last: {tally.failures[-1]}"
    else:
        why = f"none may (max_failures=0, --fail-fast); the first: {tally.failures[0]}"
    kept = f"{tally.committed:,} sequences are committed, and the next build goes on from there"
    return BuildError(
        f"{len(tally.failures):,} of {tally.done:,} sources failed, and {why.rstrip()}; "
        + (kept if tally.committed else "nothing was committed")
    )


def put_shards(jobs: tuple[ShardJob, ...], *parts: dict[str, EncodedRows]) -> int:
    """Put one shard of each array on an axis, from their stretches; return the bytes written."""
    return sum(job.write([stretches[job.name] for stretches in parts]) for job in jobs)


def compress_and_put(jobs: tuple[ShardJob, ...], processed: Processed, part: BatchPart, schema: Schema) -> int:
    """Put one shard of each array on an axis, which rows of a single batch fill; return the bytes written."""
    return put_shards(jobs, compress(processed, part, schema))
