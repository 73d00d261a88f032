"""Columns of decimals in Parquet and Arrow files are read as the numbers that Python's decimal module gives."""

import random
import re
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import store_spec
from builder import SourceError, tabular
from builder.formats import arrow, open_table
from builder.formats.table import Table
from tests.builder.source_files import build_files, refusal, write_file

TYPES = [
    getattr(pa, name)(digits, scale)
    for name, digits in (("decimal32", 9), ("decimal64", 18), ("decimal128", 38), ("decimal256", 76))
    if hasattr(pa, name)  # the oldest supported pyarrow lacks the narrow ones
    for scale in (0, 2, digits // 2, digits)
]


def some(kind, rows=200, seed=0):
    """Return values of a type: with few and many digits, midway between two floats, and missing."""
    rng = random.Random(seed)
    whole = [rng.randrange(-(10**digits) + 1, 10**digits) for digits in rng.choices(range(kind.precision), k=rows)]
    whole += [value for value in (2**53 + 1, 2**54 + 2, -(2**53) - 1, 2**63 - 1) if abs(value) < 10**kind.precision]
    with localcontext() as context:
        context.prec = 200
        return [Decimal(value).scaleb(-kind.scale) for value in whole] + [None]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_decimals_become_the_nearest_floats(tmp_path, monkeypatch, suffix, kind):
    monkeypatch.setattr(arrow, "_DECIMALS_AT_ONCE", 7)
    values = some(kind)
    table = pa.table({"a": pa.array(values, kind), "l": pa.array([[Decimal(0), v] for v in values], pa.list_(kind))})
    opened = open_table(write_file(tmp_path / f"x{suffix}", table, row_group=50))
    found = Table.of(opened.read(["a", "l[1]"], None))
    expected = np.array([np.nan if value is None else float(value) for value in values])
    assert found.columns["a"].tobytes() == expected.tobytes()
    assert found.columns["l[1]"].tobytes() == expected.tobytes()
    assert not found.missing


def test_dictionaries_of_decimals_are_numbers(tmp_path):
    column = pa.array([Decimal("0.1"), None, Decimal("0.7")], pa.decimal128(5, 1)).dictionary_encode()
    found = Table.of(open_table(write_file(tmp_path / "x.arrow", {"a": column})).read(["a"], None))
    assert found.columns["a"].tobytes() == np.array([0.1, np.nan, 0.7]).tobytes()


def test_a_scale_below_zero_counts_zeros(tmp_path):
    column = pa.array([5_000, -(10**20)], pa.decimal128(38, 0)).cast(pa.decimal128(38, -3))
    opened = open_table(write_file(tmp_path / "x.arrow", {"a": column}))
    assert opened.read(["a"], None)["a"].to_pylist() == [5e3, -1e20]
    with pytest.raises(SourceError, match=r"row 2, column a: -100000000000000000000 does not fit into int64 \(1 in"):
        opened.read(["a"], np.dtype("int64"))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", TYPES[::4], ids=str)
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64"])
def test_integers_are_exact_on_request(tmp_path, suffix, kind, dtype):
    limits, most = np.iinfo(dtype), 10**kind.precision - 1
    values = [max(limits.min, -most), min(limits.max, most), 0, min(limits.max, 2**53 + 1, most)]
    column = pa.array([Decimal(value) for value in values], kind)
    write_file(tmp_path / f"x{suffix}", {"a": column, "b": [*column[1:], None]}, row_group=1)
    inputs, _ = tabular(inputs="a", dtype=dtype)(tmp_path / f"x{suffix}")
    assert inputs.dtype == dtype
    assert [int(value) for value in inputs[:, 0]] == values
    (found,) = tabular(inputs="b", dtype=dtype, missing="drop").sequences(tmp_path / f"x{suffix}")
    assert [int(value) for value in found.inputs[:, 0]] == values[1:]


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "message"),
    [
        ([1, None, 2**63], pa.decimal128(20, 0), "int64", r"row 6, column a: 9223372036854775808 does not fit into in"),
        ([1, -1, -2], pa.decimal128(20, 0), "uint64", r"row 5, column a: -1 does not fit into uint64 \(2 in all\); ch"),
        ([1, 200, 2**70], pa.decimal128(30, 0), "int8", r"row 5, column a: 200 does not fit into int8 \(2 in all\)"),
        ([1, 200, 2], pa.decimal128(30, 0), "int8", r"row 5, column a: 200 does not fit into int8 \(1 in all\)"),
        ([1, f"{2**53}.50"], pa.decimal128(30, 2), "int64", "row 5, column a: 9007199254740992.50 does not fit"),
        ([1, "1.5", 2], pa.decimal128(30, 2), "int8", r"row 5, column a: 1.5 does not fit into int8 \(1 in all\)"),
    ],
)
def test_decimals_that_do_not_fit_are_refused_by_row(tmp_path, values, kind, dtype, message):
    values = [None if value is None else Decimal(value) for value in values]
    values = [Decimal(1)] * 3 + values
    path = write_file(tmp_path / "x.parquet", {"a": pa.array(values, kind)}, row_group=3)
    assert re.search(message, refusal(path, inputs="a", dtype=dtype, missing="drop"))
    table = {"a": pa.array([[value, None] for value in values], pa.list_(kind))}
    path = write_file(tmp_path / "x.parquet", table, row_group=3)
    message = message.replace("column a", r"column a\[0\]")
    assert re.search(message, refusal(path, inputs="a[0]", dtype=dtype, missing="drop"))


