"""Labels in another file for each source: which file belongs to which source, and which rows are joined."""

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import builder
import store_spec
from builder import SourceError, UsageError, preview, tabular
from builder.frames.label_join import match_label_rows
from builder.maintenance.checks import verify_sources
from builder.sources.folder import LocalFolder
from builder.sources.label_files import LabelFilePattern, check_below, without_label_files
from builder.sources.source_list import SourceList
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, write_file, write_files
from tests.store.oracle import files, same


@pytest.fixture
def src(tmp_path):
    """Two recordings; the second has a row without labels, and labels without a row, in another order."""
    texts = {
        "a.csv": "t,x\n1,10\n2,20\n",
        "b.csv": "t,x\n1,11\n2,21\n3,31\n",
        "labels/a.csv": "t,y,z\n1,0.5,7\n2,1.5,8\n",
        "labels/b.csv": "t,y,z\n3,3.5,9\n4,4.5,9\n1,2.5,9\n",
    }
    return write_files(tmp_path / "src", texts)


def read(store):
    opened = store_spec.open_store(store)
    return {
        (source, int(part)): tuple(np.asarray(rows).tolist() for rows in opened[number])
        for number, (source, part) in enumerate(zip(opened.sources, opened.parts, strict=True))
    }


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("labels/{stem}.csv", {"a.parquet": "labels/a.csv", "d/b.csv.gz": "labels/b.csv"}),
        ("../y/{name}", {"d/a.csv": "../y/a.csv"}),
        ("{parent}/{stem}_y.csv", {"a.csv": "a_y.csv", "d/e/a.csv": "d/e/a_y.csv"}),
        ("y/{path}", {"d/a.csv": "y/d/a.csv"}),
        (r"(\d+)_.* -> flow/{1}.csv", {"in/07_x.csv": "flow/07.csv"}),
        (r"(?P<who>[a-z]+)(\d) -> {parent}/{2}{who}{1}.csv", {"in/ab3.npy": "in/3abab.csv"}),
    ],
)
def test_the_pattern_determines_the_label_file_of_each_source(text, pairs):
    pairing = LabelFilePattern.parse(text)
    assert {source: pairing.label_file(source) for source in pairs} == pairs
    # A label file in the folder of sources is recognised by its name alone.
    assert all(pairing.is_label_file(labels) for labels in pairs.values() if not labels.startswith(".."))
    assert not any(map(pairing.is_label_file, pairs))


def test_two_sources_of_one_file_are_refused_by_name(tmp_path):
    found = SourceList(folder=LocalFolder(tmp_path), names=("d/a.csv", "e/a.csv", "labels/a.csv", "labels/z.csv"))
    with pytest.raises(UsageError, match=r"pairs both d/a\.csv and e/a\.csv with labels/a\.csv"):
        without_label_files(found, LabelFilePattern.parse("labels/{stem}.csv").label_file, "labels/{stem}.csv")
    for text, names, sources in (
        (r"(.*)_x\.csv -> {1}.csv", ("a.csv", "a_x.csv", "d/b.csv", "d/b_x.csv", "z.csv"), ("a_x.csv", "d/b_x.csv")),
        (r"(\d+)_.* -> y/{1}_y.csv", ("x/1_x.csv", "y/1_y.csv", "y/2_y.csv"), ("x/1_x.csv",)),
        (r"x/(\d+).* -> y/{1}.csv", ("q.csv", "x/1.csv", "y/1.csv", "y/2.csv"), ("q.csv", "x/1.csv")),
    ):
        given = SourceList(folder=LocalFolder(tmp_path), names=names)
        assert without_label_files(given, LabelFilePattern.parse(text).label_file, text).names == sources
    text = "labels/{path}"
    left = without_label_files(found, LabelFilePattern.parse(text).label_file, text)
    assert left.names == ("d/a.csv", "e/a.csv")


