"""The arguments `steps`, `before` and `after`: a period, as a range of steps of each sequence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.times import moment
from store_spec.reading.argument_checks import checked_fractions, fraction_of
from store_spec.reading.read_ranges import read_by_chunk, read_ranges
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
    for most sequences. For long sequences with steps on both sides of the moment, a binary search reads a few chunks.
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
    # The first row that is not before the moment is at least `low` and at most `high`.
    low, high = store.starts[divided], store.starts[divided] + store.lengths[divided]
    while (long := np.flatnonzero(high - low > store.schema.steps.chunk)).size:
        middle = (low[long] + high[long]) // 2
        is_before = np.concatenate(read_ranges(snapshot, "time", middle, middle + 1)) < limit
        low[long] = np.where(is_before, middle + 1, low[long])
        high[long] = np.where(is_before, high[long], middle)
    before[divided] = low - store.starts[divided]
    for first_row, times, pieces in read_by_chunk(snapshot, "time", low, high):
        for number, _, start, stop in pieces:
            before[divided[number]] += np.count_nonzero(times[start - first_row : stop - first_row] < limit)
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
