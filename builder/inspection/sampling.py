"""Sample rows, always the same ones, for histograms and the classes of labels."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.inspection.values import Bin, histogram
from store_spec import DEFAULT_SPLITS, Store

SAMPLED_BYTES = 2**23  # decoded, of inputs and of labels each, but at least one row
SAMPLED_ROWS = 2**20
PIECES = 16  # the rows are read from this many places in the store
SAMPLED_COLUMNS = {"inputs": 500, "labels": 100}
MOST_CLASSES = 64  # a target with more different whole numbers is not taken to have classes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Some rows of `inputs` or `labels`, in the order of the store.

    Args:
        rows: (rows, places, features): a row with several axes has several places for each feature.
        sequence: Int64 (rows,): the sequence of each row.
        total: The number of rows in the store.
    """

    rows: NDArray[Any]
    sequence: NDArray[np.int64]
    total: int


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
    sample, classes = sample_rows(store, array), store.schema.labels.classes
    columns = []
    for column in range(min(store.schema.rows(array).features, SAMPLED_COLUMNS[array])):
        values, counts = sample.rows[:, :, column], list[ClassCount]()
        if array == "labels":
            counts = count_classes(values, split_of[sample.sequence], classes[column] if classes else None)
        columns.append(SampledColumn(column=column, bins=histogram(values.reshape(-1)), classes=tuple(counts)))
    return SampledArray(rows=len(sample.rows), total=sample.total, columns=tuple(columns))


def sample_rows(store: Store, array: str, most_bytes: int = SAMPLED_BYTES) -> Sample:
    """Read rows of `inputs` or `labels` from evenly spread places in a store, or all if there are few.

    Rows of retired sequences are left out.
    """
    schema = store.schema.rows(array)
    starts, lengths = store.places(array)
    sequences = np.flatnonzero(lengths)
    sequences = sequences[np.argsort(starts[sequences], kind="stable")]
    starts, lengths = starts[sequences], lengths[sequences]
    total, last = int(lengths.sum()), int((starts + lengths).max(initial=0))
    pieces, which = [schema.empty(0)], [np.zeros(0, np.int64)]
    for piece in _pieces(starts, lengths, max(1, min(SAMPLED_ROWS, most_bytes // max(1, schema.nbytes)))):
        rows = np.arange(piece.start, min(piece.stop, last))
        sequence = np.searchsorted(starts, rows, side="right") - 1
        ours = rows < (starts + lengths)[sequence]
        pieces.append(store.snapshot.rows(array, piece.start, piece.start + len(rows))[ours])
        which.append(sequence[ours])
    sampled = np.concatenate(pieces)
    return Sample(
        rows=sampled.reshape(len(sampled), math.prod(schema.shape[:-1]), schema.features),
        sequence=sequences[np.concatenate(which)],
        total=total,
    )


def _pieces(starts: NDArray[np.int64], lengths: NDArray[np.int64], most: int) -> list[range]:
    """Return ascending, disjoint ranges of rows, with at most `most` rows in all."""
    if not len(starts):
        return []
    ends, first = np.cumsum(lengths), int(starts[0])
    if int(starts[-1] + lengths[-1]) - first <= most:
        return [range(first, first + most)]
    count = min(PIECES, most)
    pieces, stop = [], 0
    for number in range(count):
        at = number * int(ends[-1]) // count  # the index among the rows of all sequences
        sequence = int(np.searchsorted(ends, at, side="right"))
        start = max(stop, int(starts[sequence] + at - (ends[sequence] - lengths[sequence])))
        stop = start + most // count
        pieces.append(range(start, stop))
    return pieces


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
