"""Read many short ranges of rows at once, each chunk once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.format.layout import chunk_rows


def read_spans(
    snapshot: Snapshot, name: str, starts: NDArray[np.int64], stops: NDArray[np.int64], *, recent: bool = False
) -> list[NDArray[Any]]:
    """Return rows `starts[i]` to `stops[i]` of `inputs` or `labels` for each i, as arrays of their own.

    Ranges that share a chunk are read together, so memory holds the chunks of one such group at a time. Rows beside
    `recent` ones may be asked for next.
    """
    rows = snapshot.root.schema.rows(name)
    found = [rows.empty(0)] * len(starts)
    wanted = np.flatnonzero(stops > starts)
    wanted = wanted[np.argsort(starts[wanted], kind="stable")]
    if not wanted.size:
        return found
    size = chunk_rows(snapshot.root.schema, name)
    reached = np.maximum.accumulate(-(-stops[wanted] // size))  # chunks up to here are read for those before
    apart = np.flatnonzero(starts[wanted[1:]] // size >= reached[:-1]) + 1
    for group in np.split(wanted, apart):
        low, high = int(starts[group[0]]), int(stops[group].max())
        together = snapshot.rows(name, low, high, recent=recent)
        for number in group.tolist():
            part = together[starts[number] - low : stops[number] - low]
            found[number] = part if len(group) == 1 else part.copy()
    return found
