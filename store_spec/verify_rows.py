"""Hold the rows of `inputs` and `labels` against what the tables say of each sequence; read every chunk once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.codec import crc32c
from store_spec.errors import StoreError
from store_spec.layout import chunk_key
from store_spec.moments import Moments, RunningMoments
from store_spec.problems import Report
from store_spec.records import allowed
from store_spec.schema import MOMENTS
from store_spec.snapshot import FACTS, Snapshot
from store_spec.verify_tables import Table, committed_files

COMPARED_TOGETHER = 1024  # sequences whose moments wait to be compared with the tables

Bounds = NDArray[np.int64]  # offsets or label offsets that can be used


class RowCheck:
    """Holds the rows of one array, chunk by chunk, against what the tables say of each sequence."""

    def __init__(
        self,
        snapshot: Snapshot,
        report: Report,
        tables: dict[str, Table],
        *,
        array: str,
        bounds: Bounds | None,
        names: NDArray[Any] | None,
    ) -> None:
        self._snapshot, self._report, self._tables, self._array = snapshot, report, tables, array
        self._bounds, self._names = bounds, names
        schema = snapshot.root.schema
        self._rows, self._missing = schema.rows(array), schema.missing
        self._count = snapshot.root.counts.of(schema.axis(FACTS[array]))
        self._number = 0  # the sequence that comes next, or goes on
        self._finished: list[tuple[int, Moments] | None] = []  # of the sequences before it; None: could not be read
        self._begin()

    def run(self) -> None:
        """Read all rows once."""
        for start, stop, rows in self._pieces():
            if rows is not None:
                self._check_finite(start, rows)
            self._add(start, stop, rows)
        if not self._count:
            self._add(0, 0, self._rows.empty(0))  # sequences without rows
        self._compare()

    def _pieces(self) -> Iterator[tuple[int, int, NDArray[Any] | None]]:
        """Yield start, stop and rows of each chunk, up to the last that is there; no rows where none can be read."""
        chunking, table = self._snapshot.root.schema.chunking(self._array), self._tables.get(self._array)
        if table is not None:
            for start in range(0, self._count if not table.lost else 0, table.size):
                stop = min(start + table.size, self._count)
                rows, known = table.rows(start, stop)
                yield start, stop, rows if known.all() else None
            return
        assert chunking is not None
        present, _ = committed_files(self._snapshot, self._report, FACTS[self._array], self._count, chunking.shard)
        at = 0
        for first in sorted(number * chunking.shard for number in present):
            if at < first:
                yield at, first, None
            at = min(first + chunking.shard, self._count)
            yield from self._pieces_of_shard(first, at, chunking.chunk)

    def _pieces_of_shard(self, first: int, last: int, chunk: int) -> Iterator[tuple[int, int, NDArray[Any] | None]]:
        for start in range(first, last, chunk):
            stop = min(start + chunk, last)
            try:
                yield start, stop, self._snapshot.rows(self._array, start, stop)
            except StoreError as error:
                if not self._report.error(error):  # the same again: it is the shard that cannot be read
                    yield start, last, None
                    return
                yield start, stop, None

    def _begin(self) -> None:
        self._crc, self._readable = 0, True
        self._moments = RunningMoments(self._rows.shape, self._rows.dtype)

    def _add(self, start: int, stop: int, rows: NDArray[Any] | None) -> None:
        if self._bounds is None:
            return
        at = start
        while self._number < len(self._bounds) - 1:
            end = int(self._bounds[self._number + 1])
            until = min(end, stop)
            if rows is None:
                self._readable = self._readable and until == at
            else:
                part = rows[at - start : until - start]
                self._crc = crc32c(part, self._crc)
                self._moments.add(part)
            at = until
            if end > stop:
                return
            self._finished.append((self._crc, self._moments.result()) if self._readable else None)
            self._number += 1
            if len(self._finished) == COMPARED_TOGETHER:
                self._compare()
            self._begin()

    def _compare(self) -> None:
        """Hold the finished sequences against the tables."""
        stop = self._number
        start = stop - len(self._finished)
        numbers = np.array([start + at for at, one in enumerate(self._finished) if one is not None], np.int64)
        finished = [one for one in self._finished if one is not None]
        self._finished = []
        if not finished:
            return
        column = f"sequences/{self._array}_crc32c"
        said, known = (values[numbers - start] for values in self._tables[column].rows(start, stop))
        found = np.array([crc for crc, _ in finished], np.uint32)
        wrong = known & (found != said)
        for at in np.flatnonzero(wrong):
            number = int(numbers[at])
            self._report.add(
                self._file(number),
                f"{self._name(number)}: its {self._array} have crc32c {found[at]:08x}, not {said[at]:08x} as {column} "
                "has; a file is another's, or an older copy: restore or rebuild it",
                kind="crc32c",
            )
        for moment in MOMENTS:
            table = self._tables[f"stats/{self._array}_{moment}"]
            values, known = (column[numbers - start] for column in table.rows(start, stop))
            computed = np.stack([getattr(moments, moment) for _, moments in finished])
            with np.errstate(invalid="ignore", over="ignore"):
                near = np.abs(values - computed) <= _rounding(moment, [moments for _, moments in finished])
            differ = (values != computed) & ~near & ~(np.isnan(values) & np.isnan(computed))
            for at in np.flatnonzero(differ.any(axis=1) & known & ~wrong):
                number, feature = int(numbers[at]), int(np.argmax(differ[at]))
                self._report.add(
                    table.key(number),
                    f"{self._name(number)}: column {feature} has {values[at, feature]}, where its rows give "
                    f"{computed[at, feature]}; restore or rebuild that file",
                    kind="moments",
                )

    def _check_finite(self, start: int, rows: NDArray[Any]) -> None:
        good = allowed(rows, self._missing)
        if good.all():
            return
        bad = np.flatnonzero(~good.reshape(len(rows), -1).all(axis=1)) + start
        wanted = "finite numbers" if self._missing == "error" else "finite numbers or NaN"
        what = f"row {bad[0]:,} holds other values than {wanted}, as do {len(bad) - 1:,} more rows of its chunk"
        self._report.add(self._key(int(bad[0])), what, kind="finite")

    def _name(self, number: int) -> str:
        return f"sequence {number:,}" + ("" if self._names is None else f" ({self._names[number]})")

    def _file(self, number: int) -> str:
        """Return the file in which a sequence begins."""
        assert self._bounds is not None
        return self._key(min(int(self._bounds[number]), max(0, self._count - 1)))

    def _key(self, row: int) -> str:
        chunking = self._snapshot.root.schema.chunking(self._array)
        if chunking is None:
            return self._tables[self._array].key(row)
        return chunk_key(self._array, row // chunking.shard, 1 + len(self._rows.shape))


def _rounding(moment: str, finished: list[Moments]) -> NDArray[np.float64] | float:
    """Return by how much a moment may differ: means and m2 are sums, and other processors add in another order."""
    if moment not in ("mean", "m2"):
        return 0.0
    largest = np.stack([np.fmax(np.abs(each.min), np.abs(each.max)) for each in finished])
    if moment == "mean":
        return np.asarray(1e-9 * largest)
    m2, count = (np.stack([getattr(each, name) for each in finished]) for name in ("m2", "count"))
    return np.asarray(1e-9 * m2 + count * (1e-12 * largest) ** 2)