@given(
    st.lists(st.integers(0, 9), unique=True),
    st.lists(st.integers(0, 9), unique=True),
    st.sampled_from(["int64", "float64", "int8", "string", "padded", "day", "mixed"]),
)
def test_rows_are_joined_like_in_a_loop(ours, theirs, kind):
    write = {
        "string": lambda v: pa.array([f"k{one}" for one in v], pa.string()),
        "padded": lambda v: pa.array([f"{one:0{1 + (v is theirs)}}" for one in v], pa.string()),
        "day": lambda v: pa.array(v, pa.int32()).cast(pa.date32()),
        "mixed": lambda v: pa.array(v, pa.int64()) if v is ours else pa.array(map(str, v), pa.large_string()),
    }.get(kind, lambda v: pa.array(v, pa.int64()).cast(kind))
    left, right = (pa.table({"k": write(values)}) for values in (ours, theirs))
    expected = [(row, other) for row, one in enumerate(ours) for other, two in enumerate(theirs) if one == two]
    if ours and not expected:
        with pytest.raises(SourceError, match=f"none of its {len(ours)} rows"):
            match_label_rows(left, right, "l")
        return
    rows = match_label_rows(left, right, "l").tolist()
    assert rows == [dict(expected).get(row, -1) for row in range(len(ours))]


NANOSECONDS = [1704067200000000000 + one for one in (0, 10, 60, 1000)]
CLOSE_KEYS: list[list[Any]] = [
    NANOSECONDS,
    [str(one) for one in NANOSECONDS],
    ["12345678901234567890", "12345678901234567891", "18446744073709551615"],
    ["99999999999999999999", "99999999999999999998", "100000000000000000000"],
    ["1704067200.123456789", "1704067200.1234567", "1704067200.123456700001", "0"],
    ["9007199254740993", "9007199254740992", "1.5", "-1.50001", "+7", "1e3"],
    [2**64 - 1, 2**64 - 2, 5],
]


@pytest.mark.parametrize("keys", CLOSE_KEYS)
def test_keys_that_differ_in_their_last_digits_are_different_ones(keys: list[Any]):
    """Each key of one table with all others of another, and all with all; numbers beside text too."""
    kind = pa.uint64() if max(map(Decimal, keys)) == 2**64 - 1 and isinstance(keys[0], int) else None
    every = pa.table({"k": pa.array(keys, kind)})
    assert match_label_rows(every, every, "l").tolist() == [*range(len(keys))]
    for number in range(len(keys)):
        others = pa.table({"k": pa.array(keys[:number] + keys[number + 1 :], kind)})
        with pytest.raises(SourceError, match="none of its 1 rows"):
            match_label_rows(every.slice(number, 1), others, "l")
    as_text = pa.table({"k": pa.array(map(str, keys), pa.string())})
    assert match_label_rows(every, as_text, "l").tolist() == [*range(len(keys))]


def test_the_same_number_in_another_notation_is_the_same_key():
    ours = pa.table({"k": ["1.50", "07", "1e3", "-0", ".25"]})
    theirs = pa.table({"k": ["1000", "0", "+1.5", "0.250", "7.0"]})
    assert match_label_rows(ours, theirs, "l").tolist() == [2, 4, 0, 1, 3]
    floats = pa.table({"k": [1000.0, 0.0, 1.5, 0.25, 7.0]})
    assert match_label_rows(ours, floats, "l").tolist() == [2, 4, 0, 1, 3]
    texts = pa.table({"k": ["9007199254740993", "1.5", "7"]})  # not equal to 2**53
    assert match_label_rows(pa.table({"k": [2**53, 7]}), texts, "l").tolist() == [-1, 2]
    halves = pa.table({"k": ["1e300", "5e-320"]})  # more digits than decimals have here
    assert match_label_rows(halves, pa.table({"k": ["0.5e-319", "10e299"]}), "l").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("ours", "theirs", "rows"),
    [
        (
            ["2024-01-31 06:00", "2024-02-01", "2024-01-31 7:00:00.5"],
            ["20240131T070000,5", "2024-02-01 00:00"],
            [-1, 1, 0],
        ),
        (["6:00", "06:05:30", "23:59"], ["23:59:00", "6:05:30", "06:00:00"], [2, 1, 0]),
        (["2024-01-31T06:00Z", "2024-01-31T06:01Z"], ["2024-01-31 07:00+01:00"], [0, -1]),
        (["6:00", "06:00", "24:00"], ["24:00", "06:00"], [-1, 1, 0]),  # not all are times, so they are text
        (["2024-01-31 06:00Z", "2024-01-31 06:00"], ["2024-01-31 06:00"], [-1, 0]),  # only some have a zone
        ([np.datetime64("2024-01-31T06:00", "s")], ["2024-01-31 6:00"], [0]),
        ([np.datetime64("2024-01-31T06:00", "s")], ["2024-01-31 07", "2024-01-31 06"], [1]),
    ],
)
def test_the_same_time_in_another_notation_is_the_same_key(ours: list[Any], theirs: list[str], rows: list[int]):
    assert match_label_rows(pa.table({"k": ours}), pa.table({"k": theirs}), "l").tolist() == rows


