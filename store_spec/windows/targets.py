"""Check that a store has the labels that windows need, and find the steps between two moments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from store_spec.errors import WindowError
from store_spec.format.times import moment
from store_spec.reading.time_cut import steps_before
from store_spec.windows.index import WindowIndex
from store_spec.windows.shape import WindowShape

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
