"""Windows by number, and options besides their shape, against plain loops over the arrays that were written."""

import datetime as dt
import itertools
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store_spec.errors import SequenceIndexError, WindowError
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    Written,
    same,
    write_numbered,
)


def test_samples_share_no_memory(by_step: Written):
    """Changing a sample in place changes no other."""
    store = by_step.store
    first, second = store.windows(4).__getitems__([0, 1])
    before = second[0].copy()
    first[0][:] = 99
    assert np.array_equal(second[0], before)


@pytest.mark.parametrize("numbers", [[10**6], [0, -(10**6)]])
def test_a_number_beyond_the_last_window_is_an_index_error_that_names_both(by_step: Written, numbers: list[int]):
    windows = by_step.store.windows(5)
    with pytest.raises(SequenceIndexError, match=rf"step\.zarr: window -?1,000,000 .* {len(windows):,}"):
        windows.__getitems__(numbers)
    with pytest.raises(SequenceIndexError, match=f"window {2**63:,} asked for, but there are {len(windows):,}"):
        windows.locate(np.array([0, 2**63], np.uint64))
    for number in (len(windows), -len(windows) - 1):
        with pytest.raises(IndexError):
            windows[number]


@pytest.mark.parametrize("numbers", [np.ma.masked_equal([0, 1, 2], 1), [[0], [1, 2]]])
def test_numbers_of_windows_that_are_masked_or_ragged_are_refused(by_step: Written, numbers: Any):
    windows = by_step.store.windows(5, normalize="window")
    predictions = np.zeros((np.size(numbers) if isinstance(numbers, np.ndarray) else 1, 1, 1))
    for ask in (windows.__getitems__, windows.locate, windows.scaler, partial(windows.overlay, predictions)):
        with pytest.raises(SequenceIndexError, match=r"(?s)step\.zarr: window .* asked for"):
            ask(numbers)


@pytest.mark.parametrize("number", ["a", 1.0, True, None, 2**70, (0, 1), (0, [1, 2])])
def test_invalid_numbers_of_windows_are_refused(by_step: Written, number: Any):
    windows = by_step.store.windows(5)
    message = (
        rf"step\.zarr: window {re.escape(repr([number]))} asked for, but there are {len(windows):,}, by whole numbers"
    )
    with pytest.raises(SequenceIndexError, match=message):
        windows[number]


@pytest.mark.parametrize(
    ("axis", "target", "message"),
    [
        ("step", "sequence", 'use target="last"'),
        ("sequence", "future", 'use target="sequence"'),
        ("sequence", "last", 'use target="sequence"'),
        ("own", "sequence", "'own' axis"),
        ("own", "future", "'own' axis"),
    ],
)
def test_a_target_that_the_label_axis_cannot_give_is_refused(tmp_path: Path, axis: Any, target: Any, message: str):
    store = write_numbered(tmp_path / "s.zarr", axis, chunk=8).store
    with pytest.raises(WindowError, match=message):
        store.windows(3, target=target)


def test_a_place_has_the_time_of_its_step(tmp_path: Path):
    begin = np.datetime64("2020-01-01", "s")
    times = [{"time": begin + np.arange(length)} for length in (9, 30)]
    store = store_of(tmp_path / "s", [np.zeros(9, "i1"), np.zeros(30, "i1")], more=times, time="s")
    windows = store[::-1].windows(4, stride=3)
    place = windows.locate(7)
    sequence, step = windows.index.locate(7)
    assert place == (windows.store.sources[sequence], 0, sequence, step, begin + np.timedelta64(int(step), "s"))
    several = windows.locate([[7, 0]])
    assert several.sequence.tolist() == [[sequence, windows.index.locate(0)[0]]]
    assert several.time.tolist() == [[dt.datetime.fromisoformat(str(one)) for one in several.time[0]]]


def test_a_slice_of_windows_is_a_list_of_them(by_step: Written):
    windows = by_step.store.windows(4)
    assert all(same(a, b) for a, b in zip(windows[3:9:2], [windows[3], windows[5], windows[7]], strict=True))
    assert windows[5:5] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["volume"]}, r"features: 'volume', but there are 4 \(0 to 3\), named open, high, still, close"),
        ({"features": [4]}, r"features: 4, but there are 4 \(0 to 3\)"),
        ({"features": [-5]}, r"features: -5, but there are 4 \(0 to 3\)"),
        ({"features": [1.0]}, "features: 1.0, but there are 4"),
        ({"features": [True]}, r"features has True, as a mask has; np.flatnonzero\(mask\) gives"),
        ({"features": np.array([True, False])}, r"features has (np\.True_|True), as a mask has"),
        ({"features": {"open", "close"}}, "give a list of names or numbers"),
        ({"features": 1}, "features=1; give a list"),
        ({"features": []}, r"features=\[\]; give a list"),
        ({"features": "open"}, "features='open'; give a list"),
        ({"features": ["open", 0]}, "features has feature 0 twice"),
        ({"target": "last", "pad_end": True}, 'pad_end=True with target="last"'),
        ({"future": ["tomorrow"]}, "future: 'tomorrow', but there are 4"),
        ({"future": ["open"], "target": "last"}, r'future=\[\'open\'\] with target="last"'),
        ({"missing": "drop"}, 'missing=\'drop\'; it must be "keep" or "skip"'),
        ({"phase": "second"}, 'phase is \'second\'; it must be one of "first", "random"'),
    ],
)
def test_unknown_features_are_refused(known: Any, options: dict[str, Any], message: str):
    with pytest.raises(WindowError, match=message):
        known("float32", "step").store.windows(4, **options)


def test_rows_without_names_or_places_have_no_features_to_choose(by_step: Written, tmp_path: Path):
    with pytest.raises(WindowError, match=r"there are [0-9]+ \(0 to [0-9]+\), without names"):
        by_step.store.windows(4, features=["open"])
    with pytest.raises(WindowError, match="a row is a plain number"):
        store_of(tmp_path / "s.zarr", [np.zeros(9, "int8")]).windows(4, features=[0])


def test_over_many_epochs_a_random_phase_reaches_every_start(by_step: Written):
    windows = by_step.store.select([12]).windows(4, stride=5, phase="random")  # 64 steps
    starts: set[int] = set()
    for epoch in range(60):
        starts.update(windows.of_epoch(0, epoch).index.locate_many(np.arange(12))[1].tolist())
    assert starts == set(range(60))


def test_memory_for_less_than_a_chunk_is_refused_and_what_the_error_says_is_enough(tmp_path: Path):
    rows = np.zeros((100, 4), "float32")
    windows = store_of(tmp_path / "s.zarr", [rows], [rows[:, :1]], chunk=2**20, shard=2**20).windows(5)
    with pytest.raises(WindowError, match=r"memory=2,000,000 bytes .*, a chunk 2,097,152; give memory=2097152"):
        windows.batches(4, memory=2_000_000)
    assert len(next(windows.batches(4, memory=2_097_152))[0]) == 4


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
