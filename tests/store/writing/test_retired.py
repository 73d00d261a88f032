"""Retired sequences: readers skip them, older snapshots keep them, and new versions replace them."""

import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import FormatError, SequenceError
from store_spec.format import retired
from store_spec.format.times import Time
from store_spec.schema import MOMENTS
from tests.store.damage import attribute
from tests.store.oracle import Recipe, Sequence, append, assert_holds, make, write
from tests.store.spec_reader import SpecReader

numbers = st.sets(st.integers(0, 30))


@given(before=numbers, more=numbers)
def test_ranges_are_the_set_of_numbers(before, more):
    ranges = retired.add(retired.add((), before), more)
    both = sorted(before | more)
    assert retired.members(ranges).tolist() == both
    assert retired.count(ranges) == len(both)
    assert retired.others(ranges, 31).tolist() == [number for number in range(31) if number not in both]
    assert retired.decode([list(pair) for pair in ranges], 31, "here") == ranges
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(ranges))


@given(value=st.lists(st.lists(st.integers(-2, 6), min_size=1, max_size=3), max_size=3))
def test_invalid_lists_of_ranges_are_refused(value):
    pairs = [tuple(pair) for pair in value]
    fine = all(len(pair) == 2 and 0 <= pair[0] < pair[1] <= 5 for pair in pairs)
    fine = fine and all(before[1] < after[0] for before, after in itertools.pairwise(pairs))
    if fine:
        assert retired.decode(value, 5, "here") == tuple(pairs)
    else:
        with pytest.raises(FormatError, match="here: retired"):
            retired.decode(value, 5, "here")


@pytest.fixture(params=["step", "sequence", "own"])
def recipe(request):
    return Recipe(label_axis=request.param, columns=(("site", "string"), ("visits", "int64")), time=Time("s"))


def write_sequences(path, recipe, lengths=(7, 30, 0, 12, 25, 3)):
    sequences = make(recipe, lengths)
    write(recipe, path, sequences)
    return sequences


def test_views_skip_retired_sequences(tmp_path, recipe):
    sequences = write_sequences(tmp_path / "s", recipe)
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        writer.retire(sequences[1].source)
    left = [one for number, one in enumerate(sequences) if number != 1]
    write(recipe, tmp_path / "only", left)
    store, only = store_spec.open_store(tmp_path / "s"), store_spec.open_store(tmp_path / "only")
    assert_holds(store.select([3, 0]), [left[3], left[0]])
    assert_holds(store.select(left[2].source), [left[2]])
    assert_holds(store[::-1], left[::-1])
    for name in ("inputs", "labels"):
        for moment in MOMENTS:
            found, expected = (getattr(getattr(one.stats(), name), moment) for one in (store, only))
            np.testing.assert_array_equal(found, expected)
    train, wanted = (each.split("train", allow_empty=True) for each in (store, only))
    assert train.sources == wanted.sources
    assert store.parts.tolist() == only.parts.tolist()
    with pytest.raises(Exception, match="no sequence of source"):
        store.select(sequences[1].source)


def test_new_sequences_take_the_place_of_retired_ones_in_one_commit_and_old_readers_keep_those(tmp_path, recipe):
    sequences = write_sequences(tmp_path / "s", recipe)
    fresh = make(recipe, [9, 5], seed=3, sources=[sequences[1].source] * 2)
    seen, touched = store_spec.open_store(tmp_path / "s"), store_spec.open_store(tmp_path / "s")
    assert_holds(touched, sequences)
    writer = store_spec.open_store(tmp_path / "s", "a")
    writer.retire(sequences[0].source)
    writer.close()  # without a commit
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        writer.retire(sequences[1].source)
        writer.retire(sequences[2].source)
        assert len(writer) == 4
        append(writer, fresh)
        assert_holds(store_spec.open_store(tmp_path / "s"), sequences)  # nothing is visible before the commit
    now = [sequences[number] for number in (0, 3, 4, 5)] + fresh
    after = store_spec.open_store(tmp_path / "s")
    for each in (after, pickle.loads(pickle.dumps(after))):
        assert_holds(each, now)
    for before in (pickle.loads(pickle.dumps(seen)), seen, touched):
        assert_holds(before, sequences)
    assert after.counts.sequences == 8
    assert after.snapshot.root.retired == ((1, 3),)
    assert repr(after).startswith("<seqzarr store s: 6 sequences, 61 steps")
    assert after.parts.tolist()[-2:] == [0, 1]
    assert store_spec.verify(tmp_path / "s") == []
    independent = [(name, rows.tobytes()) for name, rows, _ in SpecReader(tmp_path / "s").sequences()]
    assert independent == [(one.source, one.inputs.tobytes()) for one in now]


def test_only_existing_committed_sequences_can_be_retired(tmp_path):
    recipe = Recipe()
    sequences = write_sequences(tmp_path / "s", recipe)
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        with pytest.raises(SequenceError, match=r"^nowhere: only committed sequences can be retired, and there is no"):
            writer.retire("nowhere")
        append(writer, make(recipe, [3], seed=9, sources=["new"]))
        with pytest.raises(SequenceError, match=r"^new: .* it was appended and is not committed yet"):
            writer.retire("new")
        with pytest.raises(SequenceError, match="retire it first"):
            append(writer, [Sequence(sequences[0].source, sequences[0].inputs, sequences[0].labels)])
        writer.retire(sequences[0].source)
        with pytest.raises(SequenceError, match="there is none"):
            writer.retire(sequences[0].source)
        writer.commit()
        writer.retire("new")
    assert store_spec.open_store(tmp_path / "s").sources == tuple(one.source for one in sequences[1:])


