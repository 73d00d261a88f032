"""Stores in torch: batches of windows as tensors, windows one by one, whole sequences packed."""

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from builder.processes.process_code import code_of
from store_spec.errors import StateError, WindowError
from store_spec.schema import DTYPES
from tests.frameworks.walks import OPTIONS, WINDOW, make_walks, same
from tests.store.window_oracle import listed

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("options", OPTIONS)
def test_tensors_are_the_batches_of_windows(windows, options, batch_dataset):
    dataset = batch_dataset(windows.batches, 5, **options)
    first = options.get("epoch", 0)
    for epoch in range(first, first + 3):
        assert len(dataset) == len(windows.batches(5, **options | {"epoch": epoch}))
        assert same(dataset, windows.batches(5, **options | {"epoch": epoch}))


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_have_the_dtype_of_the_store(tmp_path, dtype, batch_dataset):
    windows = make_walks(tmp_path / "dtype.zarr", dtype=dtype).windows(WINDOW)
    assert same(batch_dataset(windows.batches, 8), windows.batches(8))


def test_tensors_have_the_memory_of_the_arrays(windows, batch_dataset):
    given = []

    def keep(batch):
        given.append(batch)
        return batch

    tensors = list(batch_dataset(windows.batches, 5, shuffle=True, transform=keep))
    assert [[each.data_ptr() for each in batch] for batch in tensors] == [
        [each.ctypes.data for each in batch] for batch in given
    ]
    for x, y in tensors:
        x.zero_()
        y.zero_()
    assert same(batch_dataset(windows.batches, 5, shuffle=True), windows.batches(5, shuffle=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("window", [1, WINDOW])  # NumPy calls a reversed view of one step contiguous
def test_a_reversed_view_from_a_transform_becomes_a_tensor(store, window, workers, torch, load, batch_dataset):
    windows = store.windows(window, horizon=1)
    due = [(x[:, ::-1], y) for x, y in windows.batches(8)]

    def found(transform):
        return load(batch_dataset(windows.batches, 8, transform=transform), num_workers=workers)

    assert same(found(lambda batch: (batch[0][:, ::-1], batch[1])), due)
    assert same(found(lambda batch: batch._replace(inputs=batch.inputs[:, ::-1])), due)
    nested = list(found(lambda batch: {"rows": [batch.inputs[:, ::-1], batch.labels], "names": ["a", "b"]}))
    assert same([batch["rows"] for batch in nested], due)
    assert all(torch.is_tensor(each) for batch in nested for each in batch["rows"])
    assert nested[0]["names"] == ["a", "b"]


def test_the_epoch_is_the_one_that_was_set(windows, batch_dataset):
    dataset = batch_dataset(windows.batches, 5, shuffle=True, epoch=1)
    for epoch in (1, 4, 0):
        dataset.set_epoch(epoch)
        assert same(pickle.loads(pickle.dumps(dataset)), windows.batches(5, shuffle=True, epoch=epoch))
        assert same(dataset, windows.batches(5, shuffle=True, epoch=epoch))


def test_epochs_that_differ_in_length_have_no_common_length(store, batch_dataset):
    from torch.utils.data import DataLoader

    windows = store.windows(WINDOW, stride=3, phase="random")
    dataset = batch_dataset(windows.batches, 1)
    found = []
    for epoch in range(8):
        dataset.set_epoch(epoch)
        found.append(len(batches := list(dataset)))
        assert same(batches, windows.batches(1, epoch=epoch))
        # A training loop, such as Lightning's, would end all epochs after the first answer.
        with pytest.raises(TypeError, match="epochs differ in length"):
            len(DataLoader(dataset, batch_size=None))
    assert len(set(found)) > 1


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, "batch_size is 0"),
        (5, {"epoch": -1}, "epoch is -1"),
        (5, {"rank": 2, "world_size": 2}, "rank=2 with world_size=2"),
        (5, {"rank": 1}, "rank=1 with world_size=1"),
        (5, {"memory": 10}, "memory=10 bytes is too little"),
    ],
)
def test_mistakes_are_refused_when_the_dataset_is_made(windows, size, options, message, batch_dataset):
    with pytest.raises(WindowError, match=message):
        batch_dataset(windows.batches, size, **options)


def test_an_invalid_epoch_is_refused_and_the_old_one_stays(windows, batch_dataset):
    dataset = batch_dataset(windows.batches, 5, shuffle=True, epoch=3)
    with pytest.raises(WindowError, match=r"epoch is 1\.5"):
        dataset.set_epoch(1.5)
    assert same(dataset, windows.batches(5, shuffle=True, epoch=3))


def test_an_invalid_state_or_another_seed_is_refused_and_changes_nothing(windows, batch_dataset):
    batches = iter(batch_dataset(windows.batches, 5, shuffle=True))
    good = iter(batch_dataset(windows.batches, 5, shuffle=True, seed=1)).state_dict()
    for state in ({}, {"parameters": {"epoch": -1}}, {"parameters": {"epoch": "a"}}, {"parameters": 1}, good):
        with pytest.raises(StateError):
            batches.load_state_dict(state)
    assert same(batches, windows.batches(5, shuffle=True))


def test_an_abandoned_epoch_leaves_no_thread(windows, batch_dataset):
    before = threading.active_count()
    for _ in batch_dataset(windows.batches, 5, shuffle=True):
        assert threading.active_count() > before
        break
    assert threading.active_count() == before


