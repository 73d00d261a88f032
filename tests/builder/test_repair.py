"""`verify --repair`: after any damage that the sources can make good, the store has the very bytes that it had."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import store_spec
from builder import build, tabular
from builder.cli import main
from builder.lost_names import Nameless, guessed
from builder.repair import Repair, repair
from store_spec import StoreError
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.errors import ConflictError, LockedError, StorageError
from store_spec.verification.damage import Damage, DamagedFile
from store_spec.verification.problems import Problem
from store_spec.verification.repair import is_closed, readable, restore_bounds, restore_rows
from tests.builder.made_sources import Made, read_made, write_made
from tests.campaigns.rot_damage import ROOT, Case, losses, older_copies, swaps
from tests.campaigns.rot_stores import Specimen, small_tables
from tests.store.oracle import files

MODULES = ("builder.repair", "builder.restoring", "builder.given_again")
NAMES = "sequences/source/c.0"
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


class Counted:
    """Calls a function, and counts the calls."""

    def __init__(self, call):
        self.call, self.calls = call, 0

    def __call__(self, *args, **options):
        self.calls += 1
        return self.call(*args, **options)


def counted(monkeypatch, name):
    module = next(one for one in map(sys.modules.get, MODULES) if hasattr(one, name))
    monkeypatch.setattr(module, name, found := Counted(getattr(module, name)))
    return found


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


def check_lost(specimen: Specimen, gone: list[str], workers: int = 0) -> None:
    """Repair a copy without these files, which puts them all again."""
    path = specimen.path.with_name("copy")
    shutil.copytree(specimen.path, path)
    for name in gone:
        (path / name).unlink()
    done = repair(path, specimen.path.with_name("src"), process=read_made, workers=workers)
    assert (done.failures, done.left, done.files) == ((), (), tuple(sorted(gone)))
    assert files(path) == specimen.files
    shutil.rmtree(path)


def repairable(case: Case) -> bool:
    # Names are told from the hashes and the parts of sources, and these from the names.
    tables = [name for name in case.files if name.startswith("sequences/")]
    return not (case.harmless or ROOT in case.files or (NAMES in tables and len(tables) > 1))


def test_lost_and_swapped_files_and_older_copies_of_them_are_put_again_as_they_were(specimen):
    cases = [case for case in (*losses(specimen), *swaps(specimen), *older_copies(specimen)) if repairable(case)]
    cases = random.Random(0).sample(cases, 60)
    wrong = {str(case): what for case in cases if (what := restored(specimen, case))}
    assert not wrong, "\n".join(f"{case}: {what}" for case, what in wrong.items())


def test_shards_are_put_by_workers_too_and_all_files_of_an_array_may_be_gone(specimen):
    gone = [name for name in specimen.files if name.startswith(("inputs/c.", "stats/inputs_mean/c."))]
    check_lost(specimen, gone, workers=2)


def test_a_sound_store_is_left_alone(specimen):
    before = {name: (specimen.path / name).stat().st_mtime_ns for name in specimen.files}
    done = repair(specimen.path, specimen.path.with_name("src"), process=read_made, workers=0)
    assert done == Repair(found=(), files=(), rebuilt=(), failures=(), left=())
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


def test_where_a_source_changed_all_that_lost_rows_with_it_is_retired_and_built_again(damaged):
    """The damaged chunk has rows of b alone; then one with rows of a and b."""
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    store = damaged / "s.zarr"
    old = store_spec.open_store(store)
    a, c = old[0], old[2]
    result = run("verify", store, "--sources", damaged / "src", "--repair")
    assert result.exit_code == 0, result.output
    assert "b.csv: it gives other rows now than the store had" in result.stderr
    line, last = result.stdout.splitlines()[-2:]
    assert last == (
        "s.zarr: 0 files put again as they were, 1 source built again; 1 problem left, of retired sequences alone"
    )
    assert line.endswith(
        "readers skip what is retired, and so all of this: it is no failure, and `seqzarr compact` leaves it behind"
    )
    verified = run("verify", store)
    assert (verified.exit_code, verified.stdout.splitlines()[0]) == (0, line)
    assert verified.stdout.splitlines()[1] == "all well but for what is retired: 4 sequences, 301 steps checked"
    now = store_spec.open_store(store)
    assert now.sources == ("a.csv", "c.csv", "b.csv")
    assert [len(now[number][0]) for number in range(3)] == [100, 100, 1]

    shard = store / "inputs" / "c.0.0"
    data = bytearray(shard.read_bytes())
    data[97 * 16] ^= 1  # a's last rows and the first of b, which is retired
    shard.write_bytes(data)
    result = run("verify", store, "--sources", damaged / "src", "--repair")
    assert result.exit_code == 0, result.output
    now = store_spec.open_store(store)
    assert now.sources == ("c.csv", "b.csv", "a.csv")
    for number, (inputs, labels) in ((0, c), (2, a)):
        assert np.array_equal(now[number][0], inputs)
        assert np.array_equal(now[number][1], labels)
    verified = run("verify", store)
    assert verified.exit_code == 0, verified.output
    assert verified.stdout.splitlines()[-1].startswith("all well but for what is retired")
    run("compact", store, damaged / "compacted")
    assert run("verify", damaged / "compacted").stdout.startswith("all well: 3 sequences")


def test_a_repair_builds_nothing_that_is_new_and_forgets_no_failure(damaged):
    (damaged / "src" / "empty.csv").write_text("")
    assert run("build", damaged / "src", damaged / "s.zarr", "--workers", "0").exit_code == 1
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    (damaged / "src" / "new.csv").write_text("x,y\n1,2\n")
    assert run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair").exit_code == 0
    now = store_spec.open_store(damaged / "s.zarr")
    assert now.sources == ("a.csv", "c.csv", "b.csv")
    assert [one["source"] for one in now.provenance["failures"]["listed"]] == ["empty.csv"]


def test_an_older_root_is_not_taken_for_the_store(damaged):
    store = damaged / "s.zarr"
    old = (store / ROOT).read_bytes()
    (damaged / "src" / "d.csv").write_text("x,y\n" + "1,2\n" * 3000)
    run("build", damaged / "src", store, "--workers", "0")
    whole = files(store)
    (store / ROOT).write_bytes(old)
    result = run("verify", store, "--sources", damaged / "src", "--repair")
    assert result.exit_code == 1
    assert "an older copy" in result.stderr
    assert files(store) == whole | {ROOT: old}


def test_paths_may_be_relative_and_many_files_lost(tmp_path, monkeypatch):
    made = {f"{name}.made": Made(lengths=(20, 0, 30), seed=ord(name)) for name in "abcdefghij"}
    write_made(tmp_path / "src", made)
    build(tmp_path / "src", tmp_path / "s.zarr", process=read_made, workers=0, chunk=60, shard=60)
    before = files(tmp_path / "s.zarr")
    gone = [name for name in before if name.startswith(("inputs/c.", "labels/c."))]
    assert len(gone) > 100
    for name in gone[::2]:
        (tmp_path / "s.zarr" / name).unlink()
    monkeypatch.chdir(tmp_path)
    checks = counted(monkeypatch, "verify")
    done = repair("s.zarr", "src", process=read_made, workers=0)
    assert files(tmp_path / "s.zarr") == before
    assert done.files == tuple(sorted(gone[::2]))
    assert checks.calls == 2


def test_one_damaged_chunk_of_a_long_sequence_touches_one_file_and_reads_its_source_once(tmp_path, monkeypatch):
    write_made(tmp_path / "src", {"a.made": Made(lengths=(500,)), "b.made": Made(lengths=(3,), seed=1)})
    build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0, chunk=60, shard=120, codec="none")
    before, times = files(tmp_path / "s"), {}
    shard = tmp_path / "s" / "inputs" / "c.7.0"
    shard.write_bytes(shard.read_bytes()[:-9] + b"123456789")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("c.*") if path != shard}
    reads = counted(monkeypatch, "read_source")
    done = repair(tmp_path / "s", tmp_path / "src", process=read_made, workers=0)
    assert (files(tmp_path / "s"), done.files, reads.calls) == (before, ("inputs/c.7.0",), 1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    shutil.copy(
        tmp_path / "s" / "inputs" / "c.7.0", tmp_path / "s" / "inputs" / "c.8.0"
    )  # a sound file in another's place
    done = repair(tmp_path / "s", tmp_path / "src", process=read_made, workers=0)
    assert (files(tmp_path / "s"), done.files) == (before, ("inputs/c.8.0",))


def test_rows_are_put_though_tables_cannot_be(specimen):
    """A hash of a file that is gone is lost for good, and keeps nothing else from being put right."""
    path, src = specimen.path.with_name("copy"), specimen.path.with_name("src without c")
    shutil.copytree(specimen.path, path)
    shutil.copytree(specimen.path.with_name("src"), src)
    (src / "c.made").unlink()
    for name in ("sequences/source_sha256/c.0.0", "inputs/c.0.0", "stats/inputs_mean/c.0.0"):
        (path / name).unlink()
    done = repair(path, src, process=read_made, workers=0)
    assert set(done.files) == {"inputs/c.0.0", "stats/inputs_mean/c.0.0"}
    assert {problem.where for problem in done.left} == {"sequences/source_sha256/c.0.0"}
    shutil.rmtree(path)
    shutil.rmtree(src)


def test_a_file_that_is_bad_whenever_it_was_put_ends_the_repair(damaged, monkeypatch):
    put = LocalStorage.put

    def failing(storage, key, parts):
        put(storage, key, parts)
        if key == "inputs/c.0.0":
            path = storage.path(key)
            path.write_bytes(path.read_bytes()[:-1] + b"\0")

    monkeypatch.setattr(LocalStorage, "put", failing)
    done = repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert done.files == ("inputs/c.0.0",)
    assert [problem.where for problem in done.left] == ["inputs/c.0.0"]


def test_a_full_disk_ends_the_repair_and_nothing_is_retired_for_it(damaged, monkeypatch):
    """Even where there is room again a moment later: the source gives the very rows that were lost."""
    before, write = files(damaged / "s.zarr"), os.write

    def full_once(descriptor, data):
        if "/inputs/c.0.0." in os.readlink(f"/proc/self/fd/{descriptor}"):
            patch.undo()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_once)
        with pytest.raises(StorageError, match=r"inputs/c\.0\.0: writing failed: No space left on device"):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert files(damaged / "s.zarr") == before
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).files == ("inputs/c.0.0",)


@pytest.mark.parametrize(
    "looked",
    [
        lambda snapshot: Damage.of(
            snapshot, [Problem(store="s", where="inputs/c.0.0", what="lost", sequences=((0, 1),))]
        ),
        lambda snapshot: is_closed(snapshot, DamagedFile(array="inputs", number=last_shard(snapshot), lost=())),
        lambda snapshot: readable(snapshot, "row_size"),
        restore_bounds,
    ],
    ids=["damage", "closed", "readable", "bounds"],
)
def test_too_many_open_files_say_nothing_of_the_store(specimen, monkeypatch, looked):
    """Nor do they where what a repair does next depends on whether a file can be read."""

    def failing(*_):
        raise StorageError(errno.EMFILE, os.strerror(errno.EMFILE))

    snapshot = Snapshot.open(specimen.path)
    monkeypatch.setattr(LocalStorage, "get", failing)
    with pytest.raises(StorageError, match="Too many open files"):
        looked(snapshot)


def last_shard(snapshot):
    """Return the number of the last shard of the inputs, which is not full."""
    steps, size = snapshot.root.counts.steps, snapshot.root.schema.chunking("inputs").shard
    assert steps % size
    return steps // size


@pytest.mark.parametrize("lost", ["inputs/c.0.0", "offsets/c.0 row_size/c.0", "sequences/source_sha256/c.0.0", NAMES])
def test_too_many_open_files_say_nothing_of_the_sources(damaged, monkeypatch, lost):
    """Whatever they are read for: the rows that were lost, lengths, hashes, or to see which of them are these."""
    for name in lost.split():
        (damaged / "s.zarr" / name).unlink()
    before, opening = files(damaged / "s.zarr"), os.open

    def failing(name, *args, **options):
        if str(name).endswith("src/b.csv"):
            patch.undo()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opening(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        with pytest.raises(StorageError, match=r"b\.csv: reading failed: Too many open files"):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert files(damaged / "s.zarr") == before
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()


def test_a_repair_that_runs_out_of_memory_says_nothing_of_the_sources(damaged, monkeypatch):
    (damaged / "s.zarr" / "inputs/c.0.0").unlink()
    before = files(damaged / "s.zarr")

    def failing(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("builder.one_source.read_fingerprint", failing)
        with pytest.raises(StorageError, match=r"\.csv: reading failed: out of memory; try again with more"):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert files(damaged / "s.zarr") == before
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()


def test_what_a_repair_put_that_was_killed_is_synced_by_the_next_one(damaged, monkeypatch):
    """It finds nothing to put, and a power cut must not take away what it says is well."""
    sync, synced = LocalStorage.sync, []

    def killed(storage, keys):
        synced.append(list(keys))
        if synced[-1] == ["inputs"]:
            raise KeyboardInterrupt
        sync(storage, synced[-1])

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "sync", killed)
        with pytest.raises(KeyboardInterrupt):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
        synced.clear()
        assert repair(damaged / "s.zarr", damaged / "src", workers=0).found == ()
    assert "inputs" in {folder for folders in synced for folder in folders}


def test_a_store_that_somebody_writes_to_is_refused_before_it_is_checked(damaged, monkeypatch):
    """A check of a large store takes long, and all of it would be for nothing."""
    checks = counted(monkeypatch, "verify")
    before = files(damaged / "s.zarr")
    with store_spec.open_store(damaged / "s.zarr", "a"):
        with pytest.raises(LockedError, match="is writing to it; wait until it has ended"):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
        assert checks.calls == 0
    assert files(damaged / "s.zarr") == before
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()


def test_nobody_writes_while_a_repair_checks(damaged, monkeypatch):
    module = sys.modules["builder.repair"]
    verify, refused = module.verify, []

    def checking(*arguments, **options):
        with pytest.raises(LockedError), store_spec.open_store(damaged / "s.zarr", "a"):
            pass
        refused.append(1)
        return verify(*arguments, **options)

    monkeypatch.setattr(module, "verify", checking)
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()
    assert len(refused) == 2


def test_what_an_older_snapshot_would_put_is_refused(damaged):
    """A task of a repair that was cut off ends after a writer committed more rows to the last shard."""
    store = store_spec.open_store(damaged / "s.zarr")
    (damaged / "src" / "d.csv").write_text("x,y\n" + "1,2\n" * 30)
    shard = damaged / "s.zarr" / "inputs" / "c.0.0"
    lost = DamagedFile(array="inputs", number=0, lost=(1,))
    given = {1: np.stack([np.arange(100.0), np.arange(100.0) * ord("b")], axis=1)}
    run("build", damaged / "src", damaged / "s.zarr", "--workers", "0")
    before = shard.read_bytes()
    with pytest.raises(ConflictError, match="a writer committed meanwhile"):
        restore_rows(store.snapshot, lost, given)
    assert shard.read_bytes() == before


def test_a_folder_that_holds_no_source_is_refused(damaged):
    (damaged / "empty").mkdir()
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "empty", "--repair")
    assert result.exit_code == 2
    assert "is it mounted?" in result.stderr


def test_a_source_that_is_gone_is_named(damaged):
    (damaged / "src" / "b.csv").unlink()
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [failure["source"] for failure in found["failures"]] == ["b.csv"]
    assert (found["files"], found["rebuilt"]) == ([], [])
    assert len(found["left"]) == 1


def test_a_source_that_cannot_be_read_now_is_named_with_the_reason(damaged):
    (damaged / "src" / "b.csv").write_text("")
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair")
    assert result.exit_code == 1
    assert result.stderr.startswith("b.csv: is empty")


def test_what_nobody_else_has_stays_lost_and_nothing_is_touched(specimen):
    path, src = specimen.path.with_name("copy"), specimen.path.with_name("src without c")
    shutil.copytree(specimen.path.with_name("src"), src)
    (src / "c.made").unlink()
    for lost in ([ROOT], [NAMES], ["offsets/c.0", "row_size/c.0"]):
        shutil.copytree(specimen.path, path)
        for name in lost:
            (path / name).write_bytes(b"")
        before = files(path)
        if lost == [ROOT]:
            with pytest.raises(StoreError, match="not JSON"):
                repair(path, src, process=read_made, workers=0)
        else:
            done = repair(path, src, process=read_made, workers=0)
            assert {problem.where for problem in done.left} >= set(lost)
            assert any("build another store" in failure.reason for failure in done.failures)
        assert files(path) == before
        shutil.rmtree(path)
    shutil.rmtree(src)


def test_rows_and_the_checksums_that_prove_them_may_be_lost_together(specimen):
    """The sources have both, which the identity of the tables proves."""
    for array in ("inputs", "labels"):
        rows = [name for name in specimen.files if name.startswith(f"{array}/c.")]
        check_lost(specimen, [f"sequences/{array}_crc32c/c.0", *rows])


def test_whole_folders_may_be_lost(specimen):
    path = specimen.path.with_name("copy")
    for folders in (["inputs", "stats", "offsets"], ["sequences/source"]):
        shutil.copytree(specimen.path, path)
        for folder in folders:
            shutil.rmtree(path / folder)
        done = repair(path, specimen.path.with_name("src"), process=read_made, workers=0)
        assert (done.failures, done.left) == ((), ())
        assert files(path) == specimen.files
        shutil.rmtree(path)


def test_offsets_and_lengths_may_both_be_lost(specimen):
    """They are those of what the sources give, which the identity proves."""
    tables = ("offsets", "row_size", "label_offsets", "label_row_size")
    check_lost(specimen, [f"{name}/c.0" for name in tables if f"{name}/c.0" in specimen.files])


def pairs_of_tables(path: Path) -> list[tuple[str, ...]]:
    """Return every two files that say which sequences there are."""
    tables = [name for name in files(path) if "/c." in name and not name.startswith(("inputs", "labels/", "stats"))]
    return list(combinations(tables, 2))


def of_made(place, axis):
    write_made(place, {f"{letter}.made": Made(lengths=(3, 0, 4), seed=seed, axis=axis) for letter, seed in BYTES})
    return {"process": read_made, "label_axis": axis}


def of_csv(place):
    place.mkdir()
    for name, content in (("a", "1,2,u"), ("b", "1,2,v"), ("c", "1,2,v")):
        (place / f"{name}.csv").write_text(f"a,y,site\n{content}\n")
    return {"process": tabular(inputs=["a"], labels=["y"], group_by=["site"])}


BYTES = (("a", 0), ("b", 1), ("c", 1), ("d", 2))  # of files, of which two are alike


@pytest.mark.parametrize("kind", ["csv", "step", "own"])
def test_any_two_tables_may_be_lost_together(tmp_path, kind):
    """Each is proved by the identity, with the lengths of either of offsets and lengths."""
    src, path = tmp_path / "src", tmp_path / "s"
    options = of_csv(src) if kind == "csv" else of_made(src, kind)
    build(src, path, workers=0, **options)
    before = files(path)
    pairs = pairs_of_tables(path)
    assert len(pairs) >= 28, pairs
    for pair in pairs:
        for name in pair:
            (path / name).unlink()
        done = repair(path, src, workers=0, process=None if kind == "csv" else read_made)
        assert (done.files, done.failures, done.left) == (tuple(sorted(pair)), (), ()), pair
        assert files(path) == before


def test_of_two_tables_that_are_lost_for_good_it_says_why(specimen):
    """Names and what tells them, where an order of the files is not that of the sequences."""
    path = specimen.path.with_name("copy")
    unput = []
    for pair in pairs_of_tables(specimen.path):
        shutil.copytree(specimen.path, path)
        for name in pair:
            (path / name).unlink()
        done = repair(path, specimen.path.with_name("src"), process=read_made, workers=0)
        if done.left:
            unput.append(pair)
            assert {problem.where for problem in done.left} == set(pair)
            assert done.files == done.rebuilt == ()
            assert "guessed from the files that are there" in done.failures[-1].reason
            assert files(path) == {name: data for name, data in specimen.files.items() if name not in pair}
        else:
            assert files(path) == specimen.files
        shutil.rmtree(path)
    assert all(NAMES in pair for pair in unput)
    assert 0 < len(unput) <= 3


def test_of_files_alike_each_has_its_name_once_unless_a_source_was_built_again():
    key, other = (9, b"x"), (8, b"y")
    one, two = Nameless(first=0, key=key, retired=True), Nameless(first=3, key=key, retired=False)
    assert guessed([one, two], {"a": key, "b": key}, frozenset()) == {0: "a", 3: "b"}
    assert guessed([one, two], {"a": other, "b": key}, frozenset()) == {0: "b", 3: "b"}
    assert guessed([two], {"a": key, "b": key}, frozenset("a")) == {3: "b"}
    assert guessed([one, two], {"a": other}, frozenset()) == {3: "a"}
    assert guessed([one], {"a": other}, frozenset()) == {}


def test_where_nothing_proves_rows_any_more_nothing_is_built_again(damaged):
    (damaged / "s.zarr" / "sequences" / "inputs_crc32c" / "c.0").unlink()
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    before = files(damaged / "s.zarr")
    result = run("verify", damaged / "s.zarr", "--sources", damaged / "src", "--repair")
    assert result.exit_code == 1, result.output
    assert "put the sources back as they were, or build another store" in result.stderr
    assert files(damaged / "s.zarr") == before


def test_names_that_were_lost_are_those_of_the_files(tmp_path):
    """Some are of the same bytes, some have parts, one was built again, and another is not what it was."""
    lengths = [(3,), (3, 4), (5,)]
    made = {f"{name}.made": Made(lengths=lengths[number % 3], seed=0) for number, name in enumerate("abcdefgh")}
    made["i.made"] = Made(lengths=(6,))
    with small_tables():
        write_made(tmp_path / "src", made)
        build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0, chunk=60, shard=240)
        build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0, redo=["i.made"])
        before = files(tmp_path / "s")
        gone = [name for name in before if name.startswith("sequences/source/c.")]
        assert len(gone) > 4
        for some, changed in ((gone, {}), (gone[1:], {}), (gone[::2], {"g.made": Made(lengths=(2,))}), (gone[:1], {})):
            write_made(tmp_path / "src", made | changed)
            for name in some:
                (tmp_path / "s" / name).unlink()
            done = repair(tmp_path / "s", tmp_path / "src", process=read_made, workers=0)
            assert (done.files, done.failures, done.left) == (tuple(sorted(some)), (), ())
            assert files(tmp_path / "s") == before


def test_without_sources_nothing_can_be_repaired(damaged):
    result = run("verify", damaged / "s.zarr", "--repair")
    assert result.exit_code == 2
    assert "--repair goes with --sources" in result.stderr


@pytest.fixture
def with_labels(tmp_path):
    """A store of three sources with labels beside them."""
    for number, name in enumerate("abc"):
        for folder, column in (("src", "x"), ("src/y", "y")):
            (tmp_path / folder).mkdir(exist_ok=True)
            rows = "".join(f"{row},{row * 10 + number}\n" for row in range(5))
            (tmp_path / folder / f"{name}.csv").write_text(f"t,{column}\n{rows}")
    process = tabular(inputs="x", labels="y", labels_from="y/{stem}.csv", on="t")
    build(tmp_path / "src", tmp_path / "s", process=process, workers=0, chunk=16, shard=32)
    return tmp_path


@pytest.mark.parametrize("lost", ["labels/c.1.0", "inputs/c.1.0", "sequences/labels_sha256/c.0"])
def test_labels_of_another_file_are_put_again_from_there(with_labels, lost):
    before = files(with_labels / "s")
    (with_labels / "s" / lost).unlink()
    done = repair(with_labels / "s", with_labels / "src", workers=0)
    assert (done.files, done.failures, done.left) == ((lost,), (), ())
    assert files(with_labels / "s") == before


def test_a_repair_names_the_file_of_labels_that_changed_and_builds_what_lost_rows_again(with_labels):
    """The lost shard has rows of a and b."""
    (with_labels / "s" / "labels" / "c.1.0").unlink()
    (with_labels / "src" / "y" / "b.csv").write_text("t,y\n0,7\n1,8\n")
    done = repair(with_labels / "s", with_labels / "src", workers=0)
    (failure,) = done.failures
    assert str(failure) == "b.csv: it gives other rows now than the store had: y/b.csv, where its labels are, changed"
    assert done.rebuilt == ("a.csv", "b.csv")
    store = store_spec.open_store(with_labels / "s")
    assert [(name, store[number][1].tolist()) for number, name in enumerate(store.sources)] == [
        ("c.csv", [[2], [12], [22], [32], [42]]),
        ("a.csv", [[0], [10], [20], [30], [40]]),
        ("b.csv", [[7], [8]]),
    ]


def test_a_source_whose_file_of_labels_is_gone_is_left_as_it_is_and_named(with_labels):
    (with_labels / "s" / "labels" / "c.1.0").unlink()
    (with_labels / "src" / "y" / "b.csv").unlink()
    done = repair(with_labels / "s", with_labels / "src", workers=0)
    (failure,) = done.failures
    assert str(failure).startswith("b.csv: y/b.csv, where its labels were, is there no more, so nobody has the rows")
    assert done.rebuilt == ("a.csv",)
    assert store_spec.open_store(with_labels / "s").sources == ("b.csv", "c.csv", "a.csv")


@pytest.fixture
def partial(tmp_path):
    """A store of three sources, of which the last, partial shard of inputs is lost, and its source changed."""
    (tmp_path / "src").mkdir()
    for name in "abc":
        rows = "".join(f"{number},{number * ord(name)}\n" for number in range(45))
        (tmp_path / "src" / f"{name}.csv").write_text(f"x,y\n{rows}")
    process = tabular(inputs="x", labels="y")
    build(tmp_path / "src", tmp_path / "s.zarr", process=process, chunk=80, shard=320, workers=0)
    shutil.copytree(tmp_path / "src", tmp_path / "before")
    (tmp_path / "s.zarr" / "inputs" / "c.3.0").unlink()
    (tmp_path / "src" / "c.csv").write_text("x,y\n5,6\n")
    return tmp_path


def test_a_build_that_cannot_add_to_a_lost_shard_says_what_to_do(partial):
    result = run("build", partial / "src", partial / "s.zarr", "--update", "--workers", "0")
    assert result.exit_code == 1
    assert "inputs/c.3.0: missing" in result.stderr
    assert "new rows follow in that file, so nothing was added: put it again first (seqzarr verify" in result.stderr


@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_where_the_last_shard_is_lost_for_good_rows_go_on_behind_it(partial, harm):
    old = store_spec.open_store(partial / "s.zarr")
    a, b = old[0], old[1]
    if harm == "damaged":
        shard = bytearray((partial / "s.zarr/labels/c.3.0").read_bytes())
        shard[3] ^= 1
        (partial / "s.zarr/labels/c.3.0").write_bytes(shard)
    result = run("verify", partial / "s.zarr", "--sources", partial / "src", "--repair")
    assert result.exit_code == 0, result.output
    assert "1 source built again" in result.stdout
    assert {problem.where for problem in store_spec.verify(partial / "s.zarr")} <= {"inputs/c.3.0", "labels/c.3.0"}
    (partial / "src" / "d.csv").write_text("x,y\n7,8\n9,9\n")
    assert run("build", partial / "src", partial / "s.zarr", "--workers", "0").exit_code == 0
    result = run("verify", partial / "s.zarr", "--sources", partial / "src")
    assert result.exit_code == 0, result.output
    now = store_spec.open_store(partial / "s.zarr")
    assert now.sources == ("a.csv", "b.csv", "c.csv", "d.csv")
    for number, (inputs, labels) in enumerate((a, b)):
        assert np.array_equal(now[number][0], inputs)
        assert np.array_equal(now[number][1], labels)
    assert [rows.tolist() for number in (2, 3) for rows in now[number]] == [[[5]], [[6]], [[7], [9]], [[8], [9]]]
    assert sum(len(x) for x, _ in now.windows(2, target="last").batches(16, shuffle=True)) == 44 + 44 + 0 + 1
    with pytest.raises(StoreError, match="lost"):
        old[2]

    # Another repair adds nothing, and one from what the sources were puts the shards again.
    before = files(partial / "s.zarr")
    assert run("verify", partial / "s.zarr", "--sources", partial / "src", "--repair").exit_code == 0
    assert files(partial / "s.zarr") == before
    shutil.copy(partial / "src" / "d.csv", partial / "before")
    done = repair(partial / "s.zarr", partial / "before", workers=0)
    assert (done.left, done.files[:1]) == ((), ("inputs/c.3.0",))
    assert np.array_equal(old[2][0][:, 0], np.arange(45))
    assert store_spec.verify(partial / "s.zarr") == []

    # What is computed from rows is had again, though those that were skipped are in no file.
    whole = files(partial / "s.zarr")
    for name in ("stats/inputs_mean/c.0.0", "stats/labels_max/c.0.0", "sequences/inputs_crc32c/c.0"):
        (partial / "s.zarr" / name).unlink()
        done = repair(partial / "s.zarr", partial / "src", workers=0)
        assert (done.left, done.files, done.rebuilt, done.failures) == ((), (name,), (), ())
        assert files(partial / "s.zarr") == whole


def test_what_is_gone_with_the_last_shard_blocks_no_other_source(partial):
    (partial / "src" / "c.csv").unlink()
    (partial / "src" / "d.csv").write_text("x,y\n7,8\n")
    assert run("verify", partial / "s.zarr", "--sources", partial / "src", "--repair").exit_code == 1
    result = run("build", partial / "src", partial / "s.zarr", "--retire-missing", "--workers", "0")
    assert result.exit_code == 0, result.output
    result = run("verify", partial / "s.zarr", "--sources", partial / "src")
    assert result.exit_code == 0, result.output
    compacted = run("compact", partial / "s.zarr", partial / "n.zarr")
    assert compacted.exit_code == 0, compacted.output
    assert [len(x) for x, _ in store_spec.open_store(partial / "n.zarr")] == [45, 45, 1]


def test_where_a_table_is_lost_to_which_rows_are_added_a_repair_says_so(partial):
    """Statistics follow from rows, which nobody has any more."""
    (partial / "s.zarr" / "stats" / "inputs_mean" / "c.0.0").unlink()
    result = run("verify", partial / "s.zarr", "--sources", partial / "src", "--repair")
    assert result.exit_code == 1
    assert "some were lost; nothing can be added to this store any more: build another one" in result.stderr
    assert store_spec.open_store(partial / "s.zarr").sources == ("a.csv", "b.csv", "c.csv")


def test_a_table_of_labels_is_put_again_though_what_is_retired_in_it_is_lost_for_good(tmp_path):
    """Else one byte of it ended the store: rows that are added follow in that file."""
    (tmp_path / "src").mkdir()
    store = tmp_path / "s.zarr"

    def write(**labels):
        lines = "".join(f"{name},{label}\n" for name, label in labels.items())
        (tmp_path / "m.csv").write_text(f"source,k\n{lines}")
        for name, label in labels.items():
            (tmp_path / "src" / f"{name}.csv").write_text(f"a\n{label}\n")
        return {"manifest": tmp_path / "m.csv", "workers": 0}

    options = write(a=1, b=2, c=3, d=4)
    build(tmp_path / "src", store, process=tabular(), label_column="k", **options)
    build(tmp_path / "src", store, update=True, **write(a=7, b=2, c=3, d=4))
    (tmp_path / "src" / "d.csv").unlink()
    build(tmp_path / "src", store, retire_missing=True, **write(a=7, b=2, c=3))
    wanted = [(name, x.tolist(), y.tolist()) for name, (x, y) in zip(*held(store), strict=True)]
    (table,) = (store / "labels").glob("c.*")
    data = bytearray(table.read_bytes())
    data[20] ^= 1
    table.write_bytes(data)
    done = repair(store, tmp_path / "src", manifest=tmp_path / "m.csv", workers=0)
    assert (done.files, done.rebuilt) == (("labels/c.0.0",), ())
    assert all(problem.retired for problem in done.left)
    assert [(name, x.tolist(), y.tolist()) for name, (x, y) in zip(*held(store), strict=True)] == wanted
    report = build(tmp_path / "src", store, **write(a=7, b=2, c=3, e=9))
    assert (report.added, report.unchanged, report.failures) == (1, 3, ())
    again = repair(store, tmp_path / "src", manifest=tmp_path / "m.csv", workers=0)
    assert (again.files, again.rebuilt) == ((), ())

    # Of what readers see no row is made up, though the others could be had again then.
    lost = bytearray(table.read_bytes())
    lost[20] ^= 1
    table.write_bytes(lost)
    write(a=7, b=5, c=3, e=9)
    failed = repair(store, tmp_path / "src", manifest=tmp_path / "m.csv", workers=0)
    assert (failed.files, failed.rebuilt) == ((), ())
    assert any(not problem.retired for problem in failed.left)
    assert table.read_bytes() == lost


def held(path):
    store = store_spec.open_store(path)
    return store.sources, list(store)
