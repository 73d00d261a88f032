"""Reading a manifest: its rows belong to sources; its columns are labels, or are stored for each sequence."""

import datetime as dt
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from builder import Sequence, UsageError, build, repair, tabular
from builder.formats.column_choice import parse_columns
from builder.maintenance.checks import verify_sources
from builder.manifest.manifest_table import Manifest, read_manifest
from tests.builder.source_files import write_file, write_files
from tests.store.oracle import files


def manifest(tmp_path: Path, text: str, *, key: str = "source", name: str = "labels.csv") -> Manifest:
    return read_manifest(write_file(tmp_path / name, text), key=key)


def listing(tmp_path: Path, keys: str) -> Manifest:
    """Return a manifest with a row for each key, of which each has the label 0."""
    return manifest(tmp_path, "source,y\n" + "".join(f"{key},0\n" for key in keys.split()))


def labels_of(table: Manifest, columns: str) -> np.ndarray:
    """Return columns of numbers as labels, row by row."""
    names = parse_columns(columns, "label_column") or ()
    return table.labels(names, as_text=(), order=np.arange(len(table))).numbers


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["x/a.csv", "y/a.csv"], ["x/a.csv", "y/a.csv"]),
        (["a.csv", "b.csv"], ["x/a.csv", "y/b.csv"]),
        (["a", "b"], ["x/a.csv", "y/b.npy"]),
        (["a", "b"], ["x/a.csv.gz", "y/b.CSV"]),
        (["a.1", "b.2"], ["a.1.npy", "b.2.npy"]),
        (["a", "a.x"], ["a", "a.x"]),
        (["7", "08"], ["7.csv", "08.csv"]),
    ],
)
def test_keys_are_paths_or_file_names_or_stems(tmp_path, keys, names):
    table = manifest(tmp_path, "y,source\n" + "".join(f"{i},{key}\n" for i, key in enumerate(keys)))
    assert table.match(names)[0] == {name: row for row, name in enumerate(names)}
    assert list(table.match(names[::-1])[0]) == names[::-1]


def test_integer_keys_are_compared_as_their_decimal_text(tmp_path):
    path = write_file(tmp_path / "m.parquet", {"id": [12, 7], "y": [1, 2]})
    assert read_manifest(path, key="id").match(["7.npy", "12.npy"])[0] == {"7.npy": 1, "12.npy": 0}


def test_headers_and_keys_are_trimmed_and_a_byte_order_mark_is_no_problem(tmp_path):
    table = manifest(tmp_path, "\ufeff source , y\n a.csv ,3\n")
    assert table.match(["a.csv"])[0] == {"a.csv": 0}
    assert labels_of(table, " y ").tolist() == [[3]]


@pytest.mark.parametrize("name", ["m.txt", "m.csv", "m.tsv", "m.dat"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " "])
def test_a_text_file_of_any_suffix_and_delimiter_is_read(tmp_path, name, delimiter):
    """--delimiter says how to read sources, so the delimiter of a manifest is found in its text."""
    sites = ["north", "south"] if delimiter in ", " else ["north, left", ""]
    rows = [["source", "y", "site"], ["a.csv", "3", sites[0]], ["b.csv", "4", sites[1]]]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    if delimiter == " " and name in {"m.csv", "m.tsv"}:
        with pytest.raises(UsageError, match="there is no column 'source'"):
            manifest(tmp_path, text, name=name)
        return
    table = manifest(tmp_path, text, name=name)
    assert labels_of(table, "y").tolist() == [[3], [4]]
    assert (table.keys, table.kept(["site"], {})[0].values.tolist()) == (("a.csv", "b.csv"), sites)
    with pytest.raises(UsageError, match="there is no column 'file'; there are 3: source, y, site"):
        read_manifest(table.path, key="file")


