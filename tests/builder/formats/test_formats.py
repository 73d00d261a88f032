"""Every format is read as plain Python and NumPy read it, bit for bit, and broken files are refused with the reason."""

import io
import json
import math
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from builder import SourceError, tabular
from builder.formats import files, format_of, json_lines, open_table, split_name, text_header, text_table
from builder.formats.arrays import NpyTable, read_header
from builder.formats.table import OpenTable, Table, read_raw
from builder.formats.text_streams import collapse_blanks, drop_comments, drop_last_blank_lines, lines_of
from builder.options.table_options import TableOptions
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, refusal, write_file, write_files
from tests.store.oracle import same

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def names_of(table: OpenTable) -> list[str]:
    return [name for group in table.groups.values() for name in group]


def read_all(path: Path, *, dtype=None, **options) -> Table:
    table = open_table(path, TableOptions(**options))
    return Table.of(table.read(names_of(table), None if dtype is None else np.dtype(dtype)))


def array_of(table: Table) -> np.ndarray:
    return np.stack(list(table.columns.values()), axis=1)


def test_the_suffix_determines_the_format():
    formats = {"a.csv": "csv", "a.b/C.TSV.GZ": "tsv", "a.tab.zst": "tsv", "a.dat": "blank", "a.pq": "parquet"}
    formats |= {"a.feather": "arrow", "a.npy": "npy"}
    assert {name: format_of(name) for name in formats} == formats
    assert not any(map(format_of, ["a.npy.gz", ".csv", "csv", "a.csv/b"]))


def test_a_stem_is_the_last_part_without_its_suffix():
    stems = {"a/b.csv": "b", "a.b/c": "c", "c.csv.zst": "c", "r.1.npy": "r.1", ".x": ".x"}
    assert {name: split_name(name)[0] for name in stems} == stems


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(FINITE, min_size=width, max_size=width), max_size=6)
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".tab", ".csv.gz", ".csv.zst", ".tsv.gz"]),
    end=st.sampled_from(["\n", "\r\n"]),
    final=st.sampled_from(["", "\n", "\n\n"]),
    blank=st.sampled_from(["", " "]),
)
def test_delimited_text_is_parsed_like_float(tmp_path, rows, suffix, end, final, blank):
    delimiter = "," if "csv" in suffix else "\t"
    width = len(rows[0]) if rows else 3
    names = [f"c{i}" for i in range(width)]
    lines = [(delimiter + blank).join(names), *(delimiter.join(map(repr, row)) for row in rows)]
    table = open_table(write_file(tmp_path / f"x{suffix}", end.join(lines) + final.replace("\n", end)))
    assert (names_of(table), table.named) == (names, True)
    read = Table.of(table.read(names, None))
    assert same(array_of(read), np.array(rows, np.float64).reshape(len(rows), width))
    assert read.block is not None


@given(
    rows=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(FINITE, min_size=width, max_size=width), min_size=1, max_size=6)
    ),
    suffix=st.sampled_from([".txt", ".dat", ".txt.gz", ".dat.zst"]),
    data=st.data(),
)
def test_blank_separated_text_may_have_any_blanks_anywhere(tmp_path, rows, suffix, data):
    gaps = st.text(" \t", min_size=1, max_size=4)
    edges = st.text(" \t", max_size=3)
    lines = [data.draw(edges) + "".join(f"{one!r}{data.draw(gaps)}" for one in row) + data.draw(edges) for row in rows]
    text = "\n".join(lines) + data.draw(st.sampled_from(["", "\n", "\n\n \n\t\n"]))
    table = read_all(write_file(tmp_path / f"x{suffix}", text))
    assert list(table.columns) == [str(i) for i in range(len(rows[0]))]
    assert same(array_of(table), np.array(rows))


def test_blanks_within_quotes_divide_nothing_in_the_first_line_either(tmp_path):
    path = write_file(tmp_path / "x.txt", '"2024-01-01 00:00"  1 2\n"2024-01-01 01:00"  3 4\n')
    (only,) = tabular(time="0")(path)
    assert (only.inputs.tolist(), str(only.time[1])[:16]) == ([[1, 2], [3, 4]], "2024-01-01T01:00")
    path = write_file(tmp_path / "y.txt", '"wind speed"  t\n1 2\n')
    assert list(read_all(path, header=True).columns) == ["wind speed", "t"]


