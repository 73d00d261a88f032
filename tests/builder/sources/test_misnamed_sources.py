"""A file whose name is not valid UTF-8 is named and left out, all others are built, and renaming it is enough."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import store_spec
from builder import build, preview
from builder.cli import main
from tests.builder.made_sources import Made, read_made, write_made
from tests.builder.source_files import write_files

BYTES, SHOWN = b"b\xff.csv", r"b\xff.csv"
LINE = (
    rf"{SHOWN}: its name is not valid UTF-8, so it cannot be stored; rename it, or its folder "
    "(\\x and two digits mean a byte that is not text)\n"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with a folder of three tables, one of them misnamed."""
    monkeypatch.chdir(tmp_path)
    write_files(
        tmp_path / "src",
        {os.fsdecode(name): f"x,y\n{number},1\n" for number, name in enumerate([b"a.csv", BYTES, b"c.csv"])},
    )
    return tmp_path


def command(*arguments: str) -> Result:
    """Run the command on a terminal that shows only ASCII; a traceback fails the test."""
    result = CliRunner(charset="ascii").invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_misnamed_source_is_named_in_every_build(place):
    for summary in ("2 sources added", "nothing new, 2 unchanged"):
        done = command("build", "src", "s.zarr", "--workers", "0")
        assert (done.exit_code, done.stderr) == (1, LINE)
        assert summary in done.stdout
        assert done.stdout.endswith("1 failed\n")
        inspected = command("inspect", "s.zarr")
        assert inspected.exit_code == 0
        assert SHOWN in inspected.stdout
        listed = json.loads(command("inspect", "s.zarr", "--json").stdout)["failures_listed"]
        assert [f"{one['source']}: {one['reason']}\n" for one in listed] == [LINE]
    (place / "src" / os.fsdecode(BYTES)).rename(place / "src/b.csv")
    done = command("build", "src", "s.zarr", "--workers", "0")
    assert (done.exit_code, done.stderr) == (0, "")
    assert store_spec.open_store(place / "s.zarr").sources == ("a.csv", "c.csv", "b.csv")
    assert json.loads(command("inspect", "s.zarr", "--json").stdout)["failures_listed"] == []


@pytest.mark.parametrize("options", [["--json"], ["--json", "--dry-run"]])
def test_json_is_utf8_without_halves_of_letters(place, options):
    (place / "src" / os.fsdecode(b"note\xff")).touch()  # it is not a source, but the dry run names it
    done = command("build", "src", "s.zarr", "--workers", "0", *options)
    assert (done.exit_code, done.stderr) == (1, LINE)
    found = json.loads(done.stdout)
    json.dumps(found, ensure_ascii=False).encode()  # raises for half a letter
    assert [one["source"] for one in found["failures"]] == [SHOWN]
    assert found["sources"] == 3


@pytest.mark.usefixtures("place")
def test_verify_with_sources_names_a_misnamed_source():
    command("build", "src", "s.zarr", "--workers", "0")
    done = command("verify", "s.zarr", "--sources", "src", "--workers", "0")
    assert (done.exit_code, done.stdout, done.stderr) == (1, f"s.zarr: {LINE}", "")


def test_a_single_misnamed_file_makes_no_store(place):
    done = command("build", os.path.join("src", os.fsdecode(BYTES)), "s.zarr")
    assert (done.exit_code, done.stderr) == (1, LINE)
    assert done.stdout == "s.zarr: no store was made, as no source could be used: 1 failed\n"
    assert not (place / "s.zarr").exists()


def test_a_manifest_with_a_row_for_it_labels_the_others(place):
    (place / "labels.csv").write_text("file,class\na,1\nb\N{REPLACEMENT CHARACTER},2\nc,3\n", encoding="utf-8")
    options = ["--manifest", "labels.csv", "--key", "file", "--label-column", "class", "--workers", "0"]
    done = command("build", "src", "s.zarr", *options)
    assert done.exit_code == 1
    assert done.stderr.startswith("there are no files for 1 source of the manifest: b")
    assert done.stderr.endswith(f"; --manifest-strict refuses that\n{LINE}")
    assert [int(labels[0]) for _, labels in store_spec.open_store(place / "s.zarr")] == [1, 3]
    (place / "src" / os.fsdecode(BYTES)).rename(place / "src/b.csv")
    refused = command("build", "src", "s.zarr", "--manifest", "labels.csv", "--workers", "0")
    assert refused.exit_code == 2
    assert "1 source (b.csv) without a row; 1 row (" in refused.stderr


def test_a_source_named_like_an_escaped_name_is_built_and_counted(place):
    build(place / "src", place / "s.zarr", workers=0)
    (place / "src" / SHOWN).write_text("x,y\n7,1\n")
    found = preview(place / "src", place / "s.zarr")
    assert (found.sources, found.new, found.failed, found.sampled) == (4, (SHOWN,), (), (SHOWN,))
    report = build(place / "src", place / "s.zarr", workers=0)
    assert (report.sources, report.added, [one.source for one in report.failures]) == (4, 1, [SHOWN])
    assert report.failures == found.failures
    assert store_spec.open_store(place / "s.zarr").sources == ("a.csv", "c.csv", SHOWN)
    (place / "src" / SHOWN).write_text("x,y\n8,1\n9,1\n")
    report = build(place / "src", place / "s.zarr", workers=0, update=True)
    assert (report.updated, report.unchanged, len(report.failures)) == (1, 2, 1)


def test_a_process_function_never_receives_a_misnamed_file(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made(), os.fsdecode(b"b\xff.made"): Made(seed=1), "c.made": Made(seed=2)})
    ticks: list[tuple[int, int]] = []
    report = build(
        tmp_path / "src",
        tmp_path / "s.zarr",
        process=read_made,
        workers=0,
        on_progress=lambda tally: ticks.append((tally.done, tally.sources)),
    )
    assert (report.added, [one.source for one in report.failures]) == (2, [r"b\xff.made"])
    assert (ticks[0], ticks[-1]) == ((1, 3), (3, 3))


@pytest.mark.parametrize(("options", "made"), [(["--fail-fast"], False), (["--max-failures", "1"], True)])
def test_a_misnamed_source_is_a_failure(place, options, made):
    done = command("build", "src", "s.zarr", "--workers", "0", *options)
    assert done.exit_code == 1
    assert SHOWN in done.stderr
    assert (place / "s.zarr").exists() == made
