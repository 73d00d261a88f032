"""Streams: lanes of sequences one after another, against plain loops over the arrays that were written."""

from __future__ import annotations

import gc
import itertools
import json
import pickle
import re
import tracemalloc
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import ChecksumError, StateError, WindowError
from store_spec.sequences import streams as streams_module
from store_spec.sequences.streams import plan_lanes
from tests.store.damage import change_places
from tests.store.oracle import Recipe, append, make, write
from tests.store.window_oracle import LENGTHS, Numbered, numbered, selections

Arrays = list[tuple[Any, Any]]


@pytest.fixture(scope="module", params=["step", "sequence"])
def given_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("streams") / "s.zarr", request.param, chunk=8)


@pytest.fixture(scope="module")
def by_step(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("streams") / "step.zarr", "step", chunk=8)


def dealt(lengths: list[int], lanes: int, steps: int, *, align: bool) -> list[list[int]]:
    """Return the sequences of each lane: the longest first, each to the lane that ends first, then in their order."""
    needed = {n: -(-length // steps) * steps if align else length for n, length in enumerate(lengths) if length}
    ends, found = [0] * lanes, [list[int]() for _ in range(lanes)]
    for number in sorted(needed, key=lambda n: -needed[n]):
        lane = ends.index(min(ends))
        ends[lane] += needed[number]
        found[lane].append(number)
    return [sorted(each) for each in found]


def streamed(sequences: Arrays, dealing: list[list[int]], steps: int, axis: str, *, align: bool) -> list[list[Any]]:
    """Return all batches, step by step: each step of a batch is (inputs, label, reset) or None, lane by lane."""
    lanes: list[list[Any]] = []
    for numbers in dealing:
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
        said = wanted[lane][step]
        assert mask[lane, step] == (said is not None)
        row, label, first = said if said is not None else (0, 0, False)
        assert np.array_equal(x[lane, step], np.broadcast_to(row, x.shape[2:]))
        assert np.array_equal(y[lane, step], np.broadcast_to(label, y.shape[2:]))
        assert reset[lane, step] == first


@pytest.mark.slow
@given(
    selection=selections(),
    lanes=st.integers(1, 4),
    steps=st.integers(1, 20),
    align=st.booleans(),
    ranks=st.integers(1, 3),
    more_memory=st.sampled_from([0, 10_000, 256_000_000]),
)
def test_streams_are_what_loops_make_of_the_sequences(
    given_store: Numbered, selection: list[int], lanes: int, steps: int, ranks: int, more_memory: int, *, align: bool
):
    """For any ranks, which have equally many batches and their share of the lanes."""
    axis, store = given_store.store.schema.label_axis, given_store.store.select(selection)
    sequences = [given_store.sequences[number] for number in selection]
    dealing = dealt([len(x) for x, _ in sequences], lanes * ranks, steps, align=align)
    wanted = streamed(sequences, dealing, steps, axis, align=align)
    real = sum(step is not None for batch in wanted for lane in batch for step in lane)
    with pytest.raises(WindowError) as error:
        store.streams(lanes, steps, memory=1)
    least = int(re.findall(r"give memory=(\d+)", str(error.value))[0])
    for rank in range(ranks):
        more: dict[str, Any] = {"align": align, "memory": least + more_memory, "rank": rank, "world_size": ranks}
        streams = store.streams(lanes, steps, mask=True, **more)
        assert len(streams) == len(wanted)
        assert streams.padding == (1 - real / (len(wanted) * lanes * ranks * steps) if wanted else 0)
        found = list(streams)
        assert len(found) == len(wanted)
        for batch, lines in zip(found, wanted, strict=True):
            assert_batch(batch, lines[rank * lanes : (rank + 1) * lanes])
        for batch, three in zip(found, store.streams(lanes, steps, **more), strict=True):
            assert len(three) == 3
            assert all(np.array_equal(a, b) for a, b in zip(batch, three, strict=False))


def lanes_of(batches: Any) -> list[list[int]]:
    """Return the sequences of each lane as they follow one another, each by its first value."""
    xs, _, resets = (np.concatenate(arrays, axis=1) for arrays in zip(*batches, strict=True))
    return [x[reset, 0].tolist() for x, reset in zip(xs, resets, strict=True)]


@given(lanes=st.integers(1, 4), steps=st.integers(1, 20), align=st.booleans(), epoch=st.integers(0, 9))
def test_shuffled_streams_give_each_step_once_in_the_order_of_its_sequence(
    given_store: Numbered, lanes: int, steps: int, epoch: int, *, align: bool
):
    """Whatever the order is that sequences come in: that is read off the batches, and all else follows from it."""
    axis = given_store.store.schema.label_axis
    streams = given_store.store.streams(lanes, steps, align=align, mask=True, shuffle=True, epoch=epoch)
    batches = list(streams)
    number_of = {int(x[0, 0]): number for number, (x, _) in enumerate(given_store.sequences) if len(x)}
    dealing = [[number_of[value] for value in lane] for lane in lanes_of(batch[:3] for batch in batches)]
    assert sorted(itertools.chain(*dealing)) == sorted(number_of.values())
    wanted = streamed(given_store.sequences, dealing, steps, axis, align=align)
    assert len(wanted) == len(batches)
    for batch, lines in zip(batches, wanted, strict=True):
        assert_batch(batch, lines)


def test_the_order_follows_from_seed_and_epoch(by_step: Numbered):
    def order(**more: Any) -> list[list[int]]:
        return lanes_of(by_step.store.streams(3, 10, shuffle=True, **more))

    first = order(seed=1, epoch=0)
    assert order(seed=1, epoch=0) == first
    assert first not in [order(seed=1, epoch=1), order(seed=0, epoch=1), order(seed=2)]


def test_the_order_is_the_same_on_every_platform_and_version(by_step: Numbered):
    """Golden: whoever changes this changes what a state of an older version goes on with."""
    starts = dict(zip((2 * by_step.store.starts).tolist(), range(len(LENGTHS)), strict=True))
    order = lanes_of(by_step.store.streams(3, 10, shuffle=True, seed=3, epoch=2))
    assert [[starts[value] for value in lane] for lane in order] == GOLDEN


GOLDEN = [[6, 7, 1], [8, 3, 12, 5, 15, 13], [16, 10, 9, 14, 2, 11]]


def test_other_sequences_share_a_lane_in_each_epoch():
    """Though the longest are dealt first: those about as long take turns."""
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


def test_few_steps_are_wasted():
    """One sequence of a thousand lies at the end of a lane, and no lane is longer than another by more than that."""
    lengths = np.maximum(1, np.random.default_rng(0).lognormal(5, 0.8, 2000)).astype(np.int64)
    for random in (None, np.random.default_rng(1)):
        assert plan_lanes(lengths, lanes=32, steps=64, align=False, random=random).padding < 0.01
    assert 0.1 < plan_lanes(lengths, lanes=32, steps=64, align=True, random=None).padding < 0.2


def test_a_million_sequences_are_dealt_as_well(monkeypatch: pytest.MonkeyPatch):
    """Beyond the longest ones, neighbours are dealt together; a lane ends no later than by one such group."""
    monkeypatch.setattr(streams_module, "ONE_BY_ONE", 100)
    lengths = np.random.default_rng(0).integers(1, 30, 10_000)
    lengths[5] = 20_000
    plan = plan_lanes(lengths, lanes=2, steps=10, align=False, random=None)
    assert sorted(plan.sequence.tolist()) == list(range(10_000))
    assert plan.padding < 0.02


# Reading


def counted(monkeypatch: pytest.MonkeyPatch, chunk: int) -> list[int]:
    """Return a list to which each chunk of `inputs` is added that is decompressed."""
    read: list[int] = []
    rows = Snapshot.rows

    def counting(self: Snapshot, name: str, start: int, stop: int) -> Any:
        if name == "inputs":
            read.extend(range(start // chunk, -(-stop // chunk)))
        return rows(self, name, start, stop)

    monkeypatch.setattr(Snapshot, "rows", counting)
    return read


@pytest.fixture(scope="module")
def long_and_short(tmp_path_factory: pytest.TempPathFactory) -> dict[str, store_spec.Store]:
    """Of 64 rows a chunk."""
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), chunk=64, shard=640)
    lengths = {"long": [2000] * 8, "short": [5] * 3200}
    folder = tmp_path_factory.mktemp("chunks")
    return {
        name: store_spec.open_store(write(recipe, folder / name, make(recipe, each))) for name, each in lengths.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least", "most"), [("long", 1.0, 1.3), ("short", 1.0, 4.0)])
def test_a_chunk_is_decompressed_about_once_for_each_sequence_that_it_has_a_part_of(
    long_and_short: dict[str, store_spec.Store],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    least: float,
    most: float,
):
    """Where memory allows: 1.1 times if sequences are long, 2.7 if short ones lie all over the store; else 4 and 16."""
    read = counted(monkeypatch, 64)
    store = long_and_short[name]
    list(store.streams(8, 16, shuffle=True))
    chunks = -(-int(store.lengths.sum()) // 64)
    assert least <= len(read) / chunks <= most
    together = len(read)
    read.clear()
    list(store.streams(8, 16, shuffle=True, memory=2 * 64 + 8 * 16 * 4 + 8 * 500))
    assert len(read) > 3 * together


@pytest.mark.slow
def test_memory_is_what_was_asked_for(tmp_path: Path):
    """Beside the last shard, which an open store keeps, and three batches that were taken or go out."""
    recipe = Recipe(inputs=("float32", (8,)), labels=("float32", ()), chunk=2**16, shard=2**20)
    lengths = [50_000] * 8
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, lengths)))
    store.read(7, 49_999)
    for memory in (10**6, 3 * 10**6):
        streams = store.streams(8, 32, shuffle=True, memory=memory)
        next(streams)
        gc.collect()
        tracemalloc.start()
        for _ in streams:
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert memory / 4 < peak < memory + 3 * 8 * 32 * 38


def test_a_sequence_that_is_read_whole_is_held_against_its_checksum(tmp_path: Path):
    """A shard in the place of another: each of its chunks is as it was written."""
    recipe = Recipe(chunk=60, shard=60)
    write(recipe, tmp_path / "s", make(recipe, [5] * 6))
    change_places(tmp_path / "s/inputs/c.0.0", tmp_path / "s/inputs/c.1.0")
    with pytest.raises(ChecksumError, match="inputs: sequence 0"):
        next(store_spec.open_store(tmp_path / "s").streams(1, 5))


def test_a_label_in_the_place_of_another_is_an_error(tmp_path: Path):
    recipe = Recipe(label_axis="sequence", chunk=60, shard=60)
    path = write(recipe, tmp_path / "s", make(recipe, [5] * 6))
    other = write(recipe, tmp_path / "t", make(recipe, [5] * 6, seed=1))
    for name in ("labels", "inputs"):
        for file in (other / name).glob("c.*"):
            (path / name / file.name).write_bytes(file.read_bytes())
        with pytest.raises(ChecksumError, match=f"{'labels' if name == 'labels' else 'inputs'}: sequence 0"):
            next(store_spec.open_store(path).streams(1, 5))


# States


def same_batches(found: Any, wanted: Any) -> bool:
    found, wanted = list(found), list(wanted)
    return len(found) == len(wanted) and all(
        len(a) == len(b) and all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
        for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"shuffle": True, "seed": 3, "epoch": 1, "mask": True},
        {"align": True, "shuffle": True},
        {"rank": 1, "world_size": 2},
    ],
)
def test_an_epoch_goes_on_from_a_state_with_the_very_same_batches(given_store: Numbered, asked: Any):
    """After each number of batches, those of none and of all too; the state is of a few hundred bytes."""
    whole = list(given_store.store.streams(2, 20, **asked))
    streams = given_store.store.streams(2, 20, **asked)
    for step in range(len(whole) + 1):
        state = json.loads(json.dumps(streams.state_dict()))
        assert len(json.dumps(state)) < 500
        again = given_store.store.streams(2, 20, **asked)
        next(again, None)
        again.load_state_dict(state)
        assert again.state_dict() == state
        assert same_batches(again, whole[step:])
        next(streams, None)


