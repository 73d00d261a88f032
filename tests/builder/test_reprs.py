"""What a prompt shows of what builds, previews, repairs and inspections return: one line."""

from __future__ import annotations

from pathlib import Path

from builder import build, inspect, preview, repair, tabular
from tests.builder.made_sources import Made, read_made, write_made


def test_results_are_one_line_each(tmp_path: Path):
    sources = {f"{number}.made": Made(lengths=(9, 4), seed=number) for number in range(3)}
    write_made(tmp_path / "in", sources | {"bad.made": Made(fault="raises")})
    store = tmp_path / "s.zarr"
    ahead = preview(tmp_path / "in", store, process=read_made)
    assert repr(ahead).startswith("<preview of s.zarr: 4 of 4 sources to process, ")
    assert repr(ahead).endswith(" bytes to read, 1 of 4 read for this failed>")
    assert repr(build(tmp_path / "in", store, process=read_made, workers=0)) == (
        "<build of s.zarr: 3 of 4 sources added, 0 unchanged, 0 updated, 0 retired, 1 failed; 6 sequences in the store>"
    )
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
