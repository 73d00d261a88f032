"""SPEC.md agrees with schema.py, and with what is written."""

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec import schema
from store_spec.disk.storage import LocalStorage
from store_spec.format import codec, documents, layout, names, sequence_columns, shard
from store_spec.format.codec import Codec
from store_spec.format.moments import Moments, merge, moments
from store_spec.format.times import CALENDAR, EPOCH, UNITS, Time
from store_spec.schema import ARRAYS, Rows, Schema, rows_of
from tests.store.damage import attribute, metadata
from tests.store.make_golden import STORES
from tests.store.make_malformed import FAULTS
from tests.store.oracle import same
from tests.store.spec_reader import SpecReader

SPEC = (Path(schema.__file__).parent / "SPEC.md").read_text()
LENGTHS = (5, 0, 2)


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", SPEC, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def prose(heading: str) -> str:
    """Return the text below a heading on one line."""
    return " ".join(section(heading).split())


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading, without its header."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def examples(heading: str) -> list[Any]:
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section(heading), re.DOTALL)]


def found_in(heading: str, pattern: str) -> tuple[str, ...]:
    """Return the groups of a pattern in the text below a heading."""
    found = re.search(pattern, section(heading))
    assert found, pattern
    return found.groups()


def number(written: str) -> int:
    """Read `2^31 - 17`, `20` or `262,144`."""
    power, minus, less = written.replace(",", "").partition(" - ")
    base, _, exponent = power.partition("^")
    value: int = int(base) ** int(exponent or 1)
    return value - (int(less) if minus else 0)


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Path:
    """The store whose root SPEC.md shows."""
    path: Path = tmp_path_factory.mktemp("spec") / "walks.zarr"
    with store_spec.create_store(
        path,
        inputs=Rows(np.dtype("float32"), (3,), ("x", "y", "z")),
        labels=("int64", ()),
        columns={"site": "string"},
        provenance={"robot": "walker", "rate_hz": 50},
    ) as writer:
        for name, steps, site in zip("abc", LENGTHS, "ABA", strict=True):
            walk = np.arange(3 * steps, dtype=np.float32).reshape(steps, 3)
            writer.append(walk, np.arange(steps), source=f"walks/{name}.csv", columns={"site": site})
    return path


ANY_SCHEMA = {
    axis: Schema.plan(
        rows_of("float32", (4, 5, 17)),
        rows_of("int16", (2, 6)),
        label_axis=axis,
        missing="keep",
        codec=Codec("lz4", 7),
        time=Time("ms"),
        filled=True,
    )
    for axis in schema.LABEL_AXES
}


def test_the_arrays_of_the_table_are_those_of_the_constants_in_this_order():
    dtypes = {"of `inputs`": "", "of `labels`": ""}
    tails = {"inputs row": "inputs", "labels row": "labels", "()": "", "F": "features", "G": "targets", "32": "hash"}
    tails["2"] = "run"
    only = {"always": "", "own": "own", "time": "time", "keep": "keep", "filled": "filled"}
    rows = {"T": {"step"}, "L": {""}, "N": {"sequence"}, "N + 1": {"sequence_bound", "label_sequence_bound"}}
    rows |= {"R": {"missing_inputs_run"}, "S": {"missing_labels_run"}}
    found = table("Arrays")
    assert len(found) == len(ARRAYS)
    for (name, dtype, count, row, dimensions, present, _), fact in zip(found, ARRAYS, strict=True):
        assert name == f"`{fact.name}`"
        assert dtypes.get(dtype, dtype) == fact.dtype
        assert fact.axis in rows[count]
        assert tails[row] == fact.tail
        assert only[present] == fact.only
        first = re.match(r"`(\w+)`", dimensions)
        assert (first[1] if first else "") == fact.axis
    assert schema.HASH_BYTES == 32
    assert f"; {schema.NO_FILE} where there is no file" in section("Arrays")


