"""Batches of sequences with all of their options together: each step has what a loop over the arrays gives it.

Which steps are in a batch, and at which places, is compared in the tests of each kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.kinds import begin
from tests.store.known import (
    KEPT,
    NAMES,
    NORMALIZATIONS,
    Known,
    are_inputs,
    asked_of,
    common,
    dtypes,
    normalization,
    positions,
    scaled,
    static_of,
    targets_of,
)
from tests.store.window_oracle import LENGTHS, selections, usable

Steps = dict[int, list[bytes]]  # by the number of the sequence in a view
ORDER = (  # of the arrays of a batch
    *("inputs", "labels", "reset", "mask", "value_mask", "lengths", "cu_seqlens", "position_ids", "segment_ids"),
    *("static", "index"),
)


def steps_by_loops(known: Known, selection: list[int], normalize: Any, asked: dict[str, Any], **more: Any) -> Steps:
    """Return what each step has, as bytes: inputs, labels, mask of real values, and static columns."""
    take, of_inputs = positions(asked["features"] or NAMES, NAMES), are_inputs(known, asked["targets"])
    found: Steps = {}
    for number, sequence in enumerate(selection):
        x, y = scaled(known, sequence, normalize)
        y = (x if of_inputs else y)[..., targets_of(known, asked["targets"])]
        x, y = (rows if more["dtype"] is None else rows.astype(more["dtype"]) for rows in (x[:, take], y))
        static = static_of(known, sequence, asked["static"]).tobytes()
        whole = range(*usable(LENGTHS[sequence], more["steps"], asked["after"], asked["before"]))
        most = more.get("truncate")
        first_or_last = slice(-(most or 0), None) if more.get("truncate_side") == "start" else slice(most)
        for step in whole[first_or_last]:
            label = y[step] if y.ndim == 2 else y
            real = known.real[sequence][step, take].tobytes() if asked["value_mask"] else b""
            found.setdefault(number, []).append(x[step].tobytes() + label.tobytes() + real + static)
    return found


def add_steps(found: Steps, batch: Any) -> None:
    """Add what each step of a batch has, after checking that its padding is zero."""
    assert list(batch._fields) == sorted(batch._fields, key=ORDER.index)
    assert all(array.flags.writeable for array in batch)
    mask, index = batch.mask, batch.index
    arrays = [batch._asdict()[name] for name in ("inputs", "labels", "value_mask", "static") if name in batch._fields]
    assert not any(array[~mask].any() for array in arrays if array.ndim == 3)
    if "cu_seqlens" in batch._fields:
        index = np.repeat(index, np.diff(batch.cu_seqlens)).reshape(mask.shape)
    for at in zip(*np.nonzero(mask), strict=True):
        number = index[at[: index.ndim]]  # padded batches have one number for each sequence
        values = (array[at[: array.ndim - 1]] for array in arrays)
        found.setdefault(int(number), []).append(b"".join(value.tobytes() for value in values))


sides = st.sampled_from(["start", "end"])


@settings(max_examples=100)
@given(
    kind=st.sampled_from(["padded", "packed", "streams"]),
    stored=st.sampled_from(sorted(KEPT)),
    axis=st.sampled_from(["step", "sequence", "own"]),
    selection=selections(),
    how=st.sampled_from([None, *NORMALIZATIONS]),
    dtype=dtypes,
    steps=st.sampled_from([None, (0.2, 0.7)]),
    drawn=st.fixed_dictionaries(common),
    of_padded=st.fixed_dictionaries(
        {
            "side": sides,
            "truncate": st.none() | st.integers(1, 60),
            "truncate_side": sides,
            "memory": st.sampled_from([1, 20_000, "256MB"]),
        }
    ),
    shuffle=st.booleans(),
)
def test_each_step_has_the_values_of_a_loop(
    known: Any,
    kind: str,
    stored: str,
    axis: str,
    selection: list[int],
    how: Any,
    dtype: Any,
    steps: Any,
    drawn: dict[str, Any],
    of_padded: dict[str, Any],
    *,
    shuffle: bool,
):
    """In their order; those of a packed sequence may be in any."""
    one: Known = known(stored, axis)
    normalize = normalization(one, how)
    more = {"dtype": dtype, "steps": steps} | {"padded": of_padded, "streams": {"mask": True}, "packed": {}}[kind]
    options: dict[str, Any] = {"normalize": normalize, "allow_later": True, "index": True, "shuffle": shuffle}
    found: Steps = {}
    for batch in begin(one.store.select(selection), kind, **options, **more, **asked_of(drawn)):
        add_steps(found, batch)
        assert all(array.flags.c_contiguous for array in batch)
    wanted = steps_by_loops(one, selection, normalize, drawn, **more)
    if kind == "packed":
        found, wanted = ({number: sorted(each) for number, each in some.items()} for some in (found, wanted))
    assert found == wanted
