"""Batches of rows that are packed with several sequences each, for Transformers.

Which pieces of sequences share a row is arithmetic on lengths, without reading any rows:

    row 0 | a a a a a b b b |       sequences of 5, 3, 4 and 2 steps in rows of 8 steps; a dot is padding
    row 1 | c c c c d d . . |

Pieces are packed best-fit decreasing within groups of pieces: the longest first, each into the row with the least space
that is enough. With shuffling, each epoch has other groups.
"""

import itertools
from bisect import bisect_left, insort
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import Ints, bounds_of, spread
from store_spec.reading.argument_checks import whole_number
from store_spec.reading.one_epoch import EpochOptions, TurnsPlan
from store_spec.reading.read_ranges import PIECE_BYTES
from store_spec.sequences.slices import Arrays, SliceBatches, SlicePlan, SliceReader, Slices, batches_of, drawn

GROUP_ROWS = 256  # rows that a group fills; with more there is less padding, but rows differ less between epochs


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
    first = bounds_of(np.array([len(row) for row in rows], np.int64))
    return PackedRows(tokens=tokens, first=first, sequence=sequence[which], start=start[which], count=count[which])


def _rows(count: Ints, first: int, tokens: int) -> list[list[int]]:
    """Pack the pieces `first`, `first + 1`, ... of `count` steps each; return those of each row, in order."""
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedOptions(EpochOptions):
    """The arguments of `PackedBatches`, apart from the sequences and their rows."""

    sizes: ClassVar = ("tokens", "batch_size")
    tokens: int
    batch_size: int = 1
    max_steps: int | None = None

    def __post_init__(self) -> None:
        EpochOptions.__post_init__(self)
        steps = self.tokens if self.max_steps is None else self.max_steps
        self._set("max_steps", whole_number("max_steps", steps, 1, self.tokens))
        if self.shuffle and self.world_size > 1 and self.batch_size == 1 and not self.drop_last:
            raise WindowError(  # now, and not in the first epoch whose rows cannot be distributed
                f"world_size={self.world_size:,} with batches of one packed row: each epoch has another number of "
                "rows, which ranks cannot always share evenly; give drop_last=True, or a batch_size of at least 2"
            )


