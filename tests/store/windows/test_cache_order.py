"""The order within a lane."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.windows import loading
from store_spec.windows.order import GROUPS, LANES, VERSION, CacheOrder
from store_spec.windows.shape import WindowShape


def plans() -> st.SearchStrategy[CacheOrder]:
    return st.builds(CacheOrder, run=st.integers(1, 20), phases=st.integers(1, 7), together=st.integers(1, 9))


@given(plans(), st.integers(1, 400), st.integers(0, 3))
def test_each_window_of_a_lane_occurs_once(visits: CacheOrder, total: int, seed: int):
    found = visits.arrange(np.arange(total, dtype=np.int32), np.random.default_rng(seed))
    assert found.dtype == np.int32
    assert sorted(found.tolist()) == list(range(total))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 5000))
def test_the_rows_of_a_group_of_all_lanes_fit_the_cache(window: int, stride: int, row: int):
    shape = WindowShape(window=window, stride=stride)
    visits = CacheOrder.plan(shape, row, LANES)
    if visits is None:
        return
    rows = (visits.run - 1) * stride + shape.span
    assert LANES * visits.together * rows * row <= max(cached for cached, _ in GROUPS)
    # Each of its rows is gathered more than once; otherwise the order would be less random for no gain.
    assert -(-visits.run // visits.phases) * window >= 2 * rows


@pytest.mark.parametrize(
    ("shape", "row"),
    [
        (WindowShape(window=128, stride=128), 36),  # no row is in two windows
        (WindowShape(window=1, stride=1, target="last"), 36),
        (WindowShape(window=128), 2052),  # too few windows of such rows fit
        (WindowShape(window=4096), 36),
    ],
)
def test_without_gain_from_the_cache_a_lane_is_shuffled_whole(shape: WindowShape, row: int):
    assert CacheOrder.plan(shape, row, LANES) is None


def test_overlapping_windows_of_the_benchmarks_have_visits():
    """The plan is a part of the order: a change has to raise `VERSION`."""
    assert VERSION == 7
    assert CacheOrder.plan(WindowShape(window=128), 36, LANES) == CacheOrder(run=33, phases=2, together=30)
    assert CacheOrder.plan(WindowShape(window=128), 52, LANES) == CacheOrder(
        run=40, phases=2, together=40
    )  # larger rows
    # Otherwise neighbours would be in the same group.
    assert CacheOrder.plan(WindowShape(window=128, stride=16), 36, LANES) == CacheOrder(run=8, phases=1, together=40)


def test_the_order_does_not_change_between_releases():
    """On every platform and with every release."""
    generator = np.random.default_rng(np.random.SeedSequence((7, 2)))
    assert CacheOrder(run=6, phases=2, together=4).arrange(np.arange(40), generator).tolist() == GOLDEN


GOLDEN = [
    27, 11, 15, 9, 13, 17, 7, 29, 25, 37, 10, 33, 35, 8, 39, 31, 6, 23, 19, 21,
    20, 30, 32, 5, 18, 22, 3, 1, 34, 16, 2, 4, 12, 14, 26, 0, 24, 28, 36, 38,
]  # fmt: skip


def test_one_thread_decompresses_if_that_takes_less_than_gathering(monkeypatch: pytest.MonkeyPatch):
    """If windows overlap much; otherwise as many threads as there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [loading.threads(decompressed) for decompressed in (0.03, 0.125, 0.2, 1.1)] == [1, 1, 2, 6]
    assert loading.threads() == 6
