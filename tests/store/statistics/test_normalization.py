"""Normalisation by statistics, by sequence and by window, compared with a loop over plain arrays."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.errors import SequenceIndexError, StateError, WindowError
from store_spec.format.moments import moments, moments_of_each
from store_spec.reading import scaling
from store_spec.reading.scaling import Scale, Scaler, standard
from store_spec.schema import MOMENTS
from tests.store.kinds import KINDS, begin
from tests.store.oracle import store_of
from tests.store.window_oracle import Sequences, all_same, assert_windows_are, same, unbatched

LENGTHS = (30, 0, 9, 25, 1, 14, 2)
NAMES = ("open", "high", "still", "close")
PLACES = {name: place for place, name in enumerate(NAMES)}


def rows_of(rng: np.random.Generator, length: int, dtype: str, features: int, *, missing: bool) -> NDArray[Any]:
    """Return a walk far from 0 with a constant feature and, if wanted, NaN and a feature of only NaN."""
    rows = rng.normal(size=(length, features)).cumsum(axis=0) * 3 + 1000
    rows[:, 2] = 0.1
    if missing:
        rows[rng.random(rows.shape) < 0.2] = np.nan
        rows[: length // 2, 1] = np.nan
    return rows.astype(dtype)


def write_walks(path: Path, dtype: str, *, missing: bool = False) -> tuple[Sequences, store_spec.Store]:
    """Write sequences of four features; the labels are two of them, and a column that is no feature."""
    rng = np.random.default_rng(0)
    sequences: Sequences = []
    for length in LENGTHS:
        x = rows_of(rng, length, dtype, 4, missing=missing)
        y = np.concatenate([x[:, [3, 0]], rng.normal(size=(length, 1))], axis=1).astype("float64")
        sequences.append((x, y))
    options: dict[str, Any] = {
        "inputs": store_spec.Rows(np.dtype(dtype), (4,), NAMES),
        "labels": store_spec.Rows(np.dtype("float64"), (3,), ("close", "open", "load")),
        "missing": "keep" if missing else "error",
    }
    inputs, labels = (list(each) for each in zip(*sequences, strict=True))
    return sequences, store_of(path, inputs, labels, chunk=160, shard=1600, **options)


@pytest.fixture(scope="module", params=["float32", "float64", "int16", "missing"])
def walks_and_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("normalization") / "s.zarr"
    return write_walks(
        path, "float32" if request.param == "missing" else request.param, missing=request.param == "missing"
    )


def normalise(rows: NDArray[Any], center: Any, scale: Any) -> NDArray[Any]:
    """Normalise by the definition, in the dtype of results."""
    dtype = np.dtype("float32" if rows.dtype in (np.dtype("float32"), np.dtype("int16")) else "float64")
    return (rows.astype(dtype) - np.asarray(center).astype(dtype)) / np.asarray(scale).astype(dtype)


def center_and_scale(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column: 0 and 1 without values, the value and 1 if it is constant."""
    centers, scales = [], []
    for column, mean, std in zip(rows.T, (each := moments(rows)).mean, each.std, strict=True):
        values = column[~np.isnan(column)]
        if not len(values) or (values == values[0]).all():
            centers.append(values[0] if len(values) else 0.0)
            scales.append(1.0)
        else:
            np.testing.assert_allclose([mean, std], [values.mean(dtype=float), values.std(dtype=float)], rtol=1e-9)
            centers.append(mean)
            scales.append(std)
    return np.array(centers, float), np.array(scales, float)


def normalised_windows(
    sequences: Sequences, how: str, stats: Any, features: list[str], rate: int, *, future: bool
) -> list[Any]:
    """List the windows of 5 rows with a horizon of 3, one row between them, all normalised."""
    samples = []
    for x, y in sequences:
        of_x, of_y = center_and_scale(x), center_and_scale(y)
        for start in range(len(x) - 8 * rate):
            rows = [start + k * rate for k in range(9)]
            window, after = x[rows[:5]], rows[6:]
            if how == "window":
                of_x = center_and_scale(window)
                center, scale = np.zeros(3), np.ones(3)
                for target, name in enumerate(("close", "open", "load")):
                    if name in features:
                        center[target], scale[target] = (numbers[PLACES[name]] for numbers in of_x)
                of_y = center, scale
            elif how != "sequence":
                of_x = (stats.inputs.center, stats.inputs.scale)
                of_y = (stats.labels.center, stats.labels.scale)
            chosen = [PLACES[name] for name in features]
            sample = [normalise(window, *of_x)[:, chosen], normalise(y[after], *of_y)]
            if future:
                known = normalise(x[after], *of_x)
                if how == "window" and "high" not in features:
                    known = normalise(x[after], 0, 1)
                sample.append(known[:, [1]])
            samples.append(tuple(sample))
    return samples


