"""What an inspection reports of one source equals what its rows and its file contain."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from builder import UsageError, build, inspect_source, tabular
from builder.inspection.source import LISTED_PARTS, LISTED_VALUES
from store_spec import open_store
from store_spec.format.times import Time
from store_spec.reading.splits import position
from store_spec.schema import LabelAxis
from tests.builder.command import run_inspect as run
from tests.builder.made_sources import Made, made_sequences, read_made, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import Recipe, store_of


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of three sources, the second of which changed and was built again."""
    sources = {f"a/{number}.made": Made(lengths=(9, 0, 4), seed=number) for number in range(3)}
    write_made(tmp_path / "in", sources)
    build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0)
    write_made(tmp_path / "in", {"a/1.made": Made(lengths=(5,), seed=7)})
    build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0, update=True)
    return tmp_path / "s.zarr"


def test_parts_lengths_file_and_split_are_those_of_the_source(store: Path, tmp_path: Path):
    found = inspect_source(store, "a/0.made")
    assert [(one.part, one.number, one.steps, one.label_rows, one.retired) for one in found.parts] == [
        (0, 0, 9, 9, False),
        (1, 1, 0, 0, False),
        (2, 2, 4, 4, False),
    ]
    data = (tmp_path / "in" / "a" / "0.made").read_bytes()
    assert (found.file_size, found.file_sha256) == (len(data), hashlib.sha256(data).hexdigest())
    at = position("a/0.made", 0)
    assert found.split == ("train" if at < 0.8 else "val" if at < 0.9 else "test")
    assert (found.sequences, found.retired, found.steps) == (3, 0, 13)


def test_rows_and_statistics_are_those_of_the_sequences(store: Path):
    found = inspect_source(store, "a/0.made")
    sequences = made_sequences("a/0.made", Made(lengths=(9, 0, 4), seed=0))
    first, empty, short = found.parts
    assert [row.step for row in first.inputs] == [0, 1, 2, 6, 7, 8]
    for row in first.inputs:
        assert row.values == tuple(sequences[0].inputs[row.step].tolist())
    for row in first.labels:
        assert row.values == (sequences[0].labels[row.step],)
    assert (empty.inputs, empty.labels) == ((), ())
    assert [row.step for row in short.inputs] == [0, 1, 2, 3]
    rows = np.concatenate([one.inputs for one in sequences]).astype(np.float64)
    assert [one.mean for one in found.statistics[:3]] == pytest.approx(rows.mean(axis=0).tolist())
    assert [one.max for one in found.statistics[:3]] == rows.max(axis=0).tolist()


def test_retired_sequences_are_shown_as_such(store: Path):
    found = inspect_source(store, "a/1.made")
    assert [(one.part, one.steps, one.retired) for one in found.parts] == [
        (0, 9, True),
        (1, 0, True),
        (2, 4, True),
        (0, 5, False),
    ]
    assert (found.sequences, found.retired, found.steps) == (1, 3, 5)
    assert found.statistics[0].count == 5


def test_a_retired_source_can_be_inspected(store: Path):
    with open_store(store, "a") as writer:
        writer.retire("a/2.made")
    found = inspect_source(store, "a/2.made")
    assert (found.sequences, found.retired, found.steps) == (0, 3, 0)
    assert found.statistics[0].count == 13
    assert repr(found).startswith("<source 'a/2.made' in s.zarr: 0 sequences, 0 steps, 3 retired, split ")


@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
def test_every_label_axis_and_dtype_can_be_shown(tmp_path: Path, axis: LabelAxis):
    path = tmp_path / "k.zarr"
    labels = {"step": np.full(8, np.nan), "sequence": np.float32(2), "own": np.ones(20)}[axis]
    count = LISTED_PARTS + 2
    rows, sources = np.full((8, 9, 9), 1 + 2j, np.complex64), ["x"] * count
    store_of(path, [rows] * count, [labels] * count, sources=sources, label_axis=axis, missing="keep")
    found = json.loads(run(path, "--sequence", "x", "--json").stdout)
    parts = found["parts"]
    assert parts[0]["inputs"][0]["values"] == ["(1+2j)"] * LISTED_VALUES
    assert [row["values"] for row in parts[0]["labels"]][:1] == {"step": [[None]], "sequence": [[2.0]], "own": [[1.0]]}[
        axis
    ]
    assert parts[-1]["inputs"] == []
    assert (found["file_size"], found["file_sha256"]) == (None, None)
    text = run(path, "--sequence", "x").stdout
    assert "none: its arrays were appended" in text
    assert ("NaN" in text) == (axis == "step")


