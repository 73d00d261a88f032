"""Padded and packed batches of whole sequences, compared with the arrays that were written."""

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import StateError, WindowError
from store_spec.sequences.packed import pack
from store_spec.sequences.padded_order import PaddedOptions
from store_spec.sequences.slices import SliceReader
from tests.store.kinds import chunks_read
from tests.store.oracle import Recipe, make, store_of, write
from tests.store.window_oracle import LENGTHS, Written, keys, selections

Samples = list[tuple[Any, ...]]


def unpadded(batch: tuple[Any, ...], axis: str, side: str = "end") -> Samples:
    """Return the sequences of a batch, after checking that all other steps are masked and zero."""
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
    """Cut the first or last steps off sequences."""
    if most is None:
        return sequences
    taken = slice(0, most) if side == "end" else slice(-most, None)
    return [(x[taken], y[taken] if axis == "step" else y) for x, y in sequences]


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
        "lengths": st.booleans(),
        "memory": st.sampled_from([600_000, "256MB"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(selection=selections(), asked=options, ranks=st.integers(1, 4))
def test_each_sequence_occurs_once_over_all_ranks_within_every_limit(on_any_axis, selection, asked, ranks):
    """Ranks have the same number of batches, and none is empty; without other options they keep the store's order.

    `padding` is the share of masked steps.
    """
    axis, store = on_any_axis.store.schema.label_axis, on_any_axis.store.select(selection)
    size, max_steps = asked["batch_size"], asked["max_steps"]
    wanted = cut([on_any_axis.sequences[n] for n in selection], axis, asked["truncate"], asked["truncate_side"])
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
            masks = batch[2 : 4 if axis == "own" else 3]
            lengths = batch[2 + len(masks) :]  # of the steps that are used, and of labels with their own axis
            assert [each.dtype for each in lengths] == [np.dtype(np.int64)] * len(masks) * asked["lengths"]
            assert all(np.array_equal(each, mask.sum(axis=1)) for each, mask in zip(lengths, masks, strict=False))
            found += unpadded(batch[: 2 + len(masks)], axis, asked["side"])
    assert sorted(keys(found)) == sorted(keys(wanted))
    if ranks == 1 and not (asked["shuffle"] or asked["bucket"]):
        assert keys(found) == keys(wanted)
        assert max_steps or {len(batch[0]) for batch in batches[:-1]} <= {size}
    assert shares[0].padding == (1 - real / computed if computed else 0)


def test_buckets_pad_little_and_mix_differently_in_each_epoch():
    """In each epoch a sequence is batched with others, in the end with most of those of about its length."""
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


def test_a_budget_is_filled_if_lengths_are_similar():
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
@example(lengths=[1, 1, 1, 1, 50], size=None, budget=50, ranks=2)  # the last round takes one of the round before
def test_a_budget_without_buckets_is_filled_in_order(lengths: list[int], size: int | None, budget: int, ranks: int):
    """Compared with a loop: each rank gets as many sequences as fit with the longest of the round."""
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


def test_memory_is_refused_by_batches_that_can_occur_only(tmp_path):
    """All labels of one long sequence beside many short ones would not fit, nor would many of its length."""
    lengths = [10] * 500 + [5000]
    inputs = [np.zeros((length, 1), np.float32) for length in lengths]
    store = store_of(
        tmp_path / "a", inputs, [np.zeros((10 * length, 1), np.float32) for length in lengths], label_axis="own"
    )
    assert len(store.padded(None, max_steps=5000, bucket=True, memory="2MB")) == 2
    weights = np.arange(501) < 500
    assert len(store.padded(250, shuffle=True, weights=weights, memory="2MB")) == 3
    with pytest.raises(WindowError, match=r"memory=2,000,000 .* a batch of 250 sequences of up to 5,000 steps"):
        store.padded(250, memory="2MB")


def test_drop_last_leaves_out_other_sequences_in_each_epoch():
    """They are not always the shortest, though buckets begin with the longest."""
    lengths = np.arange(1, 12)
    left = set()
    for epoch in range(10):
        plan = PaddedOptions(batch_size=4, bucket=True, shuffle=True, drop_last=True, epoch=epoch).plan(lengths)
        assert np.diff(plan.first).tolist() == [4, 4]
        left |= set(range(11)) - set(plan.order.tolist())
    assert len(left) > 8


def test_batches_that_fit_the_memory_decompress_their_chunks_together(tmp_path, monkeypatch, spy):
    """100 sequences of 2 steps, 4 per chunk, 2 per batch:

    100 chunks if read one by one, little more than 25 together.
    """
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), chunk=8, shard=80)
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", make(recipe, [2] * 100)))
    read = chunks_read(monkeypatch)
    list(store.padded(2, shuffle=True, memory=2050))  # one batch
    assert 2 * 90 <= len(read) <= 2 * 100  # of inputs and of labels
    read.clear()
    read_slices = spy(SliceReader, "read")
    list(store.padded(2, shuffle=True))
    assert [len(call.args[1].shapes) for call in read_slices.call_args_list] == [1, 8, 41]  # the first one comes soon
    assert len(read) <= 2 * (2 + 16 + 25)


