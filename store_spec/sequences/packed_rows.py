"""Which pieces of sequences share a row: arithmetic on lengths, without reading any rows.

    row 0 | a a a a a b b b |       sequences of 5, 3, 4 and 2 steps in rows of 8 steps; a dot is padding
    row 1 | c c c c d d . . |

Pieces are packed best-fit decreasing within groups of pieces: the longest first, each into the row with the least space
that is enough. With shuffling, other pieces are in a group in each epoch.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import spread
from store_spec.sequences.slices import Slices

Ints = NDArray[np.int64]

GROUP_ROWS = 256  # that a group fills: with more there is less padding, but fewer different pieces can share a row


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedRows:
    """The pieces in each row, one row after another."""

    tokens: int  # steps in a row, including padding
    first: Ints  # (rows + 1,), the first piece of each row
    sequence: Ints  # (pieces,), the sequence of each piece
    start: Ints  # (pieces,), its first step there
    count: Ints  # (pieces,), how many steps it has

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.first) - 1

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all rows."""
        return 1 - int(self.count.sum()) / (len(self) * self.tokens) if len(self) else 0.0

    def slices(self, batches: list[Ints]) -> Slices:
        """Return the pieces of batches, batch by batch and row by row; each batch is given by its rows."""
        rows, sizes = np.concatenate(batches), np.array([len(batch) for batch in batches])
        counts = self.first[rows + 1] - self.first[rows]
        which = spread(self.first[rows], counts)
        count = self.count[which]
        before = np.cumsum(count) - count
        return Slices(
            shapes=[(int(size), self.tokens) for size in sizes],
            batch=np.repeat(np.repeat(np.arange(len(sizes)), sizes), counts),
            lane=np.repeat(spread(np.zeros_like(sizes), sizes), counts),
            column=before - np.repeat(before[np.cumsum(counts) - counts], counts),
            sequence=self.sequence[which],
            start=self.start[which],
            count=count,
        )


def pack(
    lengths: Ints, order: Ints, *, tokens: int, max_steps: int, random: np.random.Generator | None = None
) -> PackedRows:
    """Cut sequences into pieces, and pack these into rows.

    Args:
        lengths: (sequences,), the steps of each sequence.
        order: The sequences, in the order in which they are grouped.
        tokens: Steps in a row.
        max_steps: The largest number of steps in a piece, at most `tokens`.
        random: Shuffles pieces, and then rows; None to keep rows in order.

    >>> packing = pack(np.array([5, 3, 4, 2]), np.arange(4), tokens=8, max_steps=8)
    >>> packing.first.tolist(), packing.sequence.tolist(), packing.count.tolist(), packing.padding
    ([0, 2, 4], [0, 1, 2, 3], [5, 3, 4, 2], 0.125)
    """
    pieces = -(-lengths[order] // max_steps)
    sequence = np.repeat(order, pieces)
    start = spread(np.zeros_like(pieces), pieces) * max_steps
    count = np.minimum(max_steps, lengths[sequence] - start)
    if random is not None:
        shuffled = random.permutation(len(count))
        sequence, start, count = sequence[shuffled], start[shuffled], count[shuffled]
    group = (np.cumsum(count) - count) // (tokens * GROUP_ROWS)
    edges = np.flatnonzero(np.diff(group, prepend=-1, append=len(group) + 1))
    groups = itertools.pairwise(edges.tolist())
    rows = [row for at, stop in groups for row in _rows(count[at:stop], at, tokens)]
    if random is not None:
        rows = [rows[number] for number in random.permutation(len(rows))]
    which = np.array([piece for row in rows for piece in row], np.int64)
    first = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64)))
    return PackedRows(tokens=tokens, first=first, sequence=sequence[which], start=start[which], count=count[which])


def _rows(count: Ints, first: int, tokens: int) -> list[list[int]]:
    """Pack the pieces `first`, `first + 1`, ... of these lengths; return those of each row, in order."""
    rows: list[list[int]] = []
    spaces: list[tuple[int, int]] = []  # the space in each row that is not full, and its number, ascending
    by_size = np.argsort(-count, kind="stable")
    for piece, size in zip((by_size + first).tolist(), count[by_size].tolist(), strict=True):
        at = bisect_left(spaces, (size, 0))
        if at < len(spaces):
            space, row = spaces.pop(at)
            rows[row].append(piece)
        else:
            space, row = tokens, len(rows)
            rows.append([piece])
        if space > size:
            insort(spaces, (space - size, row))
    return [sorted(row) for row in rows]
