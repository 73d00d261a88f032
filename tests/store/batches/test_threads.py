"""Threads that read ahead, and threads that take batches:

each batch once, in order, after errors, forks and collection.
"""

import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import StoreError
from store_spec.reading.ahead import Maker, ahead, in_groups
from store_spec.reading.one_epoch import EpochOptions, EpochPlan, OneEpoch
from store_spec.windows.loading import Loader
from store_spec.windows.pools import _Blocks
from tests.store.forks import in_fork
from tests.store.kinds import assert_ended, begin, chunks_read, threads
from tests.store.oracle import Recipe, make, write
from tests.store.window_oracle import Written, keys, unbatched

SECONDS = 30  # after which a thread that hangs fails a test
STEPS = 100


class MadePlan(EpochPlan):
    """An epoch with batches from a test instead of a store."""

    read: Callable[[int, int], list[Any]]
    most: Callable[[int], int]
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __str__(self) -> str:
        return "something"

    def batches(self, numbers: range) -> Generator[Any, None, None]:
        return in_groups(lambda some: self.read(some.start, some.stop), lambda left: self.most(left.start), numbers)


class MadeEpoch(OneEpoch[MadePlan]):
    _of, _kind = "made", "made"

    def __init__(self, read: Callable[[int, int], list[Any]], most: Callable[[int], int], steps: int) -> None:
        store = SimpleNamespace(counts=SimpleNamespace(sequences=1))
        options, rows = EpochOptions(), SimpleNamespace(store=store, normalize=None)
        plan = MadePlan(options, rows, None)
        plan.read, plan.most, plan.steps = read, most, steps
        super().__init__(options, plan)


def make_batches(first: int, stop: int) -> list[tuple[Any]]:
    return [(np.array(number),) for number in range(first, stop)]


def keys_of(batches: Any) -> list[bytes]:
    return keys(unbatched(list(batches)))


def ten(step: int) -> int:
    return min(10, STEPS - step)


def numbers(batches: Any) -> list[int]:
    return [int(batch[0]) for batch in batches]


@given(most=st.lists(st.integers(0, 30), min_size=STEPS, max_size=STEPS), step=st.integers(0, STEPS))
def test_each_batch_occurs_once_and_few_are_in_memory(most: list[int], step: int):
    read = list[tuple[int, int]]()

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        read.append((first, stop))
        assert stop - first <= max(1, most[first])
        return make_batches(first, stop)

    found = []
    epoch = in_groups(
        lambda some: reading(some.start, some.stop), lambda left: min(most[left.start], len(left)), range(step, STEPS)
    )
    for batch in epoch:
        found += numbers([batch])
    assert found == list(range(step, STEPS))
    assert [number for first, stop in read for number in range(first, stop)] == found


def test_the_next_batches_are_read_while_others_are_in_use():
    read, go = threading.Event(), threading.Event()

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        if first:
            read.set()
            assert go.wait(60)
        return make_batches(first, stop)

    epoch = MadeEpoch(reading, ten, STEPS)
    assert numbers([next(epoch)]) == [0]
    assert read.wait(60)  # before they are needed
    go.set()
    assert numbers([next(epoch)]) == [1]


def test_if_two_batches_do_not_fit_none_is_read_ahead():
    read: list[int] = []

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        read.append(first)
        return make_batches(first, stop)

    epoch = MadeEpoch(reading, lambda _: 0, STEPS)
    for number in range(3):
        assert numbers([next(epoch)]) == [number]
        assert read == list(range(number + 1))


@pytest.mark.parametrize("bad", [0, 1, 5, 40, STEPS - 1])
@pytest.mark.parametrize("error", [StoreError, MemoryError])
def test_an_unreadable_batch_is_an_error_until_it_can_be_read(bad: int, error: type[Exception]):
    damaged = True

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        if damaged and first <= bad < stop:
            raise error(f"batch {bad} of {first} to {stop}")
        return make_batches(first, stop)

    epoch, found = MadeEpoch(reading, ten, STEPS), list[int]()
    for _ in range(3):
        with pytest.raises(error, match=f"batch {bad} "):
            found.extend(int(batch[0]) for batch in epoch)
        assert found == list(range(len(found)))
        assert len(found) == bad or error is MemoryError  # it may be one of several that do not fit
    damaged = False
    assert found + numbers(epoch) == list(range(STEPS))


