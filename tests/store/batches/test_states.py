"""An epoch continues from a state with the same batches:

in another process, on other ranks, also if it is stopped several times.
"""

import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import StateError, WindowError
from store_spec.windows.order import VERSION
from tests.store.kinds import KINDS, begin, chunks_read, every_kind
from tests.store.oracle import store_of
from tests.store.window_oracle import Written, all_same

Stores = tuple[store_spec.Store, store_spec.Store]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """Return a store of 20 sequences that has everything a store can have, and the same store after 10 more."""
    path, rng = tmp_path_factory.mktemp("grown") / "s.zarr", np.random.default_rng(0)
    options: dict[str, Any] = {"missing": "keep", "filled": True, "columns": {"age": "float64", "site": "string"}}

    def append(writer: store_spec.Writer, numbers: range) -> None:
        for number in numbers:
            length = 33 if number >= 20 else 20 if number % 3 == 0 else 13 + number
            x = rng.normal(size=(length, 2))
            x[rng.random(x.shape) < 0.02] = np.nan
            columns = {"age": 1.5 * number, "site": "ab"[number % 2]}
            writer.append(x, rng.normal(size=(length, 1)), source=f"s{number}", columns=columns, filled=x > 1)

    rows = ("float64", (2,)), ("float64", (1,))
    with store_spec.create_store(path, inputs=rows[0], labels=rows[1], chunk=128, shard=1024, **options) as writer:
        append(writer, range(20))
    before = store_spec.open_store(path)
    with store_spec.open_store(path, mode="a") as writer:
        append(writer, range(20, 30))
    return before, store_spec.open_store(path)


def saved(batches: Any) -> Any:
    """Return the state as it is after it was saved as JSON."""
    text = json.dumps(batches.state_dict())
    assert len(text) < 900
    return json.loads(text)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("windows", {"shuffle": True, "missing": "skip", "value_mask": True, "static": ["age"], "normalize": "sequence"}),
    ("windows", {"shuffle": True, "weights": np.arange(20), "rank": 1, "world_size": 2, "batch_size": 40}),
    ("windows", {"stride": 3, "phase": "random", "short": "pad", "batch_size": 11, "seed": 3, "epoch": 2}),
    ("windows", {"shuffle": True, "memory": 20_000, "batch_size": 20, "rank": 2, "world_size": 3, "drop_last": True}),
    ("padded", {}),
    ("padded", {"shuffle": True, "seed": 3, "epoch": 1, "value_mask": True, "static": ["age"], "lengths": True}),
    ("padded", {"shuffle": np.True_, "bucket": np.True_, "side": "start", "drop_last": np.True_}),
    ("padded", {"max_steps": 120, "shuffle": True, "bucket": True, "truncate": 15, "truncate_side": "start"}),
    ("padded", {"batch_size": 2, "max_steps": 120, "shuffle": True, "rank": 1, "world_size": 2}),
    ("packed", {}),
    ("packed", {"shuffle": True, "value_mask": True, "static": ["age"], "max_steps": 7}),
    ("packed", {"steps": (np.int64(0), np.float32(0.5))}),
    ("streams", {}),
    ("streams", {"shuffle": True, "seed": 3, "epoch": 1, "mask": True, "value_mask": True, "static": ["age"]}),
    ("streams", {"align": np.True_, "shuffle": True, "weights": np.arange(20)}),
    ("streams", {"rank": 1, "world_size": 2}),
]


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_an_epoch_continues_from_a_state_with_the_same_batches(grown: Stores, kind: str, options: dict[str, Any]):
    """After each number of batches, including none and all; pickled iterators continue too."""
    whole = list(begin(grown[0], kind, **options))
    assert len(whole) > 2
    batches = begin(grown[0], kind, **options)
    for step in range(len(whole) + 1):
        state = saved(batches)
        again = begin(grown[0], kind, **options)
        next(again, None)
        again.load_state_dict(state)
        for copy in (again, pickle.loads(pickle.dumps(batches))):
            assert copy.state_dict() == state
            assert len(copy) == len(whole)
            assert all_same(list(copy), whole[step:])
        next(batches, None)


