"""Missing values, groups, times and transforms: bit for bit the result of loops over rows and columns."""

import json
import math
import operator
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import SourceError, tabular
from builder.formats.table import Table
from builder.frames.cleaning import clean, mark_missing
from builder.frames.transforms import apply_transforms
from builder.options.option_syntax import parse_policies, parse_transform
from builder.options.table_options import TableOptions
from tests.builder.source_files import refusal, write_file

POLICIES = (
    *("drop", "split", "keep", "ffill+drop", "ffill+split", "ffill+keep", "interpolate+drop", "interpolate+split"),
    *("interpolate+keep", "interpolate+ffill+drop", "ffill+interpolate+keep"),
)


@dataclass
class Part:
    """A part: its rows of numbers, steps dropped before it (or after the last), and filled values."""

    rows: list[list[float]]
    dropped: int = 0
    filled: int = 0


def filled_by_loop(values: list[float | None], fill: str, limit: int | None) -> list[float | None]:
    """Fill one column, value by value."""
    out = list(values)
    for row, value in enumerate(values):
        if value is not None:
            continue
        before = next((i for i in range(row, -1, -1) if values[i] is not None), None)
        after = next((i for i in range(row, len(values)) if values[i] is not None), None)
        if fill == "ffill":
            if before is not None and (limit is None or row - before <= limit):
                out[row] = values[before]
        elif before is not None and after is not None:
            low, high = values[before], values[after]
            assert low is not None
            assert high is not None
            out[row] = low + (high - low) * ((row - before) / (after - before))
    return out


def cleaned_by_loop(columns: list[list[float | None]], policies: list[str], limit: int | None) -> list[Part] | None:
    """Clean a table row by row; None: a value is missing that must not be."""
    full = []
    for values, policy in zip(columns, policies, strict=True):
        for fill in policy.split("+"):
            if fill in ("ffill", "interpolate"):
                values = filled_by_loop(values, fill, limit)  # noqa: PLW2901  # one way after another
        full.append(values)
    ends = [policy.split("+")[-1] for policy in policies]
    ends = ["error" if end in ("ffill", "interpolate") else end for end in ends]
    parts, part = [], Part([])
    for row in range(len(columns[0])):
        here = [values[row] for values in full]
        says = {end for value, end in zip(here, ends, strict=True) if value is None}
        if "error" in says:
            return None
        if "split" in says and part.rows:
            parts.append(part)
            part = Part([])
        if "split" in says or "drop" in says:
            part.dropped += 1
            continue
        part.filled += sum(values[row] is None and now is not None for values, now in zip(columns, here, strict=True))
        part.rows.append([math.nan if value is None else value for value in here])
    if part.rows:
        parts.append(part)
    elif parts:
        parts[-1].dropped += part.dropped
    return parts


def changed_by_loop(values: list[Any], transform: str, dtype: str) -> list[Any]:
    """Change one column, value by value, in its dtype."""
    kind, _, rest = transform.partition(" ")
    of = np.dtype(dtype).type
    out: list[Any] = []
    for row, value in enumerate(values):
        before = values[row - 1] if row else None
        if value is None or (kind == "diff" and before is None):
            out.append(None)
        elif kind == "diff":
            out.append(operator.sub(of(value), of(before)))
        elif kind == "scale":
            out.append(of(value) * of(float(rest.split("=")[1])))
        elif kind == "clip":
            low, high = (of(float(one)) for one in rest.split("=")[1].split(":"))
            out.append(min(max(of(value), low), high))
        else:
            out.append(np.log(of(value)))
    return out


def as_table(columns: list[list[float | None]], dtypes: list[str]) -> Table:
    """Make a table: floats have NaN if they are missing, integers a mask."""
    arrays, missing = {}, {}
    for number, (values, dtype) in enumerate(zip(columns, dtypes, strict=True)):
        absent = np.array([value is None for value in values], np.bool_)
        rest = math.nan if dtype.startswith("f") else 77
        arrays[f"c{number}"] = np.array([rest if value is None else value for value in values], dtype)
        if not dtype.startswith("f"):
            missing[f"c{number}"] = absent
    return Table(columns=arrays, missing=missing)


gappy = st.lists(st.lists(st.one_of(st.none(), st.integers(-99, 99)), min_size=3, max_size=3), min_size=1, max_size=14)