@pytest.mark.parametrize("taken", [0, 1, 2, 20])
def test_a_copy_and_a_fork_continue_with_the_remaining_batches(taken: int):
    epoch = MadeEpoch(make_batches, ten, STEPS)
    for number in range(taken):
        assert numbers([next(epoch)]) == [number]
    left = list(range(taken, STEPS))
    assert numbers(pickle.loads(pickle.dumps(epoch))) == left
    assert in_fork(lambda: numbers(epoch)) == left
    assert numbers(epoch) == left


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    "method", [Loader.__call__, Loader._read_part, _Blocks._batch], ids=lambda one: one.__qualname__
)
def test_the_garbage_collector_may_close_an_epoch_in_any_of_its_threads(tmp_path, method, monkeypatch):
    """The other threads of the epoch wait for the collecting one, so it must not wait for them."""
    others, dropped, found = threads(), threading.Event(), list[int]()
    store, later, waiting = store_in_small_shards(tmp_path), threading.Event(), threading.Event()

    def collected(thing: Any, *arguments: Any) -> Any:
        if later.is_set() and not found:
            waiting.set()
            if dropped.wait(1):
                found.append(gc.collect())
            waiting.clear()  # the next batch may need this thread
        return method(thing, *arguments)

    monkeypatch.setattr(Loader if method is not _Blocks._batch else _Blocks, method.__name__, collected)
    batches = store.windows(4).batches(8, memory="20kB")
    next(batches)
    later.set()
    while not waiting.wait(0.05):
        next(batches)
    in_cycle(batches)
    del batches
    dropped.set()
    assert_ended(threads() - others)
    assert found


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("kind", ["windows", "padded"])
def test_the_garbage_collector_may_close_an_epoch_while_its_thread_needs_a_held_lock(tmp_path: Path, kind: str):
    """For example, the lock of a logger."""
    others, store, found = threads(), store_in_small_shards(tmp_path), list[int]()
    lock, held, waiting, calls = threading.Lock(), threading.Event(), threading.Event(), itertools.count()

    def transform(batch: Any) -> Any:
        if next(calls):
            assert held.wait(20)
            waiting.set()
        with lock:
            return batch

    def collect() -> None:
        with lock:
            held.set()
            assert waiting.wait(20)
            found.append(gc.collect())

    options: Any = {"windows": {"batch_size": 8, "memory": "20kB"}, "padded": {"batch_size": 1, "memory": "5kB"}}
    batches = begin(store, kind, transform=transform, **options[kind])
    next(batches)
    in_cycle(batches)
    del batches
    collecting = threading.Thread(target=collect, daemon=True)
    collecting.start()
    collecting.join(40)
    assert found
    assert_ended(threads() - others)


