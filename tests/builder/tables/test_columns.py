"""Columns of a file as inputs and labels: bit for bit those of a loop over the rows, or an error with the reason."""

import itertools
import pickle
import shlex
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from builder import LongSequence, Sequence, SourceError, UsageError, tabular
from builder.build_errors import EmptySourceError
from builder.formats.column_choice import as_option, parse_columns, select
from builder.sequence import sequences_of
from store_spec import open_store
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, refusal, write_file, write_files


def as_lists(pair):
    inputs, labels = pair
    return inputs.tolist(), None if labels is None else labels.tolist()


@given(data=st.data())
def test_chosen_columns_equal_a_loop_over_the_rows(tmp_path, data):
    """In any order of the columns in the file, in any format."""
    names = data.draw(st.permutations(["a", "b", "c", "d", "e"]))
    floats = st.floats(allow_nan=False, allow_infinity=False)
    rows = data.draw(st.lists(st.lists(floats, min_size=5, max_size=5), min_size=1, max_size=5))
    inputs = data.draw(st.lists(st.sampled_from("abcde"), unique=True, min_size=1))
    labels = data.draw(st.lists(st.sampled_from("abcde"), unique=True, min_size=1))
    content: Any = {name: np.array([row[place] for row in rows]) for place, name in enumerate(names)}
    suffix = data.draw(st.sampled_from([".csv", ".parquet"]))
    if suffix == ".csv":
        content = "\n".join([",".join(names), *(",".join(map(repr, row)) for row in rows)])
    path = write_file(tmp_path / f"x{suffix}", content)
    found_inputs, found_labels = tabular(inputs=inputs, labels=",".join(labels))(path)
    for found, wanted in ((found_inputs, inputs), (found_labels, labels)):
        expected = np.array([[row[names.index(name)] for name in wanted] for row in rows]).reshape(-1, len(wanted))
        assert (found.shape, found.dtype, found.tobytes()) == (expected.shape, np.float64, expected.tobytes())
        assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("options", "inputs", "labels"),
    [
        ({}, "t a b c", "t a b c"),
        ({"labels": "b"}, "t a c", "b"),
        ({"exclude": "t"}, "a b c", "a b c"),
        ({"exclude": "t,a:b", "labels": "c"}, None, None),
        ({"inputs": "b:c,a"}, "b c a", "b c a"),
        ({"inputs": "t:c", "exclude": "a:b"}, "t c", "t c"),
        ({"inputs": ["a"], "labels": ["a", "b"]}, "a", "a b"),
        ({"labels": "a:c", "exclude": "b"}, "t", "a c"),
    ],
)
def test_default_inputs_and_labels(tmp_path, options, inputs, labels):
    path = write_file(tmp_path / "x.csv", "t,a,b,c\n0,1,2,3\n")
    process = tabular(**options)
    if inputs is None:
        with pytest.raises(SourceError, match="no column is left for the inputs, after labels and exclude"):
            process(path)
        return
    value = {"t": 0.0, "a": 1.0, "b": 2.0, "c": 3.0}
    assert tuple(one.names for one in process.columns(path)) == (tuple(inputs.split()), tuple(labels.split()))
    assert as_lists(process(path)) == ([[value[n] for n in inputs.split()]], [[value[n] for n in labels.split()]])


def test_numbers_choose_columns_that_have_no_names(tmp_path):
    array = np.arange(21.0).reshape(3, 7)
    np.save(tmp_path / "x.npy", array)
    np.savetxt(tmp_path / "x.txt", array)
    np.savetxt(tmp_path / "x.csv", array, delimiter=",")
    for suffix in ("npy", "txt", "csv"):
        process = tabular(inputs="0:4", labels="6", header=False)
        inputs, labels = process(tmp_path / f"x.{suffix}")
        assert (inputs.tolist(), labels.tolist()) == (array[:, :5].tolist(), array[:, 6:].tolist())
        assert tuple(one.names for one in process.columns(tmp_path / f"x.{suffix}")) == (None, None)


