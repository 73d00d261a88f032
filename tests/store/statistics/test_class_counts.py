"""Class counts and weights, compared with counting by hand."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from store_spec.reading import classes as classes_module
from store_spec.reading import read_ranges as read_ranges_module
from tests.store.oracle import store_of

Axis = Any


def write_labels(path: Path, labels: list[NDArray[Any]], axis: Axis, /, **options: Any) -> store_spec.Store:
    """Write sequences of one feature with these labels."""
    inputs = [np.zeros((len(each) if axis == "step" else 3, 1), "float32") for each in labels]
    return store_of(path, inputs, labels, label_axis=axis, **options)


@settings(max_examples=10, deadline=None)
@given(
    axis=st.sampled_from(["step", "sequence", "own"]),
    dtype=st.sampled_from(["int8", "uint64", "bool", "int64", "float16", "float32", "float64"]),
    shape=st.sampled_from([(), (1,), (2, 1)]),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    block=st.sampled_from([1, 64, 10**6]),
    data=st.data(),
)
def test_rows_of_each_class_are_counted(tmp_path_factory, axis, dtype, shape, lengths, block, data):
    """In sequences of many blocks, and in sequences that are selected twice."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    high = 2 if dtype == "bool" else 100
    lengths[0] += 1  # its first element gives the shape of a row
    labels = [
        rng.integers(0, high, shape if axis == "sequence" else (length, *shape)).astype(dtype)
        if rng.random() < 0.5
        else np.ones(shape if axis == "sequence" else (length, *shape), dtype)
        for length in lengths
    ]
    store = write_labels(tmp_path_factory.mktemp("classes") / "s.zarr", labels, axis, chunk=32, shard=96)
    some = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=5) | st.just(list(range(len(lengths)))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_ranges_module, "BLOCK_BYTES", block)
        counts = store.select(some).class_counts()
    wanted = Counter(value for number in some for value in labels[number].ravel().tolist())
    assert [*zip(counts.values.tolist(), counts.rows.tolist(), strict=True)] == sorted(wanted.items())
    assert counts.values.dtype == dtype
    assert len(counts) == len(counts.values)


def test_one_of_several_targets_has_to_be_named(tmp_path: Path):
    rows = store_spec.Rows(np.dtype("int64"), (2,), ("gait", "place"))
    store = write_labels(tmp_path / "s", [np.array([[0, 5], [0, 6], [1, 5]])], "step", labels=rows)
    assert store.class_counts("gait").rows.tolist() == [2, 1]
    assert store.class_counts(1).values.tolist() == store.class_counts(-1).values.tolist() == [5, 6]
    for target in (None, "pace", 2):
        with pytest.raises(WindowError, match=rf"target: {target!r}, but there are 2 \(0 to 1\), named gait, place"):
            store.class_counts(target)
    with pytest.raises(WindowError, match="target has True, as a mask has"):
        store.class_counts(True)


def test_balanced_weights_are_those_of_scikit_learn(tmp_path: Path):
    """n / (k * count): all classes have the same total weight."""
    labels = [np.int8(each) for each in (3, 3, 3, 3, 3, 3, 7, 7, 9)]
    store = write_labels(tmp_path / "s.zarr", [np.asarray(each) for each in labels], "sequence")
    counts, weights = store.class_counts(), store.sequence_weights()
    assert counts.class_weights().tolist() == [9 / (3 * 6), 9 / (3 * 2), 9 / 3]
    assert weights.tolist() == [0.5] * 6 + [1.5] * 2 + [3.0]
    np.testing.assert_allclose([weights[:6].sum(), weights[6:8].sum(), weights[8:].sum()], 3)
    assert store.select([8, 0, 0]).sequence_weights().tolist() == [1.5, 0.75, 0.75]
    assert store.select([]).sequence_weights().tolist() == []
    assert store.select([]).class_counts().class_weights().tolist() == []


def test_weights_of_unknown_classes_are_refused(tmp_path: Path):
    images = write_labels(tmp_path / "d.zarr", [np.zeros((2, 1), "int8")] * 2, "sequence")
    with pytest.raises(WindowError, match=r"a label of shape \(2, 1\) is not one class"):
        images.sequence_weights()
    by_step = write_labels(tmp_path / "b.zarr", [np.arange(9)], "step")
    with pytest.raises(WindowError, match="labels on the step axis, so a sequence has no class of its own"):
        by_step.sequence_weights()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classes_module, "MOST_CLASSES", 8)
        with pytest.raises(WindowError, match="more than 8 different values; they are not classes"):
            by_step.class_counts()
    floats = write_labels(tmp_path / "c.zarr", [np.array([0, 1, 0.5])], "step")
    message = r"labels are float64, and hold 0.5, which is not a class; .* when the store is built \(--classes 0,1\)"
    with pytest.raises(WindowError, match=message):
        floats.class_counts()
    with pytest.raises(WindowError, match=message):
        write_labels(tmp_path / "e.zarr", [np.asarray(0.5)], "sequence").sequence_weights()
    waves = write_labels(tmp_path / "f.zarr", [np.zeros(3, "complex64")], "step")
    none = store_of(tmp_path / "none", [np.zeros(5)], [np.zeros(0)], label_axis="own")
    for call in (none.class_counts, none.sequence_weights):
        with pytest.raises(WindowError, match="this store has no labels, so there are no classes"):
            call()
    with pytest.raises(WindowError, match="labels are complex64; classes are whole numbers"):
        waves.class_counts()


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_missing_labels_are_not_counted_and_have_no_weight(tmp_path: Path, dtype: str):
    """NaN is in two sequences; one of them has only NaN."""
    labels = [np.array(each, dtype) for each in ([[0, 1], [np.nan, 1]], [[np.nan, 2]], [[3, np.nan]])]
    store = write_labels(tmp_path / "s.zarr", labels, "step", missing="keep")
    counts = store.class_counts(0)
    assert (counts.values.tolist(), counts.rows.tolist()) == ([0, 3], [1, 1])
    assert store.class_counts(1).rows.tolist() == [2, 1]
    by_sequence = write_labels(
        tmp_path / "t.zarr", [np.asarray(each, np.float32) for each in (1, 1, 2, np.nan)], "sequence", missing="keep"
    )
    with pytest.raises(WindowError, match=r"the label of 1 of 4 sequences is missing \(NaN\)"):
        by_sequence.sequence_weights()
    assert by_sequence.select([0, 1, 2]).sequence_weights().tolist() == [0.75, 0.75, 1.5]