@given(st.lists(st.text(" \t\n\rx", max_size=6), max_size=6))
def test_collapsing_blanks_is_independent_of_the_pieces(pieces):
    collapse = collapse_blanks()
    found = b"".join([collapse(piece.encode()) for piece in pieces]).decode()
    text = "".join(pieces).replace("\t", " ")
    lines = text.replace("\r", "\n").split("\n")
    ends = [letter for letter in text if letter in "\r\n"]
    assert found == "".join(" ".join(line.split()) + end for line, end in zip(lines, [*ends, ""], strict=True))


@given(st.lists(st.text("x \r\n", max_size=4).map(str.encode)))
def test_only_the_last_blank_lines_are_dropped(pieces):
    assert b"".join(map(drop_last_blank_lines(), pieces)) == b"".join(pieces).rstrip(b"\r\n ")


@given(st.lists(st.text("x#\r\n", max_size=5).map(str.encode)))
def test_only_lines_that_begin_with_the_mark_are_comments(pieces):
    drop, text = drop_comments("#"), b"".join(pieces)
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(b"#")]
    assert b"".join(map(drop, pieces)).splitlines() == b"".join(lines).splitlines()


@pytest.fixture(params=[3, 600], ids=["at once", "in pieces"])
def size(request, monkeypatch):
    """The rows of a file that is read at once, and of one that is read in many pieces, which are small here."""
    if request.param > 3:
        monkeypatch.setattr(text_header, "FIRST", 1_000)
        monkeypatch.setattr(text_table, "_BLOCK", 1_000)
        monkeypatch.setattr(json_lines, "_BLOCK", 1_000)
    return request.param


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".txt"])
@pytest.mark.parametrize("gap", [0, 1, 3_000])
def test_a_blank_line_between_rows_of_one_column_is_a_missing_value(tmp_path, suffix, gap, size):
    """Skipping it would shift all later steps without notice."""
    text = "1.5\n" * size + "\n" * gap + "2.5\n\n\n"
    path = write_file(tmp_path / f"x{suffix}", "a\n" + text if "csv" in suffix else text)
    (values,) = read_all(path).columns.values()
    assert same(values, np.array([1.5] * size + [np.nan] * gap + [2.5]))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst", ".txt", ".txt.gz"])
def test_large_text_is_read_in_pieces_to_the_same_numbers(tmp_path, suffix):
    """Larger than the first read, and than what is parsed at once; one line is almost only blanks."""
    values = np.random.default_rng(0).standard_normal((30_000, 4))
    gap = "," if "csv" in suffix else "  \t "
    lines = [gap.join(map(repr, row)) for row in values.tolist()]
    if "txt" in suffix:
        lines.insert(7_000, " " * 3_000_000)
    read = read_all(write_file(tmp_path / f"x{suffix}", "\n".join([gap.join("abcd"), *lines])), header=True)
    assert list(read.columns) == ["a", "b", "c", "d"]
    assert same(array_of(read), values)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("\ufeff a , b \n1,2\n", {}, {"a": [1], "b": [2]}),
        ("\ufeff1;2\n3;4\n", {"delimiter": ";", "header": False}, {"0": [1, 3], "1": [2, 4]}),
        ("1,2\n", {"column_names": ("x", "y")}, {"x": [1], "y": [2]}),
        ('"a,1","b\nc"\n"1","2"\n', {}, {"a,1": [1], "b\nc": [2]}),
        (",a\n0,5\n", {}, {"unnamed_0": [0], "a": [5]}),
        ("0,1\n5,6\n", {}, {"0": [5], "1": [6]}),
        ("400,410\n5,6\n", {"header": True}, {"400": [5], "410": [6]}),
        ("\n\na,b\n\n1,3\n\n2,4\n\n", {}, {"a": [1, 2], "b": [3, 4]}),
        ("\n\na\n1\n\n2\n\n \t\n", {}, {"a": [1, np.nan, 2]}),
        ("a\r\n\r\n1\r\n\r\n\r\n2\r\n\r\n", {}, {"a": [np.nan, 1, np.nan, np.nan, 2]}),
        ("a,b\rtrue,1\rfalse,2", {}, {"a": [1, 0], "b": [1, 2]}),
        ("a,b\n1,TRUE \n2, False\n", {}, {"a": [1, 2], "b": [1, 0]}),
        ("a\n+1\n-.5e1\n+.25\n", {}, {"a": [1, -5, 0.25]}),
        ("a,b\n1,\n, NA \n nan,null\n", {}, {"a": [1, np.nan, np.nan], "b": [np.nan, np.nan, np.nan]}),
        ("a|b\n1|2\n", {"delimiter": "|"}, {"a": [1], "b": [2]}),
        ("a,b", {}, {"a": [], "b": []}),
        ("a,b\n\n", {}, {"a": [], "b": []}),
        (f"a\n{2**53}\n-{2**53}\n1e300\n{10**20}.0\n", {}, {"a": [2.0**53, -(2.0**53), 1e300, 1e20]}),
    ],
)
def test_odd_text_is_read(tmp_path, text, options, expected):
    read = read_all(write_file(tmp_path / "x.csv", text), **options)
    assert list(read.columns) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(read.columns[name], np.array(values, np.float64))
        assert read.columns[name].dtype == np.float64