@every_kind
def test_a_state_is_loaded_without_reading_what_comes_before(by_step, kind, monkeypatch):
    """Nothing is read before the next batch, and then only what this and later batches need."""
    options: dict[str, Any] = {"windows": {"batch_size": 10, "memory": 6000}, "streams": {"batch_size": 1}}.get(
        kind, {}
    )
    begun = begin(by_step.store, kind, **options)
    for _ in range(len(begun) - 1):
        next(begun)
    state = saved(begun)
    wanted = list(begun)
    read = chunks_read(monkeypatch)
    resumed = begin(by_step.store, kind, **options)
    resumed.load_state_dict(state)
    assert not read
    assert all_same(list(resumed), wanted)
    every = {chunk for name, chunk in read if name == "inputs"}
    first = 0 if kind == "packed" else 25  # of 39; pieces are packed wherever there is room
    assert every
    assert len(every) < 14
    assert min(every) >= first


SCRIPT = """
import json, sys, store_spec
from tests.store.kinds import begin
store = store_spec.open_store(sys.argv[1])
for kind, state in json.loads(sys.argv[2]).items():
    batches = begin(store, kind, shuffle=True, seed=5)
    batches.load_state_dict(state)
    print(json.dumps([batch.inputs.tolist() for batch in batches]))
"""


def test_another_process_continues_with_the_same_batches(by_step: Written):
    begun = {kind: begin(by_step.store, kind, shuffle=True, seed=5) for kind in KINDS}
    for batches in begun.values():
        next(batches)
    states = json.dumps({kind: batches.state_dict() for kind, batches in begun.items()})
    command = [sys.executable, "-c", SCRIPT, str(by_step.store.path), states]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    for line, batches in zip(found, begun.values(), strict=True):
        assert json.loads(line) == [batch.inputs.tolist() for batch in batches]


OTHERS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "windows": [
        ({"window": 5}, "window=4, and these batches are of 5"),
        ({"horizon": 2}, "horizon=1, and these batches are of 2"),
        ({"steps": (0, 0.5)}, r"steps=None, and these batches are of \[0.0, 0.5\]"),
        ({"features": [0]}, r"features=None, and these batches are of \[0\]"),
        ({"batch_size": 5}, r"size \* world_size=30, and these batches are of 5"),
        ({"shuffle": False}, "shuffle=True, and these batches are of False"),
        ({"memory": 30_000}, "memory=256000000, and these batches are of 30000"),
        ({"missing": "skip"}, "missing='keep', and these batches are of 'skip'"),
        ({"phase": "random"}, "phase='first', and these batches are of 'random'"),
    ],
    "padded": [
        ({"batch_size": 5}, r"size \* world_size=4"),
        ({"max_steps": 400}, "max_steps=None"),
        ({"bucket": True}, "bucket=False"),
        ({"side": "start"}, "side='end'"),
        ({"truncate": 7}, "truncate=None"),
        ({"truncate_side": "start"}, "truncate_side='end'"),
    ],
    "packed": [
        ({"tokens": 40, "max_steps": 32}, "tokens=32, and these batches are of 40"),
        ({"max_steps": 20}, "max_steps=32, and these batches are of 20"),
    ],
    "streams": [({"batch_size": 3}, "batch_size"), ({"window": 6}, "window=20"), ({"align": True}, "align=False")],
}
OF_ALL: list[tuple[dict[str, Any], str]] = [
    ({"seed": 1}, "seed=0, and these batches are of 1"),
    ({"epoch": 1}, "epoch=0, and these batches are of 1"),
    ({"world_size": 2}, "world_size"),
    ({"drop_last": True}, "drop_last=False, and these batches are of True"),
    ({"value_mask": True}, "value_mask=False, and these batches are of True"),
    ({"static": ["age"]}, "static"),
    ({"weights": np.ones(20)}, "weights="),
    ({"normalize": "sequence"}, "normalize=None, and these batches are of 'sequence'"),
]


