"""The table rows of a sequence: the same bits as a whole and piece by piece, and which of them may differ."""

import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import SequenceError
from store_spec.format import records as records_module
from store_spec.format.moments import Moments
from store_spec.format.records import (
    CheckedSequence,
    Piecewise,
    Records,
    SourceId,
    check_sequence,
)
from store_spec.format.times import Time
from store_spec.schema import MOMENTS, Schema, rows_of
from store_spec.verification.described_rows import rounding
from tests.store.forging import forge, put
from tests.store.oracle import Recipe, assert_same_records, checked, make, recipes, write

SCHEMA = Schema.plan(rows_of("float32", (2,)), rows_of("int8", ()), label_axis="own")


def records(*names: str) -> Records:
    """Return records of sequences of 1, 2, ... steps, whose values and hashes follow from their number."""
    each = []
    for number, name in enumerate(names, 1):
        inputs, labels = np.full((number, 2), number, "float32"), np.full(number % 3, number, "int8")
        source = SourceId(name=name, size=number, sha256=hashlib.sha256(name.encode()).digest())
        each.append(check_sequence(SCHEMA, inputs, labels, source).record(SCHEMA, source))
    return Records.concatenate([Records.empty(SCHEMA), *each])


def test_the_identity_takes_no_memory_per_sequence(monkeypatch):
    whole = records(*map(str, range(120)))
    expected = whole.identity("0" * 64, SCHEMA)
    monkeypatch.setattr(records_module, "HASHED_TOGETHER", 7)
    tracemalloc.start()
    assert whole.identity("0" * 64, SCHEMA) == expected
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


def test_a_sequence_is_checked_before_anything_is_copied():
    inputs, labels = np.ones((3, 2), "float32"), np.ones(2, "int8")
    checked = check_sequence(SCHEMA, inputs, labels, SourceId(name="a"))
    assert np.shares_memory(checked.rows["inputs"], inputs)
    assert np.shares_memory(checked.rows["labels"], labels)


@pytest.mark.parametrize("missing", ["error", "keep"])
def test_labels_that_are_the_inputs_are_described_like_equal_ones(missing):
    schema = Schema.plan(rows_of("float32", (2,)), rows_of("float32", (2,)), missing=missing)
    x = np.arange(12, dtype="float32").reshape(6, 2)
    if missing == "keep":
        x[2, 1] = np.nan
    same, equal = (check_sequence(schema, x, y, SourceId(name="a")) for y in (x, x.copy()))
    assert same.rows["labels"] is same.rows["inputs"]
    assert_same_records(*(each.record(schema, SourceId(name="a")) for each in (same, equal)))
    x[0] = np.inf
    with pytest.raises(SequenceError, match="inputs: row 0"):
        check_sequence(schema, x, x, SourceId(name="a"))


def test_inputs_as_labels_of_the_sequence_are_one_row_each():
    """A sequence of as many steps as there are targets, each of which has as many values as a step."""
    x = np.arange(6, dtype="float32").reshape(3, 2)
    schema = Schema.plan(rows_of("float32", (2,)), rows_of("float32", (3, 2)), label_axis="sequence")
    assert check_sequence(schema, x, x, SourceId(name="a")).rows["labels"].shape == (1, 3, 2)
    schema = Schema.plan(rows_of("float32", (2,)), rows_of("float32", (3,)))
    with pytest.raises(SequenceError, match=r"labels have shape \(3, 2\), where this store has \(rows, 3\)"):
        check_sequence(schema, x, x, SourceId(name="a"))
    schema = Schema.plan(rows_of("float32", (2,)), rows_of("float64", (2,)))
    assert check_sequence(schema, x, x, SourceId(name="a")).rows["labels"].dtype == np.float64


SOURCE = SourceId(name="s", part=2, size=9, sha256=bytes(range(32)))


def cut(whole: CheckedSequence, places: list[float]) -> list[CheckedSequence]:
    """Cut the rows of each array at the same shares of its length."""
    bounds = {
        name: [0, *sorted(int(place * (len(rows) + 1)) for place in places), len(rows)]
        for name, rows in whole.rows.items()
    }
    return [
        CheckedSequence(
            {name: rows[bounds[name][part] : bounds[name][part + 1]] for name, rows in whole.rows.items()},
            whole.columns,
        )
        for part in range(len(places) + 1)
    ]


@given(
    recipe=recipes(),
    length=st.sampled_from([0, 1, 7, 3_000]),
    places=st.lists(st.floats(0, 1, exclude_max=True), max_size=4),
    block=st.sampled_from([1, 7, 100, 2**15]),
)
def test_any_pieces_have_the_records_of_the_whole(monkeypatch, recipe, length, places, block):
    """For any number of values whose moments are merged."""
    monkeypatch.setattr("store_spec.format.moments.BLOCK_VALUES", max(block, length // 20))
    (sequence,) = make(recipe, [length])
    schema = recipe.schema()
    whole = checked(schema, sequence, SOURCE)
    pieces = cut(whole, places)
    if schema.label_axis == "sequence":  # both give the number of rows
        pieces = [CheckedSequence({**one.rows, "labels": whole.rows["labels"]}, one.columns) for one in pieces]
    running = Piecewise(schema, SOURCE)
    for piece in pieces:
        arrays = {name: rows.copy() for name, rows in piece.rows.items()}
        running.add(CheckedSequence(arrays, piece.columns))
        for rows in arrays.values():
            rows[...] = 0  # the same arrays may be filled again
    assert_same_records(running.record(), whole.record(schema, SOURCE))


def test_decreasing_times_between_pieces_are_refused_with_their_place():
    schema = replace(Schema.plan(rows_of("float32", ()), rows_of("float32", ())), time=Time("s"))
    running = Piecewise(schema, SOURCE)

    def add(*times: int) -> None:
        rows = np.zeros(len(times), np.float32)
        running.add(check_sequence(schema, rows, rows, SOURCE, time=np.array(times, "datetime64[s]")))

    add(1, 2)
    add()
    add(2, 2)
    with pytest.raises(SequenceError, match=r"s \(part 2\): time falls at step 4, from 1970-.*:02 to 1970-.*:01; sort"):
        add(1)


def test_no_pieces_are_not_a_sequence():
    with pytest.raises(SequenceError, match="a sequence that comes in pieces has at least one; give an empty one"):
        Piecewise(Recipe().schema(), SOURCE).record()


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_moment_may_differ_by_its_rounding_and_by_no_more(tmp_path, name, sign):
    recipe = Recipe(inputs=("float32", (3,)), chunk=48, shard=96, label_axis="own")
    lengths = [10, 3, 27, 10]
    path = write(recipe, tmp_path / "s", make(recipe, lengths))
    snapshot = store_spec.open_store(path).snapshot
    said = Moments(*(snapshot.table(f"stats/inputs_{one}") for one in MOMENTS))
    table, value = f"stats/inputs_{name}", getattr(said, name)[2, 1]
    allowed = np.broadcast_to(rounding(table, said), said.mean.shape)[2, 1]
    assert (allowed > 0) == (name in ("mean", "m2"))
    for share, wrong in ((0.9, False), (1.1, True)):
        other = value + sign if name == "count" else np.nextafter(value + share * sign * allowed, sign * np.inf)
        forge(path, seal=False, **{table.replace("/", "__"): put((2, 1), other)})
        problems = store_spec.verify(path)
        assert [problem.where for problem in problems] == [f"{table}/c.0.0"] * (wrong or not allowed)
        assert all("column 1 has" in problem.what and "concerns sequence 2 " in problem.what for problem in problems)
