"""Inputs and targets that are chosen when reading, compared with a store of just these inputs and labels."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import WindowError
from store_spec.schema import Rows
from store_spec.windows.shape import Short, Target, WindowOptions, WindowShape
from store_spec.windows.windows import Windows
from tests.store.oracle import store_of
from tests.store.window_oracle import LENGTHS, all_same, assert_windows_are, listed, same, shapes, unbatched

NAMES = ("open", "close", "volume")


def write_walks(path: Path, labels: list[int], axis: Any = "step") -> store_spec.Store:
    """Write random walks whose labels are the features at these positions, or one class per sequence."""
    rng = np.random.default_rng(0)
    names = [NAMES[at] for at in labels]
    inputs = Rows(np.dtype("float64"), (3,), NAMES)
    rows = Rows(np.dtype("int64"), ()) if axis == "sequence" else Rows(inputs.dtype, (len(labels),), tuple(names))
    options: dict[str, Any] = {"label_axis": axis, "missing": "keep", "time": "s", "chunk": 200, "shard": 1000}
    xs, ys = [], list[Any]()
    for number, length in enumerate(LENGTHS):
        x = np.cumsum(rng.normal(size=(length, 3)), axis=0)
        x[rng.random(x.shape) < 0.05] = np.nan
        xs.append(x)
        ys.append({"step": x[:, labels], "own": np.zeros((0, len(labels))), "sequence": number}[axis])
    more = [{"time": np.arange(length) + 10**9} for length in LENGTHS]
    return store_of(path, xs, ys, more=more, inputs=inputs, labels=rows, **options)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, store_spec.Store]:
    path = tmp_path_factory.mktemp("targets")
    return {
        "close": write_walks(path / "close", [1]),
        "all": write_walks(path / "all", [0, 1, 2]),
        "two": write_walks(path / "two", [2, 0]),
        "classes": write_walks(path / "classes", [0], "sequence"),
        "none": write_walks(path / "none", [0], "own"),
    }


CHOICES: dict[str, Any] = {"close": ["close"], "all": "inputs", "two": ["volume", "open"]}


@pytest.mark.slow
@pytest.mark.parametrize("normalize", [None, "stats", "sequence", "window"])
@pytest.mark.parametrize("other", ["classes", "none"])
@hypothesis.given(
    shape=shapes(), choice=st.sampled_from(list(CHOICES)), features=st.sampled_from([None, [1], [2, 0]]),
    missing=st.sampled_from(["keep", "skip"]), dtype=st.sampled_from([None, "float32"]),
)  # fmt: skip
def test_targets_from_inputs_equal_those_of_a_store_with_these_labels(
    stores: dict[str, store_spec.Store], normalize: Any, other: str, shape: WindowShape, choice: str, features: Any,
    missing: Any, dtype: Any,
):  # fmt: skip
    hypothesis.assume(missing == "keep" or choice == "all")  # NaN in a feature that is not selected counts too
    options: dict[str, Any] = {"features": features, "missing": missing, "dtype": dtype, "value_mask": True}
    options["allow_later"] = True
    found, wanted = (
        Windows(
            store,
            shape,
            WindowOptions(**options, targets=targets, normalize=store.stats() if normalize == "stats" else normalize),
        )
        for store, targets in ((stores[other], CHOICES[choice]), (stores[choice], None))
    )
    assert_windows_are(found, list(wanted))


@hypothesis.given(shape=shapes(), features=st.sampled_from([None, [0, 2]]))
def test_targets_from_inputs_equal_those_of_loops(
    stores: dict[str, store_spec.Store], shape: WindowShape, features: Any
):
    store = stores["classes"]
    sequences = [(x, x[:, [1]]) for x, _ in store]
    take = slice(None) if features is None else features
    wanted = [(np.ascontiguousarray(x[:, take]), *rest) for x, *rest in listed(sequences, shape)]
    assert all_same(list(Windows(store, shape, WindowOptions(targets=["close"], features=features))), wanted)


def test_targets_follow_from_the_labels_of_the_store(stores: dict[str, store_spec.Store]):
    assert stores["classes"].windows(4).shape.target == "sequence"
    assert stores["classes"].windows(4, targets="inputs").shape.target == "future"
    assert stores["close"].windows(4).shape.target == "future"
    assert same(stores["none"].windows(4)[3], stores["all"].windows(4)[3])


@pytest.mark.parametrize(
    ("store", "targets", "text"),
    [
        ("none", "labels", 'targets="labels", but this store has no labels; use targets="inputs"'),
        ("close", "close", 'targets=\'close\'; give "labels", "inputs", or a list of names'),
        ("close", ["high"], r"targets: 'high', but there are 3 \(0 to 2\), named open, close, volume"),
        ("close", [], r"targets=\[\]; give a list of names or numbers of features"),
    ],
)
def test_unknown_targets_are_refused(stores: dict[str, store_spec.Store], store: str, targets: Any, text: str):
    with pytest.raises(WindowError, match=text):
        stores[store].windows(4, targets=targets)


@pytest.mark.parametrize("stored", ["int64", "float32", "float64"])
@pytest.mark.parametrize("wanted", ["float32", "float64"])
def test_batches_of_another_dtype_have_the_same_numbers(tmp_path: Path, stored: str, wanted: Any):
    rows = [np.arange(40).reshape(20, 2).astype(stored) + number for number in range(2)]
    store = store_of(tmp_path / "s", rows)
    windows = store.windows(4, dtype=wanted, targets="inputs")  # integer labels keep their dtype
    each = [x.astype(wanted) for x in rows]
    samples = [(x[start : start + 4], x[start + 4 : start + 5]) for x in each for start in range(16)]
    assert all_same(unbatched(list(windows.batches(3))), samples)
    assert all_same(list(windows), samples)
    assert all_same(
        [batch[:2] for batch in store.padded(1, dtype=wanted, targets="inputs")], [(x[None],) * 2 for x in each]
    )


def test_numbers_beyond_a_dtype_are_refused(tmp_path: Path):
    store = store_of(tmp_path / "s", [np.array([1.0, 1e39])], [[1, 2]])
    with pytest.raises(WindowError, match=r"dtype=float32 for inputs up to 1e\+39, but float32 ends at 3.40282e\+38"):
        store.windows(1, dtype="float32")
    with pytest.raises(WindowError, match="dtype='int8' for float64 inputs; give one of float32, float64"):
        store.windows(1, dtype="int8")


@pytest.mark.parametrize("target", ["future", "aligned"])
@pytest.mark.parametrize("short", ["drop", "pad"])
def test_a_mask_is_true_for_steps_of_the_sequence(stores: dict[str, store_spec.Store], target: Target, short: Short):
    windows = stores["close"].windows(9, target=target, short=short, mask=True)
    for number, sample in enumerate(windows):
        sequence, start = windows.index.locate(number)
        real = int(windows.index.real_rows(sequence, start))
        assert sample.mask.tolist() == [step < real for step in range(9)]
    assert all_same(unbatched(list(windows.batches(4))), list(windows))


def test_moments_may_be_datetimes(stores: dict[str, store_spec.Store]):
    store = stores["close"]
    moment = dt.datetime(2001, 9, 9, 1, 47)  # noqa: DTZ001
    assert len(store.windows(3, before=moment)) == len(store.windows(3, before=moment.isoformat())) > 0
    assert len(store.windows(3, before=moment)) < len(store.windows(3))


READERS: dict[str, Any] = {
    "padded": lambda store, **more: store.padded(3, **more),
    "padded, shuffled": lambda store, **more: store.padded(4, bucket=True, shuffle=True, side="start", **more),
    "truncated": lambda store, **more: store.padded(4, truncate=5, truncate_side="start", **more),
    "streams": lambda store, **more: store.streams(3, 7, mask=True, **more),
    "streams, shuffled": lambda store, **more: store.streams(2, 5, shuffle=True, drop_last=True, **more),
    "packed": lambda store, **more: store.packed(30, **more),
    "packed, shuffled": lambda store, **more: store.packed(16, batch_size=2, max_steps=9, shuffle=True, **more),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, stores: dict[str, store_spec.Store]) -> store_spec.Store:
    """Write the features volume and open of steps 20 % to 70 % of each sequence, with close as labels."""
    bounds = [(x, int(round(len(x) * 0.2, 6)), int(round(len(x) * 0.7, 6))) for x, _ in stores["classes"]]
    parts = [x[start:stop].astype("float32") for x, start, stop in bounds]
    inputs, labels = [part[:, [2, 0]] for part in parts], [part[:, [1]] for part in parts]
    return store_of(tmp_path_factory.mktemp("parts") / "s", inputs, labels, missing="keep", chunk=100)


CHOSEN: dict[str, Any] = {"features": ["volume", "open"], "targets": ["close"], "dtype": "float32", "steps": (0.2, 0.7)}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("other", ["classes", "none", "close"])
def test_readers_of_sequences_equal_those_of_a_store_of_the_chosen_rows(
    stores: dict[str, store_spec.Store], parts: store_spec.Store, reader: str, other: str
):
    more: dict[str, Any] = {"value_mask": True, "index": True}
    read = READERS[reader]
    assert all_same(list(read(stores[other], **CHOSEN, **more)), list(read(parts, **more)))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("bound", ["before", "after"])
def test_readers_of_sequences_return_only_steps_of_a_period(
    stores: dict[str, store_spec.Store], tmp_path: Path, reader: str, bound: str
):
    moment = np.datetime64(10**9 + 10, "s")
    part = slice(10) if bound == "before" else slice(10, None)
    inputs, labels = ([rows[part] for rows in each] for each in zip(*stores["close"], strict=True))
    read = READERS[reader]
    wanted = list(read(store_of(tmp_path / "s", inputs, labels, missing="keep", chunk=100)))
    assert all_same(list(read(stores["close"], **{bound: moment})), wanted)


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_sequences_transform_and_have_static_columns(stores: dict[str, store_spec.Store], reader: str):
    read = READERS[reader]
    store = stores["close"]
    plain = list(read(store, index=True, static=["length"]))
    assert [x.tobytes() for x in read(store, transform=lambda batch: batch.inputs)] == [
        b.inputs.tobytes() for b in plain
    ]
    for batch in plain:
        lengths = np.where(batch.index < 0, 0, store.lengths[batch.index])
        if reader.startswith("packed"):
            lengths = np.repeat(lengths, np.diff(batch.cu_seqlens)).reshape(batch.mask.shape)
        assert np.array_equal(batch.static[..., 0], lengths)


@hypothesis.given(batch_size=st.integers(1, 5), window=st.integers(1, 30), shuffle=st.booleans(), align=st.booleans())
def test_streams_without_their_last_batches_have_steps_in_every_lane(
    stores: dict[str, store_spec.Store], batch_size: int, window: int, **more: Any
):
    whole = list(stores["all"].streams(batch_size, window, mask=True, **more))
    some = list(stores["all"].streams(batch_size, window, mask=True, drop_last=True, **more))
    assert all_same(some, whole[: len(some)])
    if not more["align"]:
        assert all(batch.mask.all() for batch in some)
        assert all(not batch.mask.all() for batch in whole[len(some) :])


@pytest.mark.parametrize("reader", ["windows", "one by one", *READERS])
def test_only_the_array_of_the_targets_is_read(stores: dict[str, store_spec.Store], reader: str, spy: Any):
    rows_in = spy(Snapshot, "rows_in")
    make = {
        "windows": lambda store, **more: store.windows(4, **more).batches(8),
        "one by one": lambda store, **more: store.windows(4, **more),
    } | READERS
    for options, arrays in (({"targets": "inputs"}, {"inputs"}), ({}, {"inputs", "labels"})):
        assert list(make[reader](stores["close"], **options))
        assert {name for _, _, name, *_ in (call.args for call in rows_in.call_args_list)} == arrays


def test_targets_that_are_all_the_inputs_are_in_memory_once(stores: dict[str, store_spec.Store]):
    assert set(stores["close"].windows(4, targets="inputs").loaded) == {"inputs"}
    assert set(stores["close"].windows(4, targets=["close"]).loaded) == {"inputs", "labels"}
