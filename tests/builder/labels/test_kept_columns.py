"""Columns of a manifest, and of process functions, that are stored for each sequence."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import store_spec
from builder import Sequence, UsageError, build, repair, tabular
from builder.maintenance.source_checks import verify_sources
from tests.builder.source_files import write_files
from tests.store.oracle import files

MANIFEST: dict[str, list[Any]] = {
    "file": ["a.csv", "b.csv", "c.csv"],
    "y": [1, 2, 3],
    "site": ["A", "", "B/二"],
    "age": [41.5, math.nan, 0.1],
    "visits": [3, -1, 2**53 + 1],
    "left": [True, False, True],
}
KEEP = "site,age,visits,left"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of three sources, with a manifest in it."""
    rows = ["".join(f"{number},{step}\n" for step in range(number + 2)) for number in range(3)]
    texts = {name: f"x,y\n{text}" for name, text in zip(MANIFEST["file"], rows, strict=True)}
    return write_manifest(write_files(tmp_path / "sources", texts), MANIFEST).parent


def write_manifest(root: Path, columns: dict[str, list[Any]], suffix: str = "csv") -> Path:
    rows = zip(*columns.values(), strict=True)
    written = "\n".join(",".join("" if repr(value) in ("None", "nan") else str(value) for value in row) for row in rows)
    content = columns if suffix == "parquet" else f"{','.join(columns)}\n{written}\n"
    return write_files(root, {f"manifest.{suffix}": content}) / f"manifest.{suffix}"


def built(root: Path, store: Path, **options: Any) -> Any:
    manifest = next(path for path in root.iterdir() if path.stem == "manifest")
    asked: dict[str, Any] = {"manifest": manifest, "key": "file", "label_column": "y", "keep": KEEP, "workers": 0}
    return build(root, store, **(asked | options))


def kept(store: Path, *names: str) -> str:
    """Return columns as text that distinguishes all values."""
    found = store_spec.open_store(store)
    return repr([found.sequences[name].tolist() for name in names or KEEP.split(",")])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_of_the_manifest_are_kept_with_their_types(root, tmp_path, suffix):
    (root / "manifest.csv").unlink()
    write_manifest(root, MANIFEST, suffix)
    report = built(root, tmp_path / "store.zarr")
    assert (report.added, report.failures) == (3, ())
    store = store_spec.open_store(tmp_path / "store.zarr")
    assert [(column.name, column.dtype) for column in store.schema.columns] == [
        ("site", "string"), ("age", "float64"), ("visits", "int64"), ("left", "bool"),
    ]  # fmt: skip
    assert kept(tmp_path / "store.zarr") == repr([MANIFEST[name] for name in KEEP.split(",")])
    assert store_spec.verify(tmp_path / "store.zarr") == []


def test_a_later_build_needs_neither_the_option_nor_the_same_types(root, tmp_path):
    """If all sites look like numbers now, the column stays text, as in the store."""
    store = tmp_path / "store.zarr"
    built(root, store)
    (root / "d.csv").write_text("x,y\n1,2\n")
    more = {name: [*values, value] for (name, values), value in zip(MANIFEST.items(), ["d.csv", 4, "007", 2, 5, False])}  # noqa: B905
    write_manifest(root, more)
    report = build(root, store, workers=0)
    assert (report.added, report.unchanged, report.changed) == (1, 3, ())
    write_manifest(root, more | {"site": ["1", "2", "3", "007"]})
    report = build(root, store, workers=0, update=True)
    assert report.updated == 3
    assert kept(store, "source", "site") == repr([["d.csv", "a.csv", "b.csv", "c.csv"], ["007", "1", "2", "3"]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "value"), [("site", "Z"), ("age", 41.25), ("age", None), ("visits", 4), ("left", False)]
)
def test_a_source_whose_row_changed_is_updated_on_request(root, tmp_path, column, value):
    store = tmp_path / "store.zarr"
    built(root, store)
    write_manifest(root, MANIFEST | {column: [value, *MANIFEST[column][1:]]})
    assert build(root, store, workers=0).changed == ("a.csv",)
    report = build(root, store, workers=0, update=True)
    assert (report.updated, report.unchanged) == (1, 2)
    found = store_spec.open_store(store)
    assert found.sources == ("b.csv", "c.csv", "a.csv")
    assert repr(found.sequences[column].tolist()[-1]) == repr(math.nan if value is None else value)
    assert build(root, store, workers=0).changed == ()


