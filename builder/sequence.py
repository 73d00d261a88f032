"""The sequences that a process function returns."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrow import describe_type, is_numeric, is_text, numbers_of
from builder.formats.arrow_modules import pa
from builder.formats.column_notes import Columns
from builder.formats.convert import convert
from builder.formats.table import Array, array_of
from builder.formats.text_numbers import may_be_rounded
from store_spec import Classes


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One sequence of a source. A pair `(inputs, labels)` means the same as `Sequence(inputs, labels)`.

    Inputs and labels may be data frames of pandas, polars or pyarrow, whose columns name the features and targets.

    Args:
        inputs: (steps, *feature shape).
        labels: (rows, *target shape), or (*target shape) on the label axis `sequence`; None if they are in the
            manifest.
        columns: Further values of the sequence, by name: text, a whole number, a float or a bool. All sequences of a
            build have the same names and types.
        time: (steps,) the time of each step, never falling: datetime64, or timedelta64 since some start. int64 has the
            unit of the store. None: no time is stored.
        filled: Bool (steps, *feature shape), True where a value of inputs was filled in; None: no value was. It is
            stored if the first sequence of a store has it.
        zone: `"UTC"` if `time` is in UTC, as are times of Arrow and polars that have a zone; None if it is a local time
            without a zone.
        features: The names of the features, the last axis of inputs; None: they have no names. The store has those of
            the first sequence, and takes later sequences by name, in any order.
        targets: The names of the targets, the last axis of labels, likewise; of labels that are the inputs, those of
            the features.
        units: The units of features and targets, by name. Tables of pyarrow have units and descriptions in the metadata
            of their fields, too. The store has those of the first sequence.
        descriptions: The descriptions of features and targets, likewise.
    """

    inputs: Any
    labels: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    time: Any = None
    zone: Literal["UTC"] | None = None
    filled: Any = None
    features: Iterable[str] | None = None
    targets: Iterable[str] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class LongSequence:
    """One sequence that does not fit into memory: its rows come piece by piece.

    >>> def read(path):
    ...     rows = np.load(path, mmap_mode="r")
    ...     return LongSequence(Sequence(rows[at : at + 10_000, :-1], rows[at : at + 10_000, -1:])
    ...                         for at in range(0, len(rows), 10_000))

    Args:
        pieces: Consecutive pieces, each a Sequence or a pair; at least one. Each piece is used before the next is
            requested, so a generator may reuse its arrays. `columns` are those of the first piece. Labels on the axis
            `sequence` can be left out in others, and are the same everywhere.
    """

    pieces: Iterable[Sequence | tuple[Any, Any]]

    def sequences(self) -> Iterator[Sequence]:
        """Yield each piece as a Sequence.

        Raises:
            TypeError: A piece is neither a pair nor a Sequence.
        """
        expected = "a LongSequence takes an iterable of pairs (inputs, labels), or of Sequences"
        if not isinstance(self.pieces, Iterable):
            raise TypeError(f"{expected}; it was given {_type_name(self.pieces)}")
        for number, piece in enumerate(self.pieces):
            sequence = _as_sequence(piece)
            if sequence is None:
                raise TypeError(f"{expected}; piece {number:,} is {_type_name(piece)}")
            yield sequence

    def concatenate(self, *, labels_once: bool) -> Sequence:
        """Return all pieces, which have the same columns and dtypes, as one Sequence in memory.

        Args:
            labels_once: Labels are on the axis `sequence`; take those of the first piece.
        """
        names, pieces = ("inputs", "labels", "time", "filled"), list[Sequence]()
        for piece in self.sequences():
            arrays = {name: getattr(piece, name) for name in names}
            copies: dict[str, Any] = {name: np.array(rows) for name, rows in arrays.items() if rows is not None}
            pieces.append(replace(piece, **copies))  # the next piece may reuse the arrays
        if not pieces:
            raise ValueError("a sequence that comes in pieces has at least one; give an empty one")
        whole: dict[str, Any] = {}
        for name in names:
            of_pieces = [getattr(piece, name) for piece in pieces]
            takes_first = of_pieces[0] is None or (labels_once and name == "labels")
            whole[name] = of_pieces[0] if takes_first else np.concatenate(of_pieces)
        return replace(pieces[0], **whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReader:
    """What all processes know about the sources they read. Each method returns a process that knows more."""

    root: Path | None = None  # the folder of the sources; names in errors and for `label_pattern` are relative to it
    files: tuple[str, ...] = ()  # of the source, relative to the root; empty: it is a single file
    store_classes: Classes | None = None  # of each target; None: not known yet, or labels are numbers

    def under(self, root: Path) -> Self:
        """Return the process for sources below this folder."""
        return replace(self, root=root)

    def with_files(self, files: Iterable[str]) -> Self:
        """Return the process for a source that consists of these files."""
        return replace(self, files=tuple(files))

    def with_classes(self, classes: Classes | None) -> Self:
        """Return the process for labels with these classes."""
        return replace(self, store_classes=classes)


def sequences_of(result: Any) -> Iterator[Sequence | LongSequence]:
    """Yield the sequences in the result of a process function; any other result is a TypeError."""
    expected = "a process function returns (inputs, labels), or yields such pairs; it gave"
    advice = "; to skip a source, return []" if result is None else ""
    if isinstance(result, tuple | Sequence | LongSequence) or is_data_frame(result):
        result = (result,)
    # These are iterable, but an error about their elements would mislead.
    elif hasattr(result, "__array__") or isinstance(result, dict | str) or not isinstance(result, Iterable):
        raise TypeError(f"{expected} {_type_name(result)}{advice}")
    for value in result:
        sequence = value if isinstance(value, LongSequence) else _as_sequence(value)
        if sequence is None:
            raise TypeError(f"{expected} {_type_name(value)}")
        yield sequence


def join_results(results: Iterable[tuple[str, Any]]) -> Iterator[LongSequence]:
    """Join the results of a process function for several files into one sequence; yield none if all are empty.

    Args:
        results: The name of each file, and the function's result for it: at most one sequence.
    """
    pieces = _pieces_of(results)
    first = next(pieces, None)
    if first is not None:
        yield LongSequence(chain([first], pieces))


def _pieces_of(results: Iterable[tuple[str, Any]]) -> Iterator[Sequence]:
    labels: dict[str, str] = {}  # each label of a whole file, and the first file with it
    for file, result in results:
        # If the labels come from elsewhere, the function may return the inputs alone.
        of_file = sequences_of((result, None) if hasattr(result, "__array__") else result)
        for number, sequence in enumerate(of_file):
            if number:
                raise SourceError(
                    f"{file} gives several sequences, where each file of a source is a piece of one; yield one for a "
                    "file"
                )
            if isinstance(sequence, LongSequence):
                yield from sequence.sequences()
                continue
            if sequence.labels is not None and not np.ndim(sequence.labels):
                labels.setdefault(repr(np.asarray(sequence.labels).item()), file)
            if len(labels) > 1:
                (label, first), (other, _) = labels.items()
                raise SourceError(
                    f"{file} has the label {other:.80}, but {first} has {label:.80}; all files of a source form one "
                    "sequence, which has one label"
                )
            yield sequence


def map_sequence(sequence: Sequence | LongSequence, change: Callable[[Sequence], Sequence]) -> Sequence | LongSequence:
    """Return a sequence after a change; each piece of a LongSequence is changed when it is requested."""
    if isinstance(sequence, LongSequence):
        return LongSequence(map(change, sequence.sequences()))
    return change(sequence)


def _as_sequence(value: Any) -> Sequence | None:
    """Return a Sequence, a pair or a data frame as a Sequence of arrays; None for anything else."""
    if isinstance(value, tuple) and len(value) == 2:
        value = Sequence(*value)
    elif is_data_frame(value):
        value = Sequence(value, None)
    if not isinstance(value, Sequence):
        return None
    inputs, features = _read_columns(value.inputs, value.features, "inputs")
    if value.labels is value.inputs:  # they have the same names
        labels, targets = inputs, features if value.targets is None else Columns.of(value.targets)
    else:
        labels, targets = _read_columns(value.labels, value.targets, "labels")
    zone = "UTC" if value.time is not None and _has_zone(value.time) else value.zone
    if inputs is value.inputs and labels is value.labels and features is targets is None and zone == value.zone:
        return value  # the usual case, without the time of a copy
    return replace(value, inputs=inputs, labels=labels, features=features, targets=targets, zone=zone)


def _has_zone(time: Any) -> bool:
    """Return whether these times are a column of Arrow or polars with a time zone: as an array they are in UTC."""
    kind = getattr(time, "type", None)
    if hasattr(time, "__arrow_c_stream__"):
        kind = pa.chunked_array(time).type
    return isinstance(kind, pa.DataType) and pa.types.is_timestamp(kind) and kind.tz is not None


def _read_columns(value: Any, names: Iterable[str] | None, what: str) -> tuple[Any, Columns | None]:
    """Return inputs or labels, a data frame as an array, and the names of their columns, to be read more than once."""
    if is_data_frame(value):
        value, own_names = read_data_frame(value, what)
        names = own_names if names is None else names
    elif any(hasattr(value, f"__arrow_{name}__") for name in ("c_stream", "c_array", "array")):
        _refuse_rounded_column(value, what)
    return value, None if names is None else Columns.of(names)


def _type_name(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"


def is_data_frame(value: Any) -> bool:
    """Return whether a value is a data frame of pandas, polars or pyarrow, and not an array or a single column.

    Pandas and polars are not imported: a data frame has `columns`, and exports itself by the Arrow PyCapsule interface.
    """
    return hasattr(value, "__arrow_c_stream__") and hasattr(value, "columns")


def read_data_frame(value: Any, what: str) -> tuple[Array, Columns | None]:
    """Return the columns of a data frame as one array (rows, columns), and their names, units and descriptions.

    Missing numbers become NaN. If a column of labels is text, the array has dtype object. The names are None if they
    are the numbers that pandas gives by default. `what` is `inputs` or `labels`.
    """
    names = list(value.column_names if isinstance(value, pa.Table | pa.RecordBatch) else value.columns)
    is_named = names != list(range(len(names)))
    if not all(isinstance(name, str) for name in names):
        names = ["/".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in names]
        value = value.set_axis(names, axis=1)  # of pandas: others have text
    frame = pa.table(value).select(names)  # pandas may export its index as a column
    for name, kind in zip(names, frame.schema.types, strict=True):
        may_be_text = what == "labels" or not len(frame)
        if not is_numeric(kind) and not (may_be_text and is_text(kind)):
            raise SourceError(
                f"column {name} of its {what} holds {describe_type(kind)}, not numbers; leave it out, turn it into "
                "numbers, or give it to time= of Sequence if it tells when each step was"
            )
    notes = Columns.with_metadata(tuple(names), {one.name: one.metadata for one in frame.schema}) if is_named else None
    if not all(map(is_numeric, frame.schema.types)):
        rows = np.empty((len(frame), len(names)), object)
        for place, name in enumerate(names):
            rows[:, place] = frame[name].to_pylist()
        return rows, notes
    columns = [array_of(numbers_of(frame[name])) for name in names]
    kinds = [values.dtype if absent is None else np.float64 for values, absent in columns]
    rows = np.empty((len(frame), len(names)), np.result_type(np.bool_, *kinds))
    for place, (values, absent) in enumerate(columns):
        rows[:, place] = _exact(values, rows.dtype, f"{names[place]} of its {what}")
        if absent is not None:
            rows[absent, place] = np.nan
    return rows, notes


def _refuse_rounded_column(value: Any, what: str) -> None:
    """Refuse whole numbers beyond 2**53 beside missing values in a single column of pandas, polars or pyarrow.

    Its own conversion to an array makes them floats.
    """
    floats = np.asarray(value)
    if floats.dtype.kind == "f" and may_be_rounded(floats):
        column = pa.chunked_array(value) if hasattr(value, "__arrow_c_stream__") else pa.array(value)
        _exact(array_of(numbers_of(column))[0], floats.dtype, f"0 of its {what}")


def _exact(values: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Return a column (rows,) in another dtype; refuse whole numbers that floats of this dtype round."""
    advice = "convert the column to floats yourself, or leave it out"
    return convert(values[:, None], dtype, (name,), rounds=False, advice=advice)[:, 0]
