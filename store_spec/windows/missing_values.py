"""Missing and filled values of a store, for windows and whole sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store_spec.errors import WindowError
from store_spec.format.missing_runs import runs_of_sequences
from store_spec.reading.columns import Column
from store_spec.windows.shape import Target, WindowShape
from store_spec.windows.stretches import Gaps, GapUse

if TYPE_CHECKING:
    from store_spec.store import Store


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


def masks_of(store: Store, take: tuple[int, ...] | None, *, argument: str = "mask") -> dict[str, Column]:
    """Return the columns that say which values of inputs are real.

    Args:
        store: The store.
        take: The positions of features; None for all.
        argument: The name of the argument that needs the masks, for errors.

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
            f"{store.path}: {argument}=True, but this store does not say which values are real; build it with "
            "--missing keep, or with --mask beside a policy that fills, as --missing ffill (create_store has "
            "missing='keep' and filled=True)"
        )
    return masks
