"""One error reports all problems of a file, of whatever kinds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from builder.build_errors import SourceError
from builder.frames.tabular import tabular

VALUES = {
    "right": "1",
    "text": "walk",
    "one wrong number": "4x",
    "time": "2024-01-01",
    "infinite": "inf",
    "missing": "",
}


def message(path: Path, **options: object) -> str:
    with pytest.raises(SourceError) as caught:
        list(tabular(**options)(path))  # type: ignore[arg-type]
    return caught.value.reason


CLOCKS = {
    "right": ["2024-01-01", "2024-01-02"],
    "no time": ["2024-01-01", "noon"],
    "backwards": ["2024-01-02", "2024-01-01"],
    "missing": ["2024-01-01", ""],
}


@settings(max_examples=50)
@given(
    kinds=st.lists(st.sampled_from([*VALUES]), min_size=1, max_size=5),
    clock=st.none() | st.sampled_from([*CLOCKS]),
    options=st.sampled_from([{}, {"missing": ["c0=drop"]}, {"transforms": ["diff c0"]}]),
)
def test_every_column_with_a_problem_is_named_and_no_other(tmp_path_factory, kinds, clock, options):
    path = tmp_path_factory.mktemp("sources") / "a.csv"
    columns = {"right": ["1", "1"]} | {f"c{number}": ["1", VALUES[kind]] for number, kind in enumerate(kinds)}
    wrong = {f"c{number}" for number, kind in enumerate(kinds) if kind != "right"}
    if "missing" in options and kinds[0] == "missing":
        wrong -= {"c0"}
    if clock is not None:
        columns["clock"] = CLOCKS[clock]
        options = options | {"time": "clock"}
        wrong |= {"clock"} - {"clock" if clock == "right" else ""}
    assume(wrong)
    path.write_text("".join(",".join(row) + "\n" for row in [[*columns], *zip(*columns.values(), strict=True)]))
    assert set(re.findall(r"\b(c\d|clock)\b", message(path, **options))) == wrong


def test_a_policy_hides_no_infinite_value_and_the_reverse(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,,1\ninf,1,\n")
    assert message(path, missing=["b=drop"]) == (
        "row 2, column a: infinite value (1 in all); correct it, or leave the column out with --exclude; also row 2, "
        "column c: missing value (1 in all); fill it in, say what to do with such steps with --missing, or leave the "
        "column out with --exclude"
    )


def test_columns_that_do_not_exist_are_named_for_all_options_at_once(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    assert message(path, labels=["y"], exclude=["x"], time=["t"], group_by=["g"]) == (
        "there is no column 'x'; also there is no column 'y'; also there is no column 't'; "
        "also there is no column 'g'; there are 2: a, b"
    )


def test_a_problem_of_a_label_file_names_that_file_and_one_of_the_whole_file_is_said_once(tmp_path):
    for name, text in {"x/a.csv": "a,b,c\n1,walk,\n", "y/a.csv": "u,v\n4x,1\n", "x/b.csv": "a,b\n1,2\n3\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    process = tabular(labels_from="x/(.*) -> y/{1}").under(tmp_path)
    with pytest.raises(SourceError) as caught:
        process(tmp_path / "x/a.csv")
    assert str(caught.value) == (
        "x/a.csv: column b holds text, not numbers ('walk' in row 1); leave it out with --exclude b, or name the "
        "columns to take with --inputs; also y/a.csv: column u holds text, such as '4x', but labels are numbers; "
        "give numbers, or build to another path with --classes"
    )
    assert message(tmp_path / "x/b.csv").count("row 2") == 1


def test_rows_of_several_files_are_named_in_each_problem(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,b\n3,\ninf,4\n")
    process = tabular().under(tmp_path).joining(["1.csv", "2.csv"])
    with pytest.raises(
        SourceError, match=r"row 1 of 2.csv, column b: missing .*; also row 2 of 2.csv, column a: infini"
    ):
        process(tmp_path / "12")