def normalizations(store: store_spec.Store) -> dict[str, Any]:
    stats = store.select([0, 3, 5]).stats()
    return {
        "standard": (stats, stats.standard()),
        "minmax": (stats.minmax(), stats.minmax()),
        "sequence": ("sequence", None),
        "window": ("window", None),
    }


@pytest.mark.parametrize("how", ["standard", "minmax", "sequence", "window"])
@pytest.mark.parametrize("features", [list(NAMES), ["close", "still"], ["high", "open"]])
@pytest.mark.parametrize(("future", "rate"), [(False, 1), (True, 2)])
def test_windows_are_normalised_like_in_a_loop(
    walks_and_store: Any, how: str, features: list[str], rate: int, *, future: bool
):
    """The same bits by number, in order, and shuffled."""
    sequences, store = walks_and_store
    normalize, scaler = normalizations(store)[how]
    options: dict[str, Any] = {"features": features, "future": ["high"] if future else None, "horizon": 3, "lead": 1}
    windows = store.windows(5, normalize=normalize, sampling_rate=rate, **options)
    wanted = normalised_windows(sequences, how, scaler, features, rate, future=future)
    assert_windows_are(windows, wanted, memory="40kB")


@given(
    how=st.sampled_from(["standard", "minmax", "sequence", "window"]),
    window=st.integers(1, 12),
    rate=st.integers(1, 2),
    target=st.sampled_from(["future", "last", "aligned"]),
    stride=st.integers(1, 4),
    size=st.integers(1, 9),
    which=st.lists(st.integers(0, len(LENGTHS) - 1), max_size=6) | st.just(list(range(len(LENGTHS)))),
    ranks=st.integers(1, 3),
)
def test_batches_have_the_bits_of_single_windows_with_any_options(
    walks_and_store, how, window, rate, target, stride, size, which, ranks
):
    """Padded windows too: only their real steps count, and padding stays zero."""
    store = walks_and_store[1]
    normalize = normalizations(store)[how][0]
    windows = store.select(which).windows(
        window, stride=stride, sampling_rate=rate, target=target, short="pad", normalize=normalize
    )
    alone = [windows[number] for number in range(len(windows))]
    assert all_same(list(windows), alone)
    plain = store.select(which).windows(window, stride=stride, sampling_rate=rate, target=target, short="pad")
    for (x, y, mask), (raw, _, _) in zip(alone, plain, strict=True):
        assert not x[~mask].any()
        if target == "aligned":
            assert not y[~mask].any()
        if how == "window":
            center, scale = center_and_scale(raw[mask])
            np.testing.assert_allclose(x[mask], normalise(raw[mask], center, scale), rtol=1e-5, atol=1e-4)
    for rank in range(ranks):
        try:
            batches = windows.batches(
                size, shuffle=True, index=True, memory="40kB", rank=rank, world_size=ranks, drop_last=True
            )
        except WindowError:
            return
        for sample in unbatched(list(batches)):
            assert same(sample[:-1], alone[sample[-1]])


@pytest.mark.parametrize("how", ["standard", "minmax", "sequence", "window"])
def test_a_scaler_brings_labels_and_inputs_back(walks_and_store: Any, how: str):
    store = walks_and_store[1]
    normalize = normalizations(store)[how][0]
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


def test_robust_uses_the_median_and_the_interquartile_range(walks_and_store: Any):
    sequences, store = walks_and_store
    for normalizer, low, high in ((store.stats().robust(), 0.25, 0.75), (store.stats().robust(0.1, 0.9), 0.1, 0.9)):
        for each, rows in ((normalizer.inputs, 0), (normalizer.labels, 1)):
            together = np.concatenate([pair[rows] for pair in sequences]).astype("float64")
            below, median, above = np.nanquantile(together, [low, 0.5, high], axis=0)
            assert np.array_equal(each.center, median)
            assert np.array_equal(each.scale, np.where(above == below, 1.0, above - below))
    assert same(
        (store.windows(5, normalize=store.stats().robust())[0][0],),
        (store.stats().robust().normalize(sequences[0][0][:5]),),
    )


