"""Padded batches of whole sequences, against the arrays that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store_spec.errors import ChecksumError, WindowError
from store_spec.snapshot import Snapshot
from tests.store.window_oracle import LENGTHS, Numbered, keys, numbered, selections


@pytest.fixture(scope="module", params=["step", "sequence", "own"])
def given_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Numbered:
    return numbered(tmp_path_factory.mktemp("padded") / "s.zarr", request.param, chunk=8)


def unpadded(batch: tuple[Any, ...], axis: str) -> list[tuple[Any, ...]]:
    """Return the sequences of a batch, after checking that what lies behind each is zero."""
    inputs, labels, mask = batch[:3]
    lengths = mask.sum(axis=1)
    assert mask.dtype == bool
    assert mask.shape == inputs.shape[:2]
    assert mask.shape[1] == lengths.max()
    assert not inputs[~mask].any()
    label_lengths, label_mask = lengths, mask
    if axis == "own":
        label_mask = batch[3]
        label_lengths = label_mask.sum(axis=1)
    assert len(batch) == (4 if axis == "own" else 3)
    if axis != "sequence":
        assert label_mask.shape == labels.shape[:2]
        assert label_mask.shape[1] == label_lengths.max()
        assert not labels[~label_mask].any()
        labels = [rows[:length] for rows, length in zip(labels, label_lengths, strict=True)]
    return [(rows[:length], label) for rows, length, label in zip(inputs, lengths, labels, strict=True)]


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


def test_the_order_of_sequences_follows_from_seed_and_epoch(given_store: Numbered):
    def order(**options: Any) -> list[Any]:
        batches = given_store.store.padded(4, shuffle=True, **options)
        return [length for batch in batches for length in batch[2].sum(axis=1).tolist()]

    first = order(seed=1, epoch=0)
    assert order(seed=1, epoch=0) == first
    others = [order(seed=1, epoch=1), order(seed=0, epoch=1), order(seed=2)]
    assert first not in others
    assert all(sorted(each) == sorted(LENGTHS) for each in others)


def test_a_batch_of_sequences_decompresses_each_chunk_once(given_store: Numbered, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    rows = Snapshot.rows

    def counted(self: Snapshot, name: str, start: int, stop: int) -> Any:
        if name == "inputs":
            read.extend(range(start // 8, -(-stop // 8)))
        return rows(self, name, start, stop)

    monkeypatch.setattr(Snapshot, "rows", counted)
    list(given_store.store.padded(len(LENGTHS), shuffle=True))
    assert sorted(read) == list(range(39))


def test_padded_leaves_no_batch_out_that_it_could_not_read(tmp_path: Path):
    """The error comes again: who catches it does not train on what is left as if it were all."""
    store = numbered(tmp_path / "s.zarr", "step", chunk=8).store
    for path in (tmp_path / "s.zarr" / "inputs").glob("c.*"):
        path.write_bytes(bytes(path.stat().st_size))
    batches = store.padded(4)
    for _ in range(2):
        with pytest.raises(ChecksumError):
            next(batches)


@pytest.mark.parametrize("options", [{"size": 0}, {"size": -2}, {"seed": -1}, {"epoch": -1}, {"size": 1.5}])
def test_what_is_impossible_is_refused(given_store: Numbered, options: Any):
    with pytest.raises(WindowError, match=f"{next(iter(options))} is {next(iter(options.values()))}"):
        given_store.store.padded(**{"size": 4, **options})


def test_no_sequences_are_no_batches(given_store: Numbered):
    batches = given_store.store.select([]).padded(4)
    assert len(batches) == 0
    assert list(batches) == []


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