def test_list_columns_count_as_their_elements(tmp_path):
    table = {"y": [1, 2], "emb": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "z": [7.0, 8.0]}
    path = write_file(tmp_path / "x.parquet", table)
    choices: list[tuple[str | tuple[()], str | tuple[()], tuple[str, ...]]] = [
        ((), (), ("emb[0]", "emb[1]", "emb[2]", "z")),
        ("emb", (), ("emb[0]", "emb[1]", "emb[2]")),
        ("emb[1]:z", (), ("emb[1]", "emb[2]", "z")),
        ((), "emb", ("z",)),
    ]
    for inputs, exclude, names in choices:
        process = tabular(inputs=inputs, exclude=exclude, labels="y")
        features, labels = process(path)
        flat = {"emb[0]": [1, 4], "emb[1]": [2, 5], "emb[2]": [3, 6], "z": [7, 8]}
        assert tuple(one.names for one in process.columns(path)) == (names, ("y",))
        assert features.T.tolist() == [flat[name] for name in names]
        assert (labels.dtype, labels.tolist()) == (np.int64, [[1], [2]])


def test_a_list_column_without_rows_has_no_features(tmp_path):
    table = {"emb": pa.array([], pa.list_(pa.float32())), "z": pa.array([], pa.int8())}
    path = write_file(tmp_path / "x.pq", table)
    assert "the list column emb has no elements in the first row" in refusal(path)
    with pytest.raises(EmptySourceError, match="has no rows"):
        tabular(exclude="emb")(path)


def test_names_with_colons_and_commas_can_be_chosen():
    groups = {name: (name,) for name in ("a:b", "b", "a", "x,y", "p:q", "r")}
    assert select(["a:b", "x,y"], groups) == ("a:b", "x,y")
    assert select(["a:b:a"], groups) == ("a:b", "b", "a")
    assert select(["b:p:q"], groups) == ("b", "a", "x,y", "p:q")
    assert parse_columns(["x,y"], "inputs") == ("x,y",)
    assert parse_columns('"x,y" ,a:"p:q", "say ""a, b""",5"', "on") == ("x,y", "a:p:q", 'say "a, b"', '5"')
    assert parse_columns('"a,b"="c,d",e = "f"', "on") == ("a,b=c,d", "e =f")


@given(
    st.lists(st.text(alphabet="ab ,\":='", min_size=1, max_size=6).map(str.strip), min_size=1, max_size=4, unique=True)
)
def test_names_survive_options_and_the_shell(names):
    assume(all(names))
    (argument,) = shlex.split(as_option(*names))
    assert parse_columns(argument, "inputs") == tuple(names)


def test_advice_can_be_pasted_and_a_later_build_needs_no_options(tmp_path):
    """For columns whose names have commas and blanks."""
    write_files(tmp_path / "src", {"a.csv": '"SpO2, %",my note,"a, b"\n1,x,4\n,y,5\n3,z,6\n'})
    command = ["build", str(tmp_path / "src"), str(tmp_path / "t.zarr"), "--workers", "0"]
    done = seqzarr(*command, "--missing", '"SpO2, %"=drop', "--scale", '"a, b"=2')
    assert "leave it out with --exclude 'my note', or" in done.stderr
    done = seqzarr(*command, "--inputs", "SpO2")
    assert """there are 3: "SpO2, %", my note, "a, b\"""" in done.stderr
    options = ["--missing", '"SpO2, %"=drop', "--scale", '"a, b"=2', "--inputs", '"SpO2, %","a, b"']
    assert seqzarr(*command, *options).exit_code == 0
    write_file(tmp_path / "src" / "b.csv", '"SpO2, %",my note,"a, b"\n7,x,8\n')
    assert seqzarr(*command).exit_code == 0
    store = open_store(tmp_path / "t.zarr")
    assert [rows.tolist() for rows, _ in store] == [[[1, 8], [3, 12]], [[7, 16]]]
    write_file(tmp_path / "src" / "c.csv", '"SpO2, %",my note,"a, b"\n7,x,no\n')
    assert """--exclude '"a, b"'""" in seqzarr(*command).stderr


def test_labels_from_the_name_are_one_row_for_the_sequence(tmp_path):
    path = write_file(tmp_path / "run9" / "run7" / "s12_h-0.5_r3.csv", "a\n1\n2\n")
    for pattern, dtype, expected, names in [
        (r"s(\d+)", None, np.array([12]), None),
        (r"s(?P<subject>\d+)_h(?P<height>[-.\d]+)", None, np.array([12, -0.5]), ("subject", "height")),
        (r"s(\d+)_.*_r(?P<run>\d+)", "float32", np.array([12, 3], np.float32), None),
        (r"_r(\d)", "int8", np.array([3], np.int8), None),
        (r"run(\d)", None, np.array([7]), None),  # only the name below the root counts
    ]:
        process = tabular(label_pattern=pattern, dtype=dtype).under(tmp_path / "run9")
        inputs, labels = process(path)
        assert inputs.tolist() == [[1], [2]]
        assert (labels.dtype, labels.tolist()) == (expected.dtype, expected.tolist())
        assert tuple(one.names for one in process.columns(path)) == (("a",), names)


