"""One file of many sequences: the result of a loop over its rows, with one group and one row group in memory."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import tabular
from builder.formats import open_table
from builder.frames.groups import read_groups
from tests.builder.source_files import refusal, write_file


def by_loop(rows: list[tuple[Any, ...]], keys: int) -> dict[tuple[Any, ...], list[list[Any]]]:
    """Collect the rows with the same first values, in order of appearance."""
    groups: dict[tuple[Any, ...], list[list[Any]]] = {}
    for row in rows:
        groups.setdefault(row[:keys], []).append(list(row[keys:]))
    return groups


def write(path: Path, rows: list[tuple[Any, ...]], row_group: int) -> None:
    """Write rows with a key of text, one of integers, and two numbers."""
    types = {"who": pa.string(), "run": pa.int32(), "a": pa.float64(), "b": pa.float64()}
    text = "".join(",".join(map(str, row)) + "\n" for row in [tuple(types), *rows])
    columns = {name: pa.array([row[i] for row in rows], types[name]) for i, name in enumerate(types)}
    write_file(path, text if path.suffix == ".csv" else columns, row_group=row_group)


rows_of_groups = st.lists(
    st.tuples(st.sampled_from(["A", "B", "ü 1"]), st.integers(-1, 1), st.integers(-99, 99), st.floats(-1e6, 1e6)),
    min_size=1,
    max_size=25,
)


@given(
    rows=rows_of_groups,
    adjacent=st.booleans(),
    suffix=st.sampled_from([".csv", ".parquet", ".arrow"]),
    row_group=st.integers(1, 9),
    keys=st.sampled_from([("who",), ("run", "who")]),
)
def test_groups_are_those_of_a_loop_over_the_rows(tmp_path, rows, adjacent, suffix, row_group, keys):
    if adjacent:
        rows = sorted(rows, key=lambda row: row[:2])
    path = tmp_path / f"x{suffix}"
    write(path, rows, row_group)
    place = {"who": 0, "run": 1}
    expected = by_loop([(*(row[place[key]] for key in keys), *row[2:]) for row in rows], len(keys))
    found = list(tabular(inputs="a,b", group_by=keys)(path))
    assert [tuple(sequence.columns[key] for key in keys) for sequence in found] == list(expected)
    for sequence, wanted in zip(found, expected.values(), strict=True):
        np.testing.assert_array_equal(sequence.inputs, wanted)
        assert sequence.labels is sequence.inputs or (sequence.labels == sequence.inputs).all()


@given(rows=rows_of_groups, row_group=st.integers(1, 9))
def test_rows_keep_the_numbers_that_they_have_in_the_file(tmp_path, rows, row_group):
    rows = [(*row[:2], number + 1, row[3]) for number, row in enumerate(rows)]
    for adjacent in (False, True):
        path = tmp_path / f"{adjacent}.parquet"
        ordered = sorted(rows, key=lambda row: row[0]) if adjacent else rows
        write(path, [(*row[:2], number + 1, row[3]) for number, row in enumerate(ordered)], row_group)
        groups = read_groups(open_table(path), ("a",), None, by={"who": False}, raw=("run", "a"))
        for _, table in groups:
            numbers = [table.number(row) for row in range(table.rows)]
            assert numbers == table.columns["a"].tolist() == table.raw["a"].to_pylist()


def test_a_parquet_file_of_adjacent_groups_is_read_row_group_by_row_group(tmp_path, monkeypatch):
    """Memory is measured after each: it holds the row group, and the rows of its last group."""
    lengths = [7_000, 40_000, 3_000, 25_000, 1_000, 60_000, 12_000] * 3
    rows = [("g", number, float(i), 0.0) for number, length in enumerate(lengths) for i in range(length)]
    write(tmp_path / "x.parquet", rows, 10_000)
    seen: list[int] = []
    before, read = pa.total_allocated_bytes(), pq.ParquetFile.read_row_group

    def noted(*given, **options):
        table = read(*given, **options)
        seen.append(pa.total_allocated_bytes() - before)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("the file is read whole"))
    found: list[int] = []
    groups: Iterator[Any] = tabular(inputs="a", group_by="run")(tmp_path / "x.parquet")
    for sequence in groups:
        found.append(len(sequence.inputs))
        del sequence
        seen.append(pa.total_allocated_bytes() - before)
    assert found == lengths
    # For each row `a` and its number: those of the largest group twice at most; not the 444,000 of the file.
    assert 60_000 * 16 <= max(seen) <= 2 * 60_000 * 16
    assert len(rows) == 444_000


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["1", "2", "1"], [1, 2]),
        (["01", "1", "2"], ["01", "1", "2"]),
        (["-7", "0", "7"], [-7, 0, 7]),
        (["1e1", "10", "2"], ["1e1", "10", "2"]),
        (["a", "a ", " b"], ["a", "b"]),
        (["12345678901234567890"], ["12345678901234567890"]),
        (pa.array([3, 3, -1], pa.int8()), [3, -1]),
        (pa.array([1.0, -0.0, 0.0]), [1, 0]),
        (pa.array([True, False, True]), ["true", "false"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y"]),
        (pa.array([0, 1, 0], pa.date32()), ["1970-01-01", "1970-01-02"]),
        (pa.array([2**63 - 1, 5, 5], pa.uint64()), [2**63 - 1, 5]),
    ],
)
def test_columns_of_text_and_of_many_binary_types_form_groups_of_integers_or_text(tmp_path, keys, expected):
    if isinstance(keys, list):
        path = write_file(tmp_path / "x.csv", "k,a\n" + "".join(f"{key},1\n" for key in keys))
    else:
        path = write_file(tmp_path / "x.parquet", {"k": keys, "a": [1.0] * len(keys)}, row_group=1)
    found = [one.columns["k"] for one in tabular(group_by="k")(path)]
    assert (found, [type(value) for value in found]) == (expected, [type(value) for value in expected])


def test_a_missing_group_value_is_refused_by_its_row_of_the_file(tmp_path):
    path = write_file(tmp_path / "x.parquet", {"k": [1, 2, None], "a": [1.0] * 3}, row_group=1)
    assert refusal(path, group_by="k").startswith("row 3, column k: missing value, but rows are grouped by this column")


def test_numbered_columns_of_arrays_and_text_without_names_can_be_grouped_by(tmp_path):
    array = np.array([[1.0, 5.0, 6.0], [2.0, 7.0, 8.0], [1.0, 9.0, 10.0]])
    np.save(tmp_path / "x.npy", array)
    np.savetxt(tmp_path / "x.txt", array, fmt="%d")
    for name in ("x.npy", "x.txt"):
        first, second = tabular(group_by="0")(tmp_path / name)
        assert (first.columns, first.inputs.tolist()) == ({"0": 1}, [[5, 6], [9, 10]])
        assert (second.columns, second.inputs.tolist()) == ({"0": 2}, [[7, 8]])
    np.save(tmp_path / "deep.npy", np.zeros((3, 2, 2)))
    assert "column 0 holds arrays of shape (2,), not one value" in refusal(tmp_path / "deep.npy", group_by="0")


def test_the_group_column_is_a_feature_only_on_request(tmp_path):
    path = write_file(tmp_path / "x.csv", "a,k\n1,7\n3,7\n4,8\n")
    assert tuple(one.names for one in tabular(group_by="k").columns(path)) == (("a",), ("a",))
    found = list(tabular(group_by="k", inputs="a,k", transforms="scale k=2")(path))
    assert [(one.columns["k"], one.inputs.tolist()) for one in found] == [(7, [[1, 14], [3, 14]]), (8, [[4, 16]])]
    path = write_file(tmp_path / "z.csv", "a,k\n,7\n,8\n,8\n")
    reason = "none of its 3 rows is left; column a is missing in 2 of the last 2"
    assert refusal(path, group_by="k", missing="drop").startswith(reason)


def test_differences_begin_again_in_each_group_and_errors_name_the_row_of_the_file(tmp_path):
    path = write_file(tmp_path / "x.csv", "a,k\n1,x\n10,y\n2,x\n30,y\n-1,y\n")
    first, second = tabular(group_by="k", transforms="diff a")(path)
    assert (first.inputs.tolist(), second.inputs.tolist()) == ([[1]], [[20], [-31]])
    assert "row 5, column a: -1.0 has no logarithm" in refusal(path, group_by="k", transforms="log a")
    assert "row 5, column a: -1 does not fit into uint8" in refusal(path, group_by="k", dtype="uint8", inputs="a")


def test_grouping_reads_only_the_columns_that_are_needed(tmp_path):
    """Many columns to group by, with many values each: their product exceeds 64 bits."""
    rows = list(itertools.islice(itertools.product(range(3), repeat=40), 50))
    names = [f"k{number}" for number in range(40)]
    table = {name: [row[i] * 10**9 for row in rows] for i, name in enumerate(names)}
    path = write_file(tmp_path / "x.parquet", table | {"a": [1.0] * 50})
    assert len(list(tabular(group_by=names)(path))) == 50
