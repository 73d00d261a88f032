"""One error reports all problems of a file, of any kinds."""

import re
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import store_spec
from builder import SourceError, tabular
from builder.frames.cleaning import clean
from tests.builder.command import seqzarr
from tests.builder.source_files import refusal, write_file, write_files

VALUES = {
    "right": "1",
    "text": "walk",
    "one wrong number": "4x",
    "time": "2024-01-01",
    "infinite": "inf",
    "missing": "",
}


CLOCKS = {
    "right": ["2024-01-01", "2024-01-02"],
    "no time": ["2024-01-01", "noon"],
    "backwards": ["2024-01-02", "2024-01-01"],
    "missing": ["2024-01-01", ""],
}


OPTIONS: list[dict[str, Any]] = [
    {},
    {"missing": ["c0=drop"]},
    {"transforms": ["scale c0=2"]},
    {"transforms": ["diff c0", "log c0"]},
    {"missing": ["c0=ffill"]},
]


@settings(max_examples=60)
@given(
    kinds=st.lists(st.sampled_from([*VALUES]), min_size=1, max_size=5),
    clock=st.none() | st.sampled_from([*CLOCKS]),
    options=st.sampled_from(OPTIONS),
)
def test_every_column_with_a_problem_is_named_and_no_other(tmp_path_factory, kinds, clock, options):
    path = tmp_path_factory.mktemp("sources") / "a.csv"
    columns = {"right": ["1", "1"]} | {f"c{number}": ["1", VALUES[kind]] for number, kind in enumerate(kinds)}
    wrong = {f"c{number}" for number, kind in enumerate(kinds) if kind != "right"}
    if "transforms" in options:
        columns["c0"] = ["1", "2"]
        wrong -= {"c0"}
    if "missing" in options and kinds[0] == "missing":
        wrong -= {"c0"}
    if clock is not None:
        columns["clock"] = CLOCKS[clock]
        options = options | {"time": "clock"}
    unsure = set()  # without right times it is unknown which values of other rows these columns depend on
    if clock not in (None, "right"):
        wrong |= {"clock"}
        if "diff c0" in options.get("transforms", ()) or "c0=ffill" in options.get("missing", ()):
            unsure = wrong - {"clock"}
    assume(wrong)
    path.write_text("".join(",".join(row) + "\n" for row in [[*columns], *zip(*columns.values(), strict=True)]))
    assert wrong - unsure <= set(re.findall(r"\b(c\d|clock)\b", refusal(path, **options))) <= wrong


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ("2024-01-03,\n2024-01-01,1\nnoon,2\n", {"sort_time": True, "missing": ["ffill"]}),
        ("2024-01-03,3\n2024-01-01,1\nnoon,2\n", {"sort_time": True, "transforms": ["diff a", "log a"]}),
        ("2024-01-01,5\n2024-01-02,6\n2024-06-01,1\nnoon,3\n", {"max_gap": "2d", "transforms": ["diff a", "log a"]}),
        ("2024-01-01,\n2024-01-01,1\nnoon,3\n", {"duplicates": "last"}),
        ("2024-01-01,1\n,\nnoon,3\n", {"missing": ["t=drop"]}),
    ],
)
def test_values_that_depend_on_wrong_times_are_not_named(tmp_path, rows, options):
    path = write_file(tmp_path / "a.csv", "t,a\n" + rows)
    assert "column t" in refusal(path, time="t", **options)
    assert "column a" not in refusal(path, time="t", **options)


def test_groups_are_checked_one_by_one_where_a_column_cannot_be_read(tmp_path, monkeypatch):
    found, alive = list[Any](), list[int]()
    rows = {"g": np.repeat(np.arange(20), 100), "a": np.ones(2_000), "b": ["walk"] * 2_000}
    path = write_file(tmp_path / "a.parquet", rows, row_group=100)

    def counted(*arguments: Any, **others: Any) -> Any:
        result = clean(*arguments, **others)
        found.append(weakref.ref(result.table.columns["a"]))
        alive.append(sum(one() is not None for one in found))
        return result

    monkeypatch.setattr("builder.frames.row_pipeline.clean", counted)
    assert "column b" in refusal(path, group_by=["g"])
    assert len(alive) == 20
    assert max(alive) <= 2


