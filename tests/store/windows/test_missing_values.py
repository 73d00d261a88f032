"""Windows with missing values are left out on request; `test_any_options` compares them with loops."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import FormatError, WindowError
from store_spec.windows.shape import WindowShape
from tests.store.damage import values
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    Sample,
    Written,
    all_same,
    listed,
    write_with_gaps,
)


def whole(samples: list[Sample]) -> list[Sample]:
    """Return the samples without NaN."""
    return [sample for sample in samples if not any(np.isnan(array).any() for array in sample)]


@pytest.fixture(scope="module")
def by_step(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_with_gaps(tmp_path_factory.mktemp("missing") / "step.zarr")


def test_finding_windows_without_missing_values_reads_no_rows(by_step: Written, monkeypatch: pytest.MonkeyPatch):
    store = store_spec.open_store(by_step.store.path)
    monkeypatch.setattr(Snapshot, "rows_in", mock.Mock(side_effect=AssertionError("rows were read")))
    windows = store.windows(5, horizon=2, stride=2, missing="skip")
    assert 0 < len(windows) < len(store.windows(5, horizon=2, stride=2))
    assert [windows.index.locate(number) for number in (0, -1)]


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
