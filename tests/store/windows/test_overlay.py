"""Predictions averaged by step, compared with a loop over windows and steps."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from store_spec.errors import SequenceIndexError, WindowError
from store_spec.windows.windows import Windows
from tests.store.oracle import same, store_of
from tests.store.window_oracle import LENGTHS, Written, selections, shapes, used_by


def overlay_by_loops(windows: Windows, predictions: NDArray[Any], index: list[int]) -> dict[int, Any]:
    """Return mean and count of each sequence of the store, window by window and step by step.

    Predictions for whole sequences are averaged as if these had one step.
    """
    found: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
    shape = windows.shape
    tail = predictions.shape[1 if shape.label_steps is None else 2 :]
    for number, predicted in zip(index, predictions, strict=True):
        at, _, _, steps = used_by(windows, number)
        sequence = int(windows.store.selection[at])
        length = LENGTHS[sequence]
        if shape.target == "sequence":
            steps, length = [0], 1
        if shape.label_steps is None:
            predicted = predicted[None]  # noqa: PLW2901  # as if it had steps
        if sequence not in found:
            found[sequence] = np.zeros((length, *tail)), np.zeros(length, np.int64)
        for step, one in zip(steps, predicted, strict=False):
            found[sequence][0][step] += one
            found[sequence][1][step] += 1
    means = {}
    for sequence, (total, count) in found.items():
        mean = np.full(total.shape, np.nan)
        for step, times in enumerate(count.tolist()):
            if times:
                mean[step] = total[step] / times
        means[sequence] = mean, count
    return means


@given(
    axis=st.sampled_from(["step", "sequence"]),
    selection=selections(),
    shape=shapes(),
    tail=st.sampled_from([(), (1,), (2, 3)]),
    dtype=st.sampled_from(["float32", "float64", "int16", "bool"]),
    data=st.data(),
)
def test_an_overlay_equals_a_loop(by_axis, axis, selection, shape, tail, dtype, data):
    shape = shape if axis == "step" else replace(shape, target="sequence")
    windows = Windows(by_axis[axis].store.select(selection), shape)
    some = st.lists(st.integers(0, len(windows) - 1), max_size=12) if len(windows) else st.just([])
    index = data.draw(some | st.just(list(range(len(windows)))))
    steps = () if shape.label_steps is None else (shape.label_steps,)
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    predictions = (rng.normal(size=(len(index), *steps, *tail)) * 9).astype(dtype)
    overlay = windows.overlay(predictions, np.array(index, np.int64))
    wanted = overlay_by_loops(windows, predictions, index)
    assert [int(windows.store.selection[each.sequence]) for each in overlay] == sorted(wanted)
    assert len(overlay) == len(wanted)
    for each in overlay:
        mean, count = wanted[int(windows.store.selection[each.sequence])]
        assert same(each.mean, mean)
        assert same(each.count, count)
        assert overlay[each.source] is overlay[each.source, each.part] is each
        assert each.source == windows.store.sources[each.sequence]
        assert each.time is None  # of a store without times


@pytest.mark.parametrize("how", ["sequence", "window", "standard"])
def test_an_overlay_of_labels_equals_the_labels(tmp_path: Path, how: Any):
    """Normalised, shuffled, in batches; values of overlapping windows agree."""
    rng = np.random.default_rng(0)
    store = store_of(tmp_path / "s.zarr", [rng.normal(50, 9, (12 + number, 2)) for number in range(4)], sources="aabb")
    windows = store.windows(4, horizon=3, normalize=store.stats() if how == "standard" else how)
    batches = list(windows.batches(5, shuffle=True, index=True))
    labels, index = (np.concatenate([batch[place] for batch in batches]) for place in (1, 2))
    overlay = windows.overlay(labels, index, inverse=True)
    assert len(overlay) == 4
    for each, (x, y) in zip(overlay, store, strict=True):
        assert np.isnan(each.mean[:4]).all()
        np.testing.assert_allclose(each.mean[4:], y[4:], rtol=1e-12)
        assert each.count.tolist() == [0, 0, 0, 0, 1, 2, *[3] * (len(x) - 8), 2, 1]
    assert overlay["b", 1].part == 1
    with pytest.raises(SequenceIndexError, match=r"2 of the 4 sequences .* are 'b'; give .* overlay\[source, part\]"):
        overlay["b"]
    for name in ("c", ("b", 2)):
        with pytest.raises(SequenceIndexError, match="0 of the 4 sequences with predictions are"):
            overlay[name]
    assert repr(overlay) == "<predictions for 38 of 54 steps of 4 sequences>"
    one = next(iter(overlay))
    seen = f"{np.count_nonzero(one.count)} of {len(one.count)} steps of {one.source!r}, part {one.part}"
    assert repr(one) == f"<predictions for {seen}: mean {one.mean.shape} float64>"
    assert (
        repr(windows.overlay(np.zeros((0, 3, 2)), np.zeros(0, int))) == "<predictions for 0 of 0 steps of 0 sequences>"
    )


@pytest.mark.parametrize(
    ("window", "options", "reason"),
    [(4, {"stride": 3, "phase": "random"}, 'phase="random"'), ((2, 6), {"horizon": 3}, "random lengths")],
)
def test_windows_are_looked_up_by_number_in_their_own_epoch(by_step: Written, window: Any, options: Any, reason: str):
    """In another one, the numbers are of other steps."""
    windows = by_step.store.windows(window, normalize="sequence", **options)
    batches = windows.batches(50, epoch=3, shuffle=True, index=True)
    y, index = map(np.concatenate, zip(*[(batch.labels, batch.index) for batch in batches], strict=True))
    asked: list[Callable[[Windows], Any]] = [
        lambda of: of.overlay(y, index, inverse=True),
        lambda of: of.locate(index),
        lambda of: of.scaler(index),
    ]
    for of in (batches.windows, pickle.loads(pickle.dumps(batches.windows))):
        overlay, *_ = [ask(of) for ask in asked]
        for each in overlay:
            labels = by_step.sequences[each.sequence][1]
            np.testing.assert_allclose(each.mean[each.count > 0], labels[each.count > 0], rtol=1e-12)
    for of in (windows, pickle.loads(pickle.dumps(windows))):
        for ask in asked:
            with pytest.raises(WindowError, match=f"with {reason} the numbers of windows differ between epochs"):
                ask(of)


@pytest.mark.parametrize("number", [0, slice(3), ("a",), None])
def test_predictions_are_matched_by_name(by_step: Written, number: Any):
    overlay = by_step.store.windows(4).overlay(np.zeros((2, 1, 1)), [0, 1])
    with pytest.raises(SequenceIndexError, match=r"0 of the .* are .*; give a name as overlay\[source\]"):
        overlay[number]


@pytest.mark.parametrize(
    ("target", "shape", "index", "message"),
    [
        ("future", (3, 1), [0, 1, 2], r'shape \(3, 1\) .* target="future" needs numbers of shape \(3, 2, ...\)'),
        ("future", (2, 2, 1), [0, 1, 2], r"shape \(2, 2, 1\) and float64, with an index of shape \(3,\)"),
        ("aligned", (3, 2, 1), [0, 1, 2], r"needs numbers of shape \(3, 4, ...\)"),
        ("last", (2, 1), [0, 1, 2], r"needs numbers of shape \(3, ...\)"),
        ("last", (), [0], r"shape \(\)"),
        ("last", (1, 1), [[0]], r"an index of shape \(1, 1\)"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_with_both_shapes(by_step, target, shape, index, message):
    with pytest.raises(WindowError, match=message):
        by_step.store.windows(4, horizon=2, target=target).overlay(np.zeros(shape), index)


def test_impossible_overlays_are_refused(by_step: Written):
    windows = by_step.store.windows(4)
    with pytest.raises(WindowError, match="are not normalised"):
        windows.overlay(np.zeros((1, 1, 1)), [0], inverse=True)
    with pytest.raises(SequenceIndexError, match="window 10,000 asked for"):
        windows.overlay(np.zeros((1, 1, 1)), [10_000])
    for wrong, dtype in ((np.zeros((1, 1, 1), complex), "complex128"), (np.ma.masked_all((1, 1, 1)), "object")):
        with pytest.raises(WindowError, match=dtype):
            windows.overlay(wrong, [0])


@pytest.mark.parametrize("target", ["future", "last", "aligned", "sequence"])
def test_times_of_steps_are_stored_with_rows(known: Any, target: Any):
    store = known("float64", "sequence" if target == "sequence" else "step").store
    windows = store.select([5, 2]).windows(3, target=target)
    shape = () if windows.shape.label_steps is None else (windows.shape.label_steps,)
    overlay = windows.overlay(np.zeros((len(windows), *shape)), np.arange(len(windows)))
    assert [each.source for each in overlay] == ["s2", "s5"]
    for each, number in zip(overlay, (2, 5), strict=True):
        if target == "sequence":
            assert each.time is None
        else:
            assert np.array_equal(each.time, store.times(number))
            assert len(each.time) == len(each.count)
