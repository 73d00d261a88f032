"""Windows by number, against plain loops over the arrays that were written."""

from __future__ import annotations

import datetime as dt
import re
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from store_spec.errors import SequenceIndexError, WindowError
from store_spec.windows.batches import Batches
from store_spec.windows.shape import WindowShape
from store_spec.windows.windows import Windows
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    Written,
    all_same,
    keys,
    listed,
    same,
    selections,
    shapes,
    unbatched,
    write_numbered,
)


def fitting(windows: Windows, size: int, memory: int, **options: Any) -> Batches:
    """Return batches with the given memory, or with the least that the error names."""
    try:
        return windows.batches(size, memory=memory, **options)
    except WindowError as error:
        least = int(re.findall(r"give memory=(\d+)", str(error))[0])
        return windows.batches(size, memory=least, **options)


def assert_windows(given: Written, selection: list[int], shape: WindowShape, size: int, memory: int) -> None:
    """Check windows by number, by lists of numbers, and in batches: in order, and each once if shuffled."""
    wanted = listed([given.sequences[number] for number in selection], shape)
    windows = Windows(given.store.select(selection), shape)
    assert len(windows) == len(wanted)
    found = windows.__getitems__(list(range(len(wanted)))[::-1])[::-1]
    assert all_same(found, wanted)
    for number in {0, len(wanted) // 2, len(wanted) - 1} if wanted else ():
        assert same(windows[number], wanted[number])
        assert same(windows[number - len(wanted)], wanted[number])
    for shuffle in (False, True):
        batches = fitting(windows, size, memory, shuffle=shuffle)
        number = len(batches)
        every = list(batches)
        assert len(every) == number == -(-len(wanted) // size)
        assert all(len(batch[0]) == size for batch in every[:-1])
        assert all(array.flags.c_contiguous and array.flags.writeable for batch in every for array in batch)
        samples = unbatched(every)
        if shuffle:
            assert sorted(keys(samples)) == sorted(keys(wanted))
        else:
            assert all_same(samples, wanted)


sizes = st.integers(1, 12)
memories = st.integers(1, 20_000)


@hypothesis.given(selection=selections(), shape=shapes(), size=sizes, memory=memories)
def test_windows_equal_those_of_loops(
    in_any_chunks: Written, selection: list[int], shape: WindowShape, size: int, memory: int
):
    assert_windows(in_any_chunks, selection, shape, size, memory)


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(selection=selections(), shape=shapes(("sequence",)), size=sizes, memory=memories)
def test_windows_of_labelled_sequences_have_the_label_of_their_sequence(
    by_sequence: Written, selection: list[int], shape: WindowShape, size: int, memory: int
):
    assert_windows(by_sequence, selection, shape, size, memory)


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


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 2, 3)])
def test_rows_of_any_shape_and_dtype_are_batched(tmp_path: Path, dtype: str, shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    x = [(rng.normal(size=(length, *shape)) * 9).astype(dtype) for length in (30, 3, 17)]
    store = store_of(tmp_path / "s.zarr", x, [rows[::-1] for rows in x], chunk=96, shard=9600)
    windows = store.windows(5, target="aligned", short="pad", sampling_rate=2)
    wanted = listed([(rows, rows[::-1]) for rows in x], windows.shape)
    assert all_same(unbatched(list(windows.batches(4, memory="90kB"))), wanted)
    assert sorted(keys(unbatched(list(windows.batches(4, memory="90kB", shuffle=True))))) == sorted(keys(wanted))


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
