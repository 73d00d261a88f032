"""What the tests of all frameworks share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import store_spec
from store_spec.windows.windows import Windows
from tests.frameworks.walks import HORIZON, WINDOW, make_walks


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Skip fsync, as no test here cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    return make_walks(tmp_path / "s.zarr")


@pytest.fixture
def windows(store: store_spec.Store) -> Windows:
    return store.windows(WINDOW, horizon=HORIZON)
