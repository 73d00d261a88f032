"""What batches can be asked for beside the windows themselves, against plain loops."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
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
from tests.store.window_oracle import LENGTHS, Numbered, all_same, index_of_lengths, numbered, unbatched

MEMORY = 20_000


@pytest.fixture(scope="module")
def in_chunks(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    """Of 8 steps a chunk."""
    return numbered(tmp_path_factory.mktemp("options") / "chunks.zarr", "step", chunk=8)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], store_spec.Store]:
    """Three files of five named features, one of them in two parts."""
    path = tmp_path_factory.mktemp("options") / "named.zarr"
    rng = np.random.default_rng(0)
    rows = store_spec.Rows(np.dtype("float32"), (5,), ("open", "high", "low", "close", "day"))
    sequences = [(rng.normal(size=(n, 5)).astype("float32"), rng.normal(size=(n, 2))) for n in (30, 9, 25, 14)]
    with store_spec.create_store(path, inputs=rows, labels=("float64", (2,)), chunk=200, shard=2000) as writer:
        for (x, y), source in zip(sequences, ("a", "b", "b", "c"), strict=True):
            writer.append(x, y, source=source)
    return sequences, store_spec.open_store(path)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("options", [{}, {"short": "pad"}, {"stride": 3}, {"target": "last"}])
def test_the_index_says_which_window_each_is(in_chunks: Numbered, options: dict[str, Any], *, shuffle: bool):
    windows = in_chunks.store.windows(9, **options)
    found = unbatched(list(windows.batches(10, shuffle=shuffle, memory=MEMORY, index=True)))
    numbers = [int(sample[-1]) for sample in found]
    assert sorted(numbers) == list(range(len(windows)))
    assert all_same([sample[:-1] for sample in found], windows.__getitems__(numbers))


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


def test_a_transform_is_called_with_each_batch_in_the_background(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)
    where: set[str] = set()

    def transform(batch: Any) -> Any:
        where.add(threading.current_thread().name)
        x, y = batch
        return {"x": x * 2, "y": y}

    plain = list(windows.batches(16, shuffle=True))
    found: Any = list(windows.batches(16, shuffle=True, transform=transform))
    assert all_same([(batch["x"], batch["y"]) for batch in found], [(x * 2, y) for x, y in plain])
    assert where == {"seqzarr transform"}


def test_an_error_of_a_transform_is_raised_by_next(in_chunks: Numbered):
    def transform(batch: Any) -> Any:
        if len(batch[0]) < 16:
            raise ZeroDivisionError("mine")
        return batch

    batches = in_chunks.store.windows(4).batches(16, transform=transform)
    for _ in range(len(batches) - 1):
        next(batches)
    with pytest.raises(ZeroDivisionError, match="mine"):
        next(batches)
    for _ in range(2):  # an end would look like that of the epoch
        with pytest.raises(
            WindowError, match=r"ended with an error, ZeroDivisionError\('mine'\); call windows.batches anew"
        ):
            next(batches)
    batches.load_state_dict(in_chunks.store.windows(4).batches(16).state_dict())
    assert len(next(batches)[0]) == 16


def test_batches_are_closed_while_another_thread_waits_for_one(in_chunks: Numbered):
    waiting, go = threading.Event(), threading.Event()

    def transform(batch: Any) -> Any:
        waiting.set()
        assert go.wait(30)
        return batch

    batches = in_chunks.store.windows(4).batches(16, transform=transform)
    with ThreadPoolExecutor(2) as pool:
        taken = pool.submit(next, batches)
        assert waiting.wait(30)
        closed = pool.submit(batches.close)
        go.set()
        assert len(taken.result(30)[0]) == 16
        closed.result(30)
    assert list(batches) == []


def test_batches_that_are_closed_end(in_chunks: Numbered):
    batches = in_chunks.store.windows(4).batches(16)
    next(batches)
    batches.close()
    assert list(batches) == []


def test_features_are_chosen_by_name_or_number_in_the_order_given(named: tuple[list[Any], store_spec.Store]):
    sequences, store = named
    stats = store.stats()
    for normalize in (None, stats):
        windows = store.windows(4, features=["close", 0, -1], future=["day"], horizon=3, lead=1, normalize=normalize)
        wanted = []
        for x, y in sequences:
            given, labels = (x, y) if normalize is None else (stats.normalize(x), stats.normalize_labels(y))
            for start in range(len(x) - 7):
                after = slice(start + 5, start + 8)
                wanted.append((given[start : start + 4][:, [3, 0, 4]], labels[after], given[after][:, [4]]))
        assert all_same(list(windows), wanted)
        assert all_same(unbatched(list(windows.batches(7, memory=MEMORY))), wanted)
        padded = store.windows(12, features=[1], future=[0, 1], horizon=2, short="pad", normalize=normalize)
        assert all_same(unbatched(list(padded.batches(7, memory="40kB"))), list(padded))


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
        ({"future": ["tomorrow"]}, "future: 'tomorrow', but there are 5"),
        ({"future": ["day"], "target": "last"}, r'future=\[\'day\'\] with target="last"'),
        ({"phase": "second"}, 'phase is \'second\'; it must be one of "first", "random"'),
    ],
)
def test_features_that_are_not_there_are_refused(
    named: tuple[list[Any], store_spec.Store], options: dict[str, Any], message: str
):
    with pytest.raises(WindowError, match=message):
        named[1].windows(4, **options)


def test_rows_without_names_or_places_have_no_features_to_choose(in_chunks: Numbered, tmp_path: Path):
    with pytest.raises(WindowError, match=r"there are [0-9]+ \(0 to [0-9]+\), without names"):
        in_chunks.store.windows(4, features=["open"])
    with store_spec.create_store(tmp_path / "s.zarr", inputs=("int8", ()), labels=("int8", ())) as writer:
        writer.append(np.zeros(9, "int8"), np.zeros(9, "int8"), source="s")
    with pytest.raises(WindowError, match="a row is a plain number"):
        store_spec.open_store(tmp_path / "s.zarr").windows(4, features=[0])


@given(
    window=st.integers(1, 9),
    stride=st.integers(1, 40),
    short=st.sampled_from(["drop", "pad"]),
    epoch=st.integers(0, 9),
)
def test_with_a_random_phase_windows_start_elsewhere_each_epoch(
    in_chunks: Numbered, window: int, stride: int, short: Any, epoch: int
):
    """`stride` steps apart, as before, and no sequence that has a window is left without one."""
    windows = in_chunks.store.windows(window, stride=stride, short=short, phase="random")
    batches = windows.batches(10, epoch=epoch, seed=1, memory="50kB", index=True, shuffle=True)
    x = unbatched(list(batches))
    again = windows.batches(10, epoch=epoch, seed=1, memory="50kB", shuffle=True)
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
        rows = in_chunks.sequences[sequence][0]
        for sample in x:
            if int(sample[-1]) == int(batches.windows.index.first[sequence]):
                real = min(window, usable - 1 - start)
                assert np.array_equal(sample[0][:real], rows[start : start + real])


def test_over_many_epochs_a_random_phase_reaches_every_start(in_chunks: Numbered):
    windows = in_chunks.store.select([12]).windows(4, stride=5, phase="random")  # 64 steps
    starts: set[int] = set()
    for epoch in range(60):
        starts.update(windows.of_epoch(0, epoch).index.locate_many(np.arange(12))[1].tolist())
    assert starts == set(range(60))


def test_a_phase_needs_no_more_than_the_first_window():
    """Where a sequence has one window at one place only, it stays there."""
    index = index_of_lengths([5, 4], WindowShape(window=4, stride=100, target="last", phase="random"))
    assert len(index) == 2


@pytest.mark.slow
def test_workers_have_the_batches_of_the_epoch_in_turn(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)
    alone = list(windows.batches(10, shuffle=True, memory=MEMORY))
    for workers in (1, 2, 3, 40):
        found = [list(windows.batches(10, shuffle=True, memory=MEMORY).of_worker(w, workers)) for w in range(workers)]
        assert all(all_same(mine, alone[w::workers]) for w, mine in enumerate(found))
        for worker in range(min(workers, 3)):
            begun = windows.batches(10, shuffle=True, memory=MEMORY).of_worker(worker, workers)
            if len(alone) > workers + worker:
                next(begun)
            resumed = windows.batches(10, shuffle=True, memory=MEMORY).of_worker(worker, workers)
            resumed.load_state_dict(begun.state_dict())
            assert all_same(list(resumed), list(begun))
    with pytest.raises(WindowError, match="worker=2 of 2 workers; they are 0 to 1"):
        windows.batches(10).of_worker(2, 2)


def test_a_worker_reads_ahead_and_gathers_and_transforms_when_it_is_asked(in_chunks: Numbered):
    """Who asks has its own batches in advance, and a thread more is one more to wait for."""
    before, callers = set(threading.enumerate()), []

    def transform(batch: Any) -> Any:
        callers.append(threading.current_thread())
        return batch

    batches = in_chunks.store.windows(4).batches(10, shuffle=True, memory=MEMORY, transform=transform).of_worker(1, 3)
    for _ in range(3):
        next(batches)
    assert callers == [threading.current_thread()] * 3
    mine = {thread.name for thread in set(threading.enumerate()) - before}
    assert "seqzarr pools" in mine
    assert "seqzarr batches" not in mine
    batches.close()
    assert set(threading.enumerate()) == before
    with pytest.raises(StopIteration):
        next(batches)


def test_several_threads_take_batches_from_one_iterator(in_chunks: Numbered):
    """Each batch goes to one of them, and nothing is lost."""
    batches = in_chunks.store.windows(4).batches(2, shuffle=True, memory=MEMORY, index=True)
    taken: list[list[int]] = [[], [], []]

    def take(mine: list[int]) -> None:
        for batch in batches:
            mine += batch[-1].tolist()

    threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(number for mine in taken for number in mine) == list(range(len(batches.windows)))


def test_windows_with_options_can_be_pickled(named: tuple[list[Any], store_spec.Store]):
    import pickle

    windows = named[1].windows(4, features=["low"], future=[0], phase="random", stride=2, normalize=named[1].stats())
    copy: Windows = pickle.loads(pickle.dumps(windows))
    assert copy.parameters() == windows.parameters()
    assert all_same(list(copy.batches(4, shuffle=True)), list(windows.batches(4, shuffle=True)))


def test_memory_for_less_than_a_chunk_is_refused_and_what_the_error_says_is_enough(tmp_path: Path):
    rows = np.zeros((100, 4), "float32")
    with store_spec.create_store(
        tmp_path / "s.zarr", inputs=("float32", (4,)), labels=("float32", (1,)), chunk=2**20, shard=2**20
    ) as writer:
        writer.append(rows, rows[:, :1], source="a")
    windows = store_spec.open_store(tmp_path / "s.zarr").windows(5)
    with pytest.raises(WindowError, match=r"memory=2,000,000 bytes .*, a chunk 2,097,152; give memory=2097152"):
        windows.batches(4, memory=2_000_000)
    assert len(next(windows.batches(4, memory=2_097_152))[0]) == 4
