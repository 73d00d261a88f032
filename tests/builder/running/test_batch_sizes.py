"""The plan of a build: new sources, their batches, and whether the store was made in the same way."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from builder.planning.build_options import BuildOptions
from builder.planning.plan import make_plan
from builder.planning.resolved_sources import FILE_COST, LEAST_BATCH_BYTES, split_into_batches
from tests.builder.made_sources import read_made


@given(sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=30), budget=st.integers(1, 2_000_000))
def test_batches_hold_every_source_once_in_order_and_no_more_bytes_than_requested_or_one_source(sizes, budget):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "src")
        folder.mkdir()
        for number, size in enumerate(sizes):
            with (folder / f"{number:02}.made").open("wb") as file:
                file.truncate(size)
        plan = make_plan(BuildOptions(folder, Path(place, "store"), process=read_made))
        batches = list(plan.batches(budget, 2.0))
        assert sum(plan.new_bytes) == sum(sizes)
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


def test_batches_for_workers_become_smaller_at_the_end():
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
