"""Labels that are text: the same codes as in a loop, for any workers, any order of tasks and any number of builds."""

import json
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import builder
import store_spec
from builder import UsageError, build, inspect, preview, tabular
from builder.frames import class_columns
from builder.labels.text_classes import format_classes, parse_classes
from builder.workers.batch import recode
from tests.builder.any_order import Later, Shuffled, fail_at_commit, on_engine
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, write_file, write_files
from tests.store.oracle import files


def sources_of(*labels: tuple[str, str], first: int = 0) -> dict[str, str]:
    """Return sources of one row, with a feature x and the labels a and b."""
    return {f"{number:03}.csv": f"x,a,b\n0,{a},{b}\n" for number, (a, b) in enumerate(labels, first)}


def test_some_targets_have_given_classes_others_are_found_and_numbers_stay(tmp_path):
    contents = {"a.csv": "x,n,a,b\n1,7,p,s\n2,-8,q,t\n", "b.csv": "x,b,a,n\n1,r,q,9\n"}
    store = build_files(tmp_path, contents, tabular(labels="a,n,b", dtype="float32", classes=["a=q,p"])).store
    assert store.schema.labels.classes == (("q", "p"), None, ("s", "t", "r"))
    assert [y.tolist() for _, y in store] == [[[1, 7, 0], [0, -8, 1]], [[0, 9, 2]]]
    assert store.schema.labels.dtype == np.int64


def test_texts_that_are_numbers_are_classes_if_listed(tmp_path):
    contents = {"a.csv": "x,y\n1,1\n2,2b\n", "b.csv": "x,y\n1,2\n2,1\n"}
    built = build_files(tmp_path, contents, tabular(labels="y", classes="1,2,2b"))
    assert codes_of(built.store) == [[0, 2], [1, 0]]


@pytest.mark.parametrize(("suffix", "gap"), [(".csv", ""), (".csv", "NA"), (".parquet", None), (".parquet", " ")])
@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("drop", [[0, 1]]),
        ("split", [[0], [1]]),
        ("ffill", [[0, 0, 1]]),
        (None, "row 2, column y: missing value (1 in all); fill it in"),
        ("keep", "column y holds classes, and --missing keep would give a value that is not a class; say --missing y="),
        ("interpolate", "column y holds classes, and --missing interpolate would give a value that is not a class"),
    ],
)
def test_missing_labels_follow_the_policy(tmp_path, suffix, gap, missing, expected):
    text, columns = f"x,y\n1,p\n2,{gap}\n3,q\n", {"x": [1.0, 2.0, 3.0], "y": ["p", gap, "q"]}
    contents = {f"a{suffix}": text if suffix == ".csv" else columns}
    built = build_files(tmp_path, contents, tabular(labels="y", missing=missing))
    if isinstance(expected, str):
        assert expected in built.reasons[0]
    else:
        assert codes_of(built.store) == expected


def test_grouped_rows_of_many_row_groups_name_the_row_of_the_file(tmp_path):
    table = {"k": [1, 1, 2, 2, 2], "x": [0.0] * 5, "y": ["p", "q", "p", "r", "q"]}
    write_file(tmp_path / "src" / "a.parquet", table, row_group=2)
    store = build_files(tmp_path, {}, tabular(labels="y", group_by="k")).store
    assert (store.class_names(), codes_of(store)) == (("p", "q", "r"), [[0, 1], [0, 2, 1]])
    built = build_files(tmp_path, {}, tabular(labels="y", group_by="k", classes="p,q"), "u.zarr")
    assert built.reasons[0].startswith("row 4, column y: 'r' is none of the 2 classes (p, q)")


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ('"2,5"', "'2,5' is not a number; decimals are written with a point"),
        ("2020-01-01", "column y holds time stamps, not numbers"),
        ("2020-01-01T00:00:05", "column y holds time stamps, not numbers"),
        ("\uff12", "is not a number; digits and signs must be ASCII"),
    ],
)
def test_a_mistake_among_numbers_is_not_a_class(tmp_path, slip, message):
    built = build_files(tmp_path, {"a.csv": f"x,y\n1,1\n2,{slip}\n"}, tabular(labels="y"))
    assert message in built.reasons[0]


