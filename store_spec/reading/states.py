"""The states of epochs: what they record, and whether one can be resumed here.

    {"format": 1, "kind": "windows", "store": {...}, "parameters": {...}, "step": 17}

`step` is the number of batches that each rank has taken. The order of an epoch is a pure function of the store's
contents and the parameters, so nothing else is needed to resume it, and no rows are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from store_spec.errors import StateError

if TYPE_CHECKING:
    from store_spec.store import Store

FORMAT = 1


def state_of(kind: str, store: Store, parameters: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return the state of an epoch after `step` batches of each rank.

    `parameters` is everything that determines the order of the epoch, apart from the sequences, in types of JSON:
    lists, not tuples.
    """
    return {"format": FORMAT, "kind": kind, "store": _contents(store), "parameters": dict(parameters), "step": step}


def resumed_step(state: Any, kind: str, store: Store, parameters: Mapping[str, Any], steps: int) -> int:
    """Check that a state is of the batches here, and return after how many batches it was taken.

    `steps` is the number of batches in the epoch, and the other arguments are those of `state_of`.
    """
    match state:
        case {"format": int(newer)} if newer > FORMAT:
            raise StateError(
                f"{store.path}: a state of format {newer:,}, and this version reads {FORMAT}; upgrade seqzarr"
            )
        case {"format": int(), "store": dict(there), "parameters": dict(saved), "step": int(step)}:
            pass
        case _:
            raise StateError(f"{store.path}: {state!r:.80} is not a state: pass what state_dict returned")
    saved, current = {"kind": state.get("kind"), **there, **saved}, {"kind": kind, **_contents(store), **parameters}
    for name in {**current, **saved}:
        if saved.get(name) != current.get(name):
            raise StateError(
                f"{store.path}: the state is of {name}={saved.get(name)!r:.80}, and these batches are of "
                f"{current.get(name)!r:.80}; {_advice(name, saved.get('sequences'))}"
            )
    if isinstance(step, bool) or not 0 <= step <= steps:
        raise StateError(f"{store.path}: the state is after {step!r:.40} batches, and the epoch has {steps:,}")
    return step


def _contents(store: Store) -> dict[str, Any]:
    """Return what a state says of the sequences; `sequences` of the whole store are up to the last of these."""
    last = int(store.selection.max(initial=-1))
    return {"selected": len(store), "sequences": last + 1, "contents": store.contents}


def _advice(name: str, sequences: object) -> str:
    """Return advice for an error: `name` differs, and the state is of the first `sequences` of a store."""
    if name in ("selected", "sequences"):
        return (
            "take the selection of the run; if the store has grown, make the batches, their statistics and their "
            f"weights from store.first({sequences})"
        )
    if name == "contents":
        return "these rows are of another store, another selection, or a rewritten copy"
    return "an epoch continues with the parameters that it was started with"