def test_rows_longer_than_what_is_parsed_at_once(tmp_path):
    """The first read has the header, but not the whole first row."""
    line = ",".join(f"{i}.{'0' * 2_000}" for i in range(1_000))
    (tmp_path / "x.csv").write_text(",".join(f"c{i}" for i in range(1_000)) + f"\n{line}\n{line}\n")
    assert array_of(read_all(tmp_path / "x.csv")).tolist() == [list(range(1_000))] * 2


def test_a_header_longer_than_the_first_read(tmp_path):
    names = [f"{'column' * 10}{i}" for i in range(20_000)]
    read = read_all(write_file(tmp_path / "x.csv", ",".join(names) + "\n" + ",".join(map(str, range(20_000))) + "\n"))
    assert list(read.columns) == names
    assert array_of(read).tolist() == [list(map(float, range(20_000)))]


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint64])
def test_integers_are_parsed_exactly_on_request(tmp_path, dtype):
    """Also beyond 2**53, with signs, and in a column with floats elsewhere."""
    limits = np.iinfo(np.uint64 if dtype == np.uint64 else np.int64)
    read = read_all(write_file(tmp_path / "x.csv", f"a,b\n{limits.max},+1\n{limits.min},2\n"), dtype=dtype)
    assert read.columns["a"].tolist() == [limits.max, limits.min]
    assert read.columns["b"].tolist() == [1, 2]
    assert {column.dtype for column in read.columns.values()} == {limits.dtype}


@pytest.mark.parametrize("dtype", [None, np.int64, np.uint64, np.float32])
@pytest.mark.parametrize("text", ["0x10", "0XFFFFFFFFFFFFFFFF", " 0x1"])
def test_hexadecimal_numbers_are_text_for_every_dtype(tmp_path, text, dtype):
    path = write_file(tmp_path / "x.csv", f"a,b\n1,2\n3,{text}\n")
    with pytest.raises(SourceError, match=rf"row 2, column b: '{text.strip()}' is not a number"):
        read_all(path, dtype=dtype)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.xz"])
def test_json_lines_are_what_json_says(tmp_path, suffix, size):
    rows: list[dict[str, Any]] = [
        {"t": f"2024-01-{1 + row % 28:02d}", "a": row, "b": row / 8, "e": [row, 0.5], "w": "x"} for row in range(size)
    ]
    del rows[2]["b"]
    rows[1]["a"] = None
    opened = open_table(write_file(tmp_path / f"x{suffix}", "\n".join(map(json.dumps, rows))))
    assert opened.groups == {"t": ("t",), "a": ("a",), "b": ("b",), "e": ("e[0]", "e[1]"), "w": ("w",)}
    frame = opened.read(["a", "b", "e[1]"], None, ["t", "w"])
    assert [str(kind) for kind in frame.schema.types] == ["double", "double", "double", "string", "string"]
    assert frame["a"].to_pylist() == [row["a"] for row in rows]
    assert frame["b"].to_pylist() == [row.get("b") for row in rows]
    assert frame["e[1]"].to_pylist() == [0.5] * size
    assert read_raw(opened, ["t"])["t"].to_pylist() == [row["t"] for row in rows]
    assert opened.read(["a"], np.dtype("int32"))["a"].type == pa.int64()


