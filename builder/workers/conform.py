"""What a process function gives of a sequence: held against a store's schema, or what a store is like that it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.processes.text_labels import refuse_text
from builder.sequence import LongSequence, Sequence
from builder.workers.row_blocks import BatchRows
from store_spec import ColumnType, LabelAxis, Missing, Rows, Schema, SequenceColumn, SequenceError, Time
from store_spec.building import (
    CheckedSequence,
    Piecewise,
    Records,
    SourceId,
    check_sequence,
    checked_times,
    column_type,
    describe,
)


@dataclass(frozen=True, slots=True)
class Look:
    """What one sequence says of the store that it would be the first of."""

    inputs: Rows
    labels: Rows
    label_axis: LabelAxis
    columns: tuple[SequenceColumn, ...]
    time: Time | None
    filled: bool
    nbytes: int
    steps: int


def check_given(schema: Schema, origin: SourceId, sequence: Sequence | LongSequence) -> CheckedSequence:
    """Return a sequence as it will be stored; its arrays may still be those that were given. One in pieces is joined.

    Raises:
        SequenceError: It does not fit the store.
    """
    if isinstance(sequence, LongSequence):
        return _joined(schema, origin, sequence)
    refuse_text(sequence.labels, origin)
    dated = np.asarray(sequence.time).dtype.kind == "M"
    if schema.time is not None and dated and schema.time.since is not None and sequence.zone != schema.time.zone:
        raise SequenceError(
            f"{origin}: time {_in_zone(sequence.zone)}, where this store has time {_in_zone(schema.time.zone)}; give "
            "the zone of all sources, or of none"
        )
    return check_sequence(
        schema,
        sequence.inputs,
        sequence.labels,
        origin,
        columns=sequence.columns,
        time=sequence.time,
        filled=sequence.filled,
    )


def _in_zone(zone: str | None) -> str:
    return "without a zone" if zone is None else f"in {zone}"


@dataclass(slots=True)
class Pieces:
    """Bytes of rows that reading sources has in memory."""

    largest: int = 0  # of a piece, or a sequence and what is read along, of a source that gives one after another
    whole: int = 0  # of the largest of the other sources
    _beside: int | None = None
    _source: int = 0

    def begin(self, beside: int | None) -> None:
        """Begin with another source, of which so many bytes are in memory beside each sequence; None: all are."""
        self._beside, self._source = beside, 0

    def piece(self, nbytes: int) -> None:
        """Note a piece of a sequence."""
        self.largest = max(self.largest, nbytes)

    def sequence(self, nbytes: int) -> None:
        """Note a sequence that comes as a whole."""
        if self._beside is not None:
            self.piece(self._beside + nbytes)
            return
        self._source += nbytes
        self.whole = max(self.whole, self._source)


def taken(
    schema: Schema,
    rows: BatchRows,
    pieces: Pieces,
    origin: SourceId,
    sequence: Sequence | LongSequence,
    *,
    ours: bool,
) -> Records:
    """Check one sequence, and take its rows; `ours` says that nobody else has its arrays."""
    if isinstance(sequence, LongSequence):
        described = Piecewise(schema, origin)
        for piece, checked in checked_pieces(schema, origin, sequence):
            described.add(checked)
            pieces.piece(_nbytes(checked))
            _take(rows, piece, checked, ours=ours)
        return described.record()
    checked = check_given(schema, origin, sequence)
    record = describe(schema, checked, origin)
    pieces.sequence(_nbytes(checked))
    _take(rows, sequence, checked, ours=ours)
    return record


def _take(rows: BatchRows, given: Sequence, checked: CheckedSequence, *, ours: bool) -> None:
    arrays = checked.rows
    if ours:
        rows.add(arrays)
        return
    # A process function may fill the same array again for the next sequence, or give a corner of a large one.
    rows.add(arrays, [name for name in arrays if np.may_share_memory(arrays[name], np.asarray(getattr(given, name)))])


def _nbytes(checked: CheckedSequence) -> int:
    return sum(rows.nbytes for rows in checked.rows.values())


def checked_pieces(
    schema: Schema, origin: SourceId, sequence: Sequence | LongSequence
) -> Iterator[tuple[Sequence, CheckedSequence]]:
    """Yield each piece of a sequence, or the whole of one without pieces, and what will be stored of it.

    Raises:
        SequenceError: It does not fit the store.
    """
    if not isinstance(sequence, LongSequence):
        yield sequence, check_given(schema, origin, sequence)
        return
    start, once = 0, dict[str, Any]()
    for given in sequence.sequences():
        piece = replace(given, **once)
        try:
            checked = check_given(schema, origin, piece)
        except SequenceError as error:
            if not start:
                raise
            raise SequenceError(f"{error}; that is in a piece which begins at row {start:,} of the sequence") from error
        yield piece, checked
        start += len(checked.rows["inputs"])
        if not once:
            # Both may be filled again for the next piece.
            once = {"columns": dict(piece.columns or {})}
            if schema.label_axis == "sequence":
                once["labels"] = checked.rows["labels"].copy()


def _joined(schema: Schema, origin: SourceId, sequence: LongSequence) -> CheckedSequence:
    """Return a sequence in pieces as it will be stored, in memory: the pieces are read as `taken` reads them.

    Raises:
        SequenceError: It does not fit the store.
    """
    # Copied: the next piece may come in the same arrays.
    pieces = [
        CheckedSequence({name: rows.copy() for name, rows in checked.rows.items()}, checked.columns)
        for _, checked in checked_pieces(schema, origin, sequence)
    ]
    if not pieces:
        raise _no_piece(origin)
    first = pieces[0]
    rows = {name: np.concatenate([piece.rows[name] for piece in pieces]) for name in first.rows}
    if schema.label_axis == "sequence":
        rows["labels"] = first.rows["labels"]
    checked_times(schema.time, rows.get("time"), len(rows["inputs"]), origin)  # they may fall between two pieces
    return CheckedSequence(rows, first.columns)


def _no_piece(origin: SourceId) -> SequenceError:
    return SequenceError(f"{origin}: a sequence that comes in pieces has at least one; give an empty one")


def looked_at(
    label_axis: LabelAxis | None,
    missing: Missing,
    kept: Mapping[str, SequenceColumn],
    origin: SourceId,
    sequence: Sequence | LongSequence,
) -> Look:
    """Look at one sequence, and say what the store would be like that it decides: it must itself fit that."""
    if not isinstance(sequence, LongSequence):
        schema, look = _schema_for(label_axis, missing, kept, origin, sequence)
        check_given(schema, origin, sequence)
        return look
    pieces = sequence.sequences()
    first = next(pieces, None)
    if first is None:
        raise _no_piece(origin)
    schema, look = _schema_for(label_axis, missing, kept, origin, first)
    steps = nbytes = 0
    for _, checked in checked_pieces(schema, origin, LongSequence(chain([first], pieces))):
        steps += len(checked.rows["inputs"])
        nbytes += _nbytes(checked)
    return replace(look, steps=steps, nbytes=nbytes)


def _schema_for(
    label_axis: LabelAxis | None,
    missing: Missing,
    kept: Mapping[str, SequenceColumn],
    origin: SourceId,
    sequence: Sequence,
) -> tuple[Schema, Look]:
    refuse_text(sequence.labels, origin)
    x, y = np.asarray(sequence.inputs), np.asarray(sequence.labels)
    if x.ndim == 0:
        raise SequenceError(f"{origin}: inputs are a single {type(sequence.inputs).__name__}; they have one row a step")
    axis = label_axis or _guessed_axis(x, y, origin)
    if axis != "sequence" and y.ndim == 0:
        raise SequenceError(
            f"{origin}: labels are a single {type(sequence.labels).__name__}: only the sequence axis has such"
        )
    rows = Rows(x.dtype, x.shape[1:]), Rows(y.dtype, y.shape if axis == "sequence" else y.shape[1:])
    columns = tuple(
        kept.get(name) or SequenceColumn(name, _type_of(name, value, origin))
        for name, value in sequence.columns.items()
    )
    if sequence.time is not None and not len(x) and np.asarray(sequence.time).dtype.kind not in "mM":
        raise SequenceError(
            f"{origin}: has no rows, so nothing tells the unit and the zone of its times; build with files that have "
            "rows"
        )
    time = None if sequence.time is None else Time.like(sequence.time, sequence.zone, origin)
    filled = sequence.filled is not None
    schema = Schema.plan(*rows, label_axis=axis, missing=missing, columns=columns, time=time, filled=filled)
    nbytes = x.nbytes + y.nbytes + (0 if time is None else 8 * len(x)) + (x.size if filled else 0)
    return schema, Look(*rows, axis, schema.columns, time, filled, nbytes, len(x))


def _type_of(name: str, value: Any, origin: SourceId) -> ColumnType:
    found = column_type(value)
    if found is None:
        raise SequenceError(
            f"{origin}: column {name!r:.80} is {value!r:.80} ({type(value).__name__}) in the first source, which does "
            "not tell its type; give text, a whole number, a float or a bool"
        )
    return found


def _guessed_axis(inputs: NDArray[Any], labels: NDArray[Any], origin: SourceId) -> LabelAxis:
    if labels.ndim and len(labels) == len(inputs):
        return "step"
    if labels.ndim <= 1:
        return "sequence"
    raise SequenceError(
        f"{origin}: {len(inputs):,} input rows and labels of shape {labels.shape}: say with label_axis (--label-axis) "
        "whether they are one row a step, one for the sequence, or have lengths of their own"
    )
