"""All options together: windows, and what batches give each step, compared with loops over the written arrays.

Which steps are in a batch of sequences, and where, is compared in the tests of each kind.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import WindowError
from store_spec.windows.batches import Batches
from store_spec.windows.shape import WindowOptions, WindowShape
from store_spec.windows.windows import Windows
from tests.store.kinds import WHOLE, begin, chunks_read, every_kind
from tests.store.known import (
    KEPT,
    NAMES,
    NORMALIZATIONS,
    NOTHING,
    Known,
    Loops,
    are_inputs,
    asked_of,
    common,
    dtypes,
    named,
    normalization,
    numbered,
    positions,
    rows_of,
    static_of,
)
from tests.store.oracle import Recipe, make, same, store_of, write
from tests.store.window_oracle import (
    LENGTHS,
    Written,
    all_same,
    selections,
    shapes,
    usable,
)


def fitting(windows: Windows, size: int, memory: int, **options: Any) -> Batches:
    """Return batches with the given memory, or with the least that the error names."""
    try:
        return windows.batches(size, memory=memory, **options)
    except WindowError as error:
        least = int(re.findall(r"give memory=(\d+)", str(error))[0])
        return windows.batches(size, memory=least, **options)


USUAL: dict[str, Any] = {
    "kind": "float32",
    "axis": "step",
    "chunk": 160,
    "selection": list(range(len(LENGTHS))),
    "least": None,
    "phase": "first",
    "how": None,
    "dtype": None,
    "drawn": NOTHING | {"future": None, "missing": "keep", "mask": False, "context": False},
    "batched": (7, 80_000, 0),
}


def usual_but(**changes: Any) -> Any:
    """Return an example with some changes of the usual options."""
    return example(**USUAL | changes | {"drawn": USUAL["drawn"] | changes.get("drawn", {})})


@settings(max_examples=100)
@given(
    kind=st.sampled_from(sorted(KEPT)),
    axis=st.sampled_from(["step", "sequence", "own"]),
    chunk=st.sampled_from([32, 160, 2048]),
    selection=selections(),
    shape=shapes(),
    least=st.none() | st.integers(1, 9),
    phase=st.sampled_from(["first", "random"]),
    how=st.sampled_from([None, *NORMALIZATIONS, "window"]),
    dtype=dtypes,
    drawn=st.fixed_dictionaries(
        common
        | {"future": st.none() | named | numbered, "missing": st.sampled_from(["keep", "skip"])}
        | {"mask": st.booleans(), "context": st.booleans()}
    ),
    batched=st.tuples(st.integers(1, 12), st.integers(1, 40_000) | st.just(10**6), st.integers(0, 3)),
)
# Labels are not normalised by groups, NaN in other features counts too, and `future` is normalised like the inputs.
@usual_but(axis="sequence", shape=WindowShape(window=3, target="last"), how="groups")
@usual_but(
    kind="float64",
    shape=WindowShape(window=4, horizon=3, lead=1, stride=2, short="pad"),
    drawn={"future": ["open"], "missing": "skip"},
)
@usual_but(shape=WindowShape(window=3, horizon=2), how="window", drawn={"future": ["open"]})
@usual_but(
    shape=WindowShape(window=2, sampling_rate=3, target="last", short="pad", steps=(0.4, 1.0)), drawn={"context": True}
)
@usual_but(shape=WindowShape(window=3, horizon=2, short="pad", steps=(0.5, 1.0)), drawn={"context": True})
def test_windows_with_any_options_equal_those_of_loops(
    known, kind, axis, chunk, selection, shape, least, phase, how, dtype, drawn, batched
):
    """By number, in order, and each once if shuffled, bit for bit.

    In each epoch they may have other lengths and start elsewhere; a sequence with windows keeps at least one.
    """
    one: Known = known(kind, axis, chunk)
    if axis == "sequence" and not are_inputs(one, drawn["targets"]):
        shape = replace(shape, target="sequence", pad_end=False)
    if shape.target != "future":
        drawn = drawn | {"future": None}
    shape = replace(shape, least_window=least and min(least, shape.window), phase=phase)
    normalize, view = normalization(one, how), one.store.select(selection)
    options = WindowOptions(**asked_of(drawn), normalize=normalize, dtype=dtype, allow_later=True)
    loops = Loops(one, selection, shape, normalize, dtype, drawn)
    windows, every = Windows(view, shape, options), loops.windows()
    assert [windows.index.locate(number) for number in range(len(windows))] == [window[:2] for window in every]
    assert all_same(list(windows), [loops.sample(window) for window in every])
    size, memory, first = batched
    for epoch, shuffle in ((first, False), (first + 1, True), (first, True)):  # later ones may find rows in memory
        batches = fitting(windows.of_epoch(9, 9), size, memory, shuffle=shuffle, epoch=epoch, index=True)
        start = batches.windows.index.start
        moved = start - windows.index.start
        assert ((moved >= 0) & (moved < (shape.stride if phase == "random" else 1))).all()
        now = loops.windows(start.tolist())
        assert {window.sequence for window in now} >= {window.sequence for window in every}
        loops.assert_epoch(batches, now, size, shuffle=shuffle)


Steps = dict[int, list[bytes]]  # by the number of the sequence in a view
ORDER = (  # of the arrays of a batch
    *("inputs", "labels", "reset", "mask", "value_mask", "lengths", "cu_seqlens", "position_ids", "segment_ids"),
    *("static", "index"),
)


def steps_by_loops(known: Known, selection: list[int], normalize: Any, asked: dict[str, Any], **more: Any) -> Steps:
    """Return what each step has, as bytes: inputs, labels, mask of real values, and static columns."""
    take = positions(asked["features"] or NAMES, NAMES)
    found: Steps = {}
    for number, sequence in enumerate(selection):
        x, y, _ = rows_of(known, sequence, normalize, more["dtype"], asked)
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
    assert "lengths" not in batch._fields or batch.lengths.tolist() == mask.sum(axis=1).tolist()
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
            "lengths": st.booleans(),
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


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 2, 3)])
def test_rows_of_any_dtype_and_shape_are_read_with_their_mask(tmp_path: Path, dtype: str, shape: tuple[int, ...]):
    """Values that cannot be NaN are real unless they were filled."""
    recipe = Recipe(inputs=(dtype, shape), missing="keep", filled=True)
    sequences = make(recipe, [9, 0, 5, 30])
    store = store_spec.open_store(write(recipe, tmp_path / "s", sequences))
    wanted = [(one.inputs, ~np.isnan(one.inputs) & ~one.rows("filled")) for one in sequences]
    together = [np.concatenate(each) for each in zip(*wanted, strict=True)]
    (padded,) = store.padded(4, value_mask=True)
    (streams,) = store.streams(1, 44, value_mask=True)
    (packed,) = store.packed(44, value_mask=True)
    for which, name in enumerate(("inputs", "value_mask")):
        rows = getattr(padded, name)
        assert rows.shape == (4, 30, *shape)
        assert all(same(rows[at][padded.mask[at]], pair[which]) for at, pair in enumerate(wanted))
        assert not rows[~padded.mask].any()
        assert same(getattr(streams, name)[0], together[which])
        found = [row.tobytes() for row in getattr(packed, name)[0]]
        assert sorted(found) == sorted(row.tobytes() for row in together[which])
    windows = store.windows(5, target="aligned", value_mask=True)
    for batch in windows.batches(4, shuffle=True, index=True):
        for x, real, number in zip(batch.inputs, batch.value_mask, batch.index.tolist(), strict=True):
            place, sample = windows.locate(number), windows[number]
            for found, alone, each in zip((x, real), sample[::2], wanted[place.sequence], strict=True):
                assert same(found, each[place.step : place.step + 5])
                assert same(alone, found)


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
