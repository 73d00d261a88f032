"""`verify --repair` restores shards of rows from their sources to the same bytes."""

import errno
import json
import os
import random
import re
import shutil
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import store_spec
from builder import LongSequence, build, repair, tabular
from store_spec import StoreError
from store_spec.disk.ledger import replace_shard
from store_spec.disk.storage import LocalStorage
from store_spec.errors import ConflictError, LockedError, StorageError
from tests.builder.command import seqzarr
from tests.builder.features import FEATURES, build_feature, write_feature
from tests.builder.made_sources import Made, read_made, write_made
from tests.builder.source_files import write_files
from tests.campaigns.rot_cases import Case, Specimen, losses, older_copies, swaps
from tests.store.damage import ROOT, flipped
from tests.store.oracle import files

AGAIN = "build a new store with the same options (seqzarr build SOURCES NEW ...), which gives the same rows"
SOURCES = {f"{name}.made": Made(lengths=(3, number + 1, 0, 7), seed=number) for number, name in enumerate("abcdefg")}


@pytest.fixture(scope="module", params=["step", "sequence", "own"])
def specimen(tmp_path_factory, request):
    """A store of several shards and three commits, one of which retired a source."""
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


def counted(monkeypatch, name):
    """Count the calls of a function."""
    module = sys.modules["builder.maintenance.repair"]
    monkeypatch.setattr(module, name, counter := mock.Mock(wraps=getattr(module, name)))
    return counter


def is_restorable(specimen: Specimen, case: Case) -> bool:
    """Return whether a case damages only shards of rows, and metadata that follow from the root."""
    labels = () if store_spec.open_store(specimen.path).schema.label_axis == "sequence" else ("labels/c.",)
    return all(name.endswith(f"/{ROOT}") or name.startswith(("inputs/c.", *labels)) for name in case.files)


def wrong_after_repair(specimen: Specimen, case: Case) -> str:
    """Damage a copy, repair it, and return what is wrong with it."""
    path = specimen.path.with_name("copy")
    shutil.copytree(specimen.path, path)
    try:
        for name, data in case.files.items():
            (path / name).unlink(missing_ok=True)
            if data is not None:
                (path / name).write_bytes(data)
        damaged = files(path)
        done = repair(path, specimen.path.with_name("src"), process=read_made, workers=0)
        now = files(path)
        if is_restorable(specimen, case):
            restored = {name for name in case.files if not name.endswith(ROOT)}
            right = now == specimen.files and not done.left and not done.failures and restored == set(done.files)
        else:
            right = now == damaged and done.left != () and done.files == () and AGAIN in str(done.failures)
        return "" if right else f"{done.files} restored; left: {[str(one) for one in done.left]}; {done.failures}"
    finally:
        shutil.rmtree(path)


