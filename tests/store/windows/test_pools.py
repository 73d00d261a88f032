"""Gathering windows from memory: the same as a loop, in parts or not; and by several threads, however they end."""

import threading
from contextlib import nullcontext
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import StoreError
from store_spec.reading.ranks import Turns
from store_spec.windows import pools as pools_module
from store_spec.windows.pools import LEAST_PART, UNLOCKED, gather, take_windows

SHAPES = [(), (1,), (8,), (3, 5), (0,)]


def gather_by_loop(rows, at, count, step):
    """Take one window after another."""
    windows = [rows[start : start + (count - 1) * step + 1 : step] for start in at]
    assert all(len(window) == count for window in windows)
    return np.array(windows, rows.dtype).reshape(len(at), count, *rows.shape[1:])


@given(data=st.data())
def test_windows_equal_those_of_a_loop_in_any_number_of_parts(data):
    shape = data.draw(st.sampled_from(SHAPES))
    dtype = data.draw(st.sampled_from(["float32", "float64", "int8", "bool", "complex128", ">i2"]))
    count, step = data.draw(st.integers(1, 300)), data.draw(st.sampled_from([1, 1, 1, 2, 7]))
    span = (count - 1) * step + 1
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    rows = random.integers(0, 2, (span + data.draw(st.integers(0, 50)), *shape)).astype(dtype)
    at = random.integers(0, len(rows) - span + 1, data.draw(st.sampled_from([0, 1, 7, 32, 256, 501, 900])))
    found = take_windows(rows, at.astype(np.intp), count, step)
    assert (found.dtype, found.flags.c_contiguous) == (rows.dtype, True)
    np.testing.assert_array_equal(found, gather_by_loop(rows, at, count, step))


@pytest.mark.parametrize("windows", [1, 8, 63, 128, 250, 256, 500])
def test_gathering_gives_up_the_lock_where_a_window_can_be_cut(windows, monkeypatch):
    """NumPy does for more than 500 values (NPY_BEGIN_THREADS_THRESHOLDED), so threads can decompress meanwhile."""
    sizes = []
    real = np.ndarray

    def counted(shape, dtype, *arguments, **options):
        sizes.append(np.dtype(dtype).itemsize)
        return real(shape, dtype, *arguments, **options)

    rows = np.random.default_rng(0).normal(size=(4_000, 64)).astype("float32")
    at = np.arange(windows)
    with monkeypatch.context() as patch:
        patch.setattr(np, "ndarray", counted)
        found = take_windows(rows, at, 1_024, 1)
    np.testing.assert_array_equal(found, gather_by_loop(rows, at, 1_024, 1))
    (size,) = sizes
    if windows * (1_024 * 64 * 4 // LEAST_PART) >= UNLOCKED:
        assert windows * (found.nbytes // windows // size) >= UNLOCKED
    assert size >= LEAST_PART


@pytest.mark.parametrize("windows", [1, 256])
def test_a_window_that_reaches_beyond_the_rows_is_an_error_in_parts_too(windows):
    rows = np.zeros((200, 8), np.float32)
    at = np.full(windows, 200 - 128 + 1)
    with pytest.raises(IndexError):
        take_windows(rows, at, 128, 1)


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


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pools_module, "join", lambda parts: [*chain.from_iterable(parts)])
    monkeypatch.setattr(pools_module, "split", lambda batch, bounds: [batch[start:stop] for start, stop in bounds])


def help_load() -> None:
    """In the caller's thread, a Ctrl-C could interrupt it anywhere."""
    assert threading.current_thread().name == "seqzarr batches"


def gather_numbers(sizes: list[int], batch: int, threads: int, slots: int, fails_at: int | None = None) -> Any:
    bounds = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
    turns, cancelled = Turns(samples=bounds[-1], size=batch), threading.Event()
    pools = load(sizes, fails_at, cancelled)
    numbers = range(len(turns))
    return gather(pools, bounds, turns, numbers, threads=threads, slots=slots, cancelled=cancelled, help_load=help_load)


options: dict[str, Any] = {
    "sizes": st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any),
    "batch": st.integers(1, 40),
    "threads": st.integers(0, 6),
    "slots": st.integers(2, 20),
}


@pytest.mark.usefixtures("joined")
@given(**options, fails_at=st.integers(0, 23))
def test_all_numbers_before_an_error_come_in_order_and_no_thread_is_left(sizes, batch, threads, slots, fails_at):
    batches = list[list[int]]()
    total, damaged = sum(sizes), sum(sizes[:fails_at])
    before = set(threading.enumerate())
    with pytest.raises(StoreError, match="damaged") if damaged < total else nullcontext():
        batches.extend(gather_numbers(sizes, batch, threads, slots, fails_at))
    assert [*chain.from_iterable(batches)] == [*range(damaged - damaged % batch if damaged < total else total)]
    assert {len(one) for one in batches[:-1]} <= {batch}
    assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("joined")
@given(**options, taken=st.integers(0, 20))
def test_gathering_can_end_at_any_batch(sizes: list[int], batch: int, threads: int, slots: int, taken: int):
    before = set(threading.enumerate())
    batches = gather_numbers(sizes, batch, threads, slots)
    for _, _one in zip(range(taken), batches, strict=False):
        pass
    batches.close()
    assert set(threading.enumerate()) <= before
