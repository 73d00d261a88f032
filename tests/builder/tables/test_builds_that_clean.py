"""Builds that clean tables: what they record, refuse, store and report, the same for any number of workers."""

# ruff: noqa: DTZ001  # local times without a zone are what NumPy gives

import json
import re
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builder
import store_spec
from builder import tabular
from builder.maintenance.checks import verify_sources
from store_spec.verification.verify import verify
from tests.builder.command import recorded, seqzarr
from tests.builder.command import seqzarr_build as build
from tests.builder.features import build_feature, write_feature
from tests.builder.made_sources import rows_by_source as rows
from tests.builder.source_files import build_files, write_files


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Return four sources: with a gap in the middle, without one, with gaps at both ends, and with only gaps."""
    rows = {"gap": "1,10\n2,\n3,30\n4,40\n", "none": "5,50\n6,60\n", "ends": "7,\n8,80\n9,\n", "only": "1,\n2,\n"}
    return write_files(tmp_path / "src", {f"{name}.csv": f"a,b\n{text}" for name, text in rows.items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mark", "first", "label"),
    [
        *((mark, True, False) for mark in ("-", "?", "--", "n.a.", "**", "#DIV/0!", "-,-", "$")),
        *(("-,-", first, label) for first, label in ((False, False), (False, True), (True, True))),
    ],
)
def test_likely_words_for_missing_values_work_as_advised(tmp_path, mark, first, label):
    cells = [f'"{mark}"', "7"] if first else ["7", f'"{mark}"']
    rows_of_file = "".join(f"{number},{cell}\n" for number, cell in enumerate(cells))
    write_files(tmp_path / "src", {"a.csv": f"a,b\n{rows_of_file}"})
    options = ["--missing", "drop", *(["--labels", "b"] if label else [])]
    done = build(tmp_path / "src", tmp_path / "t.zarr", *options)
    advice = re.search(r"say (--na-values .*?) if it means a missing value, ", done.stderr)
    assert advice is not None
    assert build(tmp_path / "src", tmp_path / "t.zarr", *options, *shlex.split(advice[1])).exit_code == 0
    assert len(rows(tmp_path / "t.zarr")["a.csv"]) == 1


@pytest.mark.parametrize("text", ["W", "x1", "1;2", "remarks", "*********"])
def test_only_likely_words_are_advised_as_missing_values(tmp_path, text):
    write_files(tmp_path / "src", {"a.csv": f"a,b\n1,7\n2,{text}\n"})
    done = build(tmp_path / "src", tmp_path / "t.zarr")
    assert "is not a number; " in done.stderr
    assert "--na-values" not in done.stderr


def test_transforms_are_done_in_the_order_in_which_they_are_given(src, tmp_path):
    for number, options in enumerate(
        [
            ["--diff=a", "--clip", "a=-1:0.5", "--scale", "a=2", "--clip=a=:0.75"],
            ["--clip=a=:0.75", "--diff", "a", "--scale=a=2", "--clip", "a=-1:0.5"],
        ]
    ):
        store = tmp_path / f"{number}.zarr"
        build(src, store, "--inputs", "a", *options)
        expected = " ".join(options).replace("=a", " a").split("--")[1:]
        assert recorded(store)["process"]["tabular"]["transforms"] == [text.strip() for text in expected]
    assert rows(tmp_path / "0.zarr")["none.csv"] == [[0.75]]
    assert rows(tmp_path / "1.zarr")["none.csv"] == [[0.0]]


def test_cleaning_is_counted_in_the_report_the_store_and_inspect(src, tmp_path):
    (src / "only.csv").unlink()
    built = build_files(tmp_path, {}, tabular(missing=["split", "b=interpolate+split"]))
    store, report = built.path, built.report
    assert (report.sequences, report.dropped, report.filled) == (3, 2, 1)
    assert report.to_json()["dropped"] == 2
    assert built.store.sequences["dropped"].tolist() == [2, 0, 0]
    assert built.store.sequences["filled"].tolist() == [0, 1, 0]
    (src / "parts.csv").write_text("a,b\n1,1\n,2\n3,3\n,4\n,5\n6,6\n")
    result = build(src, store)
    assert result.stdout.startswith("t.zarr: 1 source added, 3 unchanged, 3 sequences, 3 steps (3 more dropped), ")
    found = builder.inspect(store).cleaning
    assert found is not None
    assert (found.dropped, found.filled, found.several, found.touched) == (5, 1, 1, 3)
    assert [(one.source, one.sequences, one.steps, one.dropped, one.filled) for one in found.worst] == [
        ("ends.csv", 1, 1, 2, 0),
        ("parts.csv", 3, 3, 3, 0),
        ("gap.csv", 1, 4, 0, 1),
    ]
    shown = " ".join(seqzarr("inspect", store).stdout.split())
    assert "5 steps dropped, 1 value filled in, in 3 sources; 1 source split into several sequences" in shown
    assert "ends.csv 1 1 2 66.7 % 0" in shown
    assert json.loads(seqzarr("inspect", store, "--json").stdout)["cleaning"]["touched"] == 3


def test_sources_that_were_only_split_are_named_last(tmp_path):
    rows = {"jumps": "0,1\n1,1\n9,1\n20,1\n", "lacks": "0,1\n1,\n", "jump": "0,1\n9,1\n", "whole": "0,1\n1,1\n"}
    contents = {f"{name}.csv": f"t,a\n{text}" for name, text in rows.items()}
    options: dict[str, Any] = {"inputs": "a", "time": "t", "elapsed": True, "time_unit": "s", "max_gap": "2s"}
    found = builder.inspect(build_files(tmp_path, contents, tabular(**options, missing="drop")).path).cleaning
    assert found is not None
    named = [(one.source, one.sequences, one.dropped) for one in found.worst]
    assert named == [("lacks.csv", 1, 1), ("jumps.csv", 3, 0), ("jump.csv", 2, 0)]
    assert (found.several, found.touched, found.named) == (2, 1, 3)
    (tmp_path / "src" / "lacks.csv").unlink()
    found = builder.inspect(build_files(tmp_path, {}, tabular(**options), "alone.zarr").path).cleaning
    assert found is not None
    assert [(one.source, one.sequences) for one in found.worst] == [("jumps.csv", 3), ("jump.csv", 2)]


def test_lost_steps_are_summed_and_the_worst_sources_come_first(tmp_path):
    """Compared with sorting all of them; a later build counts only its own sources."""
    rng = np.random.default_rng(0)
    lost = {f"{number:02}.csv": (int(rng.integers(0, 9)), int(rng.integers(1, 9))) for number in range(40)}
    texts = {name: "a,b\n" + ",1\n" * gaps + "1,1\n" * rows for name, (gaps, rows) in lost.items()}
    for names in (list(lost)[:30], list(lost)[30:]):
        built = build_files(tmp_path, {name: texts[name] for name in names}, tabular(missing="drop"), batch=1)
        assert built.report.dropped == sum(lost[name][0] for name in names)
    found = builder.inspect(tmp_path / "t.zarr").cleaning
    assert found is not None
    share = {name: gaps / (gaps + rows) for name, (gaps, rows) in lost.items() if gaps}
    assert [one.source for one in found.worst] == sorted(share, key=lambda name: -share[name])[:10]


def test_without_missing_policies_nothing_is_counted(src, tmp_path):
    (src / "only.csv").unlink()
    built = build_files(tmp_path, {}, tabular(inputs="a", transforms="scale a=2"))
    assert list(built.store.sequences) == ["source", "part", "length"]
    assert builder.inspect(built.path).cleaning is None
    assert "Cleaning" not in seqzarr("inspect", built.path).stdout


def test_a_dry_run_reports_the_cleaning_of_its_sources(src, tmp_path):
    result = build(src, tmp_path / "t.zarr", "--missing", "b=ffill+drop", "--dry-run", "--json")
    assert (json.loads(result.stdout)["dropped"], json.loads(result.stdout)["filled"]) == (1, 2)
    shown = build(src, tmp_path / "t.zarr", "--missing", "b=ffill+drop", "--dry-run").stdout
    assert "1 step dropped, 2 values filled in, of those looked at" in " ".join(shown.split())


def test_each_group_is_a_sequence_with_its_value_in_a_column(tmp_path):
    folder = write_files(tmp_path / "src", {"a.csv": "unit,run,x\n7,A,1\n8,A,2\n7,A,3\n7,B,4\n"})
    assert build(folder, tmp_path / "t.zarr", "--group-by", "unit,run").exit_code == 0
    opened = store_spec.open_store(tmp_path / "t.zarr")
    assert opened.sequences["unit"].tolist() == [7, 8, 7]
    assert opened.sequences["run"].tolist() == ["A", "A", "B"]
    assert [rows[:, 0].tolist() for rows, _ in opened] == [[1, 3], [2], [4]]
    assert not verify(tmp_path / "t.zarr")
    # Text for integers of the store is refused, with advice; integers for text of the store become text.
    (folder / "b.csv").write_text("unit,run,x\nB7,5,1\n")
    result = build(folder, tmp_path / "t.zarr")
    assert result.exit_code == 1
    assert "b.csv: column unit, which rows are grouped by, holds 'B7', but in the store and its first" in result.stderr
    assert build(folder, tmp_path / "u.zarr", "--group-by", "unit:text,run").exit_code == 0
    opened = store_spec.open_store(tmp_path / "u.zarr")
    assert opened.sequences["unit"].tolist() == ["7", "8", "7", "B7"]
    assert opened.sequences["run"].tolist() == ["A", "A", "B", "5"]


def test_times_are_stored_without_those_of_sources_without_rows(tmp_path):
    rows = "2020-01-01T12:00+02:00,1\n2020-01-01T10:30Z,2\n2020-01-01T20:00:00.5Z,3\n"
    folder = write_files(tmp_path / "src", {"a.csv": "t,x\n", "b.csv": f"t,x\n{rows}"})
    assert build(folder, tmp_path / "t.zarr", "--time", "t", "--max-gap", "2h").exit_code == 0
    opened = store_spec.open_store(tmp_path / "t.zarr")
    assert opened.sequences["source"].tolist() == ["b.csv", "b.csv"]
    assert opened.times(0).astype("M8[m]").tolist() == [datetime(2020, 1, 1, 10), datetime(2020, 1, 1, 10, 30)]
    assert opened.times(1).astype("M8[ms]").tolist() == [datetime(2020, 1, 1, 20, 0, 0, 500_000)]
    assert opened.schema.time is not None
    assert (opened.schema.time.unit, opened.schema.time.zone) == ("ns", "UTC")
    assert not verify(tmp_path / "t.zarr")
    # A local time cannot be stored with times of a zone.
    (folder / "c.csv").write_text("t,x\n2020-01-01T12:00,1\n")
    result = build(folder, tmp_path / "t.zarr")
    assert result.exit_code == 1
    assert "c.csv: time without a zone, but this store has time in UTC; give the zone of all" in result.stderr


def test_elapsed_times_and_groups_are_stored(tmp_path):
    folder = write_feature("groups, elapsed times", tmp_path / "src")
    store = build_feature("groups, elapsed times", folder, tmp_path / "t.zarr")
    opened = store_spec.open_store(store)
    assert len(opened) == 36
    assert opened.sequences["k"].tolist() == [0, 1, 2] * 12
    assert opened.times(1).astype("m8[ms]").astype(int).tolist() == list(range(20, 600, 60))
    assert not verify(store)
    assert not verify_sources(store, folder, workers=0)
