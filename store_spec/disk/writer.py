"""Append sequences from arrays, one after another, in this process."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.disk.ledger import Ledger, ShardJob
from store_spec.errors import SequenceError, StoreError
from store_spec.format import retired
from store_spec.format.records import SourceId, check_sequence
from store_spec.format.shard import between
from store_spec.schema import Schema


class Writer:
    """A store that is open for appending. Get one from `create_store`, or from `open_store` with mode="a".

    As a context manager it commits at the end. If an error is raised, sequences since the last commit are dropped. If a
    disk error or Ctrl-C is caught inside the `with` block, the end of the block raises an error, unless the writer was
    closed. Readers see all of a commit or nothing of it, whatever happens to this process.

    Threads may share a writer: their calls are serialised, and sequences are in the order of the calls.
    """

    def __init__(self, ledger: Ledger, resources: ExitStack) -> None:
        self._ledger = ledger
        self._resources = resources
        # The rows of each array that are in no shard yet.
        arrays = [name for names in ledger.schema.sharded().values() for name in names]
        self._waiting: dict[str, list[NDArray[Any]]] = {name: [] for name in arrays}
        self._committed: dict[str, list[int]] = {}  # the numbers of each source's sequences that are not retired
        if ledger.root.counts.sequences:
            names = ledger.snapshot().sources()
            for number in retired.others(ledger.root.retired, len(names)).tolist():
                self._committed.setdefault(names[number], []).append(number)
        self._new: dict[str, list[int]] = {}  # the same, not committed yet
        self._last, self._parts = "", 0  # the source that was appended last, and how many parts it has
        self._broken = ""  # why this writer cannot be used any more
        self._closed = False
        self._lock = threading.RLock()
        self._at_work = False

    @classmethod
    def of(cls, opening: AbstractContextManager[Ledger]) -> Self:
        """Open a ledger, and return a writer that closes it; if that fails, it is closed at once."""
        with ExitStack() as stack:
            writer = cls(stack.enter_context(opening), stack)
            writer._resources = stack.pop_all()
            return writer

    def __repr__(self) -> str:
        fresh = self._ledger.sequences - self._ledger.root.counts.sequences
        return f"<seqzarr writer: {len(self):,} sequences, {fresh:,} of them not committed yet>"

    @property
    def schema(self) -> Schema:
        """The schema of the store."""
        return self._ledger.schema

    def __len__(self) -> int:
        """Return the number of sequences in the store, including those not yet committed."""
        return self._ledger.sequences - retired.count(self._ledger.root.retired) - len(self._ledger.retiring)

    def append(
        self,
        inputs: ArrayLike,
        labels: ArrayLike,
        *,
        source: str,
        columns: Mapping[str, Any] | None = None,
        time: ArrayLike | None = None,
        filled: ArrayLike | None = None,
    ) -> None:
        """Append one sequence. Sequences of the same source follow one another and become its parts 0, 1, ...

        Args:
            inputs: (steps, *feature shape), of the store's dtype, or of another one if no value changes.
            labels: (steps, *target shape) on the `step` axis, (*target shape) on the `sequence` axis, or
                (any number of rows, *target shape) on the `own` axis.
            source: A name for where the sequence comes from, unique in the store.
            columns: A value for each further column of the store. A value that is left out, or None, is stored as `""`
                in columns of text and as NaN in columns of floats; other columns need a value.
            time: (steps,) the time of each step, if the store has times: datetime64, or timedelta64 for elapsed time,
                in whole numbers of the store's unit; or int64 of that unit. Times never decrease.
            filled: Bool (steps, *feature shape), True where a value of inputs was filled in, if the store records that;
                None if no value was.

        Raises:
            SequenceError: The sequence does not fit the store; nothing was appended, and the writer stays usable.
            StorageError: The disk reported an error; open the store again to continue from its last commit.
        """
        with self._alone():
            self._append({"inputs": inputs, "labels": labels, "time": time, "filled": filled}, source, columns)

    def _append(self, arrays: dict[str, Any], source: str, columns: Mapping[str, Any] | None) -> None:
        part = self._parts if source == self._last else 0
        if (source in self._committed or source in self._new) and source != self._last:
            raise SequenceError(
                f"{source}: its sequences are in the store already; a source is appended in one go: retire it first, "
                "to put others in their place"
            )
        origin = SourceId(name=source, part=part)
        inputs, labels, time, filled = arrays.values()
        checked = check_sequence(self.schema, inputs, labels, origin, columns=columns, time=time, filled=filled)
        rows = checked.rows
        for name in self._waiting:
            # The caller may fill the same array again for the next sequence.
            if np.may_share_memory(rows[name], np.asarray(arrays[name])):
                rows[name] = rows[name].copy()
        record = checked.record(self.schema, origin)
        # Nothing above changed this writer; from here on a disk error or Ctrl-C leaves it unusable.
        with self._broken_by_errors():
            self._ledger.register(record)
            self._new.setdefault(source, []).append(self._ledger.sequences - 1)
            self._last, self._parts = source, part + 1
            for name, waiting in self._waiting.items():
                waiting.append(rows[name])
            self._run_jobs(self._ledger.jobs())

    def extend_classes(self, classes: Sequence[Sequence[str] | None]) -> None:
        """Add classes of labels; sequences that are appended from now on may use them.

        Args:
            classes: For each target all of its classes: the existing ones in their order, then the new ones; None for
                a target without classes.

        Raises:
            SchemaError: A class would get another number.
        """
        with self._alone():
            self._ledger.extend_classes(tuple(None if names is None else tuple(names) for names in classes))

    def retire(self, source: str) -> None:
        """Retire the sequences of a source in the next commit: its readers skip them.

        Their rows stay in the store, for readers that have it open. New sequences of the source may be appended at
        once, and replace the old ones in the same commit; they are added at the end.

        Raises:
            SequenceError: There is no committed sequence of that source.
        """
        with self._alone():
            numbers = self._committed.get(source)
            if numbers is None:
                why = "it was appended and is not committed yet" if source in self._new else "there is none"
                raise SequenceError(f"{source}: only committed sequences can be retired, and {why}")
            with self._broken_by_errors():
                self._ledger.retire(numbers)
                del self._committed[source]

    def commit(self) -> int:
        """Make appended sequences visible to readers, and retired ones invisible, in one step.

        Returns:
            How many sequences readers see now.
        """
        with self._alone(), self._broken_by_errors():
            self._run_jobs(self._ledger.jobs(final=True))
            self._last = ""  # no parts are added to a source that is visible
            sequences = self._ledger.commit()
            self._committed |= self._new
            self._new = {}
            return sequences

    def close(self) -> None:
        """Drop sequences that were not committed, and release the lock."""
        with self._lock:  # not while another thread appends
            self._broken = self._broken or "it was closed"
            self._closed = True
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and not self._closed:
                self.commit()  # raises if an earlier error was caught, and the sequences cannot be committed
        finally:
            self.close()

    def _run_jobs(self, jobs: list[ShardJob]) -> None:
        for job in jobs:
            waiting, count = self._waiting[job.name], job.stop - job.start
            job.write(between(waiting, 0, count))
            self._waiting[job.name] = between(waiting, count, sum(map(len, waiting)))
            self._ledger.mark_done(job)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Exclude other threads, and calls of the same thread by a signal handler."""
        with self._lock:
            interrupted = "it is at work in the same thread, or was interrupted as it ended"
            why = interrupted if self._at_work else self._broken
            if why:
                raise StoreError(
                    f"{self._ledger.path}: this writer cannot be used: {why}; open the store again to go on from its "
                    "last commit"
                )
            try:
                self._at_work = True
                yield
            finally:
                self._at_work = False

    @contextmanager
    def _broken_by_errors(self) -> Iterator[None]:
        """Mark the writer as unusable after an error: rows may be partly written, and only a recovery can continue."""
        try:
            yield
        except BaseException as error:
            self._broken = f"it failed before ({str(error) or type(error).__name__})"
            raise
