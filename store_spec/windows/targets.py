"""What windows use of a store: labels, steps between two moments, and values that are not missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.missing_runs import runs_of_sequences
from store_spec.format.times import moment
from store_spec.reading.columns import Column
from store_spec.windows.index import WindowIndex
from store_spec.windows.shape import Target, WindowShape
from store_spec.windows.stretches import Gaps, GapUse

if TYPE_CHECKING:
    from store_spec.store import Store


def check_target(store: Store, shape: WindowShape) -> None:
    """Check that the label axis of the store fits the target of windows.

    Raises:
        WindowError: It does not.
    """
    axis = store.schema.label_axis
    if axis == "own":
        raise WindowError(
            f"{store.path}: labels on the 'own' axis belong to no step, so windows have none; "
            "use store.padded or store.read"
        )
    if axis == "step" and shape.target == "sequence":
        raise WindowError(
            f'{store.path}: target="sequence" with a label for each step; use target="last", "aligned" or "future"'
        )
    if axis == "sequence" and shape.target != "sequence":
        raise WindowError(
            f'{store.path}: target="{shape.target}" with one label for a whole sequence; use target="sequence"'
        )


def moment_of(store: Store, name: str, value: Any) -> int | None:
    """Return the argument `before` or `after` as a number of the store's unit of time.

    Raises:
        WindowError: The store has no times, or the value is not a moment.
    """
    if value is None:
        return None
    if store.schema.time is None:
        raise WindowError(
            f"{store.path}: {name}={value!r:.80}, but this store keeps no time; steps=(0, 0.8) needs none"
        )
    return moment(store.schema.time, name, value, store.path)


def index_of(store: Store, shape: WindowShape, before: int | None, after: int | None) -> WindowIndex:
    """Return the index of windows whose steps are all before one moment and not before another."""
    if before is None and after is None:
        return WindowIndex.from_lengths(store.lengths, shape)
    every = WindowIndex.from_lengths(store.lengths, replace(shape, short="drop"))  # short sequences are checked below
    start, stop = every.start, every.stop
    if after is not None:
        start = np.maximum(start, steps_before(store, after))
    if before is not None:
        stop = np.minimum(stop, steps_before(store, before))
    return WindowIndex(start=np.minimum(start, stop), stop=stop, shape=shape)


def steps_before(store: Store, moment: int) -> NDArray[np.int64]:
    """Return how many steps of each sequence have a time below `moment`, int64 (sequences,).

    Times never decrease within a sequence, so these are its first steps. The tables of first and last times are enough
    for most sequences; for those that the moment divides, a binary search reads a few chunks, each once.
    """
    snapshot = store.snapshot
    if not len(store):
        return np.zeros(0, np.int64)
    # The moment may be beyond the numbers of int64.
    limit = min(max(moment, -(2**63)), 2**63 - 1)
    first, last = (snapshot.table(f"sequences/time_{name}")[store.selection] for name in ("first", "last"))
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
    while (open_ := np.flatnonzero(low < high)).size:
        middle = (low[open_] + high[open_] - 1) // 2 // size  # the chunk to read
        for chunk in np.unique(middle).tolist():
            here = open_[middle == chunk]
            first_row = max(chunk * size, int(low[here].min()))
            after = min((chunk + 1) * size, int(high[here].max()))
            times = snapshot.rows("time", first_row, after)
            counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(times < limit)])
            start, stop = np.maximum(low[here], first_row), np.minimum(high[here], after)
            below = counts[stop - first_row] - counts[start - first_row]
            # If all times are below, the row comes later; if none is, earlier; otherwise it is in this chunk.
            all_below, none_below = below == stop - start, below == 0
            low[here] = np.where(all_below, stop, np.where(none_below, low[here], start + below))
            high[here] = np.where(all_below, high[here], np.where(none_below, start, start + below))
    before[divided] = low - starts
    return before


def gaps_of(store: Store, shape: WindowShape, *, future: bool) -> tuple[Gaps, ...]:
    """Return the steps of these sequences with a missing value, by what windows would use them for."""
    by_target: dict[Target, GapUse] = {
        "future": "horizon", "last": "last", "aligned": "window", "sequence": "sequence",
    }  # fmt: skip
    uses: list[tuple[str, GapUse]] = [("inputs", "window"), ("labels", by_target[shape.target])]
    if future:
        uses.append(("inputs", "horizon"))
    gaps = []
    for array, use in uses:
        starts, lengths = store.places(array)
        sequence, runs = runs_of_sequences(store.snapshot.missing(array), starts, starts + lengths)
        gaps.append(Gaps(sequence=sequence, start=runs[:, 0], stop=runs[:, 1], use=use))
    return tuple(gaps)


def masks_of(store: Store, take: tuple[int, ...] | None) -> dict[str, Column]:
    """Return the columns that say which values of inputs are real.

    Args:
        store: The store.
        take: The positions of features; None for all.

    Raises:
        WindowError: The store has no such information.
    """
    schema, masks = store.schema, {}
    if schema.filled:
        masks["mask"] = Column(array="filled", rows=schema.rows("filled"), take=take, real=True)
    if schema.missing == "keep":
        masks["present"] = Column(array="inputs", rows=schema.inputs, take=take, real=True)
    if not masks:
        raise WindowError(
            f"{store.path}: value_mask=True, but this store does not say which values are real; build it with "
            "--missing keep, or with --mask beside a policy that fills, as --missing ffill (create_store has "
            "missing='keep' and filled=True)"
        )
    return masks