@pytest.mark.parametrize("name", ["m.txt", "m.csv", "m.tsv"])
def test_between_tabs_are_blanks_and_nothing(tmp_path, name):
    table = manifest(tmp_path, "source\tsite\ty\nd e.csv\t\t5\nb.csv\tfar north\t6\n", name=name)
    assert table.keys == ("d e.csv", "b.csv")
    assert table.kept(["site"], {})[0].values.tolist() == ["", "far north"]
    assert labels_of(table, "y").tolist() == [[5], [6]]


def test_a_manifest_at_a_url_is_refused_as_such():
    with pytest.raises(UsageError, match=r"there is no such file; a manifest is a local file, not a URL$"):
        read_manifest(Path("s3://bucket/m.csv"))


@pytest.mark.parametrize(
    ("keys", "names", "held", "message"),
    [
        ("a b a c b", "a.csv", "", r"2 keys \(a, b\) in more than one row of column source"),
        ("a b c", "a.csv b.csv", "", r"1 row \(c\) without a source; remove the rows whose files do not exist$"),
        ("a.csv", "x/a.csv y/a.csv", "", r"By file name: 1 key \(a.csv \(x/a.csv, y/a.csv\)\) fit more than one sourc"),
        ("a.csv", " ".join(f"{stem}.csv" for stem in "abcdefg"), "", r"By path: 6 sources \(b.csv, .*f.csv, \.\.\.\)"),
        ("z", "a.csv", "", r"1 row \(z\) without a source; correct this column, or give --key with one that names so"),
        # Rows whose sources are in the store are not named.
        ("a b c", "a.csv", "a.csv b.csv", r"By stem: 1 row \(c\) without a source; remove the rows whose files do not"),
        ("a b", "a.csv c.csv", "a.csv b.csv", r"By stem: 1 source \(c.csv\) without a row; --manifest-only [^;]*$"),
        ("a b c", "a.csv c.csv d.csv", "a.csv b.csv", r"By stem: 1 source \(d.csv\) without a row; --manifest-[^;]*$"),
    ],
)
def test_rows_and_sources_that_do_not_match_are_named_and_counted(tmp_path, keys, names, held, message):
    with pytest.raises(UsageError, match=message):
        listing(tmp_path, keys).match(names.split(), strict=True, stored_names=held.split())


@pytest.mark.parametrize("only_listed", [False, True])
def test_a_row_without_a_source_is_named_or_an_error_if_strict_or_if_all_lack_one(tmp_path, only_listed):
    table = listing(tmp_path, "a.csv b.csv")
    with pytest.raises(UsageError, match="without a source"):
        table.match(["a.csv"], only_listed=only_listed, strict=True)
    assert table.match(["a.csv"], only_listed=only_listed) == ({"a.csv": 0}, ("b.csv",))
    with pytest.raises(UsageError, match="without a source"):  # another column is meant, or another folder
        table.match(["c.csv"], only_listed=True)


@pytest.mark.parametrize(
    ("keys", "names", "only_listed", "rows", "absent"),
    [
        ("a.csv caf\ufffd.csv", "a.csv", False, {"a.csv": 0}, ("caf\ufffd.csv",)),
        ("caf a", "x/a.csv", False, {"x/a.csv": 1}, ("caf",)),
        ("caf a", "x/a.csv b.csv", True, {"x/a.csv": 1}, ("caf",)),
        ("a", "x/a.csv", True, {"x/a.csv": 0}, ()),
    ],
)
def test_rows_without_a_source_are_returned(tmp_path, keys, names, only_listed, rows, absent):
    assert listing(tmp_path, keys).match(names.split(), only_listed=only_listed) == (rows, absent)


