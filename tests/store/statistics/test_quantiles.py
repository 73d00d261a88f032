"""Exact quantiles of the rows of a selection, compared with NumPy over all its rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from store_spec.format.moments import moments
from store_spec.reading import read_ranges as read_ranges_module
from store_spec.reading import statistics as statistics_module
from store_spec.reading.read_ranges import every_row
from store_spec.reading.statistics import Statistics, quantiles_of_columns
from store_spec.schema import DTYPES
from tests.store.kinds import chunks_read
from tests.store.oracle import Recipe, Sequence, make, recipes, same, write
from tests.store.window_oracle import LENGTHS, Written

REAL = [dtype for dtype in DTYPES if not dtype.startswith("complex")]


def numpy_quantiles(rows: NDArray[Any], q: list[float]) -> NDArray[np.float64]:
    """Return what NumPy computes, column by column."""
    found = np.full((len(q), rows.shape[1]), np.nan)
    with np.errstate(invalid="ignore"):  # NumPy 2.5 warns of signalling NaN
        floats = rows.T.astype("float64")
    for column, values in enumerate(floats):
        known = values[~np.isnan(values)]
        if len(known):
            with np.errstate(over="ignore", invalid="ignore"):
                found[:, column] = np.quantile(known, q) + 0.0
    return found


def quantiles_in_blocks(rows: NDArray[Any], q: list[float], block: int) -> NDArray[np.float64]:
    def blocks() -> list[NDArray[Any]]:
        return [rows[at : at + block] for at in range(0, len(rows), block)]

    return quantiles_of_columns(blocks, rows.shape[1], rows.dtype, np.array(q, float))


@st.composite
def columns(draw: st.DrawFn) -> NDArray[Any]:
    """Draw rows of any dtype: any values, few different ones, NaN, zeros of both signs."""
    dtype = np.dtype(draw(st.sampled_from(REAL)))
    rows, features = draw(st.integers(0, 60)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    values = np.frombuffer(rng.bytes(rows * features * dtype.itemsize), f"u{dtype.itemsize}").reshape(rows, features)
    values = (values & 1).astype(bool) if dtype.kind == "b" else values.view(dtype).copy()
    if draw(st.booleans()):
        values = rng.choice(values[:3], len(values)).reshape(values.shape) if rows else values
    if dtype.kind == "f":
        values[np.isinf(values)] = 1
        values[rng.random(values.shape) < 0.2] = -0.0
        values[rng.random(values.shape) < 0.1] = 0.0
        if draw(st.booleans()):
            values[rng.random(values.shape) < 0.4] = np.nan
        if draw(st.booleans()) and rows:
            values[:, 0] = np.nan
    return values


@given(
    rows=columns(),
    q=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    block=st.sampled_from([4, 13, 70]),
    counters=st.sampled_from([8, 64, 2**19]),
)
def test_quantiles_have_the_bits_of_numpy(rows: NDArray[Any], q: list[float], block: int, counters: int):
    """With any memory: with little, the rows are read more often."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):
        patch.setattr(statistics_module, "COUNTERS", counters)
        assert same(quantiles_in_blocks(rows, q, block), numpy_quantiles(rows, q))


def test_quantiles_of_a_store_are_those_of_its_rows_together(tmp_path: Path):
    recipe = Recipe(inputs=("float32", (2, 3)), labels=("int16", ()), missing="keep", chunk=100, shard=300)
    sequences = make(recipe, [5, 0, 40, 1, 17, 3], seed=1)
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", sequences))
    q = [0.0, 0.25, 0.5, 0.9, 1.0]
    for selection in ([0, 1, 2, 3, 4, 5], [4, 2], [3], [2, 2, 0], [1], []):
        result = store.select(selection).quantiles(q)
        x = np.concatenate([np.zeros((0, 3), "float32"), *(sequences[n].inputs.reshape(-1, 3) for n in selection)])
        y = np.concatenate([np.zeros(0, "int16"), *(sequences[n].labels for n in selection)])
        assert same(result.inputs, numpy_quantiles(x, q))
        assert same(result.labels, numpy_quantiles(y[:, None], q))
        assert same(store.select(selection).stats().quantiles(q).inputs, result.inputs)
    assert store.quantiles(0.5).inputs.shape == (1, 3)
    assert store.quantiles([]).labels.shape == (0, 1)


def test_two_passes_over_float32_rows_usually_suffice():
    rng = np.random.default_rng(0)
    rows, passes = rng.normal(size=(50_000, 2)).astype("float32"), []

    def blocks() -> list[NDArray[Any]]:
        passes.append(1)
        return [rows]

    result = quantiles_of_columns(blocks, 2, rows.dtype, np.array([0.25, 0.5]))
    assert same(result, numpy_quantiles(rows, [0.25, 0.5]))
    assert len(passes) == 2


@given(recipe=recipes(), lengths=st.lists(st.integers(0, 30), max_size=8), data=st.data())
def test_all_rows_of_a_selection_are_read_as_often_as_selected(tmp_path_factory, recipe, lengths, data):
    sequences = make(recipe, lengths)
    store = store_spec.open_store(write(recipe, tmp_path_factory.mktemp("rows") / "s.zarr", sequences))
    some = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6)) if lengths else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_ranges_module, "BLOCK_BYTES", data.draw(st.sampled_from([1, 300, 10**6])))
        for name in ("inputs", "labels"):
            empty = [store.schema.rows(name).empty(0)]
            for numbers in (some, sorted(set(some))):
                rows = np.concatenate(empty + list(every_row(store.select(numbers), name)))
                expected = np.concatenate(empty + [values(sequences[number], name, recipe) for number in numbers])
                assert sorted(row.tobytes() for row in rows) == sorted(row.tobytes() for row in expected)
            assert same(rows, expected)  # in the order of the store


def values(sequence: Sequence, name: str, recipe: Recipe) -> NDArray[Any]:
    rows = sequence.inputs if name == "inputs" else sequence.labels
    return np.asarray(rows[None] if name == "labels" and recipe.label_axis == "sequence" else rows)


@pytest.mark.parametrize("q", [-0.1, 1.5, [0.5, float("nan")], [[0.5]], "x", [[0.5], [0.1, 0.2]], 1j])
def test_invalid_quantiles_are_refused(by_step: Written, q: Any):
    with pytest.raises(WindowError, match="quantiles are numbers from 0 to 1"):
        by_step.store.quantiles(q)
    with pytest.raises(WindowError, match=r"robust\(low=0.7, high=0.7\)"):
        by_step.store.stats().robust(0.7, 0.7)


def test_statistics_without_a_store_have_no_quantiles():
    rows = np.ones((3, 2))
    with pytest.raises(WindowError, match=r"take those of store.stats\(\)"):
        Statistics(inputs=moments(rows), labels=moments(rows)).robust()


def test_each_chunk_of_a_selection_is_read_once_and_no_other(by_step: Written, monkeypatch: pytest.MonkeyPatch):
    read, ends = chunks_read(monkeypatch), np.cumsum(LENGTHS)
    for selection in ([2], [12, 5, 6], [0, 1, 2, 3]):
        read.clear()
        list(every_row(by_step.store.select(selection), "inputs"))
        own = {row // 8 for n in selection for row in range(ends[n] - LENGTHS[n], ends[n])}
        assert sorted(read) == [("inputs", chunk) for chunk in sorted(own)]