@pytest.mark.slow
def test_shards_are_restored_as_they_were_and_of_all_other_damage_it_says_to_build_again(specimen):
    every = [*losses(specimen), *swaps(specimen), *older_copies(specimen)]
    cases = [case for case in every if not case.is_harmless and ROOT not in case.files]
    cases = random.Random(0).sample(cases, 15)
    assert 5 < sum(is_restorable(specimen, case) for case in cases) < 14
    wrong = {str(case): what for case in cases if (what := wrong_after_repair(specimen, case))}
    assert not wrong, "\n".join(f"{case}: {what}" for case, what in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("specimen", ["own"], indirect=True)
def test_shards_are_restored_by_workers_too_all_of_an_array_may_be_gone_and_paths_relative(specimen, monkeypatch):
    path = specimen.path.with_name("copy")
    shutil.copytree(specimen.path, path)
    gone = [name for name in specimen.files if name.startswith("inputs/c.")]
    for name in gone:
        (path / name).unlink()
    monkeypatch.chdir(path.parent)
    checks = counted(monkeypatch, "verify")
    done = repair("copy", "src", process=read_made, workers=2)
    assert (done.failures, done.left, done.files, checks.call_count) == ((), (), tuple(sorted(gone)), 2)
    assert files(path) == specimen.files
    shutil.rmtree(path)


@pytest.mark.slow
@pytest.mark.parametrize("feature", FEATURES)
def test_damaged_and_swapped_shards_are_restored(tmp_path, feature):
    source = write_feature(feature, tmp_path / "src")
    store = build_feature(feature, source, tmp_path / "store")
    before = files(store)
    # With one label row per sequence, labels are a table, which cannot be restored.
    of_sequences = store_spec.open_store(store).schema.label_axis == "sequence"
    for array in ("inputs", "time", "filled", *([] if of_sequences else ["labels"])):
        shards = [name for name in before if name.startswith(f"{array}/c.")]
        for name, data in ((name, before[name]) for name in shards[-1:]):
            other = before[shards[0]]  # of the same array: only the rows show that it belongs elsewhere
            damaged = [data[:9] + b"\0\1\2\3" + data[13:], other, None]
            for new in damaged + [b"", data[:-7]] * (array in ("time", "filled")):
                (store / name).unlink() if new is None else (store / name).write_bytes(new)
                assert (repair(store, source, workers=0).left, files(store)) == ((), before)


@pytest.fixture
def damaged(tmp_path):
    """A store in which the sequences of the second source lost rows, in its only shard."""
    rows = {name: "".join(f"{number},{number * ord(name)}\n" for number in range(100)) for name in "abc"}
    write_files(tmp_path / "src", {f"{name}.csv": f"x,y\n{text}" for name, text in rows.items()})
    build(tmp_path / "src", tmp_path / "s.zarr", process=tabular(dtype="float64"), chunk=160, codec="none", workers=0)
    flip(tmp_path / "s.zarr", 150)
    return tmp_path


def flip(store: Path, row: int) -> None:
    """Change a bit of a row of the inputs, whose chunk has ten rows and a checksum."""
    flipped("inputs/c.0.0", row * 16 + row // 10 * 4)(store)


def run_repair(place: Path, *flags: str):
    return seqzarr("verify", place / "s.zarr", "--sources", place / "src", "--repair", *flags)


def test_the_command_repairs_and_says_what_it_did(damaged):
    before = store_spec.verify(damaged / "s.zarr")
    result = run_repair(damaged)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        *(f"was wrong: {problem}" for problem in before),
        "s.zarr: 1 shard restored; all well",
    ]
    assert seqzarr("verify", damaged / "s.zarr", "--sources", damaged / "src").exit_code == 0
    times = {path: path.stat().st_mtime_ns for path in (damaged / "s.zarr").rglob("*")}
    assert run_repair(damaged).stdout == "s.zarr: nothing was wrong; all well\n"
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_sources_that_lost_no_rows_are_not_needed(damaged):
    """Their rows are in the shard."""
    before = files(damaged / "s.zarr")
    (damaged / "src" / "a.csv").unlink()
    (damaged / "src" / "c.csv").write_text("x,y\n1,2\n")
    done = repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert (done.files, done.left, done.failures) == (("inputs/c.0.0",), (), ())
    now = files(damaged / "s.zarr")
    assert [name for name in now if now[name] != before[name]] == ["inputs/c.0.0"]
    (damaged / "s.zarr" / "inputs" / "c.0.0").unlink()
    done = repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert (done.files, [failure.source for failure in done.failures]) == ((), ["a.csv", "s.zarr"])


def test_a_source_that_changed_is_named_with_both_fingerprints_and_nothing_is_touched(damaged):
    before = files(damaged / "s.zarr")
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    result = run_repair(damaged)
    assert result.exit_code == 1
    changed, advice = result.stderr.splitlines()
    assert changed.startswith("b.csv: it changed: 8 bytes with SHA-256 ")
    assert ", but the store records 780 with " in changed
    assert advice == (
        "s.zarr: not all could be restored: restore the sources named here, or build with them as they are now "
        f"(seqzarr build SOURCES STORE with --update or --retire-missing), or {AGAIN}"
    )
    assert result.stdout.splitlines()[-1] == "s.zarr: 0 shards restored; 1 problem left"
    assert files(damaged / "s.zarr") == before


def test_an_update_takes_the_changed_source_out_of_the_damage(damaged):
    """As the message says: the lost rows then belong to a retired sequence."""
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    assert seqzarr("build", damaged / "src", damaged / "s.zarr", "--update", "--workers", "0").exit_code == 0
    assert (
        seqzarr("verify", damaged / "s.zarr", status=0).stdout.splitlines()[-1]
        == "all well but for what is retired: 3 sequences, 201 steps checked"
    )
    result = run_repair(damaged)
    assert result.exit_code == 0
    assert result.stdout.endswith("s.zarr: 0 shards restored; 1 problem left, of retired sequences alone\n")
    now = store_spec.open_store(damaged / "s.zarr")
    assert (now.sources, now.lengths.tolist()) == (("a.csv", "c.csv", "b.csv"), [100, 100, 1])


def test_rows_of_a_retired_sequence_keep_a_shard_damaged_unless_its_source_is_as_it_was(damaged):
    old = (damaged / "src" / "b.csv").read_text()
    (damaged / "src" / "b.csv").write_text("x,y\n1,2\n")
    assert seqzarr("build", damaged / "src", damaged / "s.zarr", "--update", "--workers", "0").exit_code == 0
    flip(damaged / "s.zarr", 95)  # the last rows of a
    before = files(damaged / "s.zarr")
    result = run_repair(damaged)
    assert (result.exit_code, files(damaged / "s.zarr")) == (1, before)
    assert result.stderr.startswith("b.csv: it changed")
    (damaged / "src" / "b.csv").write_text(old)
    assert run_repair(damaged).stdout.endswith("s.zarr: 1 shard restored; all well\n")


def test_both_sequences_of_a_source_that_was_built_twice_are_restored(damaged):
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()
    build(damaged / "src", damaged / "s.zarr", redo=["b.csv"], workers=0)
    before = files(damaged / "s.zarr")
    (damaged / "s.zarr" / "inputs" / "c.0.0").unlink()
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).files == ("inputs/c.0.0",)
    assert files(damaged / "s.zarr") == before