@given(
    rows=gappy,
    dtypes=st.lists(st.sampled_from(["float64", "float32", "int64", "int8"]), min_size=3, max_size=3),
    policies=st.lists(st.sampled_from([*POLICIES, "error", "ffill", "interpolate"]), min_size=3, max_size=3),
    limit=st.one_of(st.none(), st.integers(1, 3)),
)
def test_rows_and_counts_equal_those_of_a_loop(rows, dtypes, policies, limit):
    columns = [list(values) for values in zip(*rows, strict=True)]
    expected = cleaned_by_loop(columns, policies, limit)
    table = as_table(columns, dtypes)
    asked = {name: parse_policies([policy]).general for name, policy in zip(table.columns, policies, strict=True)}
    if expected is None:
        with pytest.raises(SourceError, match=r"^row \d+, column c\d: missing value"):
            clean(table, asked, limit=limit)
        return
    found = clean(table, asked, limit=limit)
    assert found.lengths.tolist() == [len(part.rows) for part in expected]
    assert found.dropped.tolist() == [part.dropped for part in expected]
    assert found.filled.tolist() == [part.filled for part in expected]
    assert not found.table.missing
    for number, (dtype, policy) in enumerate(zip(dtypes, policies, strict=True)):
        column = found.table.columns[f"c{number}"]
        floats = not dtype.startswith("f") and ("keep" in policy or "interpolate" in policy)
        wanted = np.array([row[number] for part in expected for row in part.rows], "float64" if floats else dtype)
        assert (column.dtype, column.tobytes()) == (wanted.dtype, wanted.tobytes())
    assert [found.table.number(row) for row in range(found.table.rows)] == (found.rows + 1).tolist()


def test_a_gap_is_interpolated_by_time_if_there_are_times():
    table = Table(columns={"a": np.array([0.0, math.nan, math.nan, 10.0])})
    policies = {"a": parse_policies(["interpolate"]).general}
    assert clean(table, policies).table.columns["a"].tolist() == [0, 10 * (1 / 3), 10 * (2 / 3), 10]
    time = np.array([0, 1, 9, 10], np.int64) * 10**9
    assert clean(table, policies, time=time).table.columns["a"].tolist() == [0, 1, 9, 10]
    time = np.array([0, 1, 9, 10], np.int64) * 18 * 10**17 - 9 * 10**18  # the difference of the ends exceeds int64
    assert clean(table, policies, time=time).table.columns["a"].tolist() == [0, 1, 9, 10]


def test_the_ends_of_a_line_may_differ_by_more_than_float64():
    table = Table(columns={"a": np.array([-1.5e308, math.nan, 1.5e308])})
    assert clean(table, {"a": parse_policies(["interpolate"]).general}).table.columns["a"][1] == 0


def test_steps_of_any_shape_are_cleaned_number_by_number():
    values = np.arange(24.0).reshape(4, 2, 3)
    values[1, 0, 1] = values[0, 1, 2] = math.nan
    table = Table.from_block(values, ("0", "1"))
    found = clean(table, {name: parse_policies(["ffill+keep"]).general for name in ("0", "1")})
    assert found.table.columns["0"][1, 1] == values[0, 0, 1]
    assert np.isnan(found.table.columns["1"][0, 2])
    assert found.filled.tolist() == [1]
    found = clean(table, {name: parse_policies(["split"]).general for name in ("0", "1")})
    assert (found.lengths.tolist(), found.dropped.tolist()) == ([2], [2])
    assert found.table.block is None


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".parquet", ".arrow", ".npy"])
def test_numbers_for_missing_values_are_found_in_every_format(tmp_path, suffix):
    array = np.array([[1.0, -999.0], [2.0, 5.0], [-999.0, 6.0], [4.0, 7.0]])
    contents = {
        ".csv": "a,b\n1,-999\n2,5\n-999.00,6\n?,8\n4,7\n",
        ".txt": "1 -999.0\n2 5\n-9.99e2 6\n4 7\n",
        ".npy": array,
    }
    columns = {"a": array[:, 0].astype(np.int16), "b": array[:, 1].astype(np.float32)}
    path = write_file(tmp_path / f"x{suffix}", contents.get(suffix, columns))
    (only,) = tabular(missing="drop", na_values="?,-999")(path)
    assert only.inputs.tolist() == [[2, 5], [4, 7]]
    assert only.columns == {"dropped": 3 if suffix == ".csv" else 2, "filled": 0}
    assert re.match(r"row 1, column [1b]: missing value", refusal(path, na_values=["-999", "?"]))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("values", [[3, -999, 5], [3.0, -999.0, 5.0], ["2024-01-03", "?", "2024-01-05"]])
