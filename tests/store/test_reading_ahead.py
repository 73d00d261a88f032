"""Batches that are read ahead of use: each once, in order, whatever goes wrong on the way."""

from __future__ import annotations

import gc
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
from store_spec.errors import StoreError
from store_spec.reading.ahead import in_groups
from store_spec.windows.gathering import _Blocks
from store_spec.windows.loading import Loader
from tests.store.made_epoch import MadeEpoch
from tests.store.oracle import Recipe, make, write

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


@pytest.mark.parametrize("place", ["_pools", "_batch"])
def test_the_garbage_collector_may_close_an_epoch_in_any_of_its_threads(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
):
    """Those that gather wait for the one that loads pools, and for each other: it must not wait for them."""
    recipe, others, dropped, found = Recipe(chunk=8, shard=16), threads(), threading.Event(), list[int]()
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, [20] * 40)))
    there, name = (Loader, "__call__") if place == "_pools" else (_Blocks, "_batch")
    original = getattr(there, name)

    def collected(thing: Any, *arguments: Any) -> Any:
        if arguments[0] > (0 if place == "_pools" else 8) and not found:  # not for the first batches
            assert dropped.wait(60)
            found.append(gc.collect())
        return original(thing, *arguments)

    monkeypatch.setattr(there, name, collected)
    gc.disable()
    try:
        batches = store.windows(4).batches(8, memory="20kB")
        next(batches)
        cycle: list[Any] = [batches]
        cycle.append(cycle)
        del batches, cycle
        dropped.set()
        for thread in threads() - others:
            thread.join(20)
            assert not thread.is_alive()
    finally:
        gc.enable()
    assert found


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