@pytest.mark.slow
@pytest.mark.parametrize("bucket", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_other_ranks_continue_from_a_state_between_any_two_batches(tmp_path: Path, *, bucket: bool, drop_last: bool):
    """Twelve sequences at a time; for example, two ranks share what one rank would take."""
    recipe = Recipe()
    write(recipe, tmp_path / "s.zarr", make(recipe, [1 + n * 7 % 11 for n in range(27)]))
    store = store_spec.open_store(tmp_path / "s.zarr")
    asked: dict[str, Any] = {"shuffle": True, "bucket": bucket, "drop_last": drop_last}

    def taken(batches: Any) -> list[int]:
        of_plan, step, ranks = batches._plan.order, batches._next, batches._options.world_size
        return sorted(of_plan.order[: of_plan.first[step * ranks]].tolist())

    refused = 0
    for count, ranks, others in itertools.product(range(6, 28, 5), (1, 2, 3, 4, 6), (1, 2, 3, 4, 6)):
        some = store[:count]
        begun = some.padded(12 // ranks, world_size=ranks, **asked)
        for step in range(len(begun) + 1):
            begun._next = step  # so many batches are taken; their content is tested elsewhere
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


def pieces_of(batch: Any) -> list[tuple[int, Any, Any]]:
    """Return sequence, inputs and labels of each piece of a batch, after comparing all arrays that locate it."""
    rows, tokens = batch.mask.shape
    cu, index = batch.cu_seqlens.tolist(), batch.index.tolist()
    assert (cu[0], cu[-1], len(index)) == (0, rows * tokens, len(cu) - 1)
    flat = {name: array.reshape(rows * tokens, -1) for name, array in batch._asdict().items() if array.ndim > 1}
    found, segment = [], 0
    for start, stop, sequence in zip(cu, cu[1:], index, strict=False):
        assert start // tokens == (stop - 1) // tokens, "a piece lies in one row"
        segment = 1 if start % tokens == 0 else segment + 1
        real = sequence >= 0
        assert (flat["mask"][start:stop] == real).all()
        assert (flat["segment_ids"][start:stop] == (segment if real else 0)).all()
        if real:
            assert flat["position_ids"][start:stop, 0].tolist() == list(range(stop - start))
            found.append((sequence, flat["inputs"][start:stop], flat["labels"][start:stop]))
        else:
            assert stop % tokens == 0, "padding is at the end"
            assert not flat["inputs"][start:stop].any()
            assert not flat["labels"][start:stop].any()
            assert not flat["position_ids"][start:stop].any()
    return found


@given(
    tokens=st.integers(1, 120),
    batch_size=st.integers(1, 3),
    max_steps=st.integers(1, 120),
    ranks=st.integers(1, 3),
    shuffle=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_each_step_is_packed_once_and_pieces_are_whole_if_they_fit(
    by_step: Written, tokens: int, batch_size: int, max_steps: int, ranks: int, **more: Any
):
    max_steps = min(max_steps, tokens)
    batch_size += ranks > 1  # batches of one row cannot always be distributed evenly
    found: dict[int, list[Any]] = {}
    packed = [
        by_step.store.packed(
            tokens, batch_size=batch_size, max_steps=max_steps, rank=rank, world_size=ranks, index=True, **more
        )
        for rank in range(ranks)
    ]
    assert len({len(one) for one in packed}) == 1
    batches = [batch for one in packed for batch in one]
    for batch in batches:
        assert batch.inputs.shape[1:] == (tokens, 2)
        assert len(batch.inputs) <= batch_size
        for sequence, x, y in pieces_of(batch):
            found.setdefault(sequence, []).append((x, y))
    assert sorted(found) == np.flatnonzero(LENGTHS).tolist()
    for number, pieces in found.items():
        x, y = by_step.sequences[number]
        pieces.sort(key=lambda piece: piece[0][0, 0])
        whole, rest = divmod(len(x), max_steps)
        assert [len(piece) for piece, _ in pieces] == [max_steps] * whole + [rest] * (rest > 0)
        assert np.array_equal(np.concatenate([piece for piece, _ in pieces]), x)
        assert np.array_equal(np.concatenate([piece for _, piece in pieces]), y)


def test_ranks_that_take_single_shuffled_rows_have_to_drop_the_last(by_step: Written):
    """Otherwise some later epoch could not be distributed."""
    ranks: dict[str, Any] = {"world_size": 2, "shuffle": True}
    with pytest.raises(WindowError, match=r"each epoch has another number of rows.*drop_last=True, or a batch_size of"):
        by_step.store.packed(32, **ranks)
    assert len({len(by_step.store.packed(32, **ranks, rank=rank, drop_last=True)) for rank in range(2)}) == 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_packed_rows_are_nearly_full_for_log_normal_lengths(shuffle: Any):
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(5.5, 1, 20_000).astype(np.int64).clip(1, 4096)
    random = np.random.default_rng(1) if shuffle else None
    packing = pack(lengths, np.arange(len(lengths)), tokens=8192, max_steps=8192, random=random)
    assert packing.padding < 0.03
    assert int(packing.count.sum()) == int(lengths.sum())
    assert np.add.reduceat(packing.count, packing.first[:-1]).max() <= 8192
    if shuffle:  # long sequences do not come first, and batches have other sequences in each epoch
        early = packing.count[: len(packing.count) // 4].mean()
        assert 0.8 < early / packing.count.mean() < 1.2
        other = pack(lengths, np.arange(len(lengths)), tokens=8192, max_steps=8192, random=np.random.default_rng(2))
        rows = [
            {frozenset(each.tolist()) for each in np.split(one.sequence, one.first[1:-1])} for one in (packing, other)
        ]
        assert len(rows[0] & rows[1]) < len(rows[0]) / 50
