"""Check the sequences of a process function against the schema of a store, or derive the schema of a new store."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.amounts import count_text
from builder.formats.column_notes import Columns
from builder.processes.text_labels import refuse_text
from builder.sequence import LongSequence, Sequence
from builder.workers.row_blocks import BatchRows
from store_spec import ColumnType, LabelAxis, Missing, Rows, Schema, SchemaError, SequenceColumn, SequenceError, Time
from store_spec.building import (
    CheckedSequence,
    Piecewise,
    Records,
    SourceId,
    check_sequence,
    column_type,
    refuse_masked_rows,
)


def conform_sequence(schema: Schema, origin: SourceId, sequence: Sequence) -> CheckedSequence:
    """Return a sequence as it will be stored; SequenceError if it does not fit the store.

    Its arrays may be those of the process function.
    """
    _refuse_labels(sequence.labels, origin)
    sequence = _reorder_columns(schema, origin, sequence)
    is_date = np.asarray(sequence.time).dtype.kind == "M"
    if schema.time is not None and is_date and schema.time.since is not None and sequence.zone != schema.time.zone:
        raise SequenceError(
            f"{origin}: time {_in_zone(sequence.zone)}, but this store has time {_in_zone(schema.time.zone)}; give the "
            "zone of all sources, or of none"
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


def _reorder_columns(schema: Schema, origin: SourceId, sequence: Sequence) -> Sequence:
    """Return a sequence with its columns in the order of the store, if both name them; refuse other names."""
    features = _column_order(schema.inputs, sequence.features, "features", origin)
    targets = _column_order(schema.labels, sequence.targets, "targets", origin)
    if features is None and targets is None:
        return sequence
    inputs, filled = (_take_columns(name, getattr(sequence, name), features, origin) for name in ("inputs", "filled"))
    is_same = sequence.labels is sequence.inputs and features == targets
    labels = inputs if is_same else _take_columns("labels", sequence.labels, targets, origin)
    return replace(sequence, inputs=inputs, labels=labels, filled=filled)


def _column_order(rows: Rows, given: Iterable[str] | None, what: str, origin: SourceId) -> list[int] | None:
    """Return the index in a sequence of each column of the store; None if the order is the same, or is not known."""
    names = None if given is None else tuple(given)
    if names is None or rows.names is None or names == rows.names:
        return None
    order = [names.index(name) for name in rows.names if name in names]
    if len(order) != len(rows.names) or len(order) != len(names):
        raise SequenceError(
            f"{origin}: has the {what} {', '.join(names):.200}, but this store has {', '.join(rows.names):.200}"
        )
    return order


def _take_columns(name: str, rows: Any, order: list[int] | None, origin: SourceId) -> Any:
    """Return rows with their columns in this order; rows with another number of columns are refused later."""
    if order is None:
        return rows
    refuse_masked_rows(name, rows, origin)
    array = np.asanyarray(rows)  # a masked array keeps its mask
    return array[..., order] if array.shape[-1:] == (len(order),) else rows


def _refuse_labels(labels: Any, origin: SourceId) -> None:
    """Refuse text, and no labels at all."""
    refuse_text(labels, origin)
    if labels is None:
        raise SequenceError(
            f"{origin}: the process function returns None for labels; return one label per step, or one per sequence, "
            "or name columns of a manifest (--label-column); if the labels are the inputs, return (inputs, inputs); "
            "for a store without labels, return np.empty(0, 'int8') for them, with label_axis own (--label-axis)"
        )


def _in_zone(zone: str | None) -> str:
    return "without a zone" if zone is None else f"in {zone}"


def append_checked(rows: BatchRows, origin: SourceId, sequence: Sequence | LongSequence, *, owned: bool) -> Records:
    """Check a sequence, append its rows, and return its table row; `owned` rows are appended without a copy."""
    schema = rows.schema
    if isinstance(sequence, LongSequence):
        described = Piecewise(schema, origin)
        for piece, checked in checked_pieces(schema, origin, sequence):
            described.add(checked)
            rows.piece_bytes = max(rows.piece_bytes, _nbytes(checked))
            _append(rows, piece, checked, owned=owned)
        return described.record()
    checked = conform_sequence(schema, origin, sequence)
    record = checked.record(schema, origin)
    rows.whole_bytes += _nbytes(checked)
    _append(rows, sequence, checked, owned=owned)
    return record


def _append(rows: BatchRows, sequence: Sequence, checked: CheckedSequence, *, owned: bool) -> None:
    shared = []
    if not owned:  # a process function may reuse its array, or return a view of a large one
        for name, array in checked.rows.items():
            if np.may_share_memory(array, np.asarray(getattr(sequence, name))):
                shared.append(name)
    rows.add(checked.rows, shared)


def _nbytes(checked: CheckedSequence) -> int:
    return sum(rows.nbytes for rows in checked.rows.values())


def checked_pieces(
    schema: Schema | Callable[[SourceId, Sequence], Schema], origin: SourceId, sequence: Sequence | LongSequence
) -> Iterator[tuple[Sequence, CheckedSequence]]:
    """Yield each piece of a sequence, or the whole sequence, and its rows as they will be stored.

    `schema` is that of the store, or derives it from the first piece.
    """
    start, whole = 0, dict[str, Any]()  # columns and labels of the whole sequence, which come with the first piece
    for one in sequence.sequences() if isinstance(sequence, LongSequence) else [sequence]:
        piece = replace(one, **whole)
        labels = whole.get("labels")
        if labels is not None and one.labels is not None:
            piece = replace(piece, labels=one.labels, targets=one.targets)
        schema = schema if isinstance(schema, Schema) else schema(origin, piece)
        try:
            checked = conform_sequence(schema, origin, piece)
            if labels is not None and not np.array_equal(checked.rows["labels"], labels, equal_nan=True):
                raise SequenceError(
                    f"{origin}: has labels {checked.rows['labels'][0].tolist()!r:.80}, but {labels[0].tolist()!r:.80} "
                    "in the first piece; a sequence has one label, or one row of them"
                )
        except SequenceError as error:
            if not start:
                raise
            raise SequenceError(
                f"{error}; this is in the piece that begins at row {start:,} of the sequence"
            ) from error
        yield piece, checked
        start += len(checked.rows["inputs"])
        if not whole:  # copied, since the process function may reuse the objects for the next piece
            whole = {"columns": dict(piece.columns or {})}
            if schema.label_axis == "sequence":
                whole |= {"labels": checked.rows["labels"].copy(), "targets": None}  # in the order of the store
    if not whole:
        raise SequenceError(f"{origin}: a sequence that comes in pieces has at least one; give an empty one")


@dataclass(slots=True)
class SourceProbe:
    """A source that may be the first of a new store: its first sequence determines the schema, for the others too."""

    label_axis: LabelAxis | None  # None: the first sequence determines it
    missing: Missing
    kept: Mapping[str, SequenceColumn]  # the columns that do not come from the process function, by name
    schema: Schema | None = None
    nbytes: int = 0  # of decoded rows

    def add(self, origin: SourceId, sequence: Sequence | LongSequence) -> Schema:
        """Check that a sequence fits the store, and return the schema."""
        for _, checked in checked_pieces(self.schema or self._schema_of, origin, sequence):
            self.nbytes += _nbytes(checked)
        assert self.schema is not None  # there is a piece
        return self.schema

    def _schema_of(self, origin: SourceId, sequence: Sequence) -> Schema:
        """Return the schema of a new store with this sequence."""
        _refuse_labels(sequence.labels, origin)
        x, y = np.asarray(sequence.inputs), np.asarray(sequence.labels)
        axis = self.label_axis or _guess_axis(x, y, origin)
        labels = Rows(y.dtype, y.shape if axis == "sequence" else y.shape[1:])
        rows = (
            _with_names(Rows(x.dtype, x.shape[1:]), sequence.features, sequence, "features", origin),
            _with_names(labels, sequence.targets, sequence, "targets", origin),
        )
        for what, given in (("unit", sequence.units), ("description", sequence.descriptions)):
            unknown = set(given).difference(*(one.names or () for one in rows))
            if unknown:
                raise SequenceError(
                    f"{origin}: has a {what} of {min(unknown)!r:.80}, which names no feature and no target"
                )
        columns = tuple(
            self.kept.get(name) or SequenceColumn(name, _type_of(name, value, origin))
            for name, value in sequence.columns.items()
        )
        time = None if sequence.time is None else Time.like(sequence.time, sequence.zone, origin)
        filled = sequence.filled is not None
        self.schema = Schema.plan(
            *rows, label_axis=axis, missing=self.missing, columns=columns, time=time, filled=filled
        )
        return self.schema


def _with_names(rows: Rows, given: Iterable[str] | None, sequence: Sequence, what: str, origin: SourceId) -> Rows:
    """Return the description of rows, with the given names, and with the units and descriptions of the sequence."""
    if given is None:
        return rows
    columns = Columns.of(given).noted(sequence.units, sequence.descriptions)
    names = tuple(columns)
    if len(names) != rows.features:
        width = count_text(rows.features, what.removesuffix("s"))
        raise SequenceError(f"{origin}: {count_text(len(names), 'name')} of {what}, but {width}")
    try:
        return columns.describe(rows)
    except SchemaError as error:
        raise SequenceError(f"{origin}: {error}") from error


def _type_of(name: str, value: Any, origin: SourceId) -> ColumnType:
    dtype = column_type(value)
    if dtype is None:
        raise SequenceError(
            f"{origin}: column {name!r:.80} is {value!r:.80} ({type(value).__name__}) in the first source, which does "
            "not determine its type; give text, a whole number, a float or a bool"
        )
    return dtype


def _guess_axis(inputs: NDArray[Any], labels: NDArray[Any], origin: SourceId) -> LabelAxis:
    if inputs.ndim and labels.ndim and len(labels) == len(inputs):
        return "step"
    if labels.shape == (0,):
        raise SequenceError(
            f"{origin}: {len(inputs):,} input rows and no labels; for a store without labels, say label_axis own "
            "(--label-axis)"
        )
    if labels.ndim <= 1:
        return "sequence"
    raise SequenceError(
        f"{origin}: {len(inputs):,} input rows and labels of shape {labels.shape}: say with label_axis (--label-axis) "
        "whether there is one row per step, one per sequence, or labels have their own lengths"
    )
