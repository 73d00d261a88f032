"""The queue of batches, in the order of their sources: the next to submit, its size, and those to register."""

import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from builder.labels.text_classes import ClassCodes, Recoding
from builder.workers.batch import BATCH_SECONDS, BatchSummary, FirstResult
from builder.workers.engine import TASKS_PER_WORKER, Task
from builder.workers.process_source import SourceBatch
from store_spec import Classes, Rows

AHEAD_SECONDS = 60.0  # of finished work per worker that may wait behind an unfinished source, uncommitted


class Work(Protocol):
    """Consecutive sources, as a worker receives them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources."""


@dataclass(slots=True, eq=False)
class BatchInFlight:
    """A batch whose rows are not all in shards yet."""

    work: Work
    nbytes: int  # of its rows in memory, and of their table rows; an estimate until its summary is known
    folder: Path | None = None  # for rows that do not fit into its memory; None: it was not submitted
    submitted: bool = False  # to a worker
    summary: BatchSummary | None = None  # from the worker; None: it is not processed yet
    rows: Task | None = None  # the task that holds its rows, from its submission until it is registered
    first: FirstResult | None = None  # its first result; None: not known yet, or `rows` is always the same
    rows_left: int = 0  # rows, of all axes, that are not in a shard yet
    retried: bool = False  # whether it is processed for the second time, since workers died
    classes: Classes | None = None  # of all sources up to here; None: no codes yet, or labels are numbers
    has_codes: bool = False  # whether its classes have codes
    is_ready: bool = False  # whether its rows and its summary use these codes

    def remove_files(self) -> None:
        """Remove the files in its folder, also those of workers that died; the ledger removes leftovers."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class BatchQueue:
    """The batches that are not registered, in the order of their sources.

    Args:
        batches: The sources of each batch, and the estimated bytes of its rows.
        workers: Worker processes; 0: one batch at a time, in this process.
        memory: No batch is submitted while at least this many bytes of rows and table rows are in memory.
        batch_memory: Bytes of one batch's rows that may be in memory; further rows go to files below `folder`.
    """

    def __init__(
        self,
        batches: Iterator[tuple[Work, int]],
        *,
        workers: int,
        memory: int,
        batch_memory: int,
        folder: Path,
        labels: Rows,
    ) -> None:
        self._batches, self._workers = batches, workers
        self._most_processing = TASKS_PER_WORKER * max(1, workers)  # batches at the same time
        self._memory, self._batch_memory, self._folder = memory, batch_memory, folder
        self._queue: deque[BatchInFlight] = deque()
        self._codes = ClassCodes(labels.classes or ())
        self._targets = labels.names or tuple(map(str, range(labels.features)))
        self._folders = 0  # the number of folders that have a name
        self._processing = 0  # batches that are submitted and not processed yet
        self._sources_per_second = 0.0  # of the last processed batch; 0: not known yet
        self._exhausted = False
        self.nbytes = 0  # of the rows and table rows in memory, of registered batches too
        self.is_stopping = False  # whether no new batches are wanted

    @property
    def is_done(self) -> bool:
        """Whether every batch is registered."""
        return self._exhausted and not self._queue

    def has_room(self) -> bool:
        """Return whether memory and workers allow another batch."""
        return self.nbytes < self._memory and self._processing < self._most_processing

    def next(self) -> BatchInFlight | None:
        """Return the next batch to submit, with about BATCH_SECONDS / 2 of work; None: none can be submitted now."""
        if self._processing >= self._most_processing:
            return None
        batch = next((one for one in self._queue if not one.submitted), None)
        is_awaited = batch is not None and self._is_followed(batch)  # later batches cannot be registered without it
        if not is_awaited and (self.is_stopping or self._is_far_ahead()):
            return None
        if batch is None:
            work, nbytes = next(self._batches, (None, 0))
            if work is None:
                self._exhausted = True
                return None
            batch = BatchInFlight(work, nbytes)
            self._queue.append(batch)
        if self._sources_per_second:
            self._split(batch, max(1, int(self._sources_per_second * BATCH_SECONDS / 2)))
        if isinstance(batch.work, SourceBatch):
            batch.work = batch.work.with_classes(self._codes.classes)  # so that few batches need recoding
        batch.nbytes = min(batch.nbytes, self._batch_memory)
        batch.folder = self._folder / str(self._folders)
        self._folders += 1
        batch.submitted = True
        self._processing += 1
        self.nbytes += batch.nbytes
        return batch

    def note_summary(self, batch: BatchInFlight, summary: BatchSummary) -> None:
        """Store the summary of a batch. Sources that were not processed become the next batch."""
        self._processing -= 1
        self.nbytes -= batch.nbytes
        self._split(batch, summary.done)
        batch.nbytes, batch.summary = summary.bytes_in_memory + summary.records.nbytes, summary
        self.nbytes += batch.nbytes
        self._sources_per_second = summary.done / max(summary.seconds, 1e-6)

    def give_codes(self) -> Iterator[tuple[BatchInFlight, Recoding]]:
        """Assign codes to the classes of processed batches, in order; yield the batches whose codes must change.

        Too many classes are a UsageError.
        """
        for batch in self._queue:
            if batch.summary is None:
                return
            if batch.has_codes:
                continue
            classes = batch.summary.classes
            recoding = None if classes is None else self._codes.recoding(classes, self._targets)
            batch.classes, batch.has_codes, batch.is_ready = self._codes.classes, True, recoding is None
            if recoding is not None:
                yield batch, recoding

    def pop_ready(self) -> Iterator[tuple[BatchInFlight, BatchSummary]]:
        """Remove and yield the batches at the front that can be registered, with their summaries."""
        while self._queue and self._queue[0].is_ready and (summary := self._queue[0].summary) is not None:
            yield self._queue.popleft(), summary

    def _is_followed(self, batch: BatchInFlight) -> bool:
        """Return whether a later batch was submitted before this one."""
        return any(one.submitted for one in islice(self._queue, self._queue.index(batch), None))

    def _is_far_ahead(self) -> bool:
        """Return whether too much finished work waits behind an unfinished source, and would be lost in a crash.

        Each worker may be one batch ahead, however long that batch took.
        """
        seconds = [one.summary.seconds for one in self._queue if one.summary is not None]
        return len(seconds) > self._workers and sum(seconds) > AHEAD_SECONDS * self._workers

    def _split(self, batch: BatchInFlight, count: int) -> None:
        """Keep the first `count` sources of a batch, and insert a new batch of its other sources after it."""
        total = len(batch.work.names)
        if isinstance(batch.work, SourceBatch) and count < total:
            nbytes = batch.nbytes * (total - count) // total
            self._queue.insert(
                self._queue.index(batch) + 1, BatchInFlight(batch.work.take(range(count, total)), nbytes)
            )
            batch.work, batch.nbytes = batch.work.take(range(count)), batch.nbytes - nbytes
