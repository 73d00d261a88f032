"""Batches that are read some at a time, taken by several threads and after a fork."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.store.made_epoch import MadeEpoch
from tests.store.window_oracle import Numbered, keys, numbered

SECONDS = 30  # until a thread that hangs fails a test


@pytest.fixture(scope="module")
def by_step(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("together") / "step.zarr", "step", chunk=8)


def both(numbered: Numbered) -> list[Callable[[], Any]]:
    store = numbered.store
    return [lambda: store.padded(2, shuffle=True), lambda: store.streams(2, 3, shuffle=True)]


@pytest.mark.parametrize("kind", [0, 1])
def test_several_threads_take_batches_from_one_iterator(by_step: Numbered, kind: int):
    """Each batch goes to one of them, and nothing is lost."""
    begin = both(by_step)[kind]
    batches = begin()
    taken: list[Any] = []

    def take() -> None:
        for batch in batches:
            taken.append(batch)  # noqa: PERF402

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(keys(taken)) == sorted(keys(begin()))


@pytest.mark.parametrize("kind", [0, 1])
def test_a_thread_that_has_the_number_of_one_that_ended_gets_nothing(by_step: Numbered, kind: int):
    batches = both(by_step)[kind]()
    list(batches)
    numbers: set[int] = set()
    got: list[int] = []

    def take() -> None:
        numbers.add(threading.get_ident())
        got.append(len(list(batches)))

    for _ in range(20):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(SECONDS)
    assert len(numbers) < 20  # numbers came again
    assert got == [0] * 20


def test_a_batch_is_given_once_while_another_thread_reads():
    """The second thread asks while the first is in the middle of a read, and waits for what comes after it."""
    reading, go = threading.Event(), threading.Event()
    spans: list[Any] = []
    taken: list[Any] = []

    def read(first: int, stop: int) -> list[Any]:
        spans.append((first, stop))
        reading.set()
        assert go.wait(SECONDS)
        return list(range(first, stop))

    together = MadeEpoch(read, lambda _: 1, 2)
    threads = [threading.Thread(target=lambda: taken.append(next(together))) for _ in range(2)]
    threads[0].start()
    assert reading.wait(SECONDS)
    threads[1].start()
    go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert sorted(taken) == [0, 1]
    assert spans == [(0, 1), (1, 2)]
    with pytest.raises(StopIteration):
        next(together)


def test_a_child_goes_on_by_itself_though_a_thread_was_in_the_middle_of_a_read(tmp_path: Path):
    """That thread holds the lock, and is not there after a fork to give it back."""
    reading, go = threading.Event(), threading.Event()
    parent = os.getpid()

    def read(first: int, stop: int) -> list[Any]:
        if first and os.getpid() == parent:
            reading.set()
            assert go.wait(SECONDS)
        return list(range(first, stop))

    together: Any = MadeEpoch(read, lambda number: 5 - number, 5)
    assert next(together) == 0
    rest: list[Any] = []
    thread = threading.Thread(target=lambda: rest.extend(together))
    thread.start()
    assert reading.wait(SECONDS)
    child = os.fork()
    if not child:
        try:
            taker = threading.Thread(target=lambda: (tmp_path / "found").write_text(str(list(together))), daemon=True)
            taker.start()
            taker.join(SECONDS)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    go.set()
    thread.join(SECONDS)
    assert (tmp_path / "found").read_text() == "[1, 2, 3, 4]"
    assert rest == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", [0, 1])
def test_what_is_pickled_goes_on_as_the_state_says(by_step: Numbered, kind: int):
    batches = both(by_step)[kind]()
    next(batches)
    copy = pickle.loads(pickle.dumps(batches))
    assert copy.state_dict() == batches.state_dict()
    assert keys(list(copy)) == keys(list(batches))
