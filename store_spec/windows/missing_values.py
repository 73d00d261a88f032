"""What a store knows of missing values, and of those that were filled in, as windows and whole sequences ask for it."""

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
    """Return the steps of these sequences that miss a value, by what windows would take them as."""
    by_target: dict[Target, GapUse] = {
        "future": "horizon", "last": "last", "aligned": "window", "sequence": "sequence",
    }  # fmt: skip
    wanted: list[tuple[str, GapUse]] = [("inputs", "window"), ("labels", by_target[shape.target])]
    if future:
        wanted.append(("inputs", "horizon"))
    found = []
    for array, taken in wanted:
        starts, lengths = store.places(array)
        sequence, runs = runs_of_sequences(store.snapshot.missing(array), starts, starts + lengths)
        found.append(Gaps(sequence=sequence, start=runs[:, 0], stop=runs[:, 1], use=taken))
    return tuple(found)


def masks_of(store: Store, take: tuple[int, ...] | None, *, argument: str = "mask") -> dict[str, Column]:
    """Return the columns that tell which values of inputs are real, of the features at these places (None: of all).

    Args:
        store: Which has to know.
        take: The places.
        argument: What asks for them, named in the error.

    Raises:
        WindowError: The store does not know.
    """
    schema, found = store.schema, {}
    if schema.filled:
        found["mask"] = Column(array="filled", rows=schema.rows("filled"), take=take, real=True)
    if schema.missing == "keep":
        found["present"] = Column(array="inputs", rows=schema.inputs, take=take, real=True)
    if not found:
        raise WindowError(
            f"{store.path}: {argument}=True, but this store does not say which values are real; build it with "
            "--missing keep, or with --mask beside a policy that fills, as --missing ffill (create_store has "
            "missing='keep' and filled=True)"
        )
    return found