def test_a_ctrl_c_during_garbage_collection_is_not_lost():
    """During a function in C, a signal is handled by the first Python code that runs."""
    code = """
import pickle, signal, store_spec

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
lists = pickle.dumps([[number] for number in range(3 * 10**5)])
for _ in range(3):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        for _ in range(100):
            pickle.loads(lists)
    except KeyboardInterrupt:
        print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.stderr) == ("interrupted\n" * 3, "")


def store_in_small_shards(folder: Path) -> store_spec.Store:
    recipe = Recipe(chunk=8, shard=16)
    return store_spec.open_store(write(recipe, folder / "s.zarr", make(recipe, [20] * 40)))


def in_cycle(thing: object) -> None:
    """Create a reference cycle with an object, so that only the garbage collector deletes it."""
    cycle: list[Any] = [thing]
    cycle.append(cycle)


@pytest.mark.parametrize("started", [0, 1])
def test_threads_that_were_started_end_if_another_cannot_be_started(tmp_path, started, monkeypatch):
    monkeypatch.setattr("store_spec.windows.batches.threads", lambda: 3)
    others, start, names = threads(), Maker.start, list[str]()

    def failing(maker: Any) -> None:
        names.append(maker.name)
        if len(names) == started + 1:
            raise RuntimeError("can't start new thread")
        start(maker)

    windows = store_in_small_shards(tmp_path).windows(4)
    whole = keys(list(windows.batches(8, memory="40kB")))
    batches = windows.batches(8, memory="40kB")
    monkeypatch.setattr(Maker, "start", failing)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(batches)
    assert names == ["seqzarr batches"] * (started + 1)
    assert_ended(threads() - others)
    assert keys(list(batches)) == whole


def test_a_signal_handler_that_takes_a_batch_is_refused(monkeypatch: pytest.MonkeyPatch):
    """It runs in the thread that waits for the next batch, and would wait forever."""
    original, refused = MadePlan.batches, list[str]()

    def interrupted(plan: MadePlan, some: range) -> Any:
        for batch in original(plan, some):
            signal.raise_signal(signal.SIGALRM)
            yield batch

    def handler(*_: Any) -> None:
        for call in (batches.close, batches.__next__):
            with pytest.raises(ValueError, match="generator already executing") as error:
                call()
            refused.append(str(error.value))

    monkeypatch.setattr(MadePlan, "batches", interrupted)
    batches = MadeEpoch(make_batches, ten, STEPS)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        assert numbers(batches) == list(range(STEPS))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(refused) == 2 * STEPS


def test_a_child_continues_if_another_thread_was_reading_at_the_fork():
    """The thread holds the lock, and does not exist after a fork to release it."""
    reading, go = threading.Event(), threading.Event()
    parent = os.getpid()

    def read(first: int, stop: int) -> list[Any]:
        if first and os.getpid() == parent:
            reading.set()
            assert go.wait(SECONDS)
        return list(range(first, stop))

    epoch: Any = MadeEpoch(read, lambda number: 5 - number, 5)
    assert next(epoch) == 0
    rest: list[Any] = []
    thread = threading.Thread(target=lambda: rest.extend(epoch))
    thread.start()
    assert reading.wait(SECONDS)
    assert in_fork(lambda: list(epoch)) == [1, 2, 3, 4]
    go.set()
    thread.join(SECONDS)
    assert rest == [1, 2, 3, 4]


def test_reading_is_cancelled_when_the_iterator_is_closed():
    """Closing does not wait until the pool is read."""
    others, cancelled = threads(), threading.Event()

    def load() -> Generator[int, None, None]:
        yield 0
        cancelled.wait()
        yield 1

    pools = ahead(load, 2, "seqzarr test", cancelled)
    assert next(pools) == 0
    pools.close()
    assert threads() <= others


def test_no_more_items_are_made_ahead_than_slots():
    """The one in use counts: each takes memory."""
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


def test_a_cancelled_loader_reads_nothing(by_step: Written, monkeypatch: pytest.MonkeyPatch):
    read = chunks_read(monkeypatch)
    windows = by_step.store.windows(4)
    cancelled = threading.Event()
    cancelled.set()
    loader = Loader(windows.batches(4)._plan, None, cancelled)
    with pytest.raises(StoreError, match="cancelled"):
        loader(0)
    loader.close()
    assert read == []


def test_pools_are_in_memory_of_the_thread_that_takes_the_batches(tmp_path, monkeypatch):
    """The C library keeps memory for the thread that allocated it, so with other threads it would grow each epoch."""
    store, space, made = store_in_small_shards(tmp_path), Loader._space, set[threading.Thread]()

    def recorded(*arguments: Any) -> Any:
        made.add(threading.current_thread())
        return space(*arguments)

    monkeypatch.setattr(Loader, "_space", recorded)
    batches = store.windows(4).batches(8, memory="20kB")
    assert batches._plan.kept is None
    assert list(batches)
    assert made == {threading.current_thread()}


@pytest.mark.parametrize("memory", ["256MB", "9kB"])
@pytest.mark.parametrize("taken", [0, 1, 30])
def test_windows_continue_after_a_fork(by_step: Written, taken: int, memory: str):
    """From the cache of all rows or from pools; parent and child have all remaining batches."""
    batches = by_step.store.windows(4).batches(2, shuffle=True, memory=memory)
    rest = keys_of(by_step.store.windows(4).batches(2, shuffle=True, memory=memory))[2 * taken :]
    for _ in range(taken):
        next(batches)
    assert in_fork(lambda: keys_of(batches)) == rest
    assert keys_of(batches) == rest


def test_batches_are_closed_while_another_thread_waits_for_one(by_step: Written):
    waiting, go = threading.Event(), threading.Event()

    def transform(batch: Any) -> Any:
        waiting.set()
        assert go.wait(30)
        return batch

    batches = by_step.store.windows(4).batches(16, transform=transform)
    with ThreadPoolExecutor(2) as pool:
        taken = pool.submit(next, batches)
        assert waiting.wait(30)
        closed = pool.submit(batches.close)
        go.set()
        assert len(taken.result(30)[0]) == 16
        closed.result(30)
    assert list(batches) == []


def test_a_worker_reads_ahead_and_gathers_and_transforms_on_demand(by_step: Written):
    """A worker makes its batches in advance anyway, and one more thread would be one more to wait for."""
    before, callers = set(threading.enumerate()), []

    def transform(batch: Any) -> Any:
        callers.append(threading.current_thread())
        return batch

    batches = by_step.store.windows(4).batches(10, shuffle=True, memory=20_000, transform=transform).of_worker(1, 3)
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