@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("first", [False, True])
def test_a_label_column_without_values_has_missing_values(tmp_path, rows, first):
    text = {"x": [1.0, 2.0], "y": ["u", "v"], "z": ["p", "q"]}
    nothing = {"x": np.ones(rows), "y": pa.nulls(rows), "z": pa.array(["r"] * rows, pa.string())}
    contents = {"b.parquet": text, "a.parquet" if first else "c.parquet": nothing}
    built = build_files(tmp_path, contents, tabular(inputs="x", labels="y,z", missing="y=drop"))
    reasons = [one.reason.partition("; leave")[0] for one in built.report.skipped]
    assert reasons == ["none of its 2 rows is left; column y is missing in 2 of them" if rows else "has no rows"]
    store = built.store
    assert store.lengths.tolist() == [2]
    assert store.class_names("y") == ("u", "v")
    assert store.class_names("z") == ("p", "q")  # a skipped source adds no class


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (["cat", "1", "dog"], True),
        (["", "cat", "1", "2", "3"], True),  # no row of the first is left
        (["1", "cat", "dog", "cat"], False),
        (["", "1", "cat"], False),
    ],
)
def test_the_first_source_that_can_be_used_decides_whether_labels_are_text(tmp_path, labels, text):
    given = {f"{number}.csv": label for number, label in enumerate(labels)}
    write_files(tmp_path / "src", {name: f"x,y\n1,{label}\n2,{label}\n" for name, label in given.items()})
    process = tabular(inputs="x", labels="y", missing="y=drop")
    found = preview(tmp_path / "src", tmp_path / "t.zarr", process=process, workers=0)
    built = build_files(tmp_path, {}, process)
    assert (built.store.schema.labels.classes is not None) == text
    failed = {failure.source for failure in built.report.failures}
    assert failed >= {name for name, label in given.items() if label.isdigit() == text and label}
    assert {failure.source for failure in found.failures} <= failed


def test_a_dry_run_and_inspect_show_the_classes(tmp_path):
    write_files(tmp_path / "src", sources_of(("cat", "u"), ("dog", "v")))
    process = tabular(inputs="x", labels="a")
    seen = preview(tmp_path / "src", tmp_path / "t.zarr", process=process)
    assert seen.result is not None
    assert seen.result.labels["classes"] == [["cat", "dog"]]
    build(tmp_path / "src", tmp_path / "t.zarr", process=process, workers=0)
    assert inspect(tmp_path / "t.zarr").labels == seen.result.labels
    assert "classes     0 cat, 1 dog" in seqzarr("inspect", tmp_path / "t.zarr").stdout
    write_files(tmp_path / "src", sources_of(("eel", "v"), first=2))
    arguments = ["build", str(tmp_path / "src"), str(tmp_path / "t.zarr"), "--dry-run"]
    assert "classes seen  0 cat, 1 dog, 2 eel" in seqzarr(*arguments).stdout
    found = json.loads(seqzarr(*arguments, "--json").stdout)
    assert found["result"]["labels"]["classes"] == [["cat", "dog", "eel"]]


def test_a_dry_run_of_some_sources_shows_no_codes_of_classes(tmp_path):
    """It does not look at the second source, which has the second class."""
    write_files(tmp_path / "src", sources_of(("cat", "u"), ("dog", "u"), *[("eel", "u")] * 7))
    arguments = ["build", str(tmp_path / "src"), str(tmp_path / "t.zarr"), "--inputs", "x", "--labels", "a"]
    assert "classes seen  cat, eel\n" in seqzarr(*arguments, "--dry-run").stdout
    seqzarr(*arguments, "--workers", "0")
    assert store_spec.open_store(tmp_path / "t.zarr").class_names() == ("cat", "dog", "eel")


def test_a_manifest_with_another_class_changes_its_source(tmp_path):
    write_files(tmp_path / "src", sources_of(*[("", "")] * 3))
    table = tmp_path / "m.csv"
    process = tabular(inputs="x", labels_in_manifest=True)
    table.write_text("source,y\n000,red\n001,blue\n002,red\n")
    build(tmp_path / "src", tmp_path / "t.zarr", process=process, manifest=table, label_column="y", workers=0)
    table.write_text("source,y\n000,green\n001,red\n002,red\n")
    report = build(tmp_path / "src", tmp_path / "t.zarr", manifest=table, workers=0)
    assert (report.changed, report.unchanged) == (("000.csv", "001.csv"), 1)
    assert store_spec.open_store(tmp_path / "t.zarr").class_names() == ("red", "blue")
    build(tmp_path / "src", tmp_path / "t.zarr", manifest=table, workers=0, update=True)
    store = store_spec.open_store(tmp_path / "t.zarr")
    assert (store.class_names(), [y.tolist() for _, y in store]) == (("red", "blue", "green"), [[0], [2], [0]])
    table.write_text("source,y\n000,1\n001,2\n002,3\n")
    with pytest.raises(UsageError, match="column y holds numbers, such as '1' in row 1, but the store has classes"):
        build(tmp_path / "src", tmp_path / "t.zarr", manifest=table, workers=0)


