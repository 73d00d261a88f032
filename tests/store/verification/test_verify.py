"""`verify` finds every problem of a store and names its file, and finds nothing in a valid store."""

import errno
import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import StorageError
from store_spec.format import shard as shards
from store_spec.format.codec import Codec, crc32c
from store_spec.format.documents import encode_document
from store_spec.format.layout import ROOT, array_document
from store_spec.format.moments import moments
from store_spec.format.times import Time
from store_spec.schema import MOMENTS, NO_FILE
from store_spec.verification import described_rows as verify_rows
from store_spec.verification import parts as verify_parts
from tests.store.damage import change_places, flipped, removed
from tests.store.forging import bump, forge, put
from tests.store.oracle import Recipe, Sequence, append, files, make, store_of, write

# 4 rows per chunk, 8 per shard.
COLUMNS: Any = (("site", "string"), ("age", "float64"), ("visits", "int64"), ("left handed", "bool"))
RECIPE = Recipe(label_axis="own", chunk=48, shard=96, codec="none", columns=COLUMNS, time=Time("ms"))
SCHEMA = RECIPE.schema()
LENGTHS = [10, 3, 0, 27, 10, 10, 1, 8]


@pytest.fixture
def path(tmp_path):
    return write(RECIPE, tmp_path / "prices.zarr", make(RECIPE, LENGTHS))


def problems_of(path):
    """Return the named files, after checking that each problem is one line that begins with its file."""
    problems = store_spec.verify(path)
    for problem in problems:
        assert "\n" not in str(problem)
        assert str(problem) == f"{path.name}/{problem.where}: {problem.what}" or problem.where == ""
        assert not problem.where or os.path.lexists(path / problem.where) or "missing" in problem.what
    return {problem.where: problem.what for problem in problems}


def swap(path, one, other):
    one, other = path / one, path / other
    one.rename(path / "swapping")
    other.rename(one)
    (path / "swapping").rename(other)


def test_a_problem_is_one_line_with_the_file_first(path):
    (path / "inputs/c.3.0").unlink()
    (problem,) = store_spec.verify(path)
    assert (problem.store, problem.where, problem.leftover) == ("prices.zarr", "inputs/c.3.0", False)
    assert str(problem) == (
        "prices.zarr/inputs/c.3.0: missing; every committed chunk and shard is written, so it was lost; "
        "concerns sequence 3 (wälk/0/003)"
    )


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_an_unreadable_root_is_one_problem(path, damage):
    (path / "inputs/c.0.0").unlink()
    (path / ROOT).write_bytes(damage)
    assert list(problems_of(path)) == [ROOT]


@pytest.mark.parametrize(
    ("name", "what"),
    [("stats/inputs_m2", "missing; restore that folder"), ("inputs/zarr.json", "missing; readers that skip the root")],
)
def test_a_lost_folder_or_document_is_one_problem(path, name, what):
    removed(name)(path)
    ((where, said),) = problems_of(path).items()
    assert (where, said[: len(what)]) == (name, what)


OWN = [fact.name for fact in SCHEMA.arrays() if not SCHEMA.is_sharded(fact.name)]


@pytest.mark.parametrize(("one", "other"), [("inputs/c.0.0", "inputs/c.1.0"), ("inputs/c.2.0", "inputs/c.5.0")])
def test_swapped_shards_are_found_by_stamps_and_sequences(path, one, other):
    swap(path, one, other)
    problems = problems_of(path)
    assert set(problems) == {one, other}
    assert all("of 'inputs', so it is a copy of another file" in what for what in problems.values())
    swap(path, one, other)
    change_places(path / one, path / other)  # with the stamps of where they are now
    problems = problems_of(path)
    assert problems
    assert set(problems) <= {"inputs/c.0.0", "inputs/c.1.0", "inputs/c.4.0", "inputs/c.5.0"}
    assert all("have crc32c" in what and "another one, or an older copy" in what for what in problems.values())