@pytest.mark.parametrize("axis", schema.LABEL_AXES)
def test_dimension_names_follow_from_the_table(axis):
    planned = ANY_SCHEMA[axis]
    names = {
        "inputs dimensions": ["input_axis_1", "input_axis_2", "feature"],
        "labels dimensions": ["label_axis_1", "target"],
        "label axis": [{row[0]: row[2] for row in table("Label axes")}[f"`{axis}`"].strip("`")],
    }
    for name in ("input_axis_1", "label_axis_1", "feature", "target"):
        assert f"`{name}`" in section("Arrays")
    written = {name.strip("`"): cell for name, _, _, _, cell, _, _ in table("Arrays")}
    for fact in planned.arrays():
        document = layout.array_document(planned, fact, layout.Counts())
        words = [word.strip() for word in written[fact.name].split(",")]
        assert document["dimension_names"] == [name for word in words for name in names.get(word, [word.strip("`")])]


def test_the_dtypes_are_those_of_the_constants():
    listed = section("Dtypes").partition("is one of:")[2].partition(". A bool")[0]
    assert tuple(re.findall(r"`(\w+)`", listed)) == schema.DTYPES


def test_the_label_axes_and_what_missing_may_be_are_those_of_the_constants():
    assert tuple(row[0].strip("`") for row in table("Label axes")) == schema.LABEL_AXES
    assert set(found_in("The root document", r"`missing`: `(\w+)` .*?, `(\w+)`")) == set(schema.MISSING)


def test_the_limits_are_those_of_the_constants():
    assert [number(row[1]) for row in table("Limits")] == [
        documents.LARGEST_DOCUMENT,
        layout.LARGEST_COUNT,
        layout.LARGEST_DIMENSIONS,
        schema.LARGEST_SHARD_CHUNKS,
        codec.LARGEST_CHUNK_BYTES,
        codec.LARGEST_TEXT_BYTES,
        codec.LARGEST_OVERHEAD,
        codec.LARGEST_RATIO,
    ]


def test_further_columns_are_those_of_the_constants():
    said = prose("Further columns")
    assert tuple(re.findall(r"`(\w+)`", said.partition("the column's dtype:")[2].partition(". A missing")[0])) == (
        sequence_columns.COLUMN_TYPES
    )
    assert f"at most {sequence_columns.LARGEST_TEXT:,} bytes" in said
    assert f"1 to {sequence_columns.LARGEST_COLUMN_NAME} bytes" in said
    own = {fact.name.removeprefix("sequences/") for fact in ARRAYS if fact.name.startswith("sequences/")}
    assert own <= set(sequence_columns.RESERVED)
    assert set(re.findall(r"`([\w.]+)`", said.partition("below `sequences`,")[2].partition("; all these")[0])) <= set(
        sequence_columns.RESERVED
    )


@pytest.mark.parametrize("unit", UNITS)
def test_times_follow_the_text(unit):
    said, words = prose("Time"), prose("Array metadata")
    assert re.findall(r"`(\w+)`", said.partition("a number of `unit`, which is ")[2].partition(", since")[0]) == list(
        UNITS
    )
    assert f'`since` is `"{EPOCH}"`' in said
    for given in (Time(unit), Time(unit, None), Time(unit, zone="UTC")):
        planned = Schema.plan(rows_of("int8", ()), rows_of("int8", ()), time=given)
        written = layout.array_document(planned, planned.fact("time"), layout.Counts())["attributes"]
        first, since, _ = written["units"].partition(" since 1970-01-01 00:00:00")
        assert f"`{first}`" in words
        assert bool(since) == (given.since is not None) == (written.get("calendar") == CALENDAR)
        assert f"`{CALENDAR}`" in words
        assert "` since 1970-01-01 00:00:00`" in words


def test_the_sizes_of_chunks_are_those_of_the_constants():
    sizes = section("Array metadata")
    assert (schema.CHUNK_BYTES, schema.SHARD_BYTES, schema.TABLE_CHUNK_BYTES) == (2**18, 2**26, 2**18)
    assert all(f"{size} " in sizes for size in ("64 MiB", "256 KiB"))
    assert f"string counting as {schema.STRING_BYTES} bytes" in sizes
    assert number("2^64 - 1") == shard.ABSENT


