"""`verify --repair`: after any damage that the sources can make good, the store has the very bytes that it had."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import store_spec
from builder import build
from builder.cli import main
from builder.repair import repair
from store_spec import StoreError
from tests.builder.made_sources import Made, read_made, write_made
from tests.campaigns.rot_damage import ROOT, Case, losses, older_copies, swaps
from tests.campaigns.rot_stores import Specimen
from tests.store.oracle import files

NAMES = "sequences/source/c.0"  # nobody else has them
BOUNDS = (("offsets/c.0", "row_size"), ("label_offsets/c.0", "label_row_size"))  # each follows from the other alone
SOURCES = {
    f"{letter}.made": Made(lengths=(3, number + 1, 0, 7), seed=number) for number, letter in enumerate("abcdefg")
}


@pytest.fixture(scope="module", params=["step", "sequence", "own"])
def specimen(tmp_path_factory, request):
    """A store of several shards, of three commits, one of which retired a source."""
    place = tmp_path_factory.mktemp("repair")
    made = {name: replace(one, axis=request.param) for name, one in SOURCES.items()}
    options = {"process": read_made, "label_axis": request.param, "workers": 0, "chunk": 60, "shard": 240}
    commits = []
    for some in ("abcd", "abcdefg"):
        write_made(place / "src", {name: one for name, one in made.items() if name[0] in some})
        build(place / "src", place / "store", **options)
        commits.append(files(place / "store"))
    (place / "src" / "c.made").unlink()
    build(place / "src", place / "store", retire_missing=True, process=read_made, workers=0)
    commits.append(files(place / "store"))
    write_made(place / "src", {"c.made": made["c.made"]})
    return Specimen(path=place / "store", commits=commits)


def damage(path: Path, case: Case) -> None:
    for name, data in case.files.items():
        (path / name).unlink(missing_ok=True)
        if data is not None:
            (path / name).write_bytes(data)


def restored(specimen: Specimen, case: Case) -> str:
    """Damage a copy, repair it, and say what is not as it was."""
    path = specimen.path.with_name("copy")
    shutil.copytree(specimen.path, path)
    try:
        damage(path, case)
        done = repair(path, specimen.path.with_name("src"), process=read_made, workers=0)
        now = files(path)
        if now == specimen.files:
            return "" if done.left == () else f"all is as it was, but {done.left}"
        other = [name for name in now.keys() | specimen.files.keys() if now.get(name) != specimen.files.get(name)]
        return f"{other} differ; left: {[str(one) for one in done.left]}; {done.failures}"
    finally:
        shutil.rmtree(path)


def repairable(case: Case) -> bool:
    both = [{name, f"{sizes}/c.0"} <= case.files.keys() for name, sizes in BOUNDS]
    return not (case.harmless or any(both) or case.files.keys() & {ROOT, NAMES})


def test_lost_and_swapped_files_and_older_copies_of_them_are_put_again_as_they_were(specimen):
    cases = [case for case in (*losses(specimen), *swaps(specimen), *older_copies(specimen)) if repairable(case)]
    cases = random.Random(0).sample(cases, 60)
    wrong = {str(case): what for case in cases if (what := restored(specimen, case))}
    assert not wrong, "\n".join(f"{case}: {what}" for case, what in wrong.items())


def test_shards_are_put_by_workers_too_and_all_files_of_an_array_may_be_gone(specimen):
    path = specimen.path.with_name("copy")
    shutil.copytree(specimen.path, path)
    gone = [name for name in specimen.files if name.startswith(("inputs/c.", "stats/inputs_mean/c."))]
    for name in gone:
        (path / name).unlink()
    done = repair(path, specimen.path.with_name("src"), process=read_made, workers=2)
    assert files(path) == specimen.files
    assert done.files == tuple(sorted(gone))
    assert (done.failures, done.left) == ((), ())
    shutil.rmtree(path)


def test_a_sound_store_is_left_alone(specimen):
    before = {name: (specimen.path / name).stat().st_mtime_ns for name in specimen.files}
    done = repair(specimen.path, specimen.path.with_name("src"), process=read_made, workers=0)
    assert (done.found, done.files, done.failures, done.left) == ((), (), (), ())
    assert {name: (specimen.path / name).stat().st_mtime_ns for name in specimen.files} == before


@pytest.fixture
def damaged(tmp_path):
    """A store of whose sequences those of the second source lost rows, in the one shard that there is."""
    (tmp_path / "src").mkdir()
    for name in ("a", "b", "c"):
        rows = "".join(f"{number},{number * ord(name)}\n" for number in range(100))
        (tmp_path / "src" / f"{name}.csv").write_text(f"x,y\n{rows}")
    run("build", tmp_path / "src", tmp_path / "s.zarr", "--chunk", "160", "--codec", "none", "--workers", "0")
    shard = tmp_path / "s.zarr" / "inputs" / "c.0.0"
    data = bytearray(shard.read_bytes())
    data[150 * 16] ^= 1
    shard.write_bytes(data)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_the_command_repairs_and_says_what_it_did(damaged):
    before = store_spec.verify(damaged / "s.zarr")
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        *(f"was wrong: {problem}" for problem in before),
        "s.zarr: 1 file put again as they were; all well",
    ]
    assert run("verify", damaged / "s.zarr", "--sources", damaged / "src").exit_code == 0
    again = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair")
    assert again.stdout == "s.zarr: nothing was wrong; all well\n"


def test_a_source_that_changed_cannot_give_what_was_lost_and_an_update_puts_its_new_rows_in_their_place(damaged):
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    store = damaged / "s.zarr"
    before = files(store)
    result = run("verify", store, "--sources", damaged / "src", "--repair")
    assert result.exit_code == 1
    assert "b.csv: it gives other rows than the store had" in result.stderr
    assert "1 problem left" in result.stdout
    assert files(store) == before
    assert run("build", damaged / "src", store, "--update", "--workers", "0").exit_code == 0
    assert store_spec.open_store(store).sources == ("a.csv", "c.csv", "b.csv")
    result = run("verify", store)
    assert result.exit_code == 0, result.output
    assert "readers skip what is retired" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("all well")


def test_a_source_that_is_gone_is_named(damaged):
    (damaged / "src" / "b.csv").unlink()
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [failure["source"] for failure in found["failures"]] == ["b.csv"]
    assert found["files"] == []
    assert len(found["left"]) == 1


def test_a_source_that_cannot_be_read_now_is_named_with_the_reason(damaged):
    (damaged / "src" / "b.csv").write_text("")
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair")
    assert result.exit_code == 1
    assert result.stderr.startswith("b.csv: is empty")


def test_what_nobody_else_has_stays_lost_and_nothing_is_touched(specimen):
    for name in (NAMES, ROOT):
        path = specimen.path.with_name("copy")
        shutil.copytree(specimen.path, path)
        (path / name).write_bytes(b"")
        before = files(path)
        if name == ROOT:
            with pytest.raises(StoreError, match="not JSON"):
                repair(path, specimen.path.with_name("src"), process=read_made, workers=0)
        else:
            done = repair(path, specimen.path.with_name("src"), process=read_made, workers=0)
            assert [problem.where for problem in done.left] == [NAMES]
        assert files(path) == before
        shutil.rmtree(path)


def test_without_sources_nothing_can_be_repaired(damaged):
    result = run("verify", damaged / "s.zarr", "--repair")
    assert result.exit_code == 2
    assert "--repair goes with --sources" in result.stderr
