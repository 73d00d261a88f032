"""Streams: lanes of sequences one after another, compared with plain loops over the arrays that were written."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.errors import WindowError
from store_spec.sequences import streams as streams_module
from store_spec.sequences.streams import plan_lanes
from tests.store.kinds import chunks_read
from tests.store.oracle import Recipe, make, write
from tests.store.window_oracle import LENGTHS, selections

Arrays = list[tuple[Any, Any]]


def sequences_of_lanes(lengths: list[int], lanes: int, steps: int, *, align: bool) -> list[list[int]]:
    """Return the sequences of each lane: the longest first, each to the lane that ends first, then in their order."""
    needed = {n: -(-length // steps) * steps if align else length for n, length in enumerate(lengths) if length}
    ends, found = [0] * lanes, [list[int]() for _ in range(lanes)]
    for number in sorted(needed, key=lambda n: -needed[n]):
        lane = ends.index(min(ends))
        ends[lane] += needed[number]
        found[lane].append(number)
    return [sorted(each) for each in found]


def expected_batches(
    sequences: Arrays, sequences_by_lane: list[list[int]], steps: int, axis: str, *, align: bool
) -> list[list[Any]]:
    """Return all batches step by step: each step of a batch is (inputs, label, reset) or None, lane by lane."""
    lanes: list[list[Any]] = []
    for numbers in sequences_by_lane:
        lane: list[Any] = []
        for number in numbers:
            x, y = sequences[number]
            while align and len(lane) % steps:
                lane.append(None)
            lane += [(row, y[step] if axis == "step" else y, step == 0) for step, row in enumerate(x)]
        lanes.append(lane)
    batches = -(-max(map(len, lanes)) // steps)
    return [
        [[lane[k] if k < len(lane) else None for k in range(t * steps, (t + 1) * steps)] for lane in lanes]
        for t in range(batches)
    ]


def assert_batch(batch: tuple[Any, ...], wanted: list[list[Any]]) -> None:
    x, y, reset, mask = batch
    assert all(array.flags.c_contiguous and array.flags.writeable for array in batch)
    assert reset.dtype == mask.dtype == bool
    assert reset.shape == mask.shape == x.shape[:2] == y.shape[:2] == (len(wanted), len(wanted[0]))
    for lane, step in np.ndindex(*mask.shape):
        expected = wanted[lane][step]
        assert mask[lane, step] == (expected is not None)
        row, label, first = expected if expected is not None else (0, 0, False)
        assert np.array_equal(x[lane, step], np.broadcast_to(row, x.shape[2:]))
        assert np.array_equal(y[lane, step], np.broadcast_to(label, y.shape[2:]))
        assert reset[lane, step] == first


@given(
    axis=st.sampled_from(["step", "sequence"]),
    selection=selections(),
    lanes=st.integers(1, 4),
    steps=st.integers(1, 20),
    align=st.booleans(),
    ranks=st.integers(1, 3),
    more_memory=st.sampled_from([0, 10_000, 256_000_000]),
    shuffle=st.booleans(),
)
def test_streams_equal_those_of_loops(by_axis, axis, selection, lanes, steps, align, ranks, more_memory, shuffle):
    """For any number of ranks, which share the lanes and have the same number of batches.

    If they are shuffled, the order of the sequences is taken from the batches; everything else must follow from it.
    """
    store = by_axis[axis].store.select(selection)
    sequences = [by_axis[axis].sequences[number] for number in selection]
    with pytest.raises(WindowError) as error:
        store.streams(lanes, steps, memory=1)
    least = int(re.findall(r"give memory=(\d+)", str(error.value))[0])
    more: dict[str, Any] = {"align": align, "memory": least + more_memory, "shuffle": shuffle, "world_size": ranks}
    streams = [store.streams(lanes, steps, mask=True, rank=rank, **more) for rank in range(ranks)]
    found = [list(each) for each in streams]
    sequences_by_lane = sequences_of_lanes([len(x) for x, _ in sequences], lanes * ranks, steps, align=align)
    if shuffle and found[0]:
        first = {int(x[0, 0]): at for at, (x, _) in enumerate(sequences) if len(x)}
        whole = [[np.concatenate(arrays, axis=1) for arrays in zip(*each, strict=True)] for each in found]
        rows_and_resets = [pair for x, _, reset, _ in whole for pair in zip(x, reset, strict=True)]
        sequences_by_lane = [[first[value] for value in rows[reset, 0].tolist()] for rows, reset in rows_and_resets]
        places = sorted(selection[at] for lane in sequences_by_lane for at in lane)
        assert places == sorted(number for number in selection if LENGTHS[number])
    wanted = expected_batches(sequences, sequences_by_lane, steps, axis, align=align)
    real = sum(step is not None for batch in wanted for lane in batch for step in lane)
    for rank, (each, batches) in enumerate(zip(streams, found, strict=True)):
        assert len(each) == len(batches) == len(wanted)
        assert each.padding == (1 - real / (len(wanted) * lanes * ranks * steps) if wanted else 0)
        for batch, lines in zip(batches, wanted, strict=True):
            assert_batch(batch, lines[rank * lanes : (rank + 1) * lanes])
        for batch, three in zip(batches, store.streams(lanes, steps, rank=rank, **more), strict=True):
            assert len(three) == 3
            assert all(np.array_equal(a, b) for a, b in zip(batch, three, strict=False))


def test_other_sequences_share_a_lane_in_each_epoch():
    """Although the longest are assigned first: those of similar length alternate."""
    lengths = np.arange(1, 201)
    together = []
    for epoch in range(10):
        plan = plan_lanes(lengths, lanes=4, steps=16, align=False, random=np.random.default_rng(epoch))
        assert plan.padding < 0.01
        lane = plan.start // (plan.batches * plan.steps)
        (mine,) = lane[plan.sequence == 100]
        together.append(frozenset(plan.sequence[lane == mine].tolist()))
    assert len(set(together)) == 10
    assert len(frozenset.intersection(*together)) < 5


def test_a_million_sequences_are_distributed_evenly(monkeypatch: pytest.MonkeyPatch):
    """After the longest ones, neighbours are assigned together; lanes differ by at most one such group."""
    monkeypatch.setattr(streams_module, "ONE_BY_ONE", 100)
    lengths = np.random.default_rng(0).integers(1, 30, 10_000)
    lengths[5] = 20_000
    plan = plan_lanes(lengths, lanes=2, steps=10, align=False, random=None)
    assert sorted(plan.sequence.tolist()) == list(range(10_000))
    assert plan.padding < 0.02


@pytest.fixture(scope="module")
def long_and_short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, store_spec.Store]:
    """With 64 rows per chunk."""
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), chunk=64, shard=640)
    lengths = {"long": [2000] * 8, "short": [5] * 3200}
    folder = tmp_path_factory.mktemp("chunks")
    return {
        name: store_spec.open_store(write(recipe, folder / name, make(recipe, each))) for name, each in lengths.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "most"), [("long", 1.0, 1.3), ("short", 1.0, 4.0)])
def test_a_chunk_is_decompressed_about_once_per_sequence_in_it(long_and_short, monkeypatch, name, least, most):
    """If memory allows: 1.1 times for long sequences, 2.7 for short ones all over the store; otherwise 4 and 16."""
    read = chunks_read(monkeypatch, 64)
    store = long_and_short[name]
    list(store.streams(8, 16, shuffle=True))
    chunks = -(-int(store.lengths.sum()) // 64)
    assert least <= len(read) / chunks / 2 <= most  # of inputs and of labels
    together = len(read)
    read.clear()
    list(store.streams(8, 16, shuffle=True, memory=2 * 64 + 8 * 16 * 4 + 8 * 500))
    assert len(read) > 3 * together
