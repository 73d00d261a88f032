"""Normalisation by statistics, by sequence and by window, compared with a loop over plain arrays."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import SequenceIndexError, StateError, WindowError
from store_spec.format.moments import moments
from store_spec.reading import scaling
from store_spec.reading.scaling import Scale, Scaler, standard
from tests.store.kinds import KINDS, begin
from tests.store.known import KEPT, Known, normalization
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    all_same,
    normalise,
    same,
    unbatched,
)


@pytest.fixture(params=sorted(KEPT))
def walks(request: pytest.FixtureRequest, known: Any) -> Known:
    found: Known = known(request.param, "step")
    return found


@pytest.mark.parametrize("how", ["standard", "minmax", "sequence", "window"])
def test_a_scaler_brings_labels_and_inputs_back(walks: Known, how: str):
    store = walks.store
    normalize = normalization(walks, how)
    for features in (None, ["close", "open"]):
        windows = store.windows(5, horizon=2, normalize=normalize, features=features)
        plain = store.windows(5, horizon=2, features=features)
        wanted = list(plain)
        for x, y, index in windows.batches(200, shuffle=True, index=True, memory="2MB"):
            scaler = windows.scaler(index)
            back, labels = scaler.inverse_inputs(x), scaler.inverse(y)
            np.testing.assert_allclose(back, np.array([wanted[i][0] for i in index]), rtol=1e-5)
            np.testing.assert_allclose(labels, np.array([wanted[i][1] for i in index]), rtol=1e-5)
            assert same((scaler.normalize(np.array([wanted[i][0] for i in index])),), (x,))
            assert same((scaler.normalize_labels(np.array([wanted[i][1] for i in index])),), (y,))
            one = windows.scaler(index[3:4])
            assert same((one.inverse(y[3:4]),), (labels[3:4],))
            alone = windows.scaler(index[3])  # of a window, as `windows[i]` returns it
            assert same((alone.inverse(y[3]), alone.inverse_inputs(x[3])), (labels[3], back[3]))
        assert windows.scaler(np.zeros(0, int)).inverse(np.zeros((0, 2, 3))).shape == (0, 2, 3)


def test_robust_uses_the_median_and_the_interquartile_range(walks: Known):
    store = walks.store
    for normalizer, low, high in ((store.stats().robust(), 0.25, 0.75), (store.stats().robust(0.1, 0.9), 0.1, 0.9)):
        for each, rows in ((normalizer.inputs, walks.x), (normalizer.labels, walks.y)):
            together = np.concatenate(rows).astype("float64")
            below, median, above = np.nanquantile(together, [low, 0.5, high], axis=0)
            assert np.array_equal(each.center, median)
            assert np.array_equal(each.scale, np.where(above == below, 1.0, above - below))
    assert same(
        (store.windows(5, normalize=store.stats().robust())[0][0],),
        (store.stats().robust().normalize(walks.x[2][:5]),),
    )


@pytest.mark.parametrize("normalize", ["sequence", "window", "stats"])
def test_a_deviation_too_small_for_float32_is_that_of_a_constant(tmp_path: Path, normalize: str):
    """For example a filter applied to silence: one such sequence must not make all others unreadable."""
    silence, sound = np.zeros((5000, 1), "float32"), np.arange(5000, dtype="float32")[:, None]
    silence[7] = 1e-45
    deviation = standard(moments(silence)).scale[0]
    assert deviation > 0
    assert np.float32(deviation) == 0
    store = store_of(tmp_path / "s", [silence, sound])
    quiet, loud = store[:1], store[1:]
    given: Any = quiet.stats() if normalize == "stats" else normalize
    windows = quiet.windows(5000, target="aligned", normalize=given)
    x, y = windows[0]
    assert np.abs(x).max() <= 1e-45
    assert np.abs(y).max() <= 1e-45
    assert np.abs(windows.scaler([0]).inverse(y[None])[0] - silence).max() <= 1e-45
    if normalize != "window":
        assert np.abs(next(quiet.padded(1, normalize=given))[0]).max() <= 1e-45
        assert np.abs(next(quiet.streams(1, 5000, normalize=given))[0]).max() <= 1e-45
    if normalize == "sequence":
        assert abs(loud.windows(5000, target="aligned", normalize="sequence")[0][0].std() - 1) < 1e-3


@pytest.mark.parametrize("normalize", ["sequence", "window", "stats"])
@pytest.mark.parametrize("shape", [(), (2,), (30,)])
def test_a_mean_of_many_deviations_is_subtracted_exactly(tmp_path: Path, normalize: str, shape: tuple[int, ...]):
    """Such as a pressure in Pa: float32 rounds the mean by more than it may change the result."""
    rng = np.random.default_rng(0)
    rows = [(1_234_567.89 + rng.normal(0, 1, (500, *shape))).astype("float32") for _ in range(2)]
    store = store_of(tmp_path / "s", rows)
    given: Any = store.stats() if normalize == "stats" else normalize
    windows = store.windows(500, target="aligned", normalize=given)
    for x, y in (next(windows.batches(2, shuffle=False)), tuple(map(np.stack, zip(*windows, strict=True)))):
        for number, found in enumerate(x):
            of = (np.concatenate(rows) if normalize == "stats" else rows[number]).astype("float64")
            expected = (rows[number] - of.mean(axis=0)) / of.std(axis=0)
            np.testing.assert_allclose(found, expected, atol=1e-3)
            assert found.dtype == "float32"
            assert same((y[number],), (found,))
    if shape == (2,):
        some = store.windows(500, target="aligned", normalize=given, features=[1])
        scaler = some.scaler([0, 1])
        assert same((scaler.normalize(np.stack(rows)[..., 1:]),), (np.stack([some[0][0], some[1][0]]),))
        back = scaler.inverse_inputs(np.stack([some[0][0], some[1][0]]))
        np.testing.assert_allclose(back, np.stack(rows)[..., 1:], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(), (2, 2, 3)])
def test_numbers_and_images_are_normalised_by_window_sequence_and_statistics(tmp_path: Path, shape: tuple[int, ...]):
    """Labels without names are regarded as the inputs if their rows have the same shape."""
    rng = np.random.default_rng(0)
    films = [rng.normal(50, 9, (length, *shape)) for length in (12, 7)]
    store = store_of(tmp_path / "s.zarr", films)
    axes = tuple(range(len(shape))) if shape else (0,)
    for how in ("window", "sequence", "statistics"):
        given: Any = store.stats() if how == "statistics" else how
        windows = store.windows(5, horizon=2, normalize=given)
        found, at = list(windows), 0
        assert all_same(unbatched(list(windows.batches(3, memory="1MB"))), found)
        for film in films:
            for start in range(len(film) - 6):
                every = {"window": film[start : start + 5], "sequence": film, "statistics": np.concatenate(films)}
                rows = every[how]
                center, scale = rows.mean(axis=axes), rows.std(axis=axes)
                np.testing.assert_allclose(found[at][0], (film[start : start + 5] - center) / scale, rtol=1e-9)
                np.testing.assert_allclose(found[at][1], (film[start + 5 : start + 7] - center) / scale, rtol=1e-9)
                at += 1
        assert at == len(found)
        _, y, index = next(windows.batches(4, index=True))
        np.testing.assert_allclose(
            windows.scaler(index).inverse(y), [w[1] for w in store.windows(5, horizon=2).__getitems__(index.tolist())]
        )


def test_labels_without_names_are_not_taken_for_inputs_that_have_names(tmp_path: Path):
    rows = np.arange(20, dtype="float32").reshape(10, 2)
    named = store_spec.Rows(np.dtype("float32"), (2,), names=("pulse", "breath"))
    store = store_of(tmp_path / "s", [rows], [rows + 5], inputs=named)
    assert same(store.windows(4, normalize="window")[0][1:], store.windows(4)[0][1:])


def unit_scale(*shape: int) -> Scale:
    return Scale(center=np.zeros(shape), scale=np.ones(shape))


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ("windows", "normalize='windows'; give statistics"),
        (1.0, "normalize=1.0; give statistics"),
        (np.ones(3), r"normalize=array\(\[1., 1., 1.\]\); give statistics"),
        (Scaler(inputs=unit_scale(3), labels=unit_scale(3)), "inputs have 4 features, but normalize is of 3"),
        (Scaler(inputs=unit_scale(7, 4), labels=unit_scale(3)), "normalize is of 4 of each of 7 samples"),
    ],
)
def test_invalid_normalisations_are_refused(walks: Known, normalize: Any, message: str):
    with pytest.raises(WindowError, match=message):
        walks.store.windows(4, normalize=normalize)


def test_statistics_of_columns_of_other_names_are_refused(tmp_path: Path):
    """And those of the same names in another order: values would be scaled by those of another feature."""

    def store(name: str, inputs: str, labels: str) -> store_spec.Store:
        rows = [store_spec.Rows(np.dtype("float32"), (len(names),), names=tuple(names)) for names in (inputs, labels)]
        ones = [[np.ones((9, len(names)), "float32")] for names in (inputs, labels)]
        return store_of(tmp_path / name, *ones, inputs=rows[0], labels=rows[1])

    ours = store("ours", "abc", "yz")
    message = "inputs have 'b' in place 1, but normalize has 'c' there; take the statistics"
    for stats in (other := store("inputs", "acb", "yz").stats(), other.minmax(), other.robust()):
        for make in (ours.windows, ours.padded):
            with pytest.raises(WindowError, match=message):
                make(4, normalize=stats)
    with pytest.raises(WindowError, match="labels have 'y' in place 0, but normalize has 'x' there"):
        ours.windows(4, normalize=store("labels", "abc", "xz").stats())
    assert len(ours.windows(4, normalize=store("same", "abc", "yz").stats())) == 5


def test_numbers_of_windows_must_be_of_an_epoch(walks: Known):
    store = walks.store
    with pytest.raises(WindowError, match="are not normalised; give normalize="):
        store.windows(4).scaler()
    with pytest.raises(WindowError, match='normalize="window", so give the index'):
        store.windows(4, normalize="window").scaler()
    with pytest.raises(SequenceIndexError, match="window 1,000 asked for"):
        store.windows(4, normalize="sequence").scaler([1000])
    with pytest.raises(WindowError, match="labels: 3 samples, but these are the numbers of 2"):
        store.windows(4, normalize="sequence").scaler([0, 1]).inverse(np.zeros((3, 1, 3)))
    for kind in ("padded", "streams"):
        with pytest.raises(WindowError, match="but these are not windows"):
            begin(store, kind, normalize="window")


@settings(deadline=None)
@given(
    rows=st.integers(0, 60),
    shape=st.lists(st.integers(1, 3), max_size=2),
    features=st.integers(1, 9),
    dtype=st.sampled_from(["float32", "float64", "int16", "int64"]),
    order=st.sampled_from("CF"),
    inplace=st.booleans(),
    together=st.integers(9, 40),
)
def test_rows_are_scaled_together_like_one_by_one(rows, shape, features, dtype, order, inplace, together):
    rng = np.random.default_rng(rows)
    values = np.asarray((100 * rng.normal(size=(rows, *shape, features))).astype(dtype), order=order)
    scale = Scale(center=rng.normal(size=features), scale=rng.normal(size=features) + 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "MANY_VALUES", 1)
        patch.setattr(scaling, "TOGETHER", together)
        wanted = normalise(values, scale.center, scale.scale)
        back = wanted * scale.scale.astype(wanted.dtype) + scale.center.astype(wanted.dtype)
        found = scale.apply(values.copy(order), inplace=inplace)
        assert same((found,), (wanted,))
        assert same((scale.undo(found),), (back,))


def test_rows_that_are_left_out_are_not_normalised(tmp_path: Path):
    """They may have any values, for example those of a failed sensor."""
    rows = np.linspace(0, 1e-3, 100, dtype="float32").reshape(50, 2)
    inputs = [rows + np.float32(3e38 if number == 4 else 0) for number in range(9)]
    some = store_of(tmp_path / "s", inputs, [x[:, 0] for x in inputs]).select([0, 1, 2, 3, 5, 6, 7, 8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stride in (1, 8):
            for shuffle in (False, True):
                for _ in some.windows(8, stride=stride, normalize=some.stats()).batches(16, shuffle=shuffle):
                    pass


@pytest.mark.filterwarnings("ignore:overflow encountered")  # by NumPy, in the statistics of such values
@pytest.mark.parametrize(("dtype", "value"), [("float32", 3e38), ("float64", 1.7e308)])
def test_a_range_that_overflows_is_refused(tmp_path: Path, dtype: str, value: float):
    rows = np.zeros((10, 2), dtype)
    rows[3:5, 1] = value, -value
    store = store_of(tmp_path / "s.zarr", [rows])
    with pytest.raises(WindowError, match=f"the scale of feature 1 is beyond .*, the largest {dtype}, so its values"):
        store.windows(3, normalize=store.stats().minmax())[0]


def test_integers_that_are_labels_and_inputs_are_values_and_others_are_classes(tmp_path: Path):
    """Forecasting predicts labels that are the inputs; other labels of the same dtype and shape are classes."""
    rng = np.random.default_rng(0)
    walks = [1000 + rng.integers(-9, 10, (length, 1)).cumsum(axis=0) for length in (30, 12, 20)]
    store = store_of(tmp_path / "same", walks)
    other = store_of(tmp_path / "classes", walks, [walk % 3 for walk in walks])
    stats = store.stats()
    every = np.concatenate(walks)
    for normalize in (stats, stats.minmax(), "sequence", "window"):
        windows = store.windows(4, normalize=normalize)
        places = [windows.locate(number) for number in range(len(windows))]
        wanted = [walks[int(place.source[1:])][place.step + 4] for place in places]
        for x, y in windows.batches(len(windows)):
            assert x.dtype == y.dtype == np.float64
            np.testing.assert_allclose(windows.scaler(range(len(windows))).inverse(y)[:, 0], wanted)
            if normalize is stats:
                np.testing.assert_allclose(y[:, 0], (np.array(wanted) - every.mean()) / every.std())
                np.testing.assert_allclose(stats.inverse(y)[:, 0], wanted)
        assert other.windows(4, normalize=normalize)[0][1].dtype == np.int64
    x, y, _ = next(store.padded(3, normalize=stats))
    np.testing.assert_array_equal(x, y)
    x, y, _ = next(store.streams(2, 40, normalize=stats))
    np.testing.assert_array_equal(x, y)
    assert next(other.padded(3, normalize=other.stats()))[1].dtype == np.int64


def test_states_distinguish_normalisations(walks: Known):
    store = walks.store
    every = [None, *(normalization(walks, how) for how in ("standard", "minmax", "sequence", "window"))]
    every += [store.stats().robust(), store.stats()]
    for kind in KINDS:
        some = [one for one in every if one != "window" or kind == "windows"]
        states = [json.loads(json.dumps(begin(store, kind, normalize=one).state_dict())) for one in some]
        assert len({state["parameters"]["normalize"] for state in states}) == len(some)
        begin(store, kind, normalize=some[1]).load_state_dict(states[1])
        with pytest.raises(StateError, match="normalize="):
            begin(store, kind, normalize=some[1]).load_state_dict(states[2])
