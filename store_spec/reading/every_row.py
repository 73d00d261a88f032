"""Read all rows of a selection, one block after another."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.format.layout import chunk_rows
from store_spec.format.runs import merged, spread
from store_spec.reading.ahead import ahead

if TYPE_CHECKING:
    from store_spec.store import Store

BLOCK_BYTES = 2**23  # decompressed together; at least one chunk

Block = tuple[NDArray[Any], NDArray[np.int64]]


def every_row(store: Store, name: str) -> Generator[Block, None, None]:
    """Yield blocks of rows of `inputs` or `labels`, and the sequence of each row, in the order of the store.

    A thread decompresses each chunk once, while the previous block is in use; three blocks are in memory. Rows of a
    sequence that is selected twice occur twice.
    """
    store.snapshot.check_files()  # memory is allocated by the number of rows that the root claims
    cancelled = threading.Event()
    return ahead(lambda: _blocks(store, name, cancelled), 2, "seqzarr rows", cancelled)


def _blocks(store: Store, name: str, cancelled: threading.Event) -> Generator[Block, None, None]:
    starts, lengths = store.places(name)
    order = np.flatnonzero(lengths)
    order = order[np.argsort(starts[order], kind="stable")]
    starts = starts[order]
    stops = starts + lengths[order]  # ascending too, because two sequences are the same or do not overlap
    chunk, rows = chunk_rows(store.schema, name), store.schema.rows(name)
    step = max(1, BLOCK_BYTES // max(1, chunk * rows.nbytes))
    low, high = merged(starts // chunk, -(-stops // chunk))
    for first_chunk, last in zip(low.tolist(), high.tolist(), strict=True):
        for at in range(first_chunk, last, step):
            if cancelled.is_set():
                return
            start, stop = at * chunk, min(at + step, last) * chunk
            first = int(np.searchsorted(stops, start, side="right"))
            after = int(np.searchsorted(starts, stop, side="left"))
            from_row, to_row = starts[first:after].clip(min=start), stops[first:after].clip(max=stop)
            count = to_row - from_row
            start = int(from_row[0])
            block = store.snapshot.rows(name, start, int(to_row[-1]))
            if not np.array_equal(from_row[1:], to_row[:-1]):  # some rows are not selected, or more than once
                block = block[spread(from_row - start, count)]
            yield block, np.repeat(order[first:after], count)