def test_packed_json_lines_may_be_long(tmp_path):
    path = write_file(tmp_path / "x.jsonl.gz", '{"a": 1, "b": "' + "x" * 2**21 + '"}\n{"a": 2, "b": ""}\n')
    assert open_table(path).read(["a"], None)["a"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    "options", [{"dtype": "int64"}, {"dtype": "uint64"}, {"group_by": "a"}, {"time": "a", "time_unit": "ns"}]
)
def test_integers_among_floats_of_json_lines_are_not_rounded(tmp_path, options):
    path = write_file(tmp_path / "x.jsonl", '{"a": 9007199254740993, "b": 1}\n{"a": 1.0, "b": 1}\n')
    with pytest.raises(SourceError, match=r"row 1, column a: 9007199254740993 is beyond 2.*as integers of 64 bits"):
        list(tabular(**options).sequences(path))


def test_a_value_of_another_type_in_json_lines_is_named_by_its_row_from_1(tmp_path):
    path = write_file(tmp_path / "x.jsonl", '{"a": 1}\n{"a": 2}\n{"a": "z"}\n')
    assert "changed from number to string in row 3" in refusal(path)


ARROW_DTYPES = [np.int8, np.uint16, np.int64, np.uint64, np.float16, np.float32, np.float64, np.bool_]


def arrow_table(rows):
    rng = np.random.default_rng(rows)
    columns: dict[str, np.ndarray] = {np.dtype(one).name: rng.integers(0, 2, rows).astype(one) for one in ARROW_DTYPES}
    lists = rng.standard_normal((rows, 3)).astype(np.float32)
    fixed = rng.integers(-9, 9, (rows, 2))
    table = pa.table(columns)
    table = table.append_column("emb", pa.array(list(lists), pa.list_(pa.float32())))
    table = table.append_column("big", pa.array(list(lists), pa.large_list(pa.float32())))
    table = table.append_column("fix", pa.array(list(fixed), pa.list_(pa.int64(), 2)))
    table = table.append_column("cat", pa.array(columns["int64"]).dictionary_encode())
    expected = dict(columns)
    for name in ("emb", "big"):
        expected |= {f"{name}[{i}]": lists[:, i] for i in range(3)}
    expected |= {f"fix[{i}]": fixed[:, i] for i in range(2)} | {"cat": columns["int64"]}
    return table, expected