def test_rank_and_world_size_come_from_torch_distributed_and_are_pickled(windows, monkeypatch):
    from torch import distributed

    from store_spec.torch import BatchDataset

    dataset, rank_0 = BatchDataset(windows.batches, 5), BatchDataset(windows.batches, 5, rank=0, world_size=3)
    with monkeypatch.context() as patch:  # a real process group is in test_torch_workers.py
        patch.setattr(distributed, "is_initialized", lambda: True)
        patch.setattr(distributed, "get_rank", lambda: 1)
        patch.setattr(distributed, "get_world_size", lambda: 3)
        assert same(dataset, windows.batches(5, rank=1, world_size=3))
        assert same(rank_0, windows.batches(5, rank=0, world_size=3))
        assert len(dataset) == len(windows.batches(5, rank=1, world_size=3))
        sent = pickle.dumps(dataset)
    assert same(pickle.loads(sent), windows.batches(5, rank=1, world_size=3))
    assert same(dataset, windows.batches(5))


def test_a_loader_with_a_sampler_fetches_windows_a_batch_at_a_time(windows, monkeypatch):
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler

    asked = []
    fetch = type(windows).__getitems__

    def fetch_and_note(self, numbers):
        asked.append(numbers)
        return fetch(self, numbers)

    monkeypatch.setattr(type(windows), "__getitems__", fetch_and_note)
    wanted = listed([*windows.store], windows.shape)
    for sampler in (RandomSampler(windows), SubsetRandomSampler(range(0, len(windows), 3))):
        asked.clear()
        torch.manual_seed(0)
        found = list(DataLoader(windows, batch_sampler=BatchSampler(sampler, 5, drop_last=False)))
        assert sorted(number for numbers in asked for number in numbers) in (
            list(range(len(windows))),
            list(range(0, len(windows), 3)),
        )
        assert same(found, [[np.stack(part) for part in zip(*(wanted[i] for i in few), strict=True)] for few in asked])
        assert len(asked) == -(-len(sampler) // 5)


@pytest.mark.parametrize("side", ["end", "start"])
def test_an_lstm_over_packed_batches_equals_one_over_single_sequences(store, side, torch, packed):
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 8, batch_first=True)
    real = store.select(store.lengths > 0)
    found = []
    with torch.no_grad():
        for x, y, mask in real.padded(4, side=side):
            rows, labels = packed(x, mask), packed(torch.from_numpy(y), torch.from_numpy(mask))
            output, (last, _) = lstm(rows)
            found += list(last[0])
            # Labels have the layout of outputs, so a loss needs no padding.
            unpacked = [
                torch.nn.utils.rnn.unpad_sequence(*torch.nn.utils.rnn.pad_packed_sequence(each, True), True)
                for each in (output, labels)
            ]
            assert [len(each) for each in unpacked[0]] == mask.sum(axis=1).tolist()
            assert torch.equal(torch.cat(unpacked[1]), torch.from_numpy(y[mask]))
        alone = [lstm(torch.from_numpy(steps)[None])[1][0][0, 0] for steps, _ in real]
    torch.testing.assert_close(torch.stack(found), torch.stack(alone))


def test_packing_names_sequences_of_no_steps_and_labels_that_are_not_of_steps(store, packed):
    x, y, mask = next(store.padded(4))
    with pytest.raises(WindowError, match=r"1 of 4 sequences have no steps.*store.select\(store.lengths > 0\)"):
        packed(x, mask)
    x, y, mask = next(store.select([0, 2]).padded(4))
    with pytest.raises(WindowError, match=r"rows are \(2, 3\), and their mask \(2, 7\)"):
        packed(y[:, 0], mask)


READERS: dict[str, Any] = {
    "windows": lambda store: (store.windows(WINDOW).batches, 5),
    "padded": lambda store: (store.padded, 3),
    "packed": lambda store: (store.packed, 32),
    "streams": lambda store: (store.streams, 2, 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_all_kinds_of_batches_come_from_a_loader_with_their_names(store, kind, workers, load, batch_dataset):
    method, *arguments = READERS[kind](store)
    loader = load(batch_dataset(method, *arguments, shuffle=True), num_workers=workers)
    for epoch in (0, 1):
        wanted = list(method(*arguments, shuffle=True, epoch=epoch))
        found = list(loader)
        assert same(found, wanted)
        assert [batch._fields for batch in found] == [batch._fields for batch in wanted]
        assert all(batch.inputs is batch[0] for batch in found)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_would_batch_batches_is_refused(windows, workers, data_loader, batch_dataset):
    loader = data_loader(batch_dataset(windows.batches, 5), batch_size=4, num_workers=workers)
    with pytest.raises(WindowError, match="would put these batches into batches; give it batch_size=None"):
        next(iter(loader))


@pytest.mark.slow
def test_nested_tensors_have_the_steps_of_each_piece_and_no_padding(store, torch, batch_dataset, nested):
    found: list[Any] = []
    for batch in batch_dataset(store.packed, 40, index=True):
        labels: Any = nested(batch.labels, batch)
        assert labels.offsets().diff().sum() == batch.mask.sum()
        pieces = nested(batch.inputs, batch).unbind()
        found += zip(batch.index[batch.index >= 0].tolist(), pieces, strict=True)
    assert len(found) == np.count_nonzero(store.lengths)
    for number, piece in found:
        assert torch.equal(piece, torch.from_numpy(store[number][0]))


def test_a_process_function_with_tensors_cannot_be_compared(batch_dataset):  # noqa: ARG001  # needs torch
    import torch

    def process(_: object) -> Any:
        return mean

    mean = torch.ones(2)
    code = code_of(process)
    assert code == code_of(process)
    assert "(torch.Tensor)" in str(code.uncompared)