def test_a_state_reads_nothing_of_what_was_taken(by_step: Numbered, monkeypatch: pytest.MonkeyPatch):
    streams = by_step.store.streams(1, 10)
    list(itertools.islice(streams, 20))
    again = by_step.store.streams(1, 10)
    read = counted(monkeypatch, 8)
    again.load_state_dict(streams.state_dict())
    assert not read
    next(again)
    assert read[:2] == [25, 26]  # rows 200 to 210: one lane has all sequences in their order
    assert min(read) == 25  # of those after them, which are read ahead


def test_a_state_goes_on_with_other_ranks_that_share_the_same_lanes(by_step: Numbered):
    """Six lanes, by two ranks, then by three, then by one."""
    whole = list(by_step.store.streams(6, 7, shuffle=True))
    step, state = 0, None
    for ranks in (2, 3, 1):
        shares = []
        for rank in range(ranks):
            streams = by_step.store.streams(6 // ranks, 7, shuffle=True, rank=rank, world_size=ranks)
            if state is not None:
                streams.load_state_dict(state)
            shares.append([next(streams), next(streams)])
        found = [tuple(map(np.concatenate, zip(*parts, strict=True))) for parts in zip(*shares, strict=True)]
        assert same_batches(found, whole[step : step + 2])
        step, state = step + 2, streams.state_dict()


def test_a_state_goes_on_though_the_store_was_appended_to(tmp_path: Path):
    recipe = Recipe()
    write(recipe, tmp_path / "s.zarr", make(recipe, [5, 9, 3, 8, 7, 7], sources=list("abcdef")))
    streams = store_spec.open_store(tmp_path / "s.zarr").streams(2, 4, shuffle=True)
    next(streams)
    state = streams.state_dict()
    with store_spec.open_store(tmp_path / "s.zarr", mode="a") as writer:
        append(writer, make(recipe, [50], sources=["g"]))
    again = store_spec.open_store(tmp_path / "s.zarr").streams(2, 4, shuffle=True)
    assert len(again) > len(streams)
    again.load_state_dict(state)
    assert same_batches(again, streams)


def test_a_state_of_anything_else_is_refused_and_changes_nothing(by_step: Numbered):
    state = by_step.store.streams(2, 5).state_dict()
    others: list[dict[str, Any]] = [
        {"batch_size": 3},
        {"window": 6},
        {"align": True},
        {"shuffle": True},
        {"seed": 1},
        {"epoch": 1},
        {"world_size": 2},
    ]
    for other in others:
        streams = by_step.store.streams(**{"batch_size": 2, "window": 5, **other})
        next(streams)
        with pytest.raises(StateError, match="continues with the parameters that it was started with"):
            streams.load_state_dict(state)
        assert streams.state_dict()["step"] == 1
    with pytest.raises(StateError, match=r"selected=\d+, and these batches are of 5; take the selection"):
        by_step.store[:5].streams(2, 5).load_state_dict(state)
    with pytest.raises(StateError, match="kind='padded', and these batches are of 'streams'"):
        by_step.store.streams(2, 5).load_state_dict(by_step.store.padded(2).state_dict())


def test_streams_can_be_pickled_in_the_middle(by_step: Numbered):
    streams = by_step.store.streams(2, 20, shuffle=True)
    next(streams)
    assert same_batches(pickle.loads(pickle.dumps(streams)), streams)


# Bad use


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1"),
        ({"batch_size": True}, "batch_size is True"),
        ({"window": -5}, "window is -5"),
        ({"window": 2.0}, r"window is 2\.0"),
        ({"seed": -1}, "seed is -1"),
        ({"epoch": None}, "epoch is None"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank=2 with world_size=2; ranks are 0 to 1"),
        ({"memory": 0}, "memory is 0"),
        ({"memory": "1kB"}, "memory=1,000 bytes is too little: a batch of 2 lanes of 5 steps takes 260, .*memory=1516"),
        ({"batch_size": 10**12}, "memory=256,000,000 bytes is too little: a batch of 1,000,000,000,000 lanes"),
    ],
)
def test_what_is_impossible_is_refused(by_step: Numbered, asked: Any, message: str):
    with pytest.raises(WindowError, match=message):
        by_step.store.streams(**{"batch_size": 2, "window": 5, **asked})


