"""Batches that are read ahead of use: each once, in order, whatever goes wrong on the way."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import StoreError, WindowError
from store_spec.reading.ahead import Maker, in_groups
from store_spec.windows.loading import Loader
from store_spec.windows.pools import _Blocks
from tests.store.made_epoch import MadeEpoch, MadePlan
from tests.store.oracle import Recipe, make, write
from tests.store.test_zarr_stores import bits

STEPS = 100


def made(first: int, stop: int) -> list[tuple[Any]]:
    return [(np.array(number),) for number in range(first, stop)]


def ten(step: int) -> int:
    return min(10, STEPS - step)


def numbers(batches: Any) -> list[int]:
    return [int(batch[0]) for batch in batches]


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("seqzarr")}


@given(most=st.lists(st.integers(0, 30), min_size=STEPS, max_size=STEPS), step=st.integers(0, STEPS))
def test_each_batch_comes_once_and_no_more_are_there_than_may_be(most: list[int], step: int):
    read = list[tuple[int, int]]()

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        read.append((first, stop))
        assert stop - first <= max(1, most[first])
        return made(first, stop)

    found = []
    epoch = in_groups(
        lambda some: reading(some.start, some.stop), lambda left: min(most[left.start], len(left)), range(step, STEPS)
    )
    for batch in epoch:
        found += numbers([batch])
    assert found == list(range(step, STEPS))
    assert [number for first, stop in read for number in range(first, stop)] == found


def test_the_next_ones_are_read_while_those_before_are_in_use():
    read, go = threading.Event(), threading.Event()

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        if first:
            read.set()
            assert go.wait(60)
        return made(first, stop)

    together = MadeEpoch(reading, ten, STEPS)
    assert numbers([next(together)]) == [0]
    assert read.wait(60)  # nobody asked for them yet
    go.set()
    assert numbers([next(together)]) == [1]


def test_where_two_do_not_fit_none_is_read_before_it_is_asked_for():
    read: list[int] = []

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        read.append(first)
        return made(first, stop)

    together = MadeEpoch(reading, lambda _: 0, STEPS)
    for number in range(3):
        assert numbers([next(together)]) == [number]
        assert read == list(range(number + 1))


@pytest.mark.parametrize("bad", [0, 1, 5, 40, STEPS - 1])
@pytest.mark.parametrize("error", [StoreError, MemoryError])
def test_one_that_cannot_be_read_is_an_error_each_time_and_comes_when_it_can(bad: int, error: type[Exception]):
    damaged = True

    def reading(first: int, stop: int) -> list[tuple[Any]]:
        if damaged and first <= bad < stop:
            raise error(f"batch {bad} of {first} to {stop}")
        return made(first, stop)

    together, found = MadeEpoch(reading, ten, STEPS), list[int]()
    for _ in range(3):
        with pytest.raises(error, match=f"batch {bad} "):
            found.extend(int(batch[0]) for batch in together)
        assert found == list(range(len(found)))
        assert len(found) == bad or error is MemoryError  # it may be one of several that do not fit
    damaged = False
    assert found + numbers(together) == list(range(STEPS))


@pytest.mark.parametrize("taken", [0, 1, 2, 20])
def test_a_copy_and_a_fork_go_on_with_those_that_were_left(taken: int):
    together = MadeEpoch(made, ten, STEPS)
    for number in range(taken):
        assert numbers([next(together)]) == [number]
    left = list(range(taken, STEPS))
    assert numbers(pickle.loads(pickle.dumps(together))) == left
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        signal.alarm(60)  # it would wait without end for a thread that is not there
        try:
            os.write(theirs, bytes(numbers(together)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(theirs)
    with open(ours, "rb") as answer:
        assert list(answer.read()) == left
    assert numbers(together) == left


def test_where_no_thread_can_be_started_none_is_needed(monkeypatch: pytest.MonkeyPatch):
    starts = threading.Thread.start
    left = 1

    def refused(thread: threading.Thread) -> None:
        nonlocal left
        if thread.name.startswith("seqzarr batches") and left:
            left -= 1
            raise RuntimeError("can't start new thread")
        starts(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert numbers(MadeEpoch(made, ten, STEPS)) == list(range(STEPS))
    assert not left


@pytest.mark.parametrize("kind", ["padded", "streams"])
def test_what_was_read_ahead_goes_with_the_iterator_at_once(tmp_path: Path, kind: str):
    others, recipe = threads(), Recipe()
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, [20] * 40)))
    gc.disable()
    try:
        batches = store.padded(2) if kind == "padded" else store.streams(2, 3)
        next(batches)
        (thread,) = threads() - others
        del batches
        thread.join(60)
        assert not thread.is_alive()
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["lost", "damaged"])
@pytest.mark.parametrize("kind", ["windows", "padded", "streams"])
def test_what_an_error_ended_goes_with_the_iterator_at_once(tmp_path: Path, kind: str, wrong: str):
    others, recipe = threads(), Recipe(chunk=8, shard=16)
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, [20] * 40)))
    batches: Any = {
        "windows": lambda: store.windows(4).batches(8, memory="20kB"),
        "padded": lambda: store.padded(2),
        "streams": lambda: store.streams(2, 3),
    }[kind]()
    for shard in sorted((tmp_path / "s.zarr" / "inputs").glob("c.*"))[-20:]:
        if wrong == "lost":
            shard.unlink()
        else:
            shard.write_bytes(bytes(shard.stat().st_size))
    gc.disable()
    try:
        with pytest.raises(StoreError):
            list(batches)
        gone = weakref.ref(batches)
        del batches
        assert gone() is None
        for thread in threads() - others:
            thread.join(60)
            assert not thread.is_alive()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "method", [Loader.__call__, Loader._read_part, _Blocks._batch], ids=lambda one: one.__qualname__
)
def test_the_garbage_collector_may_close_an_epoch_in_any_of_its_threads(
    tmp_path: Path, method: Any, monkeypatch: pytest.MonkeyPatch
):
    """The others of these threads wait for it, so it must not wait for them."""
    others, dropped, found = threads(), threading.Event(), list[int]()
    store, later = store_in_small_shards(tmp_path), threading.Event()

    def collected(thing: Any, *arguments: Any) -> Any:
        if later.is_set() and not found:
            assert dropped.wait(60)
            found.append(gc.collect())
        return method(thing, *arguments)

    monkeypatch.setattr(Loader if method is not _Blocks._batch else _Blocks, method.__name__, collected)
    gc.disable()
    try:
        batches = store.windows(4).batches(8, memory="20kB")
        next(batches)
        later.set()
        next(batches)
        in_cycle(batches)
        del batches
        dropped.set()
        assert_ended(threads() - others)
    finally:
        gc.enable()
    assert found


@pytest.mark.parametrize("kind", ["windows", "padded"])
def test_the_garbage_collector_may_close_an_epoch_while_a_lock_is_held_that_a_thread_of_it_needs(
    tmp_path: Path, kind: str
):
    """As that of a logger."""
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

    gc.disable()
    try:
        batches: Any = {
            "windows": lambda: store.windows(4).batches(8, memory="20kB", transform=transform),
            "padded": lambda: store.padded(1, memory="5kB", transform=transform),
        }[kind]()
        next(batches)
        in_cycle(batches)
        del batches
        collecting = threading.Thread(target=collect, daemon=True)
        collecting.start()
        collecting.join(40)
        assert found
        assert_ended(threads() - others)
    finally:
        gc.enable()


def test_a_ctrl_c_that_comes_while_the_collector_runs_is_not_lost():
    """In the middle of a function in C, a signal is noticed by the first code in Python that runs."""
    code = """
