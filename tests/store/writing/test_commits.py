"""The commit protocol: what a writer leaves when it dies at any moment, and what the next writer makes of it."""

import errno
import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

import store_spec
from store_spec.building import Ledger, LocalStorage
from store_spec.disk.lock import build_folder
from store_spec.errors import ConflictError, FormatError, SchemaError, StorageError, StoreError
from store_spec.format.layout import ROOT
from store_spec.format.records import Records, SourceId
from store_spec.format.times import Time
from tests.store.oracle import Recipe, append, assert_holds, checked, files, make, write

RECIPE = Recipe(label_axis="own", chunk=60, shard=120)
SEQUENCES = make(RECIPE, [7, 30, 0, 12, 25, 3])


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return the files of a folder in which all sequences were written by one writer."""
    folder = tmp_path_factory.mktemp("expected")
    write(RECIPE, folder / "store", SEQUENCES)
    return files(folder)


def test_a_writer_removes_uncommitted_files_when_it_opens_the_store(tmp_path):
    path = write(RECIPE, tmp_path / "store", SEQUENCES)
    before = files(tmp_path)
    shards = len(list((path / "inputs").glob("c.*")))
    for name in (
        f"inputs/c.{shards}.0",
        "inputs/c.99.0",
        "inputs/c.0.0.00ff.partial",
        "offsets/c.7",
        "sequences/a.partial",
        "zarr.json.1.partial",
    ):
        (path / name).write_bytes(b"left")
    (path / "offsets/zarr.json").unlink()
    (path / "stats/inputs_mean/zarr.json").write_bytes(b"{")
    (tmp_path / "store.build/new/inputs").mkdir(parents=True)
    store_spec.open_store(path, "a").close()
    assert files(tmp_path) == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store"]


def test_a_root_that_was_changed_under_the_writer_is_never_replaced(tmp_path):
    path = write(RECIPE, tmp_path / "store", SEQUENCES[:1])
    write(RECIPE, tmp_path / "other", SEQUENCES[:2])
    with ExitStack() as stack:
        writer = stack.enter_context(store_spec.open_store(path, "a"))
        append(writer, SEQUENCES[1:])
        shutil.copy(tmp_path / "other/zarr.json", path / "zarr.json")
        with pytest.raises(ConflictError, match=r"another writer, without the lock, (committed meanwhile|was faster)"):
            writer.commit()
        with pytest.raises(StoreError, match="cannot be used"):
            writer.commit()
        writer.close()
    assert (path / "zarr.json").read_bytes() == (tmp_path / "other/zarr.json").read_bytes()


def test_a_commit_of_nothing_new_writes_nothing(tmp_path):
    path = write(RECIPE, tmp_path / "store", SEQUENCES)
    before = {file: file.stat().st_ino for file in path.rglob("*")}
    with store_spec.open_store(path, "a") as writer:
        assert writer.commit() == 6
    assert {file: file.stat().st_ino for file in path.rglob("*")} == before


def test_full_shards_are_never_written_again(tmp_path):
    path = write(RECIPE, tmp_path / "store", SEQUENCES[:5])
    full = [path / f"inputs/c.{number}.0" for number in range(7)]
    before = [file.stat().st_ino for file in full]
    with store_spec.open_store(path, "a") as writer:
        append(writer, SEQUENCES[5:])
    assert [file.stat().st_ino for file in full] == before


SCHEMA = RECIPE.schema()


def described(sequence, part=0):
    source = SourceId(name=sequence.source, part=part)
    return checked(SCHEMA, sequence, source).record(SCHEMA, source)


def rows_of_job(job, sequences):
    whole = np.concatenate([getattr(sequence, job.name) for sequence in sequences])
    return [whole[job.start : job.stop]]


@pytest.mark.parametrize("seed", range(4))
def test_shards_may_be_put_in_any_order_twice_and_at_once(tmp_path, expected, seed):
    with Ledger.create(tmp_path / "store", SCHEMA, {"made": "by a test"}) as ledger:
        ledger.register(Records.concatenate([described(sequence) for sequence in SEQUENCES]))
        jobs = [*ledger.jobs(), *ledger.jobs(final=True)]
        assert ledger.jobs(final=True) == []
        random.Random(seed).shuffle(jobs)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda job: job.write(rows_of_job(job, SEQUENCES)), jobs * 2))
        for job in jobs:
            ledger.mark_done(job)
        assert ledger.commit() == 6
    assert files(tmp_path) == expected


@pytest.mark.parametrize("sources", [list("abcdef"), list("abbbcc")], ids=["one part each", "several parts"])
def test_a_commit_ends_before_the_first_source_without_shards(tmp_path, sources):
    """The parts of a source become visible together."""
    sequences = make(RECIPE, [7, 30, 0, 12, 25, 3], sources=sources)
    with Ledger.create(tmp_path / "store", SCHEMA, {"made": "by a test"}) as ledger:
        ledger.commit()  # from here on, the folder has its name
        parts = [sources[:number].count(source) for number, source in enumerate(sources)]
        ledger.register(Records.concatenate([described(*one) for one in zip(sequences, parts, strict=True)]))
        assert ledger.sequences == 6
        jobs = ledger.jobs(final=True)
        ends = np.cumsum([len(sequence.inputs) for sequence in sequences])
        label_ends = np.cumsum([len(sequence.labels) for sequence in sequences])
        put = {"inputs": 0, "labels": 0}
        for job in sorted(jobs, key=lambda job: (job.name == "inputs", job.number)):  # which have more shards
            job.write(rows_of_job(job, sequences))
            ledger.mark_done(job)
            put[job.name] = job.stop
            covered = int(((ends <= put["inputs"]) & (label_ends <= put["labels"])).sum())
            while 0 < covered < 6 and sources[covered - 1] == sources[covered]:
                covered -= 1
            assert ledger.commit() == covered
            assert_holds(store_spec.open_store(tmp_path / "store"), sequences[:covered])
    assert files(tmp_path / "store") == files(write(RECIPE, tmp_path / "other", sequences))


def test_a_shard_beyond_a_gap_makes_nothing_visible(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        ledger.register(described(make(RECIPE, [40])[0]))
        jobs = [job for job in ledger.jobs(final=True) if (job.name, job.number) != ("inputs", 1)]
        for job in reversed(jobs):
            job.write([np.zeros((job.stop - job.start, *SCHEMA.rows(job.name).shape), SCHEMA.rows(job.name).dtype)])
            ledger.mark_done(job)
        assert ledger.commit() == 0


def test_only_full_shards_are_written_before_the_end(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        handed = []
        for sequence in SEQUENCES:
            ledger.register(described(sequence))
            handed += ledger.jobs()
        rest = ledger.jobs(final=True)
    steps, label_steps = (sum(len(getattr(one, name)) for one in SEQUENCES) for name in ("inputs", "labels"))
    assert [(job.start, job.stop) for job in handed if job.name == "inputs"] == [
        (start, start + 8) for start in range(0, steps - steps % 8, 8)
    ]
    assert all(job.stop - job.start == {"inputs": 8, "labels": 48}[job.name] for job in handed)
    assert {job.name: job.stop for job in rest} == {"inputs": steps, "labels": label_steps}


def test_a_job_with_the_rows_of_another_is_refused(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        ledger.register(described(SEQUENCES[1]))
        (job, *_) = ledger.jobs()
        with pytest.raises(ValueError, match="shard 0 of inputs: 9 rows for 8"):
            job.write([np.zeros((9, 3), "float32")])


def test_provenance_is_part_of_the_commit(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA, {"options": 1}) as ledger:
        ledger.commit()
    with Ledger.open(tmp_path / "store") as ledger:
        ledger.provenance["failures"] = ["ä"]
        ledger.commit()
    assert store_spec.open_store(tmp_path / "store").provenance == {"options": 1, "failures": ["ä"]}


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": object()}, {"x": {"digest": "0" * 64}}])
def test_provenance_that_is_not_json_is_refused(tmp_path, bad):
    """Before anything is written, not after hours of appending."""
    with pytest.raises(SchemaError, match="provenance"), Ledger.create(tmp_path / "store", SCHEMA, bad):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [6, 7])
def test_without_the_lock_the_slower_of_two_writers_replaces_nothing(tmp_path, monkeypatch, rows):
    """Both start from the same commit; the second must change neither shards nor tables of the first."""
    path = write(RECIPE, tmp_path / "store", SEQUENCES[:2])

    @contextmanager
    def unlocked(store: Path) -> Iterator[Path]:
        build_folder(store).mkdir(exist_ok=True)
        yield build_folder(store)

    monkeypatch.setattr("store_spec.disk.local_ledger.locked", unlocked)
    slow, fast = store_spec.open_store(path, "a"), store_spec.open_store(path, "a")
    mine = make(RECIPE, [6])[0]
    fast.append(mine.inputs, mine.labels, source="fast")
    fast.commit()
    committed = files(path)
    other = make(RECIPE, [rows])[0]

    def lose() -> None:
        slow.append(other.inputs, other.labels, source="slow")
        slow.commit()

    with pytest.raises(ConflictError, match="without the lock"):
        lose()
    assert files(path) == committed
    assert store_spec.verify(path) == []


def test_a_store_stays_where_it_is_when_the_working_folder_changes(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write(RECIPE, tmp_path / name / "store", SEQUENCES[:3])
    there = files(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "here")
    store, writer, new = store_spec.open_store("store"), store_spec.open_store("store", "a"), RECIPE.create(Path("new"))
    monkeypatch.chdir(tmp_path / "there")
    append(writer, SEQUENCES[3:])
    append(new, SEQUENCES)
    for one in (writer, new):
        one.commit()
        one.close()
    assert np.array_equal(store[2][0], SEQUENCES[2].inputs)
    assert len(store_spec.open_store(tmp_path / "here/store")) == len(store_spec.open_store(tmp_path / "here/new")) == 6
    assert files(tmp_path / "there") == there


def test_leftovers_of_a_worker_that_died_can_be_removed_before_the_last_commit(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        ledger.commit()
        (tmp_path / "store/inputs/c.0.0.0123.partial").write_bytes(b"half")
        ledger.tidy()
        ledger.commit()
    assert store_spec.verify(tmp_path / "store") == []


@pytest.fixture
def outdated(tmp_path):
    """Return a store whose root is that of the commit before the last."""
    path = write(RECIPE, tmp_path / "s", make(RECIPE, [3, 4]))
    old = (path / ROOT).read_bytes()
    with store_spec.open_store(path, "a") as writer:
        append(writer, make(RECIPE, [50, 60], seed=1, sources=["c", "d"]))
    (path / ROOT).write_bytes(old)
    return path


def test_an_older_copy_of_the_root_is_refused_before_anything_newer_is_removed(outdated):
    before = files(outdated)
    with pytest.raises(FormatError, match="an older copy: it counts"), Ledger.open(outdated):
        pass
    assert files(outdated) == before


def test_a_root_that_cannot_be_compared_for_open_files_is_refused(outdated, monkeypatch):
    before, opening = files(outdated), os.open

    def failing(name, *args, **options):
        if str(name).endswith(f"/{ROOT}") and str(name) != f"{outdated}/{ROOT}":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return opening(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        with pytest.raises(StorageError, match="Too many open files"), Ledger.open(outdated):
            pass
    assert files(outdated) == before


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
@pytest.mark.parametrize("lost", ["inputs", "labels", "time"])
def test_a_lost_shard_is_never_extended(tmp_path, axis, lost):
    recipe = Recipe(
        label_axis=axis,
        labels=("int16", (2,)),
        columns=(("site", "string"), ("age", "int64")),
        time=Time("s"),
        filled=True,
        missing="keep",
        chunk=24,
        shard=48,
    )
    sequences = make(recipe, [7, 0, 12, 6])
    with recipe.create(tmp_path / "s") as writer:
        append(writer, sequences[:3])
    store = store_spec.open_store(tmp_path / "s")
    if not store.schema.is_sharded(lost):
        return
    size = store.schema.chunking(lost).shard
    count = store.snapshot.root.committed(lost)
    assert count % size
    (shard,) = (tmp_path / "s" / lost).glob(f"c.{count // size}*")
    shard.rename(tmp_path / "shard")
    says = "new rows follow in that file, so nothing was added: restore it first"
    with pytest.raises(FormatError, match=says), store_spec.open_store(tmp_path / "s", "a") as writer:
        append(writer, sequences[3:])
    (tmp_path / "shard").rename(shard)
    assert_holds(store_spec.open_store(tmp_path / "s"), sequences[:3])
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        append(writer, sequences[3:])
    assert_holds(store_spec.open_store(tmp_path / "s"), sequences)


FIRST, LATE, *REST = make(RECIPE, [4, 2, 30, 12])


@pytest.mark.parametrize("is_new", [False, True])
def test_a_late_shard_of_a_dead_writer_replaces_none_of_the_next(tmp_path, monkeypatch, is_new):
    path, fsync, stack = tmp_path / "store", os.fsync, ExitStack()
    before = [] if is_new else [FIRST]
    if not is_new:
        write(RECIPE, path, before)

    def open_with_jobs(sequences):
        ledger = stack.enter_context(Ledger.create(path, SCHEMA) if is_new else Ledger.open(path))
        for sequence in sequences:
            ledger.register(described(sequence))
        return ledger, [(job, rows_of_job(job, [*before, *sequences])) for job in ledger.jobs(final=True)]

    def start_next(descriptor):
        monkeypatch.undo()
        fsync(descriptor)
        stack.close()
        ledger, jobs = open_with_jobs(REST)
        for job, rows in jobs:
            job.write(rows)
            ledger.mark_done(job)
        opened.append(ledger)

    opened = list[Ledger]()
    late, rows = next(pair for pair in open_with_jobs([LATE])[1] if pair[0].name == "inputs")
    monkeypatch.setattr(os, "fsync", start_next)
    with pytest.raises(StorageError, match=r"finding .*/spilled\..* failed: No such"):
        late.write(rows)
    opened[0].commit()
    stack.close()
    assert_holds(store_spec.open_store(path), [*before, *REST])
    assert store_spec.verify(path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_rows_that_are_spilled_after_the_writer_has_ended_are_refused(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        ledger.commit()
    with pytest.raises(StorageError, match="making the folder failed: No such file"):
        LocalStorage(ledger.spilled / "0").make_folder()
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_folder_in_use_by_a_worker_hides_no_error_and_stops_no_writer(tmp_path, monkeypatch):
    rmdir = os.rmdir

    def spill_first(path, **options):
        if path == "0":
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        rmdir(path, **options)

    def spill_and_fail():
        with Ledger.open(tmp_path / "store") as ledger:
            LocalStorage(ledger.spilled / "0").make_folder()
            raise ZeroDivisionError

    write(RECIPE, tmp_path / "store", [FIRST])
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", spill_first)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                spill_and_fail()
    store_spec.open_store(tmp_path / "store", "a").close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