def test_rows_without_a_list_count_when_a_row_is_named(tmp_path):
    table = pa.table({"a": pa.array([[1, 1], None, [1, 2**63]], pa.list_(pa.decimal128(20, 0)))})
    with pytest.raises(SourceError, match=r"row 3, column a\[1\]: 9223372036854775808 does not fit"):
        open_table(write_file(tmp_path / "x.parquet", table)).read(["a[0]"], np.dtype("int64"))


def test_decimals_with_zero_fractions_are_integers(tmp_path):
    table = pa.table({"a": pa.array([Decimal("9007199254740993.00"), Decimal(-1)], pa.decimal128(20, 2))})
    inputs, _ = tabular(dtype="int64")(write_file(tmp_path / "x.parquet", table))
    assert inputs.ravel().tolist() == [2**53 + 1, -1]


def test_a_build_takes_decimals_as_inputs_labels_groups_and_times(tmp_path):
    columns: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "k": (pa.decimal128(38, 0), (7, 7, 9, 9)),
        "t": (pa.decimal128(30, 9), ("0.1", "1700000000.123456789", 1, 2)),
        "price": (pa.decimal128(10, 2), ("19.99", "0.07", "-3.10", "5.00")),
        "y": (pa.decimal128(5, 0), (1, 0, 3, 2)),
    }
    table = {name: pa.array([Decimal(value) for value in values], kind) for name, (kind, values) in columns.items()}
    process = tabular(inputs="price", labels="y", group_by="k", time="t", time_unit="s")
    store = build_files(tmp_path, {"x.parquet": table}, process).store
    assert store.sequences["k"].tolist() == [7, 9]
    assert store[0][0].tolist() == [[19.99], [0.07]]
    assert store[1][1].tolist() == [[3.0], [2.0]]
    assert store.times(0).astype("i8").tolist() == [100_000_000, 1_700_000_000_123_456_789]
    assert store_spec.verify(store.path) == []


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind.scale == 0], ids=str)
def test_decimals_group_rows_and_count_a_calendar_whatever_their_size(tmp_path, kind):
    year, month = ([Decimal(value)] * 2 for value in (2020, 2))
    columns = {"y": year, "m": month, "d": [Decimal(28), Decimal(29)], "k": [Decimal(5), Decimal(6)]}
    table = pa.table({name: pa.array(values, kind) for name, values in columns.items()} | {"a": [1.0, 2.0]})
    path = write_file(tmp_path / "x.parquet", table)
    found = list(tabular(group_by="k", time="y,m,d").sequences(path))
    assert [(one.columns["k"], str(one.time[0])) for one in found] == [
        (5, "2020-02-28T00:00:00"),
        (6, "2020-02-29T00:00:00"),
    ]


def test_decimals_in_a_manifest_are_labels_and_kept(tmp_path):
    table = {
        "source": ["a", "b"],
        "y": pa.array([Decimal("0.1"), Decimal("2.5")], pa.decimal128(9, 2)),
        "fee": pa.array([Decimal("0.7"), None], pa.decimal128(9, 1)),
    }
    manifest = write_file(tmp_path / "m.parquet", table)
    contents = {f"{name}.csv": "x\n1\n2\n" for name in "ab"}
    for _ in range(2):
        built = build_files(tmp_path, contents, manifest=manifest, label_column="y", keep="fee")
        assert (built.report.failures, built.report.changed) == ((), ())
    assert [float(y[0]) for _, y in built.store] == [0.1, 2.5]
    assert built.store.sequences["fee"].tobytes() == np.array([0.7, np.nan]).tobytes()