@every_kind
def test_a_state_of_other_parameters_is_refused_with_both_values_and_changes_nothing(grown: Stores, kind: str):
    state = saved(begin(grown[0], kind, shuffle=True))
    for change, message in OTHERS[kind] + OF_ALL:
        batches = begin(grown[0], kind, **{"shuffle": True} | change)
        next(batches)
        with pytest.raises(StateError, match=f"{message}.* continues with the parameters that it was started with"):
            batches.load_state_dict(state)
        assert batches.state_dict()["step"] == 1
    for other in set(KINDS) - {kind}:
        with pytest.raises(StateError, match=f"kind='{kind}', and these batches are of '{other}'"):
            begin(grown[0], other, shuffle=True).load_state_dict(state)
    with pytest.raises(StateError, match=r"selected=20, and these batches are of 5; take the selection"):
        begin(grown[0][:5], kind, shuffle=True).load_state_dict(state)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("others", [1, 2, 3])
@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("kind", ["windows", "padded", "packed"])
def test_workers_at_different_batches_continue_with_other_ranks(by_step, tmp_path, kind, ranks, others, workers):
    """Each worker saves its own state, as with torchdata; none of 13 windows or sequences, six per step, is lost."""
    windows = by_step.store.select([6]).windows(88, target="last")
    assert len(windows) == 13
    store = store_of(tmp_path / "s", [np.ones((4, 1), "int8")] * 13, [np.ones(4, "int8")] * 13)

    def begin(size: int, **options: Any) -> Any:
        if kind == "packed":  # each row is a sequence
            return store.packed(4, batch_size=size, **options)
        return windows.batches(size, **options) if kind == "windows" else store.padded(size, **options)

    def of(world_size: int) -> list[list[Any]]:
        return [
            [
                begin(6 // world_size, rank=rank, world_size=world_size, index=True).of_worker(worker, workers)
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
            assert others > 1, error  # one window is left for each rank  # noqa: PT017
            continue
        seen += [batch[-1] for rank in going for batches in rank for batch in batches]
        assert sorted(np.concatenate(seen).tolist()) == list(range(13))


def test_an_impossible_worker_is_refused_and_changes_nothing(by_step: Written):
    batches, other = begin(by_step.store, "windows"), begin(by_step.store, "windows")
    with pytest.raises(WindowError, match="worker=2 of 2 workers; they are 0 to 1"):
        batches.of_worker(2, 2)
    for each in (batches, other):
        next(each)
        next(each)
    assert saved(batches) == saved(other)


def test_a_state_is_small_with_any_options(tmp_path: Path):
    store = store_of(tmp_path / "s", [np.ones((9, 600), "int8")], [np.ones(9, "int8")])

    def batches(features: Any) -> Any:
        return store.windows(2, features=features, future=range(300)).batches(2)

    state = saved(batches(range(500)))
    assert len(json.dumps(state)) < 1000
    batches(range(500)).load_state_dict(state)
    for others in (range(499), range(1, 501), [1, 0, *range(2, 500)]):
        with pytest.raises(StateError, match=r"of features=\[500, '[0-9a-f]{16}'\], and these"):
            batches(others).load_state_dict(state)


def test_a_state_of_labels_that_are_no_longer_the_inputs_is_refused(tmp_path: Path):
    rows = [np.arange(9, dtype="int16"), np.arange(1, 9, dtype="int16")]
    before = store_of(tmp_path / "t", rows, rows)
    state = saved(before.windows(3, normalize=before.stats()).batches(2))
    with store_spec.open_store(tmp_path / "t", mode="a") as writer:
        writer.append(rows[0], rows[0] + np.int16(1), source="other")
    after = store_spec.open_store(tmp_path / "t")
    first = after.first(2)
    with pytest.raises(StateError, match="the state is of normalizes_labels=True, and these batches are of False"):
        first.windows(3, normalize=first.stats()).batches(2).load_state_dict(state)


@every_kind
def test_a_state_of_a_store_that_has_grown_says_how_to_continue(grown: Stores, kind: str):
    def batches(store: store_spec.Store) -> Any:
        weights = np.arange(len(store)) / len(store)
        return begin(store, kind, shuffle=True, static=["age"], weights=weights, normalize=store.stats())

    before, after = grown
    begun = batches(before)
    next(begun)
    state = saved(begun)
    with pytest.raises(StateError, match=r"selected=20, and these .* of 30; .* weights from store.first\(20\)"):
        batches(after).load_state_dict(state)
    same = batches(after.first(20))
    same.load_state_dict(state)
    assert saved(same) == state
    assert all_same(list(same), list(begun))


def test_other_ranks_continue_the_last_batches_if_each_has_a_window_left(by_step: Written):
    """After the last whole round, the batches depend on the number of ranks."""
    windows = by_step.store.select([6, 12]).windows(4)  # 96 + 60 windows: 6 rounds of 24, and 12 left

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


def refused(message: str, state: Any, store: store_spec.Store, kind: str = "windows") -> None:
    """Check that a state is refused with this reason, and that this leaves the batches unchanged."""
    batches, fresh = begin(store, kind), begin(store, kind)
    for each in (batches, fresh):
        next(each)
    with pytest.raises(StateError, match=message):
        batches.load_state_dict(state)
    assert saved(batches) == saved(fresh)
    assert all_same(list(batches), list(fresh))


@every_kind
def test_a_state_of_another_store_is_refused(grown: Stores, by_step: Written, kind: str):
    before, after = grown
    state = saved(begin(before, kind))
    refused("selected=20, and these batches are of 18; take the selection", state, by_step.store, kind)
    refused("sequences=20, and these batches are of 21; take the selection of the run", state, after[1:21], kind)
    others = after.select([1, 0, *range(2, 20)])
    refused("contents='[0-9a-f]+', and .* of '[0-9a-f]+'; these rows are of another store", state, others, kind)


@every_kind
def test_invalid_states_are_refused(by_step: Written, kind: str):
    store = by_step.store
    state = saved(begin(store, kind))
    for wrong in (17, {}, *(state | {name: None} for name in ("format", "store", "parameters", "step"))):
        refused("is not a state: pass what state_dict returned", wrong, store, kind)
    refused("format 2, and this version reads 1; upgrade", state | {"format": 2}, store, kind)
    refused("after 999 batches, and the epoch has", state | {"step": 999}, store, kind)
    if kind != "streams":
        refused("0 batches of all ranks, .* do not hold 5, but 0", state | {"taken": 5}, store, kind)


@pytest.mark.parametrize("taken", [None, 4, 13, "12", [12]])
def test_a_state_that_no_ranks_can_have_saved_is_refused(by_step: Written, taken: Any):
    batches = by_step.store[:13].padded(3, bucket=True)
    list(itertools.islice(batches, 4))
    with pytest.raises(StateError, match=r"4 batches of all ranks.* do not hold .* but 1[12]"):
        batches.load_state_dict(batches.state_dict() | {"taken": taken})


@pytest.mark.parametrize(("name", "value"), [("order", 0), ("generator", "00000000")])
def test_a_state_of_a_release_or_a_numpy_that_shuffles_otherwise_is_refused(by_step: Written, name: str, value: Any):
    state = saved(begin(by_step.store, "windows"))
    here = VERSION if name == "order" else ""
    state["parameters"][name] = value
    refused(f"{name}={value!r}, and these batches are of '?{here}", state, by_step.store)


TOGETHER = 12  # samples that all ranks take in one step
WORLDS = (1, 2, 3, 4, 6)
EXAMPLES = int(os.environ.get("SEQZARR_RUNS", "2"))  # set this higher to look for rare failures
Samples = list[tuple[Any, ...]]  # of one batch, each as the bytes of all its arrays


def append(path: Path, lengths: list[int]) -> None:
    """Append sequences in which no two rows are equal."""
    known = len(store_spec.open_store(path))
    with store_spec.open_store(path, mode="a") as writer:
        for number, steps in enumerate(lengths, known):
            rows = number * 100 + np.arange(steps, dtype="f8").reshape(-1, 1)
            writer.append(rows, -rows, source=f"s{number}")


OPTIONS: dict[str, dict[str, Any]] = {
    "windows": {"window": 3, "short": "pad", "memory": "6kB", "index": True},
    "padded": {"bucket": True},
    "packed": {"tokens": 8},
    "streams": {"window": 4, "mask": True},
}


def samples_of(batch: Any, kind: str) -> Samples:
    if kind in ("padded", "packed"):  # padding depends on the other sequences
        return [(x[mask].tobytes(), y[mask].tobytes()) for x, y, mask in zip(*batch[:3], strict=True)]
    return [tuple(np.asarray(array).tobytes() for array in sample) for sample in zip(*batch, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("part", [False, True], ids=["all", "a split"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller seed does not make a simpler run
)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_run_that_is_stopped_repeatedly_yields_each_sample_once(tmp_path_factory, kind, part, seed):
    path = tmp_path_factory.mktemp("run") / "s.zarr"
    rng = np.random.default_rng(seed)
    with store_spec.create_store(path, inputs=("float64", (1,)), labels=("float64", (1,)), chunk=64, shard=256):
        pass
    append(path, rng.integers(1, 30, rng.integers(20, 35)).tolist())
    normalized, sequences = rng.random() < 0.5, len(store_spec.open_store(path))

    def begin_ranks(world: int) -> list[Any]:
        store: Any = store_spec.open_store(path).first(sequences)  # it grows meanwhile
        store = store.split("train", {"train": 0.7, "val": 0.3}) if part else store
        normalize = store.stats() if normalized else None
        options = {"shuffle": True, "seed": 4, "batch_size": TOGETHER // world, "normalize": normalize}
        return [begin(store, kind, rank=rank, world_size=world, **options, **OPTIONS[kind]) for rank in range(world)]

    (alone,) = begin_ranks(1)
    wanted = [sorted(samples_of(batch, kind)) for batch in alone]
    ranks = begin_ranks(rng.choice(WORLDS))
    taken: list[Samples] = []
    while len(taken) < len(ranks[0]):
        for _ in range(rng.integers(0, 5)):
            if len(taken) < len(ranks[0]):
                taken.append(sorted(sample for rank in ranks for sample in samples_of(next(rank), kind)))
        states = [json.loads(json.dumps(rank.state_dict())) for rank in ranks]
        assert all(state == states[0] for state in states)
        if rng.random() < 0.5:
            append(path, rng.integers(1, 30, rng.integers(1, 4)).tolist())
        others = begin_ranks(rng.choice(WORLDS))
        left = sum(map(len, wanted)) - sum(map(len, taken))
        try:
            for rank in others:
                rank.load_state_dict(states[0])
        except StateError as error:
            assert re.search(rf"{left} samples that are left of the epoch cannot be distributed to", str(error))  # noqa: PT017
            assert 0 < left < len(others)
            others = begin_ranks(len(ranks))
            for rank in others:
                rank.load_state_dict(states[0])
        ranks = others
    for rank in ranks:
        assert list(rank) == []
    assert sorted(chain.from_iterable(taken)) == sorted(chain.from_iterable(wanted))
    # If fewer samples than ranks are left, they are divided into two batches together with the last whole one.
    assert sum(one != other for one, other in zip(taken, wanted, strict=True)) <= 2
