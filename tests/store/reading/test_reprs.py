"""The `repr` of objects is short and readable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store_spec import Rows, Schema, Store, open_store
from store_spec.format.moments import moments
from store_spec.reading.statistics import Statistics
from store_spec.windows.mixing import measure
from tests.store.oracle import store_of

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    inputs = [np.arange(20 * number, dtype=np.float32).reshape(-1, 2) for number in range(1, 5)]
    rows = Rows(np.dtype("float32"), (2,), (HOSTILE, "b\x1b[2J"))
    return store_of(tmp_path / f"{HOSTILE}.zarr", inputs, [x[:, :1] for x in inputs], inputs=rows)


def test_options_of_windows_are_shown_where_they_are_not_as_usual(tmp_path: Path):
    rows, more = Rows(np.dtype("float32"), (2,), ("a", "b")), [{"time": np.arange(9), "columns": {"age": 3}}]
    options: dict[str, Any] = {"inputs": rows, "columns": {"age": "int64"}, "time": "s", "missing": "keep"}
    store = store_of(tmp_path / "t", [np.ones((9, 2), "f4")], [np.ones(9, "f4")], more=more, **options)
    assert repr(store.windows(3)).endswith(", phase='first')>")
    windows = store.windows(
        3, missing="skip", value_mask=True, features=["b"], static=["age"], normalize=store.stats(), before="2020-01-01"
    )
    given = "normalize=Scaler, features=['b'], static=['age'], before='2020-01-01', value_mask=True, missing='skip'>"
    assert repr(windows).endswith(given)


def test_batches_show_their_position(store: Store):
    windows = store.windows(8)
    batches = windows.batches(16, shuffle=True, seed=3, epoch=2)
    next(batches)
    assert repr(batches).startswith("<5 batches of 16 windows, 1 taken, shuffled, seed 3, epoch 2: <68 windows of ")
    assert ", in order, rank 1 of 2: " in repr(windows.batches(16, rank=1, world_size=2))
    padded = store.padded(2)
    next(padded)
    assert re.match(
        r"<2 batches of up to 2 sequences with 16.7 % padding, 1 taken, in order: <seqzarr store ", repr(padded)
    )
    assert " of up to 90 padded steps with " in repr(store.padded(max_steps=90, shuffle=True, seed=1))
    streams = store.streams(2, 10)
    assert re.match(
        r"<[0-9]+ batches of 2 lanes of 10 steps with [0-9.]+ % padding, 0 taken, in order: <seq", repr(streams)
    )


def test_a_writer_reports_uncommitted_sequences(store: Store):
    rows = np.ones((3, 2), np.float32)
    with open_store(store.path, "a") as writer:
        writer.append(rows, rows[:, :1], source="new")
        assert repr(writer) == "<seqzarr writer: 5 sequences, 1 of them not committed yet>"


def test_statistics_of_many_features_are_short():
    one = Statistics(inputs=moments(np.arange(4000.0).reshape(2, 2000)), labels=moments(np.array([1.0, 4.0])))
    assert repr(one) == (
        "Statistics(inputs=Moments(count=[2, 2, 2, ..., 2, 2, 2], "
        "mean=[1000, 1001, 1002, ..., 2997, 2998, 2999], std=[1000, 1000, 1000, ..., 1000, 1000, 1000], "
        "min=[0, 1, 2, ..., 1997, 1998, 1999], max=[2000, 2001, 2002, ..., 3997, 3998, 3999]), "
        "labels=Moments(count=[2], mean=[2.5], std=[1.5], min=[1], max=[4]))"
    )


def test_a_schema_of_many_names_is_short():
    rows = Rows(np.dtype("float32"), (500,), tuple(f"n{number}" for number in range(500)))
    assert repr(rows) == (
        "Rows('float32', (500,), names=('n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', ..., 'n499'; 500 in all))"
    )
    assert repr(Rows(np.dtype("int8"), ())) == "Rows('int8', ())"
    assert eval(repr(Rows(np.dtype("int8"), (2,), ("a", "b")))) == Rows(np.dtype("int8"), (2,), ("a", "b"))  # noqa: S307
    assert len(repr(Schema.plan(rows, rows))) < 500


def test_reprs_of_other_objects_are_short(store: Store):
    windows = store.windows(8)
    assert repr(windows.index).startswith("<index of 68 windows of 4 sequences: WindowShape(window=8, ")
    assert repr(store.snapshot) == f"<snapshot of {HOSTILE}.zarr: 4 sequences, 100 steps>"
    assert re.fullmatch(
        r"<mixing of 68 windows in batches of 8, 1 pools: a batch has [0-9]+ % of the sequences of a permutation's>",
        repr(measure(windows, 8)),
    )