SHIFT = 0


def read_shifted(path):
    return ((inputs + SHIFT, labels) for inputs, labels in read_made(path))


def test_a_source_with_other_rows_from_other_code_is_named(tmp_path, monkeypatch):
    write_made(tmp_path / "src", {"a.made": Made(lengths=(5, 6))})
    build(tmp_path / "src", tmp_path / "s", process=read_shifted, workers=0)
    shard = tmp_path / "s" / "inputs" / "c.0.0"
    shard.write_bytes(b"")
    monkeypatch.setattr(f"{__name__}.SHIFT", 1)
    done = repair(tmp_path / "s", tmp_path / "src", process=read_shifted, workers=0)
    assert done.files == ()
    assert str(done.failures[0]) == (
        "a.made: its rows of sequence 0 differ from the store's: the code that reads it changed"
    )
    assert shard.read_bytes() == b""


def test_an_older_root_is_not_taken_for_the_store(damaged):
    store = damaged / "s.zarr"
    old = (store / ROOT).read_bytes()
    (damaged / "src" / "d.csv").write_text("x,y\n" + "1,2\n" * 3000)
    seqzarr("build", damaged / "src", store, "--workers", "0")
    whole = files(store)
    (store / ROOT).write_bytes(old)
    result = run_repair(damaged)
    assert result.exit_code == 1
    assert "an older copy" in result.stderr
    assert files(store) == whole | {ROOT: old}


def test_of_damaged_tables_and_of_a_damaged_root_it_says_to_build_again(damaged):
    store = damaged / "s.zarr"
    for name in ("offsets/c.0", ROOT):
        (store / name).write_bytes(b"")
        before = files(store)
        if name == ROOT:
            with pytest.raises(StoreError, match=rf"not JSON.*{re.escape(AGAIN)}$"):
                repair(store, damaged / "src", workers=0)
        else:
            done = repair(store, damaged / "src", workers=0)
            assert {problem.where for problem in done.left} >= {name, "inputs/c.0.0"}
            why = f"{name}: damaged; rows cannot be verified if a table is damaged"
            assert re.search(f"{re.escape(why)}.*{re.escape(AGAIN)}$", str(done.failures[-1]))
        assert files(store) == before


def test_one_damaged_chunk_of_a_long_sequence_touches_one_file_and_reads_its_source_once(tmp_path, monkeypatch):
    write_made(tmp_path / "src", {"a.made": Made(lengths=(500,)), "b.made": Made(lengths=(3,), seed=1)})
    build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0, chunk=60, shard=120, codec="none")
    before, times = files(tmp_path / "s"), {}
    shard = tmp_path / "s" / "inputs" / "c.7.0"
    shard.write_bytes(shard.read_bytes()[:-9] + b"123456789")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("c.*") if path != shard}
    reads = counted(monkeypatch, "read_source")
    done = repair(tmp_path / "s", tmp_path / "src", process=read_made, workers=0)
    assert (files(tmp_path / "s"), done.files, reads.call_count) == (before, ("inputs/c.7.0",), 1)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_shard_of_another_store_is_found_by_checksums_and_restored_alone(tmp_path):
    """Its own checksums and its stamp are right."""
    options: dict[str, Any] = {"process": read_made, "workers": 0, "chunk": 60, "shard": 120}
    for place, seed in (("one", 0), ("two", 5)):
        write_made(tmp_path / place, {f"{name}.made": Made(lengths=(50,), seed=seed) for name in "abc"})
        build(tmp_path / place, tmp_path / f"{place}.zarr", **options)
    before = files(tmp_path / "one.zarr")
    shutil.copy(tmp_path / "two.zarr/inputs/c.7.0", tmp_path / "one.zarr/inputs/c.7.0")
    done = repair(tmp_path / "one.zarr", tmp_path / "one", process=read_made, workers=0)
    assert {problem.kind for problem in done.found} == {"crc32c"}
    assert (done.files, done.left, files(tmp_path / "one.zarr")) == (("inputs/c.7.0",), (), before)


