"""Arguments of a process function: parsed, recorded, passed for every source, and compared by later builds."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builder
import store_spec
from builder import UsageError
from builder.processes.function_process import parse_arguments
from tests.builder.command import recorded, seqzarr
from tests.builder.source_files import write_files


def scaled(path: Path, *, factor, shift=0, name=""):
    rows = np.array([[float(path.read_text()) * factor + shift + len(name)]])
    return rows, rows


ME = f"{__name__}:scaled"


@pytest.fixture
def src(tmp_path):
    return write_files(tmp_path / "src", {f"{number}.raw": str(number) for number in range(3)})


def values(store):
    return [float(inputs[0, 0]) for inputs, _ in store_spec.open_store(store)]


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()))
def test_values_written_as_json_are_read_back(value):
    (found,) = parse_arguments([f"k={json.dumps(value)}"]).values()
    assert repr(found) == repr(value)


@pytest.mark.parametrize("text", ["007", "null", "NaN", "Infinity", "1e999", "[1]", "True", "a=b", "", '"open', "1_0"])
def test_other_values_are_text(text):
    assert parse_arguments([f"k={text}"]) == {"k": text}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_function_receives_its_arguments_and_the_store_records_them(src, tmp_path, workers):
    store = tmp_path / "t.zarr"
    command = ["build", str(src), str(store), "--process", ME, "--workers", str(workers)]
    seqzarr(*command, "--arg", "factor=2.5", "--arg", "name=ab", status=0)
    assert values(store) == [number * 2.5 + 2 for number in range(3)]
    assert recorded(store)["process"] == {"function": ME, "arguments": {"factor": 2.5, "name": "ab"}}
    # A later build needs none of them; the same ones are accepted.
    (src / "3.raw").write_text("3")
    builder.build(src, store, workers=0)
    (src / "4.raw").write_text("4")
    builder.build(src, store, workers=0, process=scaled, arguments={"factor": 2.5})
    assert values(store) == [number * 2.5 + 2 for number in range(5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factor": [1]}, r"argument factor of the process function is \[1\] \(list\)"),
        ({"factor": float("nan")}, "finite floats"),
    ],
)
def test_arguments_that_cannot_be_recorded_are_refused_before_anything_is_made(src, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        builder.build(src, tmp_path / "t.zarr", process=scaled, arguments=arguments, workers=0)
    assert not (tmp_path / "t.zarr").exists()


def test_a_store_with_impossible_records_is_refused(src, tmp_path):
    builder.build(src, tmp_path / "t.zarr", process=scaled, arguments={"factor": 2}, workers=0)
    root = tmp_path / "t.zarr" / "zarr.json"
    root.write_text(root.read_text().replace('"factor"', '"fac tor"'))
    with pytest.raises((UsageError, store_spec.StoreError)):
        builder.build(src, tmp_path / "t.zarr", workers=0)