@pytest.mark.parametrize("lost", [False, True])
def test_empty_sequences_are_verified_if_rows_around_them_are_lost(tmp_path, lost):
    path = write(RECIPE, tmp_path / "store", make(RECIPE, [5, 0, 2] if lost else [0, 0]))
    forge(path, stats__inputs_count=put((1, 0), 3))
    if lost:
        (path / "inputs/c.0.0").unlink()
    assert set(problems_of(path)) == {"stats/inputs_count/c.0.0", *(["inputs/c.0.0"] if lost else [])}


def test_all_problems_are_reported_at_once(path):
    for name in ("inputs/c.1.0", "labels/c.0", "sequences/source/c.0", "stats/labels_min/c.0.0"):
        (path / name).unlink()
    (path / "row_size/c.0").write_bytes(b"")
    for byte in (0, 60):  # of chunk 0 and of chunk 1
        flipped("inputs/c.3.0", byte)(path)
    (path / "stats/zarr.json").write_bytes(b"")
    (path / "mine.txt").write_bytes(b"")
    problems = [(problem.where, problem.what[:7]) for problem in store_spec.verify(path)]
    assert sorted(problems) == [
        ("inputs/c.1.0", "missing"),
        ("inputs/c.3.0", "chunk 0"),
        ("inputs/c.3.0", "chunk 1"),
        ("labels/c.0", "missing"),
        ("mine.txt", "belongs"),
        ("row_size/c.0", "0 bytes"),
        ("sequences/source/c.0", "missing"),
        ("stats/labels_min/c.0.0", "missing"),
        ("stats/zarr.json", "not JSO"),
    ]


@pytest.mark.parametrize("lost", [["offsets"], ["row_size"]])
def test_rows_are_verified_without_offsets_or_lengths(path, lost):
    damaged = {*(f"{name}/c.0" for name in lost), "inputs/c.3.0", "stats/inputs_m2/c.0.0"}
    for name in damaged:
        flipped(name, 0)(path)
    swap(path, "inputs/c.2.0", "inputs/c.5.0")
    assert set(problems_of(path)) == {*damaged, "inputs/c.2.0", "inputs/c.5.0"}


def test_false_counts_of_a_root_are_reported_in_bounded_time(path):
    root = store_spec.open_store(path).snapshot.root
    (path / ROOT).write_bytes(replace(root, counts=replace(root.counts, steps=2**60, sequences=2**50)).encode())
    problems = store_spec.verify(path)
    assert len(problems) < 1000
    lost = [problem for problem in problems if problem.where == "inputs"]
    assert [problem.what for problem in lost] == [f"{2**57 - 9 - 20:,} more of its {2**57:,} files are missing"]


def test_a_shard_whose_index_is_damaged_is_read_no_more_than_three_times(tmp_path, spy):
    recipe = replace(RECIPE, shard=480)  # ten chunks
    path = write(recipe, tmp_path / "store", make(recipe, [45, 70]))
    flipped("inputs/c.1.0", -1)(path)
    decode_index = spy(shards, "decode_index")
    assert list(problems_of(path)) == ["inputs/c.1.0"]
    assert [call.args[-1] for call in decode_index.call_args_list].count(f"{path}/inputs/c.1.0") == 3


def test_waiting_sequences_are_bounded_by_memory(path, monkeypatch, spy):
    compare = spy(verify_rows.RowCheck, "_compare")

    def sequences_together():
        return [len(next(iter(call.args[1].values()))) for call in compare.call_args_list]

    assert problems_of(path) == {}
    assert max(sequences_together()) > 1
    compare.reset_mock()
    monkeypatch.setattr(verify_rows, "COMPARED_TOGETHER", 1)
    assert problems_of(path) == {}
    assert sequences_together() == [1] * 3 * len(LENGTHS)


