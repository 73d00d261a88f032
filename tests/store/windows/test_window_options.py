"""Options of batches besides the shape of windows, compared with plain loops."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import SequenceIndexError, WindowError
from store_spec.windows.shape import WindowShape
from store_spec.windows.windows import Windows
from tests.store.oracle import store_of
from tests.store.window_oracle import LENGTHS, Written, all_same, index_of_lengths, unbatched


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
        (
            {"features": ["volume"]},
            r"features: 'volume', but there are 5 \(0 to 4\), named open, high, low, close, day",
        ),
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
def test_with_a_random_phase_windows_start_elsewhere_in_each_epoch(
    by_step: Written, window: int, stride: int, short: Any, epoch: int
):
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


def test_a_phase_keeps_room_for_one_window():
    """A sequence with room for one window at one place only keeps it there."""
    index = index_of_lengths([5, 4], WindowShape(window=4, stride=100, target="last", phase="random"))
    assert len(index) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"short": "pad", "target": "aligned"},
        {"features": ["low"], "future": [0], "phase": "random", "stride": 2},
        {"static": ["length"], "steps": (0, 0.8), "normalize": "sequence", "allow_later": True},
        {"normalize": "window", "features": ["close"]},
        {"normalize": "statistics", "index": True},
        {"normalize": "statistics of the windows", "steps": (0, 0.8)},
    ],
)
def test_windows_of_all_kinds_can_be_pickled(named: tuple[list[Any], store_spec.Store], options: dict[str, Any]):
    store, more = named[1], {name: options[name] for name in options if name == "index"}
    options = {name: value for name, value in options.items() if name not in more}
    if options.get("normalize") == "statistics":
        options["normalize"] = store.stats()
    elif str(options.get("normalize")).startswith("statistics"):
        options["normalize"] = store.windows(4, steps=options["steps"]).stats()
    windows = store.windows(4, **options)
    copy: Windows = pickle.loads(pickle.dumps(windows))
    assert copy.parameters() == windows.parameters()
    assert all_same(list(copy.batches(4, shuffle=True, **more)), list(windows.batches(4, shuffle=True, **more)))
    assert all_same(copy[:3], windows[:3]) if options.get("phase") != "random" else True


def test_memory_for_less_than_a_chunk_is_refused_and_what_the_error_says_is_enough(tmp_path: Path):
    rows = np.zeros((100, 4), "float32")
    windows = store_of(tmp_path / "s.zarr", [rows], [rows[:, :1]], chunk=2**20, shard=2**20).windows(5)
    with pytest.raises(WindowError, match=r"memory=2,000,000 bytes .*, a chunk 2,097,152; give memory=2097152"):
        windows.batches(4, memory=2_000_000)
    assert len(next(windows.batches(4, memory=2_097_152))[0]) == 4