@pytest.mark.parametrize(
    ("keys", "names", "held", "only_listed", "rows"),
    [
        ("a b", "x/a.csv", "x/a.csv x/b.csv", False, {"x/a.csv": 0}),
        ("b.csv a.csv", "x/a.csv", "x/b.csv", False, {"x/a.csv": 1}),
        ("a b", "", "a.csv b.csv", False, {}),
        ("a.csv b.csv", "x/a.csv x/b.csv", "a.csv b.csv", True, {"x/a.csv": 0, "x/b.csv": 1}),
        ("a.csv b.csv", "x/a.csv x/c.csv", "a.csv b.csv", True, {"x/a.csv": 0}),
        ("a.csv", "y/a.csv", "x/a.csv", False, {"y/a.csv": 0}),
    ],
)
def test_a_row_of_a_stored_source_needs_no_file(tmp_path, keys, names, held, only_listed, rows):
    """Existing files are assigned first: none is left out because the store has a row's source under another name."""
    found = listing(tmp_path, keys).match(
        names.split(), only_listed=only_listed, strict=True, stored_names=held.split()
    )
    assert found == (rows, ())


@given(st.lists(st.sampled_from(["x/a.csv", "y/a.csv", "a.csv", "b.csv", "x/b.npy", "c"]), unique=True, min_size=1))
def test_full_paths_match_any_sources(names):
    """Keys that are the paths of sources are matched by path, in any order, whatever else is ambiguous."""
    keys = tuple(names[::-1])
    table = Manifest(path=Path("m.csv"), key="source", keys=keys, opened=mock.Mock(), state=mock.Mock())
    assert [keys[row] for row in table.match(names)[0].values()] == names


def test_labels_keep_integers_and_are_promoted_when_mixed(tmp_path):
    table = manifest(tmp_path, "source,i,j,f,b\na,1,9223372036854775807,0.5,true\nb,-2,3,1,false\n")
    for columns, dtype, expected in [
        ("i,j", np.int64, [[1, 2**63 - 1], [-2, 3]]),
        ("i,f", np.float64, [[1, 0.5], [-2, 1]]),
        ("b", np.bool_, [[True], [False]]),
        ("b,i", np.int64, [[1, 1], [0, -2]]),
    ]:
        labels = labels_of(table, columns)
        assert (labels.dtype, labels.tolist()) == (np.dtype(dtype), expected)
    message = r"row 1, column j: 9223372036854775807 does not fit into float64 \(1 in all\); write all numbers of"
    with pytest.raises(UsageError, match=message):
        labels_of(table, "i:b")


def test_fractions_beside_classes_are_refused_without_options_of_sources(tmp_path):
    table = manifest(tmp_path, "source,k,y\na,cat,2\nb,dog,7.5\n")
    message = r"column y: 7.5 does not fit into int64 \(1 in all\); labels beside classes \(k\) must be whole numbers"
    with pytest.raises(UsageError, match=message):
        labels_of(table, "k,y")


def test_large_integers_in_unused_columns_are_accepted(tmp_path):
    large = 13835058055282163712
    table = manifest(tmp_path, f"source,y,uid\na,1,{large}\nb,2,0\n")
    assert labels_of(table, "y").tolist() == [[1], [2]]
    for take in (lambda: labels_of(table, "y:uid"), lambda: table.kept(["uid"], {})):
        message = rf"row 1, column uid: {large} is beyond 2\*\*53 = 9,007,199,254,740,992, "
        with pytest.raises(UsageError, match=message):
            take()
    texts = manifest(tmp_path, f"source,uid\na,n{large}\nb,n0\n").kept(["uid"], {})  # as the message advises
    assert texts[0].values.tolist() == [f"n{large}", "n0"]
    assert labels_of(manifest(tmp_path, f"source,uid\na,{large}.\nb,0\n"), "uid").tolist() == [[float(large)], [0]]


def test_hexadecimal_labels_are_classes(tmp_path):
    table = manifest(tmp_path, "source,y,z\na,0x10,0x10\nb,0xff,1\n")
    assert table.labels(("y",), as_text=(), order=np.arange(2)).texts == (("0x10", "0xff"),)
    with pytest.raises(UsageError, match="row 1, column z: '0x10' is not a number, and '1' in row 2 is one"):
        labels_of(table, "z")


def test_a_manifest_that_changes_while_it_is_read_is_refused(tmp_path):
    table = manifest(tmp_path, "source,y\na,1\nb,2\n")
    (tmp_path / "labels.csv").write_text("source,y\nb,20\na,10\n")
    with pytest.raises(UsageError, match="changed while it was read"):
        labels_of(table, "y")


