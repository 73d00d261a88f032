"""Stores of every release stay readable by this reader and by any other Zarr reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import store_spec
from store_spec.format.moments import moments
from store_spec.schema import MOMENTS
from tests.store.make_golden import GOLDEN, STORES, Golden
from tests.store.oracle import files

every_store = pytest.mark.parametrize("golden", STORES, ids=lambda golden: golden.name)


def path_of(golden: Golden) -> Path:
    return GOLDEN / f"{golden.name}.zarr"


def assert_same(found, expected):
    """Check that dtype, shape and every bit are equal, including those of NaN."""
    expected = np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert np.ascontiguousarray(found).tobytes() == expected.tobytes()


@every_store
def test_golden_stores_have_the_rows_of_their_formula(golden):
    store = store_spec.open_store(path_of(golden))
    assert store_spec.verify(path_of(golden)) == []
    sequences = golden.live
    assert len(store) == len(sequences)
    assert (store.schema.inputs, replace(store.schema.labels, classes=None)) == (golden.inputs, golden.labels)
    named = golden.classes[-1] or [None] * golden.labels.features
    assert [
        None if names is None else list(names) for names in store.schema.labels.classes or [None] * len(named)
    ] == named
    assert (store.schema.label_axis, store.schema.missing) == (golden.label_axis, golden.missing)
    assert list(store.sources) == [source for source, _, _ in sequences]
    assert store.schema.columns == golden.columns
    assert store.schema.time == golden.time
    live = [number for number in range(len(golden.sequences())) if number not in golden.gone]
    for column in golden.columns:
        expected = [repr(golden.columns_of(number)[column.name]) for number in live]
        assert list(map(repr, store.sequences[column.name].tolist())) == expected
    for number, (_, inputs, labels) in enumerate(sequences):
        found_inputs, found_labels = store[number]
        assert_same(found_inputs, inputs)
        assert_same(np.asarray(found_labels), labels)
        if golden.filled is not None:
            first = int(store.starts[number])
            found = store.snapshot.rows("filled", first, first + len(inputs))
            assert_same(found, golden.filled()[live[number]])
        if golden.time is not None:
            assert_same(store.times(number).view(np.int64), golden.times_of(live[number]))


@every_store
def test_golden_store_is_read_by_plain_zarr_through_its_offsets_alone(golden):
    group: Any = zarr.open_group(path_of(golden), mode="r")
    offsets = group["offsets"][:]
    label_offsets = {
        "step": lambda: offsets,
        "sequence": lambda: np.arange(len(offsets)),
        "own": lambda: group["label_offsets"][:],
    }[golden.label_axis]()
    sequences = golden.sequences()
    assert len(offsets) == len(sequences) + 1
    for number, (source, inputs, labels) in enumerate(sequences):
        assert_same(group["inputs"][offsets[number] : offsets[number + 1]], inputs)
        found = group["labels"][label_offsets[number] : label_offsets[number + 1]]
        assert_same(found[0] if golden.label_axis == "sequence" else found, labels)
        assert group["sequences/source"][number] == source
        if golden.filled is not None:
            assert_same(group["filled"][offsets[number] : offsets[number + 1]], golden.filled()[number])
        if golden.time is not None:
            assert_same(group["time"][offsets[number] : offsets[number + 1]], golden.times_of(number))
        for name, value in golden.columns_of(number).items():
            assert repr(group[f"sequences/{name}"][number].item()) == repr(value)


@every_store
def test_golden_statistics_are_those_of_the_formula(golden):
    store = store_spec.open_store(path_of(golden))
    assert (store.counts.sequences, len(store)) == (len(golden.sequences()), len(golden.live))
    for number, (_, inputs, labels) in enumerate(golden.sequences()):
        for name, rows in (("inputs", inputs), ("labels", labels)):
            expected = moments(rows[None] if name == "labels" and golden.label_axis == "sequence" else rows)
            for moment in MOMENTS:
                assert_same(store.snapshot.table(f"stats/{name}_{moment}")[number], getattr(expected, moment))


@every_store
def test_the_current_writer_writes_the_bytes_of_the_golden_stores(golden, tmp_path):
    golden.write(tmp_path / "again.zarr")
    assert files(tmp_path / "again.zarr") == files(path_of(golden))


def test_golden_store_that_was_appended_to_equals_one_that_was_written_in_one_commit(tmp_path):
    once = [golden for golden in STORES if len(golden.commits) > 1 and not golden.retire]
    assert once
    for golden in once:
        path = tmp_path / f"{golden.name}.zarr"
        path.parent.mkdir(exist_ok=True)
        single = {name: getattr(golden, name) for name in golden.__slots__} | {"commits": golden.commits[-1:]}
        single |= {"classes": golden.classes[-1:]}
        Golden(**single).write(path)
        assert files(path) == files(path_of(golden))
