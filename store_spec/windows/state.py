"""Where an epoch stands, as a small dict that JSON can hold, and whether it may go on here.

    {"format": 1, "kind": "windows", "store": {...}, "parameters": {...}, "step": 17}

`step` is the number of batches that each rank has taken. The order of an epoch is a pure function of the store's
contents and the parameters, so nothing else is needed to go on, and nothing is read to do so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from store_spec.errors import StateError
from store_spec.reading.normalization import Own
from store_spec.reading.scaling import Scaler

if TYPE_CHECKING:
    from store_spec.store import Store

FORMAT = 1
FEW = 16  # numbers that a state has each


def state_of(kind: str, store: Store, sequences: int, parameters: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return the state of an epoch after `step` batches.

    Args:
        kind: What gives the batches: `windows`, `padded` or `streams`.
        store: Whose sequences; rows, places and order count.
        sequences: How many the whole store had when the epoch was begun.
        parameters: All that the order of the epoch follows from, as JSON gives it back: lists, not tuples.
        step: Batches that each rank has taken.
    """
    contents = {"sequences": sequences, "selected": len(store), "contents": store.contents}
    return {"format": FORMAT, "kind": kind, "store": contents, "parameters": dict(parameters), "step": step}


def brief(numbers: tuple[int, ...]) -> list[int | str]:
    """Return what stands for these in a state, which is small: of many a hash."""
    if len(numbers) <= FEW:
        return list(numbers)
    return [len(numbers), hashlib.sha256(np.asarray(numbers, "<i8").tobytes()).hexdigest()[:16]]


def store_at(state: object, kind: str, store: Store) -> Store:
    """Return the sequences that the state is of: those of `store`, without what was appended to it since.

    Raises:
        StateError: It is no state of this kind, is of a later format, or its sequences are not these.
    """
    where = store.path
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise StateError(f"{where}: {state!r:.80} is no state: pass what state_dict returned")
    if state["format"] > FORMAT:
        raise StateError(
            f"{where}: a state of format {state['format']:,}, and this version reads {FORMAT}; upgrade seqzarr"
        )
    if state.get("kind") != kind:
        raise StateError(f"{where}: a state of {state.get('kind')!r:.40}, loaded by {kind!r}")
    said = state.get("store")
    if not isinstance(said, dict) or not all(type(said.get(key)) is int for key in ("sequences", "selected")):
        raise StateError(f"{where}: the state says not which store it is of ({said!r:.80})")
    then, now = said["sequences"], store.counts.sequences
    if then > now:
        raise StateError(
            f"{where}: the state is of a store of {then:,} sequences, and this one has {now:,}; "
            "it is another store, or an older copy of it"
        )
    found = store.first(then)
    if len(found) != said["selected"]:
        raise StateError(
            f"{where}: the state is of {said['selected']:,} of the first {then:,} sequences, and {len(found):,} are "
            "selected here; take the selection of the run: sequences that were retired since cannot be had again"
        )
    if found.contents != said.get("contents"):
        raise StateError(
            f"{where}: the state is of other rows ({said.get('contents')!r:.40}) than the {len(found):,} sequences "
            f"here ({found.contents!r}): of another store, another selection, or a rewritten copy"
        )
    return found


def step_at(state: Mapping[str, Any], parameters: Mapping[str, Any], steps: int, store: Store) -> int:
    """Return after how many batches the epoch goes on.

    Args:
        state: One that `store_at` has let pass.
        parameters: Those of the batches that are to go on.
        steps: Batches in the epoch.
        store: Those that `store_at` found.

    Raises:
        StateError: The state is of other parameters, or there is no such batch.
    """
    where, said = store.path, state.get("parameters")
    if not isinstance(said, dict):
        raise StateError(f"{where}: the state has no parameters ({said!r:.80})")
    for name in [*parameters, *(name for name in said if name not in parameters)]:
        here, there = parameters.get(name), said.get(name)
        if here != there:
            raise StateError(
                f"{where}: the state is of {name}={there!r:.80}, and these batches are of {here!r:.80}; "
                "an epoch goes on with the parameters that it was begun with" + _of_before(name, state, store)
            )
    step = state.get("step")
    if type(step) is not int or not 0 <= step <= steps:
        raise StateError(f"{where}: the state is after {step!r:.40} batches, and the epoch has {steps:,}")
    return step


def normalized_then(normalize: Scaler | Own | None, state: Mapping[str, Any]) -> Scaler | Own | None:
    """Return what an epoch was normalised by, of which statistics are those of more sequences by now.

    Args:
        normalize: What is asked for now; it is returned where it is what it was, or follows from no store.
        state: One that `store_at` has let pass.
    """
    said = state.get("parameters")
    digest = said.get("normalize") if isinstance(said, dict) else None  # `step_at` refuses one without
    if isinstance(normalize, Scaler) and normalize.earlier is not None and normalize.digest() != digest:
        earlier = normalize.earlier(state["store"]["sequences"])
        if earlier.digest() == digest:
            return earlier
    return normalize


def _of_before(name: str, state: Mapping[str, Any], store: Store) -> str:
    """Say how to get what follows from the sequences, where there are more by now."""
    then, now = state["store"]["sequences"], store.counts.sequences
    if name not in ("normalize", "weights") or then == now:
        return ""
    return (
        f": it was begun with {then:,} sequences in the store, which has {now:,}, so let all that it takes be of "
        f"store.first({then}), statistics and weights too"
    )
