"""Fixtures for tests of the store: small stores with numbered values, and places where a store can be."""

import functools
import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from store_spec.windows import batches
from tests.store.known import Known, write_known
from tests.store.window_oracle import Written, write_numbered


@pytest.fixture(autouse=True, scope="module")
def _rows_kept_in_every_second_epoch(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ignore the cache of rows in every second epoch: most stores here fit into memory."""
    fit, turns = batches._rows_that_fit, itertools.cycle((False, True))
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_row_cache"):
            patch.setattr(batches, "_rows_that_fit", lambda *arguments: fit(*arguments) if next(turns) else None)
        yield


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], Any]:
    """Return a function that records the calls of a function or method, which does its work as before."""

    def recorded(owner: Any, name: str) -> Any:
        function = getattr(owner, name)
        spied = mock.create_autospec(function, side_effect=function)
        monkeypatch.setattr(owner, name, spied)
        return spied

    return recorded


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Disable garbage collection, so that objects in cycles stay until a test collects them."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def by_axis(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """Written sequences with labels on each axis, 8 steps per chunk."""
    folder = tmp_path_factory.mktemp("numbered")
    return {axis: write_numbered(folder / f"{axis}.zarr", axis, chunk=8) for axis in ("step", "sequence", "own")}


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Known]:
    """Return a function that writes a store with inputs of a dtype and labels on an axis, once."""
    folder = tmp_path_factory.mktemp("known")

    write = functools.cache(lambda *named: write_known(folder / f"{'-'.join(map(str, named))}.zarr", *named))
    return lambda dtype, axis, chunk=160: write(dtype, axis, chunk)


@pytest.fixture(scope="session")
def by_step(by_axis: dict[str, Written]) -> Written:
    return by_axis["step"]


@pytest.fixture(scope="session", params=["step", "sequence", "own"])
def on_any_axis(request: pytest.FixtureRequest, by_axis: dict[str, Written]) -> Written:
    return by_axis[request.param]


@pytest.fixture(scope="session")
def web_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server of all files that tests write."""
    from tests.store.object_server import serving

    with serving(tmp_path_factory.getbasetemp()) as server:
        yield server


@pytest.fixture
def placed(web_server: Any) -> Callable[[str, Path], Any]:
    """Return a function that opens a copy of a folder as the given kind of store."""
    from tests.store.zarr_stores import KINDS, URL

    def place(kind: str, folder: Path) -> Any:
        if kind == URL:
            return f"{web_server.url}/{folder.relative_to(web_server.folder).as_posix()}"
        return KINDS[kind](folder)

    return place
