"""Which values of batches are real, and not missing or filled in, against loops over `store[i]`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from store_spec.reading.scaling import Scale, Scaler
from tests.store.kinds import WHOLE, begin, chunks_read, every_kind
from tests.store.oracle import Recipe, make, store_of, write
from tests.store.window_oracle import LENGTHS, Written, all_same, selections

KINDS: dict[str, dict[str, Any]] = {
    "keep": {"missing": "keep"},
    "filled": {"filled": True},
    "both": {"missing": "keep", "filled": True},
}


@dataclass(frozen=True, repr=False)
class Known:
    """A store of LENGTHS whose first feature is the number of the step, and the mask of its real values."""

    store: store_spec.Store
    real: NDArray[np.bool_]  # (steps, 3)


def write_known(path: Path, kind: str, axis: Any) -> Known:
    """Write it; the first feature is never missing, but may be filled."""
    rng, options = np.random.default_rng(0), KINDS[kind]
    inputs, labels, masks = [], [], []
    for number, (length, end) in enumerate(zip(LENGTHS, np.cumsum(LENGTHS).tolist(), strict=True)):
        x = np.concatenate([np.arange(end - length, end)[:, None], rng.normal(size=(length, 2))], axis=1)
        if "missing" in options:
            x[:, 1:][rng.random((length, 2)) < 0.3] = np.nan
        y = {"step": x[:, 1:2], "sequence": np.array([float(number)]), "own": np.ones((number % 4, 1))}[axis]
        inputs.append(x)
        labels.append(y)
        masks.append((rng.random(x.shape) < 0.3) & ~np.isnan(x) & ("filled" in options))
    more = [{"filled": mask} if "filled" in options else {} for mask in masks]
    store = store_of(path, inputs, labels, more=more, label_axis=axis, chunk=192, shard=960, **options)
    assert store_spec.verify(path) == []
    return Known(store, ~np.isnan(np.concatenate(inputs)) & ~np.concatenate(masks))


@pytest.fixture(scope="module")
def all_known(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Known]:
    folder = tmp_path_factory.mktemp("known")
    cases = itertools.product(KINDS, ["step", "sequence", "own"])
    return {(kind, axis): write_known(folder / f"{kind}-{axis}.zarr", kind, axis) for kind, axis in cases}


def assert_added(found: Sequence[Any], plain: Sequence[Any], place: int) -> None:
    """Check that batches are those without `value_mask`, apart from this array, which is at this position."""
    assert all_same([batch[:place] + batch[place + 1 :] for batch in found], plain)
    for batch in found:
        x, values = batch[0], batch[place]
        assert (values.dtype, values.shape) == (np.dtype(bool), x.shape)
        assert values.flags.c_contiguous
        assert values.flags.writeable


def expected_mask(known: Known, x: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which values of a batch without normalisation are real: each step has its number."""
    wanted = np.zeros(x.shape, bool)
    for at in np.ndindex(*mask.shape):
        if mask[at]:
            wanted[at] = known.real[int(x[at][0])]
    return wanted


sides = st.sampled_from(["start", "end"])
options_of_padded = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "max_steps": st.none() | st.integers(100, 300),
        "bucket": st.booleans(),
        "shuffle": st.booleans(),
        "epoch": st.integers(0, 3),
        "side": sides,
        "truncate": st.none() | st.integers(1, 60),
        "truncate_side": sides,
        "memory": st.sampled_from([1, 20_000, "256MB"]),
        "static": st.none() | st.just(["length"]),
    }
)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    axis=st.sampled_from(["step", "sequence", "own"]),
    selection=selections(),
    asked=options_of_padded,
    ranks=st.integers(1, 3),
)
def test_padded_batches_have_value_masks(all_known, kind, axis, selection, asked, ranks):
    """After the mask of steps, before static columns; all other arrays are as without it, for any number of ranks."""
    one = all_known[kind, axis]
    store, place = one.store.select(selection), 4 if axis == "own" else 3
    for rank in range(ranks):
        more = asked | {"rank": rank, "world_size": ranks}
        try:
            plain = list(store.padded(**more))
        except WindowError:  # they cannot be distributed over so many ranks
            return
        found = list(store.padded(**more, value_mask=True))
        assert_added(found, plain, place)
        for batch in found:
            assert np.array_equal(batch[place], expected_mask(one, batch[0], batch[2]))