def test_names_of_folders_above_the_sources_are_no_labels(tmp_path):
    path = write_file(tmp_path / "run2024/spk3.csv", "a\n1\n2\n")
    process = tabular(inputs="a", label_pattern=r"(\d+)")
    assert process.under(path.parent)(path)[1].tolist() == [3]
    assert [one.labels.tolist() for one in process.sequences(path)] == [[3]]  # in a function of the user


@pytest.mark.parametrize(("inputs", "order"), [("a:c", [0, 1, 2]), ("c,a,b", [2, 0, 1]), ("b", [1])])
def test_columns_of_arrays_are_no_names_of_features(tmp_path, inputs, order):
    """Features are positions on the last axis."""
    array = np.arange(18.0).reshape(2, 3, 3)
    process = tabular(column_names="a,b,c", inputs=inputs)
    store = build_files(tmp_path, {"x.npy": array}, process).store
    assert (store.schema.inputs.names, store.schema.labels.names) == (None, None)
    assert np.array_equal(store[0][0], array[:, order])
    labelled = build_files(tmp_path / "labelled", {"x.npy": array}, tabular(column_names="a,b,c", labels="c")).store
    assert np.array_equal(labelled[0][1], array[:, [2]])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 12345678901234567890])
def test_numbers_in_names_beyond_int64_are_explained(tmp_path, number):
    path = write_file(tmp_path / f"x{number}_1.csv", "a\n1\n")
    with pytest.raises(SourceError, match=rf"finds {number} in its name, which is beyond int64; .* with --classes"):
        tabular(label_pattern=r"x(-?\d+)_(\d)").under(tmp_path)(path)
    asked = tabular(label_pattern=r"x(-?\d+)", classes=str(number))  # as the message advises
    assert build_files(tmp_path, {path.name: "a\n1\n"}, asked).report.added == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x9007199254740993_0.5.csv", "finds 9007199254740993 .* float64 would round it"),
        ("x1_1_5.csv", "'1_5'. in its"),
    ],
)
def test_numbers_in_names_are_exact_or_refused(tmp_path, name, message):
    path = write_file(tmp_path / name, "a\n1\n")
    with pytest.raises(SourceError, match=message):
        tabular(label_pattern=r"x(\d+)_(.+)\.csv").under(tmp_path)(path)
    process = tabular(label_pattern=r"x(\d+)_(.+)\.csv").under(tmp_path)
    assert process(write_file(tmp_path / f"x{2**53}_1e-1.csv", "a\n1\n"))[1].tolist() == [2**53, 0.1]


def test_labels_are_the_inputs_or_come_from_the_manifest(tmp_path):
    path = write_file(tmp_path / "x.csv", "a,b\n1,2\n")
    process = tabular(labels_in_manifest=True)
    assert as_lists(process(path)) == ([[1.0, 2.0]], None)
    assert tuple(one.names for one in process.columns(path)) == (("a", "b"), None)
    inputs, labels = tabular()(path)
    assert labels is inputs
    (part,) = tabular(missing="drop")(path)
    assert part.labels is part.inputs


def test_binary_formats_keep_their_dtype_promoted_over_the_columns(tmp_path):
    columns: dict[str, np.ndarray] = {
        "a": np.array([1, 2], np.int8),
        "b": np.array([0.5, 1], np.float32),
        "c": np.array([True, False]),
    }
    path = write_file(tmp_path / "x.parquet", columns)
    for names in itertools.chain.from_iterable(itertools.combinations(columns, n) for n in (1, 2, 3)):
        inputs, labels = tabular(inputs=",".join(names), labels="c")(path)
        expected = np.stack([columns[n] for n in names], axis=1)
        assert (inputs.dtype, inputs.tolist()) == (expected.dtype, expected.tolist())
        assert labels.dtype == np.bool_