def test_a_column_without_a_value_in_any_source_is_of_numbers(tmp_path):
    contents = {f"{number}.csv": "x,y\n1,\n2,\n" for number in range(2)}
    store = build_files(tmp_path, contents, tabular(inputs="x", labels="y", missing="y=keep")).store
    assert (store.schema.labels.dtype.name, store.schema.labels.classes, len(store)) == ("float32", None, 2)
    assert all(np.isnan(y).all() for _, y in store)
    built = build_files(tmp_path, {}, tabular(inputs="x", labels="y", missing="y=keep", classes="a,b"), "u.zarr")
    assert all("column y holds classes, and --missing keep" in reason for reason in built.reasons)


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["a,b"], ((None, ("a", "b")),)),
        (['"a, b", c'], ((None, ("a, b", "c")),)),
        (["k=a,b", 'l="x=1",y'], (("k", ("a", "b")), ("l", ("x=1", "y")))),
        (['"x=1",y'], ((None, ("x=1", "y")),)),
        (['"a, ""b"" = c"=x,"y, z"', "d, e=u"], (('a, "b" = c', ("x", "y, z")), ("d, e", ("u",)))),
        (['"""q"""=x', 'p"=y', '"a=b"=z'], (('"q"', ("x",)), ('p"', ("y",)), ("a=b", ("z",)))),
    ],
)
def test_lists_of_classes_are_parsed_and_formatted(given, parsed):
    assert parse_classes(given) == parsed
    assert parse_classes(format_classes(parsed)) == parsed


def test_a_column_of_too_many_texts_has_no_classes(tmp_path, monkeypatch):
    monkeypatch.setattr("builder.labels.text_classes.MOST_CLASSES", 3)
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    write_files(tmp_path / "src", sources_of(*((name, "u") for name in "pqprs")))
    message = r"labels a have more than 3 different texts, 'p' to 's', too many for classes.* stays"
    for _ in range(2):
        with pytest.raises(UsageError, match=message):
            build_files(tmp_path, {}, tabular(inputs="x", labels="a"), batch=1)
        store = store_spec.open_store(tmp_path / "t.zarr")
        assert (store.class_names(), codes_of(store)) == (("p", "q", "r"), [[0], [1], [0], [2]])


def test_a_source_that_cannot_be_read_adds_no_class_until_it_can(tmp_path):
    contents = {"0.csv": "x,y\n1,cat\n", "1.csv": "x,y\n1,eel,2\n", "2.csv": "x,y\n1,dog\n"}
    built = build_files(tmp_path, contents, tabular(inputs="x", labels="y"))
    assert "row 1 has 3 fields" in built.reasons[0]
    assert built.store.class_names() == ("cat", "dog")
    store = build_files(tmp_path, {"1.csv": "x,y\n1,eel\n"}).store
    assert (store.class_names(), codes_of(store)) == (("cat", "dog", "eel"), [[0], [1], [2]])


def test_only_the_label_columns_of_parquet_files_are_scanned(tmp_path, monkeypatch):
    table = {"x": [0, 1], "a": pa.array(["cat", "dog"]).dictionary_encode(), "b": ["u", "v"]}
    path = write_file(tmp_path / "x.parquet", table)
    loaded: list[list[str]] = []
    read = pq.ParquetFile.read

    def noted(self: pq.ParquetFile, columns: list[str], *, use_threads: bool) -> pa.Table:
        loaded.append(columns)
        return read(self, columns, use_threads=use_threads)

    monkeypatch.setattr(pq.ParquetFile, "read", noted)
    assert tabular(labels="a,b").classes_in(path) == {"a": ("cat", "dog"), "b": ("u", "v")}
    assert loaded == [["a"], ["b"]]
    loaded.clear()
    assert tabular(labels="a,b", classes="a=cat,dog").classes_in(path) == {"a": ("cat", "dog"), "b": ("u", "v")}
    assert loaded == [["b"]]


