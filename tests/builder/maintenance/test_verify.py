"""`verify` compares every row with its source and names each kind of difference, also on worker processes."""

import errno
import json
import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import builder
import store_spec
from builder import BuildError, UsageError, build, tabular
from builder.maintenance.checks import Checking, verify_sources
from builder.workers.engine import InProcessEngine
from store_spec.errors import StorageError
from store_spec.schema import LabelAxis
from store_spec.verification import parts as verify_parts
from tests.builder.command import seqzarr
from tests.builder.made_sources import Made, read_made, write_made
from tests.builder.source_files import write_file, write_files
from tests.store.damage import flipped
from tests.store.oracle import Recipe, make, write

SOURCES = {f"{letter}.made": Made(lengths=(3, number + 1), seed=number) for number, letter in enumerate("abcd")}


EVERY_AXIS = pytest.mark.parametrize("place", ["step", "sequence", "own"], indirect=True)


@pytest.fixture
def place(tmp_path, request):
    """A folder of sources, and their store: with a label per step, unless a test is about every axis."""
    axis: LabelAxis = getattr(request, "param", "step")
    made = {name: Made(lengths=one.lengths, seed=one.seed, axis=axis) for name, one in SOURCES.items()}
    write_made(tmp_path / "src", made)
    build(tmp_path / "src", tmp_path / "store", process=read_made, label_axis=axis, workers=0, chunk=60)
    return tmp_path


def problems(place: Path, workers: int = 0) -> list[str]:
    found = verify_sources(place / "store", place / "src", process=read_made, workers=workers)
    return [problem.what for problem in found]


@pytest.mark.slow
@EVERY_AXIS
def test_a_store_equals_its_sources(place):
    assert problems(place) == []
    assert problems(place, workers=1) == []


@EVERY_AXIS
def test_each_changed_source_is_named(place):
    axis = store_spec.open_store(place / "store").schema.label_axis
    other = {
        "a.made": Made(lengths=(3, 1), seed=9, axis=axis),
        "b.made": Made(lengths=(3,), seed=1, axis=axis),
        "c.made": Made(lengths=(4, 3), seed=2, axis=axis),
        "d.made": Made(fault="raises", axis=axis),
    }
    write_made(place / "src", other)
    a, b, c, d = problems(place)
    assert a.startswith("a.made: sequence 0: inputs: row 1, column 0 is ")
    assert a.endswith(" (9 values differ)")
    assert b == "b.made: number of sequences: 1, but the store has 2"
    assert c == "c.made: sequence 4: inputs: 4 rows, but the store has 3"
    assert d.startswith("d.made: cannot be compared: ValueError: ")


def test_new_and_vanished_sources_are_named(place):
    (place / "src" / "a.made").rename(place / "src" / "z.made")
    assert problems(place) == [
        "a.made: no longer exists, so it was not compared",
        "z.made: is not in the store; a build adds it",
    ]


def test_a_source_that_failed_in_the_last_build_is_shown_with_the_reason(place):
    write_made(place / "src", {"z.made": Made(fault="raises")})
    build(place / "src", place / "store", process=read_made, workers=0)
    (said,) = problems(place)
    assert said.startswith("z.made: is not in the store: it failed in the last build: ")


def test_sources_with_rows_in_a_damaged_shard_are_named_in_one_line(place):
    flipped("inputs/c.0.0", -1)(place / "store")
    (said,) = problems(place)
    assert re.match(r"4 sources \(a\.made, b\.made, c\.made, \.\.\.\): rows in the store cannot be read: .*0\.0", said)


