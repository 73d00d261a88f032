"""Compute the table rows of a sequence from pieces of its rows: the bits are the same as for all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import SequenceError
from store_spec.format.records import CheckedSequence, Records, SourceId, recorded_row
from store_spec.format.row_facts import RunningRows
from store_spec.format.runs import Runs, cut_at, missing_runs, no_runs
from store_spec.schema import MISSING_RUNS, Schema


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
        self._rows = {name: RunningRows(name, schema.rows(name)) for name in schema.row_arrays}
        arrays = MISSING_RUNS if schema.missing == "keep" else ()
        self._missing: dict[str, list[Runs]] = {name: [no_runs()] for name in arrays}  # of each piece
        self._labels: NDArray[Any] | None = None  # the first row
        self._columns: dict[str, NDArray[Any]] | None = None  # of the first piece

    def add(self, piece: CheckedSequence) -> None:
        """Add the next piece, of all arrays or of some; no reference to them is kept."""
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
            if name in self._missing:
                self._missing[name].append(missing_runs(rows) + self._rows[name].length)
            self._rows[name].add(rows)

    def record(self) -> Records:
        """Return the table rows of the sequence, which has at least one piece; none can be added afterwards."""
        if self._columns is None or self._labels is None:
            raise SequenceError(f"{self._source}: a sequence that comes in pieces has at least one; give an empty one")
        facts = (running.result().columns(name) for name, running in self._rows.items())
        lengths = {name: running.length for name, running in self._rows.items()}
        return recorded_row(
            self._schema,
            self._source,
            lengths=lengths,
            columns={name: column for columns in facts for name, column in columns.items()},
            missing={
                name: cut_at(np.concatenate(runs), np.array([0, lengths[name]])) for name, runs in self._missing.items()
            },
            first=CheckedSequence({"labels": self._labels}, self._columns),
        )

    def _check_times(self, times: NDArray[Any]) -> None:
        before = self._rows["time"]
        if len(times) and before.length and int(times[0]) < before.last:
            time = self._schema.time
            assert time is not None
            raise SequenceError(
                f"{self._source}: time falls at step {before.length:,}, from {time.shown(before.last)} to "
                f"{time.shown(int(times[0]))}; sort the steps, or split the sequence there"
            )
