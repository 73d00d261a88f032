"""Rows in time, compared with loops: sorted, without duplicates, cut at gaps, at a regular step."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import SourceError, tabular
from builder.formats.table import Table
from builder.frames.step_times import Stamps, Stretch, split_by_time
from builder.options.table_options import TableOptions


def table_of(**columns):
    return Table(columns={name: np.array(values) for name, values in columns.items()})


def times_of(stretch: Stretch) -> list[int]:
    assert stretch.stamps is not None
    return [int(time) for time in stretch.stamps.values]


def cuts_by_loop(times):
    """Return the numbers, among the rows with a time, of those that follow one without."""
    cuts, seen, gap = set(), 0, False
    for time in times:
        if time is not None:
            if gap and seen:
                cuts.add(seen)
            seen += 1
        gap = time is None
    return cuts


def moments_by_loop(rows, cuts):
    """Combine the rows of one time: [time, values, whether a stretch begins]; or return the word that refuses them."""
    found: list[list[Any]] = []
    for number, (time, value) in enumerate(rows):
        if number and time < rows[number - 1][0]:
            return "comes before"
        if number and time == rows[number - 1][0]:
            found[-1][1].append(value)
        else:
            found.append([time, [value], number in cuts])
    return found


def chosen(values, duplicates):
    known = [value for value in values if not math.isnan(value)]
    total = 0.0
    for value in known:  # not sum(), which compensates for rounding since Python 3.12
        total += value
    mean = total / len(known) if known else math.nan
    return {"first": values[0], "last": values[-1], "mean": mean, "error": values[0]}[duplicates]


def stretches_by_loop(times, values, rules, without):
    """Return (values, times) of each stretch; or the word that refuses them."""
    rows = [(time, value) for time, value in zip(times, values, strict=True) if time is not None]
    if len(rows) < len(times) and without not in ("drop", "split"):
        return "missing value"
    if rules.sort_time:
        rows.sort(key=lambda row: row[0])
    found = moments_by_loop(rows, cuts_by_loop(times) if without == "split" and not rules.sort_time else set())
    if isinstance(found, str):
        return found
    if rules.duplicates == "error" and any(len(same) > 1 for _, same, _ in found):
        return "is also the time of"
    longest = math.inf if rules.max_gap is None else int(rules.max_gap.removesuffix("s"))
    out: list[tuple[list[float], list[int]]] = []
    for number, (time, same, cut) in enumerate(found):
        step = time - found[number - 1][0] if number else 0
        if not number or step > longest or cut:
            out.append(([], []))
        elif rules.every is not None and step != int(rules.every.removesuffix("s")):
            return "after"
        out[-1][0].append(chosen(same, rules.duplicates))
        out[-1][1].append(time)
    return out


@given(
    times=st.lists(st.one_of(st.integers(0, 30), st.integers(0, 30), st.none()), max_size=14),
    ordered=st.booleans(),
    values=st.lists(st.one_of(st.floats(-99, 99), st.just(math.nan)), min_size=14, max_size=14),
    sort=st.booleans(),
    duplicates=st.sampled_from(["error", "first", "last", "mean"]),
    max_gap=st.sampled_from([None, "1s", "3s"]),
    every=st.sampled_from([None, None, "1s"]),
    without=st.sampled_from(["error", "drop", "split", "keep"]),
)
def test_stretches_equal_those_of_a_loop(times, ordered, values, sort, duplicates, max_gap, every, without):
    if ordered:
        rising = iter(sorted(time for time in times if time is not None))
        times = [None if time is None else next(rising) for time in times]
    values = values[: len(times)]
    rules = TableOptions(time=("t",), sort_time=sort, duplicates=duplicates, max_gap=max_gap, every=every)
    stamps = Stamps(
        np.array([77 if time is None else time for time in times], np.int64),
        "s",
        np.array([time is None for time in times], np.bool_),
    )
    floats = np.array(values, np.float64)
    table = table_of(a=floats, b=-floats)
    expected = stretches_by_loop(times, values, rules, without)
    if isinstance(expected, str):
        with pytest.raises(SourceError, match=rf"^row \d+, column t: .*{expected}"):
            list(split_by_time(table, stamps, rules, without, name="t"))
        return
    found = list(split_by_time(table, stamps, rules, without, name="t"))
    assert [times_of(one) for one in found] == [when for _, when in expected]
    for one, (rows, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.table.columns["a"], rows)
        np.testing.assert_array_equal(one.table.columns["b"], [-value for value in rows])
    if found:
        assert sum(one.dropped + one.table.rows for one in found) == len(times)
    if duplicates != "mean":
        numbers = [number for one in found for number in map(one.table.number, range(one.table.rows))]
        known = [values[number - 1] for number in numbers]
        np.testing.assert_array_equal(known, [value for rows, _ in expected for value in rows])


def test_the_mean_of_integers_is_a_float_even_without_duplicates():
    table = table_of(a=np.array([1, 2, 4], np.int16))
    for times, expected in (([0, 1, 1], [1, 3]), ([0, 1, 2], [1, 2, 4])):
        stamps = Stamps(np.array(times, np.int64), "s", np.zeros(3, np.bool_))
        (one,) = split_by_time(table, stamps, TableOptions(time=("t",), duplicates="mean"), "error", name="t")
        assert one.table.columns["a"].dtype == np.float64
        assert one.table.columns["a"].tolist() == expected
    nothing = Table(columns={"a": np.zeros(2, np.int16)}, missing={"a": np.ones(2, np.bool_)})
    stamps = Stamps(np.zeros(2, np.int64), "s", np.zeros(2, np.bool_))
    (one,) = split_by_time(nothing, stamps, TableOptions(time=("t",), duplicates="mean"), "error", name="t")
    assert np.isnan(one.table.columns["a"]).tolist() == [True]


def test_times_may_differ_by_more_than_int64():
    limits = np.iinfo(np.int64)
    table = table_of(a=[1.0, 2.0])
    stamps = Stamps(np.array([limits.min, limits.max]), "ns", np.zeros(2, np.bool_), elapsed=True)
    found = list(split_by_time(table, stamps, TableOptions(time=("t",), max_gap="1d"), "error", name="t"))
    assert [times_of(one) for one in found] == [[limits.min], [limits.max]]
    turned = Stamps(stamps.values[::-1].copy(), "ns", stamps.absent, elapsed=True)
    message = r"row 2, column t: -9,223,372,036,854,775,808 ns comes before 9,223,372,036,"
    with pytest.raises(SourceError, match=message):
        list(split_by_time(table, turned, TableOptions(time=("t",)), "error", name="t"))


def write(path: Path, *rows: str) -> Path:
    path.write_text("t,a,k\n" + "".join(f"{row}\n" for row in rows))
    return path


def test_a_gap_ends_the_sequence_with_its_differences_and_fills(tmp_path):
    path = write(tmp_path / "x.csv", "10:00,1,0", "10:10,,0", "10:40,7,0", "13:00,,0", "13:10,9,0", "13:20,10,0")
    text = path.read_text().replace("\n1", "\n2020-01-01T1")
    path.write_text(text)
    first, second = tabular(time="t", exclude="k", max_gap="2h", missing="interpolate+drop")(path)
    assert (first.inputs.tolist(), first.columns) == ([[1], [2.5], [7]], {"dropped": 0, "filled": 1})
    assert (second.inputs.tolist(), second.columns) == ([[9], [10]], {"dropped": 1, "filled": 0})
    assert second.time.astype("M8[s]").tolist() == [np.datetime64(f"2020-01-01T13:{m}").item() for m in (10, 20)]
    (tmp_path / "x.csv").write_text(text.replace(",,", ",4,"))
    first, second = tabular(time="t", exclude="k", max_gap="2h", transforms="diff a")(path)
    assert (first.inputs.tolist(), second.inputs.tolist()) == ([[3], [3]], [[5], [1]])


def test_dropped_rows_count_with_the_sequence_after_them(tmp_path):
    path = write(
        tmp_path / "x.csv",
        ",1,0",
        "2020-01-01,2,0",
        "2020-01-01,3,0",
        ",4,0",
        "2020-01-03,5,0",
        "2020-01-04,6,0",
        ",7,0",
    )
    found = list(tabular(time="t", exclude="k", missing="split", duplicates="last")(path))
    assert [one.inputs.tolist() for one in found] == [[[3]], [[5], [6]]]
    assert [one.columns["dropped"] for one in found] == [2, 2]
    (only,) = tabular(time="t", exclude="k", missing="t=drop", duplicates="mean", sort_time=True)(path)
    assert (only.inputs.tolist(), only.columns["dropped"]) == ([[2.5], [5], [6]], 4)


@pytest.mark.parametrize(
    ("written", "usual"),
    [("1D", "1d"), ("1W", "1w"), ("1H", "1h"), ("10S", "10s"), ("24H", "1d"), ("1.5 s", "1500ms"), (" 7 D ", "1w")],
)
def test_a_duration_has_one_form(written, usual):
    assert tabular(time="t", max_gap=written, every=written) == tabular(time="t", max_gap=usual, every=usual)
    assert tabular(time="t", every=written).describe()["every"] == usual
