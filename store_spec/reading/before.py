"""How many steps of each sequence lie before a moment: by the tables, and a search in those that it cuts in two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from store_spec.store import Store


def steps_before(store: Store, moment: int) -> NDArray[np.int64]:
    """Return how many steps of each sequence have a time below `moment`, int64 (sequences,).

    Times never fall within a sequence, so these are its first ones. The tables of first and last times tell for all
    sequences but those that the moment lies in; of these a few chunks are read, by binary search, each once.
    """
    snapshot = store.snapshot
    if not len(store):
        return np.zeros(0, np.int64)
    # Python's numbers have no end, those of the store do: a moment may lie beyond them.
    wanted = min(max(moment, -(2**63)), 2**63 - 1)
    first, last = (snapshot.table(f"sequences/time_{name}")[store.selection] for name in ("first", "last"))
    if moment > wanted:
        return store.lengths
    before = np.where(last < wanted, store.lengths, 0)
    cut = np.flatnonzero((store.lengths > 0) & (first < wanted) & (last >= wanted))
    if not cut.size:
        return before
    snapshot.check_files()  # chunks are looked up by the steps that are said to be there
    size = store.schema.steps.chunk
    low, high = store.starts[cut], store.starts[cut] + store.lengths[cut]
    found, ends = low.copy(), high.copy()
    # Between `found` and `ends` lies the first row that is not before; it may be the row `ends` itself.
    while (open_ := np.flatnonzero(found < ends)).size:
        middle = (found[open_] + ends[open_] - 1) // 2 // size  # the chunk to look at
        for chunk in np.unique(middle).tolist():
            here = open_[middle == chunk]
            start = max(chunk * size, int(found[here].min()))
            stop = min((chunk + 1) * size, int(ends[here].max()))
            times = snapshot.rows("time", start, stop)
            counted = np.concatenate([np.zeros(1, np.int64), np.cumsum(times < wanted)])
            begin, end = np.maximum(found[here], start), np.minimum(ends[here], stop)
            below = counted[end - start] - counted[begin - start]
            # All of them below: it lies behind; none: before; else here.
            all_below, none_below = below == end - begin, below == 0
            found[here] = np.where(all_below, end, np.where(none_below, found[here], begin + below))
            ends[here] = np.where(all_below, ends[here], np.where(none_below, begin, begin + below))
    before[cut] = found - low
    return before
