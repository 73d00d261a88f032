"""What windows may take of a store: labels that it has, and steps that lie between two moments."""

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
    """Raise a WindowError where the label axis of the store cannot give such labels."""
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


def moment_of(store: Store, name: str, given: Any) -> int | None:
    """Return the argument `before` or `after` as a number of the store's unit of time; or raise a WindowError."""
    if given is None:
        return None
    if store.schema.time is None:
        raise WindowError(
            f"{store.path}: {name}={given!r:.80}, but this store keeps no time; steps=(0, 0.8) needs none"
        )
    return moment(store.schema.time, name, given, store.path)


def index_of(store: Store, shape: WindowShape, before: int | None, after: int | None) -> WindowIndex:
    """Return where windows start, of those steps alone that lie before one moment and not before another."""
    if before is None and after is None:
        return WindowIndex.from_lengths(store.lengths, shape)
    plain = WindowIndex.from_lengths(store.lengths, replace(shape, short="drop"))  # what is too short is told below
    begin, end = plain.begin, plain.end
    if after is not None:
        begin = np.maximum(begin, steps_before(store, after))
    if before is not None:
        end = np.minimum(end, steps_before(store, before))
    return WindowIndex(begin=np.minimum(begin, end), end=end, shape=shape)
