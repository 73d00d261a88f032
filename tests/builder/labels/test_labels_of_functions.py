"""Process functions may also return labels that are text, and NaN that is kept."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builder
import store_spec
from builder import LongSequence, SourceError, UsageError, tabular
from builder.labels.text_classes import parse_classes
from builder.maintenance.checks import verify_sources
from builder.processes.text_labels import encode_labels
from store_spec import SequenceError
from tests.builder.command import seqzarr_build as run
from tests.builder.source_files import build_files, write_file, write_files
from tests.builder.text_sources import as_array, as_objects, inputs_alone, write
from tests.builder.text_sources import given as as_lists
from tests.store.oracle import files, store_of

NAMES = ("cat", "dog", "cow")
BUILD = ["--process", "tests.builder.text_sources:as_array"]


@given(st.lists(st.sampled_from([*NAMES, " dog", "cow\t"]), max_size=9), st.sampled_from(["list", "U", "O", "2-D"]))
def test_each_text_becomes_the_index_of_its_class(texts, kind):
    labels = {"list": texts, "U": np.array(texts, "U5"), "O": np.array(texts, object), "2-D": np.array([texts], "U5").T}
    expected = [NAMES.index(text.strip()) for text in texts]  # the simple way
    found = encode_labels(labels[kind], parse_classes(["cat,dog,cow"]), "s")
    assert (found.dtype.name, found.reshape(-1).tolist()) == ("int64", expected)
    assert found.shape == np.shape(labels[kind])


def test_each_target_has_its_classes_or_is_an_integer():
    labels = [["cat", 3, "no"], ["dog", 4.0, "yes"]]
    given = parse_classes(["0=cat,dog", "2=yes,no"])
    assert encode_labels(labels, given, "s").tolist() == [[0, 3, 1], [1, 4, 0]]
    assert encode_labels(np.array(labels[0], object), given, "s").tolist() == [0, 3, 1]
    assert encode_labels("dog", parse_classes(["cat,dog"]), "s").tolist() == 1


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ("eel", ["cat,dog"], "labels: 'eel' is none of the 2 classes"),
        (["cat", ""], ["cat,dog"], "row 1: '' is none of"),
        (["cat", "3"], ["cat,dog"], "row 1: '3' is a number, but --classes names 2 classes"),
        (["cat", None], ["cat,dog"], "row 1: None is not text"),
        (["cat", float("nan")], ["cat,dog"], "row 1: nan is not text"),
        (np.ma.array(["cat", "dog"], mask=[False, True]), ["cat,dog"], "row 1: None is not text"),
        ([["cat", 0.5]], ["0=cat,dog"], "row 0, target 1: 0.5 is not a whole number of 64 bits, as labels beside clas"),
        ([["cat", "x"]], ["0=cat,dog"], "row 0, target 1: 'x' is not a whole number"),
        ([["cat"], ["dog", "cat"]], ["cat,dog"], r"row 0: \['cat'\] is not text"),
    ],
)
def test_a_text_that_is_not_a_class_is_an_error_of_its_source(labels, classes, message):
    with pytest.raises(SourceError, match=message):
        encode_labels(labels, parse_classes(classes), "s")


def test_masked_labels_in_a_list_are_refused():
    with pytest.raises(SequenceError, match=r"s: labels are a list of masked arrays; give one masked array"):
        encode_labels([np.ma.array(["cat", "dog"], mask=[False, True])], parse_classes(["cat,dog"]), "s")


@pytest.mark.slow
@pytest.mark.parametrize(("process", "workers"), [(as_lists, 0), (as_array, 0), (as_objects, 0), (as_array, 2)])
def test_text_of_each_step_is_stored_as_codes_with_their_names_whatever_the_workers(tmp_path, workers, process):
    src = write(tmp_path / "src", a=([1, 2, 3], ["dog", "cat", "dog"]), b=([4, 5], ["cow", "cat"]))
    report = builder.build(src, tmp_path / "t", process=process, classes="cat,dog,cow", workers=workers)
    assert report.failures == ()
    store = store_spec.open_store(tmp_path / "t")
    assert (store.class_names(), store.schema.labels.dtype.name) == (NAMES, "int64")
    assert store[0][1].tolist() == [1, 0, 1]
    assert store[len(store) - 1][1].tolist() == [2, 0]
    assert store_spec.verify(tmp_path / "t") == []
    assert verify_sources(tmp_path / "t", src, workers=0) == []
    if process is not as_objects:  # it yields each twice
        rows, labels = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0])], [[1, 0, 1], [2, 0]]
        expected = store_of(tmp_path / "u", rows, labels, sources=("a.json", "b.json"), classes=[NAMES])
        assert store.contents == expected.contents


def test_labels_of_sequences_may_be_text_for_several_targets(tmp_path):
    src = write(tmp_path / "src", a=([1, 2, 3], "dog"), b=([4, 5], "cat"))
    builder.build(src, tmp_path / "t", process=as_lists, classes="cat,dog", workers=0)
    store = store_spec.open_store(tmp_path / "t")
    assert (store.schema.label_axis, store.schema.labels.shape) == ("sequence", ())
    assert [int(store[number][1]) for number in range(2)] == [1, 0]
    src = write(tmp_path / "two", a=([1, 2, 3], ["dog", 7]))
    builder.build(src, tmp_path / "u", process=as_lists, classes=["0=cat,dog"], label_axis="sequence", workers=0)
    store = store_spec.open_store(tmp_path / "u")
    assert (store.schema.labels.classes, store[0][1].tolist()) == ((("cat", "dog"), None), [1, 7])
    src = write(tmp_path / "both", a=([1, 2, 3], ["dog", "cat"]))
    with pytest.raises(UsageError, match="are for one target, but there are 2"):
        builder.build(src, tmp_path / "v", process=as_lists, classes="cat,dog", label_axis="sequence", workers=0)


def test_files_of_a_source_may_name_their_targets_in_any_order(tmp_path):
    def read(path):
        labels, targets = [["cat", 3]], ["kind", "age"]
        turn = -1 if path.stem == "a2" else 1
        return builder.Sequence(np.ones((1, 1)), np.array(labels, object)[:, ::turn], targets=targets[::turn])

    contents = {"a1.txt": "", "a2.txt": ""}
    store = build_files(tmp_path, contents, read, classes="0=dog,cat", sequence_from=r"(\w)\d").store
    assert store.schema.labels.names == ("kind", "age")
    assert [labels.tolist() for _, labels in store] == [[[1, 3], [1, 3]]]


def test_only_the_first_piece_needs_labels_that_are_text(tmp_path):
    src = write(tmp_path / "src", a=([1, 2, 3], "dog"), b=([4, 5], "cat"))

    def pieces(path):
        x, label = as_lists(path)
        return LongSequence((x[at : at + 1], None if at else label) for at in range(len(x)))

    def late(path):
        x, label = as_lists(path)
        return LongSequence([(x[:1], None), (x[1:], label)])

    def lacking(path):
        x, label = as_lists(path)
        return LongSequence([(x[:1], [label]), (x[1:], None)])

    options: dict[str, Any] = {"classes": "cat,dog", "label_axis": "sequence", "workers": 0}
    for name, process in (("t", pieces), ("whole", as_lists)):
        assert builder.build(src, tmp_path / name, process=process, **options, max_failures=99).failures == ()
    assert store_spec.open_store(tmp_path / "t").contents == store_spec.open_store(tmp_path / "whole").contents
    assert verify_sources(tmp_path / "t", src, process=pieces, workers=0) == []
    for process, axis, message in (
        (late, "sequence", "the process function returns None for labels"),
        (lacking, "step", "the process function returns None for labels.*; this is in the piece that begins at row 1"),
    ):
        reasons = build_files(tmp_path, {}, process, "u", **options | {"label_axis": axis}).reasons
        assert [bool(re.match(message, reason)) for reason in reasons] == [True, True], reasons


def test_classes_are_recorded_and_a_later_build_needs_none_and_refuses_others(tmp_path):
    src = write(tmp_path / "src", a=([1, 2], ["dog", "cat"]))
    assert run(src, tmp_path / "t", *BUILD, "--classes", "cat,dog").exit_code == 0
    write(src, b=([1], ["cat"]), c=([1], ["eel"]))
    result = run(src, tmp_path / "t")
    assert result.stderr.startswith("c.json: labels: row 0: 'eel' is none of the 2 classes (cat, dog) that --classes")
    assert store_spec.open_store(tmp_path / "t")[1][1].tolist() == [0]
    (src / "c.json").unlink()
    assert run(src, tmp_path / "t").exit_code == 0
    before = files(tmp_path / "t")
    for again in (["--classes", "cat, dog"], [*BUILD, "--classes", "cat,dog"], ["--missing", "error"]):
        assert run(src, tmp_path / "t", *again, status=0).stderr == ""
    for other, words in (
        (["--classes", "dog,cat"], "was built with classes cat,dog, but the option is now classes dog,cat"),
        (["--missing", "keep"], "was built with missing error, but the option is now missing keep"),
    ):
        for dry in ([], ["--dry-run"]):
            assert words in run(src, tmp_path / "t", *other, *dry, status=2).stderr
    assert files(tmp_path / "t") == before


def test_text_without_classes_is_refused_with_advice(tmp_path):
    src = write(tmp_path / "src", a=([1, 2], ["dog", "cat"]), b=([1], "dog"))
    for process in (as_lists, as_array, as_objects):
        first, second = build_files(tmp_path, {}, process).reasons
        assert first.startswith("labels are text, such as 'dog', but no classes are named; name all of them with")
        assert second.startswith("labels are text, such as 'dog'")
    write(src, a=([1, 2], [1, 2]))
    (reason,) = build_files(tmp_path, {}, as_lists).reasons
    assert reason.startswith("labels are text, such as 'dog'")


@pytest.mark.parametrize(("classes", "expected"), [(None, ("dog", "cat")), ("cat,dog", ("cat", "dog"))])
def test_labels_of_a_manifest_replace_those_of_the_function(tmp_path, classes, expected):
    write(tmp_path / "src", a=([1, 2], 0), b=([1], 0))
    manifest = write_file(tmp_path / "m.csv", "source,kind\na,dog\nb,cat\n")
    store = build_files(tmp_path, {}, inputs_alone, classes=classes, manifest=manifest, label_column="kind").store
    assert store.class_names() == expected
    assert [expected[label.item()] for _, label in store] == ["dog", "cat"]


def test_nan_of_a_process_function_is_kept_on_request_and_otherwise_refused(tmp_path):
    nan = float("nan")
    src = write(tmp_path / "src", a=([1, nan, 3], [1, 2, 3]), b=([1, 2], [1, 2]))
    process = ["--process", "tests.builder.text_sources:given"]
    result = run(src, tmp_path / "t", *process)
    assert "a.json: inputs: row 1 is nan, where this store has finite numbers" in result.stderr
    assert 'make a store of missing="keep" (--missing keep)' in result.stderr
    assert run(src, tmp_path / "u", *process, "--missing", "keep", "--dry-run").exit_code == 0
    assert run(src, tmp_path / "u", *process, "--missing", "keep", status=0).stderr == ""
    store = store_spec.open_store(tmp_path / "u")
    assert store.schema.missing == "keep"
    assert np.array_equal(store[0][0], [1, nan, 3], equal_nan=True)
    assert store.stats().inputs.count.tolist() == [4]
    write(src, c=([nan], [1]))
    for options in ([], ["--missing", "keep"]):
        assert run(src, tmp_path / "u", *options, status=0).stderr == ""
    assert len(store_spec.open_store(tmp_path / "u")) == 3
    result = run(src, tmp_path / "u", "--missing", "error")
    assert "was built with missing keep, but the option is now missing error" in result.stderr


@pytest.mark.parametrize(("option", "value"), [("missing", "keep"), ("classes", "cat"), ("label_pattern", r"a(\d)")])
def test_in_python_options_of_tables_belong_to_tabular(tmp_path, option, value):
    source = write_files(tmp_path, {"a1.csv": "x\n1\n"}) / "a1.csv"
    builder.build(source, tmp_path / "old", process=tabular(label_pattern=r"a(\d)"), workers=0)
    message = rf"{option} is for a process function; for tables, give {option} to tabular\(\.\.\.\)"
    for store, process in (("new", None), ("new", tabular()), ("old", None)):
        with pytest.raises(UsageError, match=message):
            builder.build(source, tmp_path / store, process=process, **{option: value})