@pytest.mark.slow
@pytest.mark.parametrize("label_axis", ["step", "sequence", "own"])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_verify_finds_the_same_in_parts_of_any_size(tmp_path_factory, label_axis, data):
    """In parts of any size, each pickled and unpickled: problems, sequences and sources are the same."""
    path = tmp_path_factory.mktemp("cut") / "s"
    lengths = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=12))
    recipe = replace(RECIPE, label_axis=label_axis)
    write(recipe, path, make(recipe, lengths))
    names = sorted(name for name in files(path) if "/c." in name)
    for name in data.draw(st.lists(st.sampled_from(names), max_size=4, unique=True)):
        flipped(name, data.draw(st.integers(0, (path / name).stat().st_size - 1)))(path)
        if data.draw(st.booleans()):
            (path / name).unlink()
    whole = set(store_spec.verify(path))

    def elsewhere(check, parts):
        work = [pickle.dumps((check, part)) for part in parts]
        for one in work:
            there, part = pickle.loads(one)
            yield pickle.loads(pickle.dumps(there(part)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_parts, "PART_BYTES", data.draw(st.integers(1, 400)))
        patch.setattr(verify_parts, "PART_SEQUENCES", data.draw(st.integers(1, 5)))
        assert set(store_spec.verify(path, mapper=elsewhere)) == whole


def test_all_sequences_that_lost_rows_are_named_and_no_others(path):
    """Compared with a list of the sequences with rows in each chunk."""
    bounds = np.concatenate([[0], np.cumsum(LENGTHS)])
    shard = "inputs/c.4.0"  # rows 32 to 40, in two chunks
    whole = (path / shard).read_bytes()
    for damage, rows in (
        (removed(shard), range(32, 40)),
        (flipped(shard, 0), range(32, 36)),
        (flipped(shard, -1), range(32, 40)),
    ):
        damage(path)
        (problem,) = store_spec.verify(path)
        (path / shard).write_bytes(whole)
        with_rows = [number for number in range(len(LENGTHS)) if set(range(*bounds[number : number + 2])) & set(rows)]
        assert [number for start, stop in problem.sequences for number in range(start, stop)] == with_rows
        assert problem.sources == tuple(store_spec.open_store(path).sources[number] for number in with_rows)


@pytest.fixture
def gappy(tmp_path):
    """Sequences of 5, 0, 6 and 3 steps: inputs lack values in rows 3 to 6, of two sequences, and in 12."""
    recipe = Recipe(inputs=("float32", (2,)), labels=("float32", ()), missing="keep", chunk=16, shard=32)
    sequences = make(replace(recipe, missing="error"), [5, 0, 6, 3])
    for number, steps in ((0, [3, 4]), (2, [0, 1]), (3, [1])):
        sequences[number].inputs[steps, number % 2] = np.nan
    sequences[2].labels[4] = np.nan
    path = write(recipe, tmp_path / "gappy.zarr", sequences)
    assert store_spec.open_store(path).snapshot.missing("inputs").tolist() == [[3, 5], [5, 7], [12, 13]]
    assert problems_of(path) == {}
    return path


RUNS = {
    "too long": ({"missing_inputs": put((2, 1), 14)}, "lacks a run that its rows have: 12 to 13 of inputs .* 3"),
    "too short": ({"missing_inputs": put((0, 0), 4)}, "lacks a run that its rows have: 3 to 5 of inputs .* sequence 0"),
    "elsewhere": ({"missing_inputs": put(2, [11, 12])}, "has a run that its rows have not: 11 to 12 .* sequence 3"),
    "of labels": ({"missing_labels": put(0, [0, 1])}, "a run that its rows have not: 0 to 1 of labels .*2 sequences"),
}


@pytest.mark.parametrize("case", RUNS)
@pytest.mark.parametrize("rows", [1, 1000])
def test_runs_that_differ_from_the_rows_are_found(gappy, case, rows, monkeypatch):
    monkeypatch.setattr(verify_parts, "PART_BYTES", rows)
    monkeypatch.setattr("store_spec.verification.described_rows.PIECE_BYTES", rows)
    changes, text = RUNS[case]
    forge(gappy, seal=False, **changes)
    problems = problems_of(gappy)
    assert list(problems) == list(changes)
    assert re.search(text, *problems.values())


def test_impossible_runs_are_found(gappy):
    forge(gappy, seal=False, missing_inputs=put((1, 1), 12))
    (problem,) = problems_of(gappy).items()
    assert problem[0] == "missing_inputs/c.0.0"
    assert problem[1] == "the run 5 to 12 ends after row 11, the end of its sequence; restore or rebuild that file"


def test_runs_of_damaged_rows_are_not_another_problem(gappy):
    forge(gappy, seal=False, inputs=put(3, 7.0))
    problems = problems_of(gappy)
    assert "missing_inputs" not in problems
    assert "have crc32c" in problems["inputs/c.0.0"]


SHA, LABELS_CRC = "sequences__source_sha256", "sequences__labels_crc32c"
FORGED = {
    "offsets begin late": ({"offsets": put(0, 1)}, {"offsets": "begins with 1, not with 0"}),
    "offsets fall": ({"offsets": put(2, 5)}, {"offsets": "sequence 1 ends at 5, before its start 10"}),
    "offsets end late": ({"offsets": put(-1, 70)}, {"offsets": "ends with 70, but 69 steps are committed"}),
    "offsets disagree": ({"offsets": put(1, 9)}, {"row_size": "sequence 0 has 10 steps, but 9 by offsets"}),
    "lengths disagree": ({"row_size": put(3, 26)}, {"row_size": "sequence 3 has 26 steps, but 27 by offsets"}),
    "label offsets fall": ({"label_offsets": put(1, 90)}, {"label_offsets": "before its start 90"}),
    "a part too high": ({"sequences__part": put(4, 1)}, {"sequences/part/c.0": "its part is 1, where 0 is due"}),
    "a source twice": (
        {"sequences__source": put(4, "wälk/0/001")},
        {"sequences/source/c.0": "lies apart from others of its source; concerns sequence 4 .*001."},
    ),
    "a part too low": (
        {"sequences__source": put(4, "wälk/0/003")},
        {"sequences/part/c.0": "its part is 0, where 1 is due; concerns sequence 4 .*003."},
    ),
    "parts of different files": (
        {"sequences__source": put(4, "wälk/0/003"), "sequences__part": put(4, 1), SHA: put((4, 0), 1)},
        {"sequences/source_sha256/c.0.0": "differs from the part before it; concerns sequence 4 .*003."},
    ),
    "parts of files of different sizes": (
        {"sequences__source": put(4, "wälk/0/003"), "sequences__part": put(4, 1), "sequences__source_size": put(4, 9)},
        {"sequences/source_size/c.0": "differs from the part before it"},
    ),
    "no name": ({"sequences__source": put(2, "")}, {"sequences/source/c.0": "without a name; concerns sequence 2"}),
    "a size below none": (
        {"sequences__source_size": put(5, NO_FILE - 1)},
        {"sequences/source_size/c.0": "a source of -2 bytes; concerns sequence 5"},
    ),
    "a wrong checksum": (
        {"sequences__inputs_crc32c": bump(3)},
        {"inputs/c.1.0": r"its inputs have crc32c .*; concerns sequence 3 \(wälk/0/003\)"},
    ),
    "rows of others": (
        {"inputs": bump(slice(25, 70))},
        {"inputs/c.1.0": r"its inputs .* sequence 3", "inputs/c.5.0": "sequence 4 .*", "inputs/c.6.0": "sequence 5",
         "inputs/c.7.0": r"concerns 2 sequences: 6 .*, 7 .*"},
    ),
    "a wrong mean": (
        {"stats__inputs_mean": put((3, 2), 7.5)},
        {"stats/inputs_mean/c.0.0": r"column 2 has 7.5, where its rows give .*; concerns sequence 3 \(.*\)"},
    ),
    "a mean of nothing": (
        {"stats__inputs_mean": put((2, 1), 0)},
        {"stats/inputs_mean/c.0.0": "column 1 has 0.0, .*; concerns sequence 2 "},
    ),
    "times fall": ({"time": put(slice(14, 17), [5, 4, 4])}, {"time/c.1": "time falls at step 2, from 5 to 4; .* 3 "}),
    "times fall from a piece to the next": (  # row 16 begins a shard, and is within sequence 3
        {"time": lambda times: put(15, times[39])(times)},
        {"time/c.1": "time falls at step 3, from .*; concerns sequence 3 "},
    ),
    "no time": (
        {"time": put(0, -(2**63))},
        {"time/c.0": "step 0 has no time; concerns sequence 0 ", "sequences/time_first/c.0": "where its rows give"},
    ),
    "another first time": (
        {"sequences__time_first": bump(3)},
        {"sequences/time_first/c.0": r"has -?\d+, where its rows give -?\d+; .* concerns sequence 3 "},
    ),
    "another last time": (
        {"sequences__time_last": bump(3)},
        {"sequences/time_last/c.0": r"has -?\d+, where its rows give -?\d+; .* concerns sequence 3 "},
    ),
    "a wrong checksum of times": ({"sequences__time_crc32c": bump(3)}, {"time/c.1": "its time have crc32c"}),
    "a wrong count": (
        {"stats__labels_count": bump((slice(None), 0))},
        {"stats/labels_count/c.0.0": r"concerns 8 sequences: 0 .*, 1 .*, 2 .*, \.\.\."},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("case", "waiting"), [(case, (1, 1024)[at % 2]) for at, case in enumerate(FORGED)])
def test_mistakes_of_foreign_writers_are_found_despite_right_checksums(path, case, waiting, monkeypatch):
    monkeypatch.setattr(verify_rows, "COMPARED_TOGETHER", waiting)
    changes, expected = FORGED[case]
    forge(path, **changes)
    problems = problems_of(path)
    for where, what in expected.items():
        assert re.search(what, problems[where]), problems
    if "disagree" in case:  # does not say which lengths are right, so rows and identity may seem wrong too
        problems = {where: what for where, what in problems.items() if where in expected}
    assert set(problems) == set(expected)


def test_a_changed_name_is_found_by_the_identity(path):
    forge(path, seal=False, sequences__source=put(4, "another"))
    assert list(problems_of(path)) == ["sequences"]
    assert "have the identity" in problems_of(path)["sequences"]


@pytest.mark.parametrize(
    ("missing", "value", "wrong"),
    [("error", np.nan, True), ("error", -np.inf, True), ("keep", np.nan, False), ("keep", np.inf, True)],
)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_values_that_no_writer_may_store_are_found(tmp_path, missing, value, wrong, dtype):
    recipe = Recipe(missing=missing, inputs=(dtype, (3,)), labels=(dtype, ()), chunk=240, shard=480, label_axis="own")
    clean = [Sequence(str(at), np.ones((at, 3), dtype), np.ones(at, dtype)) for at in (20, 30)]
    path = write(recipe, tmp_path / "store", clean)
    forge(path, inputs=put((slice(45, 47), 1), value), labels=put(3, value))
    problems = [problem for problem in store_spec.verify(path) if "holds other values" in problem.what]
    assert len(problems) == 2 * wrong
    if wrong:
        numbers = "finite numbers or NaN" if missing == "keep" else "finite numbers"
        what = f"row 45 holds other values than {numbers}, as do 1 more rows of its chunk"
        assert problems[0].what == f"{what}; concerns sequence 1 (30)"
        assert problems[1].where == "labels/c.0"


@pytest.mark.parametrize("missing", ["error", "keep"])
def test_values_that_are_not_finite_are_counted_in_their_chunk_and_found_in_every_file(tmp_path, missing):
    """A sequence of 20 steps in chunks of 4 and shards of 8, which are all read together."""
    recipe = Recipe(missing=missing, inputs=("float32", (3,)), chunk=48, shard=96)
    path = write(recipe, tmp_path / "store", make(recipe, [20]))
    forge(path, seal=False, inputs=put(([1, 2, 5, 17], 0), np.inf))
    problems = {problem.where: problem.what for problem in store_spec.verify(path) if problem.kind == "finite"}
    assert set(problems) == {"inputs/c.0.0", "inputs/c.2.0"}
    assert re.match("row 1 .* as do 1 more rows of its chunk; concerns sequence 0 ", problems["inputs/c.0.0"])
    assert re.match("row 17 .* as do 0 more rows of its chunk; concerns sequence 0 ", problems["inputs/c.2.0"])


@pytest.mark.parametrize("forged", [[], ["stats__labels_max"], [LABELS_CRC], ["stats__labels_mean", LABELS_CRC]])
def test_codes_without_a_class_are_found_in_tables_and_rows(tmp_path, forged):
    path = tmp_path / "store"
    labels = [np.array([[0, 7], [1, -7], [1, 7]], np.int16)] * 4
    store_of(path, [np.zeros(3, np.int8)] * 4, labels, sources="0123", classes=[["cat", "dog"], None])

    def change(rows):
        rows[:, 0] = [0, 1, 0, 0, 2, 0, 0, 1, 0, -1, 0, 0]  # sequences 1 and 3

    rows = store_spec.open_store(path).snapshot.rows("labels", 0, 12)
    change(rows)
    each = np.split(rows, 4)
    agreeing = {
        f"stats__labels_{name}": put(slice(None), [getattr(moments(rows), name) for rows in each]) for name in MOMENTS
    }
    agreeing[LABELS_CRC] = put(slice(None), [crc32c(rows) for rows in each])
    forge(path, seal=False, labels=change, **agreeing)
    forge(path, seal=False, **dict.fromkeys(forged, bump(1)))
    (problem,) = [problem for problem in store_spec.verify(path) if problem.kind == "classes"]
    what = "target 0 has the code 2, where there are 2 classes; concerns 2 sequences: 1 (1), 3 (3)"
    assert (problem.where, problem.what) == ("labels/c.0.0", what)


def test_leftovers_are_reported_without_uncommitted_chunks(path):
    for name in ("inputs/c.99.0", "labels/c.50", "offsets/c.1", "stats/inputs_m2/c.3.0"):
        (path / name).write_bytes(b"put by a writer that died")
    assert store_spec.verify(path) == []
    for name in ("zarr.json.0f.partial", "inputs/c.7.0.0f.partial", "stats/zarr.json.00.partial"):
        (path / name).write_bytes(b"half")
    problems = store_spec.verify(path)
    assert sorted(problem.where for problem in problems) == [
        "inputs/c.7.0.0f.partial",
        "stats/zarr.json.00.partial",
        "zarr.json.0f.partial",
    ]
    assert all(problem.leftover for problem in problems)
    assert all("half written by an interrupted writer; opening the store" in problem.what for problem in problems)
    store_spec.open_store(path, "a").close()
    assert store_spec.verify(path) == []


def test_a_commit_during_verify_and_its_temporary_files_are_not_a_problem(path, monkeypatch):
    (path / "inputs/c.7.0.0f.partial").write_bytes(b"half")
    rows, appended = Snapshot.rows, list[bool]()

    def meanwhile(*args, **options):
        if not appended:
            appended.append(True)
            with store_spec.open_store(path, "a") as writer:  # which removes that file
                append(writer, make(RECIPE, [40, 2], seed=1))
        return rows(*args, **options)

    monkeypatch.setattr(Snapshot, "rows", meanwhile)
    assert store_spec.verify(path) == []
    assert len(store_spec.open_store(path)) == len(LENGTHS) + 2


FILES = ["notes.txt", ".zarray", "inputs/c.0.1", "inputs/c.00.0", "inputs/c.0", "stats/extra", "offsets/c.0.0", "c.0"]
FOLDERS = ["old", "inputs/c.99.0", "sequences/extra", "x.partial"]


@pytest.mark.parametrize(("names", "make"), [(FILES, Path.touch), (FOLDERS, Path.mkdir)], ids=["files", "folders"])
def test_unknown_files_and_folders_are_found(path, names, make):
    for name in names:
        make(path / name)
    assert problems_of(path) == dict.fromkeys(names, "belongs to nothing in this store; remove it")


def document(path, name, **counts):
    """Return the metadata that an array would have if other counts were committed."""
    root = store_spec.open_store(path).snapshot.root
    return encode_document(array_document(root.schema, root.schema.fact(name), replace(root.counts, **counts)))


@pytest.mark.parametrize(
    ("name", "counts", "leftover", "what"),
    [
        ("inputs", {"steps": 40}, True, "has 40 rows, as after an earlier commit, where 69 are committed"),
        ("inputs", {"steps": 41}, True, "has 41 rows, as after an earlier commit"),
        ("inputs", {"steps": 70}, False, "has 70 rows, where 69 are committed"),
        ("labels", {"label_steps": 0}, True, "has 0 rows, as after"),
        ("label_row_size", {"sequences": 0, "label_steps": 0}, True, "has 0 rows, as after"),
        ("offsets", {"sequences": 0}, True, "has 1 rows, as after an earlier commit, where 9 are committed"),
        ("offsets", {"sequences": 9}, False, "has 10 rows"),
        ("stats/inputs_m2", {"sequences": 3}, True, "has 3 rows, as after"),
        ("row_size", {"sequences": -1}, False, "shape[0] is -1, where version 1 has 8"),
    ],
)
def test_metadata_that_lags_behind_the_root_is_a_leftover(path, name, counts, leftover, what):
    (path / name / ROOT).write_bytes(document(path, name, **counts))
    (problem,) = store_spec.verify(path)
    assert problem.where == f"{name}/{ROOT}"
    assert problem.what.startswith(what)
    assert problem.leftover == leftover


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [69]),
        ("shape", []),
        ("shape", None),
        ("shape", [True, 3]),
        ("data_type", "int8"),
        ("codecs", []),
        ("x", 1),
    ],
)
def test_different_metadata_are_found(path, key, value):
    changed = json.loads((path / "inputs" / ROOT).read_bytes()) | {key: value}
    (path / "inputs" / ROOT).write_text(json.dumps(changed))
    (what,) = problems_of(path).values()
    assert re.match(rf"{key}(\[0\])? is ", what)


