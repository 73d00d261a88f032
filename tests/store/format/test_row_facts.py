"""What the tables store about rows: the same bits for sequences together and one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.format.codec import crc32c
from store_spec.format.moments import Moments, moments
from store_spec.format.row_facts import describe_rows
from store_spec.schema import MOMENTS
from store_spec.verification.described_rows import rounding
from tests.store.forging import forge, put
from tests.store.oracle import Recipe, make, write

DTYPES = ["float32", "float64", "float16", "int8", "uint16", "int64", "bool", "complex64"]


@st.composite
def sequences(draw):
    """Draw rows, and where sequences begin in them."""
    lengths = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 40]), min_size=1, max_size=12))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    dtype, shape = np.dtype(draw(st.sampled_from(DTYPES))), draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = (draw(st.sampled_from([0.0, 1e4])) + 100 * rng.normal(size=(bounds[-1], *shape))).clip(-6e4, 6e4)
    rows = np.abs(rows) % 100 if dtype.kind in "ui" else rows
    rows = rows.astype(dtype)
    if dtype.kind in "fc":
        rows[rng.random(rows.shape) < draw(st.sampled_from([0.0, 0.1, 1.0]))] = np.nan
    return rows, bounds


@settings(max_examples=60)
@given(
    drawn=sequences(),
    array=st.sampled_from(["inputs", "labels", "filled", "time"]),
    block=st.sampled_from([1, 7, 64, 2**16]),
)
def test_facts_of_sequences_together_equal_those_of_each(drawn, array, block):
    rows, bounds = drawn
    if array == "time":
        rows = np.cumsum(np.ones(len(rows), np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store_spec.format.moments.BLOCK_VALUES", block)
        together = describe_rows(array, rows, bounds).columns(array)
        for number, (start, stop) in enumerate(pairwise(bounds.tolist())):
            columns = describe_rows(array, rows[start:stop], np.array([0, stop - start])).columns(array)
            assert {name: (column.dtype, column[number].tobytes()) for name, column in together.items()} == {
                name: (column.dtype, column[0].tobytes()) for name, column in columns.items()
            }
            assert columns[f"sequences/{array}_crc32c"].tolist() == [crc32c(rows[start:stop])]
            if array == "time":
                ends = [int(rows[start]), int(rows[stop - 1])] if start < stop else [0, 0]
                assert [columns[f"sequences/time_{end}"].tolist() for end in ("first", "last")] == [[e] for e in ends]
            elif array in ("inputs", "labels"):
                alone = moments(rows[start:stop])
                assert all(
                    columns[f"stats/{array}_{name}"].tobytes() == getattr(alone, name).tobytes() for name in MOMENTS
                )


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_moment_may_differ_by_its_rounding_and_by_no_more(tmp_path, name, sign):
    recipe = Recipe(inputs=("float32", (3,)), chunk=48, shard=96, label_axis="own")
    lengths = [10, 3, 27, 10]
    path = write(recipe, tmp_path / "s", make(recipe, lengths))
    snapshot = Snapshot.open(path)
    said = Moments(*(snapshot.table(f"stats/inputs_{one}") for one in MOMENTS))
    table, value = f"stats/inputs_{name}", getattr(said, name)[2, 1]
    allowed = np.broadcast_to(rounding(table, said), said.mean.shape)[2, 1]
    assert (allowed > 0) == (name in ("mean", "m2"))
    for share, wrong in ((0.9, False), (1.1, True)):
        other = value + sign if name == "count" else np.nextafter(value + share * sign * allowed, sign * np.inf)
        forge(path, seal=False, **{table.replace("/", "__"): put((2, 1), other)})
        problems = store_spec.verify(path)
        assert [problem.where for problem in problems] == [f"{table}/c.0.0"] * (wrong or not allowed)
        assert all("column 1 has" in problem.what and "concerns sequence 2 " in problem.what for problem in problems)
