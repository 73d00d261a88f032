"""Names of classes: stored, returned, validated, extended and never renumbered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import SchemaError, SequenceError, WindowError
from store_spec.format.names import check_extended
from store_spec.schema import Rows
from tests.store.damage import attribute
from tests.store.oracle import files

PETS = [["cat", "dog"]]


def create(path: Path, classes: Any = PETS, labels: Any = ("int8", ()), label_axis: Any = "step") -> store_spec.Writer:
    return store_spec.create_store(path, inputs=("float32", ()), labels=labels, label_axis=label_axis, classes=classes)


def rows(*labels: int) -> tuple[Any, Any]:
    return np.zeros(len(labels), np.float32), np.array(labels, np.int8)


def test_names_are_returned(tmp_path):
    with create(
        tmp_path / "store", [["cat", "dog"], None, ("x",)], Rows(np.dtype("u1"), (3,), ("a", "b", "c"))
    ) as writer:
        writer.append(np.zeros(2, np.float32), np.array([[1, 200, 0], [0, 5, 0]], np.uint8), source="s")
    store = store_spec.open_store(tmp_path / "store")
    assert store.schema.labels.classes == (("cat", "dog"), None, ("x",))
    assert store.class_names() == store.class_names("a") == ("cat", "dog")
    assert store.class_names("c") == ("x",)
    assert store.class_names(-1) == ("x",)
    with pytest.raises(SchemaError, match="target 1 has no classes"):
        store.class_names(1)
    for target in ("d", 3, -4):
        with pytest.raises(WindowError, match=rf"target: {target!r}, but there are 3 \(0 to 2\), named a, b, c"):
            store.class_names(target)
    assert store_spec.verify(tmp_path / "store") == []


def test_a_store_without_classes_says_so(tmp_path):
    with create(tmp_path / "store", None) as writer:
        writer.append(*rows(7, -3), source="s")
    store = store_spec.open_store(tmp_path / "store")
    assert store.schema.labels.classes is None
    with pytest.raises(SchemaError, match="target 0 has no classes"):
        store.class_names()
    assert create(tmp_path / "none", [None]).schema.labels.classes is None


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (["cat", "dog"], ("int8", (2,)), "classes='cat' is one text; give a list"),
        ("cat", ("int8", ()), "classes='c' is one text"),
        ([["a"], ["b"]], ("int8", ()), "classes of 2 targets, where labels have 1"),
        ([["a", 3]], ("int8", ()), "classes: 3 is not text"),
        ([["\ud800"]], ("int8", ()), "not valid Unicode"),
        ([["x" * 4097]], ("int8", ()), "has 4,097 bytes; at most 4,096"),
        ([["a"]], ("float32", ()), "classes of labels that are float32"),
        ([["a"]], ("bool", ()), "classes of labels that are bool"),
        ([[str(number) for number in range(129)]], ("int8", ()), "129 classes, where int8 has 128 numbers"),
    ],
)
def test_impossible_classes_are_refused_before_anything_is_made(tmp_path, classes, labels, message):
    with pytest.raises(SchemaError, match=message):
        create(tmp_path / "store", classes, labels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("label_axis", "given"), [("step", [0, 1, 2, 1]), ("own", [2]), ("sequence", 2)])
def test_a_label_that_is_not_a_code_is_refused_and_the_writer_continues(tmp_path, label_axis, given):
    with create(tmp_path / "store", label_axis=label_axis) as writer:
        for wrong, shown in ((np.array(given, np.int8), 2), (np.full_like(np.array(given, np.int8), -1), -1)):
            with pytest.raises(SequenceError, match=rf"s: labels: row \d, target 0 is {shown}, where this store has 2"):
                writer.append(np.zeros(4, np.float32), wrong, source="s")
        writer.append(np.zeros(4, np.float32), np.zeros_like(np.array(given, np.int8)), source="s")
    assert len(store_spec.open_store(tmp_path / "store")) == 1


def test_the_row_of_a_wrong_code_is_named(tmp_path):
    with create(tmp_path / "store", [None, ["a"]], ("int8", (3, 2))) as writer:
        labels = np.zeros((5, 3, 2), np.int8)
        labels[3, 1, 1] = 4
        with pytest.raises(SequenceError, match="labels: row 3, target 1 is 4"):
            writer.append(np.zeros(5, np.float32), labels, source="s")


def test_later_commits_add_classes_also_without_sequences_and_snapshots_keep_theirs(tmp_path):
    path, more = tmp_path / "store", [["cat", "dog", "fox"]]
    with create(path) as writer:
        writer.append(*rows(0, 1), source="a")
    old, before = store_spec.open_store(path), files(path)
    writer = store_spec.open_store(path, "a")
    writer.extend_classes(more)
    writer.close()  # without a commit
    assert files(path) == before
    with store_spec.open_store(path, "a") as writer:
        with pytest.raises(SequenceError, match="target 0 is 2"):
            writer.append(*rows(2), source="b")
        writer.extend_classes(more)
        assert writer.schema.labels.classes == (("cat", "dog", "fox"),)
        writer.commit()
        assert {name for name, data in files(path).items() if before[name] != data} == {"zarr.json"}
        writer.append(*rows(2), source="b")
    assert old.class_names() == ("cat", "dog")
    assert store_spec.open_store(path).class_names() == ("cat", "dog", "fox")
    assert store_spec.verify(path) == []


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([["dog", "cat"]], "target 0: class 0 is 'cat', and would be 'dog'"),
        ([["cat"]], "target 0: class 1 is 'dog', and would be nothing"),
        ([["cat", "dog", "cat"]], "given twice"),
        ([None], "from the first commit on, or never"),
        ([["cat", "dog"], ["x"]], "classes of 2 targets"),
    ],
)
def test_no_class_is_renumbered_or_removed(tmp_path, classes, message):
    with create(tmp_path / "store") as writer:
        with pytest.raises(SchemaError, match=message):
            writer.extend_classes(classes)
        writer.append(*rows(0, 1), source="a")
    assert store_spec.open_store(tmp_path / "store").class_names() == ("cat", "dog")


def test_classes_begin_with_the_store():
    check_extended(None, None)
    check_extended((None, ("a",)), (None, ("a", "b")))
    for old, new in ((None, (("a",),)), ((None, ("a",)), (("b",), ("a",)))):
        with pytest.raises(SchemaError, match="from the first commit on, or never"):
            check_extended(old, new)


def test_a_list_may_be_empty_until_a_class_is_seen(tmp_path):
    with create(tmp_path / "store", [[]]) as writer:
        with pytest.raises(SequenceError, match="target 0 is 0, where this store has 0 classes"):
            writer.append(*rows(0), source="a")
        writer.extend_classes([["first"]])
        writer.append(*rows(0), source="a")
    assert store_spec.open_store(tmp_path / "store").class_names() == ("first",)


@pytest.mark.parametrize("label_axis", ["step", "sequence", "own"])
def test_codes_out_of_range_are_found_by_verify(tmp_path, label_axis):
    path = tmp_path / "store"
    with create(path, label_axis=label_axis) as writer:
        for number in range(3):
            codes: dict[str, Any] = {"step": [0, number // 2, 0], "own": [number // 2], "sequence": number // 2}
            writer.append(np.zeros(3, np.float32), np.array(codes[label_axis], np.int8), source=f"{number}")
    attribute("labels classes", [["cat"]])(path)
    (problem,) = store_spec.verify(path)
    assert problem.what == "target 0 has the code 1, where there are 1 classes; concerns sequence 2 (2)"
