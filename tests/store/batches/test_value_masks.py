"""Which values of batches are real, and not missing or filled in; `test_any_options` compares more with loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import WindowError
from tests.store.kinds import WHOLE, begin, chunks_read, every_kind
from tests.store.oracle import Recipe, make, store_of, write
from tests.store.window_oracle import LENGTHS, Written


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


def test_the_mask_counts_in_the_memory_of_a_batch(known: Any):
    """One byte for each value; in streams two, if it comes from both missing and filled values."""
    for dtype, more in (("float64", 1), ("int16", 1), ("float32", 2)):  # of missing, of filled values, and of both
        store = known(dtype, "step").store
        inputs, labels = store.schema.inputs.nbytes, store.schema.labels.nbytes
        for value_mask in (False, True):
            takes = 2 * 5 * (inputs + labels + 2 + value_mask * 4 * more)
            with pytest.raises(WindowError, match=f"of 2 lanes of 5 steps takes {takes:,}, and"):
                store.streams(2, 5, memory=1, value_mask=value_mask)
            windows = store.windows(50, value_mask=value_mask)
            takes = len(windows) * (50 * (inputs + value_mask * 4) + labels)
            with pytest.raises(WindowError, match=f"a batch takes {takes:,} and may take one"):
                windows.batches(10**6, memory="1kB")


@pytest.mark.parametrize("kind", ["padded", "packed", "streams"])
def test_each_chunk_is_decompressed_once_and_those_of_the_mask_only_if_it_is_requested(
    known: Any, monkeypatch: pytest.MonkeyPatch, kind: str
):
    for dtype, arrays in (("float64", ["inputs"]), ("float32", ["filled", "inputs"])):
        store = known(dtype, "sequence").store
        size = store.schema.steps.chunk
        with monkeypatch.context() as patch:
            read = chunks_read(patch, size)
            list(begin(store, kind, value_mask=True, **WHOLE[kind]))
            every = [(array, chunk) for array in arrays for chunk in range(-(-sum(LENGTHS) // size))]
            assert sorted(each for each in read if each[0] != "labels") == every
            read.clear()
            list(begin(store, kind, **WHOLE[kind]))
            assert "filled" not in {array for array, _ in read}