@settings(max_examples=4, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    axis=st.sampled_from(["step", "sequence"]),
    selection=selections(),
    lanes=st.integers(1, 4),
    steps=st.integers(1, 20),
    align=st.booleans(),
    shuffle=st.booleans(),
    ranks=st.integers(1, 3),
    more_memory=st.sampled_from([0, 10_000, 256_000_000]),
)
def test_streams_have_value_masks(all_known, kind, axis, selection, lanes, steps, ranks, more_memory, **order):
    """It is the last array, with or without the mask of steps, for any number of ranks."""
    one = all_known[kind, axis]
    store = one.store.select(selection)
    with pytest.raises(WindowError) as error:
        store.streams(lanes, steps, memory=1, value_mask=True)
    memory = int(re.findall(r"give memory=(\d+)", str(error.value))[0]) + more_memory
    for rank in range(ranks):
        more: dict[str, Any] = {**order, "rank": rank, "world_size": ranks, "memory": memory}
        plain = list(store.streams(lanes, steps, mask=True, **more))
        found = list(store.streams(lanes, steps, mask=True, value_mask=True, **more))
        assert_added(found, plain, 4)
        for x, _, _, mask, values in found:
            assert np.array_equal(values, expected_mask(one, x, mask))
        alone = list(store.streams(lanes, steps, value_mask=True, **more))
        assert all_same(alone, [batch[:3] + batch[4:] for batch in found])


@pytest.mark.parametrize("kind", ["keep", "both"])
def test_masks_are_of_stored_and_not_of_normalised_values(tmp_path: Path, kind: str):
    """Normalising by given numbers may yield only NaN; features without any value are masked anyway."""
    rng, lengths = np.random.default_rng(0), (12, 18)
    sequences = [rng.normal(size=(length, 3)) for length in lengths]
    sequences[0][:, 2], sequences[1][::3, 1] = np.nan, np.nan
    filled = [(rng.random(x.shape) < 0.3) & ~np.isnan(x) & (kind == "both") for x in sequences]
    more = [{"filled": places} for places in filled]
    store = store_of(tmp_path / "s", sequences, [x[:, 0] for x in sequences], more=more, **KINDS[kind])
    real = [~np.isnan(x) & ~places for x, places in zip(sequences, filled, strict=True)]
    none = Scale(center=np.full(3, np.nan), scale=np.ones(3))
    for normalize in (store.stats(), Scaler(inputs=none, labels=none.take([0])), "sequence"):
        asked: Any = {"normalize": normalize, "value_mask": True}
        ((x, _, mask, values),) = store.padded(2, **asked)
        assert np.array_equal(values[mask], np.concatenate(real))
        ((row, _, _, reals),) = store.streams(1, 30, **asked)
        assert np.array_equal(reals[0], np.concatenate(real))
        if isinstance(normalize, Scaler):
            assert np.isnan(x[mask]).all()
            assert np.isnan(row).all()


