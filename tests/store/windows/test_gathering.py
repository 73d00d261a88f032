"""Batches that several threads gather: the same batches in the same order, however they end."""

from __future__ import annotations

import threading
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import StoreError
from store_spec.reading.ranks import Turns
from store_spec.windows import pools as pools_module
from store_spec.windows.pools import gather


class Numbers:
    """A pool of numbers, of which a batch is a range; it is not used once the next one is loaded."""

    def __init__(self, first: int) -> None:
        self.first, self.valid = first, True

    def cut(self, start: int, stop: int) -> Any:
        assert self.valid
        return [*range(self.first + start, self.first + stop)]


def load(sizes: list[int], fails_at: int | None, cancelled: threading.Event) -> Any:
    pool, first = None, 0
    for number, size in enumerate(sizes):
        if number == fails_at:
            raise StoreError("this pool is damaged")
        pool, first = Numbers(first), first + size
        yield pool
        pool.valid = False
    assert cancelled is not None


@pytest.fixture(autouse=True)
def joined(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pools_module, "join", lambda parts: [*chain.from_iterable(parts)])


def gather_numbers(sizes: list[int], batch: int, threads: int, slots: int, fails_at: int | None = None) -> Any:
    bounds = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    turns, cancelled = Turns(samples=bounds[-1], size=batch), threading.Event()
    pools = load(sizes, fails_at, cancelled)
    numbers = range(len(turns))
    return gather(pools, bounds, turns, numbers, threads=threads, slots=slots, cancelled=cancelled)


options: dict[str, Any] = {
    "sizes": st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any),
    "batch": st.integers(1, 40),
    "threads": st.integers(0, 6),
    "slots": st.integers(2, 20),
}


@given(**options)
def test_all_numbers_come_in_order(sizes: list[int], batch: int, threads: int, slots: int):
    batches = list(gather_numbers(sizes, batch, threads, slots))
    assert [*chain.from_iterable(batches)] == [*range(sum(sizes))]
    assert {len(one) for one in batches[:-1]} <= {batch}


@given(**options, fails_at=st.integers(0, 11))
def test_batches_before_an_error_are_returned_and_no_thread_is_left(
    sizes: list[int], batch: int, threads: int, slots: int, fails_at: int
):
    found: list[int] = []
    damaged = sum(sizes[:fails_at])
    before = set(threading.enumerate())
    if fails_at < len(sizes) and damaged < sum(sizes):
        with pytest.raises(StoreError, match="damaged"):
            found.extend(chain.from_iterable(gather_numbers(sizes, batch, threads, slots, fails_at)))
        assert found == [*range(damaged - damaged % batch)]
    assert set(threading.enumerate()) <= before


@given(**options, taken=st.integers(0, 20))
def test_gathering_can_end_at_any_batch(sizes: list[int], batch: int, threads: int, slots: int, taken: int):
    before = set(threading.enumerate())
    batches = gather_numbers(sizes, batch, threads, slots)
    for _, _one in zip(range(taken), batches, strict=False):
        pass
    batches.close()
    assert set(threading.enumerate()) <= before


def test_batches_are_gathered_when_needed_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch):
    started: list[threading.Thread] = []

    def start(self: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(self)
        plain(self)

    plain = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    assert [*chain.from_iterable(gather_numbers([7, 9, 30], 4, 3, 12))] == [*range(46)]
    assert len(started) == 1
    started[0].join(20)
    assert not started[0].is_alive()