class PackedPlan(SlicePlan, TurnsPlan):
    """The batches of one rank in an epoch of packed rows."""

    options: PackedOptions

    def __init__(self, options: PackedOptions, rows: SliceReader, weights: NDArray[np.float64] | None) -> None:
        super().__init__(options, rows, weights)
        rows.check_labels_of_steps("packed")
        rows.store.snapshot.check_files()  # memory is allocated by the number of steps that the root claims
        random = np.random.default_rng(np.random.SeedSequence(options.random, spawn_key=(4,)))
        count, steps = len(rows.store), options.max_steps
        assert steps is not None
        self.packing = packing = pack(  # the pieces of all rows
            rows.lengths,
            drawn(random, count, weights) if options.shuffle else np.arange(count),
            tokens=options.tokens,
            max_steps=steps,
            random=random if options.shuffle else None,
        )
        self.padding, self.turns = packing.padding, options.turns(len(packing), options.batch_size)
        size, tokens = min(options.batch_size, len(packing)), options.tokens
        # The ids of a step take 8 bytes, its mask 1, and its piece, which may be of one step, 8.
        batch, pieces = size * tokens * (rows.step_bytes + 17), size * -(-len(packing.count) // max(1, len(packing)))
        self.room = rows.room(batch, size, f"a batch of {size:,} rows of {tokens:,} steps")
        self.bytes_of_each = np.broadcast_to(batch + pieces * PIECE_BYTES, len(self))

    def __str__(self) -> str:
        options, padding = self.options, 100 * self.padding
        return f"{options.batch_size:,} packed rows of {options.tokens:,} steps with {padding:.1f} % padding"

    def _read(self, numbers: range) -> list[Any]:
        rank, ranks = self.options.rank, self.options.world_size
        shares = map(self.turns.__getitem__, numbers)
        slices = self.packing.slices([rank + np.arange(*share) * ranks for share in shares])
        used = replace(slices, start=slices.start + self.rows.first[slices.sequence])
        columns = self.rows.step_columns(used) | {"mask": slices.real()}
        columns |= _ids(slices, with_index=self.options.index)
        return batches_of(columns, self.options.transform)


class PackedBatches(SliceBatches[PackedPlan]):
    """An iterator over batches of packed rows, each step once per epoch. Get one from `store.packed`.

    Several sequences share a row, so that there is little padding: the longest first, each in the row with the least
    space that is enough. Attention must not cross from one sequence to the next, so a batch says where each is.
    `OneEpoch` explains threads, forks, errors and a second loop. A `Batch` is a tuple of new arrays with names:

    * inputs (batch_size, tokens, *feature shape), zero in padding, which is at the end of a row,
    * labels (batch_size, tokens, *target shape): those of the steps; on the `sequence` axis, for each step the label of
      its sequence,
    * mask, bool (batch_size, tokens), True for real steps,
    * value_mask, with `value_mask=True`: bool (batch_size, tokens, *feature shape), True for real values of inputs,
    * cu_seqlens, int32 (pieces + 1,): where each piece starts in the steps of all rows together, then their number, as
      attention over sequences of varying length takes it. Padding at the end of a row is a piece of its own,
    * position_ids, int32 (batch_size, tokens): the number of each step in its piece, from 0,
    * segment_ids, int32 (batch_size, tokens): the number of each piece in its row, from 1; 0 in padding,
    * static, with `static=`: (batch_size, tokens, columns), for each step the columns of its sequence,
    * index, with `index=True`: int64 (pieces,), the sequence of each piece of `cu_seqlens`; -1 for padding.

    `padding` is the share of padding. The order is a pure function of the lengths and the arguments except `rank` and
    `memory`. A state can be resumed with another number of ranks if `batch_size * world_size` is the same.

    Args:
        store: The sequences. Sequences without steps are left out. Labels may not be on the `own` axis.
        tokens: Steps in a row.
        batch_size: Rows in a batch. The last batch may have fewer; with several ranks, the last two. Several ranks take
            shuffled rows one by one only with `drop_last`, since each epoch has another number of rows.
        max_steps: The largest number of steps in a piece; longer sequences are cut. None: `tokens`.
        shuffle: Shuffle sequences, pieces and rows.
        rank: It has the rows `rank`, `rank + world_size`, ... of the epoch.
        steps: Use only this part of each sequence, as for `windows`.

    `normalize`, `features`, `targets`, `static`, `before`, `after`, `dtype` and `value_mask` are those of
    `store_spec.reading.row_options.RowOptions`; all others are those of `store_spec.reading.one_epoch.EpochOptions`.

    Raises:
        WindowError: An argument is not as above, labels are on the `own` axis, the rows cannot be distributed over so
            many ranks, or a batch does not fit into the memory.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     for number, steps in enumerate([5, 3, 4, 2]):
    ...         x, y = np.ones((steps, 2), "float32"), np.ones((steps, 1), "float32")
    ...         writer.append(x, y, source=f"walk-{number}")
    >>> for batch in store_spec.open_store(path).packed(8):
    ...     print(batch.inputs.shape, batch.cu_seqlens.tolist(), batch.segment_ids.tolist())
    (1, 8, 2) [0, 5, 8] [[1, 1, 1, 1, 1, 2, 2, 2]]
    (1, 8, 2) [0, 4, 6, 8] [[1, 1, 1, 1, 2, 2, 0, 0]]
    """

    _of, _kind, _plan_class = "store.packed", "packed", PackedPlan


def _ids(slices: Slices, *, with_index: bool) -> dict[str, Arrays]:
    """Return where pieces are in batches: `cu_seqlens`, `position_ids`, `segment_ids`, and `index` if asked for."""
    positions, pieces = slices.zeros((), np.int32), np.arange(len(slices.count))
    new_row = (np.diff(slices.batch, prepend=-1) != 0) | (np.diff(slices.lane, prepend=-1) != 0)
    in_row = 1 + pieces - np.maximum.accumulate(np.where(new_row, pieces, 0))  # the number of each in its row
    for position in slices.places(positions):
        position[:] = np.arange(len(position))
    segments = slices.of_steps(in_row.astype(np.int32))
    columns: dict[str, Arrays] = {"cu_seqlens": [], "position_ids": positions, "segment_ids": segments}
    index: Arrays = []
    for batch, (rows, tokens) in enumerate(slices.shapes):
        here = slices.batch == batch
        start = slices.lane[here] * tokens + slices.column[here]
        stop = start + slices.count[here]
        # Padding at the end of a row is a piece too.
        ends = np.arange(1, rows + 1) * tokens
        edges, numbers = np.concatenate((start, stop, ends)), np.full(2 * len(start) + rows, -1, np.int64)
        numbers[: len(start)] = slices.sequence[here]
        edges, at = np.unique(edges, return_index=True)
        columns["cu_seqlens"].append(edges.astype(np.int32))
        index.append(numbers[at][:-1])
    return columns | ({"index": index} if with_index else {})
