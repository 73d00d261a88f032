"""Read all tables and rows of a store for `verify`: chunk by chunk, and in parts that any process can check on its own.

Files that are lost or damaged are reported, and everything else is still read.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import DAMAGE
from store_spec.format import retired
from store_spec.format.layout import chunk_key, chunk_number
from store_spec.format.retired import Ranges
from store_spec.format.runs import Runs
from store_spec.schema import MISSING_RUNS, ArrayFact
from store_spec.verification.problems import ProblemList

PART_BYTES = 2**26  # decoded; large, because two parts each decode the chunk between them
PART_SEQUENCES = 2**14
NAMED = 20  # how many lost files of an array are named; a damaged root may count any number of them

Bounds = NDArray[np.int64]  # offsets or label offsets that can be used


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """The rows of some sequences in one array.

    Args:
        array: The array of these rows.
        start: The first row.
        stop: The one after the last.
        files: The numbers of the existing files (shards, or chunks of a table) with these rows, ascending.
        first: Number of the first sequence.
        bounds: Int64 (sequences + 1,): the first row of each sequence, and the end of the last.
        nbytes: Decoded bytes of the rows.
        missing: Int64 (runs, 2): the recorded runs of missing values; None if they are not recorded or unreadable.
    """

    array: str
    start: int
    stop: int
    files: tuple[int, ...]
    first: int
    bounds: Bounds
    nbytes: int
    missing: Runs | None = None


@dataclass(slots=True)
class Checked:
    """The problems of a part, and the chunks of tables that were read to find them."""

    report: ProblemList
    seen: dict[str, set[int]] = field(default_factory=dict)


def cut(
    snapshot: Snapshot, array: str, bounds: Bounds, present: set[int], missing: Runs | None = None
) -> Iterator[Part]:
    """Divide an array into parts, each of which can be checked on its own.

    Args:
        snapshot: The store.
        array: An array with rows of sequences, such as `inputs`.
        bounds: Int64 (sequences + 1,), where its sequences begin and end.
        present: The numbers of its existing files.
        missing: Its runs of rows with a missing value; None if unknown.
    """
    schema = snapshot.root.schema
    size, nbytes = schema.chunking(array).shard, schema.rows(array).nbytes
    files = np.array(sorted(present), np.int64)
    most = max(1, PART_BYTES // max(1, nbytes))
    first = 0
    while first < len(bounds) - 1:
        start = int(bounds[first])
        last = int(np.searchsorted(bounds, start + most, "right")) - 1
        last = min(max(last, first + 1), first + PART_SEQUENCES, len(bounds) - 1)
        stop = int(bounds[last])
        low, high = np.searchsorted(files, [start // size, -(-stop // size)])
        some = files[low:high] if start < stop else files[:0]
        mine = None if missing is None else missing[slice(*np.searchsorted(missing[:, 0], [start, stop]))]
        yield Part(
            array=array, start=start, stop=stop, files=tuple(some.tolist()), first=first,
            bounds=bounds[first : last + 1], nbytes=min(stop - start, len(some) * size) * nbytes, missing=mine,
        )  # fmt: skip
        first = last


def overlapping(bounds: Bounds | None, start: int, stop: int) -> Ranges:
    """Return the sequences that have some of these rows; no ranges if their bounds are unknown."""
    if bounds is None:
        return ()
    first = int(np.searchsorted(bounds, start, "right")) - 1
    last = int(np.searchsorted(bounds, stop, "left"))
    with_rows = np.flatnonzero(np.diff(bounds[first : last + 1]))
    return ((first, last),) if len(with_rows) == last - first else retired.add((), first + with_rows)


def committed_files(
    snapshot: Snapshot, report: ProblemList, name: str, concerned: Callable[[int, int], Ranges]
) -> set[int]:
    """Return which files with committed rows of the array `name` exist; report the missing ones.

    `concerned(start, stop)` returns the sequences that rows of this array belong to.
    """
    root = snapshot.root
    count, size = root.committed(name), root.schema.chunking(name).shard
    due, present = root.files(name), present_files(snapshot, name)
    lost = due - len(present)
    missing = (number for number in itertools.count() if number not in present)
    for number in itertools.islice(missing, min(lost, NAMED)):
        what = "missing; every committed chunk and shard is written, so it was lost"
        sequences = concerned(number * size, min(count, (number + 1) * size))
        report.add(chunk_key(root.schema, name, number), what, sequences=sequences)
    if lost > NAMED:
        report.add(name, f"{lost - NAMED:,} more of its {due:,} files are missing")
    return present


def present_files(snapshot: Snapshot, name: str) -> set[int]:
    """Return the numbers of the existing files with committed rows of an array."""
    due, schema = snapshot.root.files(name), snapshot.root.schema
    numbers = (chunk_number(schema, name, file) for file in snapshot.file_names(name))
    return {number for number in numbers if number is not None and number < due}


class TableReader:
    """The committed rows of one table, read chunk by chunk; a chunk that cannot be read is reported once.

    With `listed`, missing files are reported now, and otherwise when they are read.
    """

    def __init__(self, snapshot: Snapshot, report: ProblemList, fact: ArrayFact, *, listed: bool = True) -> None:
        schema = snapshot.root.schema
        self.count = snapshot.root.committed(fact.name)
        self.seen: set[int] = set()  # chunks that were read
        self.size = schema.chunking(fact.name).chunk
        self._snapshot, self._report, self.fact = snapshot, report, fact
        self._shape, self._dtype = schema.shape(fact), schema.dtype(fact)
        self._present = committed_files(snapshot, report, fact.name, self._concerned) if listed else None
        self.lost = self._present is not None and len(self._present) < snapshot.root.files(fact.name)
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
        """Return a decoded chunk; None if it is missing, or cannot be read, which is reported."""
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