def test_the_text_fits_80_columns_and_is_complete(store: Path):
    result = run(store, "--sequence", "a/1.made")
    assert (result.exit_code, result.stderr) == (0, "")
    assert max(map(len, result.stdout.splitlines())) <= 80
    found = inspect_source(store, "a/1.made")
    text = " ".join(result.stdout.split())
    assert found.file_sha256 is not None
    for said in (
        "a/1.made store s.zarr holds 1 sequence, 5 steps retired 3 sequences",
        found.file_sha256,
        f"split {found.split}",
        "0 3 9 9 retired",
        "Rows of part 0 row inputs 0 ",
    ):
        assert said in text, said


def test_cleaning_and_names_of_classes_are_shown(tmp_path: Path):
    write_files(tmp_path / "in", {"a.csv": "unit,x,kind\nu,1,cat\nv,2,dog\nu,,dog\nu,4,cat\nv,5,dog\n"})
    process = tabular(inputs="x", labels="kind", group_by="unit", missing="drop")
    build(tmp_path / "in", tmp_path / "s.zarr", process=process, workers=0)
    found = inspect_source(tmp_path / "s.zarr", "a.csv")
    assert [part.columns for part in found.parts] == [
        {"unit": "u", "dropped": 1, "filled": 0},
        {"unit": "v", "dropped": 0, "filled": 0},
    ]
    assert found.classes == (("cat", "dog"),)
    text = [line.rstrip() for line in run(tmp_path / "s.zarr", "--sequence", "a.csv").stdout.splitlines()]
    begin = text.index("Columns of sequences")
    assert [line.split(maxsplit=1) for line in text[begin + 1 : begin + 5]] == [
        ["column", "of each part"],
        ["unit", "u, v"],
        ["dropped", "1, 0"],
        ["filled", "0"],
    ]
    labels = text.index("  row  labels")
    assert text[labels + 1 : labels + 3] == ["    0  0 cat", "    1  0 cat"]
    assert text[text.index("Rows of part 1") + 5 :] == ["  row  labels", "    0  1 dog", "    1  1 dog"]


def test_the_times_of_each_part_are_shown(tmp_path: Path):
    times = [np.arange(steps) * 60 + 86400 for steps in (3, 0)]
    more, time = [{"time": each} for each in times], Time("s", zone="UTC")
    store_of(tmp_path / "t.zarr", [np.zeros(3), np.zeros(0)], sources="aa", time=time, more=more)
    first, empty = inspect_source(tmp_path / "t.zarr", "a").parts
    assert (first.times, empty.times) == (("1970-01-02T00:00:00Z", "1970-01-02T00:02:00Z"), None)
    text = " ".join(run(tmp_path / "t.zarr", "--sequence", "a").stdout.split())
    assert "0 0 3 3 1970-01-02T00:00:00Z to 1970-01-02T00:02:00Z 1 1 0 0 -" in text


def test_json_is_what_the_function_returns(store: Path):
    result = run(store, "--sequence", "a/0.made", "--json")
    assert json.loads(result.stdout) == json.loads(json.dumps(inspect_source(store, "a/0.made").to_json()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1.made", "no sequence of source '1.made'; it has 'a/1.made'"),
        ("a/1.csv", "no sequence of source 'a/1.csv'; it has 'a/1.made'"),
        ("made", "it has 'a/0.made', 'a/1.made', 'a/2.made'"),
        ("nothing", "its sources are named like 'a/0.made'"),
        ("", "its sources are named like 'a/0.made'"),
    ],
)
def test_an_unknown_source_is_wrong_usage_and_similar_names_are_listed(store: Path, name: str, message: str):
    assert message in run(store, "--sequence", name, status=2).stderr


def test_a_store_without_sequences_says_so(tmp_path: Path):
    Recipe().create(tmp_path / "e.zarr").commit()
    with pytest.raises(UsageError, match="it has no sequences"):
        inspect_source(tmp_path / "e.zarr", "x")
