"""Check that targets fit the labels of a store, and find the missing values that windows may not use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store_spec.errors import WindowError
from store_spec.format.runs import runs_of_sequences
from store_spec.windows.shape import Target, WindowShape
from store_spec.windows.stretches import Gaps, GapUse

if TYPE_CHECKING:
    from store_spec.store import Store


def check_target(store: Store, axis: str, shape: WindowShape) -> None:
    """Check that the label axis of the targets fits the target of windows."""
    if axis == "own":
        raise WindowError(
            f"{store.path}: labels on the 'own' axis belong to no step, so windows have none; "
            'use store.padded or store.read, or targets="inputs"'
        )
    if axis == "step" and shape.target == "sequence":
        raise WindowError(
            f'{store.path}: target="sequence" with a label for each step; use target="last", "aligned" or "future"'
        )
    if axis == "sequence" and shape.target != "sequence":
        raise WindowError(
            f'{store.path}: target="{shape.target}" with one label for a whole sequence; use target="sequence"'
        )


def gaps_of(store: Store, shape: WindowShape, targets: str, *, future: bool) -> tuple[Gaps, ...]:
    """Return the steps of these sequences with a missing value, by what windows would use them for.

    `targets` is the array of the targets, and with `future` windows also have input rows of the horizon.
    """
    by_target: dict[Target, GapUse] = {
        "future": "horizon", "last": "last", "aligned": "window", "sequence": "sequence",
    }  # fmt: skip
    uses: list[tuple[str, GapUse]] = [("inputs", "window"), (targets, by_target[shape.target])]
    if future:
        uses.append(("inputs", "horizon"))
    gaps = []
    for array, use in uses:
        starts, lengths = store.places(array)
        sequence, runs = runs_of_sequences(store.snapshot.missing(array), starts, starts + lengths)
        gaps.append(Gaps(sequence=sequence, start=runs[:, 0], stop=runs[:, 1], use=use))
    return tuple(gaps)