@pytest.mark.parametrize("dtype", ["float64", "int64"])
@pytest.mark.parametrize("normalize", ["sequence", "window", "stats"])
def test_values_are_normalised_before_they_are_rounded(tmp_path: Path, normalize: str, dtype: str):
    """For example seconds since 1970, of which float32 represents every 128th."""
    seconds, batches = np.random.default_rng(0).integers(0, 100, (50, 2)), []
    for since in (0, 1_700_000_000):
        store = store_of(tmp_path / str(since), [(seconds + since).astype(dtype)])
        given: Any = store.stats() if normalize == "stats" else normalize
        batches.append(store.windows(5, future=[0], dtype="float32", normalize=given).batches(7))
    for one, other in zip(*batches, strict=True):
        for wanted, found in zip(one, other, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


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


def test_constants_become_0_and_nan_stays_nan(tmp_path: Path):
    _, store = write_walks(tmp_path / "s.zarr", "float32", missing=True)
    for normalize, _ in normalizations(store).values():
        for (x, _), (rows, _) in zip(store.windows(4, normalize=normalize), store.windows(4), strict=True):
            assert np.array_equal(np.isnan(x), np.isnan(rows))
            still = x[:, 2]
            assert (still[~np.isnan(still)] == 0).all() or normalize == "standard"


@pytest.mark.parametrize("shape", [(), (2, 2, 3)])
def test_numbers_and_images_are_normalised_by_window_and_sequence(tmp_path: Path, shape: tuple[int, ...]):
    """Labels without names are regarded as the inputs if their rows have the same shape."""
    rng = np.random.default_rng(0)
    films = [rng.normal(50, 9, (length, *shape)) for length in (12, 7)]
    store = store_of(tmp_path / "s.zarr", films)
    axes = tuple(range(len(shape))) if shape else (0,)
    for how in ("window", "sequence"):
        windows = store.windows(5, horizon=2, normalize=how)
        found, at = list(windows), 0
        assert all_same(unbatched(list(windows.batches(3, memory="1MB"))), found)
        for film in films:
            for start in range(len(film) - 6):
                rows = film[start : start + 5] if how == "window" else film
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


@pytest.mark.parametrize("features", [1, 2])
def test_labels_of_sequences_are_normalised_only_by_statistics(tmp_path: Path, features: int):
    """By the numbers of its own sequence, a single label would always be 0."""
    inputs = [np.full((9, features), number, "float32") for number in range(4)]
    store = store_of(tmp_path / "s.zarr", inputs, [[number * 10.0] for number in range(4)], label_axis="sequence")
    kinds: list[tuple[Any, list[float]]] = [
        ("sequence", [0, 10, 20, 30]),
        ("window", [0, 10, 20, 30]),
        (store.stats().minmax(), [0, 1 / 3, 2 / 3, 1]),
    ]
    for normalize, wanted in kinds:
        windows = store.windows(9, target="sequence", normalize=normalize)
        assert np.allclose([y[0] for _, y in windows], wanted)
        assert np.allclose(np.concatenate([y for _, y in windows.batches(2)])[:, 0], wanted)
        if normalize != "window":
            assert np.allclose([y[0, 0] for _, y, _ in store.padded(1, normalize=normalize)], wanted)
            assert np.allclose([y[0, 0, 0] for _, y, _ in store.streams(1, 9, normalize=normalize)], wanted)
        if normalize == "sequence":
            assert windows.scaler([0, 3]).inverse(np.array([[5.0], [6.0]])).tolist() == [[5.0], [6.0]]


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
def test_invalid_normalisations_are_refused(walks_and_store: Any, normalize: Any, message: str):
    with pytest.raises(WindowError, match=message):
        walks_and_store[1].windows(4, normalize=normalize)


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


def test_numbers_of_windows_must_be_of_an_epoch(walks_and_store: Any):
    store = walks_and_store[1]
    with pytest.raises(WindowError, match="are not normalised; give normalize="):
        store.windows(4).scaler()
    with pytest.raises(WindowError, match='normalize="window", so give the index'):
        store.windows(4, normalize="window").scaler()
    with pytest.raises(SequenceIndexError, match="window 1,000 asked for"):
        store.windows(4, normalize="sequence").scaler([1000])
    with pytest.raises(WindowError, match="labels: 3 samples, but these are the numbers of 2"):
        store.windows(4, normalize="sequence").scaler([0, 1]).inverse(np.zeros((3, 1, 3)))
    for make in (store.padded, store.streams):
        with pytest.raises(WindowError, match="but these are not windows"):
            make(2, **({} if make == store.padded else {"window": 2}), normalize="window")


@given(
    windows=st.integers(0, 5),
    steps=st.integers(1, 40),
    shape=st.sampled_from([(), (1,), (3,), (2, 3)]),
    seed=st.integers(0, 99),
    missing=st.booleans(),
)
def test_moments_of_several_sequences_equal_those_of_each(
    windows: int, steps: int, shape: tuple[int, ...], seed: int, *, missing: bool
):
    rng = np.random.default_rng(seed)
    rows = rng.normal(1e6, 1, (windows, steps, *shape)).astype("float32")
    if missing:
        rows[rng.random(rows.shape) < 0.3] = np.nan
    found = moments_of_each(rows)
    for number in range(windows):
        wanted = moments(rows[number])
        for name in MOMENTS:
            assert same((getattr(found, name)[number],), (getattr(wanted, name),))
    assert found.count.shape == (windows, shape[-1] if shape else 1)
    assert standard(found).center.shape == found.count.shape


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


@pytest.mark.parametrize("how", ["standard", "minmax", "sequence"])
def test_batches_of_sequences_are_normalised_and_their_padding_is_zero(walks_and_store: Any, how: str):
    sequences, store = walks_and_store
    normalize, scaler = normalizations(store)[how]

    def wanted(most: int | None) -> list[NDArray[Any]]:
        """Return inputs and labels of all sequences one after another, or of their first steps."""
        each = []
        for pair in sequences:
            numbers = (
                [center_and_scale(rows) for rows in pair]
                if scaler is None
                else [(one.center, one.scale) for one in (scaler.inputs, scaler.labels)]
            )
            each.append([normalise(rows[:most], *some) for rows, some in zip(pair, numbers, strict=True)])
        return [np.concatenate(rows) for rows in zip(*each, strict=True)]

    cases: list[tuple[Any, int | None]] = [
        (store.padded(3, normalize=normalize, memory=2000), None),
        (store.padded(3, normalize=normalize, side="start"), None),
        (store.padded(3, normalize=normalize, truncate=11), 11),
        (store.streams(1, 4, normalize=normalize, mask=True), None),
        (store.streams(1, 4, normalize=normalize, mask=True, align=True), None),
        (store.packed(90, normalize=normalize), None),
    ]
    for batches, most in cases:
        taken = list(batches)
        assert not any(batch.inputs[~batch.mask].any() or batch.labels[~batch.mask].any() for batch in taken)
        for name, due in zip(("inputs", "labels"), wanted(most), strict=True):
            found = np.concatenate([getattr(batch, name)[batch.mask] for batch in taken])
            if taken[0]._fields[3:4] == ("cu_seqlens",):  # packed sequences have another order
                assert sorted(map(bytes, found)) == sorted(map(bytes, due))
            else:
                assert same((found,), (due,))


def test_states_distinguish_normalisations(walks_and_store: Any):
    store = walks_and_store[1]
    every = [None, *(normalize for normalize, _ in normalizations(store).values())]
    every += [store.stats().robust(), store.stats()]
    for kind in KINDS:
        some = [one for one in every if one != "window" or kind == "windows"]
        states = [json.loads(json.dumps(begin(store, kind, normalize=one).state_dict())) for one in some]
        assert len({state["parameters"]["normalize"] for state in states}) == len(some)
        begin(store, kind, normalize=some[1]).load_state_dict(states[1])
        with pytest.raises(StateError, match="normalize="):
            begin(store, kind, normalize=some[1]).load_state_dict(states[2])
