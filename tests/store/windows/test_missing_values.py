"""Windows with missing values are left out on request: compared with loops over every value of every window."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import FormatError, WindowError
from store_spec.schema import LabelAxis
from store_spec.windows.shape import WindowOptions, WindowShape
from store_spec.windows.windows import Windows
from tests.store.damage import values
from tests.store.oracle import files, store_of
from tests.store.window_oracle import (
    Sample,
    Written,
    all_same,
    assert_windows_are,
    listed,
    same,
    selections,
    shapes,
    unbatched,
    write_with_gaps,
)


def whole(samples: list[Sample]) -> list[Sample]:
    """Return the samples without NaN."""
    return [sample for sample in samples if not any(np.isnan(array).any() for array in sample)]


@pytest.fixture(scope="module", params=[1, 8])
def by_step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_with_gaps(tmp_path_factory.mktemp("missing") / "step.zarr", "step", chunk=request.param)


@pytest.fixture(scope="module")
def by_sequence(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_with_gaps(tmp_path_factory.mktemp("missing") / "sequence.zarr", "sequence")


def assert_left(given: Written, selection: list[int], shape: WindowShape) -> None:
    windows = Windows(given.store.select(selection), shape, WindowOptions(missing="skip"))
    wanted = whole(listed([given.sequences[number] for number in selection], shape))
    assert_windows_are(windows, wanted, memory="60kB")


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(selection=selections(), shape=shapes())
def test_remaining_windows_are_those_without_nan(by_step: Written, selection: list[int], shape: WindowShape):
    assert_left(by_step, selection, shape)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(selection=selections(), shape=shapes(("sequence",)))
def test_sequences_whose_label_is_missing_have_no_windows(
    by_sequence: Written, selection: list[int], shape: WindowShape
):
    assert_left(by_sequence, selection, shape)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
def test_the_runs_in_a_store_equal_those_of_its_rows(tmp_path: Path, axis: LabelAxis):
    """Of inputs and of labels on every axis, in a store that is written at once or appended to."""
    given = write_with_gaps(tmp_path / "once.zarr", axis)
    for array, place in (("inputs", 0), ("labels", 1)):
        wanted: list[list[int]] = []
        before = 0
        for sequence in given.sequences:
            rows = sequence[place]
            rows = rows[None] if (array, axis) == ("labels", "sequence") else rows
            missing = [before + row for row in range(len(rows)) if np.isnan(rows[row]).any()]
            for row in missing:
                if wanted and wanted[-1][1] == row > before:
                    wanted[-1][1] = row + 1
                else:
                    wanted.append([row, row + 1])
            before += len(rows)
        assert len(wanted) > 1
        assert given.store.snapshot.missing(array).tolist() == wanted
    path = tmp_path / "parts.zarr"
    options: dict[str, Any] = {"label_axis": axis, "missing": "keep", "chunk": 128, "shard": 640, "time": "s"}
    with store_spec.create_store(path, inputs=("float64", (2,)), labels=("float64", (1,)), **options) as writer:
        for number, (x, y) in enumerate(given.sequences):
            writer.append(x, y, source=f"s{number}", time=np.arange(len(x)))
            if number % 4 == 1:
                writer.commit()
    assert files(path) == files(given.store.path)


def test_finding_windows_without_missing_values_reads_no_rows(by_step: Written, monkeypatch: pytest.MonkeyPatch):
    store = store_spec.open_store(by_step.store.path)
    monkeypatch.setattr(Snapshot, "rows_in", mock.Mock(side_effect=AssertionError("rows were read")))
    windows = store.windows(5, horizon=2, stride=2, missing="skip")
    assert 0 < len(windows) < len(store.windows(5, horizon=2, stride=2))
    assert [windows.index.locate(number) for number in (0, -1)]


@pytest.mark.parametrize("options", [{}, {"stride": 3, "sampling_rate": 2}, {"short": "pad"}])
def test_future_columns_count_too(by_step: Written, options: dict[str, Any]):
    windows = by_step.store.windows(4, horizon=3, lead=1, future=[0], missing="skip", **options)
    every = by_step.store.windows(4, horizon=3, lead=1, future=[0, 1], **options)
    wanted = [
        (*sample[:-1], sample[-1][:, :1]) for sample in every if not any(np.isnan(array).any() for array in sample)
    ]
    assert 0 < len(windows) == len(wanted)
    assert all_same([tuple(map(np.ascontiguousarray, sample)) for sample in windows], wanted)


def test_a_gap_in_an_unselected_feature_counts(by_step: Written):
    every = by_step.store.windows(5, missing="skip")
    one = by_step.store.windows(5, features=[1], missing="skip")
    assert len(one) == len(every) < len(by_step.store.windows(5))
    assert all(same((x[:, [1]], y), sample) for (x, y), sample in zip(every, one, strict=True))


@pytest.mark.parametrize("missing", ["keep", "skip"])
def test_a_store_without_missing_values_gives_all_windows(tmp_path: Path, missing: Any):
    store = store_of(tmp_path / "s", [np.arange(20, dtype="f4")], [np.zeros(20, "i1")])
    assert len(store.windows(5, missing=missing)) == 15


def test_unknown_policies_are_refused(by_step: Written):
    with pytest.raises(WindowError, match=r'missing=\'drop\'; it must be "keep" or "skip"'):
        by_step.store.windows(5, missing="drop")  # type: ignore[arg-type]


def test_phases_are_random_and_no_sequence_loses_all_of_its_windows(by_step: Written):
    store = by_step.store
    windows = store.windows(4, stride=7, phase="random", missing="skip")
    seen = set()
    for epoch in range(30):
        now = windows.of_epoch(3, epoch)
        assert ((np.diff(now.index.first) > 0) >= (np.diff(windows.index.first) > 0)).all()
        found = [now.index.locate(number) for number in range(len(now))]
        begin = now.index.start
        wanted = []
        for number, (x, y) in enumerate(by_step.sequences):
            for start in range(int(begin[number]), len(x) - 4, 7):
                touched = np.isnan(x[start : start + 4]).any() or np.isnan(y[start + 4]).any()
                wanted += [] if touched else [(number, start)]
        assert found == wanted
        seen |= set(found)
        batches = windows.batches(5, shuffle=True, seed=3, epoch=epoch, index=True)
        assert sorted(number for *_, numbers in batches for number in numbers.tolist()) == list(range(len(now)))
    plain = store.windows(4, missing="skip")
    assert len(windows) * 4 < len(seen) <= len(plain)


def test_weights_are_of_sequences_with_their_remaining_steps(by_step: Written):
    windows = by_step.store.windows(6, missing="skip")
    counts = np.diff(windows.index.first)
    some = counts >= 5
    weights = np.where(some, 1 / np.maximum(counts, 1), 0)
    found = [
        sequence
        for epoch in range(20)
        for *_, index in windows.batches(16, shuffle=True, weights=weights, epoch=epoch, index=True)
        for sequence in windows.index.locate_many(index)[0].tolist()
    ]
    times = np.bincount(found, minlength=len(counts))
    assert (times[~some] == 0).all()
    expected = len(found) / some.sum()
    assert (np.abs(times[some] - expected) < 6 * np.sqrt(expected)).all()


def test_windows_before_and_after_a_moment_and_of_a_share_of_the_steps(by_step: Written):
    for options in ({"before": "1970-01-01T00:00:20", "after": "1970-01-01T00:00:03"}, {"steps": (0.1, 0.7)}):
        every = by_step.store.windows(4, horizon=2, **options)
        windows = by_step.store.windows(4, horizon=2, missing="skip", **options)
        assert all_same(list(windows), whole(list(every)))
        assert 0 < len(windows) < len(every)


def test_an_overlay_uses_the_steps_of_its_windows(by_step: Written):
    windows = by_step.store.windows(4, horizon=2, missing="skip")
    labels = np.stack([y for _, y in windows])
    for each in windows.overlay(labels, np.arange(len(windows))):
        y = by_step.sequences[each.sequence][1]
        assert np.array_equal(each.mean[each.count > 0], y[each.count > 0])
        assert not each.count[np.isnan(y[:, 0])].any()


def test_mixing_is_measured_for_the_remaining_windows(by_step: Written):
    windows = by_step.store.windows(4, missing="skip")
    mixing = windows.mixing(12)
    assert mixing.windows == len(windows)
    batches = [index for *_, index in windows.batches(12, shuffle=True, index=True) if len(index) == 12]
    counts = [len({windows.index.locate(number)[0] for number in index.tolist()}) for index in batches]
    assert mixing.ours.sequences == pytest.approx(np.mean(counts))


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ({0: -1}, "the run -1 to 5 begins before row 0, where"),
        ({1: 3}, "the run 3 to 3 is empty"),
        ({1: 1}, "the run 3 to 1 is empty"),
        ({2: 4}, "the run 4 to 10 begins before row 5, where the one before ends"),
        ({3: 11}, "the run 9 to 11 ends after row 10, the end of its sequence"),
        ({5: 16}, "the run 14 to 16 ends after row 15, the end of its sequence"),
    ],
)
def test_impossible_runs_are_refused(tmp_path: Path, new: dict[int, int], text: str):
    x = np.arange(15, dtype="f8")
    x[[3, 4, 9, 14]] = np.nan
    store = store_of(tmp_path / "s", [x[:10], x[10:]], missing="keep")
    assert store.snapshot.missing("inputs").tolist() == [[3, 5], [9, 10], [14, 15]]
    values("missing_inputs/c.0.0", new)(tmp_path / "s")
    store = store_spec.open_store(tmp_path / "s")
    assert len(store.windows(3)) > 0  # without missing="skip" the tables are not read
    with pytest.raises(FormatError, match=text):
        store.windows(3, missing="skip")


def test_windows_of_another_selection_have_the_same_options(by_step: Written):
    windows = by_step.store.windows(6, missing="skip")
    other = windows.of(by_step.store.select([6, 2]), windows.normalize)
    wanted = whole(listed([by_step.sequences[6], by_step.sequences[2]], WindowShape(window=6)))
    assert all_same(list(other), wanted)


def reals(given: Written, windows: Windows, number: int, filled: dict[int, Any] | None = None) -> Any:
    """Return the mask of a window, value by value."""
    sequence, start = windows.index.locate(number)
    real = int(windows.index.real_rows(sequence, start))
    rows = start + np.arange(real) * windows.shape.sampling_rate
    found = np.zeros((windows.shape.window, 2), bool)
    found[:real] = ~np.isnan(given.sequences[sequence][0][rows])
    if filled is not None:
        found[:real] &= ~filled[sequence][rows]
    return found


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(shape=shapes(), take=st.sampled_from([None, [1], [1, 0]]), missing=st.sampled_from(["keep", "skip"]))
def test_a_mask_is_false_for_nan_and_for_padding(
    by_step: Written, shape: WindowShape, take: list[int] | None, missing: Any
):
    windows = Windows(by_step.store, shape, WindowOptions(value_mask=True, missing=missing, features=take))
    plain = Windows(by_step.store, shape, WindowOptions(missing=missing, features=take))
    samples = list(windows)
    assert len(samples) == len(plain)
    for number, (sample, (x, y, *_)) in enumerate(zip(samples, plain, strict=True)):
        mask = reals(by_step, windows, number)
        masks = [sample.mask] if shape.pads_inputs else []
        masks += [sample.label_mask] if shape.pads_labels else []
        assert same(sample, (x, y, *masks, np.ascontiguousarray(mask if take is None else mask[:, take])))
    assert_windows_are(windows, samples)


@pytest.mark.parametrize("normalize", ["stats", "sequence", "window"])
def test_a_mask_is_of_stored_values_and_precedes_later_arrays(by_step: Written, normalize: str):
    """A feature without any value has NaN as its statistics, which turn every value into NaN."""
    store = by_step.store
    stats: Any = store.stats() if normalize == "stats" else normalize
    windows = store.windows(4, horizon=2, value_mask=True, normalize=stats, future=[1], static=["length"])
    for number, (x, y, mask, future, static) in enumerate(windows):
        assert np.array_equal(mask, reals(by_step, windows, number))
        assert np.array_equal(np.isnan(x), ~mask)
        assert (y.shape, future.shape, static.shape) == ((2, 1), (2, 1), (1,))
    assert all_same(unbatched(list(windows.batches(5))), list(windows))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, dict[int, Any]]:
    """A store with missing values and a mask of filled ones; labels are of whole sequences."""
    given = write_with_gaps(tmp_path_factory.mktemp("both") / "keep.zarr", "sequence")
    rng = np.random.default_rng(1)
    inputs, labels = (list(each) for each in zip(*given.sequences, strict=True))
    filled = {number: (rng.random(x.shape) < 0.2) & ~np.isnan(x) for number, x in enumerate(inputs)}
    more = [{"filled": filled[number]} for number in filled]
    options: dict[str, Any] = {"label_axis": "sequence", "missing": "keep", "filled": True, "chunk": 128, "shard": 640}
    store = store_of(given.store.path.with_name("both.zarr"), inputs, labels, more=more, **options)
    assert store_spec.verify(store.path) == []
    return Written(given.sequences, store), filled


@pytest.mark.parametrize("short", ["drop", "pad"])
def test_a_mask_is_false_for_filled_values(both: tuple[Written, dict[int, Any]], short: Any):
    given, filled = both
    windows = given.store.windows(9, target="sequence", stride=2, value_mask=True, short=short)
    for number, sample in enumerate(windows):
        assert np.array_equal(sample.value_mask, reals(given, windows, number, filled))
    assert all_same(unbatched(list(windows.batches(5))), list(windows))
