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
    """Return the state of an epoch after `step` batches.

    Args:
        kind: The kind of batches: such as `windows`.
        store: The sequences; the state depends on their rows, places and order.
        sequences: How many the whole store had when the epoch was started.
        parameters: Everything that determines the order of the epoch, in types of JSON: lists, not tuples.
        step: Batches that each rank has taken.
    """
    contents = {"sequences": sequences, "selected": len(store), "contents": store.contents}
    return {"format": FORMAT, "kind": kind, "store": contents, "parameters": dict(parameters), "step": step}


def store_at(state: object, kind: str, store: Store) -> Store:
    """Return the sequences of a state: those of `store` without the ones that were appended since.

    Raises:
        StateError: The state has another kind or a later format, or its sequences are not those of `store`.
    """
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
            "are selected here; take the selection of the run: sequences that were retired since cannot be had again"
        )
    if first.contents != contents.get("contents"):
        raise StateError(
            f"{where}: the state is of other rows ({contents.get('contents')!r:.40}) than the {len(first):,} sequences "
            f"here ({first.contents!r}): of another store, another selection, or a rewritten copy"
        )
    return first


def step_at(state: Mapping[str, Any], parameters: Mapping[str, Any], steps: int, store: Store) -> int:
    """Return after how many batches the epoch is resumed.

    Args:
        state: A state that `store_at` has accepted.
        parameters: The parameters of the batches here.
        steps: Batches in the epoch.
        store: The sequences that `store_at` returned.

    Raises:
        StateError: The state has other parameters, or there is no such batch.
    """
    where, saved = store.path, state.get("parameters")
    if not isinstance(saved, dict):
        raise StateError(f"{where}: the state has no parameters ({saved!r:.80})")
    for name in [*parameters, *(name for name in saved if name not in parameters)]:
        here, there = parameters.get(name), saved.get(name)
        if here != there:
            raise StateError(
                f"{where}: the state is of {name}={there!r:.80}, and these batches are of {here!r:.80}; "
                "an epoch goes on with the parameters that it was begun with" + _of_before(name, state, store)
            )
    step = state.get("step")
    if type(step) is not int or not 0 <= step <= steps:
        raise StateError(f"{where}: the state is after {step!r:.40} batches, and the epoch has {steps:,}")
    return step


def normalized_then(normalize: Normalization | None, state: Mapping[str, Any]) -> Normalization | None:
    """Return the normalisation of a resumed epoch; the statistics may cover more sequences by now.

    Args:
        normalize: The argument of the batches here; it is returned if it has not changed, or is not from a store.
        state: A state that `store_at` has accepted.
    """
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
        f": it was begun with {then:,} sequences in the store, which has {now:,}, so let all that it takes be of "
        f"store.first({then}), statistics and weights too"
    )
