"""All rows of a selection, a block at a time, for what has to look at every value."""

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

BLOCK_BYTES = 2**23  # decompressed together; a chunk at least

Block = tuple[NDArray[Any], NDArray[np.int64]]


def every_row(store: Store, name: str) -> Generator[Block, None, None]:
    """Give the rows of `inputs` or `labels`, and of which of these sequences each is, in the order of the store.

    Each chunk is decompressed once, in a thread, while the block before is in use; three blocks are in memory. A
    sequence that is selected twice gives its rows twice.
    """
    store.snapshot.check_files()  # memory is taken by the rows that are said to be there
    cancelled = threading.Event()
    return ahead(lambda: _blocks(store, name, cancelled), 2, "seqzarr rows", cancelled)


def _blocks(store: Store, name: str, cancelled: threading.Event) -> Generator[Block, None, None]:
    starts, lengths = store.places(name)
    order = np.flatnonzero(lengths)
    order = order[np.argsort(starts[order], kind="stable")]
    starts = starts[order]
    stops = starts + lengths[order]  # they rise too: sequences are the same or apart
    chunk, rows = chunk_rows(store.schema, name), store.schema.rows(name)
    step = max(1, BLOCK_BYTES // max(1, chunk * rows.nbytes))
    low, high = merged(starts // chunk, -(-stops // chunk))
    for first_chunk, last in zip(low.tolist(), high.tolist(), strict=True):
        for at in range(first_chunk, last, step):
            if cancelled.is_set():
                return
            begin, end = at * chunk, min(at + step, last) * chunk
            first = int(np.searchsorted(stops, begin, side="right"))
            after = int(np.searchsorted(starts, end, side="left"))
            from_row, to_row = starts[first:after].clip(min=begin), stops[first:after].clip(max=end)
            count = to_row - from_row
            begin = int(from_row[0])
            found = store.snapshot.rows(name, begin, int(to_row[-1]))
            if not np.array_equal(from_row[1:], to_row[:-1]):  # some rows are not selected, or more than once
                found = found[spread(from_row - begin, count)]
            yield found, np.repeat(order[first:after], count)