@pytest.mark.parametrize(("dtype", "shape"), [("complex64", ()), ("float32", (2, 3)), ("int16", (2,)), ("bool", (1,))])
def test_rows_of_any_dtype_and_shape_have_a_mask(tmp_path: Path, dtype: str, shape: tuple[int, ...]):
    """Values that cannot be NaN are real unless they were filled."""
    recipe = Recipe(inputs=(dtype, shape), missing="keep", filled=True)
    sequences = make(recipe, [9, 0, 5, 30])
    store = store_spec.open_store(write(recipe, tmp_path / "s", sequences))
    wanted = [~np.isnan(one.inputs) & ~one.rows("filled") for one in sequences]
    ((_, _, mask, values),) = store.padded(4, value_mask=True)
    assert values.shape == (4, 30, *shape)
    for one, places, rows in zip(wanted, mask, values, strict=True):
        assert np.array_equal(rows[places], one)
        assert not rows[~places].any()
    ((_, _, _, values),) = store.streams(1, 44, value_mask=True)
    assert np.array_equal(values[0], np.concatenate(wanted))
    (batch,) = store.packed(44, value_mask=True)
    assert np.array_equal(np.sort(batch.value_mask.ravel()), np.sort(np.concatenate(wanted).ravel()))
    windows = store.windows(5, target="aligned", value_mask=True)
    for number, sample in enumerate(windows):
        place = windows.locate(number)
        assert np.array_equal(sample.value_mask, wanted[place.sequence][place.step : place.step + 5])


@every_kind
def test_a_byte_above_1_is_a_filled_value_and_masks_hold_only_bools(tmp_path: Path, kind: str):
    more = [{"filled": np.array([[0, 2], [1, 0], [255, 0]], "u1").view(bool)}]
    rows, labels = [np.zeros((3, 2), "i2")], [np.zeros(3, "i1")]
    store = store_of(tmp_path / "s", rows, labels, more=more, filled=True, codec="none")
    options: dict[str, dict[str, Any]] = {
        "windows": {"window": 3, "target": "aligned"},
        "packed": {"tokens": 3},
        "streams": {"batch_size": 1, "window": 3},
    }
    (batch,) = begin(store, kind, value_mask=True, **options.get(kind, {}))
    assert batch.value_mask.view(np.uint8).tolist() == [[[1, 0], [0, 1], [0, 1]]]
    if kind == "windows":
        alone = store.windows(3, target="aligned", value_mask=True)[0].value_mask
        assert alone.view(np.uint8).tolist() == [[1, 0], [0, 1], [0, 1]]
    assert "neither 0 nor 1" in str(store_spec.verify(tmp_path / "s"))


@every_kind
def test_a_store_without_masks_says_how_to_build_one_with_them(by_step: Written, kind: str):
    text = r"value_mask=True, but this store does not say .* --missing keep, or with --mask"
    with pytest.raises(WindowError, match=text):
        begin(by_step.store, kind, value_mask=True)


def test_the_mask_counts_in_the_memory_of_a_batch(all_known: dict[tuple[str, str], Known]):
    """One byte for each value; in streams two, as it is read beside the mask that is computed from it."""
    for kind, more in (("keep", 1), ("filled", 2), ("both", 2)):
        store = all_known[kind, "step"].store
        for value_mask in (False, True):
            takes = 2 * 5 * (4 * 8 + 2 + value_mask * 3 * more)
            with pytest.raises(WindowError, match=f"of 2 lanes of 5 steps takes {takes:,}, and"):
                store.streams(2, 5, memory=1, value_mask=value_mask)
            windows = store.windows(50, value_mask=value_mask)
            takes = len(windows) * (50 * 3 * (8 + value_mask) + 8)
            with pytest.raises(WindowError, match=f"a batch takes {takes:,} and may take one"):
                windows.batches(10**6, memory="1kB")


@pytest.mark.parametrize("kind", ["padded", "packed", "streams"])
def test_each_chunk_is_decompressed_once_and_those_of_the_mask_only_if_it_is_requested(
    all_known: dict[tuple[str, str], Known], monkeypatch: pytest.MonkeyPatch, kind: str
):
    read = chunks_read(monkeypatch)
    for name, arrays in (("keep", ["inputs"]), ("both", ["filled", "inputs"])):
        store = all_known[name, "sequence"].store
        read.clear()
        list(begin(store, kind, value_mask=True, **WHOLE[kind]))
        every = [(array, chunk) for array in arrays for chunk in range(-(-sum(LENGTHS) // 8))]
        assert sorted(each for each in read if each[0] != "labels") == every
        read.clear()
        list(begin(store, kind, **WHOLE[kind]))
        assert "filled" not in {array for array, _ in read}