CONVERSIONS = [
    ("float64", "float32", [0.1, -1e30, 1e-50], None),
    ("float64", "float32", [1.0, 1e39], "row 2, column 0: 1e[+]39 does not fit into float32 .1 in all.; choose anothe"),
    ("float64", "float16", [1.0, 70000.0], "70000.0 does not fit into float16"),
    ("float64", "int8", [-128.0, 127.0, -0.0], None),
    ("float64", "int8", [1.0, 128.0, 500.0], "row 2, column 0: 128.0 does not fit into int8 .2 in all."),
    ("float64", "int64", [2.0**62, -(2.0**63)], None),
    ("float64", "int64", [2.0**63], "does not fit into int64"),
    ("float64", "uint64", [2.0**63, -1.0], "row 2, column 0: -1.0 does not fit into uint64"),
    ("float64", "uint64", [2.0**64], "does not fit into uint64"),
    ("float16", "int32", [-65504.0, 7.0], None),
    ("float16", "uint64", [7.0, -1.0], "row 2, column 0: -1.0 does not fit into uint64"),
    ("float64", "int32", [1.0, 1.5], "row 2, column 0: 1.5 does not fit into int32"),
    ("float64", "bool", [0.0, 1.0], None),
    ("float64", "bool", [0.0, 2.0], "row 2, column 0: 2.0 does not fit into bool"),
    ("int64", "uint8", [0, 255], None),
    ("int64", "uint8", [255, 256], "row 2, column 0: 256 does not fit into uint8"),
    ("int64", "uint64", [-1], "-1 does not fit into uint64"),
    ("uint64", "int64", [2**63], "9223372036854775808 does not fit into int64"),
    ("int64", "float32", [2**24 + 1], None),
    ("int64", "float64", [2**53 + 1], None),
    ("int64", "float16", [70000], "70000 does not fit into float16"),
    ("bool", "float32", [True, False], None),
    ("bool", "int8", [True, False], None),
    ("int8", "bool", [0, 1], None),
]


@pytest.mark.parametrize(("held", "asked", "values", "message"), CONVERSIONS)
def test_a_requested_dtype_changes_values_only_by_rounding(tmp_path, held, asked, values, message):
    array = np.array(values, held)
    write_files(tmp_path, {"x.npy": array, "x.parquet": {"0": array, "1": array}})
    process = tabular(inputs="0", dtype=asked).under(tmp_path)
    for name in ("x.npy", "x.parquet"):
        if message is None:
            inputs, labels = process(tmp_path / name)
            assert (inputs.dtype, inputs[:, 0].tolist()) == (np.dtype(asked), array.astype(asked).tolist())
            assert labels.dtype == inputs.dtype
        else:
            with pytest.raises(SourceError, match=f"{name}: .*{message}"):
                process(tmp_path / name)


def test_large_integers_in_text_need_a_dtype(tmp_path):
    path = write_file(tmp_path / "x.csv", f"id,v\n{2**53 + 1},1\n-5,2\n")
    assert "row 1, column id: 9007199254740993 is beyond 2**53" in refusal(path)
    assert as_lists(tabular(labels="id", dtype="int64")(path)) == ([[1], [2]], [[2**53 + 1], [-5]])
    assert as_lists(tabular(labels="id", dtype="float32")(path)) == ([[1], [2]], [[2.0**53], [-5.0]])
    assert as_lists(tabular(exclude="id")(path)) == ([[1], [2]], [[1], [2]])


def test_missing_values_in_unused_columns_are_accepted(tmp_path):
    path = write_file(tmp_path / "x.csv", "a,b,t\n1,,x\n2,,\n")
    assert as_lists(tabular(inputs="a")(path)) == ([[1.0], [2.0]], [[1.0], [2.0]])


def test_steps_of_any_shape_are_kept(tmp_path):
    array = np.random.default_rng(0).standard_normal((5, 4, 3, 2)).astype(">f4")
    inputs, labels = tabular(labels="3")(write_file(tmp_path / "x.npy", array))
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs, array[:, :3])
    np.testing.assert_array_equal(labels, array[:, 3:])
    array[2, 1, 0, 1] = 1e6
    path = write_file(tmp_path / "x.npy", array)
    assert "row 3, column 1[0, 1]: 1000000.0 does not fit into float16" in refusal(path, dtype="float16")


