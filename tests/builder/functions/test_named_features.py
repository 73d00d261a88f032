"""Process functions name features and targets with Sequence, or with data frames that have column names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from builder import BuildError, LongSequence, Sequence
from builder.maintenance.checks import verify_sources
from store_spec import Store
from tests.builder.source_files import build_files, write_file

NAMES = ["x", "y", "z"]


class Polars:
    """The part of a polars.DataFrame that is used: its column names, and the Arrow PyCapsule interface."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.columns = table.column_names

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


FRAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas with an index": lambda columns: pd.DataFrame(columns, pd.date_range("2024-01-01", periods=4, name="t")),
    "pyarrow": pa.table,
    "pyarrow batch": pa.record_batch,
    "polars": lambda columns: Polars(pa.table(columns)),
}


def build(tmp_path: Path, process: Any, names: str = "ab", *, manifest: Any = None, **options: Any) -> Store:
    """Build sources with a number each, and return the store."""
    contents = {f"{name}": str(number) for number, name in enumerate(names)}
    built = build_files(tmp_path, contents, process, manifest=manifest, **options)
    if built.report.failures:
        raise BuildError(str(built.report.failures[0]))
    assert verify_sources(built.path, tmp_path / "src", process=process, workers=0, manifest=manifest) == []
    return built.store


def columns_of(path: Path) -> dict[str, Any]:
    """Return columns of a source, in another order for each; the second has integers."""
    rng = np.random.default_rng(int(path.read_text()))
    columns = {"x": rng.random(4), "y": rng.integers(0, 9, 4), "z": rng.random(4)}
    order = rng.permutation(NAMES).tolist() if path.name != "a" else NAMES
    return {name: columns[name] for name in order}


def expected(store: Store, tmp_path: Path, names: list[str]) -> None:
    """Return each column, found in a loop by its name, in the order of the first source."""
    for number, source in enumerate(store.sources):
        columns = columns_of(tmp_path / "src" / source)
        x, _ = store[number]
        for place, name in enumerate(names):
            assert x[:, place].tolist() == columns[name].tolist()


@pytest.mark.parametrize("kind", FRAMES)
def test_the_columns_of_a_data_frame_are_the_features_in_any_order(tmp_path, kind):
    def read(path: Path) -> Any:
        frame = FRAMES[kind](columns_of(path))
        return frame, frame

    store = build(tmp_path, read, "abcdef")
    assert store.schema.inputs.names == store.schema.labels.names == tuple(NAMES)
    assert store.schema.inputs.dtype == np.float64
    expected(store, tmp_path, NAMES)
    assert all(np.array_equal(x, y) for x, y in store)


@pytest.mark.parametrize(
    "of_rows",
    [
        lambda rows, names: Sequence(np.ma.masked_greater(rows, 0.5), rows, features=names, targets=names),
        lambda rows, names: Sequence(rows, rows, features=names, filled=rows > 0.5),
        lambda rows, names: Sequence(rows, rows, features=iter(names), filled=rows > 0.5),
        lambda rows, names: LongSequence([Sequence(rows, rows, features=iter(names), filled=rows > 0.5)]),
    ],
)
def test_masks_and_labels_that_are_the_inputs_follow_the_order_of_features(tmp_path, of_rows):
    def read(path: Path) -> Any:
        columns = columns_of(path)
        return of_rows(np.stack(list(columns.values()), axis=1) / 9, list(columns))

    store = build(tmp_path, read, "abcdef", missing="keep")
    for number, source in enumerate(store.sources):
        columns = columns_of(tmp_path / "src" / source)
        rows = np.stack([columns[name] for name in NAMES], axis=1) / 9
        x, y = store[number]
        assert np.array_equal(y, rows)
        if store.schema.filled:
            start, stop = store.snapshot.bounds("filled")[number : number + 2]
            assert np.array_equal(x, rows)
            assert np.array_equal(store.snapshot.rows("filled", int(start), int(stop)), rows > 0.5)
        else:
            assert np.array_equal(x, np.where(rows > 0.5, np.nan, rows), equal_nan=True)


