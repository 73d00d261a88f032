"""Numbers in text are stored as float32, unless those of the first source need more digits, or a dtype is given."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder import build, tabular
from builder.frames.digits import needs_more_digits
from store_spec import open_store
from tests.builder.command import seqzarr
from tests.builder.source_files import write_files

Axis = Literal["step", "own"]
FEW = np.array([[0.1, 1234.567], [-2.5e-7, 101325], [3, 0.33333334]])
MANY = np.array([[0.1, 116.318417], [0.2, 39.984702]])


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path: Path, rows: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"x": x, "y": y}) + "\n" for x, y in rows.tolist()))
    else:
        between = " " if path.suffix == ".txt" else ","
        lines = ([between.join("xy")] if path.suffix == ".csv" else []) + [
            between.join(repr(value) for value in row) for row in rows.tolist()
        ]
        path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
def test_numbers_of_few_digits_become_float32(tmp_path, suffix):
    write(tmp_path / "raw" / f"a{suffix}", FEW)
    report = build(tmp_path / "raw", tmp_path / "s.zarr", workers=0)
    store = open_store(tmp_path / "s.zarr")
    inputs, labels = store[0]
    assert inputs.dtype == labels.dtype == np.float32
    assert np.array_equal(inputs, FEW.astype(np.float32))
    assert report.dtype is None
    assert not report.rounded.values


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
def test_numbers_of_many_digits_become_float64_and_the_build_says_so(tmp_path, suffix):
    write(tmp_path / "raw" / f"a{suffix}", MANY)
    done = seqzarr("build", "raw", "s.zarr")
    column = "1" if suffix == ".txt" else "y"
    assert (
        f"numbers are stored as float64: float32 does not keep 116.318417 in column {column} of a{suffix}; "
        "--dtype float32 rounds it" in done.stdout
    )
    preview = " ".join(seqzarr("build", "raw", "t.zarr", "--dry-run").stdout.split())
    assert "does not keep 116.318417" in preview
    inputs, _ = open_store(tmp_path / "s.zarr")[0]
    assert inputs.dtype == np.float64
    assert np.array_equal(inputs, MANY)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_given_dtype_is_stored_without_a_message(tmp_path, dtype):
    write_files(tmp_path / "raw", {"a.csv": "x\n0.123456789\n"})
    done = seqzarr("build", "raw", "s.zarr", "--dtype", dtype)
    assert "does not keep" not in done.stdout + done.stderr
    inputs, _ = open_store(tmp_path / "s.zarr")[0]
    assert inputs.dtype == dtype
    assert inputs.tolist() == np.array([[0.123456789]], dtype).tolist()


def test_later_numbers_of_more_digits_are_rounded_and_counted(tmp_path):
    write(tmp_path / "raw" / "a.csv", FEW)
    write(tmp_path / "raw" / "b.csv", MANY)
    write(tmp_path / "raw" / "c.csv", MANY[:1])
    done = seqzarr("build", "raw", "s.zarr")
    assert (
        "rounded to float32: 3 numbers of 2 sources, such as 116.318417 in column y of b.csv: the first source has "
        "fewer digits; to keep them, build to another path with --dtype float64" in done.stderr
    )
    store = open_store(tmp_path / "s.zarr")
    assert [store[number][0].tolist() for number in range(3)] == [
        rows.astype(np.float32).tolist() for rows in (FEW, MANY, MANY[:1])
    ]
    write(tmp_path / "raw" / "d.csv", MANY)
    report = build(tmp_path / "raw", tmp_path / "s.zarr", workers=0)
    assert (report.rounded.values, report.rounded.sources) == (2, 1)
    assert report.to_json()["rounded"]["example"] == "116.318417 in column y of d.csv"
    assert "2 numbers rounded to float32" in repr(report)
    assert seqzarr("verify", "s.zarr", "--sources", "raw").exit_code == 0


def test_a_failed_source_neither_determines_the_dtype_nor_counts(tmp_path):
    write_files(tmp_path / "raw", {"a.csv": "x,y\n116.318417,1\n1,broken\n"})
    write(tmp_path / "raw" / "b.csv", FEW)
    (tmp_path / "raw" / "c.csv").write_text("x,y\n116.318417,1\n1,inf\n")
    report = build(tmp_path / "raw", tmp_path / "s.zarr", workers=0)
    assert [one.source for one in report.failures] == ["a.csv", "c.csv"]
    assert open_store(tmp_path / "s.zarr").schema.inputs.dtype == np.float32
    assert not report.rounded.values


def test_labels_of_text_are_float32_too_but_classes_and_labels_elsewhere_stay(tmp_path):
    write_files(tmp_path / "raw", {"a_3.csv": "x,target,kind\n0.1,0.7,cat\n0.2,1.5,dog\n"})
    (tmp_path / "labels.csv").write_text("source,y\na_3.csv,116.318417\n")

    def label_dtype(name: str, **options: Any) -> Any:
        build(tmp_path / "raw", tmp_path / f"{name}.zarr", workers=0, **options)
        store = open_store(tmp_path / f"{name}.zarr")
        assert store.schema.inputs.dtype == np.float32
        return store.schema.labels.dtype

    assert label_dtype("columns", process=tabular(inputs="x", labels="target")) == np.float32
    assert label_dtype("classes", process=tabular(inputs="x", labels="kind")) == np.int64
    assert label_dtype("names", process=tabular(inputs="x", label_pattern=r"_(\d)")) == np.int64
    manifest = {"manifest": tmp_path / "labels.csv", "label_column": "y"}
    process = tabular(inputs="x", labels_in_manifest=True)
    assert label_dtype("manifest", process=process, **manifest) == np.float64
    assert label_dtype("none", process=tabular(inputs="x", labels="none")) == np.int8


def test_labels_in_label_files_determine_the_dtype_too(tmp_path):
    write(tmp_path / "raw" / "a.csv", FEW)
    (tmp_path / "raw" / "a_labels.csv").write_text("label\n1\n16777217\n0\n")
    for axis in get_args(Axis):
        process = tabular(labels_from="{stem}_labels.csv", label_axis=axis)
        report = build(tmp_path / "raw", tmp_path / f"{axis}.zarr", process=process, workers=0)
        assert report.dtype is not None
        assert "16777217 in column label of a" in report.dtype
        assert open_store(tmp_path / f"{axis}.zarr").schema.labels.dtype == np.float64
    (tmp_path / "raw" / "a_labels.csv").write_text("label\n1\n0\n0\n")
    for axis in get_args(Axis):
        process = tabular(labels_from="{stem}_labels.csv", label_axis=axis)
        build(tmp_path / "raw", tmp_path / f"few-{axis}.zarr", process=process, workers=0)
        assert open_store(tmp_path / f"few-{axis}.zarr").schema.labels.dtype == np.float32


def test_values_computed_from_numbers_of_few_digits_are_float32(tmp_path):
    write_files(tmp_path / "raw", {"a.csv": "x\n0.1\n\n0.7\n0.8\n"})
    done = seqzarr("build", "raw", "s.zarr", "--scale", "x=0.3", "--diff", "x", "--missing", "drop")
    assert "does not keep" not in done.stdout
    assert open_store(tmp_path / "s.zarr").schema.inputs.dtype == np.float32


def test_a_converted_copy_continues_from_float32(tmp_path):
    write(tmp_path / "raw" / "a.csv", FEW)
    write(tmp_path / "raw" / "b.csv", MANY)
    build(tmp_path / "raw", tmp_path / "s.zarr", workers=0)
    assert seqzarr("compact", "s.zarr", "t.zarr", "--dtype", "float64").exit_code == 0
    write(tmp_path / "raw" / "c.csv", MANY)
    report = build(tmp_path / "raw", tmp_path / "t.zarr", workers=0)
    assert report.rounded.values == 2
    store = open_store(tmp_path / "t.zarr")
    assert store.schema.inputs.dtype == np.float64
    assert np.array_equal(store[2][0], MANY.astype(np.float32).astype(np.float64))
    assert seqzarr("verify", "t.zarr", "--sources", "raw").exit_code == 0


def test_other_formats_are_rounded_and_counted_after_text(tmp_path):
    write(tmp_path / "raw" / "a.csv", FEW)
    pq.write_table(pa.table({"y": [116, 16777217, None], "x": [0.1, 1 / 3, None]}), tmp_path / "raw" / "b.parquet")
    pq.write_table(pa.table({"y": [116, 16777217], "x": [0.1, 1 / 3]}), tmp_path / "raw" / "c.parquet")
    np.save(tmp_path / "raw" / "d.npy", MANY)
    np.savez(tmp_path / "raw" / "e.npz", inputs=MANY, labels=np.zeros((2, 2)))
    process = tabular(missing="drop")
    report = build(tmp_path / "raw", tmp_path / "s.zarr", process=process, workers=0)
    assert report.failures == ()
    assert (report.rounded.values, report.rounded.sources) == (2 + 2 + 2 + 2, 4)
    store = open_store(tmp_path / "s.zarr")
    typed = np.array([[0.1, 116], [1 / 3, 16777217]])
    expected = [FEW, typed, typed, MANY, MANY]
    assert [inputs.tolist() for inputs, _ in store] == [rows.astype(np.float32).tolist() for rows in expected]


def test_other_formats_keep_their_dtype(tmp_path):
    write_files(tmp_path / "raw", {"a.parquet": {"x": [0.1, 0.2]}})
    build(tmp_path / "raw", tmp_path / "s.zarr", workers=0)
    assert open_store(tmp_path / "s.zarr").schema.inputs.dtype == np.float64


def is_lost(text: str) -> bool:
    """Return whether float32 cannot represent a decimal number, and gives another number with as many digits."""
    if float(np.float32(float(text))) == float(text):
        return False
    digits = len(Decimal(text).normalize().as_tuple().digits)
    return Decimal(f"{float(np.float32(float(text))):.{digits - 1}e}") != Decimal(text)


@given(st.lists(st.tuples(st.integers(-(10**10), 10**10), st.integers(-30, 25)), min_size=1, max_size=30))
def test_the_digits_of_a_number_determine_whether_float32_keeps_it(numbers):
    texts = [f"{whole}e{exponent}" for whole, exponent in numbers]
    values = np.array([float(text) for text in texts])
    assert needs_more_digits(values).tolist() == [is_lost(text) for text in texts]


@given(st.lists(st.floats(width=32, allow_subnormal=False)))
def test_numbers_written_from_float32_are_kept(numbers):
    values = np.array([float(str(np.float32(number))) for number in numbers])
    assert not needs_more_digits(values).any()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@example([2.0**-24])  # exact in float32; Python writes it with 16 of its 17 digits, the last of which is 5
def test_floats_of_many_digits_are_not_kept_unless_they_are_short(numbers):
    values = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        expected = [is_lost(repr(number)) for number in numbers]
    assert needs_more_digits(values).tolist() == expected


def test_a_mask_has_the_shape_of_the_values():
    values = np.array([[0.1, np.nan], [np.inf, 16777217.0], [1e300, 5.0]])
    assert needs_more_digits(values).tolist() == [[False, False], [False, True], [True, False]]
