"""Describe the rows of all sequences again, part by part, in any process, and compare with what the tables record."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import in_order
from store_spec.errors import DAMAGE, StoreError, UnreadableError
from store_spec.format import retired
from store_spec.format.layout import ROOT, chunk_key
from store_spec.format.moments import Floats, Moments
from store_spec.format.names import wrong_code
from store_spec.format.records import WITH_MOMENTS, RunningRows, derived, describe_rows
from store_spec.format.retired import Ranges
from store_spec.format.runs import Runs, cut_at, missing_runs, no_runs
from store_spec.format.times import NOT_A_TIME
from store_spec.format.value_checks import allowed
from store_spec.schema import MISSING_RUNS, TABLE_CHUNK_BYTES, TABLES
from store_spec.verification.parts import Bounds, Checked, Part, TableReader, overlapping
from store_spec.verification.problems import ProblemList

PIECE_BYTES = 2**21  # decoded, and at least two chunks; a sequence in several pieces takes longer to check
COMPARED_TOGETHER = 1024  # sequences that are compared with the tables in one step
COMPARED_VALUES = 2**16  # the same in features: wide sequences are compared in smaller groups
MOMENT_BYTES = 8

Piece = tuple[int, int, NDArray[Any] | None]  # start, stop and rows; no rows where none can be read


@dataclass(frozen=True, slots=True)
class PartCheck:
    """Checks parts of a store, in any process."""

    snapshot: Snapshot

    def __call__(self, part: Part) -> Checked:
        """Read the rows of a part once, in memory for two chunks or 2 MiB of them, and compare them with the tables."""
        storage = self.snapshot.storage
        if not storage.size(ROOT):
            raise StoreError(f"{storage.root}: a process that checks a part of it cannot see it")
        check = RowCheck(self.snapshot, part)
        check.run()
        return Checked(check.report, {name: table.seen for name, table in check.tables.items()})

    def each(self, parts: Iterable[Part]) -> Iterator[Checked]:
        """Check parts, in order; threads check several parts of a remote store at once."""
        return in_order(self.snapshot.storage, self, parts)

    @property
    def at_once(self) -> int:
        """How many parts `each` checks at once."""
        return self.snapshot.storage.requests


class RowCheck:
    """Checks the rows of one part, and the tables that describe them."""

    def __init__(self, snapshot: Snapshot, part: Part) -> None:
        self.report = ProblemList(snapshot.storage.root)
        self.tables: dict[str, TableReader] = {}
        self.snapshot, self.part = snapshot, part
        schema, array = snapshot.root.schema, part.array
        self.row_type, self._in_shards = schema.rows(array), schema.is_sharded(array)
        self._size, self._chunk = schema.chunking(array).shard, schema.chunking(array).chunk
        self._at = 0  # the next sequence to compare, counted from the first of the part
        self._running: RunningRows | None = None  # of that sequence's rows in earlier pieces; None if some are lost
        self._time: int | None = None  # of the previous row
        self._runs: list[Runs] = [no_runs()]  # of rows with a missing value
        self._right: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]  # sequences without a wrong checksum

    def run(self) -> None:
        """Read all rows once."""
        bounds = self.part.bounds
        for start, stop, rows in self.pieces():
            if rows is not None:
                self._check_values(start, rows)
            else:
                self._time = None
            self._describe(bounds, start, stop, rows)
        if self.part.start == self.part.stop:  # sequences without rows
            self._describe(bounds, self.part.start, self.part.stop, self.row_type.empty(0))
        if self.part.missing is not None:
            self._compare_runs(bounds, self.part.missing)

    def _check_values(self, start: int, rows: NDArray[Any]) -> None:
        """Report values that are not allowed, and remember rows with missing values."""
        if not self.check_finite(start, rows) and self.part.missing is not None:
            self._runs.append(missing_runs(rows) + start)
        if self.part.array == "filled":
            odd = (rows.view(np.uint8) > 1).any(axis=tuple(range(1, rows.ndim)))
            for number in np.unique(self.sequences(start + np.flatnonzero(odd))).tolist():
                self.wrong_sequence(number, "a bool is neither 0 nor 1", "bool")
        if self.part.array == "time":
            self._check_times(start, rows)

    def _check_times(self, start: int, times: NDArray[np.int64]) -> None:
        """Report times that decrease within a sequence, and steps without a time."""
        before = np.concatenate([times[:1] if self._time is None else [self._time], times[:-1]])
        odd = np.flatnonzero((times < before) | (times == NOT_A_TIME))
        numbers = self.sequences(start + odd)
        steps = start + odd - self.part.bounds[numbers - self.part.first]
        # The first time of a sequence may be before the last time of the previous one.
        some = (steps > 0) | (times[odd] == NOT_A_TIME)
        numbers, places = np.unique(numbers[some], return_index=True)
        for number, at, step in zip(numbers.tolist(), odd[some][places], steps[some][places].tolist(), strict=True):
            what = f"step {step:,} has no time"
            if step and times[at] < before[at]:
                what = f"time falls at step {step:,}, from {before[at]} to {times[at]}"
            self.wrong_sequence(number, what, "order")
        self._time = int(times[-1])

    def _describe(self, bounds: Bounds, start: int, stop: int, rows: NDArray[Any] | None) -> None:
        """Describe the sequences of a piece, and compare those that end in it."""
        at = start
        if bounds[self._at] < start:  # a sequence that began in an earlier piece
            at = min(int(bounds[self._at + 1]), stop)
            if rows is None:
                self._running = None
            elif self._running is not None:
                self._running.add(rows[: at - start])
            if at < bounds[self._at + 1]:
                return
            if self._running is not None:
                self._compare(self._running.result())
            self._at += 1
        last = int(np.searchsorted(bounds, stop, "right")) - 1
        # If rows cannot be read, only sequences without rows are compared, one by one.
        most = 1 if rows is None else max(1, min(COMPARED_TOGETHER, COMPARED_VALUES // self.row_type.features))
        while self._at < last:
            until = min(self._at + most, last)
            low, high = int(bounds[self._at]), int(bounds[until])
            mine = rows[low - start : high - start] if rows is not None else self.row_type.empty(0)
            if len(mine) == high - low and self._has_room():
                self._compare(describe_rows(self.part.array, mine, bounds[self._at : until + 1] - low))
            self._at = until
        if self._at < len(bounds) - 1 and bounds[self._at] < stop:  # a sequence that ends in a later piece
            self._running = None
            if rows is not None and self._has_room():
                self._running = RunningRows(self.part.array, self.row_type)
                self._running.add(rows[int(bounds[self._at]) - start :])

    def _has_room(self) -> bool:
        """Return whether the stored chunks can contain this sequence's moments, which are large for wide rows."""
        if self.row_type.features * MOMENT_BYTES <= TABLE_CHUNK_BYTES:
            return True
        number = self.part.first + self._at
        try:
            for name in derived(self.part.array):
                table = self.table(name)
                self.snapshot.tables.check_size(table.fact, number // table.size)
        except DAMAGE as error:
            self.report.error(error, ((number, number + 1),))
            return False
        return True

    def _compare(self, columns: dict[str, NDArray[Any]]) -> None:
        """Compare the next sequences with the tables; if a checksum differs, nothing else of that sequence."""
        start, array = self.part.first + self._at, self.part.array
        name = f"{TABLES}/{array}_crc32c"
        computed = columns[name]
        stop = start + len(computed)
        recorded, known = self.table(name).rows(start, stop)
        wrong = known & (computed != recorded)
        for at in np.flatnonzero(wrong).tolist():
            what = f"its {array} have crc32c {computed[at]:08x}, not {recorded[at]:08x} as {name} has"
            advice = "a file is a copy of another one, or an older copy: restore or rebuild it"
            self.wrong_sequence(start + at, f"{what}; {advice}", "crc32c")
        self._right.append(start + np.flatnonzero(~wrong))
        moments = Moments(*(columns[table] for table in derived(array))) if array in WITH_MOMENTS else None
        if moments is not None:
            self._check_classes(start, moments)
        for name in derived(array):
            values, known = self.table(name).rows(start, stop)
            computed, recorded = (each.reshape(stop - start, -1) for each in (columns[name], values))
            both_nan = np.isnan(recorded) & np.isnan(computed)
            differ = (recorded != computed) & ~both_nan & (known & ~wrong)[:, None]
            if moments is not None and differ.any():
                with np.errstate(invalid="ignore", over="ignore"):
                    differ &= ~(np.abs(recorded - computed) <= rounding(name, moments))
            for at in np.flatnonzero(differ.any(axis=1)).tolist():
                column = int(np.argmax(differ[at]))
                where = "" if moments is None else f"column {column} "
                what = f"{where}has {recorded[at, column]}, where its rows give {computed[at, column]}"
                what += "; restore or rebuild that file"
                self.table(name).wrong(start + at, what, "moments" if where else "times")

    def _check_classes(self, start: int, moments: Moments) -> None:
        """Check that every label is the code of a class, by the least and the greatest label of each sequence."""
        classes, low, high = self.row_type.classes, moments.min, moments.max
        if classes is None or wrong_code(classes, np.fmin.reduce(low), np.fmax.reduce(high)) is None:
            return
        for at in range(len(low)):
            if (code := wrong_code(classes, low[at], high[at])) is not None:
                what = f"target {code[0]:,} has the code {code[1]:.0f}, where there are {code[2]:,} classes"
                self.wrong_sequence(start + at, what, "classes")

    def _compare_runs(self, bounds: Bounds, recorded: Runs) -> None:
        """Report sequences whose recorded runs of missing values differ from those of their rows."""
        computed = cut_at(np.concatenate(self._runs), bounds)
        if np.array_equal(computed, recorded):
            return
        real = set(map(tuple, computed.tolist()))
        differ = sorted(real ^ set(map(tuple, recorded.tolist())))
        of = self.sequences(np.array([start for start, _ in differ], np.int64))
        wrong = np.flatnonzero(np.isin(of, np.concatenate(self._right)))
        if not len(wrong):
            return  # the rows themselves are damaged, which was reported
        run = differ[int(wrong[0])]
        is_there = "lacks a run that its rows have" if run in real else "has a run that its rows have not"
        what = f"{is_there}: {run[0]:,} to {run[1]:,} of {self.part.array} that miss a value; restore or rebuild it"
        sequences = tuple((number, number + 1) for number in np.unique(of[wrong]).tolist())
        self.report.add(MISSING_RUNS[self.part.array], what, kind="missing", sequences=sequences)

    def pieces(self) -> Iterator[Piece]:
        """Yield all rows once, in order."""
        at, stop = self.part.start, self.part.stop
        for number in self.part.files:
            first, last = max(at, number * self._size), min(stop, (number + 1) * self._size)
            if at < first:
                yield at, first, None
            yield from self._pieces_of_file(first, last)
            at = last
        if at < stop:
            yield at, stop, None

    def sequences(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the sequences that some rows belong to."""
        return self.part.first + np.searchsorted(self.part.bounds, rows, "right") - 1

    def table(self, name: str) -> TableReader:
        """Return a table, without listing its files again."""
        if name not in self.tables:
            fact = self.snapshot.root.schema.fact(name)
            self.tables[name] = TableReader(self.snapshot, self.report, fact, listed=False)
        return self.tables[name]

    def check_finite(self, start: int, rows: NDArray[Any]) -> bool:
        """Report infinite values, and NaN unless the store allows missing values.

        Returns:
            Whether every value is a finite number.
        """
        if allowed(rows, "error").all():
            return True
        missing = self.snapshot.root.schema.missing
        good = allowed(rows, missing)
        if good.all():
            return False
        every = np.flatnonzero(~good.reshape(len(rows), -1).all(axis=1)) + start
        wanted = "finite numbers" if missing == "error" else "finite numbers or NaN"
        for bad in np.split(every, np.flatnonzero(np.diff(every // self._chunk)) + 1):
            what = f"row {bad[0]:,} holds other values than {wanted}, as do {len(bad) - 1:,} more rows of its chunk"
            sequences = retired.add((), self.sequences(bad))
            self.report.add(self._key(int(bad[0])), what, kind="finite", sequences=sequences)
        return False

    def wrong_sequence(self, number: int, what: str, kind: str) -> None:
        """Report a problem with the rows of a sequence, for the file in which it begins."""
        last = max(0, self.snapshot.root.committed(self.part.array) - 1)
        start = min(int(self.part.bounds[number - self.part.first]), last)  # an empty last one begins after all files
        self.report.add(self._key(start), what, kind=kind, sequences=((number, number + 1),))

    def _pieces_of_file(self, first: int, last: int) -> Iterator[Piece]:
        """Yield the rows `first` to `last` of one file in pieces; after an error, chunk by chunk."""
        start, together = first, self._chunk * max(2, PIECE_BYTES // max(1, self._chunk * self.row_type.nbytes))
        while start < last:
            stop = min(start - start % self._chunk + together, last)
            try:
                yield start, stop, self._piece(start, stop)
            except DAMAGE as error:
                if together > self._chunk:
                    together = self._chunk  # read chunk by chunk, so that only the damaged one is lost
                    continue
                new = self.report.error(error, self._overlapping(start, stop))
                if not new and not isinstance(error, UnreadableError):
                    # The same error again: the whole shard is unreadable.
                    self.report.error(error, self._overlapping(start, last))
                    yield start, last, None
                    return
                yield start, stop, None
            start = stop

    def _piece(self, start: int, stop: int) -> NDArray[Any] | None:
        if self._in_shards:
            return self.snapshot.rows(self.part.array, start, stop)
        rows, known = self.table(self.part.array).rows(start, stop)
        return rows if known.all() else None

    def _overlapping(self, start: int, stop: int) -> Ranges:
        first = self.part.first
        return tuple((first + low, first + high) for low, high in overlapping(self.part.bounds, start, stop))

    def _key(self, row: int) -> str:
        return chunk_key(self.snapshot.root.schema, self.part.array, row // self._size)


def rounding(table: str, moments: Moments) -> Floats | float:
    """Return how far a moment may differ: means and m2 are sums, which processors add in different orders."""
    largest = np.fmax(np.abs(moments.min), np.abs(moments.max))
    if table.endswith("_mean"):
        return np.asarray(1e-9 * largest)
    if table.endswith("_m2"):
        return np.asarray(1e-9 * moments.m2 + moments.count * (1e-12 * largest) ** 2)
    return 0.0
