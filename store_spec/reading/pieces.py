"""Rows of many ranges, in pieces that each lie in one chunk, so that each chunk is decompressed once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.format.layout import chunk_rows
from store_spec.format.runs import spread

PIECE_BYTES = 500  # at most, of what is kept of a range while it is read, beside its rows


def read_pieces(
    snapshot: Snapshot, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """Give (i, at, rows) until rows `starts[i]` to `stops[i]` of `inputs` or `labels` are there for each i.

    `at` is the place of the first of these rows in its range. Memory holds the rows of one chunk at a time, and `rows`
    is a view of them: copy it. The first chunk is read by the call: make room for rows after it, as a hostile store may
    have far fewer than it says.
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
        begin = int(lows.min())
        rows = snapshot.rows(name, begin, int(highs.max()))
        lows, highs = lows - begin, highs - begin
        for piece in zip(number[pieces].tolist(), at[pieces].tolist(), lows.tolist(), highs.tolist(), strict=True):
            yield piece[0], piece[1], rows[piece[2] : piece[3]]