def test_times_with_a_zone_are_no_times_without():
    ours, theirs = pa.table({"k": ["2024-01-31 06:00Z"]}), pa.table({"k": ["2024-01-31 06:00"]})
    with pytest.raises(SourceError, match="none of its 1 rows has the same k"):
        match_label_rows(ours, theirs, "l")


def test_texts_with_more_digits_than_floats_are_compared_exactly():
    long = pa.table({"k": ["1704067200.123456789"]})
    with pytest.raises(SourceError, match=r"cannot be compared \(--on\)"):
        match_label_rows(long, pa.table({"k": [1704067200.1234567]}), "l")


def test_columns_are_left_out_of_either_file(tmp_path):
    contents = {"a.csv": "t,x,note,both\n1,10,hi,1\n2,20,ho,2\n", "y/a.csv": "t,y,flag,both\n2,5,A:e,7\n1,6,A,8\n"}
    build_files(tmp_path, contents, tabular(exclude="note,flag,both", labels_from="y/{name}", on="t"))
    assert read(tmp_path / "t.zarr") == {("a.csv", 0): ([[10], [20]], [[6], [5]])}
    built = build_files(tmp_path, {}, tabular(exclude="flags", labels_from="y/{name}", on="t"), "u.zarr")
    assert built.reasons == ["there is no column 'flags'; there are 4: t, x, note, both"]


def test_rivers_are_joined_by_dates_and_lines_are_skipped_in_sources_alone(tmp_path):
    """Both files have three columns of a date; the numbers in their names pair them."""
    contents = {
        "forcing/07_lump.txt": " 44.82\n587675987\nYear Mnth Day rain\n2000 01 01 5\n2000 01 02 6\n2000 02 01 7\n",
        "flow/07_qc.txt": "07 2000 02 01   3 A:e\n07 2000 01 02   4 A:e\n07 2001 01 01   9 A:e\n",
    }
    pairs: dict[str, Any] = {"labels_from": r"forcing/(\d+)_.* -> flow/{1}_qc.txt", "on": "0=1,1=2,2=3"}
    built = build_files(tmp_path, contents, tabular(inputs="3", labels="4", skip_lines=3, **pairs))
    assert read(built.path) == {("forcing/07_lump.txt", 0): ([[6], [7]], [[4], [3]])}
    assert built.store.sequences["dropped"].tolist() == [1]


@pytest.mark.parametrize("options", [["--label-axis", "own"], ["--on", "t"], []])
def test_labels_beside_that_are_text_are_classes(tmp_path, options):
    """The source has a column of the same name, which must not be used."""
    for stem, words in {"a": ["sil", "ah", "sil"], "b": ["oh", "sil", "ah"]}.items():
        labels = "t,x\n" + "".join(f"{t},{word}\n" for t, word in enumerate(words, 1))
        write_files(tmp_path / "src", {f"{stem}.csv": "t,x\n1,10\n2,20\n3,30\n", f"y/{stem}.csv": labels})
    command = ["build", str(tmp_path / "src"), str(tmp_path / "t.zarr"), "--workers", "0"]
    beside = ["--inputs", "x", "--labels-from", "y/{stem}.csv", "--labels", "x", *options]
    result = seqzarr(*command, *beside, "--dry-run")
    assert "classes seen  0 sil, 1 ah, 2 oh" in result.stdout
    seqzarr(*command, *beside, status=0)
    store = store_spec.open_store(tmp_path / "t.zarr")
    assert store.class_names("x") == ("sil", "ah", "oh")
    assert [y.T.tolist() for _, y in store] == [[[0, 1, 0]], [[2, 0, 1]]]
    assert "2 unchanged; 0 failed" in seqzarr(*command).stdout
    write_files(tmp_path, {"src/c.csv": "t,x\n1,10\n", "src/y/c.csv": "t,x\n1,eh\n"})
    assert seqzarr(*command).exit_code == 0
    assert store_spec.open_store(tmp_path / "t.zarr").class_names() == ("sil", "ah", "oh", "eh")
    seqzarr("verify", command[2], "--sources", tmp_path / "src", "--workers", "0", status=0)
    given = [*command[:2], str(tmp_path / "u.zarr"), "--workers", "0", *beside, "--classes", "x=ah,sil,oh"]
    result = seqzarr(*given)
    assert "y/c.csv: row 1, column x: 'eh' is none of the 3 classes (ah, sil, oh) that --classes names" in result.stderr
    assert store_spec.open_store(tmp_path / "u.zarr")[1][1].T.tolist() == [[2, 1, 0]]