def test_the_text_about_the_version_shards_names_and_codecs_agrees_with_the_constants():
    said = " ".join(SPEC.split())
    small, large, tables = schema.CHUNK_BYTES // 2**10, schema.SHARD_BYTES // 2**20, schema.TABLE_CHUNK_BYTES // 2**10
    compressors = " or ".join(f"`{name}`" for name in codec.COMPRESSORS if name != "none")
    name_bytes = shard.STAMP.size - struct.calcsize("<QQ")
    for words in (
        f"# The seqzarr store, format version {schema.VERSION[0]}.{schema.VERSION[1]} ",
        f"The major version is not {schema.VERSION[0]}.",
        f"Each name has 1 to {names.LARGEST_CLASS_NAME:,} bytes",
        f"`blosc` with `cname` {compressors}, `clevel` {codec.LEVELS[0]} to {codec.LEVELS[-1]}",
        "`crc32c`, and `index_location` is `end`;",
        f"then a stamp of {shard.STAMP_BYTES} bytes, then the index:",
        f"the name of the array in ASCII, padded with zeros to {name_bytes} bytes;",
        f"the crc32c of these {shard.STAMP.size} bytes",
        f"of two of steps that is at most {small} KiB decoded for the widest row on the axis,",
        f"and as shard as many chunks as {large} MiB hold",
        f"of two of rows that is at most {tables} KiB decoded, a string counting as {schema.STRING_BYTES} bytes",
        f"the name of the sequence's source: 1 to {schema.LARGEST_NAME_BYTES:,} bytes of UTF-8",
        f"It begins with {len(layout.BLANK) // 2} zero bytes.",
    ):
        assert words in said, words


def test_the_text_has_the_written_chunks_of_tables():
    """Every line of the table of chunk sizes gives the chunk of some array."""
    shapes = {"17": (17,), "50,000": (50_000,)}
    for what, row_bytes, rows in table("Array metadata"):
        dtype, _, tail = what.partition(", row ")
        planned = Schema.plan(rows_of("float32", shapes.get(tail, (2,))), rows_of("bool", ()))
        wanted = {"": "", "()": "", "32": "hash"}.get(tail, "features")
        facts = [fact for fact in ARRAYS if fact.dtype == dtype and fact.tail == wanted]
        assert facts
        for fact in facts:
            width = schema.STRING_BYTES if dtype == "string" else planned.dtype(fact).itemsize
            assert width * int(np.prod(planned.shape(fact))) == number(row_bytes)
            assert planned.chunking(fact.name).chunk == number(rows)


def test_the_metadata_of_arrays_have_the_members_of_the_text_and_no_others():
    """Every name in code marks that is a member of an array's document, and no other member, is written."""
    for planned in ANY_SCHEMA.values():
        for fact in planned.arrays():
            document = layout.array_document(planned, fact, layout.Counts())
            assert set(document) <= set(re.findall(r"`(\w+)`", section("Array metadata")))


def test_the_example_is_the_root_document_of_a_store_that_is_written_now(example):
    document = json.loads((example / "zarr.json").read_text())
    (attributes, members), found = examples("The root document"), document["consolidated_metadata"]
    assert attributes == document["attributes"]
    assert list(members) == ["inputs", "sequences/source"]
    assert members == {name: found["metadata"][name] for name in members}
    (inline,) = found_in("The root document", r"`consolidated_metadata` is `(\{.*?\})`")
    assert json.loads(inline.replace("{...}", "{}")) == found | {"metadata": {}}
    (group,) = found_in("The root document", r"groups `sequences` and `stats` \(`(.*?)`\)")
    assert json.loads(group) == found["metadata"]["sequences"] == found["metadata"]["stats"]


@pytest.mark.parametrize("axis", schema.LABEL_AXES)
def test_the_examples_of_offsets_are_right(axis, tmp_path):
    rows, offsets = found_in("Label axes", rf"`{axis}` \|.* (\d+) rows; `(\[.*?\])`")
    label_lengths = {"step": LENGTHS, "sequence": (1, 1, 1), "own": (1, 4, 0)}[axis]
    path = tmp_path / "walks.zarr"
    with store_spec.create_store(path, inputs=("int8", ()), labels=("int8", (2,)), label_axis=axis) as writer:
        for name, steps, label_steps in zip("abc", LENGTHS, label_lengths, strict=True):
            writer.append(np.zeros(steps, np.int8), np.zeros((label_steps, 2), np.int8), source=name)
    store = store_spec.open_store(path)
    assert "`[0, 5, 5, 7]`" in section("Label axes")
    assert store.snapshot.bounds("inputs").tolist() == [0, 5, 5, 7]
    assert "`[5, 0, 2]`" in section("Label axes")
    assert store.snapshot.table("row_size").tolist() == [5, 0, 2]
    assert store.snapshot.bounds("labels").tolist() == json.loads(offsets)
    assert SpecReader(path).arrays["labels"]["shape"] == [int(rows), 2]


