"""What is read, and all readers of it: our batches, and what they are compared with.

A reader is prepared without the clock, and returns a function that yields the batches of an epoch.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

import store_spec
from store_spec.windows.windows import Windows

WINDOW = 128

Epoch = Callable[[int], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Windows to read in batches.

    Args:
        name: The name in the tables.
        store: A name in `stores.STORES`.
        stride: Steps between the starts of windows; equal to `window` if windows are disjoint.
        memory: The memory of the reader.
        goal: The least rate, as a share of that of `beside`; None if there is no goal.
        beside: The gather from memory, or decompressing alone with as many threads as there are cores.
    """

    name: str
    store: str = "walks"
    window: int = WINDOW
    stride: int = 1
    shuffle: bool = True
    batch: int = 256
    memory: str = "256MB"
    goal: float | None = None
    beside: Literal["gather", "decompress"] = "gather"


def windows_of(place: Path | str, work: Work) -> Windows:
    """Open the store of a place, which may be at a URL."""
    store = store_spec.open_store(f"{place}/store.zarr")
    return store.windows(work.window, stride=work.stride, horizon=1, target="last")


def epoch_of(windows: Windows, work: Work, epoch: int, **options: Any) -> Iterator[Any]:
    """Return the batches of an epoch."""
    return windows.batches(work.batch, shuffle=work.shuffle, seed=0, epoch=epoch, memory=work.memory, **options)


def _batches(work: Work, place: Path) -> Epoch:
    return partial(epoch_of, windows_of(place, work), work)


def _through_torch(work: Work, place: Path, *, workers: int) -> Epoch:
    from torch.utils.data import DataLoader

    adapter: Any = import_module("store_spec.torch")
    windows = windows_of(place, work)
    batches = adapter.BatchDataset(windows.batches, work.batch, shuffle=work.shuffle, seed=0, memory=work.memory)
    loader: Any = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return lambda _: loader


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather:
    """Windows from uncompressed rows: one fancy index per batch, of starts that were shuffled before.

    Args:
        windows: The window that begins at each row.
        labels: The label of each row.
        starts: The row where each window starts, in random order.
        work: What is read.
    """

    windows: NDArray[np.float32]
    labels: NDArray[np.float32]
    starts: NDArray[np.int64]
    work: Work

    def batches(self, first: int = 0, step: int = 1) -> Iterator[tuple[Any, ...]]:
        """Yield every `step`-th batch, from `first` on."""
        size = self.work.batch
        for at in range(first * size, len(self.starts), step * size):
            start = self.starts[at : at + size]
            yield self.windows[start], self.labels[start + (self.work.window - 1)]


def gather_of(work: Work, place: Path, *, mapped: bool) -> Gather:
    """Prepare the gather, from memory or from a memory map."""
    inputs, labels = (np.load(place / f"{name}.npy", "r" if mapped else None) for name in ("inputs", "labels"))
    windows = np.lib.stride_tricks.sliding_window_view(inputs, work.window, axis=0).transpose(0, 2, 1)
    starts = np.random.default_rng(0).permutation(window_starts(windows_of(place, work)))
    return Gather(windows=windows, labels=labels, starts=starts, work=work)


def window_starts(windows: Windows) -> NDArray[np.int64]:
    """Return the row where each window starts, in the order of their numbers."""
    sequences, steps = windows.index.locate_many(np.arange(len(windows)))
    return windows.store.starts[sequences] + steps


def _gather(work: Work, place: Path, *, mapped: bool) -> Epoch:
    gather = gather_of(work, place, mapped=mapped)
    return lambda _: gather.batches()


def _gather_through_torch(work: Work, place: Path, *, workers: int) -> Epoch:
    """The gather from memory in worker processes, as a dataset of torch with all rows in memory."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    gather = gather_of(work, place, mapped=False)

    class InMemory(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            worker: Any = get_worker_info()
            for batch in gather.batches(worker.id, worker.num_workers):
                yield tuple(map(torch.from_numpy, batch))

    # Forked workers have the arrays without a copy.
    loader: Any = DataLoader(
        InMemory(), batch_size=None, num_workers=workers, persistent_workers=True, multiprocessing_context="fork"
    )
    return lambda _: loader


def _store_read(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)

    def epoch(number: int) -> Iterator[tuple[Any, ...]]:
        for sequence, first in _one_by_one(windows, number):
            inputs, labels = windows.store.read(sequence, first, first + work.window)
            yield inputs[None], labels[-1:]

    return epoch


def _plain_zarr(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)
    inputs, labels = (zarr.open_array(place / "store.zarr", path=name, mode="r") for name in ("inputs", "labels"))
    starts = windows.store.starts

    def epoch(number: int) -> Iterator[tuple[Any, ...]]:
        for sequence, first in _one_by_one(windows, number):
            start = int(starts[sequence]) + first
            yield np.asarray(inputs[start : start + work.window])[None], labels[start + work.window - 1]

    return epoch


def _one_by_one(windows: Windows, epoch: int) -> Iterator[tuple[int, int]]:
    """Yield sequence and first step of random windows: as good as an epoch, since few of them are read."""
    rng = np.random.default_rng(epoch)
    for _ in range(len(windows)):
        yield windows.index.locate(int(rng.integers(len(windows))))


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
