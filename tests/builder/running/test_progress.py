"""The output of a build while it runs, and its last line."""

import io
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from builder import build
from builder.amounts import bytes_text, printable, seconds_text
from builder.execution.progress_bar import Screen, View, of_build, show_progress
from builder.execution.report import Tally
from builder.maintenance.checks import Checking, of_check
from builder.planning.resolved_sources import FILE_COST
from builder.workers.process_source import Failure
from tests.builder.command import seqzarr
from tests.builder.made_sources import Made, read_made, write_made
from tests.builder.source_files import write_files

PRINTED = Path()
FAILURES = (Failure("a.csv", "is empty"), Failure("b.csv", "is empty"))


def test_the_summary_says_what_was_done(tmp_path):
    made = build(make_sources(tmp_path), tmp_path / "prices.zarr", process=read_made, workers=0)
    report = replace(made, bytes_read=412_345, bytes_decoded=320_000, bytes_written=100_000, seconds=2.14)
    work = "412.3 kB read, 320.0 kB decoded, 100.0 kB written (3.2 to 1) in 2.1 s"
    assert report.summary == f"prices.zarr: 3 sources added, 15 steps, {work}; 0 failed"
    cleaned = replace(report, added=1, unchanged=267, failures=FAILURES, sequences=2, steps=1, dropped=12, filled=1)
    assert cleaned.summary == (
        "prices.zarr: 1 source added, 267 unchanged, 2 sequences, 1 step (12 more dropped, 1 value filled in), "
        f"{work}; 2 failed"
    )
    nothing = replace(report, added=0, sequences=0, unchanged=267, retired=3)
    assert nothing.summary == "prices.zarr: 3 sources retired, 267 unchanged; 0 failed"
    ignored = replace(nothing, retired=0, ignored=7, ignored_listed=("a.doc", "b/README"))
    assert ignored.summary == (
        "prices.zarr: nothing new, 267 unchanged; 0 failed; 7 files ignored (a.doc, b/README, ...)"
    )


def test_the_fraction_done_counts_files_and_bytes():
    assert of_build(Tally(sources=4)).fraction is None
    tally = Tally(sources=4, done=1, bytes_to_read=4 * FILE_COST, bytes_read=3 * FILE_COST)
    assert of_build(tally).fraction == 0.5
    tally.bytes_read = 100 * FILE_COST  # a file has grown
    assert of_build(tally).fraction == 1


def test_the_time_left_is_what_the_rest_takes_at_the_pace_so_far(monkeypatch):
    tally = Tally(sources=4, done=1, bytes_to_read=12_000_000, bytes_read=3_000_000, started=100.0)
    monkeypatch.setattr("builder.execution.report.time.monotonic", lambda: 130.0)
    assert of_build(tally).pace == "25 %, 100.0 kB/s, 1:30 left"


def test_the_screen_fits_80_columns_and_names_all_figures():
    tally = Tally(
        sources=56_789, done=12_345, steps=123_456_789, bytes_to_read=10**10, bytes_read=2 * 10**9, bytes_written=10**9
    )
    tally.failures.extend(FAILURES)
    name = "a-name-that-is-longer-than-the-room-there-is-for-it.zarr"
    screen, out = Screen(name, of_build, "listing the sources"), io.StringIO()
    console = Console(file=out, width=80)
    console.print(screen)
    screen.update(tally)
    console.print(screen)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert "listing the sources" in lines[0]
    assert "20 %" in lines[1]
    assert lines[2].rstrip() == "12,345 of 56,789 sources, 123,456,789 steps, 2.0 GB in, 1.0 GB out; 2 failed"
    assert of_build(tally).account == lines[2].rstrip()
    assert max(map(len, lines)) <= 80


def test_a_check_shows_progress(monkeypatch):
    checking = Checking(to_check=12_000_000, started=100.0)
    assert of_check(checking) == View(fraction=None, pace="starting", account="0 bytes of 12.0 MB checked")
    monkeypatch.setattr("builder.maintenance.checks.time.monotonic", lambda: 130.0)
    checking.checked, checking.problems = 3_000_000, 1
    assert of_check(checking) == View(
        fraction=0.25, pace="25 %, 100.0 kB/s, 1:30 left", account="3.0 MB of 12.0 MB checked; 1 problem"
    )


