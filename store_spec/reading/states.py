"""The states of epochs: what they record, and whether one can be resumed here.

    {"format": 1, "kind": "windows", "store": {...}, "parameters": {...}, "step": 17}

`step` is the number of batches that each rank has taken. The order of an epoch is a pure function of the store's
contents and the parameters, so nothing else is needed to resume it, and no rows are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from store_spec.errors import StateError
from store_spec.reading.normalization import Normalization, state_name

if TYPE_CHECKING:
    from store_spec.store import Store

FORMAT = 1


def state_of(kind: str, store: Store, sequences: int, parameters: Mapping[str, Any], step: int) -> dict[str, Any]:
    """Return the state of an epoch after `step` batches of each rank.

    The state depends on the rows, the places and the order of the sequences. `sequences` is how many the whole store
    had when the epoch was started. `parameters` is everything else that determines the order of the epoch, in types of
    JSON: lists, not tuples.
    """
    contents = {"sequences": sequences, "selected": len(store), "contents": store.contents}
    return {"format": FORMAT, "kind": kind, "store": contents, "parameters": dict(parameters), "step": step}


def resumed_store(state: Any, kind: str, store: Store) -> Store:
    """Check a state, and return its sequences: all of `store` except those that were appended since."""
    where, now = store.path, store.counts.sequences
    match state:
        case {"format": int(newer)} if newer > FORMAT:
            raise StateError(f"{where}: a state of format {newer:,}, and this version reads {FORMAT}; upgrade seqzarr")
        case {"format": int(), "store": {"sequences": int(then)}, "parameters": dict(), "step": int()}:
            pass
        case _:
            raise StateError(f"{where}: {state!r:.80} is not a state: pass what state_dict returned")
    if then > now:
        raise StateError(
            f"{where}: the state is of a store of {then:,} sequences, and this one has {now:,}; "
            "it is another store, or an older copy of it"
        )
    first = store.first(then)
    current = {"kind": kind, "sequences": then, "selected": len(first), "contents": first.contents}
    _check_same({"kind": state.get("kind"), **state["store"]}, current, then, store)
    return first


def resumed_step(state: Mapping[str, Any], parameters: Mapping[str, Any], steps: int, store: Store) -> int:
    """Check that a state has the parameters of the batches here, and return after how many batches it was taken.

    `steps` is the number of batches in the epoch, and `store` has the sequences that `resumed_store` returned.
    """
    _check_same(state["parameters"], parameters, state["store"]["sequences"], store)
    step: int = state["step"]
    if isinstance(step, bool) or not 0 <= step <= steps:
        raise StateError(f"{store.path}: the state is after {step!r:.40} batches, and the epoch has {steps:,}")
    return step


def resumed_normalization(normalize: Normalization | None, state: Mapping[str, Any]) -> Normalization | None:
    """Return the normalisation of a resumed epoch: `normalize`, or the same of the sequences that there were then."""
    if isinstance(normalize, str | None) or normalize.statistics is None:
        return normalize
    digest = state["parameters"].get("normalize")
    if normalize.digest() != digest:
        how, *arguments = normalize.how
        earlier: Normalization = getattr(normalize.statistics.first(state["store"]["sequences"]), how)(*arguments)
        if state_name(earlier) == digest:
            return earlier
    return normalize


def _check_same(saved: Mapping[str, Any], current: Mapping[str, Any], then: int, store: Store) -> None:
    """Compare what a state has with what these batches have; `then` is how many sequences the store had."""
    for name in {**current, **saved}:
        if saved.get(name) != current.get(name):
            raise StateError(
                f"{store.path}: the state is of {name}={saved.get(name)!r:.80}, and these batches are of "
                f"{current.get(name)!r:.80}; {_advice(name, then, store.counts.sequences)}"
            )


def _advice(name: str, then: int, now: int) -> str:
    """Return advice for an error: `name` differs, and the store had `then` sequences and has `now`."""
    if name == "selected":
        return "take the selection of the run: retired sequences cannot be selected any more"
    if name == "contents":
        return "these rows are of another store, another selection, or a rewritten copy"
    advice = "an epoch continues with the parameters that it was started with"
    if name not in ("normalize", "weights") or then == now:
        return advice
    return (
        f"{advice}; the store had {then:,} sequences then and has {now:,} now: make the batches, their statistics and "
        f"their weights from store.first({then})"
    )
