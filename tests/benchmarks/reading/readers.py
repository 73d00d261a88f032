"""All readers of windows, each as counts of windows: our batches, and what they are compared with.

A reader is prepared once, without the clock, and then yields an epoch of windows at each call.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

import store_spec
from store_spec.windows.windows import Windows
from tests.benchmarks.reading.stores import rows_of
from tests.benchmarks.reading.works import Work

Epoch = Callable[[int], Iterator[int]]


def windows_of(place: Path, work: Work) -> Windows:
    """Open the store of a place."""
    store = store_spec.open_store(place / "store.zarr")
    return store.windows(work.window, stride=work.stride, horizon=1, target="last")


def epoch_of(windows: Windows, work: Work, epoch: int) -> Iterator[tuple[NDArray[Any], ...]]:
    """Return the batches of an epoch."""
    return windows.batches(work.batch, shuffle=work.shuffle, seed=0, epoch=epoch, memory=work.memory)


def _batches(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)

    def epoch(number: int) -> Iterator[int]:
        for inputs, _ in epoch_of(windows, work, number):
            yield len(inputs)

    return epoch


def _through_torch(work: Work, place: Path, *, workers: int) -> Epoch:
    from torch.utils.data import DataLoader

    adapter: Any = import_module("store_spec.torch")
    windows = windows_of(place, work)
    batches = adapter.BatchDataset(windows.batches, work.batch, shuffle=work.shuffle, seed=0, memory=work.memory)
    loader: Any = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    def epoch(_: int) -> Iterator[int]:
        for inputs, _ in loader:
            yield len(inputs)

    return epoch


def _shuffled(work: Work, place: Path, *, mapped: bool) -> tuple[Any, Any, NDArray[np.int64]]:
    """Return the window that begins at each row, the labels, and the starts of the windows in random order."""
    inputs, labels = (rows_of(place, name, mapped=mapped) for name in ("inputs", "labels"))
    view = np.lib.stride_tricks.sliding_window_view(inputs, work.window, axis=0).transpose(0, 2, 1)
    return view, labels, np.random.default_rng(0).permutation(window_starts(place, work))


def _gather(work: Work, place: Path, *, mapped: bool) -> Epoch:
    """One fancy index per batch, of starts that were shuffled before: only the gather is timed."""
    view, labels, starts = _shuffled(work, place, mapped=mapped)

    def epoch(_: int) -> Iterator[int]:
        for first in range(0, len(starts), work.batch):
            start = starts[first : first + work.batch]
            batch, _ = view[start], labels[start + (work.window - 1)]
            yield len(batch)

    return epoch


def _gather_through_torch(work: Work, place: Path, *, workers: int) -> Epoch:
    """The gather from memory in worker processes, as a dataset of torch with all rows in memory."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    view, labels, starts = _shuffled(work, place, mapped=False)

    class InMemory(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            worker: Any = get_worker_info()
            for first in range(worker.id * work.batch, len(starts), worker.num_workers * work.batch):
                start = starts[first : first + work.batch]
                yield torch.from_numpy(view[start]), torch.from_numpy(labels[start + (work.window - 1)])

    # Forked workers have the arrays without a copy.
    loader: Any = DataLoader(
        InMemory(), batch_size=None, num_workers=workers, persistent_workers=True, multiprocessing_context="fork"
    )

    def epoch(_: int) -> Iterator[int]:
        for batch, _ in loader:
            yield len(batch)

    return epoch


def _store_read(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)

    def epoch(number: int) -> Iterator[int]:
        for sequence, first in _one_by_one(windows, number):
            inputs, labels = windows.store.read(sequence, first, first + work.window)
            _ = inputs, labels[-1]
            yield 1

    return epoch


def _plain_zarr(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)
    inputs, labels = (zarr.open_array(place / "store.zarr", path=name, mode="r") for name in ("inputs", "labels"))
    starts = windows.store.starts

    def epoch(number: int) -> Iterator[int]:
        for sequence, first in _one_by_one(windows, number):
            start = int(starts[sequence]) + first
            _ = inputs[start : start + work.window], labels[start + work.window - 1]
            yield 1

    return epoch


def _one_by_one(windows: Windows, epoch: int) -> Iterator[tuple[int, int]]:
    """Yield sequence and first step of random windows: as good as an epoch, since few of them are read."""
    rng = np.random.default_rng(epoch)
    for _ in range(len(windows)):
        yield windows.index.locate(int(rng.integers(len(windows))))


def window_starts(place: Path, work: Work) -> NDArray[np.int64]:
    """Return the row where each window starts, in the order of their numbers."""
    windows = windows_of(place, work)
    first = windows.index.first
    starts = np.arange(len(windows), dtype=np.int64)
    starts -= np.repeat(first[:-1], np.diff(first))
    starts *= work.stride
    starts += np.repeat(windows.store.starts, np.diff(first))
    return starts


READERS: dict[str, Callable[[Work, Path], Epoch]] = {
    "batches": _batches,
    "gather": partial(_gather, mapped=False),
    "memory map": partial(_gather, mapped=True),
    "torch, 0 workers": partial(_through_torch, workers=0),
    "torch, 2 workers": partial(_through_torch, workers=2),
    "gather, torch, 2 workers": partial(_gather_through_torch, workers=2),
    "store.read a window": _store_read,
    "plain zarr a window": _plain_zarr,
}
