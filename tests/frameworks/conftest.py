"""Fixtures for the tests of all frameworks."""

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import store_spec
from store_spec.windows.windows import Windows
from tests.frameworks.walks import HORIZON, WINDOW, make_walks


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    return make_walks(tmp_path / "s.zarr")


@pytest.fixture
def windows(store: store_spec.Store) -> Windows:
    return store.windows(WINDOW, horizon=HORIZON)


def imported(module: str, name: str = "") -> Any:
    """Return a fixture that imports a module, or a name of it, only if a test needs it."""

    @pytest.fixture(scope="session")
    def found() -> Any:
        loaded = importlib.import_module(module)
        return getattr(loaded, name) if name else loaded

    return found


@pytest.fixture
def load(data_loader: Any) -> Any:
    """Return a DataLoader of torch for datasets of batches."""
    return partial(data_loader, batch_size=None)


@pytest.fixture
def load_statefully() -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return partial(StatefulDataLoader, batch_size=None)


torch, tf, keras = map(imported, ("torch", "tensorflow", "keras"))
data_loader = imported("torch.utils.data", "DataLoader")
batch_dataset = imported("store_spec.torch", "BatchDataset")
nested, packed = (imported("store_spec.torch", name) for name in ("nested", "packed"))
dataset, ragged = (imported("store_spec.tensorflow", name) for name in ("dataset", "ragged"))
