"""The states of epochs: what they record, and whether one can be resumed here.

    {"format": 1, "kind": "windows", "store": {...}, "parameters": {...}, "step": 17}

`step` is the number of batches that each rank has taken. The order of an epoch is a pure function of the store's
contents and the parameters, so nothing else is needed to resume it, and no rows are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from store_spec.errors import StateError
from store_spec.reading.normalization import Normalization

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


def store_at(state: object, kind: str, store: Store) -> Store:
    """Check a state, and return its sequences: all of `store` except those that were appended since."""
    where = store.path
    if not isinstance(state, dict) or not isinstance(state.get("format"), int):
        raise StateError(f"{where}: {state!r:.80} is not a state: pass what state_dict returned")
    if state["format"] > FORMAT:
        raise StateError(
            f"{where}: a state of format {state['format']:,}, and this version reads {FORMAT}; upgrade seqzarr"
        )
    if state.get("kind") != kind:
        raise StateError(f"{where}: a state of {state.get('kind')!r:.40}, loaded by {kind!r}")
    contents = state.get("store")
    if not isinstance(contents, dict) or not all(type(contents.get(key)) is int for key in ("sequences", "selected")):
        raise StateError(f"{where}: the state does not say which store it is of ({contents!r:.80})")
    then, now = contents["sequences"], store.counts.sequences
    if then > now:
        raise StateError(
            f"{where}: the state is of a store of {then:,} sequences, and this one has {now:,}; "
            "it is another store, or an older copy of it"
        )
    first = store.first(then)
    if len(first) != contents["selected"]:
        raise StateError(
            f"{where}: the state is of {contents['selected']:,} of the first {then:,} sequences, and {len(first):,} "
            "are selected here; take the selection of the run: retired sequences cannot be selected any more"
        )
    if first.contents != contents.get("contents"):
        raise StateError(
            f"{where}: the state is of other rows ({contents.get('contents')!r:.40}) than the {len(first):,} sequences "
            f"here ({first.contents!r}): of another store, another selection, or a rewritten copy"
        )
    return first


def step_at(state: Mapping[str, Any], parameters: Mapping[str, Any], steps: int, store: Store) -> int:
    """Check that a state has the parameters of the batches here, and return after how many batches it was taken.

    `steps` is the number of batches in the epoch, and `store` has the sequences that `store_at` returned.
    """
    where, saved = store.path, state.get("parameters")
    if not isinstance(saved, dict):
        raise StateError(f"{where}: the state has no parameters ({saved!r:.80})")
    for name in [*parameters, *(name for name in saved if name not in parameters)]:
        here, there = parameters.get(name), saved.get(name)
        if here != there:
            raise StateError(
                f"{where}: the state is of {name}={there!r:.80}, and these batches are of {here!r:.80}; "
                "an epoch continues with the parameters that it was started with" + _of_before(name, state, store)
            )
    step = state.get("step")
    if type(step) is not int or not 0 <= step <= steps:
        raise StateError(f"{where}: the state is after {step!r:.40} batches, and the epoch has {steps:,}")
    return step


def normalized_then(normalize: Normalization | None, state: Mapping[str, Any]) -> Normalization | None:
    """Return the normalisation of a resumed epoch; the statistics `normalize` may cover more sequences by now."""
    saved = state.get("parameters")
    digest = saved.get("normalize") if isinstance(saved, dict) else None  # `step_at` refuses a state without it
    if isinstance(normalize, str | None) or normalize.earlier is None:
        return normalize
    if normalize.digest() != digest:
        earlier = normalize.earlier(state["store"]["sequences"])
        if earlier.digest() == digest:
            return earlier
    return normalize


def _of_before(name: str, state: Mapping[str, Any], store: Store) -> str:
    """Return advice for an error, if normalisation or weights differ because there are more sequences by now."""
    then, now = state["store"]["sequences"], store.counts.sequences
    if name not in ("normalize", "weights") or then == now:
        return ""
    return (
        f"; the store had {then:,} sequences then and has {now:,} now: make the batches, their statistics and their "
        f"weights from store.first({then})"
    )
