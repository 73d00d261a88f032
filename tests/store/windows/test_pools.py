"""Gathering windows from memory: the same as a loop, in parts or not, without the interpreter's lock."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.windows.pools import LEAST_PART, UNLOCKED, take_windows

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
