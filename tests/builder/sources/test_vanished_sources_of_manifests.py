"""If a manifest still lists sources whose files are gone, these are vanished sources, not faults of the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import store_spec
from builder import UsageError, build, compact, preview
from builder.maintenance.source_checks import verify_sources
from tests.builder.command import seqzarr
from tests.builder.source_files import write_files
from tests.store.oracle import files

NAMES = "abcdef"


def listed(place: Path, names: str = NAMES) -> None:
    rows = "".join(f"{name},{'odd' if number % 2 else 'even'},{number}\n" for number, name in enumerate(names))
    (place / "src/m.csv").write_text(f"source,y,age\n{rows}")


@pytest.fixture
def place(tmp_path):
    write_files(tmp_path / "src", {f"{name}.csv": f"x\n{number}\n{number + 1}\n" for number, name in enumerate(NAMES)})
    listed(tmp_path)
    asked: dict[str, Any] = {"manifest": tmp_path / "src/m.csv", "label_column": "y", "keep": "age", "workers": 0}
    build(tmp_path / "src", tmp_path / "store", **asked)
    return tmp_path


def run(place: Path, **options: Any) -> Any:
    return build(place / "src", place / "store", workers=0, **options)


def test_a_vanished_source_is_named_and_kept_until_it_is_retired(place):
    before = files(place / "store")
    (place / "src/b.csv").unlink()
    report = run(place)
    assert (report.vanished, report.retired, report.unchanged, report.failures) == (("b.csv",), 0, 5, ())
    assert files(place / "store") == before
    assert preview(place / "src", place / "store", retire_missing=True).vanished == ("b.csv",)
    (problem,) = verify_sources(place / "store", place / "src", workers=0)
    assert problem.what == "b.csv: no longer exists, so it was not compared"
    report = run(place, retire_missing=True)
    assert (report.vanished, report.retired, report.total_sequences) == (("b.csv",), 1, 5)
    store = store_spec.open_store(place / "store")
    assert list(store.sources) == ["a.csv", "c.csv", "d.csv", "e.csv", "f.csv"]
    assert [int(y[0]) for _, y in store] == [0, 0, 1, 0, 1]
    assert store_spec.verify(place / "store") == []


def test_a_store_with_only_retired_sequences_is_reported_as_existing(place):
    for name in NAMES:
        (place / f"src/{name}.csv").unlink()
    listed(place, "gh")
    for name in "gh":
        (place / f"src/{name}.csv").write_text("p,q\n1,2\n")
    command = ["build", str(place / "src"), str(place / "store"), "--retire-missing", "--yes", "--workers", "0"]
    for done in ("6 sources retired", "nothing new"):
        result = seqzarr(*command)
        assert (result.exit_code, result.stdout) == (1, f"store: {done}; 2 failed\n")
    assert store_spec.verify(place / "store") == []


def test_a_source_that_was_retired_may_stay_listed_and_come_back(place):
    text = (place / "src/b.csv").read_text()
    (place / "src/b.csv").unlink()
    run(place, retire_missing=True)
    listed(place, NAMES + "g")
    (place / "src/g.csv").write_text("x\n9\n")
    report = run(place)
    assert (report.vanished, report.added, report.unchanged) == ((), 1, 5)
    (place / "src/b.csv").write_text(text)
    report = run(place)
    assert (report.added, report.unchanged) == (1, 6)
    store = store_spec.open_store(place / "store")
    assert store.sources[-1] == "b.csv"
    assert store.sequences["age"].tolist() == [0, 2, 3, 4, 5, 6, 1]


def test_a_row_without_a_file_is_named_or_with_manifest_strict_an_error(place):
    (place / "src/b.csv").unlink()
    listed(place, NAMES + "z")
    for options in ({}, {"retire_missing": True}):
        with pytest.raises(UsageError, match=r"By stem: 1 row \(z\) without a source; remove the rows"):
            run(place, manifest_strict=True, **options)
    report = run(place)
    assert (report.absent, report.vanished) == (("z",), ("b.csv",))
    assert preview(place / "src", place / "store").absent == ("z",)
    result = seqzarr("build", place / "src", place / "store", "--retire-missing")
    assert result.exit_code == 0
    assert "there are no files for 1 source of the manifest: z; --manifest-strict refuses that\n" in result.stderr
    assert "there are no files for 1 source" in seqzarr("build", place / "src", place / "store", "--dry-run").stdout
    assert seqzarr("build", place / "src", place / "store", "--manifest-strict").exit_code == 2
    listed(place)
    compact(place / "store", place / "small", workers=0)
    with pytest.raises(UsageError, match=r"By stem: 1 row \(b\) without a source"):  # it is forgotten there
        build(place / "src", place / "small", workers=0, manifest_strict=True)
