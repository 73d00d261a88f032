"""Stores of every release stay readable; `test_interop` reads them with other software."""

from __future__ import annotations

from dataclasses import replace

import pytest

import store_spec
from store_spec.format.moments import moments
from store_spec.schema import MOMENTS
from tests.store.make_golden import STORES
from tests.store.oracle import assert_holds, files, same

every_store = pytest.mark.parametrize("golden", STORES, ids=lambda golden: golden.name)


@every_store
def test_golden_stores_have_the_rows_of_their_formula(golden):
    store = store_spec.open_store(golden.path)
    assert store_spec.verify(golden.path) == []
    assert_holds(store, golden.live)
    assert (store.schema.inputs, replace(store.schema.labels, classes=None)) == (golden.inputs, golden.labels)
    named = golden.classes[-1] or [None] * golden.labels.features
    assert [
        None if names is None else list(names) for names in store.schema.labels.classes or [None] * len(named)
    ] == named
    assert (store.schema.label_axis, store.schema.missing) == (golden.label_axis, golden.missing)
    assert store.schema.columns == golden.columns
    assert store.schema.time == golden.time


@every_store
def test_golden_statistics_are_those_of_the_formula(golden):
    store = store_spec.open_store(golden.path)
    assert (store.counts.sequences, len(store)) == (len(golden.sequences()), len(golden.live))
    for number, one in enumerate(golden.sequences()):
        for name, rows in (("inputs", one.inputs), ("labels", one.labels)):
            expected = moments(rows[None] if name == "labels" and golden.label_axis == "sequence" else rows)
            for moment in MOMENTS:
                assert same(store.snapshot.table(f"stats/{name}_{moment}")[number], getattr(expected, moment))


@every_store
def test_the_current_writer_writes_the_bytes_of_the_golden_stores(golden, tmp_path):
    golden.write(tmp_path / "again.zarr")
    assert files(tmp_path / "again.zarr") == files(golden.path)


def test_golden_store_that_was_appended_to_equals_one_that_was_written_in_one_commit(tmp_path):
    once = [golden for golden in STORES if len(golden.commits) > 1 and not golden.retire]
    assert once
    for golden in once:
        path = tmp_path / f"{golden.name}.zarr"
        replace(golden, commits=golden.commits[-1:], classes=golden.classes[-1:]).write(path)
        assert files(path) == files(golden.path)
