"""A few sequences as lines: always the same ones, and so many points as a screen shows."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.inspection import ColumnStatistics
from builder.report.sampling import SEED
from store_spec import Store
from store_spec.reading.splits import position
from store_spec.schema import Rows

SEQUENCES = 6
LINES = 6  # features or targets of each
POINTS = 240  # along a line
MOST_BYTES = 2**20  # decoded rows of one sequence: of a longer one, its beginning is drawn
MOST_CLASSES = 24  # different whole numbers up to which labels are drawn as a ribbon
MOST_PIECES = 240  # of a ribbon

Span = tuple[float, float] | None  # least and largest value in a part of the steps; None: all are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One feature or target along the steps.

    Args:
        spans: One for each step, or for each of so many parts of the steps as are drawn.
    """

    name: str
    column: int
    low: float
    high: float
    spans: tuple[Span, ...]

    @property
    def missing(self) -> bool:
        """Whether there is no value to draw."""
        return all(span is None for span in self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ribbon:
    """Labels that are classes, along the steps.

    Args:
        pieces: (first step, the one after the last, which class), one after another.
    """

    name: str
    column: int
    pieces: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One sequence.

    Args:
        steps: That it has.
        shown: Of them, from the first on, that are drawn.
        labels: Of the sequence as a whole: (target, its column, value); empty on other label axes.
    """

    source: str
    part: int
    split: str
    steps: int
    shown: int
    label_steps: int
    features: tuple[Line, ...]
    targets: tuple[Line | Ribbon, ...]
    labels: tuple[tuple[str, int, float], ...]


def draw(store: Store, statistics: tuple[ColumnStatistics, ...], splits: Sequence[str]) -> tuple[Drawing, ...]:
    """Draw a few sequences: the first of each source whose name has one of the least hashes.

    Args:
        store: Whose sequences.
        statistics: Of the features and targets that may be drawn: those that change come first.
        splits: Which split each sequence is in.
    """
    first: dict[str, int] = {}
    for number in np.flatnonzero(store.lengths)[::-1].tolist():
        first[store.sources[number]] = number
    chosen = heapq.nsmallest(SEQUENCES, first, key=lambda source: (position(source, SEED), source))
    columns = {name: _changing(statistics, name) for name in ("inputs", "labels")}
    return tuple(_drawing(store, first[source], columns, splits[first[source]]) for source in chosen)


def _changing(statistics: tuple[ColumnStatistics, ...], name: str) -> list[ColumnStatistics]:
    """Return the first columns that change, or the first ones where too few do; in their order."""
    ours = [one for one in statistics if one.array == name]
    chosen = sorted(ours, key=lambda one: one.min == one.max)[:LINES]
    return sorted(chosen, key=lambda one: one.column)


def _drawing(store: Store, number: int, columns: dict[str, list[ColumnStatistics]], split: str) -> Drawing:
    schema, axis = store.schema, store.schema.label_axis
    rows = {}
    for name in ("inputs", "labels"):
        starts, lengths = store.places(name)
        start, length = int(starts[number]), int(lengths[number])
        most = max(1, MOST_BYTES // max(1, schema.rows(name).nbytes))
        rows[name] = _real(store.snapshot.rows(name, start, start + min(length, most)), schema.rows(name))
    shown = len(rows["inputs"])
    labels = rows["labels"][:shown] if axis == "step" else rows["labels"]
    targets = () if axis == "sequence" else tuple(_target(labels, one) for one in columns["labels"])
    return Drawing(
        source=store.sources[number],
        part=int(store.parts[number]),
        split=split,
        steps=int(store.lengths[number]),
        shown=shown,
        label_steps=int(store.label_lengths[number]) if axis == "own" else 0,
        features=tuple(_line(rows["inputs"][:, one.column], one) for one in columns["inputs"]),
        targets=targets,
        labels=tuple(
            (name_of(one), one.column, float(labels[0, one.column])) for one in columns["labels"] if axis == "sequence"
        ),
    )


def name_of(one: ColumnStatistics) -> str:
    """Return a column's name, or what it is and its number where it has none."""
    if one.name is not None:
        return one.name
    return f"{'feature' if one.array == 'inputs' else 'target'} {one.column}"


def _real(rows: NDArray[Any], each: Rows) -> NDArray[Any]:
    """Return (steps, features): of several places of a feature the mean, of complex numbers the absolute value."""
    rows = rows.reshape(len(rows), math.prod(each.shape[:-1]), each.features)
    rows = np.abs(rows) if rows.dtype.kind == "c" else rows
    return rows[:, 0] if rows.shape[1] == 1 else rows.mean(axis=1, dtype=np.float64)


def _line(values: NDArray[Any], one: ColumnStatistics) -> Line:
    values = values.astype(np.float64)
    values[np.isinf(values)] = np.nan  # only a stranger's store has any
    real = values[~np.isnan(values)]
    low, high = (float(real.min()), float(real.max())) if len(real) else (0.0, 0.0)
    return Line(name=name_of(one), column=one.column, low=low, high=high, spans=spans_of(values))


def _target(values: NDArray[Any], one: ColumnStatistics) -> Line | Ribbon:
    column = values[:, one.column]
    classes = column.dtype.kind in "biu" and one.min is not None and one.max is not None
    if classes and len(np.unique(column)) <= MOST_CLASSES:
        cuts = np.append(0, np.flatnonzero(column[1:] != column[:-1]) + 1)
        ends = np.append(cuts[1:], len(column))
        if len(cuts) <= MOST_PIECES:
            pieces = zip(cuts.tolist(), ends.tolist(), column[cuts].tolist(), strict=True) if len(column) else ()
            return Ribbon(name=name_of(one), column=one.column, pieces=tuple((a, b, int(c)) for a, b, c in pieces))
    return _line(column, one)


def spans_of(values: NDArray[np.float64], points: int = POINTS) -> tuple[Span, ...]:
    """Return the least and largest value of each step, or of parts of the steps where these are too many to draw.

    >>> spans_of(np.array([1.0, 2.0, np.nan, 5.0, 3.0, np.nan]), points=3)
    ((1.0, 2.0), (5.0, 5.0), (3.0, 3.0))
    """
    if len(values) <= points:
        return tuple(None if np.isnan(value) else (float(value), float(value)) for value in values)
    cuts = np.arange(points) * len(values) // points
    low, high = np.fmin.reduceat(values, cuts), np.fmax.reduceat(values, cuts)
    return tuple(None if np.isnan(a) else (float(a), float(b)) for a, b in zip(low, high, strict=True))
