"""Rows from all over a store, always the same ones, in bounded memory: a few whole chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import Store
from store_spec.format.layout import chunk_rows
from store_spec.format.runs import merged, spread
from store_spec.reading.splits import position

SAMPLED_BYTES = 2**23  # decoded, of each of inputs and labels; but one chunk at least
SEED = 1  # of the hashes; the default splits have 0
BLOCK_VALUES = 2**20  # of a table that are in memory together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Some rows of `inputs` or `labels`, in the order of the store.

    Args:
        rows: (rows, places, features): a row of more axes than one has several places a feature.
        begins: Bool (rows,): True where the row before this one is not the step before it.
        sequence: Int64 (rows,): which sequence of the selection each row is of.
        total: Rows that there are.
    """

    rows: NDArray[Any]
    begins: NDArray[np.bool_]
    sequence: NDArray[np.int64]
    total: int

    @property
    def whole(self) -> bool:
        """Whether these are all rows."""
        return len(self.rows) == self.total


def sample_rows(store: Store, name: str, most_bytes: int = SAMPLED_BYTES) -> Sample:
    """Read some chunks of `inputs` or `labels`: evenly spread over the rows, each at a place that a hash chooses.

    Args:
        store: Whose rows. Those of sequences that are not selected are left out.
        name: Of the array.
        most_bytes: Decoded; where all rows take no more, all are read.

    Raises:
        ChecksumError: The bytes on disk are not those that were written.
    """
    rows = store.schema.rows(name)
    starts, lengths = store.places(name)
    held = np.flatnonzero(lengths)
    held = held[np.argsort(starts[held], kind="stable")]
    starts, lengths = starts[held], lengths[held]
    size, most = chunk_rows(store.schema, name), max(1, most_bytes // max(1, rows.nbytes))
    pieces = [
        _piece(store, name, range(chunk * size, (chunk + 1) * size), most, (starts, lengths))
        for chunk in _chunks(starts, lengths, size, max(1, most // size)).tolist()
    ]
    array = np.concatenate([rows.empty(0), *(each[0] for each in pieces)])
    row = np.concatenate([np.zeros(0, np.int64), *(each[1] for each in pieces)])
    sequence = np.concatenate([np.zeros(0, np.int64), *(each[2] for each in pieces)])
    before = np.append(-2, row[:-1])
    return Sample(
        rows=array.reshape(len(array), math.prod(rows.shape[:-1]), rows.features),
        begins=(row != before + 1) | (row == starts[sequence]),
        sequence=held[sequence],
        total=int(lengths.sum()),
    )


def _chunks(starts: NDArray[np.int64], lengths: NDArray[np.int64], size: int, count: int) -> NDArray[np.int64]:
    """Return the numbers of at most `count` chunks, ascending: all that these sequences lie in, or some of them."""
    if not len(starts):
        return np.zeros(0, np.int64)
    first, last = starts // size, (starts + lengths - 1) // size
    before = np.append(-1, np.maximum.accumulate(last)[:-1])
    if int((last - np.maximum(first - 1, before)).clip(min=0).sum()) <= count:
        low, high = merged(first, last + 1)
        return spread(low, high - low)
    ends = np.cumsum(lengths)
    at = np.array([(turn + position(f"chunk {turn}", SEED)) / count for turn in range(count)]) * int(ends[-1])
    at = at.astype(np.int64).clip(max=int(ends[-1]) - 1)
    sequence = np.searchsorted(ends, at, side="right")
    return np.unique((starts[sequence] + at - (ends - lengths)[sequence]) // size)


def _piece(
    store: Store, name: str, rows: range, most: int, places: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first of some rows that belong to a sequence, their numbers, and which sequence.

    Args:
        store: Whose rows.
        name: Of the array.
        rows: Their numbers; some belong to a sequence.
        most: Rows that are read.
        places: Where sequences start, ascending, and how long they are; none is empty.
    """
    starts, lengths = places
    ends = starts + lengths
    # Of a chunk that is too large only some rows are taken: from the first one on that is of a sequence.
    start = max(rows.start, int(starts[np.searchsorted(ends, rows.start, side="right")]))
    row = np.arange(start, min(start + most, rows.stop, int(ends[-1])))
    sequence = np.searchsorted(starts, row, side="right") - 1
    ours = (sequence >= 0) & (row < ends[sequence])
    return store.snapshot.rows(name, start, start + len(row))[ours], row[ours], sequence[ours]


def table_blocks(store: Store, *names: str, width: int) -> Iterator[tuple[slice, tuple[NDArray[Any], ...]]]:
    """Give the rows of tables of the sequences of a store, some at a time: which sequences, and a block of each table.

    Args:
        store: Whose sequences; cheap where their numbers rise.
        names: Of the tables.
        width: Values of a row of one table.
    """
    size = max(1, BLOCK_VALUES // max(1, width))
    for start in range(0, len(store), size):
        numbers = store.selection[start : start + size]
        low, high = int(numbers.min()), int(numbers.max()) + 1
        blocks = tuple(store.snapshot.table(name, low, high)[numbers - low] for name in names)
        yield slice(start, start + len(numbers)), blocks
