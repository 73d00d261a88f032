"""Windows by number, against plain loops over the arrays that were written."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import Storage
from store_spec.errors import SequenceIndexError, WindowError
from store_spec.format.layout import Root
from store_spec.reading import read_ranges
from store_spec.windows.shape import WindowShape
from store_spec.windows.windows import Windows
from tests.store.window_oracle import (
    LENGTHS,
    Numbered,
    all_same,
    keys,
    listed,
    numbered,
    same,
    selections,
    shapes,
    unbatched,
)


@pytest.fixture(scope="module", params=[1, 8, 64])
def by_step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("windows") / "step.zarr", "step", chunk=request.param)


@pytest.fixture(scope="module")
def by_sequence(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("windows") / "sequence.zarr", "sequence", chunk=8)


def assert_windows(given: Numbered, selection: list[int], shape: WindowShape) -> None:
    sequences, store = given.sequences, given.store
    windows = Windows(store.select(selection), shape)
    wanted = listed([sequences[number] for number in selection], shape)
    assert len(windows) == len(wanted)
    found = windows.__getitems__(list(range(len(wanted)))[::-1])[::-1]
    assert all_same(found, wanted)
    for number in {0, len(wanted) // 2, len(wanted) - 1} if wanted else ():
        assert same(windows[number], wanted[number])
        assert same(windows[number - len(wanted)], wanted[number])


@hypothesis.given(selection=selections(), shape=shapes())
def test_windows_are_those_that_loops_list(by_step: Numbered, selection: list[int], shape: WindowShape):
    assert_windows(by_step, selection, shape)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(selection=selections(), shape=shapes(("sequence",)))
def test_windows_of_labelled_sequences_have_the_label_of_their_sequence(
    by_sequence: Numbered, selection: list[int], shape: WindowShape
):
    assert_windows(by_sequence, selection, shape)


def test_windows_of_a_folder_are_the_slices_of_each_file(by_step: Numbered):
    """The definition that users know: n rows and the one after them, file by file."""
    sequences, store = by_step.sequences, by_step.store
    windows, n, at = store.windows(5), 5, 0
    for data, labels in sequences:
        for i in range(len(data) - n):
            x, y = windows[at]
            assert np.array_equal(x, data[i : i + n])
            assert np.array_equal(y, labels[i + n : i + n + 1])
            at += 1
    assert at == len(windows)


def test_no_window_holds_rows_of_two_sequences(by_step: Numbered):
    sequences, store = by_step.sequences, by_step.store
    sequence_of = {int(x): number for number, (rows, _) in enumerate(sequences) for x in rows[:, 0]}
    for x, y in store.windows(4, horizon=2, lead=1):
        assert len({sequence_of[int(row)] for row in [*x[:, 0], *(-y[:, 0] - 1)]}) == 1


def test_a_list_of_windows_is_read_chunk_by_chunk_each_once(by_step: Numbered, monkeypatch: pytest.MonkeyPatch):
    store = by_step.store
    read: list[tuple[str, int]] = []
    rows = Snapshot.rows
    chunk = store.schema.steps.chunk

    def counted(self: Snapshot, name: str, start: int, stop: int, **options: bool) -> Any:
        read.extend((name, number) for number in range(start // chunk, -(-stop // chunk)))
        return rows(self, name, start, stop, **options)

    monkeypatch.setattr(Snapshot, "rows", counted)
    windows = store.windows(4)
    windows.__getitems__([len(windows) - 1, 0, 3, 3, 50, 51, 60])
    assert len(set(read)) == len(read)
    assert read


def test_samples_are_arrays_of_their_own(by_step: Numbered):
    """A sample that is changed in place changes no other."""
    store = by_step.store
    first, second = store.windows(4).__getitems__([0, 1])
    before = second[0].copy()
    first[0][:] = 99
    assert np.array_equal(second[0], before)


@pytest.mark.parametrize("numbers", [[10**6], [0, -(10**6)]])
def test_a_number_beyond_the_last_window_is_an_index_error_that_names_both(by_step: Numbered, numbers: list[int]):
    windows = by_step.store.windows(5)
    with pytest.raises(SequenceIndexError, match=rf"step\.zarr: window -?1,000,000 .* {len(windows):,}"):
        windows.__getitems__(numbers)
    with pytest.raises(IndexError):
        windows[len(windows)]


@pytest.mark.parametrize("number", ["a", 1.0, True, None, (0, 1), (0, [1, 2])])
def test_what_is_no_number_of_a_window_is_refused(by_step: Numbered, number: Any):
    windows = by_step.store.windows(5)
    message = (
        rf"step\.zarr: window {re.escape(repr([number]))} asked for, but there are {len(windows):,}, by whole numbers"
    )
    with pytest.raises(SequenceIndexError, match=message):
        windows[number]


def test_no_windows_where_all_sequences_are_too_short(by_step: Numbered):
    assert len(by_step.store.windows(101)) == 0
    assert by_step.store.windows(101).__getitems__([]) == []


def test_a_sequence_too_short_is_an_error_where_asked_for(by_step: Numbered):
    with pytest.raises(WindowError, match="0 usable steps"):
        by_step.store.windows(5, short="error")


def test_pickled_windows_read_the_same(by_step: Numbered):
    windows = by_step.store.select([2, 6]).windows(5, short="pad", normalize=by_step.store.stats())
    copy = pickle.loads(pickle.dumps(windows))
    assert len(copy) == len(windows)
    assert all_same(list(copy), list(windows))


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
    store = numbered(tmp_path / "s.zarr", axis, chunk=8).store
    with pytest.raises(WindowError, match=message):
        store.windows(3, target=target)


def float_store(path: Path, labels: str, features: int = 2) -> store_spec.Store:
    rng = np.random.default_rng(0)
    with store_spec.create_store(
        path, inputs=("float32", (features,)), labels=(labels, (1,)), chunk=64, shard=640
    ) as writer:
        for number in range(3):
            x = rng.normal(5, 3, (12, features)).astype("float32")
            writer.append(x, x[:, :1].astype(labels), source=f"s{number}")
    return store_spec.open_store(path)


@pytest.mark.parametrize(("labels", "normalised"), [("float32", True), ("float64", True), ("int32", False)])
def test_normalize_reaches_inputs_and_labels_that_are_floats(tmp_path: Path, labels: str, *, normalised: bool):
    store = float_store(tmp_path / "s.zarr", labels)
    stats = store.stats()
    plain, windows = store.windows(4), store.windows(4, normalize=stats)
    for (x, y), (x_normalised, y_normalised) in zip(plain, windows, strict=True):
        assert same((stats.normalize(x),), (x_normalised,))
        assert same((stats.normalize_labels(y) if normalised else y,), (y_normalised,))


def test_padding_stays_zero_when_normalised(tmp_path: Path):
    store = float_store(tmp_path / "s.zarr", "float32")
    x, y, mask = store.windows(20, target="aligned", short="pad", normalize=store.stats())[0]
    assert mask.tolist() == [True] * 12 + [False] * 8
    assert not x[12:].any()
    assert not y[12:].any()
    assert x[:12].all()


def test_statistics_of_another_schema_are_refused_with_both_counts(tmp_path: Path):
    store, other = float_store(tmp_path / "a.zarr", "float32"), float_store(tmp_path / "b.zarr", "float32", 5)
    with pytest.raises(WindowError, match="inputs have 2 features, but normalize is of 5"):
        store.windows(4, normalize=other.stats())


@hypothesis.given(
    bounds=st.lists(st.tuples(st.integers(0, sum(LENGTHS)), st.integers(0, 9)), max_size=12),
    name=st.sampled_from(["inputs", "labels"]),
)
def test_spans_are_the_rows_asked_for(by_step: Numbered, bounds: list[tuple[int, int]], name: Any):
    """In any order, overlapping, empty; the chunks that hold them are read, each once."""
    sequences, store = by_step.sequences, by_step.store
    rows = np.concatenate([pair[0 if name == "inputs" else 1] for pair in sequences])
    starts = np.array([start for start, _ in bounds], np.int64)
    stops = np.minimum(starts + np.array([count for _, count in bounds], np.int64), len(rows))
    snapshot = CountingSnapshot(store.snapshot.storage, store.snapshot.root)
    found = read_ranges.read_ranges(snapshot, name, starts, stops)
    assert keys([(part,) for part in found]) == keys([(rows[a:b],) for a, b in zip(starts, stops, strict=True)])
    chunk = store.schema.steps.chunk
    needed = {n for a, b in zip(starts, stops, strict=True) if b > a for n in range(a // chunk, -(-b // chunk))}
    assert sorted(snapshot.chunks) == sorted(needed)


class CountingSnapshot(Snapshot):
    """Knows which chunks were read."""

    def __init__(self, storage: Storage, root: Root) -> None:
        super().__init__(storage, root)
        self.chunks: list[int] = []

    def rows(self, name: str, start: int, stop: int, *, recent: bool = False) -> Any:
        size = self.root.schema.steps.chunk
        self.chunks.extend(range(start // size, -(-stop // size)))
        return super().rows(name, start, stop, recent=recent)


def test_images_and_plain_numbers_are_windows_too(tmp_path: Path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (9, 4, 4, 3), "uint8"), rng.normal(size=9)
    with store_spec.create_store(tmp_path / "s.zarr", inputs=("uint8", (4, 4, 3)), labels=("float64", ())) as writer:
        writer.append(x, y, source="film")
    store = store_spec.open_store(tmp_path / "s.zarr")
    sample = store.windows(3, sampling_rate=2, horizon=2)[0]
    assert same(sample, (x[0:5:2], y[6:9:2]))
    stats = store.stats()
    sample = store.windows(3, target="last", normalize=stats)[1]
    wanted = ((x[1:4] - x.mean((0, 1, 2))) / x.std((0, 1, 2))).astype("float32")
    np.testing.assert_allclose(sample[0], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sample[1], (y[3] - y.mean()) / y.std(), rtol=1e-12)
    assert sample[1].shape == ()


@pytest.mark.frameworks
@pytest.mark.parametrize("workers", [0, 2])
def test_a_torch_loader_takes_windows_as_a_dataset(by_step: Numbered, workers: int):
    from torch.utils.data import DataLoader

    windows = by_step.store.windows(5, horizon=2)
    wanted = list(windows)
    loader: Any = DataLoader(windows, batch_size=16, num_workers=workers)  # type: ignore[arg-type]
    found = [(x, y) for xs, ys in loader for x, y in zip(xs.numpy(), ys.numpy(), strict=True)]
    assert keys(found) == keys(wanted)
    shuffled: Any = DataLoader(windows, batch_size=16, shuffle=True, num_workers=workers)  # type: ignore[arg-type]
    found = [(x, y) for xs, ys in shuffled for x, y in zip(xs.numpy(), ys.numpy(), strict=True)]
    assert keys(found) != keys(wanted)
    assert sorted(keys(found)) == sorted(keys(wanted))


def test_chunks_of_actions_begin_at_the_last_input_row_and_may_be_padded_at_the_end(by_step: Numbered):
    store = by_step.store
    found = list(store.select([5]).windows(2, horizon=4, lead=-1, pad_end=True, future=[0]))
    x, y = by_step.sequences[5]
    for start, (inputs, labels, label_mask, future) in zip(range(len(x) - 1), found, strict=True):
        real = min(4, len(x) - start - 1)
        assert np.array_equal(inputs, x[start : start + 2])
        assert np.array_equal(labels[:real], y[start + 1 : start + 5])
        assert np.array_equal(future[:real, 0], x[start + 1 : start + 5, 0])
        assert label_mask.tolist() == [True] * real + [False] * (4 - real)
        assert not labels[real:].any()
        assert not future[real:].any()
    windows = store.windows(2, horizon=4, lead=-1, pad_end=True, future=[0])
    assert all_same(unbatched(list(windows.batches(7))), list(windows))  # padding is next to rows of other sequences
    with pytest.raises(WindowError, match='pad_end=True with target="last"'):
        store.windows(4, target="last", pad_end=True)