def test_a_number_for_missing_values_is_not_a_code_of_a_class(tmp_path):
    path = write_file(tmp_path / "x.csv", "a,y\n1,cat\n2,dog\n3,cat\n")
    (only,) = tabular(inputs="a", labels="y", classes="cat,dog", na_values="1", missing="drop")(path)
    assert (only.inputs.tolist(), only.labels.tolist(), only.columns["dropped"]) == ([[2], [3]], [[1], [0]], 1)


def test_listed_classes_need_neither_a_store_nor_a_scan(tmp_path, monkeypatch):
    write_files(tmp_path / "src", sources_of(("cat", "u"), ("dog", "u")))
    process = tabular(inputs="x", labels="a", classes="dog,cat")
    x, y = process(tmp_path / "src" / "000.csv")
    assert (x.tolist(), y.tolist()) == ([[0.0]], [[1]])
    monkeypatch.setattr(class_columns, "distinct_texts", lambda *_, **__: pytest.fail("the sources are looked at"))
    assert not build_files(tmp_path, {}, process).reasons


def test_numeric_labels_need_only_the_first_source(tmp_path, monkeypatch):
    looked: list[str] = []
    monkeypatch.setattr(class_columns, "distinct_texts", lambda *given, **_: looked.append(given[1]))
    sources = sources_of(("1", "u"), ("2", "u"), ("3", "u"))
    built = build_files(tmp_path, sources, tabular(inputs="x", labels="a"))
    assert looked == ["a"]
    assert (built.reasons, built.store.schema.labels.dtype.name) == ([], "float32")


def test_a_source_of_other_labels_adds_no_class_in_its_other_columns(tmp_path):
    sources = sources_of(("cat", "1"), ("eel", "one"), ("dog", "2"), ("3", "3"))
    built = build_files(tmp_path, sources, tabular(labels="a,b"))
    assert [failure.source for failure in built.report.failures] == ["001.csv", "003.csv"]
    assert built.store.schema.labels.classes == (("cat", "dog"), None)
    (tmp_path / "src" / "000.csv").unlink()  # text comes first now
    built = build_files(tmp_path, {}, tabular(inputs="x", labels="b"), "u.zarr")
    assert [failure.source for failure in built.report.failures] == ["002.csv", "003.csv"]
    assert built.store.class_names() == ("one",)


Axis = Literal["step", "sequence", "own"]
AXES: list[Axis] = ["step", "sequence", "own"]
WORDS = ["cat", "dog", "eel", "Ä 1", "fox"]
PROCESSES = {
    "step": tabular(inputs="x", labels="y"),
    "sequence": tabular(inputs="x", label_pattern=r"-(.+)\.csv"),
    "own": tabular(inputs="x", labels_from="labels/{stem}.csv", label_axis="own"),
}


def write_texts(folder: Path, axis: Axis, sources: list[list[str]]) -> list[str]:
    """Write sources with these labels, and return their names; one without labels cannot be read."""
    texts = {}
    for number, labels in enumerate(sources):
        name = f"{number:02}-{labels[0] if labels else 'bad'}.csv"
        here = ["-"] * (2 * len(labels)) if axis == "own" else labels
        texts[name] = "x,y\n" + ("".join(f"{row},{text}\n" for row, text in enumerate(here)) or "1,eel,2\n")
        texts[f"labels/{name}"] = "\n".join(["y", *(labels or ["gnu"]), ""])
    write_files(folder, texts)
    return [name for name in texts if not name.startswith("labels/")]


def build_texts(place: Path, store: str, axis: Axis, engine: Any = None, **options: Any) -> builder.Report:
    """Build the sources in `src`; with an engine, in batches of one."""
    given: dict[str, Any] = {"process": PROCESSES[axis], "chunk": 40, "shard": 120, "workers": 0, "max_failures": 99}
    sources = f"{place}/src/*.csv"
    if engine is None:
        return builder.build(sources, place / store, **given | options)
    with on_engine(engine, memory=10**9):
        return builder.build(sources, place / store, **given | {"batch": 1} | options)


