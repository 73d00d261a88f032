"""Times accompany the rows through a build, and through everything that is done with a store later."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import store_spec
from builder import Sequence, build, tabular
from builder.maintenance.checks import verify_sources
from store_spec.format.times import Time
from tests.builder.source_files import build_files, write_files

LENGTHS = {"a": (7, 0), "b": (30,), "c": (1, 12, 5), "d": (40,)}
AXES = ("step", "sequence", "own")


def times_of(name: str, part: int) -> np.ndarray[Any, Any]:
    steps = LENGTHS[name][part]
    return np.datetime64("2020-01-01T00:00", "ms") + (np.arange(steps) // 2 + 10 * part) * np.timedelta64(1, "s")


def sequence_of(name: str, part: int, axis: str) -> Sequence:
    steps = LENGTHS[name][part]
    rows = np.full((steps, 2), ord(name) + part, np.int16)
    labels: dict[str, Any] = {"step": rows, "sequence": np.array([part], np.int16), "own": rows[: steps // 2]}
    return Sequence(rows, labels[axis], time=times_of(name, part), zone="UTC")


def read(path: Path, *, axis: str) -> Any:
    return (sequence_of(path.stem, part, axis) for part in range(len(LENGTHS[path.stem])))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_files(tmp_path / "sources", {f"{name}.txt": name for name in LENGTHS})


@pytest.mark.parametrize("axis", AXES)
def test_times_are_stored_and_compared_with_the_sources(root, tmp_path, monkeypatch, axis):
    store = tmp_path / "store"
    options: dict[str, Any] = {"arguments": {"axis": axis}, "label_axis": axis, "chunk": 64, "shard": 128}
    build(root, store, process=read, workers=0, **options)
    assert store_spec.open_store(store).schema.time == Time("ms", zone="UTC")
    assert store_spec.verify(store) == []
    assert verify_sources(store, root, process=read, workers=0) == []
    real = times_of
    monkeypatch.setattr(f"{__name__}.times_of", lambda name, part: real(name, part) + (name == "b"))
    (problem,) = verify_sources(store, root, process=read, workers=0)
    assert problem.what == (
        "b.txt: sequence 2: time: row 1 is 1577836800001, but the store has 1577836800000 (30 values differ)"
    )


FALLS = (
    "time falls at step 1, from 1970-01-01T00:00:02 to 1970-01-01T00:00:01; sort the steps, or split the sequence there"
)


def odd(path: Path) -> Sequence:
    """Yield values that do not fit the first source, each in another way."""
    rows = np.zeros((2, 1), np.int8)
    given: dict[str, Any] = {
        "a": {"time": np.array([1, 2], "datetime64[D]")},
        "b": {},
        "c": {"time": np.array([1, 2], "datetime64[D]"), "zone": "UTC"},
        "d": {"time": np.array([2, 1], "datetime64[s]")},
    }
    return Sequence(rows, rows, **given[path.stem])


def test_sources_with_unsuitable_times_fail_alone(root, tmp_path):
    report = build(root, tmp_path / "store", process=odd, workers=0)
    assert report.added == 1
    assert store_spec.open_store(tmp_path / "store").schema.time == Time("s")
    assert [failure.reason for failure in report.failures] == [
        "no time, where this store keeps one for each step; give time=",
        "time in UTC, but this store has time without a zone; give the zone of all sources, or of none",
        FALLS,
    ]


def test_a_first_source_without_a_unit_fails(root, tmp_path):
    sequence = Sequence(np.zeros((2, 1)), np.zeros((2, 1)), time=np.array([1, 2]))
    report = build(root, tmp_path / "store", process=lambda _: sequence, workers=0, max_failures=99)
    assert report.added == 0
    assert "time is int64, which tells no unit of s, ms, us, ns" in report.failures[0].reason


@pytest.mark.parametrize("elapsed", [False, True])
def test_a_file_with_only_a_header_has_no_unit_and_is_skipped(tmp_path, elapsed):
    contents = {"a.csv": "t,x\n", "b.csv": "t,x\n1,2\n3,4\n"}
    report = build_files(tmp_path, contents, tabular(time="t", time_unit="s", missing="drop", elapsed=elapsed)).report
    assert (report.added, [str(one) for one in report.skipped]) == (1, ["a.csv: has no rows"])


@pytest.mark.parametrize("zone", ["Europe/Berlin", None])
def test_times_of_arrow_with_a_zone_are_in_utc(tmp_path, zone):
    utc = np.array(["2024-06-01T10", "2024-06-01T11"], "datetime64[s]")
    array = pa.array(utc, pa.timestamp("s", zone))
    for store, times in (("array.zarr", array), ("chunks.zarr", pa.chunked_array([array]))):
        sequence = Sequence(np.ones((2, 1)), 0, time=times)
        built = build_files(tmp_path, {"a.bin": b"1"}, lambda _, it=sequence: it, store).store
        assert built.times(0).tolist() == utc.tolist()
        assert built.schema.time == Time("s", zone=zone and "UTC")
