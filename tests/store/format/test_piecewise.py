"""A sequence whose rows come piece by piece has the same table rows, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import SequenceError
from store_spec.format.records import CheckedSequence, Piecewise, SourceId, check_sequence, describe
from store_spec.format.times import Time
from store_spec.schema import Schema, rows_of
from tests.store.oracle import Recipe, assert_same_records, checked, make, recipes

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
    assert_same_records(running.record(), describe(schema, whole, SOURCE))


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
