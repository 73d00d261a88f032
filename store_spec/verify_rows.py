"""Hold the rows of `inputs` and `labels` against what the tables say of each sequence, part by part, in any process."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import retired
from store_spec.codec import crc32c
from store_spec.errors import StorageError, StoreError
from store_spec.layout import chunk_key
from store_spec.moments import Moments, RunningMoments
from store_spec.problems import Report
from store_spec.records import allowed, surely_finite
from store_spec.retired import Ranges
from store_spec.schema import MOMENTS, TABLE_CHUNK_BYTES
from store_spec.snapshot import FACTS, Snapshot
from store_spec.spans import chunk_rows, rows_in_file
from store_spec.verify_tables import Table

PART_BYTES = 2**26  # decoded: so much that the chunks at both ends, which two parts decode, hardly count
PART_SEQUENCES = 2**14
READ_TOGETHER = 2  # chunks: fewer sequences lie in two pieces then, and the rows are still in the processor's cache
COMPARED_TOGETHER = 1024  # sequences whose moments wait to be compared with the tables
MOMENT_BYTES = 8
COMPARED_VALUES = 2**16  # or fewer, where they have so many features together

Bounds = NDArray[np.int64]  # offsets or label offsets that can be used


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some rows of `inputs` or `labels`, and the whole sequences that they are.

    Args:
        array: Whose rows these are.
        start: The first row.
        stop: The one after the last.
        files: Numbers of the files (shards, or chunks of a table) that hold them and are there, rising.
        first: Number of the first sequence.
        bounds: Int64 (sequences + 1,): where each begins, and the last one ends; None where nobody knows.
        nbytes: Decoded bytes of the rows.
    """

    array: str
    start: int
    stop: int
    files: tuple[int, ...]
    first: int
    bounds: Bounds | None
    nbytes: int


@dataclass(slots=True)
class Checked:
    """What a part gave: its problems, and the chunks of tables that were read for it."""

    report: Report
    seen: dict[str, set[int]] = field(default_factory=dict)