def test_policies_and_infinite_values_hide_no_problem_of_each_other(tmp_path):
    path = write_file(tmp_path / "a.csv", "a,b,c\n1,,1\ninf,1,\n")
    assert refusal(path, missing=["b=drop"]) == (
        "row 2, column a: infinite value (1 in all); correct it, or leave the column out with --exclude; also row 2, "
        "column c: missing value (1 in all); fill it in, say what to do with such steps with --missing, or leave the "
        "column out with --exclude"
    )


def test_columns_that_do_not_exist_are_named_for_all_options_at_once(tmp_path):
    path = write_file(tmp_path / "a.csv", "a,b\n1,2\n")
    assert refusal(path, inputs=["a", "p", "q"]) == "there is no column 'p'; there is no column 'q'; there are 2: a, b"
    assert refusal(path, labels=["y"], exclude=["x"], time=["t"], group_by=["g"]) == (
        "there is no column 'x'; also there is no column 'y'; also there is no column 't'; "
        "also there is no column 'g'; there are 2: a, b"
    )


def test_problems_of_label_files_name_them_and_are_reported_once(tmp_path):
    write_files(tmp_path, {"x/a.csv": "a,b,c\n1,walk,\n", "y/a.csv": "u,v\n4x,1\n", "x/b.csv": "a,b\n1,2\n3\n"})
    process = tabular(labels_from="x/(.*) -> y/{1}").under(tmp_path)
    with pytest.raises(SourceError) as caught:
        process(tmp_path / "x/a.csv")
    assert str(caught.value) == (
        "x/a.csv: column b holds text, not numbers ('walk' in row 1); leave it out with --exclude b, or name the "
        "columns to take with --inputs; also y/a.csv: column u holds text, such as '4x', but labels are numbers; "
        "give numbers, or build to another path with --classes"
    )
    assert refusal(tmp_path / "x/b.csv").count("row 2") == 1
    (tmp_path / "x/a.csv").write_text("a\nwalk\n")  # without inputs, the labels belong to no rows
    with pytest.raises(SourceError, match=r"^x/a.csv: column a holds text[^;]*;[^;]*$"):
        list(replace(process, options=replace(process.options, missing=["drop"]))(tmp_path / "x/a.csv"))


def test_rows_of_several_files_are_named_in_each_problem(tmp_path):
    write_files(tmp_path, {"1.csv": "a,b\n1,2\n", "2.csv": "a,b\n3,\ninf,4\n"})
    process = tabular().under(tmp_path).with_files(["1.csv", "2.csv"])
    message = r"row 1 of 2.csv, column b: missing .*; also row 2 of 2.csv, column a: infini"
    with pytest.raises(SourceError, match=message):
        process(tmp_path / "12")


def test_rows_with_a_wrong_number_of_fields_are_counted(tmp_path):
    """Also if some are not UTF-8."""
    first = "row 2 has 3 fields, but the first line has 2 ('1,2,3'"
    many = write_file(tmp_path / "a.csv", "a,b\n1,2\n1,2,3\n5\n1,2\n" + 10**5 * "1,2\n" + "6\n")
    assert refusal(many).startswith(f"{first}; 3 such rows in all); ")
    assert refusal(write_file(tmp_path / "b.csv", "a,b\n1,2\n1,2,3\n1,x\n")).startswith(f"{first}); ")
    (tmp_path / "c.csv").write_bytes(b"a,b\n1,2\n1,2,3\n\xff\n4\n")
    assert refusal(tmp_path / "c.csv").startswith(f"{first}; 3 such rows in all); ")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_all_columns_that_cannot_be_used_are_named_at_once(tmp_path, suffix):
    columns = {"when": ["2024-01-01", "2024-01-02"], "x": [1.0, 2.0], "site": ["a", "b"], "note": ["c", "d"]}
    lines = [",".join(map(str, row)) + "\n" for row in [columns, *zip(*columns.values(), strict=True)]]
    write_file(tmp_path / f"src/a{suffix}", "".join(lines) if suffix == ".csv" else columns)
    refused = seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", "--workers", "0").stderr
    assert "3 columns cannot be used: " in refused
    assert "; leave them out with --exclude when,site,note, or name the columns to take with --inputs\n" in refused
    assert all(f"column {name} holds " in refused or f"column {name}: " in refused for name in ("when", "site", "note"))
    options = ["--exclude", "when,site,note", "--workers", "0"]
    assert seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", *options).exit_code == 0
    assert store_spec.open_store(tmp_path / "t.zarr")[0][0].tolist() == [[1], [2]]
