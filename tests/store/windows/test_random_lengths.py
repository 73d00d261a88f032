"""Windows of random lengths: their rows and labels, which follow from the seed and the epoch alone."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store_spec.errors import WindowError
from store_spec.windows.shape import WindowOptions, WindowShape
from store_spec.windows.windows import Windows
from tests.store.oracle import assert_moments
from tests.store.window_oracle import (
    Written,
    all_same,
    rows_of_windows,
    shapes,
    unbatched,
    used_by,
    write_with_gaps,
)


@pytest.fixture(scope="module")
def with_gaps(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_with_gaps(tmp_path_factory.mktemp("gaps") / "s.zarr")


def pad_rows(rows: Any, count: int) -> Any:
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(shape=shapes(), least=st.integers(1, 9), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_windows_of_random_lengths_have_their_rows_and_the_next_label(by_step, shape, least, seed, epoch):
    shape = replace(shape, least_window=min(least, shape.window))
    windows = Windows(by_step.store, shape)
    full = [int(windows.index.real_rows(*windows.index.locate(number))) for number in range(len(windows))]
    for shuffle in (False, True):
        batches = windows.batches(7, shuffle=shuffle, seed=seed, epoch=epoch, index=True, memory="80kB")
        of_epoch, seen = batches.windows, []
        for batch in batches:
            for place, number in enumerate(batch.index.tolist()):
                real = int(batch.mask[place].sum())
                assert min(shape.least_window or 1, full[number]) <= real <= full[number]
                x, y = by_step.sequences[windows.index.locate(number)[0]]
                _, _, rows, labels = used_by(windows, number, real)
                assert np.array_equal(batch.inputs[place], pad_rows(x[rows], shape.window))
                wanted = y[labels[0]] if shape.label_steps is None else pad_rows(y[labels], shape.label_steps)
                assert np.array_equal(batch.labels[place], wanted)
                assert batch.mask[place].tolist() == [row < real for row in range(shape.window)]
                seen.append((number, real))
        assert sorted(number for number, _ in seen) == list(range(len(windows)))
        assert all(int(of_epoch.index.real_rows(*of_epoch.index.locate(at))) == real for at, real in seen)
    alone = of_epoch.__getitems__(list(range(len(windows))))
    assert all_same(unbatched(list(windows.batches(5, seed=seed, epoch=epoch, memory="80kB"))), alone)


def test_all_lengths_are_equally_frequent_and_others_in_each_epoch(by_step: Written):
    windows = by_step.store.windows((3, 10), target="last")
    lengths = [
        np.concatenate([batch.mask.sum(axis=1) for batch in windows.batches(64, epoch=epoch, memory="1MB")])
        for epoch in range(40)
    ]
    counts = np.bincount(np.concatenate(lengths), minlength=11)
    assert counts[:3].tolist() == [0, 0, 0]
    expected = len(windows) * 40 / 8
    assert (abs(counts[3:] - expected) < 5 * expected**0.5).all()
    same = np.mean([np.mean(one == two) for one, two in itertools.pairwise(lengths)])
    assert abs(same - 1 / 8) < 0.02


@given(shape=shapes(), missing=st.sampled_from(["keep", "skip"]))
def test_statistics_are_of_the_rows_of_all_phases(with_gaps: Written, shape: WindowShape, missing: Any):
    options = WindowOptions(missing=missing)
    windows = Windows(with_gaps.store, replace(shape, phase="random"), options)
    if not len(windows):
        return

    found = rows_of_windows(Windows(with_gaps.store, replace(shape, stride=1), options))
    for epoch in range(4):
        of_epoch = windows.of_epoch(0, epoch)
        assert all(one <= every for one, every in zip(rows_of_windows(of_epoch), found, strict=True))
        stats = of_epoch.stats()
        for moments, steps, array in zip((stats.inputs, stats.labels), found, (0, 1), strict=True):
            assert_moments(moments, np.array([with_gaps.sequences[at][array][row] for at, row in sorted(steps)]))


@given(shape=shapes(), least=st.integers(1, 9))
def test_windows_are_skipped_if_a_value_is_missing_at_some_length(with_gaps: Written, shape: WindowShape, least: int):
    shape = replace(shape, least_window=min(least, shape.window))
    windows = Windows(with_gaps.store, shape, WindowOptions(missing="skip"))
    every = Windows(with_gaps.store, shape)
    wanted = []
    for number in range(len(every)):
        sequence, start = every.index.locate(number)
        full = int(every.index.real_rows(sequence, start))
        x, y = with_gaps.sequences[sequence]
        rows = [used_by(every, number, real)[2:] for real in range(min(shape.least_window or 1, full), full + 1)]
        if not any(np.isnan(x[one]).any() or np.isnan(y[label]).any() for one, label in rows):
            wanted.append((sequence, start))
    assert [windows.index.locate(number) for number in range(len(windows))] == wanted


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ((0, 5), "the first length in window"),
        ((6, 5), "the first length in window"),
        ((2, 0), "window"),
        ((1, 2, 3), "window"),
    ],
)
def test_impossible_lengths_are_refused(by_step: Written, window: Any, said: str):
    with pytest.raises(WindowError, match=f"{said} is"):
        by_step.store.windows(window)