@pytest.mark.parametrize("suffix", [".parquet", ".pq", ".arrow", ".feather", ".ipc"])
@pytest.mark.parametrize("rows", [1, 10])
def test_arrow_columns_of_every_dtype_and_list_are_read_bit_for_bit(tmp_path, suffix, rows):
    table, expected = arrow_table(rows)
    read = read_all(write_file(tmp_path / f"x{suffix}", table, row_group=3))
    assert list(read.columns) == list(expected)
    assert not read.missing
    for name, values in expected.items():
        assert same(read.columns[name], values), name


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".ipc"])
def test_arrow_files_are_read_column_by_column(tmp_path, suffix):
    table = pa.table({"t": ["x", "y"], "a.b": [1, 2], "a": [3, 4], "e": [[1, 2], [3, 4]]})
    opened = open_table(write_file(tmp_path / f"x{suffix}", table))
    assert opened.groups == {"t": ("t",), "a.b": ("a.b",), "a": ("a",), "e": ("e[0]", "e[1]")}
    assert array_of(Table.of(opened.read(["e[1]", "a", "a.b"], None))).tolist() == [[2, 3, 1], [4, 4, 2]]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_missing_values_in_arrow_files_are_nan_or_told_apart(tmp_path, suffix):
    table = pa.table(
        {
            "i": pa.array([1, None, 3]),
            "f": pa.array([1.0, None, np.nan]),
            "h": pa.array([np.float16(1), None, None], pa.float16()),
            "b": pa.array([True, None, False]),
            "n": pa.nulls(3),
            "e": pa.array([[1, 2], None, [None, 4]]),
            "x": pa.array([[1.0, 2.0], None, [None, 4.0]], pa.list_(pa.float64(), 2)),
        }
    )
    read = read_all(write_file(tmp_path / f"x{suffix}", table))
    absent = {
        name: (np.isnan(column) if column.dtype.kind == "f" else np.zeros(3, bool)) | read.missing.get(name, False)
        for name, column in read.columns.items()
    }
    assert {name: mask.tolist() for name, mask in absent.items()} == {
        "i": [False, True, False],
        "f": [False, True, True],
        "h": [False, True, True],
        "b": [False, True, False],
        "n": [True, True, True],
        "e[0]": [False, True, True],
        "e[1]": [False, True, False],
        "x[0]": [False, True, True],
        "x[1]": [False, True, False],
    }


@pytest.mark.parametrize("shape", [(5,), (0, 2), (5, 1), (5, 3), (4, 2, 3), (3, 2, 2, 2)])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", ">u4", "?", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files_keep_shape_and_dtype(tmp_path, shape, dtype, order):
    array = np.asarray(np.random.default_rng(1).integers(0, 2, shape).astype(dtype), order=order)
    path = write_file(tmp_path / "x.npy", array)
    read = read_all(path)
    expected = array[:, None] if array.ndim == 1 else array
    native = np.ascontiguousarray(expected).astype(expected.dtype.newbyteorder("="))
    assert list(read.columns) == [str(i) for i in range(expected.shape[1])]
    assert same(array_of(read), native)
    opened = open_table(path)
    assert isinstance(opened, NpyTable)
    assert same(opened.block(names_of(opened)), native)


def headers_of(text: str, dtype: str = "<f4") -> tuple[Any, Any]:
    """Return what NumPy and we read from a header: shape, order and dtype; None for an error."""
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 9) + text.encode() + b" " * 8 + b"\n"
    expected = found = None
    with suppress(Exception):  # a malformed header makes NumPy raise errors of many classes
        expected = np.lib.format.read_array_header_1_0(io.BytesIO(data[8:]))
    nbytes = 6 * int(dtype[2:] or 1) if expected is None else math.prod(expected[0]) * expected[2].itemsize
    with suppress(SourceError):
        header = read_header(data, len(data) + nbytes)
        found = header.shape, header.fortran, header.dtype
    return expected, found


@pytest.mark.parametrize("before", ["", "# {'descr': '<f4', 'fortran_order': False, 'shape': (5, 2), }\n"])
@pytest.mark.parametrize(
    "shape",
    ["(3, 2)", "(6,)", "(3, 2,)", "(0, 2)", "(3, 2), 'shape': (1, 2)", "(03, 2)", "(3, 02)", "(3,, 2)", "(3 2)"],
)
def test_odd_npy_headers_are_read_as_numpy_reads_them(shape, before):
    expected, found = headers_of(f"{before}{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}")
    assert found == expected


@given(
    shape=st.lists(st.integers(0, 12), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(["<f4", ">f8", "|b1", "|i1", "<i8", "<U4", "<c8", "|O", "<q9"]),
    fortran=st.booleans(),
    changes=st.lists(st.tuples(st.integers(0, 90), st.sampled_from("0123(), :'#{}<f")), max_size=2),
)
def test_npy_headers_are_read_as_numpy_reads_them_or_refused(shape, dtype, fortran, changes):
    text = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}"
    for place, character in changes:
        text = text[:place] + character + text[place + 1 :]
    expected, found = headers_of(text, dtype)
    assert found in (None, expected)


