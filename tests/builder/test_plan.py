"""What a build is going to do: new sources, their batches, and whether the store was made in the same way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builder
import store_spec
from builder.build_errors import UsageError
from builder.frames.tabular import tabular
from builder.planning.build_options import BuildOptions
from builder.planning.plan import make_plan
from builder.planning.resolved_sources import FILE_COST, LEAST_BATCH_BYTES, split_into_batches
from tests.builder.made_sources import Made, read_made, write_made


@given(sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=30), budget=st.integers(1, 2_000_000))
def test_batches_hold_every_source_once_in_order_and_no_more_bytes_than_asked_for_or_one_source(sizes, budget):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "src")
        folder.mkdir()
        for number, size in enumerate(sizes):
            with (folder / f"{number:02}.made").open("wb") as file:
                file.truncate(size)
        plan = make_plan(BuildOptions(folder, Path(place, "store"), process=read_made))
        batches = list(plan.batches(budget, 2.0))
        assert plan.bytes_to_read() == sum(sizes)
    names = [name for batch, _ in batches for name in batch.names]
    assert names == sorted(names) == [f"{number:02}.made" for number in range(len(sizes))]
    costs = [2 * size + FILE_COST for size in sizes]
    start = 0
    for batch, size in batches:
        inside = costs[start : start + len(batch)]
        assert size == sum(inside)
        assert len(batch) == 1 or size <= budget
        start += len(batch)
        if start < len(costs):
            assert size + costs[start] > budget  # as many as fit


def test_batches_for_workers_become_ever_smaller_at_the_end():
    sizes = [100_000] * 1_000
    parts = list(split_into_batches(sizes, 10_000_000, 1.0, workers=2))
    assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts[:-1])]
    assert parts[-1][0].stop == len(sizes)
    costs = [size for _, size in parts]
    assert costs == [(part.stop - part.start) * (100_000 + FILE_COST) for part, _ in parts]
    assert costs[0] > 9_800_000
    left = 0
    for cost in costs[::-1]:
        left += cost
        assert cost <= max(left / 4, LEAST_BATCH_BYTES)  # two more for each worker follow
        assert cost > min(max(left / 4, LEAST_BATCH_BYTES), 10_000_000) - 100_000 - FILE_COST or left == cost
    assert costs[-2] < LEAST_BATCH_BYTES
    assert list(split_into_batches([1] * 9, 10**7, 1.0, workers=4)) == [(slice(0, 9), 9 * (1 + FILE_COST))]
    assert list(split_into_batches([], 1, 1.0, workers=4)) == []


def test_sources_that_the_store_holds_are_not_new_and_failed_ones_are(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made(), "b.made": Made(fault="raises"), "c.made": Made()})
    builder.build(tmp_path / "src", tmp_path / "store", process=read_made, workers=0)
    write_made(tmp_path / "src", {"aa.made": Made()})
    plan = make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=read_made))
    assert plan.new == ("aa.made", "b.made")
    assert plan.comparison.unchanged == ("a.made", "c.made")
    assert plan.exists


def test_a_manifest_gives_each_new_source_its_labels_and_leaves_out_what_it_does_not_list(tmp_path):
    write_made(tmp_path / "src", {name: Made() for name in ("a.made", "b.made", "c.made")})
    (tmp_path / "m.csv").write_text("source,speaker,age\nc.made,3,30\na.made,1,10\n")
    labels: dict[str, Any] = {"manifest": tmp_path / "m.csv", "label_column": "speaker,age", "manifest_only": True}
    plan = make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=read_made, **labels))
    assert plan.new == ("a.made", "c.made")
    assert plan.sources.labels is not None
    assert plan.sources.labels.tolist() == [[1, 10], [3, 30]]
    assert plan.sources.label_names == ("speaker", "age")
    assert plan.batch(slice(1, 2)).labels.tolist() == [[3, 30]]  # type: ignore[union-attr]


def test_another_option_than_that_of_the_first_build_is_refused_with_both_values(tmp_path):
    (tmp_path / "src").mkdir()
    for number in range(2):
        np.save(tmp_path / "src" / f"{number}.npy", np.ones((4, 3), np.float32))
    first = tabular(inputs="0:1", labels="2")
    builder.build(tmp_path / "src", tmp_path / "store", process=first, workers=0)
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*"))
    other = tabular(inputs="0", labels="2")
    with pytest.raises(UsageError, match="built with inputs 0:1, but the option is now inputs 0"):
        make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=other))
    with pytest.raises(UsageError, match=r"built with label_axis .*, but the option is now label_axis .*own.*"):
        make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=first, label_axis="own"))
    with pytest.raises(UsageError, match=r"now function tests\.builder\.made_sources:read_made is asked for"):
        make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=read_made))
    same = tabular(inputs=["0:1"], labels=["2"])
    assert make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=same)).new == ()
    assert before == sorted(path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*"))


def test_a_store_that_no_build_made_is_not_built_to(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made()})
    rows = ("float32", (3,))
    with store_spec.create_store(tmp_path / "store", inputs=rows, labels=rows) as writer:
        writer.append(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), source="a")
    with pytest.raises(UsageError, match="no build made this store"):
        make_plan(BuildOptions(tmp_path / "src", tmp_path / "store", process=read_made))