def test_equivalent_metadata_are_accepted(path):
    for file in path.rglob(ROOT):
        if file.parent != path:
            file.write_text(json.dumps(json.loads(file.read_bytes())))
    assert store_spec.verify(path) == []


def test_a_file_that_the_disk_cannot_read_is_a_problem(path, monkeypatch):
    pread = os.pread

    def failing(descriptor, length, start):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(("inputs/c.1.0", "/row_size/c.0", "stats/zarr.json")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(descriptor, length, start)

    monkeypatch.setattr(os, "pread", failing)
    problems = problems_of(path)
    assert set(problems) == {"inputs/c.1.0", "row_size/c.0", "stats/zarr.json"}
    assert all(what.startswith("reading failed: Input/output error") for what in problems.values())


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.ENFILE, errno.ENOMEM], ids=errno.errorcode.get)
def test_limits_of_the_process_are_not_problems_of_the_store(path, monkeypatch, reason):
    opening = os.open

    def failing(name, *args, **options):
        if str(name).endswith("inputs/c.1.0"):
            raise OSError(reason, os.strerror(reason))
        return opening(name, *args, **options)

    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(StorageError, match=rf"inputs/c\.1\.0: opening failed: {os.strerror(reason)}"):
        store_spec.verify(path)


def test_every_chunk_is_decoded_once(path, spy):
    decode = spy(Codec, "decode")
    assert store_spec.verify(path) == []
    places = [call.args[-1] for call in decode.call_args_list]
    decoded = [place for place in places if not place.endswith("_crc32c/c.0")]  # read for the identity
    assert len(decoded) == len(set(decoded))
    labels = store_spec.open_store(path).snapshot.root.counts.label_steps
    tables = len(OWN) - 2 - 3  # two are text; three have checksums
    assert len(decoded) == 2 * -(-69 // 4) + -(-labels // 16) + tables
