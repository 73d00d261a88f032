"""Read many short ranges of rows at once, each chunk once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.format.layout import chunk_rows


def read_ranges(
    snapshot: Snapshot, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64], *, recent: bool = False
) -> list[NDArray[Any]]:
    """Return rows `starts[i]` to `stops[i]` of `inputs` or `labels` for each i, as separate arrays.

    Ranges that share a chunk are read together, and the chunks of one such group are in memory at a time. `recent` is
    as in `Snapshot.rows`.
    """
    rows = snapshot.root.schema.rows(name)
    arrays = [rows.empty(0)] * len(starts)
    order = np.flatnonzero(stops > starts)
    order = order[np.argsort(starts[order], kind="stable")]
    if not order.size:
        return arrays
    size = chunk_rows(snapshot.root.schema, name)
    reached = np.maximum.accumulate(-(-stops[order] // size))  # previous ranges need the chunks up to here
    apart = np.flatnonzero(starts[order[1:]] // size >= reached[:-1]) + 1
    for group in np.split(order, apart):
        low, high = int(starts[group[0]]), int(stops[group].max())
        together = snapshot.rows(name, low, high, recent=recent)
        for number in group.tolist():
            part = together[starts[number] - low : stops[number] - low]
            arrays[number] = part if len(group) == 1 else part.copy()
    return arrays
