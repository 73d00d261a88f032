"""Statistics of a selection, compared with NumPy over all its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import moments
from store_spec.reading.scaling import normalized_dtype
from store_spec.reading.statistics import Statistics
from store_spec.schema import MOMENTS
from tests.store.oracle import store_of


def statistics_of(x: NDArray[Any], y: NDArray[Any]) -> Statistics:
    return Statistics(inputs=moments(x), labels=moments(y))


@pytest.mark.parametrize("shape", [(), (3,), (4, 5, 3)])
@pytest.mark.parametrize("selection", [[0, 1, 2, 3, 4], [3], [4, 1], [2], []])
def test_statistics_equal_those_of_all_rows(tmp_path: Path, shape: tuple[int, ...], selection: list[int]):
    """Of any selection, also with empty sequences; features are the last axis."""
    rng = np.random.default_rng(0)
    x = [rng.normal(1000, 3, (length, *shape)) for length in (7, 100, 0, 1, 33)]
    y = [rng.normal(size=(len(rows), 2)) for rows in x]
    stats = store_of(tmp_path / "s.zarr", x, y).select(selection).stats()
    features = shape[-1] if shape else 1
    for each, rows in ((stats, [a.reshape(-1, features) for a in x]), (stats.labels, y)):
        together = np.concatenate([rows[0][:0], *(rows[number] for number in selection)])
        assert each.count.tolist() == [len(together)] * together.shape[1]
        if len(together):
            np.testing.assert_allclose(each.mean, together.mean(0), rtol=1e-12)
            np.testing.assert_allclose(each.std, together.std(0), rtol=1e-12, atol=1e-12)
            assert np.array_equal(each.min, together.min(0))
            assert np.array_equal(each.max, together.max(0))
        else:
            assert np.isnan([each.mean, each.std, each.min, each.max]).all()


def test_float32_represents_the_kept_numbers():
    for dtype in ("int16", "uint16", "int8", "uint8", "bool", "float16", "float32"):
        assert np.can_cast(dtype, "float32", "safe")
        assert normalized_dtype(dtype) == np.float32
    for dtype in ("int32", "uint32", "int64", "uint64", "float64"):
        assert normalized_dtype(dtype) == np.float64


def test_a_constant_feature_is_divided_by_1_and_one_without_values_stays():
    """Also if its standard deviation is not quite 0 because of rounding."""
    rows = np.full((1001, 3), 0.1)
    rows[:, 1] = np.nan
    rows[:, 2] = np.arange(1001)
    stats = statistics_of(rows, rows)
    stats.inputs.m2[0] = 1e-28
    assert stats.std[0] > 0
    given = np.array([[0.1, 5.0, 500.0], [2.1, np.nan, 500.0]])
    np.testing.assert_allclose(stats.normalize(given), [[0.0, 5.0, 0.0], [2.0, np.nan, 0.0]], atol=1e-12)
    np.testing.assert_allclose(stats.inverse_inputs(stats.normalize(given)), given, atol=1e-12)


def test_normalize_leaves_its_argument_alone():
    rows = np.arange(6.0).reshape(3, 2)
    before = rows.copy()
    stats = statistics_of(rows, rows)
    stats.normalize(rows)
    stats.inverse(rows)
    assert np.array_equal(rows, before)


def test_a_row_that_is_a_plain_number_is_normalised_in_any_shape():
    rows = np.arange(10.0)
    stats = statistics_of(rows, rows)
    wanted = (rows - rows.mean()) / rows.std()
    np.testing.assert_allclose(stats.normalize(rows), wanted)
    np.testing.assert_allclose(stats.normalize(rows.reshape(5, 2)), wanted.reshape(5, 2))
    for number in (stats.normalize_labels(rows[3]), stats.inverse(rows[3])):
        assert isinstance(number, np.ndarray)
        assert number.shape == ()


def test_another_number_of_features_is_refused_with_both_numbers():
    stats = statistics_of(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(WindowError, match="inputs: 2 features on the last axis, but these statistics are of 3"):
        stats.normalize(np.ones((5, 2)))
    with pytest.raises(WindowError, match="labels: 1 targets on the last axis, but these statistics are of 2"):
        stats.inverse(np.float64(3))


@pytest.mark.parametrize(
    "rows", [np.ones((4, 2), complex), np.ma.masked_equal([[1.0, 2.0]], 2), [[1, 2], [3]], [["1", "2"]]]
)
def test_values_that_are_not_real_numbers_are_not_normalised(rows: Any):
    stats = statistics_of(np.ones((4, 2)), np.ones((4, 2)))
    for undo in (stats.normalize, stats.normalize_labels, stats.inverse, stats.inverse_inputs):
        with pytest.raises(WindowError, match="values cannot be normalised; give real numbers"):
            undo(rows)


@pytest.mark.slow
@pytest.mark.parametrize("values", [1, 2, 5, 6, 12, 100])
@pytest.mark.parametrize("chosen", [slice(None), slice(0, 0), slice(3, 4), slice(1, None, 3), slice(None, None, -1)])
def test_statistics_have_the_same_bits_however_many_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: int, chosen: slice
):
    """Tables are merged some rows at a time, in the same pairs as all at once."""
    rng = np.random.default_rng(1)
    x = [rng.normal(3, 5, (int(length), 2)) for length in rng.integers(0, 9, 37)]
    store = store_of(tmp_path / "s.zarr", x, [rows[:, 0] for rows in x])[chosen]
    whole = store.stats()
    monkeypatch.setattr("store_spec.reading.statistics.MERGED_VALUES", values)
    for name in ("inputs", "labels"):
        for moment in MOMENTS:
            one, other = (getattr(getattr(stats, name), moment) for stats in (whole, store.stats()))
            assert one.tobytes() == other.tobytes(), (name, moment)


def test_one_number_for_all_features_covers_all_values(tmp_path: Path):
    """For example for images: rows of shape (H, W, C)."""
    rng = np.random.default_rng(0)
    x = [(rng.normal(size=(length, 4, 5, 3)) * [1, 5, 20] + 100).astype("float32") for length in (7, 30, 0, 11)]
    x[1][2:9, ..., 1] = np.nan
    y = [rng.normal(size=(len(rows), 2)) for rows in x]
    store = store_of(tmp_path / "s.zarr", x, y, missing="keep")
    every = np.concatenate(x).astype(float)
    stats = store.stats().over_features()
    assert stats.count.tolist() == [np.isfinite(every).sum()] * 3
    assert stats.min.tolist() == [np.nanmin(every)] * 3
    np.testing.assert_allclose(stats.mean, [np.nanmean(every)] * 3)
    np.testing.assert_allclose(stats.std, [np.nanstd(every)] * 3)
    np.testing.assert_allclose(stats.labels.std, [np.concatenate(y).std()] * 2)
    found, _ = store.windows(3, normalize=stats)[0]
    np.testing.assert_allclose(found, (x[0][:3] - np.nanmean(every)) / np.nanstd(every), rtol=1e-5, atol=1e-6)
    low, _ = store.windows(3, normalize=stats.minmax())[0]
    np.testing.assert_allclose(low, (x[0][:3] - np.nanmin(every)) / np.nanmax(every - np.nanmin(every)), rtol=1e-5)
    assert stats.first(2).standard().digest() == store.first(2).stats().over_features().standard().digest()
    with pytest.raises(WindowError, match="of single features"):
        stats.robust()
    assert store.select([2]).stats().over_features().count.tolist() == [0, 0, 0]