def test_npz_files_hold_whole_inputs_and_labels(tmp_path):
    x, y = np.asfortranarray(np.arange(6.0).reshape(3, 2).astype(">f8")), np.array([1, 2, 3])
    path = write_file(tmp_path / "x_5.npz", {"inputs": x, "labels": y, "other": 7})
    assert as_lists(tabular()(path)) == (x.tolist(), [[1], [2], [3]])
    assert as_lists(tabular(label_key="other")(path)) == (x.tolist(), 7)
    assert as_lists(tabular(input_key="labels", label_key="inputs")(path)) == ([[1], [2], [3]], x.tolist())
    assert as_lists(tabular(label_key="inputs")(path)) == (x.tolist(), x.tolist())
    assert as_lists(tabular(labels_in_manifest=True)(path)) == (x.tolist(), None)
    assert as_lists(tabular(label_pattern=r"x_(\d)").under(tmp_path)(path)) == (x.tolist(), [5])
    assert tabular(dtype="int16")(path)[0].dtype == np.int16
    assert tuple(one.names for one in tabular().columns(path)) == (None, None)


def test_a_single_number_of_an_npz_file_is_a_label_of_the_sequence(tmp_path):
    steps = {"a.npz": 1, "b.npz": 4, "c.npz": 1}
    store = build_files(tmp_path, {name: {"inputs": np.ones((n, 2)), "labels": n} for name, n in steps.items()}).store
    assert store.schema.label_axis == "sequence"
    assert [int(y) for _, y in store] == [1, 4, 1]


def test_npz_files_without_labels(tmp_path):
    inputs, labels = tabular(labels="none")(write_file(tmp_path / "x.npz", {"inputs": [[1.0, 2.0]]}))
    assert (inputs.tolist(), labels.tolist()) == ([[1, 2]], [])


def test_a_process_function_for_tables_pickles_and_has_normal_options(tmp_path):
    process = tabular(inputs="a:c, d", exclude=["e"], dtype=">f4", header=False, column_names="a,b,c,d,e").under(
        tmp_path
    )
    same = tabular(inputs=["a:c", "d"], exclude="e", dtype=np.float32, header=False, column_names=tuple("abcde"))
    again = pickle.loads(pickle.dumps(process))
    assert again == same.under(tmp_path)
    assert (again.root, hash(again)) == (tmp_path, hash(same.under(tmp_path)))


def test_a_later_build_reads_text_like_the_first(tmp_path):
    first, later = (text.encode("latin-1") for text in ("# Zürich\nhöhe,b\nm,s\n1,2\n", "höhe,b\n# none\nm,s\n3,4\n"))
    build_files(tmp_path, {"a.csv": first}, tabular(encoding="latin-1", comment="#", skip_after_header=1))
    store = build_files(tmp_path, {"b.csv": later}).store
    assert store.schema.inputs.names == ("höhe", "b")
    assert [inputs.tolist() for inputs, _ in store] == [[[1, 2]], [[3, 4]]]
    with pytest.raises(UsageError, match="encoding"):
        build_files(tmp_path, {}, tabular(comment="#", skip_after_header=1))


@pytest.mark.parametrize(
    "options",
    [
        {"labels": "b"},
        {"exclude": "g", "missing": "drop"},
        {"group_by": "g", "missing": "a=drop"},
        {"label_pattern": r"(\d)"},
        {"labels_in_manifest": True},
    ],
)
@pytest.mark.parametrize("long", [False, True])
def test_sequences_of_tabular_have_one_type_for_all_options(tmp_path, monkeypatch, options, long):
    """Calling it returns a pair, parts, or pieces of a long file; that is for `build`."""
    table = {"a": [1.0, 2.0, 3.0, 4.0], "b": [5, 6, 7, 8], "g": [0, 0, 1, 1]}
    path = write_file(tmp_path / "1.parquet", table, row_group=2)
    process = tabular(**options)
    wanted = [one for one in sequences_of(process(path)) if isinstance(one, Sequence)]
    if long:
        monkeypatch.setattr(sys.modules["builder.frames.tabular"], "LONG_BYTES", 0)
        assert isinstance(process(path), LongSequence) == ("missing" not in options)
    found = list(process.sequences(path))
    assert len(found) == len(wanted) == (2 if "group_by" in options else 1)
    for one, other in zip(found, wanted, strict=True):
        assert type(one) is Sequence
        assert one.columns == other.columns
        for ours, theirs in ((one.inputs, other.inputs), (one.labels, other.labels)):
            np.testing.assert_array_equal(ours, theirs)