import pickle, signal, store_spec

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
lists = pickle.dumps([[number] for number in range(10**6)])
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
    """Leave a thing to the garbage collector."""
    cycle: list[Any] = [thing]
    cycle.append(cycle)


def assert_ended(some: set[threading.Thread]) -> None:
    for thread in some:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
@pytest.mark.parametrize("started", [0, 1])
def test_threads_that_were_started_end_if_another_cannot_be_started(
    tmp_path: Path, started: int, error: BaseException, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("store_spec.windows.batches.threads", lambda: 3)
    others, start, names = threads(), Maker.start, list[str]()

    def failing(maker: Any) -> None:
        names.append(maker.name)
        if len(names) == started + 1:
            raise error
        start(maker)

    windows = store_in_small_shards(tmp_path).windows(4)
    whole = [bits(batch) for batch in windows.batches(8, memory="40kB")]
    batches = windows.batches(8, memory="40kB")
    monkeypatch.setattr(Maker, "start", failing)
    if isinstance(error, RuntimeError):
        assert [bits(batch) for batch in batches] == whole
    else:
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    assert names[: started + 1] == ["seqzarr batches"] * (started + 1)
    assert_ended(threads() - others)


@pytest.mark.parametrize("kind", ["windows", "padded", "streams", "packed"])
def test_a_transform_that_stops_an_iteration_is_an_error(tmp_path: Path, kind: str):
    """As `next` of an iterator that has no more items: the batch must not be left out."""
    store, numbers = store_in_small_shards(tmp_path), iter(range(3))

    def transform(batch: Any) -> Any:
        next(numbers)
        return batch

    batches: Any = {
        "windows": lambda: store.windows(4).batches(2, transform=transform),
        "padded": lambda: store.padded(2, transform=transform),
        "streams": lambda: store.streams(2, 5, transform=transform),
        "packed": lambda: store.packed(40, transform=transform),
    }[kind]()
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(batches)


@pytest.mark.parametrize("restarts", [True, False])
def test_a_signal_handler_that_takes_a_batch_is_refused(restarts: Any, monkeypatch: pytest.MonkeyPatch):
    """It runs in the thread that waits for the next batch, and would wait for that without end."""
    original, refused = MadePlan.batches, list[str]()

    def interrupted(plan: MadePlan, some: range) -> Any:
        for batch in original(plan, some):
            signal.raise_signal(signal.SIGALRM)
            yield batch

    def handler(*_: Any) -> None:
        for call in (batches.close, batches.__next__):
            with pytest.raises(WindowError, match="a signal came while a batch was taken") as error:
                call()
            refused.append(str(error.value))

    monkeypatch.setattr(MadePlan, "batches", interrupted)
    monkeypatch.setattr(MadeEpoch, "_restarts", restarts)
    batches = MadeEpoch(made, ten, STEPS)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        assert numbers(batches) == list(range(STEPS))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(refused) == 2 * STEPS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["windows(4).batches(4)", "padded(2)", "streams(2, 3)"])
def test_python_ends_without_a_word_though_an_iterator_is_left(tmp_path: Path, kind: str):
    """One that is found after the names of our modules are gone, as JAX has it."""
    recipe = Recipe()
    write(recipe, tmp_path / "s.zarr", make(recipe, [20] * 40))
    code = f"""
import builtins, store_spec
builtins.left = store_spec.open_store({str(tmp_path / "s.zarr")!r}).{kind}
next(builtins.left)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_thread_ends_with_the_batches_and_when_nobody_wants_them():
    others = threads()
    together = MadeEpoch(made, ten, STEPS)
    next(together)
    (thread,) = threads() - others
    for _ in range(STEPS - 1):
        next(together)
    thread.join(60)  # though nobody has asked whether there are more
    assert not thread.is_alive()
    dropped, others = MadeEpoch(made, ten, STEPS), threads()
    next(dropped)
    (thread,) = threads() - others
    del dropped
    thread.join(60)
    assert not thread.is_alive()
