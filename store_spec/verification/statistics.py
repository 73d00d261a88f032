"""Hold the rows of sequences against the moments that the tables have of each, and labels against their classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import DAMAGE
from store_spec.format.class_names import wrong_code
from store_spec.format.moments import Moments, RunningMoments
from store_spec.format.records import derived
from store_spec.schema import MOMENTS, TABLE_CHUNK_BYTES
from store_spec.verification.agreement import Agreement, rounding
from store_spec.verification.reading import PartRows

MOMENT_BYTES = 8


class MomentsCheck:
    """Checks the moments of some sequences that follow one another, which the tables are read for.

    Args:
        rows: The part that they are in: inputs or labels.
        start: Number of the first sequence.
        stop: The one after the last.
        finite: Whether these have to tell if all values are finite numbers.
    """

    def __init__(self, rows: PartRows, start: int, stop: int, *, finite: bool) -> None:
        self.start, self.stop = start, stop
        self._rows, self._finite = rows, finite
        self._flat = math.prod(rows.of.shape[:-1])  # values that each feature has in a row
        self.readable = self._has_moments()
        known = np.full(stop - start, self.readable and rows.of.dtype.kind != "c")
        columns: list[NDArray[Any]] = [np.zeros((stop - start, 0))] * len(MOMENTS)
        if known.any():
            read = [rows.table(name).rows(start, stop) for name in derived(rows.part.array)]
            columns, known = [column for column, _ in read], np.logical_and.reduce([there for _, there in read])
        self._said = Moments(*columns)
        self._agreement = Agreement(self._said, known, rows.lengths(start, stop) * self._flat, rows.workspace)
        # Of sequences that cannot agree, each as soon as it ends; the one that goes on; and its number.
        self._computed: dict[int, Moments] = {}
        self._running, self._number = self._nothing(), start

    def add(self, number: int, ends: NDArray[np.int64], rows: NDArray[Any]) -> None:
        """Take the next rows.

        Args:
            number: The sequence that the first of them is of.
            ends: Where that one and those after it end, counted in these rows; the last may be behind them.
            rows: (rows, ...) as the array has them.
        """
        if not self.readable:  # their moments might take memory for what is nowhere
            return
        first = number - self.start
        self._agreement.add(first, (ends * self._flat).tolist(), rows.reshape(-1, self._rows.of.features))
        for at in np.flatnonzero(~self._agreement.possible[first : first + len(ends)]).tolist():
            begin, end = int(ends[at - 1]) if at else 0, int(ends[at])
            if number + at != self._number:
                self._running, self._number = self._nothing(), number + at
            self._running.add(rows[begin:end], last=end <= len(rows))
            if end <= len(rows):
                self._computed[number + at] = self._running.result()

    def compare(self, numbers: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        """Report what is wrong with sequences, all of whose rows were added.

        Args:
            numbers: The sequences, rising.
            right: Whether each has its checksum; of others the tables are not held against the rows.
        """
        sure = self._agreement.sure()[numbers - self.start]
        due = ~sure & (right | self._finite | (self._rows.of.classes is not None))
        looked = {number: self._computed.get(number) or self._again(number) for number in numbers[due].tolist()}
        computed = {number: moments for number, moments in looked.items() if moments is not None}
        if self._finite:
            self._check_finite(computed)
        self._check_classes(numbers[sure], computed)
        wrong = set(numbers[~right].tolist())
        self._compare({number: moments for number, moments in computed.items() if number not in wrong})

    def _nothing(self) -> RunningMoments:
        return RunningMoments(self._rows.of.shape, self._rows.of.dtype)

    def _has_moments(self) -> bool:
        """Tell whether the tables can have the moments: of very wide rows, compared one by one, they take memory."""
        if self._rows.of.features * MOMENT_BYTES <= TABLE_CHUNK_BYTES:
            return True
        try:
            for name in derived(self._rows.part.array):
                table = self._rows.table(name)
                self._rows.snapshot.tables.check_size(table.fact, self.start // table.size)
        except DAMAGE as error:
            self._rows.report.error(error, ((self.start, self.start + 1),))
            return False
        return True

    def _again(self, number: int) -> Moments | None:
        """Read the rows of a sequence again for its moments; None where that cannot be."""
        running = self._nothing()
        for _, _, rows in self._rows.again(number):
            if rows is None:
                return None
            running.add(rows)
        return running.result()

    def _check_finite(self, computed: dict[int, Moments]) -> None:
        """Look at the rows of sequences again whose moments leave open whether all their values are finite numbers."""
        for number, moments in computed.items():
            start, stop = self._rows.bounds(number)
            whole = (moments.count == (stop - start) * self._flat) & np.isfinite(moments.mean)
            if stop == start or whole.all():
                continue
            for first, _, rows in self._rows.again(number):
                if rows is not None:
                    self._rows.check_finite(first, rows)

    def _check_classes(self, sure: NDArray[np.int64], computed: dict[int, Moments]) -> None:
        """Check that every label is the code of a class: the least and the greatest of each sequence tell.

        Args:
            sure: Sequences that have the least and the greatest that the tables say.
            computed: The moments of all others.
        """
        classes = self._rows.of.classes
        if classes is None:
            return
        low, high = self._said.min[sure - self.start], self._said.max[sure - self.start]
        numbers = sure
        if computed:
            numbers = np.concatenate([sure, np.array(list(computed), np.int64)])
            low, high = (
                np.concatenate([known, [getattr(each, name) for each in computed.values()]])
                for name, known in (("min", low), ("max", high))
            )
        if not len(numbers) or wrong_code(classes, np.fmin.reduce(low), np.fmax.reduce(high)) is None:
            return
        for at in np.argsort(numbers).tolist():
            found = wrong_code(classes, low[at], high[at])
            if found is not None:
                target, code, count = found
                what = f"target {target:,} has the code {code:.0f}, where there are {count:,} classes"
                self._rows.wrong_sequence(int(numbers[at]), what, "classes")

    def _compare(self, computed: dict[int, Moments]) -> None:
        """Hold computed moments against the tables."""
        if not computed:
            return
        numbers = np.array(list(computed), np.int64)
        together = Moments(*(np.stack([getattr(each, name) for each in computed.values()]) for name in MOMENTS))
        for name, moment in zip(derived(self._rows.part.array), MOMENTS, strict=True):
            values, known = (each[numbers - self.start] for each in self._rows.table(name).rows(self.start, self.stop))
            found = getattr(together, moment)
            differ = (values != found) & ~(np.isnan(values) & np.isnan(found)) & known[:, None]
            if not differ.any():
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                differ &= ~(np.abs(values - found) <= rounding(moment, together))
            for at in np.flatnonzero(differ.any(axis=1)).tolist():
                feature = int(np.argmax(differ[at]))
                what = f"column {feature} has {values[at, feature]}, where its rows give {found[at, feature]}"
                self._rows.wrong_table(name, int(numbers[at]), what, "moments")
