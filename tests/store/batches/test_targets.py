"""Targets, dtypes and moments that are chosen when reading; `test_any_options` compares their values with loops."""

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
from tests.store.kinds import KINDS, begin
from tests.store.oracle import store_of
from tests.store.window_oracle import all_same


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
def test_streams_without_their_last_batches_have_steps_in_every_lane(
    stores: dict[str, store_spec.Store], batch_size: int, window: int, **more: Any
):
    whole = list(stores["steps"].streams(batch_size, window, mask=True, **more))
    some = list(stores["steps"].streams(batch_size, window, mask=True, drop_last=True, **more))
    assert all_same(some, whole[: len(some)])
    if not more["align"]:
        assert all(batch.mask.all() for batch in some)
        assert all(not batch.mask.all() for batch in whole[len(some) :])


@pytest.mark.parametrize("reader", ["one by one", *KINDS])
def test_only_the_array_of_the_targets_is_read(stores: dict[str, store_spec.Store], reader: str, spy: Any):
    rows_in, store = spy(Snapshot, "rows_in"), stores["steps"]
    cases: list[tuple[dict[str, Any], set[str]]] = [({"targets": "inputs"}, {"inputs"}), ({}, {"inputs", "labels"})]
    for options, arrays in cases:
        assert list(store.windows(4, **options) if reader == "one by one" else begin(store, reader, **options))
        assert {name for _, _, name, *_ in (call.args for call in rows_in.call_args_list)} == arrays


def test_targets_that_are_all_the_inputs_are_in_memory_once(stores: dict[str, store_spec.Store]):
    assert set(stores["steps"].windows(4, targets="inputs").loaded) == {"inputs"}
    assert set(stores["steps"].windows(4, targets=["high"]).loaded) == {"inputs", "labels"}
