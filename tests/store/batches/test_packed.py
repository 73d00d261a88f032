"""Packed batches, compared with the sequences in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.sequences.packed import pack
from tests.store.window_oracle import LENGTHS, Written

options = {
    "tokens": st.integers(1, 120),
    "batch_size": st.integers(1, 3),
    "shuffle": st.booleans(),
    "epoch": st.integers(0, 3),
}


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


@given(**options, max_steps=st.integers(1, 120), ranks=st.integers(1, 3))
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


def test_a_row_may_be_longer_than_all_steps_and_a_store_may_have_none(by_step: Written):
    (batch,) = by_step.store.packed(1000)
    assert batch.cu_seqlens[-1] == 1000
    assert int(batch.mask.sum()) == sum(LENGTHS)
    assert list(by_step.store.select([0]).packed(10)) == []
