"""Plots of a few sequences, always the same ones, with as many points as a screen shows."""

import hashlib
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.inspection.features import ARRAYS, ColumnStatistics
from builder.inspection.sampling import class_name
from store_spec import DEFAULT_SPLITS, Rows, Store

SEQUENCES = 6
LINES = 6  # most features, and most targets, that are drawn
POINTS = 240  # along a line
MOST_BYTES = 2**20  # decoded rows of a sequence; of a longer one only the start is drawn
SEED = 1  # of the hashes; the default splits use 0

Span = tuple[float, float] | None  # the least and the largest value of some steps; None: all are missing


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