def test_words_for_missing_values_are_missing_in_columns_of_times_groups_and_keys(tmp_path, suffix, values):
    rows = list(enumerate(values))
    contents: dict[str, Any] = {
        ".csv": "k,a\n" + "".join(f"{value},{number}\n" for number, value in rows),
        ".jsonl": "\n".join(json.dumps({"k": value, "a": number}) for number, value in rows),
        ".parquet": {"k": values, "a": [0, 1, 2]},
    }
    path = write_file(tmp_path / f"x{suffix}", contents[suffix])
    write_file(tmp_path / f"x_labels{suffix}", contents[suffix])
    options: dict[str, Any] = {"na_values": "?,-999.00"}  # numbers are compared by value
    dated = options | ({} if "?" in values else {"time_unit": "s"})
    (only,) = tabular(time="k", missing="drop", **dated).sequences(path)
    assert (only.inputs.tolist(), len(only.time)) == ([[0], [2]], 2)
    missing = "row 2, column k: missing value"
    assert f"{missing} (1 in all); fill it in, or drop" in refusal(path, time="k", sort_time=True, **dated)
    assert f"{missing}, but rows are grouped by this column" in refusal(path, group_by="k", **options)
    paired = {"inputs": "a", "labels": "a", "labels_from": "{stem}_labels" + suffix, "on": "k"}
    assert f"{missing}, but rows are paired by this column" in refusal(path, **paired, **options)


@pytest.mark.parametrize(
    ("dtype", "values", "word", "found"),
    [
        ("float32", [-999.9, 1], "-999.9", [True, False]),
        ("float64", [-999.9, 1], "-999.9", [True, False]),
        ("float16", [1.0, 2.0], "1e9", [False, False]),
        ("uint8", [255, 1], "-1", [False, False]),
        ("uint8", [255, 1], "255.0", [True, False]),
        ("int64", [2**53 + 1, 2**53], str(2**53 + 1), [True, False]),
        ("uint64", [2**64 - 1, 5], str(2**64 - 1), [True, False]),
        ("int32", [7, 8], "7.5", [False, False]),
        ("float64", [math.inf, -math.inf], "inf", [True, False]),
        ("float64", [1, 2], "NaN", [False, False]),
        ("bool", [True, False], "1", [True, False]),
    ],
)
def test_a_number_is_compared_in_the_columns_dtype(dtype, values, word, found):
    table = Table(columns={"a": np.array(values, dtype)})
    absent = mark_missing(table, TableOptions(na_values=["word", word])).absent("a")
    assert ([False, False] if absent is None else absent.tolist()) == found


def test_npz_files_are_cleaned_like_tables(tmp_path):
    x, y = np.array([[1.0, 2.0], [math.nan, 4.0], [5.0, 6.0]]), np.array([1.0, 2.0, math.nan])
    path = write_file(tmp_path / "x.npz", {"inputs": x, "labels": y, "single": 7})
    (only,) = tabular(missing=["drop", "inputs 0=ffill"])(path)
    assert (only.inputs.tolist(), only.labels.tolist()) == ([[1, 2], [1, 4]], [[1], [2]])
    first, second = tabular(missing="split", label_key="single")(path)
    assert (first.inputs.tolist(), first.labels.tolist()) == ([[1, 2]], 7)
    assert (second.inputs.tolist(), second.labels.tolist()) == ([[5, 6]], 7)


def test_every_part_has_the_label_in_the_name_and_labels_that_are_the_inputs(tmp_path):
    (tmp_path / "s7.csv").write_text("a,b\n1,2\n,4\n5,6\n")
    first, second = tabular(missing="split", label_pattern=r"s(\d)").under(tmp_path)(tmp_path / "s7.csv")
    assert (first.labels.tolist(), second.labels.tolist()) == ([7], [7])
    first, second = tabular(missing="split")(tmp_path / "s7.csv")
    assert second.labels.tolist() == second.inputs.tolist() == [[5, 6]]


numbers = st.one_of(st.none(), st.integers(-50, 50), st.floats(-1e3, 1e3, width=32))