def cut(snapshot: Snapshot, array: str, bounds: Bounds | None, present: set[int]) -> Iterator[Part]:
    """Cut an array into parts that can be checked each on its own; they depend on the store alone.

    Args:
        snapshot: The store.
        array: `inputs` or `labels`.
        bounds: Where its sequences begin and end; None where nobody knows.
        present: Numbers of its files that are there.
    """
    schema = snapshot.root.schema
    count, size = snapshot.root.counts.of(schema.axis(FACTS[array])), rows_in_file(snapshot, array)
    nbytes = schema.rows(array).nbytes
    files = np.array(sorted(present), np.int64)
    most = max(1, PART_BYTES // max(1, nbytes))
    if bounds is None:
        # A root may count more rows than there are: only those in files are looked at.
        together = max(1, most // size)
        for at in range(0, len(files), together):
            some = files[at : at + together]
            start, stop = int(some[0]) * size, min(count, (int(some[-1]) + 1) * size)
            yield Part(
                array=array, start=start, stop=stop, files=tuple(some.tolist()), first=0, bounds=None,
                nbytes=min(len(some) * size, count) * nbytes,
            )  # fmt: skip
        return
    first = 0
    while first < len(bounds) - 1:
        start = int(bounds[first])
        last = int(np.searchsorted(bounds, start + most, "right")) - 1
        last = min(max(last, first + 1), first + PART_SEQUENCES, len(bounds) - 1)
        stop = int(bounds[last])
        low, high = np.searchsorted(files, [start // size, -(-stop // size)])
        some = files[low:high] if start < stop else files[:0]
        yield Part(
            array=array, start=start, stop=stop, files=tuple(some.tolist()), first=first,
            bounds=bounds[first : last + 1], nbytes=min(stop - start, len(some) * size) * nbytes,
        )  # fmt: skip
        first = last


def check_part(snapshot: Snapshot, part: Part) -> Checked:
    """Read the rows of a part once, in memory for two chunks of them, and hold them against the tables."""
    if not snapshot.storage.root.is_dir():
        raise StoreError(f"{snapshot.storage.root}: a process that was to check it does not see it there")
    checking = RowCheck(snapshot, part)
    checking.run()
    return Checked(checking.report, {name: table.seen for name, table in checking.tables.items()})


def overlapping(bounds: Bounds | None, start: int, stop: int) -> Ranges:
    """Return which sequences have some of these rows; none where nobody knows where they begin."""
    if bounds is None:
        return ()
    first = int(np.searchsorted(bounds, start, "right")) - 1
    last = int(np.searchsorted(bounds, stop, "left"))
    with_rows = np.flatnonzero(np.diff(bounds[first : last + 1]))
    return ((first, last),) if len(with_rows) == last - first else retired.add((), first + with_rows)


class RowCheck:
    """Checks one part; `check_part` does so in one call."""

    def __init__(self, snapshot: Snapshot, part: Part) -> None:
        self.report = Report(snapshot.storage.root)
        self.tables: dict[str, Table] = {}
        self._snapshot, self._part = snapshot, part
        schema = snapshot.root.schema
        self._rows, self._missing = schema.rows(part.array), schema.missing
        self._size = rows_in_file(snapshot, part.array)
        # Whether every value is finite can be told by the moments of its sequence, without another look at the rows.
        self._finite_by_moments = part.bounds is not None and self._rows.dtype.kind == "f" and self._missing == "error"
        self._number = 0  # the sequence that comes next, or goes on, of those in the part
        self._finished: list[tuple[int, Moments] | None] = []  # of the sequences before it; None: could not be read
        self._begin()

    def run(self) -> None:
        """Read all rows once."""
        for start, stop, rows in self._pieces():
            if rows is not None and not self._finite_by_moments:
                self._check_finite(start, rows)
            self._add(start, stop, rows)
        if self._part.start == self._part.stop:
            self._add(self._part.start, self._part.stop, self._rows.empty(0))  # sequences without rows
        self._compare()

    def _pieces(self) -> Iterator[tuple[int, int, NDArray[Any] | None]]:
        """Yield start, stop and rows of each chunk; no rows where none can be read."""
        chunk = chunk_rows(self._snapshot, self._part.array)
        at = self._part.start
        for number in self._part.files:
            first, last = max(at, number * self._size), min(self._part.stop, (number + 1) * self._size)
            if at < first:
                yield at, first, None
            yield from self._pieces_of_file(first, last, chunk)
            at = last
        if at < self._part.stop:
            yield at, self._part.stop, None

    def _pieces_of_file(self, first: int, last: int, chunk: int) -> Iterator[tuple[int, int, NDArray[Any] | None]]:
        start, together = first, READ_TOGETHER * chunk
        while start < last:
            stop = min(start - start % chunk + together, last)
            try:
                yield start, stop, self._piece(start, stop)
            except StoreError as error:
                if together > chunk:
                    together = chunk  # from here on, so that no more is lost than the chunk that is damaged
                    continue
                new = self.report.error(error, self._overlapping(start, stop))
                if not new and not isinstance(error, StorageError):
                    # The same again: it is the shard that cannot be read.
                    self.report.error(error, self._overlapping(start, last))
                    yield start, last, None
                    return
                yield start, stop, None
            start = stop

    def _piece(self, start: int, stop: int) -> NDArray[Any] | None:
        if self._snapshot.root.schema.chunking(self._part.array) is not None:
            return self._snapshot.rows(self._part.array, start, stop)
        rows, known = self._table(self._part.array).rows(start, stop)
        return rows if known.all() else None

    def _table(self, name: str) -> Table:
        """Return a table, of which the listing of its files is known to have been checked."""
        if name not in self.tables:
            self.tables[name] = Table(self._snapshot, self.report, FACTS[name], listed=False)
        return self.tables[name]

    def _begin(self) -> None:
        self._crc, self._readable = 0, True
        self._moments = RunningMoments(self._rows.shape, self._rows.dtype)

    def _add(self, start: int, stop: int, rows: NDArray[Any] | None) -> None:
        bounds = self._part.bounds
        if bounds is None:
            return
        at = start
        while self._number < len(bounds) - 1:
            end = int(bounds[self._number + 1])
            until = min(end, stop)
            if rows is None:
                self._readable = self._readable and until == at
            else:
                part = rows[at - start : until - start]
                self._crc = crc32c(part, self._crc)
                self._moments.add(part, last=end <= stop)
            at = until
            if end > stop:
                return
            readable = self._readable and self._has_moments(self._part.first + self._number)
            self._finished.append((self._crc, self._moments.result()) if readable else None)
            self._number += 1
            waiting = len(self._finished)
            if waiting == COMPARED_TOGETHER or waiting * self._rows.features >= COMPARED_VALUES:
                self._compare()
            self._begin()

    def _has_moments(self, number: int) -> bool:
        """Tell whether the tables can have the moments of a sequence: very wide ones take memory here too."""
        if self._rows.features * MOMENT_BYTES <= TABLE_CHUNK_BYTES:
            return True
        try:
            for moment in MOMENTS:
                table = self._table(f"stats/{self._part.array}_{moment}")
                self._snapshot.check_size(FACTS[f"stats/{self._part.array}_{moment}"], number // table.size)
        except StoreError as error:
            self.report.error(error, ((number, number + 1),))
            return False
        return True

    def _compare(self) -> None:
        """Hold the finished sequences against the tables."""
        stop = self._part.first + self._number
        start = stop - len(self._finished)
        numbers = np.array([start + at for at, one in enumerate(self._finished) if one is not None], np.int64)
        finished = [one for one in self._finished if one is not None]
        self._finished = []
        if not finished:
            return
        if self._finite_by_moments:
            self._check_finite_by_moments(numbers, [moments for _, moments in finished])
        column = f"sequences/{self._part.array}_crc32c"
        said, known = (values[numbers - start] for values in self._table(column).rows(start, stop))
        found = np.array([crc for crc, _ in finished], np.uint32)
        wrong = known & (found != said)
        for at in np.flatnonzero(wrong):
            number = int(numbers[at])
            self.report.add(
                self._file(number),
                f"its {self._part.array} have crc32c {found[at]:08x}, not {said[at]:08x} as {column} has; a file is "
                "another's, or an older copy: restore or rebuild it",
                kind="crc32c",
                sequences=((number, number + 1),),
            )
        for moment in MOMENTS:
            table = self._table(f"stats/{self._part.array}_{moment}")
            values, known = (column[numbers - start] for column in table.rows(start, stop))
            computed = np.array([getattr(moments, moment) for _, moments in finished])
            differ = (values != computed) & ~(np.isnan(values) & np.isnan(computed)) & (known & ~wrong)[:, None]
            if not differ.any():
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                differ &= ~(np.abs(values - computed) <= _rounding(moment, [moments for _, moments in finished]))
            for at in np.flatnonzero(differ.any(axis=1)):
                number, feature = int(numbers[at]), int(np.argmax(differ[at]))
                self.report.add(
                    table.key(number),
                    f"column {feature} has {values[at, feature]}, where its rows give {computed[at, feature]}; restore "
                    "or rebuild that file",
                    kind="moments",
                    sequences=((number, number + 1),),
                )

    def _check_finite_by_moments(self, numbers: NDArray[np.int64], finished: list[Moments]) -> None:
        """Look at the rows of sequences again whose moments leave open whether all their values are finite numbers."""
        assert self._part.bounds is not None
        ends = self._part.bounds[[numbers - self._part.first, numbers - self._part.first + 1]]
        due = (ends[1] - ends[0]) * math.prod(self._rows.shape[:-1])
        counted = np.array([one.count for one in finished]) == due[:, None]
        finite = np.isfinite(np.array([one.mean for one in finished])) | (due == 0)[:, None]
        chunk = chunk_rows(self._snapshot, self._part.array)
        for at in np.flatnonzero(~(counted & finite).all(axis=1)).tolist():
            for start, _, rows in self._pieces_of_file(int(ends[0, at]), int(ends[1, at]), chunk):
                if rows is not None:
                    self._check_finite(start, rows)

    def _check_finite(self, start: int, rows: NDArray[Any]) -> None:
        if surely_finite(rows):
            return
        good = allowed(rows, self._missing)
        if good.all():
            return
        bad = np.flatnonzero(~good.reshape(len(rows), -1).all(axis=1)) + start
        wanted = "finite numbers" if self._missing == "error" else "finite numbers or NaN"
        what = f"row {bad[0]:,} holds other values than {wanted}, as do {len(bad) - 1:,} more rows of its chunk"
        self.report.add(self._key(int(bad[0])), what, kind="finite", sequences=self._with_rows(bad))

    def _overlapping(self, start: int, stop: int) -> Ranges:
        first = self._part.first
        return tuple((first + low, first + high) for low, high in overlapping(self._part.bounds, start, stop))

    def _with_rows(self, rows: NDArray[np.int64]) -> Ranges:
        """Return the sequences that these rows are of."""
        if self._part.bounds is None:
            return ()
        return retired.add((), self._part.first + np.searchsorted(self._part.bounds, rows, "right") - 1)

    def _file(self, number: int) -> str:
        """Return the file in which a sequence begins."""
        assert self._part.bounds is not None
        count = self._snapshot.root.counts.of(self._snapshot.root.schema.axis(FACTS[self._part.array]))
        return self._key(min(int(self._part.bounds[number - self._part.first]), max(0, count - 1)))

    def _key(self, row: int) -> str:
        return chunk_key(self._part.array, row // self._size, 1 + len(self._rows.shape))


def _rounding(moment: str, finished: list[Moments]) -> NDArray[np.float64] | float:
    """Return by how much a moment may differ: means and m2 are sums, and other processors add in another order."""
    if moment not in ("mean", "m2"):
        return 0.0
    largest = np.stack([np.fmax(np.abs(each.min), np.abs(each.max)) for each in finished])
    if moment == "mean":
        return np.asarray(1e-9 * largest)
    m2, count = (np.stack([getattr(each, name) for each in finished]) for name in ("m2", "count"))
    return np.asarray(1e-9 * m2 + count * (1e-12 * largest) ** 2)
