"""Batches of windows, against plain loops over the arrays that were written."""

from __future__ import annotations

import gc
import os
import pickle
import re
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.disk.shards import Shards
from store_spec.errors import ChecksumError, StoreError, WindowError
from store_spec.reading.ahead import ahead
from store_spec.reading.named_batch import Batch
from store_spec.windows.batches import Batches
from store_spec.windows.loading import Loader
from store_spec.windows.pools import Pool
from store_spec.windows.shape import WindowShape
from store_spec.windows.windows import Windows
from tests.store.window_oracle import (
    Numbered,
    all_same,
    keys,
    listed,
    numbered,
    selections,
    shapes,
    unbatched,
)


@pytest.fixture(scope="module", params=[1, 8, 64])
def by_step(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("batches") / "step.zarr", "step", chunk=request.param)


@pytest.fixture(scope="module")
def by_sequence(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("batches") / "sequence.zarr", "sequence", chunk=8)


@pytest.fixture(scope="module")
def in_chunks(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    """Of 8 steps a chunk."""
    return numbered(tmp_path_factory.mktemp("batches") / "chunks.zarr", "step", chunk=8)


def fitting(windows: Windows, size: int, memory: int, **options: Any) -> Batches:
    """Return batches in the memory given, or in the least that the error asks for."""
    try:
        return windows.batches(size, memory=memory, **options)
    except WindowError as error:
        least = int(re.findall(r"give memory=(\d+)", str(error))[0])
        with pytest.raises(WindowError, match=f"memory={least - 1:,} bytes is too little"):
            windows.batches(size, memory=least - 1, **options)
        return windows.batches(size, memory=least, **options)


def assert_batches(given: Numbered, selection: list[int], shape: WindowShape, size: int, memory: int) -> None:
    wanted = listed([given.sequences[number] for number in selection], shape)
    windows = Windows(given.store.select(selection), shape)
    for shuffle in (False, True):
        batches = fitting(windows, size, memory, shuffle=shuffle)
        number = len(batches)
        found = list(batches)
        assert len(found) == number == -(-len(wanted) // size)
        assert all(len(batch[0]) == size for batch in found[:-1])
        assert all(array.flags.c_contiguous and array.flags.writeable for batch in found for array in batch)
        samples = unbatched(found)
        if shuffle:
            assert sorted(keys(samples)) == sorted(keys(wanted))
        else:
            assert all_same(samples, wanted)


sizes = st.integers(1, 12)
memories = st.integers(1, 20_000)


@given(selection=selections(), shape=shapes(), size=sizes, memory=memories)
def test_batches_hold_the_windows_that_loops_list(
    by_step: Numbered, selection: list[int], shape: WindowShape, size: int, memory: int
):
    """In that order unshuffled, each once shuffled, within any memory that holds a block."""
    assert_batches(by_step, selection, shape, size, memory)


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(selection=selections(), shape=shapes(("sequence",)), size=sizes, memory=memories)
def test_batches_of_labelled_sequences_hold_the_label_of_each_windows_sequence(
    by_sequence: Numbered, selection: list[int], shape: WindowShape, size: int, memory: int
):
    assert_batches(by_sequence, selection, shape, size, memory)


def test_batches_of_a_folder_are_the_slices_of_each_file(in_chunks: Numbered):
    """The definition that users know: n rows and the one after them, file by file, nothing across files."""
    n, inputs, labels = 5, [], []
    for data, targets in in_chunks.sequences:
        inputs += [data[i : i + n] for i in range(len(data) - n)]
        labels += [targets[i + n] for i in range(len(data) - n)]
    for shuffle in (False, True):
        xs, ys = zip(*in_chunks.store.windows(n).batches(16, shuffle=shuffle, memory="20kB"), strict=True)
        x, y = np.concatenate(xs), np.concatenate(ys)[:, 0]
        order = np.argsort(x[:, 0, 0]) if shuffle else slice(None)
        assert np.array_equal(x[order], np.array(inputs))
        assert np.array_equal(y[order], np.array(labels))


def in_one(batches: Batches) -> list[bytes]:
    return keys(unbatched(list(batches)))


def test_the_order_follows_from_seed_and_epoch(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)

    def order(**options: Any) -> list[bytes]:
        return in_one(windows.batches(10, memory=9000, shuffle=True, **options))

    first = order(seed=3, epoch=1)
    assert order(seed=3, epoch=1) == first
    others = [order(seed=3), order(seed=3, epoch=2), order(seed=4, epoch=1), order(seed=1, epoch=3)]
    assert first not in others
    assert all(sorted(each) == sorted(first) for each in others)
    assert len({tuple(each) for each in others}) == len(others)


def test_the_order_stays_what_it_was(in_chunks: Numbered):
    """On every platform and with every release: the first windows of an epoch, and all of them in a sum."""
    x = np.concatenate(
        [x for x, _ in in_chunks.store.windows(4).batches(10, memory=9000, shuffle=True, seed=7, epoch=2)]
    )
    order = x[:, 0, 0] // 2
    assert order[:12].tolist() == GOLDEN
    assert int((order * np.arange(len(order))).sum()) == GOLDEN_SUM


GOLDEN = [17, 118, 44, 51, 64, 187, 10, 12, 209, 173, 24, 296]
GOLDEN_SUM = 5123586


def test_the_order_does_not_depend_on_the_size_of_a_batch(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)
    orders = [in_one(windows.batches(size, memory=9000, shuffle=True)) for size in (1, 7, 10)]
    assert orders[0] == orders[1] == orders[2]


@given(
    shape=shapes(),
    size=st.integers(1, 12),
    world_size=st.integers(1, 5),
    memory=memories,
    shuffle=st.booleans(),
    drop_last=st.booleans(),
)
def test_ranks_share_the_epoch_of_one(
    in_chunks: Numbered, shape: WindowShape, size: int, world_size: int, memory: int, *, shuffle: bool, drop_last: bool
):
    """Equally many batches on each; in turn they are the order that one rank has."""
    windows = Windows(in_chunks.store, shape)
    options: dict[str, Any] = {"shuffle": shuffle, "drop_last": drop_last}
    memory = max(memory, 10**4)
    alone = unbatched(list(windows.batches(1, shuffle=shuffle, memory=memory)))
    try:
        ranks = [
            list(windows.batches(size, memory=memory, rank=rank, world_size=world_size, **options))
            for rank in range(world_size)
        ]
    except WindowError as error:
        assert re.search(r"cannot be distributed|a batch takes", str(error))  # noqa: PT017  # some of the cases
        return
    assert len({len(batches) for batches in ranks}) == 1
    whole = len(alone) - (len(alone) % (size * world_size) if drop_last else 0)
    for rank, batches in enumerate(ranks):
        assert all_same(unbatched(batches), alone[:whole][rank::world_size])


def test_windows_of_a_batch_come_from_all_over_the_store(in_chunks: Numbered):
    """With memory for a third of the store, a batch is no run of neighbours."""
    for x, _ in in_chunks.store.windows(4).batches(20, shuffle=True, memory=12_000, drop_last=True):
        rows = np.sort(x[:, 0, 0] // 2)
        assert rows[-1] - rows[0] > 100  # of 308
        assert (np.diff(rows) > 1).sum() > 4


def test_each_chunk_is_decompressed_once_in_order_when_memory_holds_it_all(
    in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch
):
    read = chunks_read(monkeypatch)
    list(in_chunks.store.windows(4).batches(16))
    assert len(read) == len(set(read))
    assert len(read) == 2 * 39  # of 308 rows, inputs and labels


def test_a_selection_reads_only_its_own_chunks(in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch):
    read = chunks_read(monkeypatch)
    ends = np.cumsum([len(x) for x, _ in in_chunks.sequences])
    for shuffle in (False, True):
        read.clear()
        list(in_chunks.store.select([5, 12]).windows(4).batches(16, shuffle=shuffle))
        own = {row // 8 for number in (5, 12) for row in range(ends[number - 1], ends[number])}
        assert {chunk for _, chunk in read} <= own


def test_parts_of_inputs_and_labels_are_read_by_turns(in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch):
    """Labels have small chunks: threads that read nothing else wait for each other."""
    submitted: list[str] = []
    submit = ThreadPoolExecutor.submit

    def noted(self: ThreadPoolExecutor, function: Any, *arguments: Any) -> Any:
        if function.__name__ == "_read_part":
            submitted.append(arguments[0])
        return submit(self, function, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", noted)
    list(in_chunks.store.windows(4).batches(8, shuffle=True, memory="40kB"))
    assert submitted[:4] == ["inputs", "labels"] * 2  # inputs may have more parts


def chunks_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list that grows by each chunk that is decompressed."""
    read: list[tuple[str, int]] = []
    fill = Shards.fill

    def counted(self: Shards, name: str, start: int, out: NDArray[Any], **options: bool) -> None:
        assert start + len(out) <= self._root.counts.steps, "rows that are not committed"
        read.extend((name, number) for number in range(start // 8, -(-(start + len(out)) // 8)))
        fill(self, name, start, out, **options)

    monkeypatch.setattr(Shards, "fill", counted)
    return read


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"epoch": -1}, "epoch is -1"),
        ({"rank": 3, "world_size": 2}, "rank=3 with world_size=2"),
        ({"world_size": 0}, "world_size is 0"),
        ({"memory": 0}, "memory is 0"),
        ({"batch_size": 1, "memory": 500}, "memory=500 bytes is too little: .* windows take 228 .* give memory=608"),
        ({"transform": 3}, "transform=3; give a function of the batch"),
        ({"memory": 2.5e8}, "memory is 250000000.0"),
        ({"memory": 100}, r"memory=100 bytes is too little: .* windows take \d+ .* give memory=\d+"),
        (
            {"batch_size": 500, "memory": "10kB"},
            "memory=10,000 bytes is too little: .* a batch takes 18,720 .* memory=149760",
        ),
    ],
)
def test_what_is_impossible_is_refused_before_the_first_batch(in_chunks: Numbered, options: Any, message: str):
    with pytest.raises(WindowError, match=message):
        in_chunks.store.windows(4).batches(**{"batch_size": 4, "shuffle": True, **options})


def test_a_memory_that_is_no_size_is_refused(in_chunks: Numbered):
    with pytest.raises(WindowError, match="'lots' is not a size"):
        in_chunks.store.windows(4).batches(4, memory="lots")


def test_padding_beyond_any_memory_is_refused(in_chunks: Numbered):
    with pytest.raises(WindowError, match="memory=256,000,000 bytes is too little"):
        in_chunks.store.windows(2**60, short="pad").batches(4)


def test_no_windows_are_no_batches(in_chunks: Numbered):
    for windows in (in_chunks.store.windows(101), in_chunks.store.select([]).windows(1)):
        for shuffle in (False, True):
            batches = windows.batches(4, shuffle=shuffle, memory=1)
            assert len(batches) == 0
            assert list(batches) == []


def threads() -> set[threading.Thread]:
    """Return ours. Those of another test may be there until the garbage collector comes."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("seqzarr")}


def test_no_thread_outlives_the_iterator(in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch):
    """Not started before the first batch; gone when the iterator is exhausted, closed, or dropped."""
    others, started = threads(), threading.Event()
    cut = Pool.cut

    def counted(self: Pool, start: int, *others: Any) -> Any:
        if start:
            started.set()  # the batch after the first is being made
        return cut(self, start, *others)

    monkeypatch.setattr(Pool, "cut", counted)
    gc.disable()  # dropping alone must do
    try:
        for end in (list, Batches.close, lambda _: None):
            batches = in_chunks.store.windows(4).batches(2, shuffle=True, memory=9000)
            assert threads() <= others
            started.clear()
            next(batches)
            started.wait()
            end(batches)
            del batches
            assert threads() <= others
    finally:
        gc.enable()


def test_a_closed_iterator_gives_no_more(in_chunks: Numbered):
    batches = in_chunks.store.windows(4).batches(2)
    next(batches)
    batches.close()
    assert list(batches) == []


def test_what_is_being_read_is_cancelled_when_nobody_wants_it_any_more():
    """Closing does not wait for the pool to be read to its end."""
    others, cancelled = threads(), threading.Event()

    def load() -> Generator[int, None, None]:
        yield 0
        cancelled.wait()
        yield 1

    pools = ahead(load, 2, "seqzarr test", cancelled)
    assert next(pools) == 0
    pools.close()
    assert threads() <= others


def test_no_more_things_are_made_ahead_than_there_are_slots():
    """The one in use among them: what is made takes memory."""
    others, enough = threads(), threading.Event()
    made: list[int] = []

    def make() -> Generator[int, None, None]:
        for number in range(9):
            made.append(number)
            if number == 2:
                enough.set()
            yield number

    things = ahead(make, 3, "seqzarr test", threading.Event())
    assert next(things) == 0
    enough.wait()
    assert made == [0, 1, 2]
    assert list(things) == list(range(1, 9))
    assert threads() <= others


def test_a_cancelled_loader_reads_nothing(in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch):
    read = chunks_read(monkeypatch)
    windows = in_chunks.store.windows(4)
    cancelled = threading.Event()
    cancelled.set()
    loader = Loader(windows.batches(4)._plan, None, cancelled)
    with pytest.raises(StoreError, match="cancelled"):
        loader(0)
    loader.close()
    assert read == []


def test_an_error_in_the_thread_is_raised_by_next_as_it_was(tmp_path: Path):
    store = numbered(tmp_path / "s.zarr", "step", chunk=8).store
    for path in set((tmp_path / "s.zarr" / "inputs").glob("c.*")) - {tmp_path / "s.zarr" / "inputs" / "c.0.0"}:
        data = bytearray(path.read_bytes())
        data[: len(data) // 2] = bytes(len(data) // 2)
        path.write_bytes(data)
    others = threads()
    batches = store.windows(4).batches(4, memory=6000)
    next(batches)
    with pytest.raises(ChecksumError, match=r"inputs/c\..*crc32c"):
        list(batches)
    assert threads() <= others


def test_an_error_that_comes_while_batches_wait_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The thread that reads has failed and ended before the one that cuts goes on."""
    store = numbered(tmp_path / "s.zarr", "step", chunk=8).store
    failed = threading.Event()

    def load(loader: Loader, number: int) -> Pool:
        if number == 1:
            failed.set()
            monkeypatch.setattr(loader, "_read", fail)
        return call(loader, number)

    def fail(*_: Any) -> None:
        raise StoreError("the second pool")

    call = Loader.__call__
    monkeypatch.setattr(Loader, "__call__", load)
    batches = store.windows(4).batches(1, memory=6000)  # a pool has more of them than may wait
    next(batches)
    failed.wait()
    for thread in threading.enumerate():
        if thread.name == "seqzarr pools":
            thread.join()
    with pytest.raises(StoreError, match="the second pool"):
        list(batches)


def test_an_iterator_that_was_begun_is_refused_after_a_fork(in_chunks: Numbered):
    """One that was not, and windows, work there."""
    windows = in_chunks.store.windows(4)
    begun, fresh = windows.batches(2, shuffle=True), windows.batches(2, shuffle=True)
    wanted = in_one(windows.batches(2, shuffle=True))
    next(begun)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            next(begun)
            answer = "no error"
        except WindowError as error:
            answer = f"{error}|{in_one(fresh) == wanted}"
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
            answer = repr(error)
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert re.fullmatch(
        rf"these batches were begun in process {os.getpid()}, but are asked for in {child}; .*\|True", answer
    )


def test_a_child_is_refused_though_a_thread_was_waiting_for_a_batch(in_chunks: Numbered, tmp_path: Path):
    """That thread holds the lock, and is not there after a fork to give it back."""
    waiting, go = threading.Event(), threading.Event()

    def wait(batch: Batch) -> Batch:
        waiting.set()
        assert go.wait(30)
        return batch

    batches = in_chunks.store.windows(4).batches(2, transform=wait)
    taken: list[Batch] = []
    thread = threading.Thread(target=lambda: taken.append(next(batches)))
    thread.start()
    assert waiting.wait(30)
    child = os.fork()
    if not child:
        signal.alarm(30)  # nobody would end it if it hung
        try:
            next(batches)
        except WindowError as error:
            (tmp_path / "said").write_text(str(error))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    go.set()
    thread.join(30)
    assert len(taken) == 1
    batches.close()
    assert re.match(rf"these batches were begun in process {os.getpid()}, ", (tmp_path / "said").read_text())


def test_batches_are_arrays_of_their_own(in_chunks: Numbered):
    """A batch that is kept, or changed, neither changes nor is changed."""
    windows = in_chunks.store.windows(4, short="pad", target="aligned")
    wanted = [tuple(array.copy() for array in batch) for batch in windows.batches(5, memory=9000)]
    assert all_same(list(windows.batches(5, memory=9000)), wanted)
    changed = []
    for batch in windows.batches(5, memory=9000):
        changed.append(tuple(array.copy() for array in batch))
        for array in batch:
            array[:] = 0
    assert all_same(changed, wanted)


def test_pickled_windows_make_the_same_batches(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)
    copy = pickle.loads(pickle.dumps(windows))
    assert in_one(copy.batches(4, shuffle=True)) == in_one(windows.batches(4, shuffle=True))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 2, 3)])
def test_rows_of_any_shape_and_dtype_are_batched(tmp_path: Path, dtype: str, shape: tuple[int, ...]):
    rng = np.random.default_rng(0)
    x = [(rng.normal(size=(length, *shape)) * 9).astype(dtype) for length in (30, 3, 17)]
    with store_spec.create_store(
        tmp_path / "s.zarr", inputs=(dtype, shape), labels=(dtype, shape), chunk=96, shard=9600
    ) as writer:
        for number, rows in enumerate(x):
            writer.append(rows, rows[::-1], source=f"s{number}")
    windows = store_spec.open_store(tmp_path / "s.zarr").windows(5, target="aligned", short="pad", sampling_rate=2)
    wanted = listed([(rows, rows[::-1]) for rows in x], windows.shape)
    assert all_same(unbatched(list(windows.batches(4, memory="90kB"))), wanted)
    assert sorted(in_one(windows.batches(4, memory="90kB", shuffle=True))) == sorted(keys(wanted))


@pytest.mark.parametrize(("dtype", "labels"), [("float32", "float32"), ("int16", "float64"), ("float64", "int64")])
def test_normalised_batches_are_the_normalised_windows(tmp_path: Path, dtype: str, labels: str):
    rng = np.random.default_rng(0)
    with store_spec.create_store(
        tmp_path / "s.zarr", inputs=(dtype, (2,)), labels=(labels, (1,)), chunk=160, shard=1600
    ) as writer:
        for number, length in enumerate((40, 3, 25)):
            x = (rng.normal(5, 40, (length, 2))).astype(dtype)
            writer.append(x, x[:, :1].astype(labels), source=f"s{number}")
    store = store_spec.open_store(tmp_path / "s.zarr")
    windows = store.windows(4, short="pad", normalize=store.select([0, 1]).stats())
    assert all_same(unbatched(list(windows.batches(7, memory="20kB"))), list(windows))