def test_a_column_of_the_same_name_in_both_files_and_groups(tmp_path):
    contents = {"a.csv": "g,t,x\n5,1,10\n6,2,20\n5,3,30\n6,9,90\n", "y/a.csv": "d,x\n3,-30\n2,-20\n1,-10\n"}
    store = build_files(tmp_path, contents, tabular(labels="x", labels_from="y/{name}", on="t=d", group_by="g")).store
    assert read(tmp_path / "t.zarr") == {("a.csv", 0): ([[10], [30]], [[-10], [-30]]), ("a.csv", 1): ([[20]], [[-20]])}
    assert (store.schema.inputs.names, store.schema.labels.names) == (("x",), ("x",))
    assert store.sequences["g"].tolist() == [5, 6]
    assert store.sequences["dropped"].tolist() == [1, 0]


def test_other_labels_are_another_source(src, tmp_path):
    process = tabular(inputs="x", labels="y", labels_from="labels/{stem}.csv")
    store = tmp_path / "t.zarr"
    builder.build(src, store, process=process, workers=0)
    assert builder.build(src, store, workers=0).unchanged == 2
    write_files(src, {"labels/b.csv": "t,y,z\n1,1,1\n2,2,2\n3,3,3\n"})
    assert builder.build(src, store, workers=0).changed == ("b.csv",)
    report = builder.build(src, store, workers=0, update=True)
    assert (report.updated, report.unchanged) == (1, 1)
    assert read(store)["b.csv", 0][1] == [[1], [2], [3]]
    assert builder.build(src, store, workers=0).unchanged == 2
    shutil.rmtree(tmp_path / "t.zarr.build", ignore_errors=True)
    assert builder.build(src, store, workers=0).unchanged == 2
    (src / "labels/a.csv").unlink()
    report = builder.build(src, store, workers=0)
    assert [failure.source for failure in report.failures] == ["a.csv"]
    assert report.changed == ()


def test_a_known_label_file_is_not_read_again(src, tmp_path, monkeypatch):
    monkeypatch.setattr("builder.sources.fingerprints.SETTLED_NS", -(10**18))
    process = tabular(inputs="x", labels="y", labels_from="labels/{stem}.csv")
    builder.build(src, tmp_path / "t.zarr", process=process, workers=0)
    open_with_sources: list[str] = []
    monkeypatch.setattr("builder.sources.folder.read_fingerprint", open_with_sources.append)
    assert builder.build(src, tmp_path / "t.zarr", workers=0).unchanged == 2
    assert not open_with_sources


def test_a_source_without_labels_fails_alone(src, tmp_path):
    process = tabular(inputs="x", labels="y", labels_from="labels/{stem}.csv", on="t")
    built = build_files(tmp_path, {"c.csv": "t,x\n1,1\n"}, process)
    assert [str(failure) for failure in built.report.failures] == [
        "c.csv: its label file labels/c.csv does not exist (--labels-from)"
    ]
    assert built.report.added == 2
    (src / "labels" / "b.csv").unlink()
    reasons = build_files(tmp_path, {}).reasons
    assert any(reason.startswith("its label file labels/b.csv cannot be read now (No such file") for reason in reasons)
    with pytest.raises(UsageError, match=r"no sequence of source 'c.csv': it failed: its label file labels/c.csv does"):
        builder.inspect_source(tmp_path / "t.zarr", "c.csv")