def test_a_build_reports_progress_from_start_to_end(tmp_path):
    write_files(tmp_path / "tables", {f"{number}.csv": "a\n1\n2\n" for number in range(4)})
    seen: list[tuple[int, int, int]] = []
    build(
        tmp_path / "tables",
        tmp_path / "t.zarr",
        workers=0,
        batch=1,
        on_progress=lambda tally: seen.append((tally.sources, tally.done, tally.committed)),
    )
    assert seen[0] == (4, 0, 0)
    assert seen[-1] == (4, 4, 4)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (999_949, "999.9 kB"), (999_950, "1,000.0 kB"), (2e18, "2.0 EB")],
)
def test_bytes_have_a_suitable_unit(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1:01"), (3600, "1:00:00")])
def test_times_are_written_as_clocks_do(seconds, text):
    assert seconds_text(seconds) == text


def test_untrusted_text_cannot_command_a_terminal():
    assert printable("a  b\x1b[31m\r\n\tc\x07é\u202e") == "a  b\\x1b[31m c\\x07é\\u202e"


class Notebook:
    """The parts of IPython in a notebook: a kernel, and displays that are updated in place."""

    kernel = None

    def __init__(self) -> None:
        self.shown: list[list[dict[str, str]]] = []  # the contents of each display, one after another

    def get_ipython(self) -> Any:
        return self

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        contents = [content]
        self.shown.append(contents)
        return SimpleNamespace(update=lambda content, raw: contents.append(content) if raw else None)


def make_sources(place: Path) -> Path:
    write_made(place / "src", {f"{number}.made": Made() for number in range(3)})
    return place / "src"


def test_a_notebook_shows_one_bar_that_is_updated_in_place(tmp_path, monkeypatch, capsys):
    notebook = Notebook()
    for name in ("IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, notebook)
    monkeypatch.setattr("builder.execution.progress_bar.NOTEBOOK_SECONDS", 0.001)
    build(make_sources(tmp_path), tmp_path / "a.zarr", process=read_made, workers=0)
    (contents,) = notebook.shown
    assert contents[0]["text/plain"] == "a.zarr: listing the sources"
    assert "; 3 of 3 sources, 15 steps" in contents[-1]["text/plain"]
    assert contents[-1]["text/html"].startswith('<progress value="1.000"></progress> a.zarr: 100 %')
    build(tmp_path / "src", tmp_path / "b.zarr", process=read_made, workers=0, progress=False)
    assert len(notebook.shown) == 1
    assert capsys.readouterr() == ("", "")


def slow(path: Path) -> Any:
    """Wait until a line was printed."""
    deadline = time.monotonic() + 60
    while not PRINTED.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return read_made(path)


def test_without_a_terminal_progress_is_a_line_now_and_then(tmp_path, monkeypatch, capsys):
    seen = tmp_path / "seen"
    monkeypatch.setattr(sys.modules[__name__], "PRINTED", seen)
    monkeypatch.setattr("builder.execution.progress_bar.LINE_SECONDS", 0.01)
    line = Screen.line
    monkeypatch.setattr(Screen, "line", lambda self: (line(self), seen.touch())[0])
    build(make_sources(tmp_path), tmp_path / "a.zarr", process=slow, workers=0, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err
    assert all(line.startswith("a.zarr: ") for line in err.splitlines())
    seen.unlink()
    done = seqzarr("build", tmp_path / "src", tmp_path / "b.zarr", "--process", f"{__name__}:slow", "--workers", "0")
    assert "of 3 sources, " in done.stderr
    options = ["--process", "tests.builder.made_sources:read_made", "--workers", "0", "--quiet"]
    assert seqzarr("build", tmp_path / "src", tmp_path / "c.zarr", *options).stderr == ""


@pytest.mark.parametrize("together", [True, False])
def test_what_a_function_prints_appears_above_the_bar_if_both_are_on_the_terminal(monkeypatch, *, together):
    terminal, out = io.StringIO(), io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: together)
    monkeypatch.setattr(sys, "stdout", out)
    console = Console(file=terminal, force_terminal=True, width=80)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    with show_progress("a.zarr", of_build, begin="listing"):
        print("a line")
    assert (terminal.getvalue().count("a line"), out.getvalue()) == ((1, "") if together else (0, "a line\n"))


def test_by_default_python_shows_no_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("builder.execution.progress_bar.LINE_SECONDS", 0.0001)
    build(make_sources(tmp_path), tmp_path / "a.zarr", process=read_made, workers=0)
    assert capsys.readouterr() == ("", "")
