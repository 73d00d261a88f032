"""Groups, times, transforms and policies together, compared with loops over the rows of a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import SourceError, tabular
from tests.builder.row_oracle import changed_by_loop, cleaned_by_loop

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
        parts = cleaned_by_loop(
            [columns["a"], columns["b"], [float(time) for time in times]], [*policies, "error"], None
        )
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


numbers = st.one_of(st.none(), st.integers(1, 99).map(float))


@given(
    groups=st.lists(st.sampled_from("AB"), min_size=1, max_size=14),
    values=st.lists(st.tuples(numbers, numbers), min_size=14, max_size=14),
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
    table = pa.table({name: pa.array(column, types[name]) for name, column in columns.items()})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=row_group)
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
            list(process(tmp_path / "x.parquet"))
        return
    for one, wanted in zip(process(tmp_path / "x.parquet"), expected, strict=True):
        np.testing.assert_array_equal(one.inputs, np.array(wanted["inputs"]))
        assert one.time.astype(np.int64).tolist() == wanted["time"]
        assert one.columns == {"k": wanted["group"], "dropped": wanted["dropped"], "filled": wanted["filled"]}
