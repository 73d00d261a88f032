"""Read many ranges of rows, each chunk once: chunk by chunk, as arrays, or all rows of a selection in blocks."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import in_order
from store_spec.format.runs import Ints, merged, spread
from store_spec.reading.selection import Selection

PIECE_BYTES = 500  # the most memory for each range while it is read in pieces, apart from its rows
BLOCK_BYTES = 2**23  # decompressed together while many rows are read; at least one chunk
REMOTE_BYTES = 2**25  # in flight from a remote store meanwhile: 16 requests of 1 MiB, each decompressed, too

# The first of some rows, these rows, and the pieces of ranges in them: the number of the range, the position of the
# piece in that range, its first row, and the row after its last.
ChunkRows = tuple[int, NDArray[Any], list[tuple[int, int, int, int]]]


def requests_within(snapshot: Snapshot, in_flight: int, least: int) -> int:
    """Return how many requests for rows are made at once, so that they take `in_flight` bytes, at least `least` each.

    `least` is the bytes of a chunk, stored and decompressed.
    """
    return max(1, min(snapshot.storage.requests, in_flight // max(1, least)))


def in_requests(snapshot: Snapshot, name: str, starts: Ints, stops: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Yield which ranges of rows to fetch in one request: the number of the first, and the one after the last.

    The ranges ascend, and the rows between them are fetched, too: that takes less time than another request. All rows
    of a request are in one file and take at most `most` bytes, or are those of a single range.
    """
    schema, first = snapshot.root.schema, 0
    span, file = most // max(1, schema.rows(name).nbytes), schema.chunking(name).shard
    for number, stop in enumerate(stops.tolist()):
        start = int(starts[first])
        if number > first and (stop - start > span or (stop - 1) // file > start // file):
            yield first, number
            first = number
    if first < len(stops):
        yield first, len(stops)


def read_by_chunk(
    snapshot: Snapshot,
    name: str,
    starts: Ints,
    stops: Ints,
    together: int = 0,
    *,
    in_flight: int = REMOTE_BYTES,
    recent: bool = False,
) -> Iterator[ChunkRows]:
    """Yield the rows `starts[i]` to `stops[i]` of an array for all i, each chunk once, in the order of the chunks.

    The rows of one chunk are in memory at a time, or about `together` bytes; of a remote store, the rows of all
    requests that are made at once, about `in_flight` bytes. `recent` is as in `Snapshot.rows`.
    """
    schema, remote = snapshot.root.schema, snapshot.storage.requests > 1
    in_memory = in_flight if remote else together
    size, row = schema.chunking(name).chunk, max(1, schema.rows(name).nbytes)
    # Adjacent chunks of a local store are read at once. Each row takes its space twice, also as it is stored.
    most = size if remote else size * max(1, in_memory // (2 * size * row))
    first = starts // most
    counts = np.where(stops > starts, -(-stops // most) - first, 0)
    number, part = np.repeat(np.arange(len(starts)), counts), spread(first, counts)
    low, high = np.maximum(starts[number], part * most), np.minimum(stops[number], (part + 1) * most)
    order = np.argsort(low, kind="stable")
    number, part, low, high = number[order], part[order], low[order], high[order]
    every = (number, low - starts[number], low, high)
    reached = np.maximum.accumulate(-(-high // size))  # previous pieces need the chunks up to here
    apart = np.flatnonzero((part[1:] > part[:-1]) | (low[1:] // size > reached[:-1])) + 1
    bounds = [0, *apart.tolist(), len(low)] if len(low) else []

    def read(group: tuple[int, int]) -> ChunkRows:
        some = slice(*group)
        start, stop = int(low[group[0]]), int(high[some].max())
        pieces = list(zip(*(each[some].tolist() for each in every), strict=True))
        return start, snapshot.rows(name, start, stop, recent=recent), pieces

    if not remote:
        yield from map(read, itertools.pairwise(bounds))
        return

    first_rows, last_rows = low[bounds[:-1]], np.maximum.reduceat(high, bounds[:-1]) if bounds else high
    at_once = requests_within(snapshot, in_memory, 2 * size * row)
    requests = in_requests(snapshot, name, first_rows, last_rows, in_memory // at_once // 2)

    def fetch(request: tuple[int, int]) -> list[ChunkRows]:
        first, after = request
        with snapshot.fetched(name, int(first_rows[first]), int(last_rows[after - 1])):
            return [read(group) for group in itertools.pairwise(bounds[first : after + 1])]

    for chunks in in_order(snapshot.storage, fetch, requests, at_once):
        yield from chunks


def read_ranges(
    snapshot: Snapshot, name: str, starts: Ints, stops: Ints, *, recent: bool = False
) -> list[NDArray[Any]]:
    """Return rows `starts[i]` to `stops[i]` of an array for each i, as separate arrays; each chunk is read once."""
    if len(starts) == 1 and starts[0] < stops[0]:  # a single window: the same in a third of the time
        return [snapshot.rows(name, int(starts[0]), int(stops[0]), recent=recent)]
    parts: list[list[NDArray[Any]]] = [[] for _ in range(len(starts))]
    for start, rows, pieces in read_by_chunk(snapshot, name, starts, stops, BLOCK_BYTES // 4, recent=recent):
        for number, _, low, high in pieces:
            part = rows[low - start : high - start]
            parts[number].append(part if len(pieces) == 1 else part.copy())
    none = snapshot.root.schema.rows(name).empty(0)
    return [np.concatenate(each) if len(each) > 1 else (each or [none])[0] for each in parts]


def every_row(store: Selection, name: str) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows of `inputs` or `labels`, in the order of the store.

    Each chunk is decompressed once, and about 8 MiB are in memory at a time, of a remote store 32 MiB. Rows of a
    sequence that is selected twice occur twice.
    """
    store.snapshot.check_files()  # memory is allocated by the number of rows that the root claims
    starts, lengths = store.places(name)
    starts, stops = np.sort(starts), np.sort(starts + lengths)  # in pairs: two sequences are the same, or apart
    if (starts[1:] >= stops[:-1]).all():
        starts, stops = merged(starts, stops)
    for start, rows, pieces in read_by_chunk(store.snapshot, name, starts, stops, 2 * BLOCK_BYTES):
        yield np.concatenate([rows[low - start : high - start] for _, _, low, high in pieces]) if pieces[1:] else rows
