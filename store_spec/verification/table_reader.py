"""Read the tables of a store chunk by chunk, and report lost and damaged files, for `verify`."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import DAMAGE
from store_spec.format.layout import chunk_key, chunk_number, rows_in_file, table_chunk
from store_spec.format.retired import Ranges
from store_spec.schema import MISSING_RUNS, ArrayFact
from store_spec.verification.problems import ProblemList

NAMED = 20  # lost files of an array that are named; a damaged root may count any number of them


def committed_files(
    snapshot: Snapshot, report: ProblemList, name: str, concerned: Callable[[int, int], Ranges]
) -> tuple[set[int], bool]:
    """Return which files with an array's committed rows exist, and whether any is missing; report the missing ones.

    Args:
        snapshot: The store.
        report: Takes the files that are lost.
        name: The array.
        concerned: Returns the sequences that some rows concern.
    """
    root = snapshot.root
    count, size = root.committed(name), rows_in_file(root.schema, name)
    due, present = root.files(name), present_files(snapshot, name)
    lost = due - len(present)
    missing = (number for number in itertools.count() if number not in present)
    for number in itertools.islice(missing, min(lost, NAMED)):
        what = "missing; every committed chunk and shard is written, so it was lost"
        sequences = concerned(number * size, min(count, (number + 1) * size))
        report.add(chunk_key(root.schema, name, number), what, sequences=sequences)
    if lost > NAMED:
        report.add(name, f"{lost - NAMED:,} more of its {due:,} files are missing")
    return present, lost > 0


def present_files(snapshot: Snapshot, name: str) -> set[int]:
    """Return the numbers of the existing files with committed rows of an array."""
    due, schema = snapshot.root.files(name), snapshot.root.schema
    numbers = (chunk_number(schema, name, file) for file in snapshot.file_names(name))
    return {number for number in numbers if number is not None and number < due}


class TableReader:
    """The committed rows of one table, read chunk by chunk; a chunk that cannot be read is reported once.

    Args:
        snapshot: The store.
        report: Receives the problems.
        fact: The table.
        listed: List its files now; otherwise a missing file is reported when it is read.
    """

    def __init__(self, snapshot: Snapshot, report: ProblemList, fact: ArrayFact, *, listed: bool = True) -> None:
        schema = snapshot.root.schema
        self.count = snapshot.root.committed(fact.name)
        self.seen: set[int] = set()  # chunks that were read
        self.size = table_chunk(schema, fact)
        self._snapshot, self._report, self.fact = snapshot, report, fact
        self._shape, self._dtype = schema.shape(fact), schema.dtype(fact)
        self._present: set[int] | None = None
        self.lost = False
        if listed:
            self._present, self.lost = committed_files(snapshot, report, fact.name, self._concerned)
        self._unreadable: set[int] = set()
        self._last: tuple[int, NDArray[Any]] | None = None  # the chunk that was read last
        self._whole: NDArray[Any] | None = None

    def key(self, row: int) -> str:
        """Return the file that holds a row."""
        return chunk_key(self._snapshot.root.schema, self.fact.name, row // self.size)

    def wrong(self, number: int, what: str, kind: str) -> None:
        """Report what is wrong with the row of a sequence."""
        self._report.add(self.key(number), what, kind=kind, sequences=((number, number + 1),))

    @property
    def present(self) -> set[int]:
        """The numbers of the existing files."""
        assert self._present is not None, "it was not listed"
        return self._present

    def rows(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return rows `start` to `stop`, and which of them could be read."""
        if self._whole is not None:
            return self._whole[start:stop], np.ones(stop - start, bool)
        values = np.zeros((stop - start, *self._shape), self._dtype)
        known = np.zeros(stop - start, bool)
        for first in range(start - start % self.size, stop, self.size):
            chunk = self._chunk(first // self.size)
            low, high = max(start, first), min(stop, first + self.size)
            if chunk is not None:
                values[low - start : high - start] = chunk[low - first : high - first]
                known[low - start : high - start] = True
        return values, known

    def whole(self) -> NDArray[Any] | None:
        """Return all rows, and keep them; None if some cannot be read."""
        if self._whole is None and not self.lost:
            values, known = self.rows(0, self.count)
            self._whole = values if known.all() else None
        return self._whole

    def finish(self) -> None:
        """Read the chunks that no check has read yet, to find damage in them."""
        for number in sorted(self.present - self.seen):
            self._chunk(number)

    def _chunk(self, number: int) -> NDArray[Any] | None:
        if number in self._unreadable or (self._present is not None and number not in self._present):
            return None
        self.seen.add(number)
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        try:
            tables = self._snapshot.tables
            tables.check_size(self.fact, number)
            out = np.empty((self.size, *self._shape), self._dtype)
            tables.decode_chunk(self.fact, number, tables.stored(self.fact, number), out)
        except DAMAGE as error:
            self._unreadable.add(number)
            self._report.error(error, self._concerned(number * self.size, (number + 1) * self.size))
            return None
        self._last = number, out
        return out

    def _concerned(self, start: int, stop: int) -> Ranges:
        """Return the sequences that some rows belong to; an offset belongs to the sequences on both sides of it."""
        if self.fact.name in MISSING_RUNS.values():
            return ()  # runs are of rows
        first = max(0, start - 1) if self.fact.name in ("offsets", "label_offsets") else start
        last = min(stop, self._snapshot.root.counts.sequences)
        return ((first, last),) if first < last else ()