def test_units_come_from_the_fields_of_pyarrow_or_by_name(tmp_path):
    fields = {"x": {"units": " mV ", "long_name": "the voltage"}, "y": {"unit": "s"}, "z": {}}
    schema = pa.schema([pa.field(name, pa.float64(), metadata=metadata) for name, metadata in fields.items()])

    def frame(path: Path) -> Any:
        return pa.table(columns_of(path)).select(list(fields)).cast(schema)

    store = build(
        tmp_path, lambda path: Sequence(frame(path), frame(path).select(["y", "z"]), units={"z": "A"}), "abcdef"
    )
    assert (store.schema.inputs.units, store.schema.labels.units) == (("mV", "s", "A"), ("s", "A"))
    assert (store.schema.inputs.descriptions, store.schema.labels.descriptions) == (("the voltage", "", ""), None)
    rows = np.ones((2, 1))
    notes: dict[str, Any] = {"units": {"x": "mV"}, "descriptions": {"k": "the kind"}}
    named = build(tmp_path / "named", lambda _: Sequence(rows, rows, features=["x"], targets=["k"], **notes), "a")
    assert (named.schema.inputs.units, named.schema.labels.units) == (("mV",), None)
    assert (named.schema.inputs.descriptions, named.schema.labels.descriptions) == (None, ("the kind",))


def test_labels_that_come_with_the_first_piece_follow_the_order_of_targets(tmp_path):
    def read(path: Path) -> LongSequence:
        targets = ["k", "l"] if path.name == "a" else ["l", "k"]
        pieces = [Sequence(np.ones((2, 1)), labels, targets=targets) for labels in (np.array([5, 9]), None)]
        return LongSequence(pieces)

    assert [y.tolist() for _, y in build(tmp_path, read, "ab", label_axis="sequence")] == [[5, 9], [9, 5]]


def test_labels_from_elsewhere_with_pieces_and_columns(tmp_path):
    labelled = build(tmp_path, lambda path: pd.DataFrame(columns_of(path)), label_pattern="(?P<kind>[ab])")
    assert (labelled.schema.inputs.names, labelled.schema.labels.names) == (tuple(NAMES), ("kind",))
    expected(labelled, tmp_path, NAMES)
    manifest = write_file(tmp_path / "labels.csv", "source,x,y\na,1,2\nb,3,4\n")

    def frames(path: Path) -> Any:
        frame = pd.DataFrame(columns_of(path))
        return frame, frame[["x", "y"] if path.name == "a" else ["y", "x"]]  # the manifest has other labels

    listed = build(tmp_path / "listed", frames, manifest=manifest, label_column="x,y")
    assert [y.tolist() for _, y in listed] == [[1, 2], [3, 4]]

    def read(path: Path) -> LongSequence:
        frame = pd.DataFrame(columns_of(path))
        return LongSequence(Sequence(frame[at : at + 3], frame[["z"]][at : at + 3], columns={"n": 1}) for at in (0, 3))

    store = build(tmp_path / "long", read)
    assert store.schema.labels.names == ("z",)
    assert store.lengths.tolist() == [4, 4]
    expected(store, tmp_path / "long", NAMES)


def test_missing_values_are_nan_and_labels_may_be_text(tmp_path):
    inputs = pd.DataFrame({"x": pd.array([1, None], "Int64"), "y": [True, False]})
    labels = pd.DataFrame({"kind": ["cat", "dog"], "count": [1, 2]})
    store = build(tmp_path, lambda _: (inputs, labels), "a", missing="keep", classes="0=cat,dog")
    x, y = store[0]
    assert np.array_equal(x, np.array([[1, 1], [np.nan, 0]]), equal_nan=True)
    assert y.tolist() == [[0, 1], [1, 2]]
    assert store.schema.labels.names == ("kind", "count")