def test_text_that_is_not_utf8_is_named_if_it_is_used(tmp_path):
    path = write_file(tmp_path / "m.csv", b"source,k,i\na,x,1\nb,\xe9,2\n")
    table = read_manifest(path)
    message = r"m\.csv: row 2, column k: b'\\xe9' is not valid UTF-8; write the file as UTF-8"
    assert labels_of(table, "i").tolist() == [[1], [2]]
    for take in (
        lambda: labels_of(table, "k"),
        lambda: table.kept(["k"], {}),
        lambda: read_manifest(path, text=["k"]).kept(["k"], {}),
        lambda: read_manifest(path, key="k"),
    ):
        with pytest.raises(UsageError, match=message):
            take()


def test_types_of_a_long_manifest_come_from_all_rows(tmp_path):
    """The first megabyte has integers, the end does not."""
    rows = [f"{'x' * 40}{i:06},{i}\n" for i in range(40_000)]
    labels = labels_of(manifest(tmp_path, "source,y\n" + "".join(rows) + "last,0.5\n"), "y")
    assert labels.dtype == np.float64
    assert labels[:, 0].tolist() == [*range(40_000), 0.5]


@pytest.mark.parametrize("text", ["1,5", "1,234.5"])
def test_numbers_with_commas_are_classes_only_if_listed(tmp_path, text):
    """Labels of a regression would otherwise silently become codes in order of appearance."""
    table = manifest(tmp_path, f"source;y\na.csv;2,5\nb.csv;{text}\n")
    with pytest.raises(UsageError, match=r"labels\.csv: row 1, column y: '2,5' is not a number here \(2 in all\)"):
        labels_of(table, "y")
    assert table.labels(("y",), as_text=("y",), order=np.arange(2)).texts == (("2,5", text),)