def test_integers_with_missing_values_are_floats(root, tmp_path):
    write_manifest(root, MANIFEST | {"visits": [3, None, 5]})
    built(root, tmp_path / "store.zarr", keep="visits")
    assert kept(tmp_path / "store.zarr", "visits") == "[[3.0, nan, 5.0]]"
    write_manifest(root, MANIFEST | {"visits": [3, 4, 5]})  # none is missing, so they are integers now
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ("b.csv",)


@pytest.mark.parametrize("first", ["007", " 01", "-01", "00", "0x10", " 0XFF"])
def test_numbers_with_leading_zeros_are_names(root, tmp_path, first):
    """Patient 007 is another one than 7, and is returned as it was written."""
    write_manifest(root, MANIFEST | {"visits": [first, 12, 0]})
    built(root, tmp_path / "store.zarr", keep="site:visits")
    assert kept(tmp_path / "store.zarr", "visits") == repr([[first, "12", "0"]])
    write_manifest(root, MANIFEST | {"visits": [first, 12, 5]})
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ("c.csv",)


@pytest.mark.parametrize(
    "times",
    [
        ["2024-01-01 00:00", "2024-01-01T00:00:01", ""],
        ["2024-01-01T00:00Z", "2024-01-01T00:00:00.5Z", ""],
        ["2024-01-01", "NA", ""],
        ["12:30", "12:30:05", ""],
    ],
)
def test_times_in_text_are_kept_as_they_are_written(root, tmp_path, times):
    """A later build finds no other values in the same manifest."""
    write_manifest(root, MANIFEST | {"visits": times})
    built(root, tmp_path / "store.zarr", keep="visits")
    assert kept(tmp_path / "store.zarr", "visits") == repr([times])
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ()


@pytest.mark.parametrize("values", [[0, 10, 100], ["-1", "-0", 0], ["0.5", "0", "01"], ["1", "", "2"]])
def test_other_forms_of_numbers_are_numbers(root, tmp_path, values):
    write_manifest(root, MANIFEST | {"visits": values})
    built(root, tmp_path / "store.zarr", keep="visits")
    assert kept(tmp_path / "store.zarr", "visits") == repr(
        [[math.nan if one == "" else float(one) if "0.5" in values or "" in values else int(one) for one in values]]
    )


def test_dates_and_categories_are_kept_as_text(root, tmp_path):
    (root / "manifest.csv").unlink()
    days = [dt.date(2020, 1, day) for day in (1, 2, 3)]
    table = pa.table(MANIFEST).append_column("day", pa.array([days[0], None, days[2]]))
    table = table.append_column("group", pa.array(["x", "y", "x"]).dictionary_encode())
    pq.write_table(table, root / "manifest.parquet")
    built(root, tmp_path / "store.zarr", keep="day,group")
    assert kept(tmp_path / "store.zarr", "day", "group") == repr([["2020-01-01", "", "2020-01-03"], ["x", "y", "x"]])


@pytest.mark.parametrize(
    ("changed", "keep", "message"),
    [
        ({"Source": ["a", "b", "c"]}, "Source", "manifest.csv: the column name 'Source' is one of the format's own"),
        ({"left": [True, None, True]}, "left", "row 2, column left: missing value .*bools have no missing value"),
        ({"age": [1.0, "inf", 2.0]}, "age", "row 2, column age: infinite value"),
        ({"visits": [2**53 + 1, None, 1]}, "visits", r"row 1, column visits is .* or the store has floats; keep the c"),
        ({"odd": [[1], [2], [3]]}, "odd", "column odd holds values of type list"),
        (
            {"odd": np.array([1, 2**64 - 1, 3], "u8")},
            "odd",
            "row 2, column odd is 18446744073709551615, which int64 do",
        ),
    ],
)
def test_impossible_columns_to_keep_are_refused_before_anything_is_made(root, tmp_path, changed, keep, message):
    (root / "manifest.csv").unlink()
    manifest = write_manifest(root, MANIFEST | changed, "parquet" if keep == "odd" else "csv")
    with pytest.raises(UsageError, match=message):
        built(root, tmp_path / "store.zarr", keep=keep, manifest=manifest)
    assert not (tmp_path / "store.zarr").exists()


def test_another_type_than_in_the_store_is_refused(root, tmp_path):
    store = tmp_path / "store.zarr"
    built(root, store)
    write_manifest(root, MANIFEST | {"visits": [3, 1.5, 2]})
    with pytest.raises(UsageError, match="column visits holds float64, but in the store it is int64"):
        build(root, store, workers=0)
    write_manifest(root, MANIFEST | {"visits": [3, "A03", "B"]})
    with pytest.raises(
        UsageError, match=r"column visits holds string \('A03' in row 2\), but in the store it is int64"
    ):
        build(root, store, workers=0)


