"""Sources of several files: those of a folder, or those whose paths have the same groups of a pattern."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

import builder
import store_spec
from builder import BuildError, LongSequence, Sequence, UsageError, tabular
from builder.maintenance.checks import verify_sources
from tests.builder.command import seqzarr
from tests.builder.made_sources import rows_by_source as rows_of
from tests.builder.source_files import build_files, write_file, write_files
from tests.store.oracle import files

DAYS = {
    "north/p7_20240102.csv": [[3.0, 30.0]],
    "north/p7_20240101.csv": [[1.0, 10.0], [2.0, 20.0]],
    "south/p12_20240101.csv": [[4.0, 40.0], [5.0, 50.0], [6.0, 60.0]],
    "south/p7_20240103.csv": [[7.0, 70.0]],
}
BY_DEVICE = r"p(?P<device>\d+)_\d{8}\.csv"


def write(folder: Path, name: str, rows: Any, header: str = "a,b") -> None:
    write_files(folder, {name: header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)})


@pytest.fixture
def src(tmp_path: Path) -> Path:
    for name, rows in DAYS.items():
        write(tmp_path / "src", name, rows)
    return tmp_path / "src"


def build(src: Path, sources: str = "", store: str = "t.zarr", **options: Any) -> builder.Report:
    return builder.build(f"{src}{sources}", src.parent / store, **({"workers": 0} | options))


def test_files_with_the_same_groups_of_a_pattern_form_one_sequence_in_order(src, tmp_path):
    (src / "notes.csv").write_text("no table\n")
    report = build(src, sequence_from=BY_DEVICE)
    assert rows_of(tmp_path / "t.zarr") == {
        "12": DAYS["south/p12_20240101.csv"],
        "7": [*DAYS["north/p7_20240101.csv"], *DAYS["north/p7_20240102.csv"], *DAYS["south/p7_20240103.csv"]],
    }
    assert (report.added, report.sources, report.ignored_listed) == (2, 2, ("notes.csv",))
    store = store_spec.open_store(tmp_path / "t.zarr")
    assert store.sequences["device"].tolist() == [12, 7]
    assert store.provenance["build"]["sequence_from"] == BY_DEVICE
    assert store_spec.verify(tmp_path / "t.zarr") == []
    assert verify_sources(tmp_path / "t.zarr", src, workers=0) == []
    assert sum(map(len, store.splits({"train": 0.5, "test": 0.5}, by="device").values())) == 2


def test_a_pattern_that_ends_in_a_slash_makes_each_folder_a_source(src, tmp_path):
    (src / "north/read.me").write_text("ignored")
    write(src, "north/deeper/p1.csv", [[0, 0]])
    report = build(src, "/*/")
    north = [*DAYS["north/p7_20240101.csv"], *DAYS["north/p7_20240102.csv"]]
    south = [*DAYS["south/p7_20240103.csv"], *DAYS["south/p12_20240101.csv"]]
    assert rows_of(tmp_path / "t.zarr") == {"north": north, "south": south}
    assert report.ignored_listed == ("north/read.me",)
    assert verify_sources(tmp_path / "t.zarr", f"{src}/*/", workers=0) == []
    again = build(src, "/*/")
    assert (again.unchanged, again.bytes_read) == (2, 0)
    # A pattern groups the files of these folders by any part of their paths.
    build(src, "/*/", "other.zarr", sequence_from=r"(?P<site>\w+)/p(\d+)")
    assert sorted(rows_of(tmp_path / "other.zarr")) == ["north/7", "south/12", "south/7"]
    assert store_spec.open_store(tmp_path / "other.zarr").sequences["site"].tolist() == ["north", "south", "south"]


def read_frame(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read one step of a file: an image, and a number."""
    frame = np.load(path)
    return frame[None], np.array([frame.sum()], np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_is_called_for_each_file_and_its_results_are_joined(tmp_path, workers):
    rng = np.random.default_rng(0)
    frames = {f"run{run}/{number}.npy": rng.random((4, 3), np.float32) for run in (1, 2) for number in range(11)}
    write_files(tmp_path / "src", frames)
    build(tmp_path / "src", "/*/", process=read_frame, workers=workers)
    store = store_spec.open_store(tmp_path / "t.zarr")
    assert store.sources == ("run1", "run2")
    for number in range(2):
        x, y = store[number]
        expected = np.stack([frames[f"run{number + 1}/{step}.npy"] for step in range(11)])  # not 0, 1, 10, 2
        assert np.array_equal(x, expected)
        assert np.array_equal(y, [frame.sum() for frame in expected])


def test_functions_for_several_files_return_the_usual_results(src, tmp_path):
    def read(path: Path) -> Any:
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        if "0102" in path.name:
            return []
        if "0103" in path.name:
            return LongSequence([(row[None], row[None]) for row in rows])
        return Sequence(rows, rows, columns={"first": path.name})

    build(src, sequence_from=r"/(p\d+)_", process=read)
    store = store_spec.open_store(tmp_path / "t.zarr")
    assert rows_of(tmp_path / "t.zarr")["p7"] == [*DAYS["north/p7_20240101.csv"], *DAYS["south/p7_20240103.csv"]]
    assert store.sequences["first"].tolist() == ["p12_20240101.csv", "p7_20240101.csv"]
    report = build(
        src, "", "none.zarr", sequence_from=r"/(p\d+)_", process=lambda path: [] if "p7" in path.name else read(path)
    )
    assert [(one.source, one.reason) for one in report.skipped] == [("p7", "it gave no sequence")]
    report = build(
        src, "", "two.zarr", sequence_from=r"/(p\d+)_", process=lambda path: [read(path)] * (1 + ("p7" in path.name))
    )
    assert "p7_20240101.csv gives several sequences" in report.failures[0].reason


@pytest.mark.parametrize("is_array", [True, False])
def test_files_with_different_labels_are_not_one_sequence(tmp_path, is_array):
    labels = {"a0": 1, "a1": 1, "b0": 1, "b1": 2}
    arrays = {f"{name}.npz": {"inputs": np.ones((2, 1)), "labels": np.int64(one)} for name, one in labels.items()}

    def read(path: Path) -> Any:
        arrays = np.load(path)
        return arrays["inputs"], arrays["labels"]

    built = build_files(tmp_path, arrays, tabular() if is_array else read, sequence_from=r"(\w)\d")
    assert [(one.source, one.reason) for one in built.report.failures] == [
        ("b", "b1.npz has the label 2, but b0.npz has 1; all files of a source form one sequence, which has one label")
    ]
    x, y = built.store[0]
    assert (len(x), y.tolist()) == (4, 1)
    report = build(
        tmp_path / "src", "", "rows.zarr", sequence_from=r"(\w)\d", label_axis="sequence",
        process=lambda path: (np.ones((2, 1)), np.array([0, labels[path.stem]])),
    )  # fmt: skip
    assert [one.source for one in report.failures] == ["b"]
    assert "has labels [0, 2], but [0, 1] in the first piece; a sequence has one" in report.failures[0].reason


@pytest.mark.parametrize(
    ("pattern", "files", "found"),
    [
        (r"(.+?)-(.+)_\d", ["a-b/c_1.csv", "a/b-c_1.csv"], r"\('a', 'b/c'\) in a-b/c_1.csv and \('a/b', 'c'\)"),
        (r"(\w*)-(\w*)", ["-q.csv", "q-.csv"], r"\('', 'q'\) in -q.csv and \('q', ''\) in q-.csv, .* source, q"),
    ],
)
def test_files_with_other_texts_in_the_groups_are_not_one_source(tmp_path, pattern, files, found):
    write_files(tmp_path / "src", dict.fromkeys(files, "v\n1\n"))
    with pytest.raises(UsageError, match=found):
        build(tmp_path / "src", sequence_from=pattern)


def test_files_with_steps_of_different_shapes_are_refused(tmp_path):
    for width in (2, 3):
        write_files(tmp_path / "src", {f"a{width}.npy": np.ones((2, 2, width)), f"b{width}.npy": np.ones((2, 2, 2))})
    report = build(tmp_path / "src", sequence_from=r"(\w)\d")
    assert [(one.source, one.reason) for one in report.failures] == [("a", "its files have steps of different shapes")]


def made_day(rng: np.random.Generator, day: int) -> dict[str, list[Any]]:
    count = int(rng.integers(1, 6))
    values = [None if rng.random() < 0.3 else float(one) for one in rng.integers(0, 9, count)]
    return {"t": [100 * day + step for step in range(count)], "a": values, "k": ["u", "v", "u", "v", "u"][:count]}


def write_table(path: Path, columns: dict[str, list[Any]]) -> None:
    if path.suffix == ".csv":
        rows = zip(*columns.values(), strict=True)
        write(path.parent, path.name, [["" if one is None else one for one in row] for row in rows], ",".join(columns))
    else:
        types = {"t": pa.int64(), "a": pa.float64(), "k": pa.string()}
        typed = {name: pa.array(values, types[name]) for name, values in columns.items()}
        write_files(path.parent, {path.name: typed})


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_of_several_files_are_cleaned_as_one_table(tmp_path, suffix):
    """Compared with the same rows in one file."""
    rng = np.random.default_rng(1)
    for device in "xyz":
        days = [made_day(rng, day) for day in range(3)]
        write_table(
            tmp_path / f"one/{device}{suffix}", {name: [one for day in days for one in day[name]] for name in days[0]}
        )
        for number, day in enumerate(days):
            write_table(tmp_path / f"src/{device}_{number}{suffix}", day)
    for number, process in enumerate(
        (
            tabular(inputs="a", missing="ffill+drop", time="t", elapsed=True, time_unit="s", max_gap="50s"),
            tabular(inputs="a", missing="ffill+drop", transforms=["diff a"]),
            tabular(inputs="a", labels="k", missing="a=interpolate+drop"),
            tabular(inputs="a", group_by="k", missing="drop"),
        )
    ):
        stores = [tmp_path / f"{name}{number}.zarr" for name in ("src", "one")]
        build(tmp_path / "src", "", f"src{number}.zarr", process=process, sequence_from=r"([xyz])_")
        build(tmp_path / "one", "", f"one{number}.zarr", process=process)
        joined, single = (store_spec.open_store(store) for store in stores)
        assert [f"{source}{suffix}" for source in joined.sources] == list(single.sources)
        for sequence in range(len(single)):
            for ours, theirs in zip(joined[sequence], single[sequence], strict=True):
                assert ours.tobytes() == theirs.tobytes()
        assert joined.schema == single.schema


@pytest.mark.parametrize("group", [1, 2, 3])
def test_types_of_files_are_promoted_wherever_the_rows_of_a_group_are(tmp_path, group):
    files: list[list[tuple[int, float]]] = [[(1, 1), (2, 2)], [(group, 3.5)]]
    for number, rows in enumerate(files):
        lines = [json.dumps({"g": value, "a": at, "t": at}) for value, at in rows]
        write_files(tmp_path / "src", {f"p1_{number + 1}.jsonl": "\n".join(lines)})
    opened = build_files(tmp_path, {}, tabular(group_by="g", time="t", time_unit="s"), sequence_from=r"(p\d)_").store
    wanted = {value: [at for one, at in [*files[0], *files[1]] if one == value] for value in {1, 2, group}}
    found = zip(opened.sequences["g"].tolist(), opened, strict=True)
    assert {value: inputs.ravel().tolist() for value, (inputs, _) in found} == wanted


def test_text_of_one_file_may_be_a_dictionary_in_another(tmp_path):
    texts = pa.array(["x", "y", "x"])
    columns = [texts, texts.dictionary_encode(), texts.cast(pa.string_view())]
    contents = {f"p1_{number}.parquet": {"g": column, "a": [number] * 3} for number, column in enumerate(columns)}
    store = build_files(tmp_path, contents, tabular(group_by="g"), sequence_from=r"(p\d)_").store
    assert store.sequences["g"].tolist() == ["x", "y"]
    assert [inputs.ravel().tolist() for inputs, _ in store] == [[0, 0, 1, 1, 2, 2], [0, 1, 2]]


@pytest.mark.parametrize(("first", "values"), [("7,1\n7,2\n", ["7", "x"]), ("7,1\n8,2\n", ["7", "8", "x"])])
def test_groups_are_text_in_all_files_of_a_source_if_one_has_text(tmp_path, first, values):
    contents = {"p1_1.csv": f"g,a\n{first}", "p1_2.csv": "g,a\n7,3\nx,4\n", "p0_1.csv": "g,a\ny,0\n"}
    store = build_files(tmp_path, contents, tabular(group_by="g"), sequence_from=r"(p\d)_").store
    assert store.sequences["g"].tolist() == ["y", *values]
    assert store[1][0].ravel().tolist() == [int(line[2:]) for line in [*first.split(), "7,3"] if line[0] == "7"]


def test_the_fingerprint_covers_all_files(src, tmp_path):
    build(src, sequence_from=BY_DEVICE)
    store = store_spec.open_store(tmp_path / "t.zarr")
    days = [src / name for name in ("north/p7_20240101.csv", "north/p7_20240102.csv", "south/p7_20240103.csv")]
    lines = "".join(f"{hashlib.sha256(day.read_bytes()).hexdigest()}  {day.relative_to(src)}\n" for day in days)
    assert store.snapshot.table("sequences/source_sha256")[1].tobytes() == hashlib.sha256(lines.encode()).digest()
    assert store.snapshot.table("sequences/source_size")[1] == sum(day.stat().st_size for day in days)
    before = files(tmp_path / "t.zarr")
    os.utime(days[1], ns=(1, 1))
    assert (build(src).unchanged, files(tmp_path / "t.zarr")) == (2, before)
    days[1].write_text("a,b\n9,90\n")  # of the same size as before
    assert (build(src).changed, files(tmp_path / "t.zarr")) == (("7",), before)
    report = build(src, update=True)
    assert (report.updated, report.unchanged) == (1, 1)
    assert rows_of(tmp_path / "t.zarr")["7"][2] == [9, 90]
    write(src, "south/p7_20240104.csv", [[8, 80]])
    assert build(src).changed == ("7",)
    build(src, update=True)
    assert rows_of(tmp_path / "t.zarr")["7"][-1] == [8, 80]
    days[0].rename(days[0].with_name("p7_20231231.csv"))  # a process function may use the name
    assert build(src).changed == ("7",)
    days[0].with_name("p7_20231231.csv").unlink()
    assert build(src).changed == ("7",)
    assert [str(one).split(": ")[1] for one in verify_sources(tmp_path / "t.zarr", src, workers=0)] == ["7"]
    shutil.rmtree(tmp_path / "t.zarr.build", ignore_errors=True)
    assert (build(src).changed, build(src).unchanged) == (("7",), 1)


def test_all_sources_of_a_store_with_columns_of_numbers_can_be_retired(src):
    assert build(src, sequence_from=BY_DEVICE).added == 2
    for name in DAYS:
        (src / name).unlink()
    assert build(src, retire_missing=True, yes=True).retired == 2


def test_labels_come_from_a_manifest_or_a_file_for_each_source(src, tmp_path):
    write(tmp_path, "m.csv", [["7", 1, "x"], ["12", 0, "y"]], "device,label,site")
    options = {"manifest": tmp_path / "m.csv", "key": "device", "label_column": "label", "keep": "site"}
    build(src, sequence_from=r"p(?P<number>\d+)_\d{8}\.csv", **options)
    store = store_spec.open_store(tmp_path / "t.zarr")
    assert [int(y[0]) for _, y in store] == [0, 1]
    assert (store.sequences["site"].tolist(), store.sequences["number"].tolist()) == (["y", "x"], [12, 7])
    with pytest.raises(UsageError, match="column site is a group of sequence_from"):
        build(src, "", "twice.zarr", sequence_from=r"p(?P<site>\d+)_\d{8}\.csv", **options)
    write(src, "labels/7.csv", [[1], [1], [2], [2]], "y")
    write(src, "labels/12.csv", [[5], [6], [7]], "y")
    build(src, "", "beside.zarr", sequence_from=r"p(\d+)_\d{8}\.csv", process=tabular(labels_from="labels/{stem}.csv"))
    store = store_spec.open_store(tmp_path / "beside.zarr")
    assert [y.ravel().tolist() for _, y in store] == [[5, 6, 7], [1, 1, 2, 2]]
    assert build(src, "", "beside.zarr").unchanged == 2


def test_a_label_file_is_no_part_of_its_source(tmp_path):
    write(tmp_path / "src", "p1_a.csv", [[1.0, 2.0]])
    write(tmp_path / "src", "p1_y.csv", [[3.0]], header="y")
    process = tabular(labels_from=r"(\d) -> p{1}_y.csv")
    with pytest.raises(BuildError, match=r"label file p1_y\.csv is also one of its files"):
        build(tmp_path / "src", sequence_from=r"p(\d)_", process=process)
    assert build(tmp_path / "src", store="ok.zarr", sequence_from=r"p(\d)_[^y]", process=process).added == 1


def test_npz_files_are_joined_as_they_are(tmp_path):
    days = {f"a{day}.npz": {"inputs": np.full((day + 1, 2), day), "labels": np.full(day + 1, day)} for day in range(3)}
    x, y = build_files(tmp_path, days, sequence_from="(a)").store[0]
    assert (x[:, 0].tolist(), y.ravel().tolist()) == ([0, 1, 1, 2, 2, 2], [0, 1, 1, 2, 2, 2])
    built = build_files(tmp_path, {}, tabular(missing="drop"), "u.zarr", sequence_from="(a)")
    assert "cannot be changed" in built.reasons[0]


def test_errors_about_a_file_name_it_and_its_own_row(tmp_path):
    write_files(tmp_path / "src", {f"{name}_1.csv": "a,b\n1,2\n3,4\n" for name in "pqr"})
    write_files(tmp_path / "src", {"p_2.csv": "a,b\n1,2\nx,4\n", "r_2.csv": "a,b\n1,2,3\n"})
    (tmp_path / "src" / "q_2.csv").symlink_to("nowhere")
    report = build(tmp_path / "src", sequence_from=r"(\w)_", max_failures=3)
    assert [re.split("; |, is a broken", f"{one}")[0] for one in report.failures] == [
        "p: p_2.csv: row 2, column a: 'x' is not a number",
        "q: q_2.csv: cannot be read: No such file or directory: it was removed since it was listed",
        "r: r_2.csv: row 1 has 3 fields, but the first line has 2 ('1,2,3')",
    ]


def test_a_column_of_one_file_that_cannot_be_used_is_named_with_its_file(src):
    write(src, "north/p7_20240103.csv", [["x", 2]], "b,a")
    result = seqzarr("build", src, src.parent / "t.zarr", "--sequence-from", BY_DEVICE, "--workers", "0")
    assert "7: north/p7_20240103.csv: column b holds text, not numbers ('x' in row 1)" in result.stderr


DAY, EARLIER = "north/p7_20240102.csv", "5,000,000,000 ns comes before 30,000,000,000 ns"
WRONG: tuple[tuple[str, dict[str, Any], str | None], ...] = (
    ("", {}, "row 2 of north/p7_20240102.csv, column b: missing value (1 in all)"),
    ("", {"missing": "split", "labels": "a"}, None),
    ("", {"missing": "a=drop", "labels": "a"}, "row 2 of north/p7_20240102.csv, column b: missing value (1 in all)"),
    ("inf", {}, "row 2 of north/p7_20240102.csv, column b: infinite value (1 in all)"),
    ("300", {"dtype": "int8"}, "row 2 of north/p7_20240102.csv, column b: 300"),
    ("5", {"time": "b", "time_unit": "s", "elapsed": True}, f"row 2 of {DAY}, column b: {EARLIER} in row 1 of {DAY} ("),
)
NO_TIME = ("noon", {"time": "b", "time_unit": "s"}, "row 2 of north/p7_20240102.csv, column b: ")  # of text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "value", "options", "reason"),
    [("csv", *NO_TIME), *((suffix, *case) for suffix in ("csv", "parquet") for case in WRONG)],
)
def test_errors_about_a_value_name_the_file_and_its_row_there(src, value, options, reason, suffix):
    write(src, "north/p7_20240102.csv", [[3, 30], [4, value]])
    if suffix == "parquet":
        for path in [*src.rglob("*.csv")]:
            header, *rows = [line.split(",") for line in path.read_text().split()]
            columns = zip(*[[float(one) if one else None for one in row] for row in rows], strict=True)
            write_file(path.with_suffix(".parquet"), dict(zip(header, columns, strict=True)))
            path.unlink()
    pattern = BY_DEVICE.replace("csv", suffix)
    report = build(src, sequence_from=pattern, process=tabular(**options), max_failures=9)
    reasons = {failure.source: failure.reason for failure in report.failures}
    if reason is None:
        assert not reasons
    else:
        assert reasons["7"].startswith(reason.replace("csv", suffix))