def test_outside_of_builds_the_pattern_is_relative_to_the_folder_of_the_file(src):
    inputs, labels = tabular(inputs="x", labels="z", labels_from="labels/{stem}.csv")(src / "a.csv")
    assert (inputs.tolist(), labels.tolist()) == ([[10], [20]], [[7], [8]])


@given(
    ours=st.lists(st.integers(0, 9), unique=True, min_size=1),
    theirs=st.lists(st.integers(0, 9), unique=True, min_size=1),
    gaps=st.sets(st.integers(0, 9)),
    policy=st.sampled_from(["error", "drop", "split", "keep", "ffill+drop", "interpolate+keep"]),
    suffix=st.sampled_from([".csv", ".parquet"]),
    as_text=st.booleans(),
)
def test_a_left_join_equals_a_table_joined_beforehand(tmp_path_factory, ours, theirs, gaps, policy, suffix, as_text):
    """Compared with one table, joined row by row, whose labels are empty if there are none."""
    root = tmp_path_factory.mktemp("left")
    labels = {k: None if k in gaps else f"class {k // 2}" if as_text else k * 100 for k in theirs}
    # Parquet says that a column is text if no value is in it, so its classes are unknown.
    assume(not as_text or any(labels.get(k) for k in ours))
    whole = {"k": ours, "x": [k * 10 for k in ours], "y": [labels.get(k) for k in ours], "z": [7] * len(ours)}
    source, beside = {name: whole[name] for name in "kxz"}, {"k": theirs, "y": list(labels.values())}
    for name, columns in (("src/a", source), ("y/a", beside), ("one/a", whole)):
        types = {key: pa.string() if as_text and key == "y" else pa.int64() for key in columns}
        typed = {key: pa.array(values, types[key]) for key, values in columns.items()}
        rows = [columns, *zip(*columns.values(), strict=True)]
        text = "".join(",".join("" if cell is None else str(cell) for cell in row) + "\n" for row in rows)
        write_file(root / f"{name}{suffix}", text if suffix == ".csv" else typed)
    together: dict[str, Any] = {"inputs": "x,z", "labels": "y", "missing": f"y={policy}"}
    apart = together | {"labels_from": f"../y/{{stem}}{suffix}", "on": "k", "join": "left"}
    reports = [
        builder.build(root / folder, root / f"{folder}.zarr", process=tabular(**options), workers=0, max_failures=99)
        for folder, options in (("one", together), ("src", apart))
    ]
    failures = [[one.reason for one in (*report.failures, *report.skipped)] for report in reports]
    if not set(ours) & set(theirs):
        assert "none of its" in failures[1][0]
        return
    if failures[0]:
        (one,), (other,) = failures
        assert one.split(";")[0].split(" (")[0] == other.split(";")[0].split(" (")[0].split(", since")[0]
        return
    assert failures[1] == []
    expected, found = (store_spec.open_store(root / f"{folder}.zarr") for folder in ("one", "src"))
    assert len(found) == len(expected)
    names = [store.class_names() if store.schema.labels.classes else () for store in (expected, found)]
    assert set(names[0]) <= set(names[1])  # those of unmatched rows are among the others
    for number in range(len(expected)):
        (x, y), (other_x, other_y) = expected[number], found[number]
        if as_text:
            y, other_y = (np.array(one)[rows] for one, rows in zip(names, (y, other_y), strict=True))
        assert same(x, other_x)
        assert same(y, other_y)
    for name in ("dropped", "filled"):
        assert found.sequences[name].tolist() == expected.sequences[name].tolist()


def test_bytes_to_read_include_label_files(src, tmp_path):
    process = tabular(inputs="x", labels="y", labels_from="labels/{stem}.csv", on="t")
    write_files(src, {"c.csv": "t,x\n1,1\n"})  # it has no labels
    every = [path for path in src.rglob("*.csv") if path.name != "c.csv"]
    size = sum(path.stat().st_size for path in every)
    found = preview(src, tmp_path / "t.zarr", process=process)
    assert found.bytes_to_read == size + (src / "c.csv").stat().st_size
    seen: list[int] = []
    options: dict[str, Any] = {"workers": 0, "on_progress": lambda tally: seen.append(tally.bytes_to_read)}
    assert builder.build(src, tmp_path / "t.zarr", process=process, **options).bytes_read == size
    assert set(seen) == {found.bytes_to_read}


