"""Read some rows of a store, always the same ones: for histograms, the classes of labels, and plots of sequences."""

import hashlib
import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.inspection.features import ARRAYS, ColumnStatistics
from builder.inspection.values import Bin, histogram
from store_spec import DEFAULT_SPLITS, Rows, Store

SAMPLED_BYTES = 2**23  # decoded, of inputs and of labels each, but at least one row
SAMPLED_ROWS = 2**20
PIECES = 16  # the rows are read from this many places in the store
SAMPLED_COLUMNS = {"inputs": 500, "labels": 100}
MOST_CLASSES = 64  # a target with more different whole numbers is not taken to have classes

SEQUENCES = 6
LINES = 6  # most features, and most targets, that are drawn
POINTS = 240  # along a line
MOST_BYTES = 2**20  # decoded rows of a sequence; of a longer one only the start is drawn
SEED = 1  # of the hashes; the default splits use 0

Span = tuple[float, float] | None  # the least and the largest value of some steps; None: all are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """How often a class occurs in the sampled labels."""

    code: int
    name: str | None
    count: int
    splits: tuple[int, ...]  # its count in each split


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledColumn:
    """One feature or target in the sampled rows.

    Args:
        bins: A histogram of the values.
        classes: Of labels that are few different whole numbers: each of them, the most frequent first.
    """

    column: int
    bins: tuple[Bin, ...]
    classes: tuple[ClassCount, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledArray:
    """The sampled rows of `inputs` or `labels`."""

    rows: int  # in the sample
    total: int  # in the store
    columns: tuple[SampledColumn, ...]  # the first features or targets


def sample_array(store: Store, array: str, split_of: NDArray[np.int64]) -> SampledArray:
    """Sample the rows of `inputs` or `labels`; `split_of` (sequences,) is the split of each sequence."""
    rows, sequence = sample_rows(store, array)
    classes, columns = store.schema.labels.classes, []
    for column in range(min(store.schema.rows(array).features, SAMPLED_COLUMNS[array])):
        values, counts = rows[:, :, column], list[ClassCount]()
        if array == "labels":
            counts = count_classes(values, split_of[sequence], classes[column] if classes else None)
        columns.append(SampledColumn(column=column, bins=histogram(values.reshape(-1)), classes=tuple(counts)))
    return SampledArray(rows=len(rows), total=int(store.places(array)[1].sum()), columns=tuple(columns))


def sample_rows(store: Store, array: str, most_bytes: int = SAMPLED_BYTES) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Read rows of `inputs` or `labels` from evenly spread places in a store, or all if there are few.

    Rows of retired sequences are left out.

    Returns:
        (rows, places, features), where a row with several axes has several places for each feature; and int64 (rows,),
        the sequence of each row.
    """
    schema = store.schema.rows(array)
    starts, lengths = store.places(array)
    sequences = np.flatnonzero(lengths)
    sequences = sequences[np.argsort(starts[sequences], kind="stable")]
    starts, lengths = starts[sequences], lengths[sequences]
    pieces, which = [schema.empty(0)], [np.zeros(0, np.int64)]
    for start, stop in _pieces(starts, lengths, max(1, min(SAMPLED_ROWS, most_bytes // max(1, schema.nbytes)))):
        rows = np.arange(start, stop)
        sequence = np.searchsorted(starts, rows, side="right") - 1
        ours = rows < (starts + lengths)[sequence]
        pieces.append(store.snapshot.rows(array, start, stop)[ours])
        which.append(sequence[ours])
    sampled = np.concatenate(pieces)
    shape = len(sampled), math.prod(schema.shape[:-1]), schema.features
    return sampled.reshape(shape), sequences[np.concatenate(which)]


def _pieces(starts: NDArray[np.int64], lengths: NDArray[np.int64], most: int) -> Iterable[tuple[int, int]]:
    """Return the bounds of ascending, disjoint ranges of rows, with at most `most` rows in all."""
    if not len(starts):
        return ()
    ends, last = np.cumsum(lengths), int(starts[-1] + lengths[-1])
    count = 1 if last - starts[0] <= most else min(PIECES, most)
    at = np.arange(count) * ends[-1] // count  # indices among the rows of all sequences
    begins = np.unique(at + (starts + lengths - ends)[np.searchsorted(ends, at, side="right")])
    stops = np.minimum(begins + most // count, [*begins[1:], last])
    return zip(begins.tolist(), stops.tolist(), strict=True)


def count_classes(
    values: NDArray[Any], split_of: NDArray[np.int64], names: tuple[str, ...] | None = None
) -> list[ClassCount]:
    """Count the labels (rows, places) of each class, the most frequent first; `split_of` (rows,) is the split of each.

    There are no classes if labels are not whole numbers, or too many different ones.
    """
    if values.dtype.kind not in "biu":
        return []
    codes, which = np.unique(values.reshape(-1), return_inverse=True)
    if len(codes) > MOST_CLASSES:
        return []
    table = np.zeros((len(codes), len(DEFAULT_SPLITS)), np.int64)
    np.add.at(table, (which.reshape(-1), np.repeat(split_of, values.shape[1])), 1)
    counts = [
        ClassCount(code=int(code), name=class_name(names, code), count=sum(row), splits=tuple(row))
        for code, row in zip(codes, table.tolist(), strict=True)
    ]
    return sorted(counts, key=lambda one: -one.count)


def class_name(names: tuple[str, ...] | None, code: float) -> str | None:
    """Return the name of a class; None if it has no name."""
    return names[int(code)] if names and float(code).is_integer() and 0 <= code < len(names) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One feature or target along the steps."""

    array: str
    title: str
    low: float | None  # the least value; None: all are missing
    high: float | None  # the largest value; None likewise
    spans: tuple[Span, ...]  # one for each step, or for each of `POINTS` parts of the steps


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSequence:
    """One sequence."""

    source: str
    part: int
    split: str
    steps: int
    drawn: int  # the number of steps that are drawn, from the first on
    label_rows: int
    lines: tuple[Line, ...]
    labels: tuple[float | str | None, ...]  # the first targets on the label axis `sequence`: class names or numbers


def example_sequences(
    store: Store, statistics: Sequence[ColumnStatistics], split_of: NDArray[np.int64]
) -> tuple[ExampleSequence, ...]:
    """Return the first non-empty sequence of each of the `SEQUENCES` sources whose names have the smallest hashes.

    Of the features and targets in `statistics`, the first that are not constant are drawn. `split_of` (sequences,) is
    the split of each sequence.
    """
    first: dict[str, int] = {}
    for number in np.flatnonzero(store.lengths).tolist():
        first.setdefault(store.sources[number], number)
    chosen = heapq.nsmallest(SEQUENCES, first, key=lambda source: hashlib.sha256(f"{SEED}:{source}".encode()).digest())
    names = tuple(DEFAULT_SPLITS)
    return tuple(_example(store, first[source], statistics, names[split_of[first[source]]]) for source in chosen)


def _example(store: Store, number: int, statistics: Sequence[ColumnStatistics], split: str) -> ExampleSequence:
    axis = store.schema.label_axis
    rows = {array: _rows(store, array, number) for array in ARRAYS}
    drawn = len(rows["inputs"])
    if axis == "step":
        rows["labels"] = rows["labels"][:drawn]
    return ExampleSequence(
        source=store.sources[number],
        part=int(store.parts[number]),
        split=split,
        steps=int(store.lengths[number]),
        drawn=drawn,
        label_rows=int(store.label_lengths[number]),
        lines=tuple(
            _line(rows[array][:, one.column], one)
            for array in (ARRAYS if axis != "sequence" else ARRAYS[:1])
            for one in _drawn_columns(statistics, array)
        ),
        labels=tuple(_label(store, target, value) for target, value in enumerate(rows["labels"][0, :LINES].tolist()))
        if axis == "sequence"
        else (),
    )


def _label(store: Store, target: int, value: float) -> float | str | None:
    names = store.schema.labels.classes
    name = class_name(names[target], value) if names else None
    return name or (value if math.isfinite(value) else None)


def _drawn_columns(statistics: Sequence[ColumnStatistics], array: str) -> list[ColumnStatistics]:
    """Return the first columns that are not constant, in order; if there are too few, also constant columns."""
    columns = [one for one in statistics if one.array == array]
    return sorted(sorted(columns, key=lambda one: one.min == one.max)[:LINES], key=lambda one: one.column)


def _rows(store: Store, array: str, number: int) -> NDArray[np.float64]:
    """Return the first rows of a sequence, (rows, features): means over further axes, absolute values if complex."""
    schema: Rows = store.schema.rows(array)
    starts, lengths = store.places(array)
    start = int(starts[number])
    most = max(1, MOST_BYTES // max(1, schema.nbytes))
    rows: NDArray[Any] = store.snapshot.rows(array, start, start + min(int(lengths[number]), most))
    rows = rows.reshape(len(rows), math.prod(schema.shape[:-1]), schema.features)
    rows = np.abs(rows) if rows.dtype.kind == "c" else rows
    return np.asarray(rows.mean(axis=1), np.float64)


def _line(values: NDArray[np.float64], one: ColumnStatistics) -> Line:
    real = values[np.isfinite(values)]
    return Line(
        array=one.array,
        title=one.title,
        low=float(real.min()) if len(real) else None,
        high=float(real.max()) if len(real) else None,
        spans=spans_of(np.where(np.isfinite(values), values, np.nan)),
    )


def spans_of(values: NDArray[np.float64], points: int = POINTS) -> tuple[Span, ...]:
    """Return the least and largest value of each step, or of parts of the steps if there are too many to draw.

    >>> spans_of(np.array([1.0, 2.0, np.nan, 5.0, 3.0, np.nan]), points=3)
    ((1.0, 2.0), (5.0, 5.0), (3.0, 3.0))
    """
    if len(values) <= points:
        low = high = values
    else:
        cuts = np.arange(points) * len(values) // points
        low, high = np.fmin.reduceat(values, cuts), np.fmax.reduceat(values, cuts)
    return tuple(None if math.isnan(a) else (a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSample:
    """Results from a sample of rows."""

    inputs: SampledArray
    labels: SampledArray | None  # None: labels are the inputs
    sequences: tuple[ExampleSequence, ...]


def row_sample(store: Store, statistics: Sequence[ColumnStatistics], split_of: NDArray[np.int64]) -> RowSample:
    """Read some rows; `split_of` (sequences,) is the split of each sequence."""
    same = store.snapshot.labels_are_inputs()
    sample = RowSample(
        inputs=sample_array(store, "inputs", split_of),
        labels=None if same else sample_array(store, "labels", split_of),
        sequences=example_sequences(store, [one for one in statistics if one.array == "inputs" or not same], split_of),
    )
    store.snapshot.check_not_replaced()
    return sample
