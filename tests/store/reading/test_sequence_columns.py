"""Further columns of sequences are stored, returned, used to select, and added to windows and batches."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import ChecksumError, FormatError, SchemaError, SequenceError, WindowError
from store_spec.format.sequence_columns import COLUMN_TYPES, LARGEST_TEXT, column_type
from tests.store.oracle import random_value, store_of

COLUMNS: dict[str, Any] = {"site": "string", "age": "float64", "visits": "int64", "left": "bool"}
LENGTHS = [7, 0, 12, 3, 30, 5]
ROWS = [
    {"site": "A", "age": 41.5, "visits": 3, "left": True},
    {"site": "B", "age": math.nan, "visits": -7, "left": False},
    {"site": "A", "age": 17, "visits": 0, "left": True},
    {"site": "", "age": 80.25, "visits": 12, "left": False},
    {"site": "C", "age": 3.5, "visits": 2, "left": False},
    {"site": "A", "age": -1.0, "visits": 1, "left": True},
]


def create(path: Path, columns: dict[str, Any] | None = None) -> store_spec.Writer:
    return store_spec.create_store(
        path,
        inputs=("float32", (2,)),
        labels=("int16", ()),
        columns=COLUMNS if columns is None else columns,
        chunk=32,
        shard=64,
    )


def rows(steps: int) -> tuple[Any, Any]:
    return np.zeros((steps, 2), np.float32), np.zeros(steps, np.int16)


def write(path: Path) -> store_spec.Store:
    inputs, labels = (list(each) for each in zip(*map(rows, LENGTHS), strict=True))
    return store_of(path, inputs, labels, more=[{"columns": row} for row in ROWS], columns=COLUMNS)


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    return write(tmp_path / "store.zarr")


def test_columns_are_returned_with_their_types(store):
    found = store.sequences
    assert list(found) == ["source", "part", "length", *COLUMNS]
    assert len(found) == 7
    assert "age" in found
    assert "other" not in found
    assert [found[name].dtype.name for name in COLUMNS] == ["object", "float64", "int64", "bool"]
    for name in COLUMNS:
        assert repr(found[name].tolist()) == repr([type(found[name].tolist()[0])(row[name]) for row in ROWS])
    assert found["length"].tolist() == LENGTHS
    assert found["part"].tolist() == [0] * 6
    assert found["source"].tolist() == list(store.sources)
    assert {"site", "left"} <= dict(found).keys()
    assert repr(found) == "<source, part, length, site, age, visits, left of 6 sequences of store.zarr>"


def test_columns_of_a_selection_are_those_of_its_sequences_in_its_order(store):
    chosen = store.select([4, 0, 3])
    assert chosen.sequences["site"].tolist() == ["C", "A", ""]
    assert chosen.sequences["visits"].tolist() == [2, 3, 12]
    assert store.select(store.sequences["site"] == "A").sources == ("s0", "s2", "s5")
    assert store.select(store.sequences["left"]).sources == ("s0", "s2", "s5")
    assert store.select(store.sequences["age"] > 40).sources == ("s0", "s3")


def test_an_unknown_column_is_a_key_error_that_lists_the_columns(store):
    with pytest.raises(KeyError, match="no column 'sites'; there are source, part, length, site, age"):
        store.sequences["sites"]


def test_omitted_values_are_missing_if_the_type_allows_it(tmp_path):
    """Texts of the greatest length are kept."""
    with create(tmp_path / "store", columns={"a": "string", "b": "float64"}) as writer:
        writer.append(*rows(1), source="none")
        writer.append(*rows(1), source="some", columns={"a": None, "b": np.float32(0.1)})
        writer.append(*rows(1), source="long", columns={"a": "x" * LARGEST_TEXT})
    found = store_spec.open_store(tmp_path / "store").sequences
    assert found["a"].tolist() == ["", "", "x" * LARGEST_TEXT]
    assert repr(found["b"].tolist()) == f"[nan, {float(np.float32(0.1))!r}, nan]"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"visits": None}, "s: column 'visits': no value, and int64 has none that stands for a missing one"),
        ({"left": None}, "s: column 'left': no value, and bool has none"),
        ({"site": 3}, r"s: column 'site' is 3 \(int\), where this store has string"),
        ({"age": "41"}, r"s: column 'age' is '41' \(str\), where this store has float64"),
        ({"age": True}, r"s: column 'age' is True \(bool\)"),
        ({"visits": 1.0}, r"s: column 'visits' is 1.0 \(float\), where this store has int64"),
        ({"visits": np.timedelta64(3, "ns")}, r"s: column 'visits' is np.timedelta64\(3,'ns'\) \(timedelta64\), where"),
        ({"age": np.timedelta64("NaT", "s")}, r"s: column 'age' is np.timedelta64\('NaT','s'\) \(timedelta64\), where"),
        ({"visits": True}, r"s: column 'visits' is True \(bool\)"),
        ({"visits": 2**63}, "s: column 'visits' is 9223372036854775808, which int64 cannot hold"),
        ({"left": 1}, r"s: column 'left' is 1 \(int\), where this store has bool"),
        ({"left": [True]}, r"s: column 'left' is \[True\] \(list\)"),
        ({"left": np.array([True])}, r"s: column 'left' is array\(\[ True\]\) \(ndarray\)"),
        ({"age": math.inf}, "s: column 'age' is inf; a store has finite numbers"),
        ({"age": 10**400}, "s: column 'age' is 10+; a store has finite numbers"),
        ({"age": 2**53 + 1}, "s: column 'age' is 9007199254740993, which float64 does not hold exactly"),
        ({"site": "a\ud800"}, "s: column 'site': .* is not valid Unicode"),
        ({"site": "é" * 2049}, "s: column 'site': .* has 4,098 bytes; at most 4,096 are kept"),
        ({"sites": "A"}, "s: column 'sites' is not one of those that this store keeps of a sequence: 'site', 'age'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_the_writer_continues(tmp_path, row, message):
    with create(tmp_path / "store") as writer:
        with pytest.raises(SequenceError, match=f"^{message}"):
            writer.append(*rows(1), source="s", columns=ROWS[0] | row)
        writer.append(*rows(1), source="s", columns=ROWS[0])
    assert len(store_spec.open_store(tmp_path / "store")) == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": "float32"}, "column 'a' is of 'float32'; take one of string, int64, float64, bool"),
        ({"": "bool"}, "empty name"),
        ({3: "bool"}, "the column name 3 is not text"),
        ({"a/b": "bool"}, "'a/b' cannot be that of an array"),
        ({"a\\b": "bool"}, "cannot be that of an array"),
        ({".": "bool"}, "cannot be that of an array"),
        ({"...": "bool"}, "cannot be that of an array"),
        ({"__a": "bool"}, "cannot be that of an array"),
        ({"a\0": "bool"}, "cannot be that of an array"),
        ({"a\x9b": "bool"}, "cannot be that of an array"),
        ({"a\u202eb": "bool"}, "cannot be that of an array"),
        ({"a\u2028b": "bool"}, "cannot be that of an array"),
        ({"a\u00a0b": "bool"}, "cannot be that of an array"),
        ({"\ud800": "bool"}, "not valid Unicode"),
        ({"ü" * 65: "bool"}, "has 130 bytes; at most 128"),
        ({"source": "bool"}, "'source' is one of the format's own"),
        ({"Length": "bool"}, "'Length' is one of the format's own"),
        ({"ZARR.json": "bool"}, "one of the format's own"),
        ({"time_first": "bool"}, "one of the format's own"),
        ({"x.Partial": "bool"}, "one of the format's own"),
        ({"a": "bool", "A": "bool"}, "columns 'a' and 'A' have the same name"),
        ({"straße": "bool", "STRASSE": "bool"}, "have the same name"),
        ({"é": "bool", "e\u0301": "bool"}, "have the same name"),
    ],
)
def test_an_impossible_column_is_refused_before_anything_is_made(tmp_path, columns, message):
    with pytest.raises(SchemaError, match=message):
        create(tmp_path / "store", columns=columns)
    assert list(tmp_path.iterdir()) == []


def test_odd_column_names_are_accepted(tmp_path):
    names = ["c.0", "a b", "größe", ".hidden", "a:b*?", "stats", "_a", "-x", "二" * 42]
    with create(tmp_path / "store", columns=dict.fromkeys(names, "int64")) as writer:
        row = {name: number for number, name in enumerate(names)}
        writer.append(*rows(1), source="s", columns=row)
    store = store_spec.open_store(tmp_path / "store")
    assert {name: int(store.sequences[name][0]) for name in names} == row
    assert store_spec.verify(tmp_path / "store") == []


def test_a_store_without_columns_has_the_common_ones(tmp_path):
    with create(tmp_path / "store", columns={}) as writer:
        writer.append(*rows(3), source="s")
    assert list(store_spec.open_store(tmp_path / "store").sequences) == ["source", "part", "length"]


def test_the_type_of_a_value_is_that_of_its_column():
    rng = np.random.default_rng(0)
    assert all(column_type(random_value(rng, dtype)) == dtype for dtype in COLUMN_TYPES for _ in range(20))
    assert [column_type(value) for value in (None, [1], b"a", np.zeros(1), 1j)] == [None] * 5
    assert [column_type(np.array(value)) for value in ("a", 1, 1.5, True)] == ["string", "int64", "float64", "bool"]


def test_a_damaged_column_is_an_error_and_rows_stay_readable(tmp_path):
    path = tmp_path / "store.zarr"
    write(path)
    (path / "sequences/age/c.0").write_bytes(b"nothing of the kind")
    store = store_spec.open_store(path)
    assert len(store[0][0]) == LENGTHS[0]
    with pytest.raises(ChecksumError, match="sequences/age"):
        store.sequences["age"]
    (path / "sequences/site/c.0").unlink()
    with pytest.raises(FormatError, match="sequences/site: 0 chunks where 1 are committed"):
        store.sequences["site"]
    assert {problem.where for problem in store_spec.verify(path)} == {"sequences/age/c.0", "sequences/site/c.0"}


@pytest.mark.parametrize(
    ("static", "message"),
    [
        ("age", "static='age'; give a list of names"),
        ([], r"static=\[\]; give a list of names"),
        ({"age"}, r"static=\{'age'\}; give a list of names"),  # it has no order
        (["agee"], "static names 'agee'; the columns of sequences are source, part, length, site"),
        (["age", "age"], "names a column twice"),
        (["age", "site"], "static names 'site', which holds text; batches have numbers"),
        (["source"], "static names 'source', which holds text"),
    ],
)
def test_static_columns_that_cannot_be_given_are_refused(store, static, message):
    with pytest.raises(WindowError, match=message):
        store.windows(2, static=static)
    with pytest.raises(WindowError, match=message):
        store.padded(2, static=static)


def test_integers_are_not_rounded_to_join_floats(tmp_path):
    with create(tmp_path / "store", columns={"a": "int64", "b": "float64"}) as writer:
        writer.append(*rows(3), source="s", columns={"a": 2**53 + 1, "b": 0.5})
    store = store_spec.open_store(tmp_path / "store")
    with pytest.raises(WindowError, match=r"'a' holds whole numbers beyond 2\*\*53, which would be rounded"):
        store.windows(2, static=["a", "b"])
    assert store.windows(2, static=["a"])[0][-1].tolist() == [2**53 + 1]