@given(
    values=st.lists(numbers, max_size=12),
    dtype=st.sampled_from(["float32", "float64"]),
    kinds=st.lists(st.sampled_from(["scale a=0.5", "clip a=-3:40", "diff a", "scale a=-3", "clip a=1:1e9", "log a"])),
)
def test_transforms_equal_those_of_a_loop(values, dtype, kinds):
    expected = [None if value is None else np.dtype(dtype).type(value) for value in values]
    refused = False
    for kind in kinds:
        if kind == "log a" and any(value is not None and value <= 0 for value in expected):
            refused = True
            break
        expected = changed_by_loop(expected, kind, dtype)
    table = Table(columns={"a": np.array([math.nan if value is None else value for value in values], dtype)})
    transforms = [parse_transform(kind) for kind in kinds]
    if refused:
        with pytest.raises(SourceError, match=r"^row \d+, column a: .* has no logarithm .* --clip a=LOW:"):
            apply_transforms(table, [(one, ["a"]) for one in transforms])
        return
    found, first = apply_transforms(table, [(one, ["a"]) for one in transforms])
    column = found.columns["a"]
    wanted = np.array([math.nan if value is None else value for value in expected], dtype)
    np.testing.assert_array_equal(column, wanted)
    assert column.dtype == dtype
    assert first.get("a", 0) == min(kinds.count("diff a"), len(values))


@pytest.mark.parametrize(
    ("dtype", "transform", "values", "expected", "after"),
    [
        ("uint8", "diff a", [5, 3, 255], [None, -2, 252], "int64"),
        ("bool", "diff a", [True, False, True], [None, -1, 1], "int64"),
        ("int16", "scale a=2", [5, -3], [10, -6], "float64"),
        ("uint8", "clip a=-5:300", [0, 255], [0, 255], "uint8"),
        ("uint8", "clip a=3:", [0, 255], [3, 255], "uint8"),
        ("uint8", "clip a=:2.5", [0, 255], [0, 2.5], "float64"),
        ("bool", "clip a=1:", [False, True], [1, 1], "uint8"),
        ("int32", "log a", [1], [0], "float64"),
        ("float16", "clip a=:1e9", [1, 2], [1, 2], "float16"),
        ("int64", "clip a=0:5", [2**62 + 1, -7], [5, 0], "int64"),
    ],
)
def test_integers_and_bool_become_what_the_documentation_says(dtype, transform, values, expected, after):
    found, _ = apply_transforms(Table(columns={"a": np.array(values, dtype)}), [(parse_transform(transform), ["a"])])
    column, absent = found.columns["a"], found.absent("a")
    gaps = np.zeros(len(values), np.bool_) if absent is None else absent
    assert [None if gap else value for value, gap in zip(column.tolist(), gaps, strict=True)] == expected
    assert column.dtype == after


@pytest.mark.parametrize("policy", [None, "drop", "split", "ffill", "interpolate", "interpolate+split"])
def test_the_first_row_of_a_difference_is_left_out_by_every_policy_but_keep(tmp_path, policy):
    (tmp_path / "x.csv").write_text("a,b\n1,5\n4,6\n9,7\n")
    (only,) = tabular(missing=policy, transforms=["diff a"])(tmp_path / "x.csv")
    assert (only.inputs.tolist(), only.columns) == ([[3, 6], [5, 7]], {"dropped": 1, "filled": 0})
    (twice,) = tabular(missing=policy, transforms=["diff a", "diff a"])(tmp_path / "x.csv")
    assert (twice.inputs.tolist(), twice.columns) == ([[2, 7]], {"dropped": 2, "filled": 0})
    (kept,) = tabular(missing="keep", transforms=["diff a"])(tmp_path / "x.csv")
    np.testing.assert_array_equal(kept.inputs, [[math.nan, 5], [3, 6], [5, 7]])


def test_policies_and_transforms_take_ranges_and_elements_of_lists(tmp_path):
    table = {"a": [None, 2.0], "e": [[1.0, 2.0], [None, 4.0]], "z": [1.0, None]}
    process = tabular(missing=["drop", "e,z=ffill"], transforms=["scale e[0]:z=2"], na_values="0")
    (only,) = process(write_file(tmp_path / "x.parquet", table))
    assert (only.inputs.tolist(), only.columns) == ([[2, 2, 8, 2]], {"dropped": 1, "filled": 2})


