"""What a prompt shows of what builds, previews, repairs and inspections return: one line, and failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder import BuildError, build, inspect, preview, repair, tabular
from tests.builder.made_sources import Made, read_made, write_made


def test_results_are_one_line_each(tmp_path: Path):
    sources = {f"{number}.made": Made(lengths=(9, 4), seed=number) for number in range(3)}
    write_made(tmp_path / "in", sources | {"bad.made": Made(fault="raises")})
    store = tmp_path / "s.zarr"
    ahead = preview(tmp_path / "in", store, process=read_made)
    assert repr(ahead).startswith("<preview of s.zarr: 4 of 4 sources to process, ")
    assert repr(ahead).endswith(" bytes to read, 1 of 4 read for this failed>")
    first, second = repr(build(tmp_path / "in", store, process=read_made, workers=0)).splitlines()
    assert first.startswith("<build of s.zarr: 3 sources added, 6 sequences, 39 steps, ")
    assert first.endswith("; 1 failed>")
    assert second == "  bad.made: ValueError: bad.made: cannot be read (made_sources.py, line 57, in read_made)"
    found = repr(inspect(store))
    assert found.startswith("<inspection of s.zarr: 6 sequences of 3 sources, 39 steps, ")
    assert found.endswith(" files, 1 failures>")
    assert repr(repair(store, tmp_path / "in", process=read_made, workers=0)) == (
        "<repair: 0 problems, 0 files restored, 0 left>"
    )


def test_a_process_function_for_tables_shows_the_options_that_were_given():
    assert repr(tabular()) == "tabular()"
    process = tabular(inputs="a,b", label_pattern="(.)", missing="drop", sort_time=True, time="t")
    assert repr(process) == (
        "tabular(inputs=['a', 'b'], label_pattern='(.)', missing=['drop'], sort_time=True, time=['t'])"
    )


def test_a_build_of_which_nothing_can_be_used_is_an_error_unless_failures_are_expected(tmp_path: Path):
    write_made(tmp_path / "in", {f"{number}.made": Made(fault="raises") for number in range(7)})
    write_made(tmp_path / "in", {"empty.made": Made(fault="nothing")})
    with pytest.raises(BuildError) as caught:
        build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("s.zarr: no store was made, as no source could be used: 7 failed, 1 skipped as empty")
    assert lines[1].startswith("  0.made: ValueError: 0.made: cannot be read")
    assert (len(lines), lines[-1]) == (7, "  and 2 more: see failures")
    report = build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0, max_failures="100%")
    assert (len(report.failures), len(report.skipped)) == (7, 1)
    for number in range(7):
        (tmp_path / f"in/{number}.made").unlink()
    with pytest.raises(
        BuildError, match=r"no source could be used: 0 failed, 1 skipped as empty\s+empty.made: it gave no"
    ):
        build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0)
    write_made(tmp_path / "in", {"good.made": Made()})
    build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0)
    write_made(tmp_path / "in", {"0.made": Made(fault="raises")})
    assert len(build(tmp_path / "in", tmp_path / "s.zarr", process=read_made, workers=0).failures) == 1