@pytest.mark.parametrize("steps", [1, 9, 10, 99, 100, 12_345])
def test_the_steps_of_an_npy_file_may_have_any_number_of_digits(tmp_path, steps):
    for dtype, shape in (("<f4", (steps, 2)), (">i8", (steps,)), ("|b1", (steps, 1, 3))):
        rows = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
        np.save(tmp_path / "x.npy", rows)
        header = read_header((tmp_path / "x.npy").read_bytes(), (tmp_path / "x.npy").stat().st_size)
        assert (header.shape, header.dtype) == (shape, np.dtype(dtype))


def test_npy_columns_can_be_named_and_chosen(tmp_path):
    array = np.arange(12).reshape(4, 3)
    table = open_table(write_file(tmp_path / "x.npy", array), TableOptions(column_names=("a", "b", "c")))
    assert table.named
    assert array_of(Table.of(table.read(["c", "a"], None))).tolist() == array[:, [2, 0]].tolist()


def test_a_format_or_delimiter_overrides_the_suffix(tmp_path):
    for name, text, options in [
        ("x.log", "a;b\n1;2\n", {"delimiter": ";"}),
        ("y.npy.gz", "a\tb\n1\t2\n", {"format": "tsv"}),
        ("z.txt", "a,b\n1,2\n", {"format": "csv"}),
        ("z.txt", "a,b\n1,2\n", {"delimiter": ","}),
    ]:
        read = read_all(write_file(tmp_path / name, text), **options)
        assert {name: column.tolist() for name, column in read.columns.items()} == {"a": [1.0], "b": [2.0]}


