"""Sources without rows are skipped: counted, not failed, and not tried again until they change."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builder
import store_spec
from builder import LongSequence, Sequence, tabular, write_report
from builder.maintenance.checks import verify_sources
from builder.planning.provenance import RecordedSkips
from builder.sources.fingerprints import SourceFiles, SourceRead, read_fingerprint
from builder.workers.process_source import Skipped
from tests.builder.command import seqzarr
from tests.builder.made_sources import rows_by_source as rows
from tests.builder.source_files import write_files
from tests.store.oracle import files


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """A folder of two tables with full rows, and two without."""
    texts = {"a.csv": "x,y\n1,2\n,4\n", "b.csv": "x,y\n,1\n,2\n", "c.csv": "x,y\n5,6\n7,8\n", "d.csv": "x,y\n,3\n"}
    return write_files(tmp_path / "src", texts)


def build(src: Path, **options: Any) -> builder.Report:
    given: dict[str, Any] = {"process": tabular(missing="drop"), "workers": 0} | options
    return builder.build(src, src.parent / "t.zarr", **given)


def test_sources_whose_rows_are_all_dropped_are_counted_and_not_tried_again(src, tmp_path):
    report = build(src)
    assert (report.added, report.failures, report.skipped_before) == (2, (), 0)
    assert [one.source for one in report.skipped] == ["b.csv", "d.csv"]
    assert report.skipped[0].reason.startswith("none of its 2 rows is left; column x is missing in 2 of them")
    assert rows(tmp_path / "t.zarr") == {"a.csv": [[1, 2]], "c.csv": [[5, 6], [7, 8]]}
    before = files(tmp_path / "t.zarr")
    again = build(src)
    assert (again.added, again.unchanged, again.skipped, again.skipped_before, again.bytes_read) == (0, 2, (), 2, 0)
    assert again.sources == 4
    assert files(tmp_path / "t.zarr") == before
    assert store_spec.verify(tmp_path / "t.zarr") == []
    assert verify_sources(tmp_path / "t.zarr", src, workers=0) == []


def test_the_exit_status_is_0_and_every_output_counts_them(src, tmp_path):
    store = tmp_path / "t.zarr"
    dry = seqzarr("build", src, store, "--missing", "drop", "--dry-run")
    assert dry.exit_code == 0
    assert "of them empty  b.csv, d.csv" in dry.stdout
    done = seqzarr("build", src, store, "--missing", "drop", "--workers", "0", status=0)
    assert done.stdout.endswith("; 0 failed, 2 skipped as empty\n")
    assert done.stderr.startswith("empty: 2 sources (b.csv, d.csv); none of its 2 rows is left; column x is missing")
    assert "; --empty error counts such sources as failed\n" in done.stderr
    assert json.loads(seqzarr("build", src, store, "--json", status=0).stdout)["skipped_before"] == 2
    assert seqzarr("build", src, store).stdout == "t.zarr: nothing new, 2 unchanged; 0 failed, 2 skipped as empty\n"
    dry = seqzarr("build", src, store, "--dry-run")
    assert "skipped" in dry.stdout
    assert "leaves them out, as they are empty" in dry.stdout
    assert "Skipped (2 empty sources)\n  b.csv\n  d.csv\n" in seqzarr("inspect", store).stdout
    found = json.loads(seqzarr("inspect", "--json", store).stdout)
    assert (found["skipped"], found["skipped_listed"], found["failures"]) == (2, ["b.csv", "d.csv"], 0)
    assert "it is empty, and was skipped" in seqzarr("inspect", store, "--sequence", "b.csv").stderr
    write_report(store, tmp_path / "page.html")
    assert "Skipped sources" in (tmp_path / "page.html").read_text()


def test_a_source_that_gets_rows_is_new_and_one_that_loses_them_is_retired_by_an_update(src, tmp_path):
    build(src)
    (src / "b.csv").write_text("x,y\n9,9\n")
    report = build(src)
    assert (report.added, report.skipped_before, report.changed) == (1, 1, ())
    (src / "c.csv").write_text("x,y\n,\n")
    assert build(src).changed == ("c.csv",)
    report = build(src, update=True)
    assert (report.updated, [one.source for one in report.skipped], report.skipped_before) == (0, ["c.csv"], 1)
    assert report.total_sequences == 2
    assert rows(tmp_path / "t.zarr") == {"a.csv": [[1, 2]], "b.csv": [[9, 9]]}
    assert build(src).skipped_before == 2
    assert verify_sources(tmp_path / "t.zarr", src, workers=0) == []
    (src / "d.csv").write_text("x,y\n1,1\n")
    problems = [str(one) for one in verify_sources(tmp_path / "t.zarr", src, workers=0)]
    assert len(problems) == 1
    assert "d.csv: number of sequences: 1, but the store has 0" in problems[0]


def without_negative_rows(path: Path) -> Any:
    """Return two parts of the rows; the first one is always empty."""
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    rows = rows[rows[:, 0] >= 0]
    return [(rows[:0], rows[:0]), (rows, rows)]


def in_pieces(path: Path) -> Any:
    """Return the two parts as pieces of long sequences."""
    return [LongSequence(Sequence(*pair) for pair in [part, part]) for part in without_negative_rows(path)]


@pytest.mark.parametrize("process", [without_negative_rows, in_pieces])
def test_a_function_that_drops_all_rows_skips_the_source(tmp_path, process):
    """An empty part beside others is kept."""
    write_files(tmp_path / "src", {"a.csv": "-1,2\n", "b.csv": "1,2\n-3,4\n", "c.csv": "-1,1\n"})
    report = build(tmp_path / "src", process=process)
    assert (report.added, report.failures) == (1, ())
    assert [str(one) for one in report.skipped] == ["a.csv: has no rows", "c.csv: has no rows"]
    assert store_spec.open_store(tmp_path / "t.zarr").lengths.tolist() == [0, 1 if process is not in_pieces else 2]
    assert build(tmp_path / "src", process=process).skipped_before == 2


@pytest.mark.parametrize("options", [{"label_pattern": "([ab])[.]csv"}, {"labels": "kind", "missing": "drop"}])
def test_classes_that_only_an_empty_source_has_are_no_difference(tmp_path, options):
    src = tmp_path / "src"
    write_files(src, {"a.csv": "x,kind\n1,cat\n", "b.csv": "x,kind\n,dog\n" if "labels" in options else "x,kind\n"})
    report = build(src, process=tabular(inputs="x", **options))
    assert (report.added, len(report.skipped)) == (1, 1)
    assert verify_sources(tmp_path / "t.zarr", src, workers=0) == []


def test_with_empty_error_empty_sources_fail(src, tmp_path):
    report = build(src, empty="error")
    assert ([one.source for one in report.failures], report.skipped) == (["b.csv", "d.csv"], ())
    assert [one.source for one in build(src, empty="error").failures] == ["b.csv", "d.csv"]
    assert "skipped" not in store_spec.open_store(tmp_path / "t.zarr").provenance
    assert len(build(src).skipped) == 2
    assert [one.source for one in build(src, empty="error").failures] == ["b.csv", "d.csv"]
    assert "skipped" not in store_spec.open_store(tmp_path / "t.zarr").provenance


def test_other_bytes_other_labels_and_another_function_make_a_skipped_source_new():
    digest = hashlib.sha256(b"bytes").digest()
    read = SourceRead(SourceFiles(("b.csv",)), {"b.csv": replace(read_fingerprint(__file__), sha256=digest)})
    recorded = RecordedSkips(code="one").record([], [Skipped("b.csv", "", read), Skipped("a.csv", "", read)])
    assert list(recorded) == ["a.csv", "b.csv"]
    assert RecordedSkips(recorded, "one").is_same("a.csv", [digest])
    assert not RecordedSkips(recorded, "one").is_same("a.csv", [digest, digest])
    assert not RecordedSkips(recorded, "one").is_same("a.csv", [hashlib.sha256(b"others").digest()])
    assert not RecordedSkips(recorded, "two").is_same("a.csv", [digest])
    assert RecordedSkips(recorded, "one").record(["b.csv"], []) == {"b.csv": recorded["b.csv"]}
    assert RecordedSkips.of({"skipped": ["a.csv"]}).by_name == {}


def test_a_store_with_skipped_sources_has_the_same_bytes_however_it_was_built(src, tmp_path):
    """In one build, in steps, and with a source that is listed as skipped before its neighbours are built."""
    build(src)
    whole = files(tmp_path / "t.zarr")
    other = tmp_path / "other"
    (other / "src").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):
        (other / "src" / name).write_bytes((src / name).read_bytes())
        build(other / "src")
    assert files(other / "t.zarr") == whole
