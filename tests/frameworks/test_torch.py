"""What torch makes of a store: its own loader over windows, and whole sequences that are padded and packed."""

import numpy as np
import pytest

import store_spec

pytestmark = pytest.mark.frameworks

LENGTHS = (7, 0, 3, 12, 5, 30)
WINDOW, HORIZON = 4, 2


@pytest.fixture
def sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(length, 3)).astype("float32") for length in LENGTHS]


@pytest.fixture
def store(tmp_path, sequences) -> store_spec.Store:
    rows = ("float32", (3,))
    with store_spec.create_store(tmp_path / "s.zarr", inputs=rows, labels=rows, chunk=96, shard=384) as writer:
        for number, steps in enumerate(sequences):
            writer.append(steps, -steps, source=f"s{number}")
    return store_spec.open_store(tmp_path / "s.zarr")


@pytest.fixture
def listed(sequences) -> list[tuple[np.ndarray, np.ndarray]]:
    """All windows, by two loops."""
    return [
        (steps[start : start + WINDOW], -steps[start + WINDOW : start + WINDOW + HORIZON])
        for steps in sequences
        for start in range(len(steps) - WINDOW - HORIZON + 1)
    ]


@pytest.mark.parametrize(
    ("workers", "start_method"), [(0, None), (2, "fork"), (2, "spawn")], ids=["here", "forked", "spawned"]
)
def test_a_data_loader_gives_every_window_once_in_order(store, listed, workers, start_method):
    from torch.utils.data import DataLoader

    windows = store.windows(WINDOW, horizon=HORIZON)
    windows[0]  # caches are filled before the workers start
    loader = DataLoader(windows, batch_size=5, num_workers=workers, multiprocessing_context=start_method)
    batches = list(loader)
    assert [len(x) for x, _ in batches[:-1]] == [5] * (len(listed) // 5)
    np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in batches]), [x for x, _ in listed])
    np.testing.assert_array_equal(np.concatenate([y.numpy() for _, y in batches]), [y for _, y in listed])


def test_a_shuffling_data_loader_gives_every_window_once(store, listed):
    import torch
    from torch.utils.data import DataLoader

    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(store.windows(WINDOW, horizon=HORIZON), batch_size=5, shuffle=True, generator=generator)
    found = [(x.numpy().tobytes(), y.numpy().tobytes()) for xs, ys in loader for x, y in zip(xs, ys, strict=True)]
    expected = [(x.tobytes(), y.tobytes()) for x, y in listed]
    assert found != expected
    assert sorted(found) == sorted(expected)


def test_batches_are_arrays_that_torch_may_write_to(store, listed):
    import torch

    for x, y in store.windows(WINDOW, horizon=HORIZON).batches(5, shuffle=True):
        torch.from_numpy(x).zero_()
        torch.from_numpy(y).zero_()
    kept = [x.tobytes() for x, _ in store.windows(WINDOW, horizon=HORIZON).batches(len(listed))]
    assert kept == [np.stack([x for x, _ in listed]).tobytes()]


def test_an_lstm_over_packed_batches_sees_no_padding(store, sequences):
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence

    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 8, batch_first=True)
    real = [steps for steps in sequences if len(steps)]
    with torch.no_grad():
        found = []
        for x, _, mask in store.select(store.lengths > 0).padded(2):
            packed = pack_padded_sequence(
                torch.from_numpy(x), torch.from_numpy(mask.sum(axis=1)), batch_first=True, enforce_sorted=False
            )
            found += list(lstm(packed)[1][0][0])
        alone = [lstm(torch.from_numpy(steps)[None])[1][0][0, 0] for steps in real]
    torch.testing.assert_close(torch.stack(found), torch.stack(alone))
