"""Windows by number, and options besides their shape, against plain loops over the arrays that were written."""

import datetime as dt
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import SequenceIndexError, WindowError
from store_spec.windows.batches import Batches
from store_spec.windows.windows import Windows
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    LENGTHS,
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


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    selection=selections(),
    shape=shapes(),
    size=st.integers(1, 12),
    memory=st.integers(1, 20_000),
    labelled=st.booleans(),
)
def test_windows_equal_those_of_loops(in_any_chunks, by_sequence, selection, shape, size, memory, labelled):
    """By number, by lists of numbers, and in batches: in order, and each once if shuffled."""
    given = by_sequence if labelled else in_any_chunks
    shape = replace(shape, target="sequence") if labelled else shape
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


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], store_spec.Store]:
    """Three files with five named features, one of them in two parts."""
    rng = np.random.default_rng(0)
    rows = store_spec.Rows(np.dtype("float32"), (5,), ("open", "high", "low", "close", "day"))
    sequences = [(rng.normal(size=(n, 5)).astype("float32"), rng.normal(size=(n, 2))) for n in (30, 9, 25, 14)]
    inputs, labels = (list(each) for each in zip(*sequences, strict=True))
    path = tmp_path_factory.mktemp("options") / "named.zarr"
    return sequences, store_of(path, inputs, labels, sources="abbc", inputs=rows, chunk=200, shard=2000)


def test_windows_are_located_by_source_part_and_step(named: tuple[list[Any], store_spec.Store]):
    sequences, store = named
    windows = store.windows(4, horizon=2, stride=3)
    source_and_part = (("a", 0), ("b", 0), ("b", 1), ("c", 0))
    wanted: list[Any] = [
        (*name, number, start, None)
        for number, (name, (x, _)) in enumerate(zip(source_and_part, sequences, strict=True))
        for start in range(0, len(x) - 5, 3)
    ]
    assert [windows.locate(number) for number in range(len(windows))] == wanted
    place = windows.locate(np.arange(len(windows)))
    found = zip(*(each.tolist() for each in (place.source, place.part, place.sequence, place.step)), strict=True)
    assert [(*one, place.time) for one in found] == wanted
    assert windows.locate(-1) == wanted[-1]
    with pytest.raises(SequenceIndexError, match=f"window {len(windows)} asked for"):
        windows.locate(len(windows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": ["volume"]}, r"features: 'volume', but there are 5 \(0 to 4\), named open, high, low, close"),
        ({"features": [5]}, r"features: 5, but there are 5 \(0 to 4\)"),
        ({"features": [-6]}, r"features: -6, but there are 5 \(0 to 4\)"),
        ({"features": [1.0]}, "features: 1.0, but there are 5"),
        ({"features": [True]}, r"features has True, as a mask has; np.flatnonzero\(mask\) gives"),
        ({"features": np.array([True, False])}, r"features has (np\.True_|True), as a mask has"),
        ({"features": {"open", "close"}}, "give a list of names or numbers"),
        ({"features": 1}, "features=1; give a list"),
        ({"features": []}, r"features=\[\]; give a list"),
        ({"features": "open"}, "features='open'; give a list"),
        ({"features": ["open", 0]}, "features has feature 0 twice"),
        ({"target": "last", "pad_end": True}, 'pad_end=True with target="last"'),
        ({"future": ["tomorrow"]}, "future: 'tomorrow', but there are 5"),
        ({"future": ["day"], "target": "last"}, r'future=\[\'day\'\] with target="last"'),
        ({"missing": "drop"}, 'missing=\'drop\'; it must be "keep" or "skip"'),
        ({"phase": "second"}, 'phase is \'second\'; it must be one of "first", "random"'),
    ],
)
def test_unknown_features_are_refused(named: tuple[list[Any], store_spec.Store], options: dict[str, Any], message: str):
    with pytest.raises(WindowError, match=message):
        named[1].windows(4, **options)


def test_rows_without_names_or_places_have_no_features_to_choose(by_step: Written, tmp_path: Path):
    with pytest.raises(WindowError, match=r"there are [0-9]+ \(0 to [0-9]+\), without names"):
        by_step.store.windows(4, features=["open"])
    with pytest.raises(WindowError, match="a row is a plain number"):
        store_of(tmp_path / "s.zarr", [np.zeros(9, "int8")]).windows(4, features=[0])


@given(
    window=st.integers(1, 9), stride=st.integers(1, 40), short=st.sampled_from(["drop", "pad"]), epoch=st.integers(0, 9)
)
def test_with_a_random_phase_windows_start_elsewhere_in_each_epoch(by_step, window, stride, short, epoch):
    """Windows stay `stride` steps apart, and every sequence that had a window keeps at least one."""
    windows = by_step.store.windows(window, stride=stride, short=short, phase="random")
    batches = windows.batches(10, epoch=epoch, seed=1, memory="50kB", index=True, shuffle=True)
    x = unbatched(list(batches))
    again = windows.of_epoch(2, 3).batches(10, epoch=epoch, seed=1, memory="50kB", shuffle=True)  # not 2, 3
    assert all_same([sample[:-1] for sample in x], unbatched(list(again)))
    sequences, starts = batches.windows.index.locate_many([int(sample[-1]) for sample in x])
    first = {sequence: int(starts[sequences == sequence].min()) for sequence in sequences.tolist()}
    plain, _ = windows.index.locate_many(np.arange(len(windows)))
    assert set(first) == set(plain.tolist())
    for sequence, start in first.items():
        usable = LENGTHS[sequence]
        assert 0 <= start < stride
        found = sorted(starts[sequences == sequence].tolist())
        if usable > window:
            assert found == list(range(start, usable - window, stride))
        rows = by_step.sequences[sequence][0]
        for sample in x:
            if int(sample[-1]) == int(batches.windows.index.first[sequence]):
                real = min(window, usable - 1 - start)
                assert np.array_equal(sample[0][:real], rows[start : start + real])


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