def test_a_recorded_pattern_opens_no_label_file_outside_the_sources(tmp_path, monkeypatch):
    src, store = tmp_path / "src", tmp_path / "s.zarr"
    for folder, header in ((src, "t,x"), (tmp_path / "y", "t,y")):
        write_files(folder, {"a.csv": f"{header}\n1,2\n"})
    given = ["--labels-from", "../y/{stem}.csv"]
    build = ["build", str(src), str(store), "--workers", "0"]
    verify = ["verify", str(store), "--sources", str(src), "--workers", "0"]
    asked = ["--inputs", "x", "--labels", "y", "--on", "t"]
    assert seqzarr(*build, *asked, *given).exit_code == 0
    before = files(store)
    refused = build, [*build, "--dry-run"], [*build, "--update"], [*build, *asked], verify, [*verify, "--repair"]
    with monkeypatch.context() as patch:
        patch.setattr("builder.frames.tabular.open_with_labels", None)  # called by any reader of such a file
        for command in refused:
            result = seqzarr(*command, status=2)
            assert "by which the labels of a.csv are in ../y/a.csv, outside" in result.stderr
            assert "repeat the option labels_from (--labels-from)" in result.stderr
    for command in (build, [*build, "--dry-run"], verify, [*verify, "--repair"]):
        assert seqzarr(*command, *given).exit_code == 0, command
    assert files(store) == before
    result = seqzarr(*verify, "--labels-from", "../z/{stem}.csv")
    assert "labels_from ../y/{stem}.csv, but the option is now labels_from ../z/{stem}.csv" in result.stderr
    process = tabular(inputs="x", labels="y", on="t", labels_from="../y/{stem}.csv")
    assert verify_sources(store, src, process=process, workers=0) == []
    (store / "inputs" / "c.0.0").unlink()
    assert seqzarr(*verify, "--repair", *given).exit_code == 0
    assert files(store) == before
    assert seqzarr("verify", store, *given).exit_code == 2


@pytest.mark.parametrize("text", ["../y/{stem}.csv", "{parent}/../../y/{stem}.csv", r"(.)csv -> {1}{1}/{stem}.csv"])
def test_label_files_outside_the_sources_are_refused(text):
    found = SourceList(folder=LocalFolder(Path("src")), names=("in/a.csv",))
    with pytest.raises(UsageError, match="outside src; no file there is opened only because a store names it"):
        check_below(found, LabelFilePattern.parse(text).label_file, "s.zarr", text)
    for below in ("y/{stem}.csv", "in/../y/{stem}", "..y/{stem}", "{parent}/../{stem}.y"):
        check_below(found, LabelFilePattern.parse(below).label_file, "s.zarr", below)


@pytest.mark.parametrize(
    ("name", "suffix", "text"),
    [
        ("a.csv.gz", ".csv", "y;k\n5;0\n6;0\n"),
        ("a.csv", ".csv.gz", "y;k\n5;0\n6;0\n"),
        ("a.csv.gz", ".txt.gz", "5 0\n6 0\n"),
    ],
)
def test_label_files_are_read_like_sources_of_the_same_suffix_packed_or_not(tmp_path, name, suffix, text):
    write_files(tmp_path, {name: "x;k\n1;0\n2;0\n", f"y/a{suffix}": text})
    x, y = tabular(labels_from=f"y/{{stem}}{suffix}", delimiter=";").under(tmp_path)(tmp_path / name)
    assert (x[:, 0].tolist(), y[:, 0].tolist()) == ([1, 2], [5, 6])


def test_a_given_format_applies_to_label_files_with_unknown_suffixes(tmp_path):
    write_files(tmp_path / "src", {"a.csv": "x\n1\n2\n", "y/a.lab": "k\n5\n6\n"})
    options = ["--labels-from", "y/{stem}.lab", "--inputs", "x", "--labels", "k", "--workers", "0"]
    assert seqzarr("build", tmp_path / "src", tmp_path / "t.zarr", *options, "--format", "csv").exit_code == 0
    x, y = store_spec.open_store(tmp_path / "t.zarr")[0]
    assert (x.ravel().tolist(), y.ravel().tolist()) == ([1, 2], [5, 6])
