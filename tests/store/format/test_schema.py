"""The possible schemas of a store, and the sizes that follow from a schema."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import SchemaError
from store_spec.format.codec import LARGEST_CHUNK_BYTES, Codec
from store_spec.format.layout import chunk_key, chunk_number
from store_spec.format.times import Time
from store_spec.reading.argument_checks import parse_bytes
from store_spec.schema import LARGEST_SHARD_CHUNKS, Chunking, Rows, Schema, rows_of


@given(row_bytes=st.integers(1, 10**6), chunk_bytes=st.integers(1, 2**24), times=st.integers(1, 1000))
def test_a_chunk_is_the_largest_power_of_two_that_fits_and_a_shard_as_many_chunks(row_bytes, chunk_bytes, times):
    chunk = max([2**power for power in range(25) if 2**power * row_bytes <= chunk_bytes], default=1)
    shard_bytes = chunk_bytes * times
    assert Chunking.for_rows(row_bytes, chunk_bytes=chunk_bytes, shard_bytes=shard_bytes) == Chunking(
        chunk, chunk * max(1, shard_bytes // (chunk * row_bytes))
    )


@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
def test_labels_share_the_chunks_of_inputs_only_on_the_step_axis(axis):
    schema = Schema.plan(rows_of("int8", (4,)), rows_of("float64", (100,)), label_axis=axis)
    wide, narrow = Chunking.for_rows(800), Chunking.for_rows(4)
    assert schema.chunking("inputs") == (wide if axis == "step" else narrow)
    assert schema.is_sharded("labels") == (axis != "sequence")
    assert axis == "sequence" or schema.chunking("labels") == wide


def test_times_share_the_chunks_of_inputs_and_tables_have_none():
    schema = Schema.plan(rows_of("int8", ()), rows_of("int8", ()), label_axis="own", time=Time("s"))
    assert schema.chunking("time") == schema.chunking("inputs") == Chunking.for_rows(8)
    assert schema.chunking("labels") == Chunking.for_rows(1)
    assert schema.sharded() == {"step": ("inputs", "time"), "label_step": ("labels",)}
    for fact in schema.arrays():
        assert schema.fact(fact.name) == fact
        assert schema.is_sharded(fact.name) == (fact.name in ("inputs", "labels", "time"))
    with pytest.raises(LookupError, match="there is no array 'sequences/site'"):
        schema.fact("sequences/site")


PLAIN = rows_of("float32", (2,))


def wrong_rows(shape: Any, names: Any = None) -> Rows:
    """Describe a row by an invalid shape, or invalid names."""
    return Rows(np.dtype("int8"), shape, names)


IMPOSSIBLE = {
    "text": (lambda: rows_of("U5", ()), "dtype <U5 cannot be stored; take one of bool, "),
    "objects": (lambda: rows_of(object, ()), "dtype object cannot be stored"),
    "times": (lambda: rows_of("datetime64[s]", ()), r"dtype datetime64\[s\] cannot"),
    "long double": (lambda: rows_of("longdouble", ()), "cannot be stored"),
    "an empty row": (lambda: rows_of("int8", (3, 0)), r"a row of shape \(3, 0\) holds nothing"),
    "a fraction for a size": (lambda: wrong_rows((2.5,)), r"a row of shape \(2\.5,\); a shape is a tuple of whole"),
    "a text for a size": (lambda: wrong_rows(("3",)), r"a row of shape \('3',\); a shape is a tuple of whole"),
    "a size alone": (lambda: wrong_rows(3), "a row of shape 3; a shape is a tuple of whole numbers"),
    "names in one text": (lambda: wrong_rows((2,), "hr"), "names='hr' is one text; give a list of texts"),
    "too few names": (lambda: rows_of("int8", (3,), ["a", "b"]), "2 names for 3 features"),
    "a name twice": (lambda: rows_of("int8", (3,), ["a", "b", "a"]), "the name 'a' is given twice"),
    "a number for a name": (lambda: wrong_rows((2,), (1, 2)), "is not text"),
    "nothing for a name": (lambda: wrong_rows((2,), ("a", None)), "is not text"),
    "no chunk": (lambda: Chunking(0, 4), "a chunk of 0 and a shard of 4 steps; both must be at least 1"),
    "a cut chunk": (lambda: Chunking(4, 10), "a shard of 10 steps cuts a chunk of 4; use shard=12"),
    "a huge index": (lambda: Chunking(1, LARGEST_SHARD_CHUNKS + 1), "a shard of 1,048,577 chunks; .* 1,048,576"),
    "no bytes": (lambda: Chunking.for_rows(4, chunk_bytes=0), "chunks of 0 bytes"),
    "small shards": (lambda: Chunking.for_rows(4, chunk_bytes=100, shard_bytes=99), "of 100 bytes in shards of 99"),
    "a huge row": (lambda: Chunking.for_rows(2**31), "2,147,483,648 bytes; Blosc compresses 2,147,483,631 at most"),
    "a huge chunk": (
        lambda: Schema(inputs=PLAIN, labels=PLAIN, steps=Chunking(2**28, 2**28)),
        "inputs: a chunk of 268,435,456 steps is 2,147,483,648 bytes",
    ),
    "huge labels": (
        lambda: Schema(inputs=PLAIN, labels=rows_of("int8", (LARGEST_CHUNK_BYTES,)), steps=Chunking(2, 2)),
        "labels: a chunk of 2 steps",
    ),
    "an axis": (lambda: Schema.plan(PLAIN, PLAIN, label_axis="row"), "axis 'row' is not one of step, sequence, own"),
    "a policy": (lambda: Schema.plan(PLAIN, PLAIN, missing="drop"), "missing='drop' is not one of error, keep"),
    "label steps": (
        lambda: Schema(inputs=PLAIN, labels=PLAIN, steps=Chunking(1, 1), label_steps=Chunking(1, 1)),
        "with label axis 'step'; it goes with 'own'",
    ),
    "classes of inputs": (lambda: Schema.plan(Rows(np.dtype("i1"), (), classes=(("a",),)), PLAIN), "only labels have"),
    "a codec": (lambda: Codec.parse("gzip"), "codec 'gzip' is not known; take one of zstd, lz4, none"),
    "a level": (lambda: Codec.parse("zstd:10"), "codec level 10 is outside 1 to 9"),
    "no level": (lambda: Codec.parse("zstd:fast"), "'fast' is not a level"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_an_impossible_schema_is_refused_with_its_numbers(case):
    make, message = IMPOSSIBLE[case]
    with pytest.raises(SchemaError, match=message):
        make()


def test_any_byte_order_is_stored_as_this_machines():
    assert Rows(np.dtype(">f4"), (3,)) == rows_of("float32", (3,))


def test_a_row_has_its_size():
    assert (rows_of("float32", (4, 4, 3)).nbytes, rows_of("float32", (4, 4, 3)).features) == (192, 3)
    assert (rows_of("int8", ()).nbytes, rows_of("int8", ()).features) == (1, 1)


def test_the_key_of_a_chunk_reads_back():
    schema = Schema.plan(rows_of("int8", (2, 3)), rows_of("int8", ()))
    for number, (name, other) in itertools.product((0, 7, 10**12), itertools.permutations(("inputs", "labels"))):
        key = chunk_key(schema, name, number).removeprefix(f"{name}/")
        assert chunk_number(schema, name, key) == number
        assert chunk_number(schema, other, key) is None


@pytest.mark.parametrize(
    "name", ["zarr.json", "c", "c.", "c.01", "c.-1", "c.1.1", "c.x", "c.\u0663", "c.1.partial", "C.1"]
)
def test_other_names_are_not_keys_of_chunks(name):
    assert chunk_number(Schema.plan(PLAIN, PLAIN), "offsets", name) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (4096, 4096), (np.int64(5), 5), (5e9, 5 * 10**9),
        ("0", 0), ("12", 12), ("12b", 12), ("1k", 1000), ("1kB", 1000), ("1 KiB", 1024),
        ("2.5MB", 2_500_000), (" 64 mib ", 2**26), ("1G", 10**9), ("1GiB", 2**30), ("1.5TB", 1_500_000_000_000),
        ("1tib", 2**40),
    ],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e6", "1,000", "1 PB", "1MBB", "1 M B", "one", "0x10", ".5k", None])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(SchemaError, match="is not a size in bytes; write for example '64MB'"):
        parse_bytes(text)