def expected(axis: Axis, sources: list[list[str]]) -> tuple[list[str], list[list[int]]]:
    """Give each text the next code when it first appears in a source that can be read."""
    known: list[str] = []
    codes = []
    for texts in filter(None, sources):
        here = texts[:1] if axis == "sequence" else texts
        known += [text for text in dict.fromkeys(here) if text not in known]
        codes.append([known.index(text) for text in here])
    return known, codes


def codes_of(store: store_spec.Store) -> list[list[int]]:
    return [np.ravel(y).tolist() for _, y in store]


class InOrder(Shuffled):
    """An engine that returns tasks in order, and runs none twice."""

    def __init__(self) -> None:
        super().__init__(0)
        self.random.random = lambda: 1.0  # type: ignore[method-assign]

    def next_finished(self) -> Later:
        """Return the first of the watched tasks."""
        return self.watched.pop(0)


@pytest.mark.slow
@settings(max_examples=8, phases=[Phase.reuse, Phase.generate])
@given(
    axis=st.sampled_from(AXES),
    sources=st.lists(st.lists(st.sampled_from(WORDS), max_size=9), min_size=1, max_size=9).filter(any),
    batch=st.sampled_from([1, 60, 200, "1GB"]),
    seed=st.integers(0, 2**32),
)
def test_codes_equal_those_of_a_loop_in_any_order_of_tasks(axis, sources, batch, seed):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_texts(place / "src", axis, sources)
        first = build_texts(place, "at-once", axis)
        second = build_texts(place, "by-chance", axis, Shuffled(seed), batch=batch)
        known, codes = expected(axis, sources)
        store = store_spec.open_store(place / "at-once")
        assert (store.class_names(), codes_of(store)) == (tuple(known), codes)
        assert store_spec.verify(place / "at-once") == []  # checksums and statistics too
        assert files(place / "by-chance") == files(place / "at-once")
        assert first.failures == second.failures


def test_batches_whose_codes_differ_are_recoded_and_others_are_not(tmp_path, monkeypatch):
    names = write_texts(tmp_path / "src", "step", [["dog"], ["cat", "dog"], ["dog"], ["cat"]])
    recoded = []

    def noted(processed, recoding, schema, first):
        recoded.append(processed.summary.records.sources)
        return recode(processed, recoding, schema, first)

    monkeypatch.setattr("builder.execution.run.recode", noted)
    build_texts(tmp_path, "store", "step", InOrder())
    assert codes_of(store_spec.open_store(tmp_path / "store")) == [[0], [1, 0], [0], [1]]
    # Four batches are sent at once. Only the second and the fourth begin with a class other than the first one.
    assert recoded == [(names[1],), (names[3],)]


@pytest.mark.slow
@pytest.mark.parametrize("axis", AXES)
def test_classes_are_committed_with_the_sequences_that_have_them(tmp_path, axis, monkeypatch):
    """After a build that is killed at its third commit, the next one completes the store to the same bytes."""
    sources = [["dog"] * 3, ["cat", "dog"], [], ["eel"] * 5, ["fox", "cat"], ["Ä 1", "dog"]]
    write_texts(tmp_path / "src", axis, sources)
    build_texts(tmp_path, "whole", axis)
    with monkeypatch.context() as patch:
        fail_at_commit(2, patch)
        with pytest.raises(ConnectionError):
            build_texts(tmp_path, "store", axis, InOrder())
    half = store_spec.open_store(tmp_path / "store")
    known, codes = expected(axis, sources)
    assert 0 < len(half) < len(codes)
    assert codes_of(half) == codes[: len(half)]
    names = half.class_names()
    assert names is not None
    assert len(names) < len(known)
    assert names == tuple(known[: len(names)])
    assert store_spec.verify(tmp_path / "store") == []
    build_texts(tmp_path, "store", axis)
    assert files(tmp_path / "store") == files(tmp_path / "whole")


def test_too_many_classes_of_batches_that_do_not_know_of_each_other_end_the_build(tmp_path, monkeypatch):
    monkeypatch.setattr("builder.labels.text_classes.MOST_CLASSES", 3)
    write_texts(tmp_path / "src", "step", [["dog"], ["cat"], ["dog", "eel"], ["fox"]])
    with pytest.raises(UsageError, match=r"labels y have more than 3 .* 'dog' to 'fox', .*\(what was committed stays"):
        build_texts(tmp_path, "store", "step", InOrder())