@pytest.mark.parametrize("golden", STORES, ids=lambda golden: golden.name)
def test_a_reader_written_from_the_text_alone_gets_every_sequence_bit_for_bit(golden):
    reader, every = SpecReader(golden.path), golden.sequences()
    assert reader.identity() == reader.said["identity"]
    for (source, inputs, labels), one in zip(reader.sequences(), golden.live, strict=True):
        assert source == one.source
        assert same(inputs, one.inputs)
        assert same(labels[0] if golden.label_axis == "sequence" else labels, one.labels)
    if golden.filled:
        assert same(reader.rows("filled"), np.concatenate([one.filled for one in every]))
    for array in ("inputs", "labels") if golden.missing == "keep" else ():
        has_nan = np.concatenate([np.isnan(one.rows(array)) for one in every])
        missing = np.flatnonzero(has_nan.reshape(len(has_nan), -1).any(axis=1)).tolist()
        assert [row for start, stop in reader.rows(f"missing_{array}") for row in range(start, stop)] == missing
    for number, one in enumerate(every if golden.time is not None else ()):
        assert same(reader.times(number), one.time)
    for column in golden.columns:
        assert list(map(repr, reader.column(column.name))) == [repr(one.columns[column.name]) for one in every]


def test_statistics_of_two_blocks_merge_by_the_formulas_of_the_text():
    formulas = re.findall(r"`(count|d|mean|m2) =\s+(.*?)`", section("Statistics"))
    assert [name for name, _ in formulas] == ["count", "d", "mean", "m2"]
    rows = np.random.default_rng(1).normal(5, 2, (9, 3))
    known: dict[str, Any] = {"a": moments(rows[:4]), "b": moments(rows[4:])}
    merged = merge(Moments(*(np.stack([getattr(known[one], name) for one in "ab"]) for name in schema.MOMENTS)))
    for name, formula in formulas:
        known[name] = eval(formula, known)  # noqa: S307
    for name in ("count", "mean", "m2"):
        np.testing.assert_allclose(getattr(merged, name), known[name], rtol=1e-14)


def test_every_refused_case_of_the_text_has_a_malformed_store_and_vice_versa():
    numbers = [int(found) for found in re.findall(r"^(\d+)\. ", section("What a reader refuses"), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {fault.rule for fault in FAULTS} == set(numbers)


def test_an_unknown_minor_version_is_read_and_what_it_adds_is_ignored(example, tmp_path):
    path = tmp_path / "later.zarr"
    shutil.copytree(example, path)
    attribute("version", "1.7")(path)
    attribute("later", {"than": "this"})(path)
    metadata("later", {"zarr_format": 3, "node_type": "array", "shape": [7]})(path)
    (path / "later").mkdir()
    found, expected = store_spec.open_store(path), store_spec.open_store(example)
    assert len(found) == len(expected)
    for (inputs, labels), (rows, label_rows) in zip(found, expected, strict=True):
        assert np.array_equal(inputs, rows)
        assert np.array_equal(labels, label_rows)


def test_the_arrays_own_documents_are_refreshed_with_offsets_last(tmp_path, spy):
    """The order in the text is that of the writer's puts."""
    path = tmp_path / "order.zarr"
    with store_spec.create_store(path, inputs=("int8", ()), labels=("int8", ()), label_axis="own") as writer:
        writer.append(np.zeros(3, np.int8), np.zeros(2, np.int8), source="a")
        writer.commit()
        put = spy(LocalStorage, "put")
        writer.append(np.zeros(4, np.int8), np.zeros(5, np.int8), source="b")
    keys = [call.args[1] for call in put.call_args_list]
    root = keys.index("zarr.json")
    documents = keys[root + 1 :]
    assert not any(key.endswith("/zarr.json") for key in keys[:root])
    assert documents == [*sorted(documents[:-2]), "label_offsets/zarr.json", "offsets/zarr.json"]
    shards = [at for at, key in enumerate(keys[:root]) if key.startswith(("inputs/", "labels/"))]
    assert max(shards) == len(shards) - 1 < root
