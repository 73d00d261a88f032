"""Whether sequences have the moments that are said of them, in one pass: against `moments` of each, one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.format.moments import Moments, moments
from store_spec.verification import agreement as verify_moments
from store_spec.verification.agreement import Agreement, rounding
from store_spec.verification.workspace import Workspace

NAMES = Moments.__slots__


def told(rows, bounds):
    """Return the moments of each sequence, as the tables have them."""
    each = [moments(rows[start:stop]) for start, stop in pairwise(bounds)]
    return Moments(*(np.stack([getattr(one, name) for one in each]) for name in NAMES))


def sure(rows, bounds, said, cuts, known=None):
    """Give all rows in pieces that end at `cuts`."""
    known = np.ones(len(bounds) - 1, bool) if known is None else known
    agreement = Agreement(said, known, np.diff(bounds), Workspace())
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        first = int(np.searchsorted(bounds[1:], start, "right")) if start < stop else 0
        agreement.add(first, (bounds[first + 1 :] - start).tolist(), rows[start:stop])
    return agreement.sure()


@st.composite
def sequences(draw):
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64", "float16", "int8", "uint16", "int64", "bool"])))
    features = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    level, scale = draw(st.sampled_from([0.0, 3.0, 1e4])), draw(st.sampled_from([0.0, 1e-3, 1.0, 100.0]))
    rows = (level + scale * rng.normal(size=(bounds[-1], features)) + 10 * rng.normal(size=features)).clip(-6e4, 6e4)
    rows = np.abs(rows) % 100 if dtype.kind in "ui" else rows
    cuts = sorted(draw(st.lists(st.integers(0, int(bounds[-1])), max_size=4)))
    return rows.astype(dtype), bounds, cuts


@given(data=st.data(), drawn=sequences(), block=st.sampled_from([1, 7, 64, 2**16]), few=st.sampled_from([1, 128]))
def test_what_is_right_is_sure_and_what_is_wrong_is_not(data, drawn, block, few):
    rows, bounds, cuts = drawn
    said = told(rows, bounds)
    filled = np.diff(bounds) > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_moments, "BLOCK_VALUES", block)
        patch.setattr(verify_moments, "FEW_ROWS", few)
        patch.setattr(verify_moments, "LONGEST_PRODUCT", 16)
        assert (sure(rows, bounds, said, cuts) == filled).all()

        number = data.draw(st.integers(0, len(filled) - 1))
        feature, name = data.draw(st.integers(0, rows.shape[1] - 1)), data.draw(st.sampled_from(NAMES))
        allowed = np.broadcast_to(rounding(name, said), said.mean.shape)[number, feature]
        value = getattr(said, name)[number, feature]
        sign = data.draw(st.sampled_from([-1, 1]))
        further = value + sign if name == "count" else np.nextafter(value + 1.001 * sign * allowed, sign * np.inf)
        getattr(said, name)[number, feature] = further
        assert (sure(rows, bounds, said, cuts) == (filled & (np.arange(len(filled)) != number))).all()


@given(data=st.data(), drawn=sequences())
def test_values_that_are_not_finite_are_never_sure(data, drawn):
    rows, bounds, cuts = drawn
    if rows.dtype.kind != "f" or not len(rows):
        return
    said = told(rows, bounds)
    step, feature = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, rows.shape[1] - 1))
    rows[step, feature] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    number = int(np.searchsorted(bounds, step, "right")) - 1
    expected = (np.diff(bounds) > 0) & (np.arange(len(bounds) - 1) != number)
    for one in (said, told(rows, bounds)):
        assert (sure(rows, bounds, one, cuts) == expected).all()


def test_moments_that_could_not_be_read_are_not_sure():
    rows, bounds = np.arange(12.0).reshape(6, 2), np.array([0, 2, 4, 6])
    known = np.array([True, False, True])
    assert sure(rows, bounds, told(rows, bounds), [], known).tolist() == [True, False, True]


def test_numbers_whose_squares_overflow_are_left_to_a_further_look():
    rows, bounds = np.array([[1e200], [-1e200], [1.0], [2.0]]), np.array([0, 2, 4])
    assert sure(rows, bounds, told(rows, bounds), []).tolist() == [False, True]


def test_what_waits_to_be_joined_does_not_grow_with_the_rows(monkeypatch):
    monkeypatch.setattr(verify_moments, "BLOCK_VALUES", 8)
    rows, bounds = np.arange(2_000.0).reshape(1_000, 2), np.array([0, 1_000])
    agreement = Agreement(told(rows, bounds), np.ones(1, bool), np.array([1_000]), Workspace())
    for start in range(0, 1_000, 10):
        agreement.add(0, [1_000 - start], rows[start : start + 10])
        assert len(agreement._found) <= 8
    assert agreement.sure().all()
