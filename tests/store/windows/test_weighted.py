"""Windows drawn by weight, compared with loops; their frequency compared with their weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from store_spec.windows.shape import WindowShape
from store_spec.windows.units import unit_masses
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    LENGTHS,
    epoch,
    index_of_lengths,
    order_of,
)

counts_and_weights = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.1, 1.0, 3.0, 1e-12, 1e9])), min_size=1, max_size=8
)


def cut(total: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low = np.arange(0, total, size)
    return low, np.minimum(low + size, total)


@given(counts_and_weights, st.integers(1, 7))
def test_the_mass_of_a_unit_is_the_weight_of_its_windows(pairs: list[tuple[int, float]], size: int):
    """It is 0 only if none of them can be drawn."""
    counts, weights = (np.array(each) for each in zip(*pairs, strict=True))
    of_window = np.repeat(weights, counts)
    low, high = cut(len(of_window), size)
    found = unit_masses(np.append(low, len(of_window)), np.concatenate(([0], np.cumsum(counts))), weights)
    wanted = [float(of_window[a:b].sum()) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6 * max([1.0, *wanted]))
    assert all(mass == 0 for mass, known in zip(found, wanted, strict=True) if known == 0)
    assert (found >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("budget", [3_000, 10**6])
def test_windows_are_drawn_in_proportion_to_their_weight(budget: int):
    """A chi-square test over many seeded epochs, window by window, for any pools."""
    rng = np.random.default_rng(0)
    weights = rng.choice([0.0, 0.5, 1.0, 4.0, 20.0], len(LENGTHS))
    shape = WindowShape(window=3)
    times = np.zeros(len(index_of_lengths(LENGTHS, shape)), np.int64)
    for number in range(200):
        order = order_of(shape, budget, (0, number), weights=weights)
        times += np.bincount(epoch(order), minlength=len(times))
    index = order._index
    share = np.repeat(weights, np.diff(index.first))
    wanted = share / share.sum() * times.sum()
    some = wanted > 0
    assert (times[~some] == 0).all()
    chi_square, freedom = float(((times - wanted)[some] ** 2 / wanted[some]).sum()), int(some.sum()) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
    # The draws of an epoch are independent: as many pairs of the same window as by chance.
    drawn = np.array(epoch(order))
    pairs = sum(int(n) * (int(n) - 1) for n in np.bincount(drawn)) / (len(drawn) * (len(drawn) - 1))
    assert abs(pairs - float(((share / share.sum()) ** 2).sum())) < 0.01


def test_a_sequence_with_nearly_all_the_weight_is_drawn_repeatedly():
    """A pool stays within its memory, and the few others are spread over the epoch."""
    weights = np.full(len(LENGTHS), 1e-3)
    weights[5] = 1e3  # of 7 steps
    order = order_of(WindowShape(window=3), 5_000, (0, 0), weights=weights)
    assert len(order) > 1
    numbers = np.array(epoch(order))
    low, high = order._index.first[5], order._index.first[6]
    assert ((numbers >= low) & (numbers < high)).mean() > 0.95


def test_balanced_classes_are_equally_frequent(tmp_path: Path):
    seldom = [np.int64(number % 10 == 0) for number in range(40)]
    # Long ones have more windows each; some have none, and the others of their class get their share.
    steps = [100 if one else 2 + number % 2 * 20 for number, one in enumerate(seldom)]
    inputs = [np.zeros((count, 1), "float32") for count in steps]
    store = store_of(tmp_path / "s.zarr", inputs, seldom, label_axis="sequence")
    windows = store.windows(3, target="sequence")
    weights = windows.sequence_weights()
    labels = [y for number in range(5) for _, y in windows.batches(16, shuffle=True, weights=weights, epoch=number)]
    assert abs(np.concatenate(labels).mean() - 0.5) < 0.03
    assert (weights[store.lengths < 3] == 0).all()
