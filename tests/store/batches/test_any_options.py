"""Batches of sequences with all of their options together: each step has what a loop over the arrays gives it.

Masks say which values are real. Which steps are in a batch, and where, is compared in the tests of each kind.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import WindowError
from tests.store.kinds import WHOLE, begin, chunks_read, every_kind
from tests.store.known import (
    KEPT,
    NAMES,
    NORMALIZATIONS,
    Known,
    are_inputs,
    asked_of,
    common,
    dtypes,
    normalization,
    positions,
    scaled,
    static_of,
    targets_of,
)
from tests.store.oracle import Recipe, make, store_of, write
from tests.store.window_oracle import LENGTHS, Written, selections, usable

Steps = dict[int, list[bytes]]  # by the number of the sequence in a view
ORDER = (  # of the arrays of a batch
    *("inputs", "labels", "reset", "mask", "value_mask", "lengths", "cu_seqlens", "position_ids", "segment_ids"),
    *("static", "index"),
)


def steps_by_loops(known: Known, selection: list[int], normalize: Any, asked: dict[str, Any], **more: Any) -> Steps:
    """Return what each step has, as bytes: inputs, labels, mask of real values, and static columns."""
    take, of_inputs = positions(asked["features"] or NAMES, NAMES), are_inputs(known, asked["targets"])
    found: Steps = {}
    for number, sequence in enumerate(selection):
        x, y = scaled(known, sequence, normalize)
        y = (x if of_inputs else y)[..., targets_of(known, asked["targets"])]
        x, y = (rows if more["dtype"] is None else rows.astype(more["dtype"]) for rows in (x[:, take], y))
        static = static_of(known, sequence, asked["static"]).tobytes()
        whole = range(*usable(LENGTHS[sequence], more["steps"], asked["after"], asked["before"]))
        most = more.get("truncate")
        first_or_last = slice(-(most or 0), None) if more.get("truncate_side") == "start" else slice(most)
        for step in whole[first_or_last]:
            label = y[step] if y.ndim == 2 else y
            real = known.real[sequence][step, take].tobytes() if asked["value_mask"] else b""
            found.setdefault(number, []).append(x[step].tobytes() + label.tobytes() + real + static)
    return found


def add_steps(found: Steps, batch: Any) -> None:
    """Add what each step of a batch has, after checking that its padding is zero."""
    assert list(batch._fields) == sorted(batch._fields, key=ORDER.index)
    assert all(array.flags.writeable for array in batch)
    mask, index = batch.mask, batch.index
    arrays = [batch._asdict()[name] for name in ("inputs", "labels", "value_mask", "static") if name in batch._fields]
    assert not any(array[~mask].any() for array in arrays if array.ndim == 3)
    if "cu_seqlens" in batch._fields:
        index = np.repeat(index, np.diff(batch.cu_seqlens)).reshape(mask.shape)
    for at in zip(*np.nonzero(mask), strict=True):
        number = index[at[: index.ndim]]  # padded batches have one number for each sequence
        values = (array[at[: array.ndim - 1]] for array in arrays)
        found.setdefault(int(number), []).append(b"".join(value.tobytes() for value in values))


sides = st.sampled_from(["start", "end"])


@settings(max_examples=100)
@given(
    kind=st.sampled_from(["padded", "packed", "streams"]),
    stored=st.sampled_from(sorted(KEPT)),
    axis=st.sampled_from(["step", "sequence", "own"]),
    selection=selections(),
    how=st.sampled_from([None, *NORMALIZATIONS]),
    dtype=dtypes,
    steps=st.sampled_from([None, (0.2, 0.7)]),
    drawn=st.fixed_dictionaries(common),
    of_padded=st.fixed_dictionaries(
        {
            "side": sides,
            "truncate": st.none() | st.integers(1, 60),
            "truncate_side": sides,
            "memory": st.sampled_from([600_000, "256MB"]),
        }
    ),
    shuffle=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:.*there are no steps in this period")
def test_each_step_has_the_values_of_a_loop(
    known: Any,
    kind: str,
    stored: str,
    axis: str,
    selection: list[int],
    how: Any,
    dtype: Any,
    steps: Any,
    drawn: dict[str, Any],
    of_padded: dict[str, Any],
    *,
    shuffle: bool,
):
    """In their order; those of a packed sequence may be in any."""
    one: Known = known(stored, axis)
    normalize = normalization(one, how)
    more = {"dtype": dtype, "steps": steps} | {"padded": of_padded, "streams": {"mask": True}, "packed": {}}[kind]
    options: dict[str, Any] = {"normalize": normalize, "allow_later": True, "index": True, "shuffle": shuffle}
    found: Steps = {}
    for batch in begin(one.store.select(selection), kind, **options, **more, **asked_of(drawn)):
        add_steps(found, batch)
        assert all(array.flags.c_contiguous for array in batch)
    wanted = steps_by_loops(one, selection, normalize, drawn, **more)
    if kind == "packed":
        found, wanted = ({number: sorted(each) for number, each in some.items()} for some in (found, wanted))
    assert found == wanted


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


@every_kind
def test_each_chunk_is_decompressed_once_and_those_of_the_mask_only_if_it_is_requested(known, monkeypatch, kind):
    """If all fit into memory."""
    for dtype, arrays in (("float64", ["inputs", "labels"]), ("float32", ["filled", "inputs", "labels"])):
        store = known(dtype, "step").store
        size = store.schema.steps.chunk
        with monkeypatch.context() as patch:
            read = chunks_read(patch, size)
            list(begin(store, kind, value_mask=True, **WHOLE[kind]))
            every = [(array, chunk) for array in arrays for chunk in range(-(-sum(LENGTHS) // size))]
            assert sorted(read) == every
            read.clear()
            list(begin(store, kind, **WHOLE[kind]))
            assert "filled" not in {array for array, _ in read}