def test_the_memory_that_an_error_asks_for_is_enough(by_step: Numbered):
    assert len(list(by_step.store.streams(2, 5, memory=1516))) > 10


def test_label_sequences_of_their_own_cannot_be_streamed(tmp_path: Path):
    axis: Literal["own"] = "own"
    store = numbered(tmp_path / "s.zarr", axis, chunk=8).store
    with pytest.raises(WindowError, match="labels on the own axis have steps of their own"):
        store.streams(2, 5)


def test_no_steps_are_no_batches(given_store: Numbered):
    for store in (given_store.store.select([]), given_store.store.select([0, 4])):
        streams = store.streams(2, 5, shuffle=True)
        assert len(streams) == 0
        assert list(streams) == []
        assert streams.padding == 0


@pytest.mark.slow
@pytest.mark.frameworks
@pytest.mark.parametrize("align", [False, True])
def test_an_lstm_of_torch_that_keeps_its_state_gives_what_it_gives_for_whole_sequences(
    by_step: Numbered, *, align: bool
):
    """Batches are taken in parts where a sequence begins in the middle of one, as the docstring says."""
    import torch

    torch.manual_seed(0)
    lstm = torch.nn.LSTM(2, 3, batch_first=True).double()
    lanes, steps = 3, 10
    state = (torch.zeros(1, lanes, 3).double(), torch.zeros(1, lanes, 3).double())
    found: dict[int, Any] = {}
    wanted: dict[int, Any] = {}
    with torch.no_grad():
        for x, _, reset, mask in by_step.store.streams(lanes, steps, shuffle=True, align=align, mask=True):
            rows = torch.from_numpy(x / 1000)
            cuts = [0, *np.flatnonzero(reset[:, 1:].any(axis=0)) + 1, steps]
            assert not align or cuts == [0, steps]
            for start, stop in itertools.pairwise(cuts):
                keep = torch.from_numpy(~reset[:, start, None])
                output, state = lstm(rows[:, start:stop], tuple(each * keep for each in state))
                taken = mask[:, start:stop]
                values = x[:, start:stop][taken][:, 0].tolist()
                found.update(zip(values, output.numpy()[taken], strict=True))
        for x, _ in by_step.sequences:
            if len(x):
                output, _ = lstm(torch.from_numpy(x / 1000)[None])
                wanted.update(zip(x[:, 0].tolist(), output[0].numpy(), strict=True))
    assert found.keys() == wanted.keys()
    assert all(np.allclose(found[value], wanted[value], atol=1e-12) for value in wanted)
