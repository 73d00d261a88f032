"""Read many ranges of rows in pieces that are each within one chunk, so that each chunk is decompressed once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.format.layout import chunk_rows
from store_spec.format.runs import spread

PIECE_BYTES = 500  # at most, in memory for each range while it is read, apart from its rows


def read_by_chunk(
    snapshot: Snapshot, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Yield (i, at, rows) until all rows `starts[i]` to `stops[i]` of `inputs` or `labels` have been read for each i.

    `at` is the position of the first of these rows in its range. The rows of one chunk are in memory at a time, and
    `rows` is a view of them: copy it. The call itself reads the first chunk. Allocate memory for the rows only after
    that, because a malicious store may have far fewer rows than it claims.
    """
    pieces = _pieces(snapshot, name, starts, stops)
    return itertools.chain([*itertools.islice(pieces, 1)], pieces)


def _pieces(
    snapshot: Snapshot, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    size = chunk_rows(snapshot.root.schema, name)
    first = starts // size
    counts = np.where(stops > starts, -(-stops // size) - first, 0)
    number = np.repeat(np.arange(len(starts)), counts)
    chunk = spread(first, counts)
    low = np.maximum(starts[number], chunk * size)
    high = np.minimum(stops[number], (chunk + 1) * size)
    at = low - starts[number]
    order = np.argsort(chunk, kind="stable")
    apart = np.flatnonzero(np.diff(chunk[order])) + 1
    for pieces in np.split(order, apart) if len(order) else ():
        lows, highs = low[pieces], high[pieces]
        start = int(lows.min())
        rows = snapshot.rows(name, start, int(highs.max()))
        lows, highs = lows - start, highs - start
        for piece in zip(number[pieces].tolist(), at[pieces].tolist(), lows.tolist(), highs.tolist(), strict=True):
            yield piece[0], piece[1], rows[piece[2] : piece[3]]