def test_masked_integers_do_not_affect_transforms():
    """Whatever value is stored there: a sentinel, or the fill of a reader."""
    limits = np.iinfo(np.int64)
    column = np.array([5, limits.min, 7, 8, limits.max, -9], np.int64)
    missing = np.array([False, True, False, False, True, True])
    table = Table(columns={"a": column}, missing={"a": missing})
    for kind, expected in (("diff a", [None, None, None, 1, None, None]), ("log a", [np.log(5.0), None, np.log(7.0)])):
        found = apply_transforms(table, [(parse_transform(kind), ["a"])])[0]
        absent = found.absent("a")
        assert absent is not None
        values = zip(found.columns["a"].tolist(), absent.tolist(), strict=True)
        assert [None if gap else value for value, gap in values][: len(expected)] == expected
    floats = Table(columns={"a": np.array([-999.0, 1.0])}, missing={"a": np.array([True, False])})
    assert apply_transforms(floats, [(parse_transform("log a"), ["a"])])[0].columns["a"][1] == 0


Row = tuple[str, int, float | None, float | None]


def stretches_by_loop(rows: list[Row], longest: int | None) -> list[tuple[str, list[Row]]]:
    """Sort the rows of each group by time, and cut at jumps; groups are in order of appearance."""
    found: list[tuple[str, list[Row]]] = []
    for group in dict.fromkeys(row[0] for row in rows):
        before = None
        for row in sorted((row for row in rows if row[0] == group), key=lambda row: row[1]):
            if before is None or (longest is not None and row[1] - before > longest):
                found.append((group, []))
            found[-1][1].append(row)
            before = row[1]
    return found


def sequences_by_loop(
    rows: list[Row], longest: int | None, transforms: list[str], policies: list[str]
) -> list[dict[str, Any]] | None:
    """Return the sequences of a file; None: nothing is left of it."""
    found: list[dict[str, Any]] = []
    lost = 0
    for group, stretch in stretches_by_loop(rows, longest):
        columns = {"a": [row[2] for row in stretch], "b": [row[3] for row in stretch]}
        times = [row[1] for row in stretch]
        for transform in transforms:
            name = transform.split()[1][0]
            columns[name] = changed_by_loop(columns[name], transform, "float64")
        # The time is another column without gaps, so that the loop shows which steps are left.
        parts = cleaned_by_loop([columns["a"], columns["b"], [float(one) for one in times]], [*policies, "error"], None)
        if parts is None:
            return None
        for part in parts:
            found.append({
                "group": group,
                "inputs": [row[:2] for row in part.rows],
                "time": [row[2] for row in part.rows],
                "dropped": part.dropped + lost,
                "filled": part.filled,
            })  # fmt: skip
            lost = 0
        if not parts:
            lost += len(stretch)
    if found:
        found[-1]["dropped"] += lost
    return found or None


positive_numbers = st.one_of(st.none(), st.integers(1, 99).map(float))


@given(
    groups=st.lists(st.sampled_from("AB"), min_size=1, max_size=14),
    values=st.lists(st.tuples(positive_numbers, positive_numbers), min_size=14, max_size=14),
    times=st.permutations(range(0, 42, 3)),
    longest=st.sampled_from([None, 3, 7]),
    transforms=st.lists(st.sampled_from(["scale a=0.5", "diff a", "diff b", "clip b=2:50"]), max_size=3),
    policies=st.lists(st.sampled_from(["drop", "split", "keep", "ffill+drop", "ffill+split"]), min_size=2, max_size=2),
    row_group=st.integers(1, 15),
)
def test_sequences_equal_those_of_loops(tmp_path, groups, values, times, longest, transforms, policies, row_group):
    rows: list[Row] = [(group, time, *two) for group, time, two in zip(groups, times, values, strict=False)]
    columns = dict(zip("ktab", ([row[place] for row in rows] for place in range(4)), strict=True))
    types = {"k": pa.string(), "t": pa.int64(), "a": pa.float64(), "b": pa.float64()}
    table = {name: pa.array(column, types[name]) for name, column in columns.items()}
    path = write_file(tmp_path / "x.parquet", table, row_group=row_group)
    process = tabular(
        group_by="k",
        time="t",
        time_unit="s",
        sort_time=True,
        max_gap=None if longest is None else f"{longest}s",
        transforms=transforms,
        missing=[f"a={policies[0]}", f"b={policies[1]}"],
    )
    expected = sequences_by_loop(rows, longest, transforms, policies)
    if expected is None:
        with pytest.raises(SourceError, match=r"none of its \d+ rows is left"):
            list(process(path))
        return
    for one, wanted in zip(process(path), expected, strict=True):
        np.testing.assert_array_equal(one.inputs, np.array(wanted["inputs"]))
        assert one.time.astype(np.int64).tolist() == wanted["time"]
        assert one.columns == {"k": wanted["group"], "dropped": wanted["dropped"], "filled": wanted["filled"]}
