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

Batch = tuple[Any, ...]
Epoch = Callable[[int], Iterable[Batch]]


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


def window_starts(windows: Windows) -> NDArray[np.int64]:
    """Return the row where each window starts, in the order of their numbers."""
    sequences, steps = windows.index.locate_many(np.arange(len(windows)))
    return windows.store.starts[sequences] + steps


def uncompressed(work: Work, place: Path, *, mapped: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the window that begins at each row, and the labels of rows: in memory, or as a memory map."""
    inputs, labels = (np.load(place / f"{name}.npy", "r" if mapped else None) for name in ("inputs", "labels"))
    return np.lib.stride_tricks.sliding_window_view(inputs, work.window, axis=0).transpose(0, 2, 1), labels


def _gather_every(work: Work, place: Path, *, mapped: bool = False) -> Callable[[int, int], Iterator[Batch]]:
    """One fancy index per batch, of starts that were shuffled before: only the gather is timed."""
    windows, labels = uncompressed(work, place, mapped=mapped)
    starts = np.random.default_rng(0).permutation(window_starts(windows_of(place, work)))

    def batches(first: int, step: int) -> Iterator[Batch]:
        for at in range(first * work.batch, len(starts), step * work.batch):
            start = starts[at : at + work.batch]
            yield windows[start], labels[start + (work.window - 1)]

    return batches


def _gather(work: Work, place: Path, *, mapped: bool) -> Epoch:
    gather = _gather_every(work, place, mapped=mapped)
    return lambda _: gather(0, 1)


def _gather_through_torch(work: Work, place: Path, *, workers: int) -> Epoch:
    """The gather from memory in worker processes, as a dataset of torch with all rows in memory."""
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    gather = _gather_every(work, place)

    class InMemory(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            worker: Any = get_worker_info()
            for batch in gather(worker.id, worker.num_workers):
                yield tuple(map(torch.from_numpy, batch))

    # Forked workers have the arrays without a copy.
    loader: Any = DataLoader(
        InMemory(), batch_size=None, num_workers=workers, persistent_workers=True, multiprocessing_context="fork"
    )
    return lambda _: loader


def _store_read(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)
    return _one_by_one(windows, lambda sequence, first: windows.store.read(sequence, first, first + work.window))


def _plain_zarr(work: Work, place: Path) -> Epoch:
    windows = windows_of(place, work)
    inputs, labels = (zarr.open_array(place / "store.zarr", path=name, mode="r") for name in ("inputs", "labels"))

    def read(sequence: int, first: int) -> Batch:
        start = int(windows.store.starts[sequence]) + first
        return np.asarray(inputs[start : start + work.window]), labels[start + work.window - 1]

    return _one_by_one(windows, read)


def _one_by_one(windows: Windows, read: Callable[[int, int], Batch]) -> Epoch:
    """Read random windows by sequence and first step: as good as an epoch, since few of them are read."""

    def epoch(number: int) -> Iterator[Batch]:
        rng = np.random.default_rng(number)
        for _ in range(len(windows)):
            inputs, labels = read(*windows.index.locate(int(rng.integers(len(windows)))))
            yield inputs[None], labels[-1:]

    return epoch


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
