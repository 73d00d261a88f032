"""Numbers in text are stored as float32, unless those of the first source need more digits, or a dtype is given."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder import build, tabular
from builder.frames.digits import needs_more_digits
from store_spec import open_store
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, write_file, write_files
from tests.store.oracle import same

FEW = np.array([[0.1, 1234.567], [-2.5e-7, 101325], [3, 0.33333334]])
MANY = np.array([[0.1, 116.318417], [0.2, 39.984702]])


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def text_of(rows: np.ndarray, suffix: str = ".csv") -> str:
    """Return rows of x and y as text of a format; blank-separated text has no header."""
    lines = {
        ".csv": ["x,y", *(f"{x!r},{y!r}" for x, y in rows.tolist())],
        ".txt": [f"{x!r} {y!r}" for x, y in rows.tolist()],
        ".jsonl": [json.dumps({"x": x, "y": y}) for x, y in rows.tolist()],
    }
    return "".join(f"{line}\n" for line in lines[suffix])


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
def test_numbers_of_few_digits_become_float32(tmp_path, suffix):
    built = build_files(tmp_path, {f"a{suffix}": text_of(FEW, suffix)})
    inputs, labels = built.store[0]
    assert inputs.dtype == labels.dtype == np.float32
    assert np.array_equal(inputs, FEW.astype(np.float32))
    assert (built.report.dtype, built.report.rounded.values) == (None, 0)


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".jsonl"])
def test_numbers_of_many_digits_become_float64_and_the_build_says_so(tmp_path, suffix):
    write_files(tmp_path / "raw", {f"a{suffix}": text_of(MANY, suffix)})
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
    write_files(tmp_path / "raw", {"a.csv": text_of(FEW), "b.csv": text_of(MANY), "c.csv": text_of(MANY[:1])})
    done = seqzarr("build", "raw", "s.zarr")
    assert (
        "rounded to float32: 3 numbers of 2 sources, such as 116.318417 in column y of b.csv: the first source has "
        "fewer digits; to keep them, build to another path with --dtype float64" in done.stderr
    )
    store = open_store(tmp_path / "s.zarr")
    assert [store[number][0].tolist() for number in range(3)] == [
        rows.astype(np.float32).tolist() for rows in (FEW, MANY, MANY[:1])
    ]
    write_files(tmp_path / "raw", {"d.csv": text_of(MANY)})
    report = build(tmp_path / "raw", tmp_path / "s.zarr", workers=0)
    assert (report.rounded.values, report.rounded.sources) == (2, 1)
    assert report.to_json()["rounded"]["example"] == "116.318417 in column y of d.csv"
    assert "2 numbers rounded to float32" in repr(report)
    assert seqzarr("verify", "s.zarr", "--sources", "raw").exit_code == 0


def test_a_failed_source_neither_determines_the_dtype_nor_counts(tmp_path):
    bad = {"a.csv": "x,y\n116.318417,1\n1,broken\n", "c.csv": "x,y\n116.318417,1\n1,inf\n"}
    built = build_files(tmp_path, bad | {"b.csv": text_of(FEW)})
    assert [one.source for one in built.report.failures] == list(bad)
    assert (built.store.schema.inputs.dtype.name, built.report.rounded.values) == ("float32", 0)


def test_labels_of_text_are_float32_too_but_classes_and_labels_elsewhere_stay(tmp_path):
    contents = {"a_3.csv": "x,target,kind\n0.1,0.7,cat\n0.2,1.5,dog\n"}
    manifest = write_file(tmp_path / "labels.csv", "source,y\na_3.csv,116.318417\n")
    every: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("float32", {"labels": "target"}, {}),
        ("int64", {"labels": "kind"}, {}),
        ("int64", {"label_pattern": r"_(\d)"}, {}),
        ("float64", {"labels_in_manifest": True}, {"manifest": manifest, "label_column": "y"}),
        ("int8", {"labels": "none"}, {}),
    ]
    for number, (dtype, options, more) in enumerate(every):
        schema = build_files(tmp_path, contents, tabular(inputs="x", **options), f"{number}", **more).store.schema
        assert (schema.inputs.dtype.name, schema.labels.dtype.name) == ("float32", dtype), options


@pytest.mark.parametrize("axis", ["step", "own"])
def test_labels_in_label_files_determine_the_dtype_too(tmp_path, axis):
    process = tabular(labels_from="{stem}_labels.csv", label_axis=axis)
    many = build_files(tmp_path, {"a.csv": text_of(FEW), "a_labels.csv": "label\n1\n16777217\n0\n"}, process)
    assert "16777217 in column label of a" in str(many.report.dtype)
    assert many.store.schema.labels.dtype == np.float64
    few = build_files(tmp_path, {"a_labels.csv": "label\n1\n0\n0\n"}, process, "few.zarr")
    assert few.store.schema.labels.dtype == np.float32


def test_values_computed_from_numbers_of_few_digits_are_float32(tmp_path):
    write_files(tmp_path / "raw", {"a.csv": "x\n0.1\n\n0.7\n0.8\n"})
    done = seqzarr("build", "raw", "s.zarr", "--scale", "x=0.3", "--diff", "x", "--missing", "drop")
    assert "does not keep" not in done.stdout
    assert open_store(tmp_path / "s.zarr").schema.inputs.dtype == np.float32


def test_a_converted_copy_continues_from_float32(tmp_path):
    build_files(tmp_path, {"a.csv": text_of(FEW), "b.csv": text_of(MANY)}, store="s.zarr")
    assert seqzarr("compact", "s.zarr", "t.zarr", "--dtype", "float64").exit_code == 0
    built = build_files(tmp_path, {"c.csv": text_of(MANY)})
    assert built.report.rounded.values == 2
    assert same(built.store[2][0], MANY.astype(np.float32).astype(np.float64))
    assert seqzarr("verify", "t.zarr", "--sources", "src").exit_code == 0


def test_other_formats_are_rounded_and_counted_after_text(tmp_path):
    contents: dict[str, Any] = {
        "a.csv": text_of(FEW),
        "b.parquet": {"y": [116, 16777217, None], "x": [0.1, 1 / 3, None]},
        "c.parquet": {"y": [116, 16777217], "x": [0.1, 1 / 3]},
        "d.npy": MANY,
        "e.npz": {"inputs": MANY, "labels": np.zeros((2, 2))},
    }
    built = build_files(tmp_path, contents, tabular(missing="drop"))
    assert (built.reasons, built.report.rounded.values, built.report.rounded.sources) == ([], 2 + 2 + 2 + 2, 4)
    typed = np.array([[0.1, 116], [1 / 3, 16777217]])
    expected = [FEW, typed, typed, MANY, MANY]
    assert [inputs.tolist() for inputs, _ in built.store] == [rows.astype(np.float32).tolist() for rows in expected]


def test_other_formats_keep_their_dtype(tmp_path):
    assert build_files(tmp_path, {"a.parquet": {"x": [0.1, 0.2]}}).store.schema.inputs.dtype == np.float64


def is_lost(text: str) -> bool:
    """Return whether float32 cannot represent a decimal number, and gives another number with as many digits."""
    if float(np.float32(float(text))) == float(text):
        return False
    digits = len(Decimal(text).normalize().as_tuple().digits)
    return Decimal(f"{float(np.float32(float(text))):.{digits - 1}e}") != Decimal(text)


DECIMALS = st.tuples(st.integers(-(10**10), 10**10), st.integers(-30, 25)).map(lambda one: f"{one[0]}e{one[1]}")
FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False).map(np.float32).map(str)


@given(st.lists(DECIMALS | FLOATS | SINGLES, max_size=30))
@example([repr(2.0**-24)])  # exact in float32; Python writes it with 16 of its 17 digits, the last of which is 5
def test_the_digits_of_a_number_determine_whether_float32_keeps_it(texts):
    values = np.array([float(text) for text in texts], np.float64)
    with np.errstate(over="ignore"):
        expected = [is_lost(text) for text in texts]
    assert needs_more_digits(values).tolist() == expected


def test_a_mask_has_the_shape_of_the_values():
    values = np.array([[0.1, np.nan], [np.inf, 16777217.0], [1e300, 5.0]])
    assert needs_more_digits(values).tolist() == [[False, False], [False, True], [True, False]]
