"""The number of sequences in a batch of any reader, found by its rows."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.reading.readers import epoch_of, window_starts, windows_of
from tests.benchmarks.reading.stores import rows_of
from tests.benchmarks.reading.works import Work

BATCHES = 32  # looked up in each batch
HASHED = 8  # features
BLOCK = 2**18  # rows that are hashed at once


def distinct_sequences(work: dict[str, Any], place: str, seconds: float) -> dict[str, Any]:
    """Return the mean number of sequences in a batch, and that of batches drawn from all windows.

    Batches are read for the given time. Each window is found in the uncompressed rows by its last row; an unknown row
    is an error.
    """
    asked = Work(**work)
    windows = windows_of(Path(place), asked)
    taken: list[NDArray[np.uint64]] = []
    start = time.perf_counter()
    for inputs, _ in epoch_of(windows, asked, 0):
        passed = time.perf_counter() - start
        if len(inputs) == min(asked.batch, len(windows)) and passed >= len(taken) * seconds / BATCHES:
            taken.append(_hashes(inputs[:, -1]))
        if len(taken) == BATCHES:
            break
    ends = _find(np.concatenate(taken), rows_of(Path(place), "inputs", mapped=True)).reshape(len(taken), -1)
    starts = windows.store.starts
    random = np.random.default_rng(0).choice(window_starts(Path(place), asked), ends.shape)
    return {"distinct": _distinct(starts, ends), "global": _distinct(starts, random)}


def _distinct(starts: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """Return the mean, over batches, of the number of sequences of their rows."""
    sequences = np.searchsorted(starts, rows, side="right") - 1
    return float(np.mean([len(np.unique(batch)) for batch in sequences]))


def _find(wanted: NDArray[np.uint64], rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the number of the row of each hash."""
    order = np.argsort(wanted)
    keys = wanted[order]
    found = np.full(len(wanted), -1, np.int64)
    for first in range(0, len(rows), BLOCK):
        hashes = _hashes(rows[first : first + BLOCK])
        low, high = (np.searchsorted(keys, hashes, side) for side in ("left", "right"))
        for number in np.flatnonzero(high > low).tolist():
            found[order[low[number] : high[number]]] = first + number
    assert (found >= 0).all(), f"{np.count_nonzero(found < 0):,} of {len(found):,} windows are not in the store"
    return found


def _hashes(rows: NDArray[np.float32]) -> NDArray[np.uint64]:
    some = np.ascontiguousarray(rows[:, :HASHED]).view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(1).integers(1, 2**63, some.shape[1], np.uint64) | np.uint64(1)
    return np.asarray((some * factors).sum(axis=1, dtype=np.uint64))
