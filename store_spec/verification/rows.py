"""Hold the rows of all sequences against what the tables say of each of them, part by part, in any process."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import StoreError
from store_spec.format.codec import crc32c, flat_bytes
from store_spec.format.layout import ROOT
from store_spec.verification.missing import FilledCheck, MissingCheck
from store_spec.verification.parts import Bounds, Checked, Part
from store_spec.verification.reading import PartRows
from store_spec.verification.statistics import MomentsCheck
from store_spec.verification.times import TimesCheck
from store_spec.verification.workspace import Workspace

COMPARED_TOGETHER = 1024  # sequences: what the tables say of them, and what their rows give, waits to be compared
COMPARED_VALUES = 2**16  # or fewer, where they have so many features together

Check = MomentsCheck | TimesCheck | FilledCheck


def check_part(snapshot: Snapshot, workspace: Workspace, part: Part) -> Checked:
    """Read the rows of a part once, in memory for two chunks or 2 MiB of them, and hold them against the tables."""
    if not snapshot.storage.size(ROOT):
        raise StoreError(f"{snapshot.storage.root}: a process that was to check it does not see it there")
    rows = PartRows(snapshot, part, workspace)
    RowCheck(rows).run()
    return Checked(rows.report, {name: table.seen for name, table in rows.tables.items()})


class RowCheck:
    """Checks one part; `check_part` does so in one call."""

    def __init__(self, rows: PartRows) -> None:
        self._rows, self._part = rows, rows.part
        # Whether every value is finite can be told by the moments of its sequence, without another look at the rows.
        missing = rows.snapshot.root.schema.missing
        self._finite_by_moments = rows.part.bounds is not None and rows.of.dtype.kind == "f" and missing == "error"
        self._number = 0  # the sequence that comes next, or goes on, of those in the part
        self._crc, self._readable = 0, True  # of its rows so far
        self._finished: list[int | None] = []  # crc32c of those before it, of the check; None: could not be read
        self._check: Check | None = None  # of the sequences that are compared together
        self._missing = None if rows.part.missing is None else MissingCheck(rows, rows.part.missing)

    def run(self) -> None:
        """Read all rows once."""
        for start, stop, rows in self._rows.pieces():
            if rows is not None and not self._finite_by_moments:
                self._rows.check_finite(start, rows)
            if rows is not None and self._missing is not None:
                self._missing.add(start, rows)
            self._add(start, stop, rows)
        if self._part.start == self._part.stop:
            self._add(self._part.start, self._part.stop, self._rows.of.empty(0))  # sequences without rows
        if self._missing is not None:
            self._missing.finish()

    def _add(self, start: int, stop: int, rows: NDArray[Any] | None) -> None:
        bounds = self._part.bounds
        if bounds is None:
            return
        at = start
        while self._number < len(bounds) - 1:
            check = self._check = self._check or self._next_check(bounds)
            until = min(int(bounds[check.stop - self._part.first]), stop)
            mine = None if rows is None else rows[at - start : until - start]
            last = min(check.stop - self._part.first, int(np.searchsorted(bounds, stop, "right")))
            ends = bounds[self._number + 1 : last + 1]
            if mine is not None:
                check.add(self._part.first + self._number, ends - at, mine)
            if not self._take(check, at, stop, ends.tolist(), mine):
                return
            at = until
            self._compare()
            self._check = None

    def _take(self, check: Check, start: int, stop: int, ends: list[int], rows: NDArray[Any] | None) -> bool:
        """Take the checksums of rows of the sequences of a check; tell whether these end there, or go on."""
        at, data, size = start, None if rows is None else flat_bytes(rows), self._rows.of.nbytes
        for end in ends:
            until = min(end, stop)
            if data is None:
                self._readable = self._readable and until == at
            else:
                self._crc = crc32c(data[(at - start) * size : (until - start) * size], self._crc)
            at = until
            if end > stop:
                return False
            self._finished.append(self._crc if self._readable and check.readable else None)
            self._number += 1
            self._crc, self._readable = 0, True
        return True

    def _next_check(self, bounds: Bounds) -> Check:
        """Begin to check the next sequences that are compared together."""
        most = max(1, min(COMPARED_TOGETHER, COMPARED_VALUES // self._rows.of.features))
        start = self._part.first + self._number
        stop = min(start + most, self._part.first + len(bounds) - 1)
        if self._part.array == "time":
            return TimesCheck(self._rows, start, stop)
        if self._part.array == "filled":
            return FilledCheck(self._rows, start, stop)
        return MomentsCheck(self._rows, start, stop, finite=self._finite_by_moments)

    def _compare(self) -> None:
        """Hold the finished sequences against the tables."""
        assert self._check is not None
        start, finished = self._check.start, self._finished
        self._finished = []
        here = np.array([crc is not None for crc in finished])
        if not here.any():
            return
        numbers = start + np.flatnonzero(here)
        column = f"sequences/{self._part.array}_crc32c"
        said, known = (values[here] for values in self._rows.table(column).rows(start, start + len(here)))
        found = np.array([crc for crc in finished if crc is not None], np.uint32)
        wrong = known & (found != said)
        for at in np.flatnonzero(wrong).tolist():
            what = f"its {self._part.array} have crc32c {found[at]:08x}, not {said[at]:08x} as {column} has; a file is "
            what += "another's, or an older copy: restore or rebuild it"
            self._rows.wrong_sequence(int(numbers[at]), what, "crc32c")
        self._check.compare(numbers, ~wrong)
        if self._missing is not None:
            self._missing.compare(numbers[~wrong])
