"""Read many ranges of rows, each chunk once: as arrays, in pieces of a chunk, or all rows of a selection in blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import in_order
from store_spec.format.layout import chunk_rows
from store_spec.format.runs import Ints, merged, spread

if TYPE_CHECKING:
    from store_spec.reading.selection import Selection

PIECE_BYTES = 500  # the most memory for each range while it is read in pieces, apart from its rows
BLOCK_BYTES = 2**23  # decompressed together by `every_row`; at least one chunk


def read_ranges(
    snapshot: Snapshot, name: str, starts: Ints, stops: Ints, *, recent: bool = False
) -> list[NDArray[Any]]:
    """Return rows `starts[i]` to `stops[i]` of `inputs` or `labels` for each i, as separate arrays.

    Ranges that share a chunk are read together, and the chunks of one such group are in memory at a time. `recent` is
    as in `Snapshot.rows`.
    """
    if len(starts) == 1 and starts[0] < stops[0]:  # a single window: the same in a third of the time
        return [snapshot.rows(name, int(starts[0]), int(stops[0]), recent=recent)]
    arrays = [snapshot.root.schema.rows(name).empty(0)] * len(starts)
    order = np.flatnonzero(stops > starts)
    order = order[np.argsort(starts[order], kind="stable")]
    if not order.size:
        return arrays
    size = chunk_rows(snapshot.root.schema, name)
    reached = np.maximum.accumulate(-(-stops[order] // size))  # previous ranges need the chunks up to here
    apart = np.flatnonzero(starts[order[1:]] // size >= reached[:-1]) + 1
    groups = np.split(order, apart)

    def read(group: Ints) -> tuple[int, NDArray[Any]]:
        low = int(starts[group[0]])
        return low, snapshot.rows(name, low, int(stops[group].max()), recent=recent)

    for group, (low, together) in zip(groups, in_order(snapshot.storage, read, groups), strict=True):
        for number in group.tolist():
            part = together[starts[number] - low : stops[number] - low]
            arrays[number] = part if len(group) == 1 else part.copy()
    return arrays


def read_by_chunk(
    snapshot: Snapshot, name: str, starts: Ints, stops: Ints, in_flight: int
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (i, at, rows) until all rows `starts[i]` to `stops[i]` of `inputs` or `labels` have been read for each i.

    `at` is the position of the first of these rows in its range. The rows of one chunk are in memory at a time, or
    about `in_flight` bytes of a remote store, and `rows` is a view of them: copy it. The call itself reads the first
    chunk. Allocate memory for the rows only after that, because a malicious store may have far fewer rows than it
    claims.
    """
    pieces = _pieces(snapshot, name, starts, stops, in_flight)
    return itertools.chain([*itertools.islice(pieces, 1)], pieces)


def _pieces(
    snapshot: Snapshot, name: str, starts: Ints, stops: Ints, in_flight: int
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    size = chunk_rows(snapshot.root.schema, name)
    together = 1  # chunks that are read at once if they are adjacent; each takes its space twice, also as it is stored
    requests = snapshot.storage.requests
    if requests > 1:
        together = max(1, in_flight // requests // (2 * size * max(1, snapshot.root.schema.rows(name).nbytes)))
    first = starts // size
    counts = np.where(stops > starts, -(-stops // size) - first, 0)
    number = np.repeat(np.arange(len(starts)), counts)
    chunk = spread(first, counts)
    low = np.maximum(starts[number], chunk * size)
    high = np.minimum(stops[number], (chunk + 1) * size)
    at = low - starts[number]
    order = np.argsort(chunk, kind="stable")
    chunk = chunk[order]
    apart = np.flatnonzero((np.diff(chunk) > (together > 1)) | (np.diff(chunk // together) > 0)) + 1
    groups = np.split(order, apart) if len(order) else []

    def read(pieces: Ints) -> tuple[int, NDArray[Any]]:
        start = int(low[pieces].min())
        return start, snapshot.rows(name, start, int(high[pieces].max()))

    for pieces, (start, rows) in zip(groups, in_order(snapshot.storage, read, groups), strict=True):
        lows, highs = low[pieces] - start, high[pieces] - start
        for piece in zip(number[pieces].tolist(), at[pieces].tolist(), lows.tolist(), highs.tolist(), strict=True):
            yield piece[0], piece[1], rows[piece[2] : piece[3]]


def every_row(store: Selection, name: str) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows of `inputs` or `labels`, in the order of the store.

    Each chunk is decompressed once, and one block is in memory, or many smaller ones of a remote store. Rows of a
    sequence that is selected twice occur twice.
    """
    store.snapshot.check_files()  # memory is allocated by the number of rows that the root claims
    starts, lengths = store.places(name)
    starts, stops = starts[lengths > 0], (starts + lengths)[lengths > 0]
    starts, stops = np.sort(starts), np.sort(stops)  # still in pairs: two sequences are the same or do not overlap
    chunk = chunk_rows(store.schema, name)
    block_bytes = BLOCK_BYTES // store.snapshot.storage.requests
    step = max(1, block_bytes // max(1, chunk * store.schema.rows(name).nbytes))
    low, high = merged(starts // chunk, -(-stops // chunk))
    blocks = [
        (at * chunk, min(at + step, last) * chunk)
        for first_chunk, last in zip(low.tolist(), high.tolist(), strict=True)
        for at in range(first_chunk, last, step)
    ]

    def read(rows: tuple[int, int]) -> NDArray[Any]:
        start, stop = rows
        first = int(np.searchsorted(stops, start, side="right"))
        after = int(np.searchsorted(starts, stop, side="left"))
        from_row, to_row = starts[first:after].clip(min=start), stops[first:after].clip(max=stop)
        start = int(from_row[0])
        block = store.snapshot.rows(name, start, int(to_row[-1]))
        if not np.array_equal(from_row[1:], to_row[:-1]):  # some rows are not selected, or more than once
            block = block[spread(from_row - start, to_row - from_row)]
        return block

    yield from in_order(store.snapshot.storage, read, blocks)
