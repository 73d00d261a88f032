"""Append sequences from arrays, one after another, in this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.disk.job import ShardJob
from store_spec.disk.ledger import Ledger
from store_spec.errors import SequenceError, StoreError
from store_spec.format import retired
from store_spec.format.records import SourceId, check_sequence, describe
from store_spec.schema import Schema


class Writer:
    """A store that is open for appending. Get one from `create_store`, or from `open_store` with mode="a".

    As a context manager it commits at the end, unless an error came: then what was appended since the last commit is
    dropped. An error of the disk, or Ctrl-C, that was caught within comes again at the end, unless it was closed.
    Readers see a commit whole, or not at all, whatever becomes of this process.

    Threads may share it: one after another does what it asks for, and the order of sequences is that of their calls.
    """

    def __init__(self, ledger: Ledger, resources: ExitStack) -> None:
        self._ledger = ledger
        self._resources = resources
        # Rows that lie in no shard yet, by array.
        self._waiting: dict[str, deque[NDArray[Any]]] = {
            name: deque() for names in ledger.schema.sharded().values() for name in names
        }
        self._committed: dict[str, list[int]] = {}  # the numbers of each source's sequences, but retired ones
        if ledger.root.counts.sequences:
            names = ledger.snapshot().sources()
            for number in retired.others(ledger.root.retired, len(names)).tolist():
                self._committed.setdefault(names[number], []).append(number)
        self._new: dict[str, list[int]] = {}  # the same, not committed yet
        self._retiring = 0
        self._last = ""
        self._parts = 0
        self._broken = ""
        self._closed = False
        self._lock = threading.RLock()
        self._at_work = False

    def __repr__(self) -> str:
        fresh = self._ledger.sequences - self._ledger.root.counts.sequences
        return f"<seqzarr writer: {len(self):,} sequences, {fresh:,} of them not committed yet>"

    @property
    def schema(self) -> Schema:
        """What every sequence of the store is."""
        return self._ledger.schema

    def __len__(self) -> int:
        """Sequences in the store, those not yet committed among them."""
        return self._ledger.sequences - retired.count(self._ledger.root.retired) - self._retiring

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
            inputs: (steps, *feature shape), of the store's dtype, or of one whose every value it can hold.
            labels: (steps, *target shape) on the `step` axis, (*target shape) on the `sequence` axis, or
                (any number of rows, *target shape) on the `own` axis.
            source: A name for where it comes from, unique in the store.
            columns: A value for each further column of the store. What is left out, or None, is missing: `""` in one
                of text, NaN in one of floats; the others have nothing that stands for it.
            time: (steps,) when each step was, where the store keeps that: datetime64, or timedelta64 of elapsed time,
                which must be whole numbers of the store's unit; or int64 of that unit. It never falls.
            filled: Bool (steps, *feature shape), True where a value of inputs was filled in, where the store keeps
                that; None: nothing was.

        Raises:
            SequenceError: It does not fit; nothing was appended, and the writer stays usable.
            StorageError: The disk refused; open the store again to go on from its last commit.
        """
        with self._alone():
            self._append({"inputs": inputs, "labels": labels, "time": time, "filled": filled}, source, columns)

    def _append(self, given: dict[str, Any], source: str, columns: Mapping[str, Any] | None) -> None:
        part = self._parts if source == self._last else 0
        if (source in self._committed or source in self._new) and source != self._last:
            raise SequenceError(
                f"{source}: its sequences are in the store already; a source is appended in one go: retire it first, "
                "to put others in their place"
            )
        origin = SourceId(name=source, part=part)
        checked = check_sequence(
            self.schema,
            given["inputs"],
            given["labels"],
            origin,
            columns=columns,
            time=given["time"],
            filled=given["filled"],
        )
        rows = checked.rows
        for name in self._waiting:
            # The caller may fill the same array again for the next sequence.
            if np.may_share_memory(rows[name], np.asarray(given[name])):
                rows[name] = rows[name].copy()
        record = describe(self.schema, checked, origin)
        # Nothing above changed this writer; from here on the disk can fail, or Ctrl-C come.
        with self._broken_by_errors():
            self._ledger.register(record)
            self._new.setdefault(source, []).append(self._ledger.sequences - 1)
            self._last, self._parts = source, part + 1
            for name, waiting in self._waiting.items():
                waiting.append(rows[name])
            self._put(self._ledger.jobs())

    def extend_classes(self, classes: Sequence[Sequence[str] | None]) -> None:
        """Have the next commit name more classes of labels; what is appended from now on may be of them.

        Args:
            classes: For each target all of its classes, those before in their order and others after them; None for
                one that has none.

        Raises:
            SchemaError: A class would get another number.
        """
        with self._alone():
            self._ledger.extend_classes(tuple(None if names is None else tuple(names) for names in classes))

    def retire(self, source: str) -> None:
        """Have the next commit take the sequences of a source away: readers of it skip them.

        Their rows stay where they are, for readers that have the store open. New sequences of the source may be
        appended at once: the same commit then puts these in their place, at the end.

        Raises:
            SequenceError: There is no committed sequence of that source.
        """
        with self._alone():
            numbers = self._committed.get(source)
            if numbers is None:
                known = "it was appended and is not committed yet" if source in self._new else "there is none"
                raise SequenceError(f"{source}: only committed sequences can be retired, and {known}")
            with self._broken_by_errors():
                self._ledger.retire(numbers)
                self._retiring += len(numbers)
                del self._committed[source]

    def commit(self) -> int:
        """Make all that was appended visible to readers, and take away what was retired, in one step.

        Returns:
            How many sequences a reader now sees.
        """
        with self._alone(), self._broken_by_errors():
            self._put(self._ledger.jobs(final=True))
            self._last = ""  # a source whose parts are visible gets no further ones
            sequences = self._ledger.commit()
            self._committed |= self._new
            self._new, self._retiring = {}, 0
            return sequences

    def close(self) -> None:
        """Drop what was not committed and release the lock."""
        with self._lock:  # not in the middle of what another thread appends
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
                self.commit()  # says so where what was appended cannot be committed, as an error came that was caught
        finally:
            self.close()

    def _put(self, jobs: list[ShardJob]) -> None:
        for job in jobs:
            job.write(_take(self._waiting[job.name], job.stop - job.start))
            self._ledger.done(job)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other thread in meanwhile, nor this one again, as a handler of a signal might."""
        with self._lock:
            if self._at_work:
                raise StoreError(
                    f"{self._ledger.path}: this writer cannot be used: it is at work in the same thread, or was "
                    "interrupted as it ended; open the store again to go on from its last commit"
                )
            try:
                self._at_work = True
                self._check_usable()
                yield
            finally:
                self._at_work = False

    @contextmanager
    def _broken_by_errors(self) -> Iterator[None]:
        """Rows may be half way to the disk when an error comes: only a recovery can go on from there."""
        try:
            yield
        except BaseException as error:
            self._broken = f"it failed before ({str(error) or type(error).__name__})"
            raise

    def _check_usable(self) -> None:
        if self._broken:
            raise StoreError(
                f"{self._ledger.path}: this writer cannot be used: {self._broken}; open the store again to go on from "
                "its last commit"
            )


def _take(waiting: deque[NDArray[Any]], count: int) -> list[NDArray[Any]]:
    """Remove the first `count` rows from arrays that follow one another, and return them."""
    taken = []
    while count:
        rows = waiting.popleft()
        taken.append(rows[:count])
        if len(rows) > count:
            waiting.appendleft(rows[count:])
        count -= len(taken[-1])
    return taken