def test_a_process_function_may_change_the_sequences_of_a_table(tmp_path):
    def scaled(path, *, factor):
        for sequence in tabular(inputs="a", labels="b", group_by="g", missing="drop").sequences(path):
            if sequence.columns["g"] % 2 == 0:
                yield replace(sequence, inputs=sequence.inputs * factor)

    contents = {"x.csv": "a,b,g\n1,2,0\n,4,0\n3,6,2\n5,7,1\n"}
    store = build_files(tmp_path, contents, scaled, arguments={"factor": 0.5}).store
    assert [(x.tolist(), y.tolist()) for x, y in store] == [([[0.5]], [[2]]), ([[1.5]], [[6]])]
    assert (store.sequences["g"].tolist(), store.sequences["dropped"].tolist()) == ([0, 2], [1, 0])


def test_sequences_of_tabular_have_text_as_labels_unless_classes_are_given(tmp_path):
    path = write_file(tmp_path / "x.csv", "a,b,kind\n1,5,dog\n2,6,cat\n3,7,dog\n")
    (only,) = tabular(inputs="a", labels="b,kind").sequences(path)
    assert only.labels.tolist() == [[5, "dog"], [6, "cat"], [7, "dog"]]
    (coded,) = tabular(inputs="a", labels="b,kind", classes="kind=cat,dog").sequences(path)
    assert coded.labels.tolist() == [[5, 1], [6, 0], [7, 1]]


def test_a_process_function_for_tables_shows_the_options_that_were_given():
    assert repr(tabular()) == "tabular()"
    process = tabular(inputs="a,b", label_pattern="(.)", missing="drop", sort_time=True, time="t")
    assert repr(process) == (
        "tabular(inputs=['a', 'b'], label_pattern='(.)', missing=['drop'], sort_time=True, time=['t'])"
    )


def test_a_range_selects_the_same_columns_of_every_file(tmp_path):
    tables = {"1.csv": "a,b,c,y\n1,2,3,0\n", "2.csv": "b,a,c,y\n2,1,3,0\n", "3.csv": "a,q,c,y\n1,9,3,0\n"}
    built = build_files(tmp_path, tables, tabular(inputs="a:c", labels="y"))
    # In 2.csv the range is only a and c, so that file needs the names.
    assert [failure.source for failure in built.report.failures] == ["2.csv", "3.csv"]
    assert [inputs.tolist() for inputs, _ in built.store] == [[[1, 2, 3]]]


@pytest.mark.parametrize("changes", [{"transforms": ["scale b:c=2"]}, {"missing": ["b:c=keep"]}])
@pytest.mark.parametrize("columns", [{}, {"inputs": "a,b,c"}, {"inputs": "b,c", "labels": "a"}])
def test_a_range_of_columns_to_change_has_the_same_columns_in_every_file(tmp_path, columns, changes):
    tables = {"1.csv": "a,b,c\n1,2,3\n", "2.csv": "b,a,c\n2,1,3\n", "3.csv": "b,c,a\n2,3,1\n"}
    built = build_files(tmp_path, tables, tabular(**columns, **changes))
    # In 2.csv the range has a too.
    (reason,) = built.reasons
    assert reason == (
        "the range b:c is b, a, c here, but b, c in the order of inputs and labels; name them one by one, and build to "
        "another path if there is a store"
    )
    assert built.store.sources == ("1.csv", "3.csv")
    assert np.array_equal(built.store[0][0], built.store[1][0])


@pytest.mark.parametrize(
    ("flag", "options"),
    [
        ("--time y:d", {"time": "y:d"}),
        ("--group-by y:d", {"group_by": "y:d"}),
        ("--on y:d", {"on": "y:d", "labels_from": "a/(.*).csv -> b/{1}.csv"}),
        ("--on h=y:d", {"on": "h=y:d", "labels_from": "a/(.*).csv -> b/{1}.csv"}),
    ],
)
def test_a_range_of_columns_that_may_have_another_order_in_other_files_is_refused(tmp_path, flag, options):
    tables = {"a/1.csv": "y,m,d,h,x\n2024,1,2,0,1\n", "b/1.csv": "y,d,m,h,l\n2024,2,1,0,1\n"}
    built = build_files(tmp_path, tables, tabular(inputs="x", **options))
    assert built.reasons[0] == (
        f"{flag} has a range, but the order of columns may differ between files; name them one by one, and build to "
        "another path if there is a store"
    )