PIECES, PIECE_ROWS = 40, 2**15


def in_pieces(_):
    rows = np.arange(PIECE_ROWS, dtype="float64")
    return LongSequence((np.stack([rows + number] * 8, axis=1), rows) for number in range(PIECES))


@pytest.mark.slow
def test_a_sequence_in_pieces_is_never_in_memory_at_once(tmp_path):
    write_files(tmp_path / "src", {"a.made": ""})
    build(tmp_path / "src", tmp_path / "s", process=in_pieces, workers=0, shard="1MB")
    before = files(tmp_path / "s")
    (tmp_path / "s" / "inputs" / "c.9.0").unlink()
    tracemalloc.start()
    try:
        done = repair(tmp_path / "s", tmp_path / "src", process=in_pieces, workers=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (done.files, files(tmp_path / "s")) == (("inputs/c.9.0",), before)
    assert peak < PIECES * PIECE_ROWS * 64 / 3


def test_a_file_that_is_bad_after_each_put_ends_the_repair(damaged, monkeypatch):
    put = LocalStorage.put

    def failing(storage, key, parts, check=None):
        put(storage, key, parts, check)
        if key == "inputs/c.0.0":
            path = storage.path(key)
            path.write_bytes(path.read_bytes()[:-1] + b"\0")

    monkeypatch.setattr(LocalStorage, "put", failing)
    done = repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert done.files == ("inputs/c.0.0",)
    assert [problem.where for problem in done.left] == ["inputs/c.0.0"]


def test_a_full_disk_ends_the_repair_with_an_error(damaged, monkeypatch):
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


def test_too_many_open_files_end_the_repair_with_an_error(damaged, monkeypatch):
    """They do not show which rows the shard still has."""
    before, module = files(damaged / "s.zarr"), sys.modules["builder.maintenance.repair"]
    verify, opening = module.verify, LocalStorage.open

    def failing(storage, key):
        if key.startswith("inputs/c."):
            raise StorageError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opening(storage, key)

    def verified(*arguments, **options):
        problems = verify(*arguments, **options)
        patch.setattr(LocalStorage, "open", failing)
        return problems

    with monkeypatch.context() as patch:
        patch.setattr(module, "verify", verified)
        with pytest.raises(StorageError, match="Too many open files"):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
    assert files(damaged / "s.zarr") == before


def test_shards_of_a_killed_repair_are_synced_by_the_next_one_which_removes_its_files(damaged, monkeypatch):
    """It finds nothing to put, and a power loss must not undo what it reports as valid."""
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
        (damaged / "s.zarr.build" / "spilled.0123456789abcdef").mkdir(parents=True)
        assert repair(damaged / "s.zarr", damaged / "src", workers=0).found == ()
    assert not (damaged / "s.zarr.build").exists()
    assert "inputs" in {folder for folders in synced for folder in folders}


def test_a_locked_store_is_refused_before_it_is_checked(damaged, monkeypatch):
    """Checking a large store takes long, and would be in vain."""
    checks = counted(monkeypatch, "verify")
    before = files(damaged / "s.zarr")
    with store_spec.open_store(damaged / "s.zarr", "a"):
        with pytest.raises(LockedError, match="is writing to it; wait until it has ended"):
            repair(damaged / "s.zarr", damaged / "src", workers=0)
        assert checks.call_count == 0
    assert files(damaged / "s.zarr") == before
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()


def test_a_repair_keeps_other_writers_out(damaged, monkeypatch):
    module = sys.modules["builder.maintenance.repair"]
    verify, refused = module.verify, []

    def checking(*arguments, **options):
        with pytest.raises(LockedError), store_spec.open_store(damaged / "s.zarr", "a"):
            pass
        refused.append(1)
        return verify(*arguments, **options)

    monkeypatch.setattr(module, "verify", checking)
    assert repair(damaged / "s.zarr", damaged / "src", workers=0).left == ()
    assert len(refused) == 2


def test_shards_of_an_older_snapshot_are_refused(damaged):
    """A task of a killed repair ends after a writer has committed more rows to the last shard."""
    store = store_spec.open_store(damaged / "s.zarr")
    (damaged / "src" / "d.csv").write_text("x,y\n" + "1,2\n" * 30)
    seqzarr("build", damaged / "src", damaged / "s.zarr", "--workers", "0")
    shard = damaged / "s.zarr" / "inputs" / "c.0.0"
    before = shard.read_bytes()
    with pytest.raises(ConflictError, match="a writer committed meanwhile"):
        replace_shard(store.snapshot, "inputs", 0, np.zeros((300, 2)))
    assert shard.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"), [((), "--repair goes with --sources"), (("--sources", "empty"), "is it mounted?")]
)
def test_without_sources_nothing_can_be_repaired(damaged, monkeypatch, options, message):
    monkeypatch.chdir(damaged)
    (damaged / "empty").mkdir()
    assert message in seqzarr("verify", "s.zarr", *options, "--repair", status=2).stderr


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "no longer exists"), ("", "is empty: 0 bytes"), ("x,y\n", "has no rows")]
)
def test_a_source_that_is_gone_or_cannot_be_read_now_is_named_with_the_reason(damaged, text, reason):
    (damaged / "src" / "b.csv").unlink()
    if text is not None:
        (damaged / "src" / "b.csv").write_text(text)
    result = run_repair(damaged, "--json")
    assert result.exit_code == 1
    done = json.loads(result.stdout)
    assert [failure["source"] for failure in done["failures"]] == ["b.csv", "s.zarr"]
    assert done["failures"][0]["reason"].startswith(reason)
    assert (done["files"], len(done["left"])) == ([], 1)