MANIFEST: dict[str, list[Any]] = {
    "file": ["a.csv", "b.csv", "c.csv"],
    "y": [1, 2, 3],
    "site": ["A", "", "B/二"],
    "age": [41.5, math.nan, 0.1],
    "visits": [3, -1, 2**53 + 1],
    "left": [True, False, True],
}
KEEP = "site,age,visits,left"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of three sources, with a manifest in it."""
    rows = ["".join(f"{number},{step}\n" for step in range(number + 2)) for number in range(3)]
    texts = {name: f"x,y\n{text}" for name, text in zip(MANIFEST["file"], rows, strict=True)}
    return write_manifest(write_files(tmp_path / "sources", texts), MANIFEST).parent


def write_manifest(root: Path, columns: dict[str, list[Any]], suffix: str = "csv") -> Path:
    rows = zip(*columns.values(), strict=True)
    written = "\n".join(",".join("" if repr(value) in ("None", "nan") else str(value) for value in row) for row in rows)
    content = columns if suffix == "parquet" else f"{','.join(columns)}\n{written}\n"
    return write_files(root, {f"manifest.{suffix}": content}) / f"manifest.{suffix}"


def built(root: Path, store: Path, **options: Any) -> Any:
    manifest = next(path for path in root.iterdir() if path.stem == "manifest")
    asked: dict[str, Any] = {"manifest": manifest, "key": "file", "label_column": "y", "keep": KEEP, "workers": 0}
    return build(root, store, **(asked | options))


def kept(store: Path, *names: str) -> str:
    """Return columns as text that distinguishes all values."""
    found = store_spec.open_store(store)
    return repr([found.sequences[name].tolist() for name in names or KEEP.split(",")])


def test_a_later_build_needs_neither_the_option_nor_the_same_types(root, tmp_path):
    """If all sites look like numbers now, the column stays text, as in the store."""
    store = tmp_path / "store.zarr"
    built(root, store)
    assert kept(store) == repr([MANIFEST[name] for name in KEEP.split(",")])
    (root / "d.csv").write_text("x,y\n1,2\n")
    more = {name: [*values, value] for (name, values), value in zip(MANIFEST.items(), ["d.csv", 4, "007", 2, 5, False])}  # noqa: B905
    write_manifest(root, more)
    report = build(root, store, workers=0)
    assert (report.added, report.unchanged, report.changed) == (1, 3, ())
    write_manifest(root, more | {"site": ["1", "2", "3", "007"]})
    report = build(root, store, workers=0, update=True)
    assert report.updated == 3
    assert kept(store, "source", "site") == repr([["d.csv", "a.csv", "b.csv", "c.csv"], ["007", "1", "2", "3"]])


@pytest.mark.parametrize("process", [None, tabular(), tabular(labels_in_manifest=True)])
def test_fractions_are_labels_beside_numbers_in_text(tmp_path, process):
    sources = write_files(tmp_path / "src", {"a.csv": "v\n1\n", "b.csv": "v\n0.5\n"})
    write_files(tmp_path, {"m.csv": "source,y\na.csv,0.1\nb.csv,2.5\n"})
    options: dict[str, Any] = {"manifest": tmp_path / "m.csv", "label_column": "y", "process": process, "workers": 0}
    assert build(sources, tmp_path / "s.zarr", **options).failures == ()
    store = store_spec.open_store(tmp_path / "s.zarr")
    assert [labels.tolist() for _, labels in store] == [[0.1], [2.5]]
    assert store.schema.inputs.dtype == "float32"


def test_a_range_of_labels_has_the_columns_of_the_first_build(tmp_path):
    sources = write_files(tmp_path / "src", {"a.csv": "v\n1\n"})
    manifest = tmp_path / "m.csv"
    manifest.write_text("k,y1,p,q,y4\na.csv,1,2,3,4\n")
    options: dict[str, Any] = {"manifest": manifest, "key": "k", "workers": 0}
    build(sources, tmp_path / "s.zarr", label_column="y1:y4", **options)
    (sources / "b.csv").write_text("v\n2\n")
    manifest.write_text("k,y1,q,p,y4\na.csv,1,3,2,4\nb.csv,10,30,20,40\n")
    report = build(sources, tmp_path / "s.zarr", **options)
    assert (report.unchanged, report.added) == (1, 1)
    store = store_spec.open_store(tmp_path / "s.zarr")
    assert store.schema.labels.names == ("y1", "p", "q", "y4")
    assert [labels.tolist() for _, labels in store] == [[1, 2, 3, 4], [10, 20, 30, 40]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "value"), [("site", "Z"), ("age", 41.25), ("age", None), ("visits", 4), ("left", False)]
)
def test_a_source_whose_row_changed_is_updated_on_request(root, tmp_path, column, value):
    store = tmp_path / "store.zarr"
    built(root, store)
    write_manifest(root, MANIFEST | {column: [value, *MANIFEST[column][1:]]})
    assert build(root, store, workers=0).changed == ("a.csv",)
    report = build(root, store, workers=0, update=True)
    assert (report.updated, report.unchanged) == (1, 2)
    found = store_spec.open_store(store)
    assert found.sources == ("b.csv", "c.csv", "a.csv")
    assert repr(found.sequences[column].tolist()[-1]) == repr(math.nan if value is None else value)
    assert build(root, store, workers=0).changed == ()


def test_integers_with_missing_values_are_floats(root, tmp_path):
    write_manifest(root, MANIFEST | {"visits": [3, None, 5]})
    built(root, tmp_path / "store.zarr", keep="visits")
    assert kept(tmp_path / "store.zarr", "visits") == "[[3.0, nan, 5.0]]"
    write_manifest(root, MANIFEST | {"visits": [3, 4, 5]})  # none is missing, so they are integers now
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ("b.csv",)


TIMES = (
    ["2024-01-01 00:00", "2024-01-01T00:00:01", ""],
    ["2024-01-01T00:00Z", "2024-01-01T00:00:00.5Z", ""],
    ["2024-01-01", "NA", ""],
    ["12:30", "12:30:05", ""],
)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        # Patient 007 is another one than 7, and is returned as it was written.
        *(([name, 12, 0], [name, "12", "0"]) for name in ("007", " 01", "-01", "00", "0x10", " 0XFF")),
        *((times, times) for times in TIMES),
        ([0, 10, 100], [0, 10, 100]),
        (["-1", "-0", 0], [-1, 0, 0]),
        (["0.5", "0", "01"], [0.5, 0.0, 1.0]),
        (["1", "", "2"], [1.0, math.nan, 2.0]),
    ],
)
def test_only_numbers_in_text_are_kept_as_numbers(root, tmp_path, written, stored):
    """A later build finds no other values in the same manifest."""
    write_manifest(root, MANIFEST | {"visits": written})
    built(root, tmp_path / "store.zarr", keep="site:visits")
    assert kept(tmp_path / "store.zarr", "visits") == repr([stored])
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ()
    write_manifest(root, MANIFEST | {"visits": [*written[:2], 5]})
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ("c.csv",)


def test_dates_and_categories_are_kept_as_text(root, tmp_path):
    (root / "manifest.csv").unlink()
    days = [dt.date(2020, 1, day) for day in (1, 2, 3)]
    groups = pa.array(["x", "y", "x"]).dictionary_encode()
    write_manifest(root, MANIFEST | {"day": [days[0], None, days[2]], "group": groups}, "parquet")
    built(root, tmp_path / "store.zarr", keep="day,group")
    assert kept(tmp_path / "store.zarr", "day", "group") == repr([["2020-01-01", "", "2020-01-03"], ["x", "y", "x"]])


@pytest.mark.parametrize(
    ("changed", "keep", "message"),
    [
        ({"Source": ["a", "b", "c"]}, "Source", "manifest.csv: the column name 'Source' is one of the format's own"),
        ({"left": [True, None, True]}, "left", "row 2, column left: missing value .*bools have no missing value"),
        ({"age": [1.0, "inf", 2.0]}, "age", "row 2, column age: infinite value"),
        ({"visits": [2**53 + 1, None, 1]}, "visits", r"row 1, column visits: 9007199254740993 does not fit into float"),
        ({"odd": [[1], [2], [3]]}, "odd", "column odd holds values of type list"),
        ({"odd": np.array([1, 2**64 - 1, 3], "u8")}, "odd", "column odd: 18446744073709551615 does not fit into"),
    ],
)
def test_impossible_columns_to_keep_are_refused_before_anything_is_made(root, tmp_path, changed, keep, message):
    (root / "manifest.csv").unlink()
    manifest = write_manifest(root, MANIFEST | changed, "parquet" if keep == "odd" else "csv")
    with pytest.raises(UsageError, match=message):
        built(root, tmp_path / "store.zarr", keep=keep, manifest=manifest)
    assert not (tmp_path / "store.zarr").exists()


def test_another_type_than_in_the_store_is_refused(root, tmp_path):
    store = tmp_path / "store.zarr"
    built(root, store)
    write_manifest(root, MANIFEST | {"visits": [3, 1.5, 2]})
    with pytest.raises(UsageError, match="column visits holds float64, but in the store it is int64"):
        build(root, store, workers=0)
    write_manifest(root, MANIFEST | {"visits": [3, "A03", "B"]})
    message = r"column visits holds string \('A03' in row 2\), but in the store it is int64"
    with pytest.raises(UsageError, match=message):
        build(root, store, workers=0)


def test_a_label_that_integers_do_not_hold_is_a_change(root, tmp_path):
    built(root, tmp_path / "store.zarr")
    write_manifest(root, MANIFEST | {"y": [1, 2.5, 3]})
    assert build(root, tmp_path / "store.zarr", workers=0).changed == ("b.csv",)
    report = build(root, tmp_path / "store.zarr", update=True, workers=0)
    assert [(one.source, one.reason[:18]) for one in report.failures] == [("b.csv", "labels are float64")]


def test_kept_columns_are_compared_with_the_sources(root, tmp_path):
    store = tmp_path / "store.zarr"
    built(root, store)
    assert verify_sources(store, root, workers=0) == []
    write_manifest(root, MANIFEST | {"age": [41.5, 7, 0.1], "left": [True, False, False]})
    found = [problem.what for problem in verify_sources(store, root, workers=0)]
    assert found == [
        "b.csv: sequence 1: sequences/age is 7.0, but the store has nan",
        "c.csv: sequence 2: sequences/left is False, but the store has True",
    ]


def test_rows_are_restored_even_if_kept_columns_changed(root, tmp_path):
    store = tmp_path / "store.zarr"
    built(root, store)
    before = files(store)
    (store / "inputs/c.0.0").unlink()
    write_manifest(root, MANIFEST | {"age": [41.5, 7, 0.1]})
    assert repair(store, root, workers=0).files == ("inputs/c.0.0",)
    assert files(store) == before


def counted(path: Path) -> Any:
    """Yield two sequences, with what was done to each."""
    for part in range(2):
        rows = np.full((part + 3, 2), part, np.float32)
        yield Sequence(
            rows, rows, columns={"dropped": part * 10, "note": path.stem, "share": part / 2, "whole": part == 0}
        )


def test_a_process_function_and_a_manifest_add_columns(root, tmp_path):
    store = tmp_path / "store.zarr"
    manifest = root / "manifest.csv"
    report = build(root, store, process=counted, manifest=manifest, key="file", keep="site", workers=0)
    assert report.failures == ()
    found = store_spec.open_store(store)
    assert [(column.name, column.dtype) for column in found.schema.columns] == [
        ("dropped", "int64"), ("note", "string"), ("share", "float64"), ("whole", "bool"), ("site", "string"),
    ]  # fmt: skip
    assert found.sequences["dropped"].tolist() == [0, 10] * 3
    assert found.sequences["note"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert found.sequences["site"].tolist() == ["A", "A", "", "", "B/二", "B/二"]
    with pytest.raises(UsageError, match="no column 'dropped'"):
        build(root, tmp_path / "x", process=counted, manifest=manifest, key="file", keep="dropped", workers=0)


def uneven(path: Path) -> Sequence:
    rows = np.ones((3, 1), np.float32)
    columns: Any = {"a.csv": {"n": 1}, "b.csv": {"n": "x"}, "c.csv": {"n": 2, "m": 3}}[path.name]
    return Sequence(rows, rows, columns=columns)


def unknown(_: Path) -> Sequence:
    return Sequence(np.ones((3, 1), np.float32), np.ones(3, np.float32), columns={"n": None, "site": "q"})


def test_a_source_with_other_columns_fails_alone(root, tmp_path):
    (root / "manifest.csv").unlink()
    report = build(root, tmp_path / "store.zarr", process=uneven, workers=0)
    assert {failure.source: failure.reason for failure in report.failures} == {
        "b.csv": "column 'n' is 'x' (str), where this store has int64: convert it",
        "c.csv": "column 'm' is not one of those that this store keeps of a sequence: 'n'; leave it out, or make a "
        "store that has it",
    }


def test_values_without_a_type_and_repeated_names_are_errors(root, tmp_path):
    report = built(root, tmp_path / "x", process=unknown, label_column=None, keep=None, max_failures=99)
    message = "column 'n' is None (NoneType) in the first source, which does not determine its type"
    assert message in report.failures[0].reason
    report = built(root, tmp_path / "y", process=unknown, label_column=None, keep="site", max_failures=99)
    twice = "comes from its rows (--group-by, --missing, --process) and from the manifest (--keep) or the names of"
    assert f"'site' {twice}" in report.failures[0].reason
    process, one_each = tabular(group_by="x"), "^(?P<x>[abc])[.]"
    report = build(root, tmp_path / "z", process=process, sequence_from=one_each, workers=0, max_failures=99)
    assert f"'x' {twice} files (--sequence-from)" in report.failures[0].reason