def test_a_label_that_integers_do_not_hold_is_a_change(root, tmp_path):
    built(root, tmp_path / "store.zarr")
    write_manifest(root, MANIFEST | {"y": [1, 2.5, 3]})
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ("b.csv",)
    report = build(root, tmp_path / "store.zarr", update=True, workers=0)
    assert [(one.source, one.reason[:18]) for one in report.failures] == [("b.csv", "labels are float64")]


def test_kept_columns_are_compared_with_the_sources(root, tmp_path):
    store = tmp_path / "store.zarr"
    built(root, store)
    assert verify_sources(store, root, workers=0) == []
    write_manifest(root, MANIFEST | {"age": [41.5, 7, 0.1], "left": [True, False, False]})
    found = [problem.what for problem in verify_sources(store, root, workers=0)]
    assert found == [
        "b.csv: sequence 1: sequences/age is 7.0, but the store has nan",
        "c.csv: sequence 2: sequences/left is False, but the store has True",
    ]


def test_rows_are_restored_even_if_kept_columns_changed(root, tmp_path):
    store = tmp_path / "store.zarr"
    built(root, store)
    before = files(store)
    (store / "inputs/c.0.0").unlink()
    write_manifest(root, MANIFEST | {"age": [41.5, 7, 0.1]})
    assert repair(store, root, workers=0).files == ("inputs/c.0.0",)
    assert files(store) == before


def counted(path: Path) -> Any:
    """Yield two sequences, with what was done to each."""
    for part in range(2):
        rows = np.full((part + 3, 2), part, np.float32)
        yield Sequence(
            rows, rows, columns={"dropped": part * 10, "note": path.stem, "share": part / 2, "whole": part == 0}
        )


def test_a_process_function_and_a_manifest_add_columns(root, tmp_path):
    store = tmp_path / "store.zarr"
    manifest = root / "manifest.csv"
    report = build(root, store, process=counted, manifest=manifest, key="file", keep="site", workers=0)
    assert report.failures == ()
    found = store_spec.open_store(store)
    assert [(column.name, column.dtype) for column in found.schema.columns] == [
        ("dropped", "int64"), ("note", "string"), ("share", "float64"), ("whole", "bool"), ("site", "string"),
    ]  # fmt: skip
    assert found.sequences["dropped"].tolist() == [0, 10] * 3
    assert found.sequences["note"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert found.sequences["site"].tolist() == ["A", "A", "", "", "B/二", "B/二"]
    with pytest.raises(UsageError, match="no column 'dropped'"):
        build(root, tmp_path / "x", process=counted, manifest=manifest, key="file", keep="dropped", workers=0)


def uneven(path: Path) -> Sequence:
    rows = np.ones((3, 1), np.float32)
    columns: Any = {"a.csv": {"n": 1}, "b.csv": {"n": "x"}, "c.csv": {"n": 2, "m": 3}}[path.name]
    return Sequence(rows, rows, columns=columns)


def unknown(_: Path) -> Sequence:
    return Sequence(np.ones((3, 1), np.float32), np.ones(3, np.float32), columns={"n": None, "site": "q"})


def test_a_source_with_other_columns_fails_alone(root, tmp_path):
    (root / "manifest.csv").unlink()
    report = build(root, tmp_path / "store.zarr", process=uneven, workers=0)
    assert {failure.source: failure.reason for failure in report.failures} == {
        "b.csv": "column 'n' is 'x' (str), where this store has int64: convert it",
        "c.csv": "column 'm' is not one of those that this store keeps of a sequence: 'n'; leave it out, or make a "
        "store that has it",
    }


def test_values_without_a_type_and_repeated_names_are_errors(root, tmp_path):
    report = build(
        root, tmp_path / "x", process=unknown, manifest=root / "manifest.csv", key="file", workers=0, max_failures=99
    )
    assert (
        "column 'n' is None (NoneType) in the first source, which does not determine its type"
        in report.failures[0].reason
    )
    report = built(root, tmp_path / "y", process=unknown, label_column=None, keep="site", max_failures=99)
    twice = "comes from its rows (--group-by, --missing, --process) and from the manifest (--keep) or the names of"
    assert f"'site' {twice}" in report.failures[0].reason
    options: dict[str, Any] = {
        "process": tabular(group_by="x"),
        "sequence_from": "^(?P<x>[abc])[.]",
        "workers": 0,
        "max_failures": 99,
    }
    assert f"'x' {twice} files (--sequence-from)" in build(root, tmp_path / "z", **options).failures[0].reason