@pytest.fixture
def with_labels(tmp_path):
    """A store of three sources with labels beside them."""
    for number, name in enumerate("abc"):
        rows = "".join(f"{row},{row * 10 + number}\n" for row in range(5))
        write_files(tmp_path / "src", {f"{name}.csv": f"t,x\n{rows}", f"y/{name}.csv": f"t,y\n{rows}"})
    process = tabular(inputs="x", labels="y", labels_from="y/{stem}.csv", on="t")
    build(tmp_path / "src", tmp_path / "s", process=process, workers=0, chunk=16, shard=32)
    return tmp_path


@pytest.mark.parametrize("lost", ["labels/c.1.0", "inputs/c.1.0"])
def test_labels_of_another_file_are_restored_from_there(with_labels, lost):
    before = files(with_labels / "s")
    (with_labels / "s" / lost).unlink()
    done = repair(with_labels / "s", with_labels / "src", workers=0)
    assert (done.files, done.failures, done.left) == ((lost,), (), ())
    assert files(with_labels / "s") == before


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (
            "t,y\n0,7\n1,8\n2,8\n3,8\n4,8\n",
            "its rows of sequence 1 differ from the store's: the code that reads it or y/b.csv changed",
        ),
        (None, "its label file y/b.csv does not exist (--labels-from)"),
    ],
)
def test_a_changed_or_lost_label_file_is_named(with_labels, now, why):
    (with_labels / "s" / "labels" / "c.1.0").unlink()
    file = with_labels / "src" / "y" / "b.csv"
    if now is None:
        file.unlink()
    else:
        file.write_text(now)
    done = repair(with_labels / "s", with_labels / "src", workers=0)
    assert (done.files, str(done.failures[0])) == ((), f"b.csv: {why}")


def test_a_build_that_cannot_extend_a_lost_shard_says_what_to_do(tmp_path):
    """The last shard is partial, so new rows belong into it."""
    write_made(tmp_path / "src", {"a.made": Made(lengths=(45,))})
    build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0, chunk=60, shard=240)
    max((tmp_path / "s" / "inputs").glob("c.*"), key=lambda path: int(path.name.split(".")[1])).unlink()
    write_made(tmp_path / "src", {"b.made": Made(lengths=(5,))})
    with pytest.raises(StoreError, match=r"so nothing was added: restore it first .*, or build again into a new store"):
        build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0)
    assert len(repair(tmp_path / "s", tmp_path / "src", process=read_made, workers=0).files) == 1
    assert build(tmp_path / "src", tmp_path / "s", process=read_made, workers=0).added == 1