def test_classes_belong_to_targets_in_the_order_of_the_store(tmp_path):
    def read(path: Path) -> list[Sequence]:
        texts, rows = pd.DataFrame({"p": ["n", "n"], "q": ["yes", "no"]}), np.ones((2, 1))
        swapped = Sequence(rows, texts[["q", "p"]])
        return [Sequence(rows, texts), swapped] if path.name == "a" else [swapped]

    store = build(tmp_path, read, classes=["0=y,n", "1=no,yes"])
    assert [y.tolist() for _, y in store] == [[[1, 1], [1, 0]]] * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda rows: Sequence(rows, rows, features=["x", "y"]), "2 names of features, but 3 features"),
        (lambda rows: Sequence(rows, rows, units={"x": "s"}), "a unit of 'x', which names no feature and no target"),
        (lambda rows: Sequence(rows, rows, descriptions={"x": "it"}), "a description of 'x', which names no feature"),
        (lambda rows: Sequence(rows, rows, features=["x", "y", "x"]), "the name 'x' is given twice"),
        (lambda rows: Sequence(rows, rows, targets=np.array(["x", "y", 3], object)), "3 is not text"),
        (lambda rows: (pd.DataFrame({"t": [np.datetime64("2024-01-01")]}), rows), "t of its inputs holds time stamps"),
        (lambda rows: (pd.DataFrame({"x": [1], "t": ["a"]}), rows), "column t of its inputs holds text, not numbers; "),
        (lambda rows: (pd.DataFrame({"t": pd.Categorical(["a"])}), rows), "column t of its inputs holds text, not "),
        (lambda rows: (pd.DataFrame({"n": pd.array([2**53 + 1, None], "Int64")}), rows), "column n of its inputs: 9"),
        (lambda rows: (pd.Series([2**53 + 1, None], dtype="Int64"), rows), "a: row 1, column 0 of its inputs: 9"),
        (lambda rows: (rows, pa.chunked_array([[1], [None, 2**53 + 1]])), "a: row 3, column 0 of its labels: 9"),
        (lambda rows: (rows, pa.array([2**53 + 1, None])), "a: row 1, column 0 of its labels: 9"),
        (lambda rows: (rows, pd.array([2**53 + 1, None], "Int64")), "a: row 1, column 0 of its labels: 9"),
        (lambda rows: (pd.DataFrame({0: [2**53 + 1], 1: [0.5]}), rows), "row 1, column 0 of its inputs: 9"),
        (lambda rows: (pd.DataFrame({}), rows[0, 0]), "each size must be at least 1"),
    ],
)
def test_impossible_names_of_features_are_refused(tmp_path, given, message):
    with pytest.raises(BuildError, match=message):
        build(tmp_path, lambda _: given(np.ones((1, 3))), "a")


def test_other_names_are_refused_and_not_matched_by_position(tmp_path):
    def read(path: Path) -> Any:
        rows, names = np.full((2, 2), int(path.read_text())), {"a": ["x", "y"], "b": None, "c": ["x", "z"]}
        return Sequence(rows, rows, features=names[path.name])

    store = build(tmp_path, read, "ab")
    assert (store.schema.inputs.names, len(store)) == (("x", "y"), 2)
    with pytest.raises(BuildError, match="c: has the features x, z, but this store has x, y"):
        build(tmp_path, read, "abc")


def test_default_column_numbers_of_pandas_are_not_names(tmp_path):
    store = build(tmp_path, lambda _: pd.DataFrame(np.ones((3, 2))), "a", label_pattern="(?P<kind>[ab])")
    assert (store.schema.inputs.names, len(store)) == (None, 1)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ([2019, 2020], ("2019", "2020")),
        ([("mm", "rain"), ("mm", "flow")], ("mm/rain", "mm/flow")),
        (["a", 7], ("a", "7")),
    ],
)
def test_names_that_are_not_text_become_text(tmp_path, columns, names):
    def read(path: Path) -> Any:
        frame = pd.DataFrame({columns[0]: [1.0, 2.0], columns[1]: [3.0, 4.0]})
        return frame[columns[:: 1 if path.stem == "a" else -1]], 0

    store = build(tmp_path, read)
    assert (store.schema.inputs.names, store[0][0].tolist()) == (names, [[1.0, 3.0], [2.0, 4.0]])
    assert np.array_equal(store[0][0], store[1][0])
