"""Batches go on from a state: the very same ones, in another process, on other ranks, on a store that has grown."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import StateError, WindowError
from store_spec.windows.order import VERSION
from store_spec.windows.shape import WindowShape
from store_spec.windows.windows import Windows
from tests.store.window_oracle import Numbered, all_same, numbered, shapes, unbatched

MEMORY = 20_000


@pytest.fixture(scope="module")
def in_chunks(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    """Of 8 steps a chunk."""
    return numbered(tmp_path_factory.mktemp("resuming") / "chunks.zarr", "step", chunk=8)


def saved(batches: Any) -> Any:
    """Return the state as it comes back from a file."""
    text = json.dumps(batches.state_dict())
    assert len(text) < 900
    return json.loads(text)


@given(
    shape=shapes(),
    size=st.integers(1, 12),
    world_size=st.integers(1, 3),
    taken=st.integers(0, 40),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    phase=st.sampled_from(["first", "random"]),
)
def test_the_batches_after_a_state_are_those_that_were_left(
    in_chunks: Numbered,
    shape: WindowShape,
    size: int,
    world_size: int,
    taken: int,
    *,
    shuffle: bool,
    drop_last: bool,
    phase: Any,
):
    shape = WindowShape(**{name: getattr(shape, name) for name in shape.__slots__} | {"phase": phase})
    windows = Windows(in_chunks.store, shape)
    options: dict[str, Any] = {"shuffle": shuffle, "drop_last": drop_last, "memory": MEMORY, "seed": 3, "epoch": 2}
    options |= {"rank": world_size - 1, "world_size": world_size, "index": True}
    try:
        begun = windows.batches(size, **options)
    except store_spec.StoreError:
        return  # cannot be dealt evenly
    for _ in zip(range(taken), begun, strict=False):
        pass
    state = saved(begun)
    resumed = windows.batches(size, **options)
    resumed.load_state_dict(state)
    assert saved(resumed) == state
    assert len(resumed) == len(begun)
    assert all_same(
        list(resumed), list(iter(lambda: next(begun, None), None))
    )  # a loop over none that are left is refused


def test_other_ranks_and_their_workers_go_on_where_the_last_windows_are_dealt(in_chunks: Numbered):
    """Two ranks share the last whole batch and the one window after it; a single rank with workers goes on between."""
    every = (in_chunks.store.windows(length) for length in range(2, 9))
    windows, size = next((each, size) for each in every for size in range(8, 40, 2) if len(each) % size == 1)
    options: dict[str, Any] = {"shuffle": True, "memory": MEMORY, "index": True}
    begun = [windows.batches(size // 2, rank=rank, world_size=2, **options) for rank in (0, 1)]
    taken = [batch[-1] for each in begun for batch in itertools.islice(each, len(each) - 1)]
    state = saved(begun[0])
    assert state["taken"] == len(windows) - 2

    def on(worker: int, state: Any) -> Any:
        batches = windows.batches(size, **options)
        batches.load_state_dict(state)
        return batches.of_worker(worker, 3)

    states = [saved(on(worker, state)) for worker in range(3)]  # one each, as loaders of torchdata save them
    taken += [batch[-1] for worker, state in enumerate(states) for batch in on(worker, state)]
    assert sorted(np.concatenate(taken).tolist()) == list(range(len(windows)))


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_stand_at_different_batches_go_on_with_other_ranks(
    in_chunks: Numbered, ranks: int, others: int, workers: int
):
    """Each saves a state of its own, as loaders of torchdata have them; none of 13 windows, six together, is lost."""
    windows = in_chunks.store.select([6]).windows(88, target="last")
    assert len(windows) == 13

    def of(world_size: int) -> list[list[Any]]:
        return [
            [
                windows.batches(6 // world_size, rank=rank, world_size=world_size, index=True).of_worker(
                    worker, workers
                )
                for worker in range(workers)
            ]
            for rank in range(world_size)
        ]

    for steps in range(4):
        begun = of(ranks)
        seen = [next(rank[step % workers])[-1] for step in range(steps) for rank in begun]
        states = [saved(batches) for batches in begun[0]]
        going = of(others)
        try:
            for rank in going:
                for batches, state in zip(rank, states, strict=True):
                    batches.load_state_dict(state)
        except StateError as error:
            assert others > 1, error  # one window is left, for each of them  # noqa: PT017
            continue
        seen += [batch[-1] for rank in going for batches in rank for batch in batches]
        assert sorted(np.concatenate(seen).tolist()) == list(range(13))


def test_a_state_that_is_loaded_leaves_nothing_of_one_before(in_chunks: Numbered):
    """A later state, after which what is left is dealt anew, and then one before it."""
    windows = in_chunks.store.select([6]).windows(88, target="last")
    three = windows.batches(2, world_size=3)
    states = [saved(three), *(saved(three) for _ in three)]

    def two(*loaded: Any) -> Any:
        batches = windows.batches(3, world_size=2, index=True)
        for state in loaded:
            batches.load_state_dict(state)
        return batches

    assert two(states[2]).state_dict()["taken"] == 10
    assert all_same(list(two(states[2], states[1])), list(two(states[1])))


def test_a_worker_that_there_is_not_changes_nothing(in_chunks: Numbered):
    batches, other = batches_of(in_chunks.store), batches_of(in_chunks.store)
    with pytest.raises(WindowError, match="worker=2 of 2 workers"):
        batches.of_worker(2, 2)
    for each in (batches, other):
        next(each)
        next(each)
    assert saved(batches) == saved(other)


def test_a_state_is_loaded_without_reading_what_comes_before(in_chunks: Numbered, monkeypatch: pytest.MonkeyPatch):
    """Nothing is read before the next batch is asked for, and then only rows of its pool and later ones."""
    windows = in_chunks.store.windows(4)
    begun = windows.batches(10, memory=6000)
    assert len(begun._plan.order) > 4
    for _ in range(len(begun) - 2):
        next(begun)
    state = saved(begun)
    begun.close()  # it reads ahead
    read: list[int] = []
    rows_in = Snapshot.rows_in

    def noted(self: Snapshot, buffer: Any, name: str, start: int, stop: int, **more: Any) -> Any:
        read.append(start)
        return rows_in(self, buffer, name, start, stop, **more)

    monkeypatch.setattr(Snapshot, "rows_in", noted)
    resumed = windows.batches(10, memory=6000)
    resumed.load_state_dict(state)
    assert not read
    assert len(list(resumed)) == 2
    assert min(read) > 200  # of 308 rows


SCRIPT = """
import json, sys, store_spec
windows = store_spec.open_store(sys.argv[1]).windows(4)
batches = windows.batches(7, shuffle=True, memory=20_000, seed=5, index=True)
batches.load_state_dict(json.loads(sys.argv[2]))
print(json.dumps([numbers.tolist() for *_, numbers in batches]))
"""


def test_another_process_goes_on_with_the_same_batches(in_chunks: Numbered):
    windows = in_chunks.store.windows(4)
    begun = windows.batches(7, shuffle=True, memory=MEMORY, seed=5, index=True)
    for _ in range(9):
        next(begun)
    command = [sys.executable, "-c", SCRIPT, str(in_chunks.store.path), json.dumps(begun.state_dict())]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert found == [numbers.tolist() for *_, numbers in begun]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(8, 6), (6, 8), (1, 4), (5, 3), (2, 2)])
def test_another_number_of_ranks_goes_on_without_a_window_lost_or_repeated(
    in_chunks: Numbered, before: int, after: int
):
    """Where as many windows are taken together: 24 and 30 of them here, by 8 and 6 ranks, or 5 and 3."""
    together = 30 if 5 in (before, after) else 24
    windows = in_chunks.store.windows(4)

    def ranks(world_size: int) -> list[Any]:
        return [
            windows.batches(
                together // world_size, shuffle=True, memory=MEMORY, rank=rank, world_size=world_size, index=True
            )
            for rank in range(world_size)
        ]

    first, states = [], []
    for batches in ranks(before):
        for _ in range(3):
            first += next(batches)[-1].tolist()
        states.append(saved(batches))
    assert all(state == states[0] for state in states)  # it does not matter which rank saves it
    rest = []
    for batches in ranks(after):
        batches.load_state_dict(states[0])
        rest += [number for batch in batches for number in batch[-1].tolist()]
    assert len(first) == 3 * together
    assert sorted(first + rest) == list(range(len(windows)))
    # What is taken together is the same, whoever takes it.
    alone = np.concatenate([batch[-1] for batch in windows.batches(together, shuffle=True, memory=MEMORY, index=True)])
    assert sorted(first) == sorted(alone[: 3 * together].tolist())


def grown(path: Path) -> tuple[Any, Any]:
    """Return a store, and the same after more was appended to it."""
    rng = np.random.default_rng(0)
    with store_spec.create_store(path, inputs=("float64", (2,)), labels=("float64", (1,)), chunk=128, shard=1024) as w:
        for number in range(20):
            w.append(rng.normal(size=(20, 2)), rng.normal(size=(20, 1)), source=f"s{number}")
    before = store_spec.open_store(path)
    with store_spec.open_store(path, mode="a") as writer:
        for number in range(20, 30):
            writer.append(rng.normal(size=(33, 2)), rng.normal(size=(33, 1)), source=f"s{number}")
    return before, store_spec.open_store(path)


@pytest.mark.slow
@pytest.mark.parametrize("view", [lambda store: store, lambda store: store.split("train", {"train": 0.5, "val": 0.5})])
def test_an_epoch_goes_on_with_its_sequences_on_a_store_that_has_grown(tmp_path: Path, view: Any):
    """The next one has the new ones too."""
    before, after = map(view, grown(tmp_path / "s.zarr"))
    assert len(before) < len(after)
    begun = before.windows(5).batches(8, shuffle=True, memory=MEMORY)
    next(begun)
    state = saved(begun)
    resumed = after.windows(5).batches(8, shuffle=True, memory=MEMORY)
    resumed.load_state_dict(state)
    assert all_same(list(resumed), list(begun))
    assert len(after.windows(5).batches(8, epoch=1)) > len(begun)
    once_more = after.windows(5).batches(8, shuffle=True, memory=MEMORY)
    resumed.load_state_dict(state)
    next(resumed)
    once_more.load_state_dict(saved(resumed))
    assert all_same(list(once_more), list(resumed))
    # And the same iterator may go on from a state of the longer store again.
    longer = after.windows(5).batches(8, shuffle=True, memory=MEMORY)
    next(longer)
    resumed.load_state_dict(saved(longer))
    assert all_same(list(resumed), list(longer))


def refused(message: str, state: Any, batches: Any) -> None:
    """Check that a state is refused with the reason, and that the batches are as if it had not been loaded."""
    with pytest.raises(StateError, match=message):
        batches.load_state_dict(state)
    assert len(unbatched(list(batches))) == len(batches.windows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 5}, "window=4, and these batches are of 5"),
        ({"horizon": 2}, "horizon=1, and these batches are of 2"),
        ({"steps": (0, 0.5)}, r"steps=None, and these batches are of \[0.0, 0.5\]"),
        ({"features": [0]}, r"features=None, and these batches are of \[0\]"),
        ({"batch_size": 5}, r"size \* world_size=4, and these batches are of 5"),
        ({"seed": 1}, "seed=0, and these batches are of 1"),
        ({"epoch": 1}, "epoch=0, and these batches are of 1"),
        ({"shuffle": False}, "shuffle=True, and these batches are of False"),
        ({"memory": 30_000}, "memory=20000, and these batches are of 30000"),
        ({"drop_last": True}, "drop_last=False, and these batches are of True"),
        ({"normalize": True}, "normalize=None, and these batches are of '[0-9a-f]{16}'"),
    ],
)
def test_a_state_of_other_parameters_is_refused_with_both_values(
    in_chunks: Numbered, change: dict[str, Any], message: str
):
    def batches(**options: Any) -> Any:
        options = {"window": 4, "batch_size": 4, "shuffle": True, "memory": MEMORY, "seed": 0, "epoch": 0} | options
        if options.pop("normalize", None):
            options["normalize"] = in_chunks.store.stats()
        shape = {name: options.pop(name) for name in list(options) if name in WINDOWS}
        return in_chunks.store.windows(**shape).batches(**options)

    made = batches(**change)
    with pytest.raises(StateError, match=message):
        made.load_state_dict(saved(batches()))


def test_a_state_is_small_whatever_is_asked_for(tmp_path: Path):
    with store_spec.create_store(tmp_path / "s.zarr", inputs=("int8", (600,)), labels=("int8", ())) as writer:
        writer.append(np.ones((9, 600), "int8"), np.ones(9, "int8"), source="wide")
    store = store_spec.open_store(tmp_path / "s.zarr")

    def batches(features: Any) -> Any:
        return store.windows(2, features=features, future=range(300)).batches(2)

    state = saved(batches(range(500)))
    assert len(json.dumps(state)) < 1000
    batches(range(500)).load_state_dict(state)
    for others in (range(499), range(1, 501), [1, 0, *range(2, 500)]):
        with pytest.raises(StateError, match=r"of features=\[500, '[0-9a-f]{16}'\], and these"):
            batches(others).load_state_dict(state)


def in_each_way(store: store_spec.Store, normalize: Any) -> list[Any]:
    return [
        store.windows(5, normalize=normalize).batches(8, shuffle=True, memory=MEMORY),
        store.padded(4, shuffle=True, normalize=normalize),
        store.streams(2, 5, normalize=normalize),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "found",
    [
        lambda store: store.stats(),
        lambda store: store.stats().minmax(),
        lambda store: store.stats().robust(0.1, 0.8),
        lambda store: store.split("train", {"train": 0.5, "val": 0.5}).stats(),
    ],
    ids=["standard", "minmax", "robust", "of a split"],
)
def test_an_epoch_goes_on_with_the_statistics_that_it_was_begun_with(tmp_path: Path, found: Any):
    """As long as they come from the store, which has grown; a later state is loaded after an earlier one too."""
    before, after = grown(tmp_path / "s.zarr")
    begun, longer = in_each_way(before, found(before)), in_each_way(after, found(after))
    others = in_each_way(after, found(after))
    for one, other, third in zip(begun, longer, others, strict=True):
        next(one)
        state = saved(one)
        other.load_state_dict(state)
        assert saved(other) == state  # so that it can be gone on with once more
        expected = list(one)
        assert all_same(list(other), expected)
        next(third)
        later, left = saved(third), list(third)
        assert len(left) != len(expected)
        other.load_state_dict(later)
        assert all_same(list(other), left)
    windows = pickle.loads(pickle.dumps(after.windows(5, normalize=found(after))))
    resumed = windows.batches(8, shuffle=True, memory=MEMORY)
    resumed.load_state_dict(saved(in_each_way(before, found(before))[0]))
    assert all_same(list(resumed), list(in_each_way(before, found(before))[0]))


def test_the_statistics_of_another_store_stay_what_they_are(tmp_path: Path):
    before, after = grown(tmp_path / "s.zarr")
    with store_spec.create_store(tmp_path / "t.zarr", inputs=after.schema.inputs, labels=after.schema.labels) as writer:
        for number in range(50):
            writer.append(*(rows * number for rows in after[number % 30]), source=f"t{number}")
    stats = store_spec.open_store(tmp_path / "t.zarr").stats()
    for begun, longer in zip(in_each_way(before, stats), in_each_way(after, stats), strict=True):
        next(begun)
        longer.load_state_dict(saved(begun))
        assert all_same(list(longer), list(begun))


def test_a_state_of_fewer_sequences_says_whose_statistics_are_needed(tmp_path: Path):
    def batches(store: store_spec.Store) -> list[Any]:
        weights = np.arange(len(store)) / len(store)
        by_numbers = replace(store.stats().standard(), statistics=None)  # as of a scaler that was written down
        return [
            *in_each_way(store, by_numbers),
            store.windows(5).batches(8, shuffle=True, memory=MEMORY, weights=weights),
        ]

    before, after = grown(tmp_path / "s.zarr")
    for begun, longer, same in zip(*map(batches, (before, after, after.first(20))), strict=True):
        next(begun)
        state = saved(begun)
        with pytest.raises(StateError, match=r"had 20 sequences then and has 30 now: .* from store.first\(20\)"):
            longer.load_state_dict(state)
        same.load_state_dict(state)
        assert all_same(list(same), list(begun))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_state_that_is_refused_leaves_batches_where_they_are(tmp_path: Path, seed: int):
    """On a store that has grown the epoch of the state was planned before it could be refused."""
    before, after = grown(tmp_path / "s.zarr")
    state = saved(before.windows(5).batches(8, shuffle=True, seed=0, memory=MEMORY))

    def begun() -> Any:
        batches = after.windows(5).batches(8, shuffle=True, seed=seed, memory=MEMORY)
        for _ in range(3):
            next(batches)
        return batches

    batches = begun()
    with pytest.raises(StateError, match="seed=0"):
        batches.load_state_dict(state)
    assert saved(batches) == saved(begun())
    assert all_same(list(batches), list(begun()))


def test_a_state_of_too_few_windows_for_the_ranks_is_refused_each_time(tmp_path: Path):
    before, after = grown(tmp_path / "s.zarr")
    few = before.select([0]).windows(19, target="last")
    state = saved(few.batches(4, memory=MEMORY))
    batches = after.select([0, 20, 21]).windows(19, target="last").batches(1, world_size=4, memory=MEMORY)
    kept = saved(batches)
    for _ in range(2):
        with pytest.raises(StateError, match="continue here: 2 samples cannot be distributed to world_size=4 ranks"):
            batches.load_state_dict(state)
        assert saved(batches) == kept
    assert len(list(batches)) == len(batches)


def test_padded_batches_with_static_columns_go_on_where_the_store_has_grown(tmp_path: Path):
    def append(writer: Any, first: int, count: int) -> None:
        for number in range(first, first + count):
            rows = np.full((1 + number % 7, 1), number, "float64")
            writer.append(rows, rows, source=f"s{number}", columns={"age": 1.5 * number})

    rows = ("float64", (1,))
    with store_spec.create_store(tmp_path / "s.zarr", inputs=rows, labels=rows, columns={"age": "float64"}) as writer:
        append(writer, 0, 12)
    begun = store_spec.open_store(tmp_path / "s.zarr").padded(3, shuffle=True, static=["age"])
    next(begun)
    with store_spec.open_store(tmp_path / "s.zarr", mode="a") as writer:
        append(writer, 12, 9)
    longer = store_spec.open_store(tmp_path / "s.zarr").padded(3, shuffle=True, static=["age"])
    longer.load_state_dict(saved(begun))
    assert all_same(list(longer), list(begun))


WINDOWS = ("window", "horizon", "steps", "features", "normalize")


def test_a_state_of_another_store_is_refused(in_chunks: Numbered, tmp_path: Path):
    before, after = grown(tmp_path / "s.zarr")
    state = saved(before.windows(4).batches(4, memory=MEMORY))
    with pytest.raises(StateError, match="of a store of 20 sequences, and this one has 18"):
        in_chunks.store.windows(4).batches(4, memory=MEMORY).load_state_dict(state)
    refused("selected=20, and these batches are of 19; take the selection of the run", state, batches_of(after[1:]))
    others = batches_of(after.select([1, 0, *range(2, 30)]))
    refused("contents='[0-9a-f]+', and .* of '[0-9a-f]+'; these rows are of another store", state, others)


def batches_of(store: Any) -> Any:
    return store.windows(4).batches(4, memory=MEMORY)


def test_what_is_no_state_is_refused(in_chunks: Numbered):
    batches = batches_of(in_chunks.store)
    state = saved(batches)
    refused("is not a state: pass what state_dict returned", 17, batches_of(in_chunks.store))
    refused("is not a state", {}, batches_of(in_chunks.store))
    refused("format 2, and this version reads 1; upgrade", state | {"format": 2}, batches_of(in_chunks.store))
    refused("kind='padded', and these batches are", state | {"kind": "padded"}, batches_of(in_chunks.store))
    for name in ("format", "store", "parameters", "step"):
        refused("is not a state", state | {name: None}, batches_of(in_chunks.store))
    refused("after 999 batches, and the epoch has", state | {"step": 999}, batches_of(in_chunks.store))
    refused("0 batches of all ranks, .* do not hold 5, but 0", state | {"taken": 5}, batches_of(in_chunks.store))


def test_the_last_batches_of_an_epoch_go_on_with_other_ranks_where_one_window_is_left_for_each(in_chunks: Numbered):
    """After the last whole round each number of ranks has batches of its own."""
    windows = in_chunks.store.select([6, 12]).windows(4)  # 96 + 60 windows: 6 rounds of 24, and 12 left

    def batches(world_size: int) -> Any:
        return windows.batches(24 // world_size, memory=100_000, world_size=world_size)

    one = batches(1)
    states = [saved(one), *(saved(one) for _ in one)]
    assert [state["taken"] for state in states] == [0, 24, 48, 72, 96, 120, 144, 156]
    for state in states:
        batches(2).load_state_dict(state)
    five = [windows.batches(31, memory=100_000, rank=rank, world_size=5) for rank in range(5)]  # 155, and 1 left
    for batches_of_one in five:
        next(batches_of_one)
    rest = windows.batches(155, memory=100_000, index=True)
    rest.load_state_dict(saved(five[0]))
    assert [batch[-1].tolist() for batch in rest] == [[151, 152, 153, 154, 155]]
    one = windows.batches(155, memory=100_000)
    next(one)
    with pytest.raises(StateError, match=r"1 samples that are left of the epoch .* world_size=5 .* use fewer ranks"):
        five[0].load_state_dict(saved(one))


def test_a_state_of_another_release_that_orders_otherwise_is_refused(in_chunks: Numbered):
    state = saved(batches_of(in_chunks.store))
    state["parameters"]["order"] = 0
    refused(f"order=0, and these batches are of {VERSION}", state, batches_of(in_chunks.store))


def test_a_later_numpy_that_shuffles_otherwise_is_noticed(in_chunks: Numbered):
    state = saved(batches_of(in_chunks.store))
    state["parameters"]["generator"] = "00000000"
    refused("generator='00000000', and these batches are of", state, batches_of(in_chunks.store))
