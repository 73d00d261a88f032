"""Padded batches of whole sequences, against the arrays that were written."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import ChecksumError, StateError, WindowError
from store_spec.sequences.buckets import PaddedOptions
from store_spec.sequences.slices import Arrays, SliceReader, Slices
from tests.store.oracle import Recipe, append, make, write
from tests.store.window_oracle import LENGTHS, Numbered, all_same, keys, numbered, selections

Samples = list[tuple[Any, ...]]


@pytest.fixture(scope="module", params=["step", "sequence", "own"])
def given_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("padded") / "s.zarr", request.param, chunk=8)


@pytest.fixture(scope="module")
def by_step(tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("padded") / "step.zarr", "step", chunk=8)


def unpadded(batch: tuple[Any, ...], axis: str, side: str = "end") -> Samples:
    """Return the sequences of a batch, after checking where its padding lies, and that it is zero."""
    inputs, labels, mask = batch[:3]
    label_mask = {"step": mask, "own": batch[-1], "sequence": None}[axis]
    assert len(batch) == (4 if axis == "own" else 3)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in batch)

    def real(array: Any, mask: Any, side: str) -> list[Any]:
        assert mask.dtype == bool
        assert mask.shape == array.shape[:2]
        lengths = mask.sum(axis=1).tolist()
        assert mask.shape[1] == max(lengths)
        assert not array[~mask].any()
        found = []
        for rows, places, length in zip(array, mask, lengths, strict=True):
            taken = slice(0, length) if side == "end" else slice(len(rows) - length, len(rows))
            assert places[taken].all()
            found.append(rows[taken])
        return found

    xs = real(inputs, mask, side)
    ys = list(labels) if label_mask is None else real(labels, label_mask, "end" if axis == "own" else side)
    return list(zip(xs, ys, strict=True))


def cut(sequences: Samples, axis: str, most: int | None, side: str) -> Samples:
    """Return the first or last steps of sequences."""
    if most is None:
        return sequences
    taken = slice(0, most) if side == "end" else slice(-most, None)
    return [(x[taken], y[taken] if axis == "step" else y) for x, y in sequences]


@settings(max_examples=40, deadline=None)
@given(selection=selections(), size=st.integers(1, 20), shuffle=st.booleans())
def test_padded_batches_hold_each_sequence_once_with_steps_in_order(
    given_store: Numbered, selection: list[int], size: int, *, shuffle: bool
):
    """Those of no steps, too; in the order of the store unless shuffled."""
    axis = given_store.store.schema.label_axis
    wanted = keys([given_store.sequences[number] for number in selection])
    batches = given_store.store.select(selection).padded(size, shuffle=shuffle)
    number = len(batches)
    found = [unpadded(batch, axis) for batch in batches]
    assert [len(batch) for batch in found[:-1]] == [size] * (number - 1 if number else 0)
    assert len(found) == number
    samples = keys([sequence for batch in found for sequence in batch])
    assert (sorted(samples) if shuffle else samples) == (sorted(wanted) if shuffle else wanted)


sides = st.sampled_from(["start", "end"])
options = st.fixed_dictionaries(
    {
        "batch_size": st.none() | st.integers(1, 9),
        "max_steps": st.none() | st.integers(1, 300),
        "bucket": st.booleans(),
        "shuffle": st.booleans(),
        "epoch": st.integers(0, 5),
        "side": sides,
        "truncate": st.none() | st.integers(1, 120),
        "truncate_side": sides,
        "memory": st.sampled_from([1, 10_000, "256MB"]),
    }
)


@given(selection=selections(), asked=options, ranks=st.integers(1, 4))
def test_all_ranks_together_hold_each_sequence_once_within_every_limit(
    given_store: Numbered, selection: list[int], asked: dict[str, Any], ranks: int
):
    """In equally many batches, none of them empty; `padding` is the share that their masks have."""
    axis, store = given_store.store.schema.label_axis, given_store.store.select(selection)
    size, max_steps = asked["batch_size"], asked["max_steps"]
    wanted = cut([given_store.sequences[n] for n in selection], axis, asked["truncate"], asked["truncate_side"])
    try:
        shares = [store.padded(**asked, rank=rank, world_size=ranks) for rank in range(ranks)]
    except WindowError as error:
        impossible = {
            "neither batch_size nor max_steps": size is None and max_steps is None,
            "and a whole batch max_steps=": max_steps and max((len(x) for x, _ in wanted), default=0) > max_steps,
            "cannot be distributed to world_size=": ranks > 1,
        }
        assert [held for text, held in impossible.items() if text in str(error)] == [True]  # noqa: PT017
        return
    found, computed, real = [], 0, 0
    assert len({len(share) for share in shares}) == 1
    for share in shares:
        batches = list(share)
        assert len(batches) == len(share)
        for batch in batches:
            mask = batch[2]
            assert 1 <= len(mask) <= (size or len(mask))
            assert mask.size <= (max_steps or mask.size)
            computed, real = computed + mask.size, real + mask.sum()
            found += unpadded(batch, axis, asked["side"])
    assert sorted(keys(found)) == sorted(keys(wanted))
    assert shares[0].padding == (1 - real / computed if computed else 0)


@pytest.mark.parametrize("side", ["start", "end"])
@pytest.mark.parametrize("truncate", [None, 5])
def test_lengths_are_given_where_they_are_asked_for(given_store: Numbered, side: Any, truncate: int | None):
    """Of the steps that are taken, and on the own axis of label sequences; before static columns."""
    store = given_store.store
    asked: dict[str, Any] = {"side": side, "truncate": truncate, "static": ["length"]}
    plain = list(store.padded(4, **asked))
    found = list(store.padded(4, **asked, lengths=True))
    masks = 2 if store.schema.label_axis == "own" else 1
    for batch, other in zip(found, plain, strict=True):
        assert all_same([batch[: 2 + masks] + batch[-1:]], [other])
        lengths = batch[2 + masks : -1]
        assert [each.dtype for each in lengths] == [np.dtype(np.int64)] * masks
        assert [each.tolist() for each in lengths] == [mask.sum(axis=1).tolist() for mask in other[2 : 2 + masks]]
        assert lengths[0].tolist() == np.minimum(batch[-1][:, 0], truncate or 1000).tolist()


@pytest.mark.parametrize("asked", [{}, {"shuffle": True}, {"bucket": True, "shuffle": True}, {"max_steps": 110}])
def test_the_index_tells_which_sequence_each_row_is(given_store: Numbered, asked: dict[str, Any]):
    """Also of a view, whose numbers they are; the last array of all."""
    store = given_store.store[3:17]
    plain = list(store.padded(4, **asked, static=["length"]))
    found = list(store.padded(4, **asked, static=["length"], index=True))
    for batch, other in zip(found, plain, strict=True):
        assert all_same([batch[:-1]], [other])
        assert (batch[-1].dtype, batch[-1].flags.owndata) == (np.dtype(np.int64), True)
        for x, mask, number in zip(batch[0], batch[2], batch[-1].tolist(), strict=True):
            np.testing.assert_array_equal(x[mask], store[number][0])
    assert sorted(number for batch in found for number in batch[-1]) == list(range(14))


def lengths_of(batches: Any) -> list[list[int]]:
    return [batch[2].sum(axis=1).tolist() for batch in batches]


def test_the_order_of_sequences_follows_from_seed_and_epoch(given_store: Numbered):
    def order(**more: Any) -> list[Any]:
        return list(itertools.chain(*lengths_of(given_store.store.padded(4, shuffle=True, **more))))

    first = order(seed=1, epoch=0)
    assert order(seed=1, epoch=0) == first
    others = [order(seed=1, epoch=1), order(seed=0, epoch=1), order(seed=2)]
    assert first not in others
    assert all(sorted(each) == sorted(LENGTHS) for each in others)


def test_the_order_is_the_same_on_every_platform_and_version(by_step: Numbered):
    """Golden: whoever changes one of these changes what a state of an older version goes on with."""
    store = by_step.store
    assert lengths_of(store.padded(7, shuffle=True, seed=3, epoch=2)) == GOLDEN["shuffled"]
    assert lengths_of(store.padded(4, bucket=True)) == GOLDEN["buckets"]
    assert lengths_of(store.padded(3, bucket=True, shuffle=True, seed=3, epoch=2)) == GOLDEN["shuffled buckets"]
    assert lengths_of(store.padded(max_steps=110, bucket=True, shuffle=True)) == GOLDEN["shuffled budget"]


GOLDEN = {
    "shuffled": [[20, 0, 8, 1, 8, 5, 0], [0, 3, 40, 64, 100, 15, 1], [33, 1, 7, 2]],
    "buckets": [[100, 64, 40, 33], [20, 15, 8, 8], [7, 5, 3, 2], [1, 1, 1, 0], [0, 0]],
    "shuffled buckets": [[15, 100, 33], [1, 0, 0], [40, 20, 64], [8, 2, 7], [1, 1, 0], [5, 8, 3]],
    "shuffled budget": [[15, 33], [64], [5, 8, 7, 1, 0, 1, 3, 8, 0, 2, 1, 0], [100], [40, 20]],
}


def test_buckets_pad_little_and_mix_anew_each_epoch():
    """A sequence meets others in each epoch, most of those that are about as long as it is in the end."""
    lengths = np.random.default_rng(0).permutation(np.arange(1, 1001))
    meetings: list[Counter[int]] = []
    for epoch in range(20):
        plan = PaddedOptions(batch_size=10, bucket=True, shuffle=True, epoch=epoch).plan(lengths)
        assert plan.padding(lengths) < 0.05
        assert PaddedOptions(batch_size=10, shuffle=True).plan(lengths).padding(lengths) > 0.4
        batches = [lengths[plan.order[a:b]] for a, b in itertools.pairwise(plan.first)]
        assert {len(batch) for batch in batches} == {10}
        (mine,) = [batch for batch in batches if 500 in batch]
        meetings.append(Counter(mine.tolist()))
        longest = [batch.max() for batch in batches]
        assert abs(np.corrcoef(longest, np.arange(100))[0, 1]) < 0.4
    assert len({tuple(sorted(each)) for each in meetings}) == 20
    assert len(set().union(*meetings)) > 50


def test_a_budget_is_filled_where_lengths_are_alike():
    lengths = np.full(1000, 33)
    plan = PaddedOptions(max_steps=4096, bucket=True, shuffle=True).plan(lengths)
    assert np.diff(plan.first).max() == 4096 // 33 == 124
    assert len(plan.first) - 1 == -(-1000 // 124)


@given(
    lengths=st.lists(st.integers(0, 50), max_size=60),
    size=st.none() | st.integers(1, 8),
    budget=st.integers(50, 300),
    ranks=st.integers(1, 3),
)
def test_a_budget_without_buckets_is_filled_in_turn(lengths: list[int], size: int | None, budget: int, ranks: int):
    """Against a loop: as many sequences for each rank as fit beside the longest of the round."""
    rounds: list[list[int]] = []
    for start in range(0, len(lengths), ranks):
        more = lengths[start : start + ranks]
        joined = (rounds[-1] if rounds else []) + more
        each = -(-len(joined) // ranks)
        if rounds and each <= (size or each) and each * max(joined) <= budget:
            rounds[-1] = joined
        else:
            rounds.append(more)
    try:
        plan = PaddedOptions(batch_size=size, max_steps=budget, world_size=ranks).plan(np.array(lengths, np.int64))
    except WindowError:
        assert len(rounds[-1]) < ranks
        assert all(len(each) < 2 * ranks for each in rounds[:-1])
        return
    if not rounds or len(rounds[-1]) >= ranks:
        assert plan.first[::ranks].tolist() == [0, *itertools.accumulate(map(len, rounds))]
    assert plan.order.tolist() == list(range(len(lengths)))


@given(count=st.integers(0, 80), bucket=st.booleans(), shuffle=st.booleans())
def test_what_meets_does_not_depend_on_how_many_ranks_share_it(count: int, *, bucket: bool, shuffle: bool):
    """12 sequences at a time for 1, 2 or 3 ranks; but for the last two rounds, which are dealt evenly."""
    lengths = np.random.default_rng(1).integers(0, 40, count)
    rounds = []
    for ranks in (1, 2, 3):
        if 0 < count < ranks:
            continue
        asked = PaddedOptions(batch_size=12 // ranks, world_size=ranks, bucket=bucket, shuffle=shuffle, drop_last=True)
        plan = asked.plan(lengths)
        rounds.append([plan.order[a:b].tolist() for a, b in itertools.pairwise(plan.first[::ranks].tolist())])
    assert all(each == rounds[0] for each in rounds)
    assert all(len(each) == 12 for each in rounds[0])
    assert len(rounds[0]) == count // 12


def test_drop_last_leaves_out_others_in_each_epoch():
    """Not always the shortest, though buckets begin with the longest."""
    lengths = np.arange(1, 12)
    left = set()
    for epoch in range(10):
        plan = PaddedOptions(batch_size=4, bucket=True, shuffle=True, drop_last=True, epoch=epoch).plan(lengths)
        assert np.diff(plan.first).tolist() == [4, 4]
        left |= set(range(11)) - set(plan.order.tolist())
    assert len(left) > 8


def counted(monkeypatch: pytest.MonkeyPatch, chunk: int = 8) -> list[int]:
    """Return a list to which each chunk of `inputs` is added that is decompressed."""
    read: list[int] = []
    rows = Snapshot.rows

    def counting(self: Snapshot, name: str, start: int, stop: int) -> Any:
        if name == "inputs":
            read.extend(range(start // chunk, -(-stop // chunk)))
        return rows(self, name, start, stop)

    monkeypatch.setattr(Snapshot, "rows", counting)
    return read


def test_a_batch_of_sequences_decompresses_each_chunk_once(given_store: Numbered, monkeypatch: pytest.MonkeyPatch):
    read = counted(monkeypatch)
    list(given_store.store.padded(len(LENGTHS), shuffle=True))
    assert sorted(read) == list(range(39))


def test_batches_that_fit_the_memory_decompress_their_chunks_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """100 sequences of 2 steps, 4 to a chunk, 2 to a batch: 100 chunks one by one, together little more than 25."""
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), chunk=8, shard=80)
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, [2] * 100)))
    read = counted(monkeypatch)
    list(store.padded(2, shuffle=True, memory=1))
    assert 90 <= len(read) <= 100
    read.clear()
    calls, read_some = list[int](), SliceReader.inputs

    def noted(reader: SliceReader, slices: Slices) -> dict[str, Arrays]:
        calls.append(len(slices.shapes))
        return read_some(reader, slices)

    monkeypatch.setattr(SliceReader, "inputs", noted)
    list(store.padded(2, shuffle=True))
    assert calls == [1, 8, 41]  # the first comes soon
    assert len(read) <= 2 + 16 + 25


def test_padded_leaves_no_batch_out_that_it_could_not_read(tmp_path: Path):
    """The error comes again: who catches it does not train on what is left as if it were all."""
    store = numbered(tmp_path / "s.zarr", "step", chunk=8).store
    for path in (tmp_path / "s.zarr" / "inputs").glob("c.*"):
        path.write_bytes(bytes(path.stat().st_size))
    batches = store.padded(4)
    for _ in range(2):
        with pytest.raises(ChecksumError):
            next(batches)


def test_what_can_be_read_comes_before_the_error(tmp_path: Path):
    """Though batches are read together, it is raised by the one that it is of."""
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), chunk=8, shard=8)
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, [8] * 20)))
    (tmp_path / "s.zarr" / "inputs" / "c.13").write_bytes(b"")
    batches = store.padded(1)
    assert len(list(itertools.islice(batches, 13))) == 13
    for _ in range(2):
        with pytest.raises(store_spec.StoreError, match=r"c\.13"):
            next(batches)


def test_a_sequence_that_is_cut_is_read_no_further(tmp_path: Path):
    """So what lies behind may be lost."""
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), chunk=8, shard=8)
    sequences = make(recipe, [80])
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", sequences))
    (tmp_path / "s.zarr" / "inputs" / "c.3").write_bytes(b"")
    for side, rows in (("end", slice(0, 24)), ("start", slice(80 - 40, 80))):
        length = len(range(*rows.indices(80)))
        x, y, mask = next(store.padded(1, truncate=length, truncate_side=side))  # type: ignore[arg-type]
        assert mask.all()
        assert x[0].tolist() == sequences[0].inputs[rows].tolist()
        assert y[0].tolist() == sequences[0].labels[rows].tolist()
    with pytest.raises(store_spec.StoreError, match=r"c\.3"):
        next(store.padded(1, truncate=25))


# States


def same_batches(found: Any, wanted: Any) -> bool:
    found, wanted = list(found), list(wanted)
    return len(found) == len(wanted) and all(
        len(a) == len(b) and all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))
        for a, b in zip(found, wanted, strict=True)
    )


resumable = [
    {"batch_size": 4},
    {"batch_size": 4, "shuffle": True, "seed": 3, "epoch": 1},
    {"batch_size": 3, "shuffle": True, "bucket": True, "side": "start", "drop_last": True},
    {"max_steps": 120, "shuffle": True, "bucket": True, "truncate": 50, "truncate_side": "start"},
    {"batch_size": 2, "max_steps": 120, "shuffle": True, "world_size": 2, "rank": 1},
]


@pytest.mark.parametrize("asked", resumable)
def test_an_epoch_goes_on_from_a_state_with_the_very_same_batches(given_store: Numbered, asked: Any):
    """After each number of batches, those of none and of all too; the state is of a few hundred bytes."""
    whole = list(given_store.store.padded(**asked))
    batches = given_store.store.padded(**asked)
    for step in range(len(whole) + 1):
        state = json.loads(json.dumps(batches.state_dict()))
        assert len(json.dumps(state)) < 600
        again = given_store.store.padded(**asked)
        next(again, None)
        again.load_state_dict(state)
        assert again.state_dict() == state
        assert same_batches(again, whole[step:])
        assert len(again) == len(whole)
        next(batches, None)


def test_a_state_reads_nothing_of_what_was_taken(by_step: Numbered, monkeypatch: pytest.MonkeyPatch):
    batches = by_step.store.padded(1)
    list(itertools.islice(batches, 12))
    state = batches.state_dict()
    again = by_step.store.padded(1)
    read = counted(monkeypatch)
    again.load_state_dict(state)
    assert not read
    next(again)
    first = int(by_step.store.starts[12])
    wanted = list(range(first // 8, -(-(first + LENGTHS[12]) // 8)))
    assert read[: len(wanted)] == wanted
    assert min(read) == wanted[0]  # of those after them, which are read ahead


def test_a_state_goes_on_in_another_process(by_step: Numbered):
    asked = {"batch_size": 4, "shuffle": True, "bucket": True, "seed": 5}
    batches = by_step.store.padded(**asked)  # type: ignore[arg-type]
    list(itertools.islice(batches, 2))
    code = (
        "import json, sys, store_spec\n"
        "path, asked, state = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])\n"
        "batches = store_spec.open_store(path).padded(**asked)\n"
        "batches.load_state_dict(state)\n"
        "print(json.dumps([batch[0].tolist() for batch in batches]))\n"
    )
    given_state = [str(by_step.store.path), json.dumps(asked), json.dumps(batches.state_dict())]
    found = subprocess.run([sys.executable, "-c", code, *given_state], check=True, capture_output=True, text=True)
    assert json.loads(found.stdout) == [batch[0].tolist() for batch in batches]


@pytest.mark.parametrize("bucket", [False, True])
def test_a_state_goes_on_with_other_ranks_that_share_the_same_batches(by_step: Numbered, *, bucket: bool):
    """Six sequences at a time: by two ranks, then by three, then by one; none is lost, none comes twice."""
    asked: dict[str, Any] = {"shuffle": True, "bucket": bucket}
    found, state = [], None
    for ranks, steps in ((2, 1), (3, 1), (1, 9)):
        for rank in range(ranks):
            batches = by_step.store.padded(6 // ranks, rank=rank, world_size=ranks, **asked)
            if state is not None:
                batches.load_state_dict(state)
            for batch in itertools.islice(batches, steps):
                found += unpadded(batch, "step")
        state = batches.state_dict()
    assert sorted(keys(found)) == sorted(keys(by_step.sequences))


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_state_goes_on_with_other_ranks_between_any_two_batches(
    tmp_path: Path,
    *,
    bucket: bool,
    shuffle: bool,
    drop_last: bool,
):
    """Twelve sequences at a time, of some numbers up to 27; two ranks share what one would have alone, and so on."""
    recipe = Recipe()
    write(recipe, tmp_path / "s.zarr", make(recipe, [1 + n * 7 % 11 for n in range(27)]))
    store = store_spec.open_store(tmp_path / "s.zarr")
    asked: dict[str, Any] = {"shuffle": shuffle, "bucket": bucket, "drop_last": drop_last}

    def taken(batches: Any) -> list[int]:
        of_plan, step, ranks = batches._plan.order, batches._next, batches._options.world_size
        return sorted(of_plan.order[: of_plan.first[step * ranks]].tolist())

    refused = 0
    for count, ranks, others in itertools.product(range(6, 28, 5), (1, 2, 3, 4, 6), (1, 2, 3, 4, 6)):
        some = store[:count]
        begun = some.padded(12 // ranks, world_size=ranks, **asked)
        for step in range(len(begun) + 1):
            begun._next = step  # as many batches as this are taken; what they hold is tested elsewhere
            going = some.padded(12 // others, world_size=others, **asked)
            state, left = begun.state_dict(), len(begun._plan.order.order) - begun.state_dict()["taken"]
            if 0 < left < others:
                refused += 1
                with pytest.raises(StateError, match=f"{left} samples that are left of the epoch cannot be distrib"):
                    going.load_state_dict(state)
                continue
            going.load_state_dict(state)
            assert taken(going) == taken(begun)
            assert going.state_dict()["taken"] == state["taken"]
            rest = np.diff(going._plan.order.first)[step * others :]
            assert rest.sum() == left
            assert not left or (rest.min() >= 1 and rest.max() <= 12 // others)
            assert sorted(going._plan.order.order.tolist()) == sorted(begun._plan.order.order.tolist())
            assert len(going) == len(begun)
    assert (refused > 0) == (not bucket and not drop_last)


@pytest.mark.parametrize("taken", [None, 4, 7, 11, 13, "12", [12]])
@pytest.mark.parametrize("bucket", [False, True])
def test_a_state_that_no_ranks_have_saved_is_refused(by_step: Numbered, taken: Any, *, bucket: bool):
    batches = by_step.store[:13].padded(3, bucket=bucket)
    list(itertools.islice(batches, 4))
    state = batches.state_dict()
    assert state["taken"] in (11, 12)
    if state["taken"] != taken:
        with pytest.raises(StateError, match=r"4 batches of all ranks.* do not hold .* but 1[12]"):
            batches.load_state_dict(state | {"taken": taken})


def test_a_state_goes_on_though_the_store_was_appended_to(tmp_path: Path):
    recipe = Recipe()
    sequences = make(recipe, [5, 9, 3, 8, 7, 7], sources=list("abcdef"))
    write(recipe, tmp_path / "s.zarr", sequences)
    asked: dict[str, Any] = {"batch_size": 2, "shuffle": True, "bucket": True}
    batches = store_spec.open_store(tmp_path / "s.zarr").padded(**asked)
    next(batches)
    state = batches.state_dict()
    with store_spec.open_store(tmp_path / "s.zarr", mode="a") as writer:
        append(writer, make(recipe, [50], sources=["g"]))
    again = store_spec.open_store(tmp_path / "s.zarr").padded(**asked)
    assert len(again) == 4
    again.load_state_dict(state)
    assert len(again) == 3
    assert same_batches(again, batches)


def test_a_state_of_anything_else_is_refused_and_changes_nothing(by_step: Numbered):
    asked: dict[str, Any] = {"batch_size": 4, "shuffle": True}
    state = by_step.store.padded(**asked).state_dict()
    others: list[dict[str, Any]] = [
        {"batch_size": 5},
        {"batch_size": 4, "max_steps": 400},
        {"seed": 1},
        {"epoch": 1},
        {"shuffle": False},
        {"bucket": True},
        {"side": "start"},
        {"truncate": 7},
        {"truncate_side": "start"},
        {"drop_last": True},
        {"world_size": 2},
    ]
    for other in others:
        batches = by_step.store.padded(**{**asked, **other})
        next(batches)
        with pytest.raises(StateError, match="continues with the parameters that it was started with"):
            batches.load_state_dict(state)
        assert batches.state_dict()["step"] == 1
    with pytest.raises(StateError, match=r"selected=\d+, and these batches are of 5; take the selection"):
        by_step.store[:5].padded(**asked).load_state_dict(state)
    with pytest.raises(StateError, match="after 6 batches, and the epoch has 5"):
        by_step.store.padded(**asked).load_state_dict(state | {"step": 6})
    with pytest.raises(StateError, match="kind='streams', and these batches are of 'padded'"):
        by_step.store.padded(**asked).load_state_dict(by_step.store.streams(2, 3).state_dict())


def test_padded_batches_can_be_pickled_in_the_middle(by_step: Numbered):
    batches = by_step.store.padded(4, shuffle=True)
    next(batches)
    assert same_batches(pickle.loads(pickle.dumps(batches)), batches)


# Bad use


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number of at least 1"),
        ({"batch_size": -2}, "batch_size is -2"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"batch_size": None}, "neither batch_size nor max_steps is given"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"epoch": -1}, "epoch is -1"),
        ({"truncate": 0}, "truncate is 0"),
        ({"side": "left"}, "side is 'left'; it must be 'start' or 'end'"),
        ({"truncate_side": None}, "truncate_side is None"),
        ({"memory": 0}, "memory is 0"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank=2 with world_size=2; ranks are 0 to 1"),
        ({"max_steps": 99}, r"sequence 6 \(s06\) has 100 steps, .* max_steps=99; give truncate=99 or max_steps=100"),
        ({"max_steps": 100, "drop_last": True}, "drop_last=True with max_steps=100"),
        (
            {"world_size": 19},
            "18 samples cannot be distributed to world_size=19 .* drop_last=True, which leaves out 18",
        ),
        ({"batch_size": 1, "world_size": 4}, "18 samples cannot be distributed to world_size=4 .* leaves out 2"),
    ],
)
def test_what_is_impossible_is_refused(by_step: Numbered, asked: Any, message: str):
    with pytest.raises(WindowError, match=message):
        by_step.store.padded(**{"batch_size": 4, **asked})


def test_limits_may_be_larger_than_any_store(by_step: Numbered):
    assert len(by_step.store.padded(10**30, max_steps=10**30)) == 1


@pytest.mark.parametrize(
    "asked", [{"batch_size": 4}, {"max_steps": 9, "bucket": True, "shuffle": True}, {"max_steps": 9}]
)
def test_no_sequences_are_no_batches(given_store: Numbered, asked: Any):
    batches = given_store.store.select([]).padded(**asked, world_size=2)
    assert len(batches) == 0
    assert list(batches) == []
    assert batches.padding == 0


@pytest.mark.frameworks
def test_torch_packs_padded_batches(given_store: Numbered):
    """Lengths from the mask are what `pack_padded_sequence` wants."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    store = given_store.store.select(np.flatnonzero(given_store.store.lengths))
    for inputs, _, mask, *_ in store.padded(4):
        packed = pack_padded_sequence(
            torch.from_numpy(inputs), torch.from_numpy(mask.sum(axis=1)), batch_first=True, enforce_sorted=False
        )
        assert len(packed.data) == mask.sum()
