"""What the tables keep of a sequence whose rows come piece by piece: the same bits as if they came at once."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from store_spec.errors import SequenceError
from store_spec.format.codec import crc32c
from store_spec.format.missing_runs import RunningRuns
from store_spec.format.moments import RunningMoments
from store_spec.format.records import Checked, Records, SourceId, recorded_row
from store_spec.schema import Schema


class Piecewise:
    """One sequence, of which `check_sequence` passes one piece after another.

    On the label axis `sequence` the labels are those of the first piece; so are the further columns on every axis.

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
        kept = self._moments if schema.missing == "keep" else ()
        self._missing = {name: RunningRuns() for name in kept}
        self._labels: NDArray[Any] | None = None  # the first row
        self._columns: dict[str, NDArray[Any]] | None = None  # of the first piece
        self._times: list[int] = []  # the first, and the last so far

    def add(self, checked: Checked) -> None:
        """Take the next piece, of all arrays or of some; its arrays stay the caller's.

        Raises:
            SequenceError: Its times are before those of the piece before it.
        """
        if self._columns is None:
            self._columns = dict(checked.columns)
        if "labels" in checked.rows:
            if self._labels is None:
                self._labels = checked.rows["labels"][:1].copy()
            elif self._schema.label_axis == "sequence":
                others = {name: rows for name, rows in checked.rows.items() if name != "labels"}
                checked = Checked(others, checked.columns)
        if "time" in checked.rows:
            self._check_times(checked.rows["time"])
        for name, rows in checked.rows.items():
            self._crcs[name] = crc32c(rows, self._crcs[name])
            self._lengths[name] += len(rows)
            if name in self._moments:
                self._moments[name].add(rows)
            if name in self._missing:
                self._missing[name].add(rows)

    def record(self) -> Records:
        """Return the table rows of all pieces; no more can be added.

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
            first=Checked({"labels": self._labels}, self._columns),
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
