"""Arguments of batches: targets, dtypes and moments that are chosen when reading, and impossible ones.

`test_any_options` compares values with loops.
"""

import datetime as dt
import re
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import WindowError
from tests.store.kinds import KINDS, begin, every_kind
from tests.store.oracle import store_of
from tests.store.window_oracle import LENGTHS, Written, all_same

NO_STEPS = np.equal(LENGTHS, 0)
WEIGHTS = np.array([(3 * number) % 5 for number in range(18)], float)
OF_ALL: list[tuple[dict[str, Any], str]] = [
    ({"batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1"),
    ({"batch_size": -1}, "batch_size is -1"),
    ({"batch_size": True}, "batch_size is True"),
    ({"batch_size": 1.5}, r"batch_size is 1\.5"),
    ({"seed": -1}, "seed is -1"),
    ({"epoch": -1}, "epoch is -1"),
    ({"epoch": None}, "epoch is None"),
    ({"world_size": 0}, "world_size is 0"),
    ({"rank": -1}, "rank is -1"),
    ({"rank": 2, "world_size": 2}, "rank=2 with world_size=2; ranks are 0 to 1"),
    ({"memory": 0}, "memory is 0"),
    ({"memory": 2.5e8}, r"memory is 250000000\.0"),
    ({"memory": "lots"}, "'lots' is not a size"),
    ({"transform": 3}, "transform=3; give a function of the batch"),
    ({"weights": WEIGHTS, "shuffle": False}, "weights with shuffle=False, but they draw at random"),
    ({"weights": WEIGHTS[1:]}, r"weights of shape \(17,\); give one for each of 18 sequences"),
    ({"weights": [[1.0]] * 18}, r"weights of shape \(18, 1\)"),
    ({"weights": [*WEIGHTS[1:], -1.0]}, r"weights\[17\] is -1.0; a weight is a number from 0 on"),
    ({"weights": [np.nan, *WEIGHTS[1:]]}, r"weights\[0\] is nan"),
    ({"weights": [np.inf, *WEIGHTS[1:]]}, r"weights\[0\] is inf"),
    ({"weights": np.zeros(18)}, "samples make 0.0; nothing can be drawn by that"),
    ({"weights": np.full(18, 1e308)}, "samples make inf"),
    ({"weights": ["a"] * 18}, "weights are not numbers"),
    ({"weights": np.ma.masked_equal(WEIGHTS, 3)}, r"weights\[1\] is nan"),
    ({"weights": [[1.0], [1.0, 2.0]] * 9}, r"weights of shape \(1,\)"),
    ({"normalize": np.zeros(2)}, r"normalize=array\(\[0., 0.\]\); give statistics"),
]
OF_KIND: dict[str, list[tuple[dict[str, Any], str]]] = {
    "windows": [
        ({"batch_size": 1, "memory": 500}, "memory=500 bytes is too little: .* windows take 228 .* give memory=608"),
        ({"batch_size": 4, "memory": 100}, r"memory=100 bytes is too little: .* windows take \d+ .* give memory=\d+"),
        ({"batch_size": 500, "memory": "10kB"}, "memory=10,000 bytes .* a batch takes 18,720 .* memory=149760"),
        ({"window": 2**60, "short": "pad"}, "memory=256,000,000 bytes is too little"),
    ],
    "padded": [
        ({"batch_size": None}, "neither batch_size nor max_steps is given"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"truncate": 0}, "truncate is 0"),
        ({"side": "left"}, "side is 'left'; it must be 'start' or 'end'"),
        ({"truncate_side": None}, "truncate_side is None"),
        ({"truncate_side": ["end"]}, r"truncate_side is \['end'\]"),
        ({"max_steps": 99}, r"sequence 6 \(s06\) has 100 steps, .* max_steps=99; give truncate=99 or max_steps=100"),
        ({"max_steps": 100, "drop_last": True}, "drop_last=True with max_steps=100"),
        ({"memory": "1kB"}, "memory=1,000 .*: a batch of 4 sequences of up to 100 steps takes .* give memory="),
        ({"world_size": 19}, "18 samples cannot be distributed to world_size=19 .* drop_last=True, which leaves out"),
        ({"batch_size": 1, "world_size": 4}, "18 samples cannot be distributed to world_size=4 .* leaves out 2"),
    ],
    "packed": [
        ({"weights": NO_STEPS}, "the weights of all 15 samples make 0.0; nothing can be drawn by that"),
        ({"tokens": 0}, "tokens is 0; it must be a whole number of at least 1"),
        ({"max_steps": 33}, "max_steps is 33; it must be a whole number of at least 1 and at most 32"),
        ({"memory": 100}, "memory=100 bytes is too little: a batch of 2 rows of 32 steps takes"),
        ({"tokens": 10, "world_size": 99}, "31 samples cannot be distributed to world_size=99 ranks"),
    ],
    "streams": [
        ({"weights": NO_STEPS}, "the weights of all 15 samples make 0.0; nothing can be drawn by that"),
        ({"window": -5}, "window is -5"),
        ({"window": 2.0}, r"window is 2\.0"),
        ({"window": 5, "memory": "1kB"}, "memory=1,000 .*: a batch of 2 lanes of 5 steps takes 260, .*memory=1516"),
        ({"batch_size": 10**12}, "memory=256,000,000 bytes is too little: a batch of 1,000,000,000,000 lanes"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "options", "message"), [(kind, *case) for kind in KINDS for case in OF_ALL + OF_KIND[kind]]
)
def test_impossible_arguments_are_refused_before_the_first_batch(by_step, kind, options, message):
    with pytest.raises(WindowError, match=message):
        begin(by_step.store, kind, **{"shuffle": True} | options)


@every_kind
def test_the_memory_that_an_error_names_is_just_enough(by_step: Written, kind: str):
    with pytest.raises(WindowError, match="too little") as error:
        begin(by_step.store, kind, memory=1)
    least = int(re.findall(r"give memory=(\d+)", str(error.value))[0])
    with pytest.raises(WindowError, match=f"memory={least - 1:,} bytes is too little"):
        begin(by_step.store, kind, memory=least - 1)
    assert len(list(begin(by_step.store, kind, memory=least))) > 3


def test_limits_may_be_larger_than_any_store(by_step: Written):
    assert len(by_step.store.padded(10**30, max_steps=10**30)) == 1
    assert len(by_step.store.padded(10**30, bucket=True)) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("windows", {}),
        ("windows", {"window": 1000, "memory": 1}),
        ("padded", {}),
        ("padded", {"max_steps": 9, "world_size": 2}),
        ("padded", {"max_steps": 9, "bucket": True}),
        ("packed", {}),
        ("streams", {}),
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_without_samples_there_are_no_batches(on_any_axis, kind, options, weighted):
    axis = on_any_axis.store.schema.label_axis
    if axis != "step":
        options = options | {"targets": "inputs"}
    for selection in ([], [0, 4]) if kind != "padded" else ([],):  # the first two have no steps
        weights = np.ones(len(selection)) if weighted else None
        batches = begin(on_any_axis.store.select(selection), kind, shuffle=True, weights=weights, **options)
        assert len(batches) == 0
        assert list(batches) == []
        assert getattr(batches, "padding", 0) == 0


def test_labels_with_lengths_of_their_own_go_with_padded_batches_and_targets_from_inputs_alone(by_axis):
    store = by_axis["own"].store
    with pytest.raises(WindowError, match='packed need labels on the step or sequence axis, or targets="inputs"'):
        store.packed(10)
    with pytest.raises(WindowError, match="labels on the own axis have steps of their own"):
        store.streams(2, 5)
    assert all(np.array_equal(x, y) for x, y, *_ in store.packed(10, targets="inputs"))


@pytest.fixture
def stores(known: Any) -> dict[str, store_spec.Store]:
    """Stores with labels of steps, with labels of sequences, and without labels."""
    axes = {"steps": "step", "classes": "sequence", "none": "own"}
    return {name: known("float64", axis).store for name, axis in axes.items()}


def test_targets_follow_from_the_labels_of_the_store(stores: dict[str, store_spec.Store]):
    assert stores["classes"].windows(4).shape.target == "sequence"
    assert stores["classes"].windows(4, targets="inputs").shape.target == "future"
    assert stores["steps"].windows(4).shape.target == "future"


@pytest.mark.parametrize(
    ("store", "targets", "text"),
    [
        ("none", "labels", 'targets="labels", but this store has no labels; use targets="inputs"'),
        ("steps", "close", 'targets=\'close\'; give "labels", "inputs", or a list of names'),
        ("steps", ["low"], r"targets: 'low', but there are 4 \(0 to 3\), named open, high, still, close"),
        ("steps", ["load", "low"], "'load', but there are 4 .*; the labels have targets named close, load, open"),
        ("steps", [], r"targets=\[\]; give a list of names or numbers of features"),
    ],
)
def test_unknown_targets_are_refused(stores: dict[str, store_spec.Store], store: str, targets: Any, text: str):
    with pytest.raises(WindowError, match=text):
        stores[store].windows(4, targets=targets)


def test_numbers_beyond_a_dtype_are_refused(tmp_path: Path):
    store = store_of(tmp_path / "s", [np.array([1.0, 1e39])], [[1, 2]])
    with pytest.raises(WindowError, match=r"dtype=float32 for inputs up to 1e\+39, but float32 ends at 3.40282e\+38"):
        store.windows(1, dtype="float32")
    with pytest.raises(WindowError, match="dtype='int8' for float64 inputs; give one of float32, float64"):
        store.windows(1, dtype="int8")


def test_moments_may_be_datetimes(stores: dict[str, store_spec.Store]):
    store = stores["steps"]
    moment = dt.datetime(2001, 9, 9, 1, 47)  # noqa: DTZ001
    assert len(store.windows(3, before=moment)) == len(store.windows(3, before=moment.isoformat())) > 0
    assert len(store.windows(3, before=moment)) < len(store.windows(3))


@hypothesis.given(batch_size=st.integers(1, 5), window=st.integers(1, 30), shuffle=st.booleans(), align=st.booleans())
def test_streams_without_their_last_batches_have_steps_in_every_lane(stores, batch_size, window, **more):
    whole = list(stores["steps"].streams(batch_size, window, mask=True, **more))
    some = list(stores["steps"].streams(batch_size, window, mask=True, drop_last=True, **more))
    assert all_same(some, whole[: len(some)])
    if not more["align"]:
        assert all(batch.mask.all() for batch in some)
        assert all(not batch.mask.all() for batch in whole[len(some) :])


@pytest.mark.parametrize("reader", ["one by one", *KINDS])
def test_only_the_array_of_the_targets_is_read(stores: dict[str, store_spec.Store], reader: str, spy: Any):
    read_rows, store = spy(Snapshot, "rows"), stores["steps"]
    cases: list[tuple[dict[str, Any], set[str]]] = [({"targets": "inputs"}, {"inputs"}), ({}, {"inputs", "labels"})]
    for options, arrays in cases:
        assert list(store.windows(4, **options) if reader == "one by one" else begin(store, reader, **options))
        assert {name for _, name, *_ in (call.args for call in read_rows.call_args_list)} == arrays


def test_targets_that_are_all_the_inputs_are_in_memory_once(stores: dict[str, store_spec.Store]):
    assert set(stores["steps"].windows(4, targets="inputs").loaded) == {"inputs"}
    assert set(stores["steps"].windows(4, targets=["high"]).loaded) == {"inputs", "labels"}
