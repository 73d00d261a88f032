"""Moments, compared with NumPy on all rows at once."""

import math

import numpy as np
import pytest

from store_spec.format import moments as module
from store_spec.format.moments import Moments, merge, moments, moments_of_each
from store_spec.schema import DTYPES, MOMENTS
from tests.store.oracle import SHAPES, random_rows


def check(found, rows, rtol=1e-11):
    """Check moments against NumPy, feature by feature."""
    flat = rows.reshape(-1, rows.shape[-1] if rows.ndim > 1 else 1).astype(float)
    for feature, column in enumerate(flat.T):
        values = column[~np.isnan(column)]
        assert found.count[feature] == len(values)
        if not len(values):
            assert np.isnan([found.mean[feature], found.min[feature], found.max[feature], found.std[feature]]).all()
            assert found.m2[feature] == 0
            continue
        scale = max(1e-300, np.abs(values).max())
        assert math.isclose(found.mean[feature], values.mean(), rel_tol=rtol, abs_tol=rtol * scale)
        assert math.isclose(found.std[feature], values.std(), rel_tol=1e-9, abs_tol=1e-7 * scale)
        assert (found.min[feature], found.max[feature]) == (values.min(), values.max())


def same_bits(a, b):
    return all(getattr(a, name).tobytes() == getattr(b, name).tobytes() for name in MOMENTS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if not dtype.startswith("complex")])
def test_moments_equal_those_of_numpy(dtype, shape):
    rows = random_rows(np.random.default_rng(1), 500, dtype, shape, missing=True)
    for some in (rows, rows[:1], rows[:0]):
        check(moments(some), some)


def test_moments_of_many_blocks_are_those_of_all_rows(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_VALUES", 64)
    rows = random_rows(np.random.default_rng(2), 1000, "float64", (3,), missing=True)
    rows[:50, 0] = rows[-50:, 1] = np.nan  # whole blocks without a value
    check(moments(rows), rows)


def test_a_large_mean_does_not_reduce_the_precision_of_the_deviation():
    rows = np.random.default_rng(3).normal(1e9, 1.0, (200_000, 1))
    assert math.isclose(moments(rows).std[0], rows.std(), rel_tol=1e-9)


def test_a_constant_has_no_deviation():
    found = moments(np.full((100_000, 2), 0.1))
    assert found.std.tolist() == pytest.approx([0, 0], abs=1e-15)


def test_missing_values_are_hashed_as_one_nan():
    odd = np.array([0x7FF8000000000123], "uint64").view("float64")
    assert same_bits(moments(np.array([[odd[0]], [odd[0]]])), moments(np.array([[-np.nan], [np.nan]])))


def test_zeros_have_one_sign():
    assert same_bits(moments(np.array([[0.0], [-0.0]])), moments(np.array([[-0.0], [0.0]])))


def test_complex_numbers_are_only_counted():
    found = moments(np.array([[1 + 1j], [complex(np.nan, 0)]]))
    assert found.count.tolist() == [1]
    assert np.isnan([found.mean[0], found.m2[0], found.min[0], found.max[0]]).all()
    assert moments(np.full((3, 1), np.nan, "complex64")).m2.tolist() == [0]


def test_values_with_overflowing_squares_cause_no_warning():
    found = moments(np.array([[1e308], [-1e308], [1e308], [np.nan]]))
    assert (found.count[0], found.min[0], found.max[0]) == (3, -1e308, 1e308)
    merge(Moments(*(np.stack([getattr(found, name)] * 2) for name in MOMENTS)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 13])
def test_merged_moments_are_those_of_all_rows(count):
    rng = np.random.default_rng(count)
    pieces = [random_rows(rng, int(rng.integers(0, 30)), "float32", (3,), missing=True) for _ in range(count)]
    each = [moments(piece) for piece in pieces]
    stacked = Moments(*(np.array([getattr(one, name) for one in each]).reshape(count, 3) for name in MOMENTS))
    check(merge(stacked), np.concatenate([np.empty((0, 3), "float32"), *pieces]))


def test_blocks_are_merged_in_an_order_that_is_part_of_the_format():
    """Stores contain these bits: another order or formula needs another version of the format."""
    values = (np.arange(1, 70_001, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)).astype("float64")
    found = moments(np.stack([values / 3.0, np.sqrt(values)], axis=1))
    assert [value.hex() for value in (*found.mean.tolist(), *found.m2.tolist())] == PINNED


PINNED = ["0x1.5554c881fa1c1p+29", "0x1.55553a5ba34fbp+15", "0x1.44109e4b5954ep+73", "0x1.e617cb6f52511p+43"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_signalling_nan_is_missing_without_a_warning(dtype):
    bits = {"float16": (0x7D00, "u2"), "float32": (0x7FA00000, "u4"), "float64": (0x7FF4000000000000, "u8")}[dtype]
    rows = np.ones((40, 2), dtype)
    rows[:, 0].view(bits[1])[5] = bits[0]
    found = moments(rows)
    assert (found.count.tolist(), found.mean.tolist()) == ([39, 40], [1, 1])
    assert moments_of_each(rows[None]).count.tolist() == [[39, 40]]
