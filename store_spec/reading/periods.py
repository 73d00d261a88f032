"""The arguments `steps`, `before` and `after`: a period, as a range of steps of each sequence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import bounds_of
from store_spec.format.times import moment
from store_spec.reading.argument_checks import checked_fractions, fraction_of
from store_spec.reading.selection import Selection


def moment_of(store: Selection, name: str, value: Any) -> int | None:
    """Return the argument `before` or `after` as a number of the store's unit of time."""
    if value is None:
        return None
    if store.schema.time is None:
        raise WindowError(
            f"{store.path}: {name}={value!r:.80}, but this store keeps no time; steps=(0, 0.8) needs none"
        )
    return moment(store.schema.time, name, value, store.path)


def steps_before(store: Selection, moment: int) -> NDArray[np.int64]:
    """Return how many steps of each sequence have a time below `moment`, int64 (sequences,).

    Times never decrease within a sequence, so these are its first steps. The tables of first and last times are enough
    for most sequences. For sequences with steps on both sides of the moment, a binary search reads a few chunks.
    """
    snapshot = store.snapshot
    if not len(store):
        return np.zeros(0, np.int64)
    # The moment may not fit int64.
    limit = min(max(moment, -(2**63)), 2**63 - 1)
    ends = snapshot.read_tables(f"sequences/time_{name}" for name in ("first", "last"))
    first, last = (times[store.selection] for times in ends)
    if moment > limit:
        return store.lengths
    before = np.where(last < limit, store.lengths, 0)
    divided = np.flatnonzero((store.lengths > 0) & (first < limit) & (last >= limit))
    if not divided.size:
        return before
    snapshot.check_files()  # the search relies on the number of steps that the root claims
    size = store.schema.steps.chunk
    starts = store.starts[divided]
    # The first row that is not before the moment is at least `low` and at most `high`.
    low, high = starts.copy(), starts + store.lengths[divided]
    while (unfinished := np.flatnonzero(low < high)).size:
        middle = (low[unfinished] + high[unfinished] - 1) // 2 // size  # the chunk to read
        for chunk in np.unique(middle).tolist():
            here = unfinished[middle == chunk]
            first_row = max(chunk * size, int(low[here].min()))
            after = min((chunk + 1) * size, int(high[here].max()))
            times = snapshot.rows("time", first_row, after)
            counts = bounds_of(times < limit)
            start, stop = np.maximum(low[here], first_row), np.minimum(high[here], after)
            below = counts[stop - first_row] - counts[start - first_row]
            # If all times are below, the row comes later; if none is, earlier; otherwise it is in this chunk.
            all_below, none_below = below == stop - start, below == 0
            low[here] = np.where(all_below, stop, np.where(none_below, low[here], start + below))
            high[here] = np.where(all_below, high[here], np.where(none_below, start, start + below))
    before[divided] = low - starts
    return before


def usable_steps(
    store: Selection, steps: tuple[float, float] | None, before: int | None, after: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first usable step of each sequence, and the step after its last, (sequences,) each.

    `steps` is the share of each sequence to use; steps at or after the moment `before`, or before the moment `after`,
    both in the store's unit of time, are not usable. None: no limit.
    """
    lengths = store.lengths
    low, high = (0.0, 1.0) if steps is None else checked_fractions(steps)
    start, stop = fraction_of(lengths, low), lengths if high == 1 else fraction_of(lengths, high)
    if after is not None:
        start = np.maximum(start, steps_before(store, after))
    if before is not None:
        stop = np.minimum(stop, steps_before(store, before))
    if before is not None or after is not None:
        store.snapshot.check_not_replaced()
    return np.minimum(start, stop), stop
