"""The table rows of a sequence."""

import hashlib
import tracemalloc

import numpy as np
import pytest

from store_spec.errors import SequenceError
from store_spec.format import records as records_module
from store_spec.format.records import Records, SourceId, check_sequence, describe, no_records
from store_spec.schema import Schema, rows_of
from tests.store.oracle import assert_same_records

SCHEMA = Schema.plan(rows_of("float32", (2,)), rows_of("int8", ()), label_axis="own")


def records(*names: str) -> Records:
    """Return records of sequences of 1, 2, ... steps, whose values and hashes follow from their number."""
    each = []
    for number, name in enumerate(names, 1):
        inputs, labels = np.full((number, 2), number, "float32"), np.full(number % 3, number, "int8")
        source = SourceId(name=name, size=number, sha256=hashlib.sha256(name.encode()).digest())
        each.append(describe(SCHEMA, check_sequence(SCHEMA, inputs, labels, source), source))
    return Records.concatenate([no_records(SCHEMA), *each])


def test_the_identity_follows_the_format():
    """Stores are recognised by it: another identity needs another version of the format."""
    whole = records("a", "b/c.csv", "d\nä")
    digest = bytes(32)
    for number, name in enumerate(whole.sources):
        size, crcs = number + 1, [whole.columns[f"sequences/{array}_crc32c"][number] for array in ("inputs", "labels")]
        file = hashlib.sha256(name.encode()).hexdigest()
        line = f"{name}\n0 {size} {file} {size} {size % 3} {crcs[0]:08x} {crcs[1]:08x}"
        digest = hashlib.sha256(digest + line.encode()).digest()
    assert whole.identity("0" * 64, SCHEMA) == digest.hex() == PINNED


def test_the_identity_of_a_whole_is_that_of_its_pieces_one_after_another():
    whole = records("a", "b", "c")
    assert whole[1:].identity(whole[:1].identity("0" * 64, SCHEMA), SCHEMA) == whole.identity("0" * 64, SCHEMA)
    assert no_records(SCHEMA).identity("ab" * 32, SCHEMA) == "ab" * 32


def test_the_identity_takes_no_memory_per_sequence(monkeypatch):
    whole = records(*map(str, range(120)))
    expected = whole.identity("0" * 64, SCHEMA)
    monkeypatch.setattr(records_module, "NAMED_TOGETHER", 7)
    tracemalloc.start()
    assert whole.identity("0" * 64, SCHEMA) == expected
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


@pytest.mark.parametrize(
    "column", ["part", "source_size", "source_sha256", "inputs_crc32c", "labels_crc32c", "lengths", "label_lengths"]
)
def test_the_identity_changes_with_every_part_of_a_sequence(column):
    changed, original = records("a", "b"), records("a", "b")
    where = getattr(changed, column) if column.endswith("lengths") else changed.columns[f"sequences/{column}"]
    where[1:] += 1
    assert changed.identity("0" * 64, SCHEMA) != original.identity("0" * 64, SCHEMA)
    assert records("a", "c").identity("0" * 64, SCHEMA) != original.identity("0" * 64, SCHEMA)


def test_slices_and_concatenations_apply_to_every_column():
    whole = records("a", "b", "c", "d")
    assert whole.sources == ("a", "b", "c", "d")
    assert_same_records(Records.concatenate([whole[:1], whole[1:3], whole[3:]]), whole)


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
    assert_same_records(*(describe(schema, each, SourceId(name="a")) for each in (same, equal)))
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


PINNED = "24f4020b8b1b10c1b760f59bb26c30565b98b2fe609a01efa43c3d1bc65d5012"
