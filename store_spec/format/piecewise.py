"""Compute the table rows of a sequence from pieces of its rows: the bits are the same as for all rows at once."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from store_spec.errors import SequenceError
from store_spec.format.codec import crc32c
from store_spec.format.missing_runs import RunningRuns
from store_spec.format.moments import RunningMoments
from store_spec.format.records import CheckedSequence, Records, SourceId, recorded_row
from store_spec.schema import Schema


class Piecewise:
    """One sequence that is added piece by piece; `check_sequence` has checked each piece.

    The further columns are taken from the first piece, and so are the labels on the label axis `sequence`.

    >>> import numpy as np
    >>> from store_spec.format.records import check_sequence, describe
    >>> from store_spec.schema import Rows
    >>> schema = Schema.plan(Rows(np.dtype("float32"), (2,)), Rows(np.dtype("float32"), ()))
    >>> source, x = SourceId(name="a"), np.arange(12, dtype="float32").reshape(6, 2)
    >>> whole = Piecewise(schema, source)
    >>> for piece in (x[:4], x[4:]):
    ...     whole.add(check_sequence(schema, piece, piece[:, 0], source))
    >>> at_once = describe(schema, check_sequence(schema, x, x[:, 0], source), source)
    >>> columns = whole.record().columns
    >>> all(columns[name].tobytes() == at_once.columns[name].tobytes() for name in columns)
    True
    """

    def __init__(self, schema: Schema, source: SourceId) -> None:
        self._schema, self._source = schema, source
        self._crcs = dict.fromkeys(schema.row_arrays, 0)
        self._lengths = dict.fromkeys(schema.row_arrays, 0)
        self._moments = {
            name: RunningMoments(schema.rows(name).shape, schema.rows(name).dtype) for name in ("inputs", "labels")
        }
        arrays = self._moments if schema.missing == "keep" else ()
        self._missing = {name: RunningRuns() for name in arrays}
        self._labels: NDArray[Any] | None = None  # the first row
        self._columns: dict[str, NDArray[Any]] | None = None  # of the first piece
        self._times: list[int] = []  # the first, and the last so far

    def add(self, piece: CheckedSequence) -> None:
        """Add the next piece, of all arrays or of some; no reference to them is kept.

        Raises:
            SequenceError: Its times are before those of the previous piece.
        """
        if self._columns is None:
            self._columns = dict(piece.columns)
        if "labels" in piece.rows:
            if self._labels is None:
                self._labels = piece.rows["labels"][:1].copy()
            elif self._schema.label_axis == "sequence":
                others = {name: rows for name, rows in piece.rows.items() if name != "labels"}
                piece = CheckedSequence(others, piece.columns)
        if "time" in piece.rows:
            self._check_times(piece.rows["time"])
        for name, rows in piece.rows.items():
            self._crcs[name] = crc32c(rows, self._crcs[name])
            self._lengths[name] += len(rows)
            if name in self._moments:
                self._moments[name].add(rows)
            if name in self._missing:
                self._missing[name].add(rows)

    def record(self) -> Records:
        """Return the table rows of the sequence; no piece can be added afterwards.

        Raises:
            SequenceError: There was no piece.
        """
        if self._columns is None or self._labels is None:
            raise SequenceError(f"{self._source}: a sequence that comes in pieces has at least one; give an empty one")
        times = (self._times[0], self._times[1]) if self._times else (0, 0)
        return recorded_row(
            self._schema,
            self._source,
            lengths=self._lengths,
            checksums=self._crcs,
            statistics={name: running.result() for name, running in self._moments.items()},
            missing={name: running.result() for name, running in self._missing.items()},
            times=None if self._schema.time is None else times,
            first=CheckedSequence({"labels": self._labels}, self._columns),
        )

    def _check_times(self, times: NDArray[Any]) -> None:
        if not len(times):
            return
        first, last = int(times[0]), int(times[-1])
        if self._times and first < self._times[1]:
            time = self._schema.time
            assert time is not None
            raise SequenceError(
                f"{self._source}: time falls at step {self._lengths['time']:,}, from {time.shown(self._times[1])} to "
                f"{time.shown(first)}; sort the steps, or split the sequence there"
            )
        self._times = [self._times[0] if self._times else first, last]