def test_missing_files_and_unknown_formats_are_source_errors(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    (tmp_path / "x.unknown").write_text("1,2\n")
    for name, message in [
        ("folder.csv", "is not a file"),
        ("gone.csv", "No such file"),
        ("x.unknown", "^no format has the suffix '.unknown'; known are "),
    ]:
        with pytest.raises(SourceError, match=message):
            read_all(tmp_path / name)


def test_lack_of_memory_is_not_a_failure_of_the_source(tmp_path, monkeypatch):
    def fails(*_args, **_options):
        raise MemoryError

    np.save(tmp_path / "x.npy", np.zeros(3))
    monkeypatch.setattr(np, "frombuffer", fails)
    with pytest.raises(MemoryError):
        read_all(tmp_path / "x.npy")


@given(st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r", b"\r\n", b"\x0b", b"x" * 40]), max_size=30).map(b"".join))
def test_lines_end_at_the_line_ends_of_bytes(text):
    assert [line.encode("latin-1") for line in lines_of(io.BytesIO(text))] == text.splitlines(keepends=True)


@pytest.mark.parametrize(("suffix", "header"), [("csv", True), ("csv", False), ("txt", False)])
@pytest.mark.parametrize("skip", [0, 1, 3])
def test_lines_before_the_table_are_left_out(tmp_path, size, suffix, header, skip):
    """With any content, in files that are read at once and in larger ones."""
    blank = "," if suffix == "csv" else "  "
    rows = [blank.join(map(str, (number, number * 2, -number))) for number in range(size)]
    before = ["station, 44.82", "", 'the "best" of all; a,b,c,d,e'][:skip]
    names = [blank.join("abc")] if header else []
    path = write_file(tmp_path / f"a.{suffix}", "\n".join([*before, *names, *rows, ""]))
    opened = open_table(path, TableOptions(skip_lines=skip, header=header))
    wanted = ("a", "b", "c") if header else ("0", "1", "2")
    assert tuple(opened.groups) == wanted
    read = Table.of(opened.read(wanted, None))
    assert [read.columns[name].tolist() for name in wanted] == [
        [factor * number for number in range(size)] for factor in (1, 2, -1)
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-be", "utf-32", "utf-8"])
def test_text_of_another_encoding_equals_that_of_utf_8(tmp_path, encoding, size):
    text = "höhe,straße\n" + "".join(f"{number},{-number}\n" for number in range(size))
    (tmp_path / "x.csv").write_text(text, encoding=encoding)
    read = read_all(tmp_path / "x.csv", encoding=encoding)
    assert list(read.columns) == ["höhe", "straße"]
    assert read.columns["straße"].tolist() == [-number for number in range(size)]
    if encoding.startswith("utf-"):
        (tmp_path / "x.csv").write_bytes((text + "1,2é").encode(encoding)[:-1])
        with pytest.raises(SourceError, match="is not "):
            read_all(tmp_path / "x.csv", encoding=encoding)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.xz", ".txt", ".txt.bz2"])
def test_lines_of_comments_and_of_units_are_left_out(tmp_path, suffix, size):
    gap = "," if "csv" in suffix else "  "
    rows = [f"{number}{gap}{-number}" for number in range(size)]
    lines = ["\ufeff# station 7", f"a{gap}b", "# units:", f"m{gap}s", *rows[:1], "# a break", *rows[1:], "# the end"]
    path = write_file(tmp_path / f"x{suffix}", "\n".join(lines))
    read = read_all(path, comment="#", skip_after_header=1, header=True)
    assert {name: column.tolist() for name, column in read.columns.items()} == {
        "a": list(range(size)),
        "b": [-number for number in range(size)],
    }


@pytest.mark.parametrize("suffix", [".csv.bz2", ".csv.xz"])
def test_packed_text_that_is_cut_or_unpacks_to_much_is_refused(tmp_path, monkeypatch, suffix):
    whole = write_file(tmp_path / f"x{suffix}", "a,b\n" + "1,2\n" * 200_000).read_bytes()
    assert format_of(f"x{suffix}") == "csv"
    (tmp_path / f"cut{suffix}").write_bytes(whole[:-9])
    with pytest.raises(SourceError, match="is it whole"):
        read_all(tmp_path / f"cut{suffix}")
    twice = tmp_path / f"twice{suffix}"
    twice.write_bytes(whole + write_file(tmp_path / f"y{suffix}", "3,4\n").read_bytes())
    assert array_of(read_all(twice))[-2:].tolist() == [[1, 2], [3, 4]]
    second = twice.read_bytes()[len(whole) :]
    if suffix == ".csv.xz":
        twice.write_bytes(whole + bytes(8) + second + bytes(4))  # xz allows zeros after each stream
        assert array_of(read_all(twice))[-2:].tolist() == [[1, 2], [3, 4]]
    twice.write_bytes(whole + b"?" + second[1:])
    with pytest.raises(SourceError, match="is it whole"):  # the second stream is damaged
        read_all(twice)
    monkeypatch.setattr(files, "UNPACKED_FREELY", 1_000)
    monkeypatch.setattr(files, "UNPACKED_PER_BYTE", 2)
    with pytest.raises(SourceError, match="bytes unpack to more than"):
        read_all(tmp_path / f"x{suffix}")


@pytest.mark.parametrize(
    ("text", "advice", "rows"),
    [
        ("1,2,3\n4,5,6\n", "--delimiter=,", [[1, 2, 3], [4, 5, 6]]),
        ("1, 2\n3, 4\n", "--delimiter=,", [[1, 2], [3, 4]]),
        ("1;2\n3;4\n", "--delimiter=;", [[1, 2], [3, 4]]),
        ("1,5\n2,5\n", "--decimal=,", [[1.5], [2.5]]),
    ],
)
def test_commas_in_a_file_whose_suffix_says_blanks(tmp_path, text, advice, rows):
    command = "build", write_files(tmp_path / "src", {"a.txt": text}), tmp_path / "t.zarr", "--workers", "0"
    refused = seqzarr(*command)
    flag, _, value = advice.partition("=")
    assert f"{flag} {value!r}" in refused.stderr
    assert "--exclude" not in refused.stderr
    more = ["--no-header"] if flag == "--delimiter" else []
    assert seqzarr(*command, advice, *more).exit_code == 0
    assert np.array_equal(store_spec.open_store(tmp_path / "t.zarr")[0][0], rows)


def test_text_with_commas_between_blanks_is_read_as_before(tmp_path):
    contents = {"a.txt": "1 a,b 2\n3 c,d 4\n", "b.txt": "5 6 7\n8 9 1\n"}
    assert build_files(tmp_path, contents, tabular(exclude="1")).store[0][0].tolist() == [[1, 2], [3, 4]]