def test_too_many_open_files_are_not_a_failure_of_a_source(place, monkeypatch):
    opening = os.open

    def failing(name, *args, **options):
        if str(name).endswith("inputs/c.0.0"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opening(name, *args, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(StorageError, match=r"inputs/c\.0\.0: opening failed: Too many open files"):
        problems(place)


def test_a_missing_store_or_one_of_a_writer_is_refused(tmp_path):
    write_made(tmp_path / "src", SOURCES)
    with pytest.raises(UsageError, match="there is no store"):
        verify_sources(tmp_path / "store", tmp_path / "src", process=read_made)
    store_spec.create_store(tmp_path / "store", inputs=("int8", ()), labels=("int8", ())).commit()
    with pytest.raises(UsageError, match="no build made this store"):
        verify_sources(tmp_path / "store", tmp_path / "src", process=read_made)


def write_rows(path: Path, values: Sequence[object]) -> None:
    """Write a table whose column y has these values; in text, comments and blank lines are between its rows."""
    if path.suffix == ".csv":
        rows = "".join(f"{number},{value}\n# a comment\n\n" for number, value in enumerate(values))
        path.write_text(f"# made by hand\nx,y\n{rows}")
    elif path.suffix == ".jsonl":
        path.write_text("".join(f'{{"x": {number}, "y": {value}}}\n\n' for number, value in enumerate(values)))
    else:
        numbers = [None if value == "null" else value for value in values]
        write_file(path, {"x": range(len(values)), "y": numbers})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_have_the_numbers_and_columns_the_names_that_a_build_gives_them(tmp_path, suffix):
    (tmp_path / "src").mkdir()
    source, good = tmp_path / "src" / f"b{suffix}", [10, 20, 30, 40, 50]
    process = tabular(comment="#") if suffix == ".csv" else tabular()
    write_rows(source, [*good[:3], "null", 50])
    write_rows(tmp_path / "src" / f"a{suffix}", good)
    (failure,) = build(tmp_path / "src", tmp_path / "bad", process=process, workers=0).failures
    assert failure.reason.startswith("row 4, column y: missing value")
    write_rows(source, good)
    build(tmp_path / "src", tmp_path / "store", process=process, workers=0)
    write_rows(source, [*good[:3], 41, 50])
    (problem,) = verify_sources(tmp_path / "store", tmp_path / "src", workers=0)
    assert "inputs: row 4, column y is 41" in problem.what


def test_differences_after_dropped_rows_have_the_step_of_the_sequence(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n\n3\n4\n")
    build(tmp_path / "a.csv", tmp_path / "store", process=tabular(missing="drop"), workers=0)
    (tmp_path / "a.csv").write_text("x\n1\n\n3\n5\n")
    (problem,) = verify_sources(tmp_path / "store", tmp_path / "a.csv", workers=0)
    assert "inputs: step 3, column x is 5.0" in problem.what


def test_the_command_compares_with_sources(tmp_path):
    write_files(tmp_path / "src", {f"{name}.csv": "x,y\n1,2\n3,4\n" for name in "ab"})
    store = str(tmp_path / "s.zarr")
    seqzarr("build", tmp_path / "src", store)
    arguments = ["verify", store, "--sources", str(tmp_path / "src")]
    result = seqzarr(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"all well: 2 sequences, 4 steps checked, and compared with {tmp_path / 'src'}\n"
    write_files(tmp_path / "src", {"b.csv": "x,y\n5,6\n"})
    seqzarr("build", tmp_path / "src", store, "--update")
    assert seqzarr(*arguments).stdout.startswith("all well: 2 sequences, 3 steps checked, and")  # not the retired one
    write_files(tmp_path / "src", {"b.csv": "x,y\n1,2\n3,4\n"})
    seqzarr("build", tmp_path / "src", store, "--update")
    one_bit_more = float(np.nextafter(np.float32(4), np.float32(5)))
    (tmp_path / "src" / "b.csv").write_text(f"x,y\n1,2\n3,{one_bit_more}\n")
    differs = f"row 2, column y is {one_bit_more}, but the store has 4.0 (1 value differs)"
    line = f"s.zarr: b.csv: sequence 3: inputs: {differs}\n"
    assert seqzarr(*arguments, status=1).stdout == line
    found = json.loads(seqzarr(*arguments, "--json").stdout)
    assert [problem["what"] for problem in found["problems"]] == [line.removeprefix("s.zarr: ").rstrip()]
    assert seqzarr("verify", store, "--manifest", "t.csv").exit_code == 2


RECIPE = Recipe(chunk=48, shard=96, codec="none")
LENGTHS = np.random.default_rng(0).integers(0, 40, 30).tolist()


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    path = write(RECIPE, tmp_path / "prices.zarr", make(RECIPE, LENGTHS))
    monkeypatch.setattr(verify_parts, "PART_BYTES", 300)  # a dozen parts and more
    (path / "inputs/c.3.0").unlink()
    flipped("labels/c.9", 0)(path)
    shutil.copy(path / "inputs/c.20.0", path / "inputs/c.19.0")
    return path


@pytest.mark.slow
def test_threads_and_workers_find_the_same_problems_in_the_same_order(damaged):
    alone = store_spec.verify(damaged)
    assert len(alone) > 2
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert store_spec.verify(damaged, mapper=pool.map) == alone
    for workers in (0, 2):
        assert builder.verify(damaged, workers=workers) == alone


def test_a_check_reports_progress_from_start_to_end(damaged):
    seen: list[tuple[int, int, int]] = []

    def note(checking: Checking) -> None:
        seen.append((checking.to_check, checking.checked, checking.problems))

    builder.verify(damaged, workers=0, on_progress=note)
    wanted = {to_check for to_check, _, _ in seen}
    assert len(wanted) == 1
    assert seen[0][1:] == (0, 0)
    assert seen[-1][1] in wanted
    assert seen[-1][2] >= 2
    assert [checked for _, checked, _ in seen] == sorted(checked for _, checked, _ in seen)
    assert len(seen) > 12


def test_if_workers_die_repeatedly_an_error_says_what_was_checked(damaged, monkeypatch):
    def dying(*_):
        raise ChildProcessError

    engine = InProcessEngine()
    engine.death_errors = (ChildProcessError,)
    monkeypatch.setattr("builder.maintenance.checks.start_engine", lambda *_: nullcontext(engine))
    monkeypatch.setattr("store_spec.verification.described_rows.PartCheck.__call__", dying)
    with pytest.raises(BuildError, match=r"while rows [\d,]+ to [\d,]+ of inputs were checked"):
        builder.verify(damaged, workers=0)


def test_the_command_names_file_sequences_sources_and_what_to_do(damaged):
    lines = seqzarr("verify", damaged, status=1).stdout.splitlines()
    assert lines == [str(problem) for problem in store_spec.verify(damaged)]
    (lost,) = [line for line in lines if "inputs/c.3.0" in line]
    assert "missing" in lost
    assert "concerns" in lost
    found = json.loads(seqzarr("verify", damaged, "--json", "--workers", "0").stdout)
    (lost,) = [one for one in found["problems"] if one["where"] == "inputs/c.3.0"]
    names = store_spec.open_store(damaged).sources
    ((start, stop),) = lost["sequences"]
    assert lost["sources"] == list(dict.fromkeys(names[start:stop]))


def test_the_quiet_command_prints_nothing_for_a_valid_store(tmp_path):
    path = write(RECIPE, tmp_path / "s", make(RECIPE, [3]))
    assert seqzarr("verify", path, "--quiet", status=0).output == ""