def test_another_set_of_sequences_has_another_identity(tmp_path):
    sequences = write_sequences(tmp_path / "s", Recipe())
    found = {store_spec.open_store(tmp_path / "s").identity}
    for one in sequences[:3]:
        with store_spec.open_store(tmp_path / "s", "a") as writer:
            writer.retire(one.source)
        found.add(store_spec.open_store(tmp_path / "s").identity)
    assert len(found) == 4


@pytest.mark.parametrize(
    ("ranges", "what"),
    [
        ([[0, 1]], "retired has some sequences of a source and not all; concerns 2 sequences: 0 (a), 1 (a)"),
        ([[0, 2]], None),
        ([[1, 2]], "retired"),
    ],
)
def test_verify_finds_a_partly_retired_source(tmp_path, ranges, what):
    write(Recipe(), tmp_path / "s", make(Recipe(), [3, 4, 5], sources=["a", "a", "b"]))
    attribute("retired", ranges)(tmp_path / "s")
    problems = [problem.what for problem in store_spec.verify(tmp_path / "s") if not problem.leftover]
    assert (problems == []) if what is None else any(what in problem for problem in problems)


def test_verify_finds_a_root_older_than_the_last_retirement(tmp_path):
    sequences = write_sequences(tmp_path / "s", Recipe())
    before = (tmp_path / "s" / "zarr.json").read_bytes()
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        writer.retire(sequences[0].source)
    assert store_spec.verify(tmp_path / "s") == []
    after = (tmp_path / "s" / "zarr.json").read_bytes()
    (tmp_path / "s" / "zarr.json").write_bytes(before)
    (problem,) = store_spec.verify(tmp_path / "s")
    assert str(problem) == (
        "s/zarr.json: retires 0 sequences, where sequences/zarr.json has 1: it is an older copy; restore it"
    )
    (tmp_path / "s" / "zarr.json").write_bytes(after)
    own = tmp_path / "s" / "sequences" / "zarr.json"
    witness = own.read_bytes()
    own.write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')  # its writer was killed
    (problem,) = store_spec.verify(tmp_path / "s")
    assert problem.leftover
    store_spec.open_store(tmp_path / "s", "a").close()
    assert own.read_bytes() == witness
    assert store_spec.verify(tmp_path / "s") == []
    own.write_bytes(witness.replace(b'"retired": 1', b'"retired": "1"'))
    (problem,) = store_spec.verify(tmp_path / "s")
    assert not problem.leftover


@pytest.mark.slow
@pytest.mark.parametrize("gone", [0, 1, 4])
def test_a_lost_shard_of_retired_rows_is_not_a_failure(tmp_path, recipe, gone):
    recipe = replace(recipe, chunk=24, shard=48)
    sequences = make(recipe, (9, 17, 0, 10, 14, 6))
    write(recipe, tmp_path / "s", sequences)
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        writer.retire(sequences[gone].source)
    left = [one for number, one in enumerate(sequences) if number != gone]
    snapshot = store_spec.open_store(tmp_path / "s").snapshot
    size, bounds = snapshot.root.schema.steps.shard, snapshot.bounds("inputs").tolist()
    seen = {row for number in range(6) if number != gone for row in range(bounds[number], bounds[number + 1])}
    for number in range(-(-bounds[-1] // size)):
        shard = tmp_path / "s" / f"inputs/c.{number}.0"
        shard.rename(tmp_path / "lost")
        store = store_spec.open_store(tmp_path / "s")
        if seen.isdisjoint(range(number * size, (number + 1) * size)):
            assert_holds(store, left)
            assert len(list(store.padded(2))) == 3
        else:
            with pytest.raises(FormatError, match="lost"):
                list(store.padded(2))
        (tmp_path / "lost").rename(shard)


def test_an_older_copy_of_a_shard_that_lacks_only_retired_rows_is_not_a_failure(tmp_path):
    rows = np.arange(13, dtype="float32").reshape(-1, 1)
    with store_spec.create_store(
        tmp_path / "s", inputs=("float32", (1,)), labels=("float32", (1,)), chunk=16, shard=32
    ) as writer:
        writer.append(rows[:5], rows[:5], source="a")
    older = (tmp_path / "s/inputs/c.0.0").read_bytes()
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        assert writer.schema.steps.shard == 8
        writer.append(rows[5:10], rows[5:10], source="b")
        writer.append(rows[10:], rows[10:], source="c")
    (tmp_path / "s/inputs/c.0.0").write_bytes(older)
    with pytest.raises(FormatError, match="has 5 rows, by its stamp, where 8 are committed; it is an older copy"):
        store_spec.open_store(tmp_path / "s")[0]
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        writer.retire("b")
    store = store_spec.open_store(tmp_path / "s")
    assert [store[number][0].tolist() for number in range(2)] == [rows[:5].tolist(), rows[10:].tolist()]
