"""Statistics of selections and groups, compared with NumPy over all their rows."""

import math
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from store_spec.format import moments as module
from store_spec.format.moments import Moments, merge, moments, moments_of_each
from store_spec.reading.scaling import normalized_dtype
from store_spec.reading.statistics import Statistics
from store_spec.schema import DTYPES, MOMENTS
from tests.store.oracle import SHAPES, assert_moments, random_rows, store_of
from tests.store.window_oracle import Sequences, all_same

check = partial(assert_moments, rtol=1e-11, lost=1e-7)  # of values of any size


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


def test_missing_values_and_zeros_have_one_bit_pattern():
    odd = np.array([0x7FF8000000000123], "uint64").view("float64")[0]
    for one, other in (((odd, odd), (-np.nan, np.nan)), ((0.0, -0.0), (-0.0, 0.0))):
        assert same_bits(moments(np.array(one)[:, None]), moments(np.array(other)[:, None]))


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


def statistics_of(x: NDArray[Any], y: NDArray[Any]) -> Statistics:
    return Statistics(inputs=moments(x), labels=moments(y))


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
def test_statistics_have_the_same_bits_however_many_are_in_memory(tmp_path, monkeypatch, values, chosen):
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
    assert (stats.min.tolist(), stats.max.tolist()) == ([np.nanmin(every)] * 3, [np.nanmax(every)] * 3)
    np.testing.assert_allclose(stats.mean, [np.nanmean(every)] * 3)
    np.testing.assert_allclose(stats.std, [np.nanstd(every)] * 3)
    np.testing.assert_allclose(stats.labels.std, [np.concatenate(y).std()] * 2)
    found, _ = store.windows(3, normalize=stats)[0]
    np.testing.assert_allclose(found, (x[0][:3] - np.nanmean(every)) / np.nanstd(every), rtol=1e-5, atol=1e-6)
    low, _ = store.windows(3, normalize=stats.minmax())[0]
    np.testing.assert_allclose(low, (x[0][:3] - np.nanmin(every)) / np.nanmax(every - np.nanmin(every)), rtol=1e-5)
    with pytest.raises(WindowError, match="of single features"):
        stats.robust()
    assert store.select([2]).stats().over_features().count.tolist() == [0, 0, 0]


SITES = ("north", "south", "north", "", "south", "north")
LENGTHS = (30, 12, 0, 25, 9, 17)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Sequences, store_spec.Store]:
    """Write sequences with labels on the step axis; each has values far from those of the others."""
    sequences: Sequences = []
    for number, length in enumerate(LENGTHS):
        random = np.random.default_rng(number)
        x = (random.normal(size=(length, 3)) * (number + 1) + 10 * number).astype("float32")
        sequences.append((x, random.normal(size=(length, 2)) + number))
    inputs, labels = (list(each) for each in zip(*sequences, strict=True))
    more = [{"columns": {"site": site, "patient": number // 2}} for number, site in enumerate(SITES)]
    columns = {"site": "string", "patient": "int64"}
    return sequences, store_of(tmp_path / "s", inputs, labels, more=more, columns=columns, chunk=120, shard=1200)


def test_statistics_are_standard_by_default_and_accept_a_mapping(made: Any):
    _, store = made
    statistics = store.stats_by("site")
    assert statistics["south"].mean.tolist() == store.select([1, 4]).stats().mean.tolist()
    assert list(statistics) == ["north", "south", ""]
    assert "south" in repr(statistics)
    both = [store.windows(4, normalize=normalize) for normalize in (statistics, statistics.standard())]
    assert all_same(list(both[0]), list(both[1]))
    copy = pickle.loads(pickle.dumps(both[0]))
    assert all_same(list(copy), list(both[0]))


@pytest.mark.parametrize("how", ["standard", "minmax", "robust"])
def test_windows_of_a_group_are_those_of_a_store_with_its_statistics_alone(made: Any, how: str):
    """Groups are the values of a column of text, or sources; predictions are brought back by those of their group."""
    _, store = made
    for by, members in (("site", [1, 4]), ("source", [3])):
        group = store.select(members)
        alone = group.windows(4, normalize=getattr(group.stats(), how)())
        windows = group.windows(4, normalize=getattr(store.stats_by(by), how)())
        assert all_same(list(windows), list(alone))
        numbers, labels = list(range(len(windows))), np.stack([y for _, y in alone])
        assert windows.scaler(numbers).inverse(labels).tolist() == alone.scaler().inverse(labels).tolist()


def test_groups_without_statistics_and_unknown_columns_are_refused(made: Any):
    _, store = made
    north = store.select([0, 2, 5]).stats_by("site")
    assert list(store.select([0, 5]).windows(4, normalize=north))
    with pytest.raises(WindowError, match=r"sequence 1 has site='south', and normalize has statistics of 1 groups"):
        store.windows(4, normalize=north)
    none = store.select([])
    with pytest.warns(UserWarning, match="0 windows"):
        assert not len(none.windows(4, normalize=none.stats_by("site")))
    with pytest.raises(WindowError, match="by='hospital' is not a column"):
        store.stats_by("hospital")
    with pytest.raises(WindowError, match=r"normalize=<statistics of . groups by 'site': [^(]*>, so give the index of"):
        store.windows(4, normalize=store.stats_by("site")).scaler()


def test_statistics_of_later_steps_are_refused_and_those_of_the_period_are_used(made: Any):
    sequences, store = made
    with pytest.raises(WindowError, match="statistics of later steps"):
        store.windows(4, steps=(0, 0.5), normalize=store.stats_by("site"))
    some = store.select([0, 1, 3, 4, 5])
    windows = some.windows(4, steps=(0, 0.5), normalize=some.stats_by("patient", steps=(0, 0.5)))
    x = sequences[0][0][: LENGTHS[0] // 2]
    together = np.concatenate([x, sequences[1][0][: LENGTHS[1] // 2]]).astype(float)
    np.testing.assert_allclose(windows[0][0], (x[:4] - together.mean(0)) / together.std(0), rtol=1e-4, atol=1e-5)
