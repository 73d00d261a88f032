"""What is read, and all readers of it: our batches, and what they are compared with.

A reader is prepared without the clock, and returns a function that yields the batches of an epoch.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
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
        store: `walks` or `tiny`.
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


def window_starts(windows: Windows) -> NDArray[np.int64]:
    """Return the row where each window starts, in the order of their numbers."""
    sequences, steps = windows.index.locate_many(np.arange(len(windows)))
    return windows.store.starts[sequences] + steps


def uncompressed(work: Work, place: Path, *, mapped: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the window that begins at each row, and the labels of rows: in memory, or as a memory map."""
    inputs, labels = (np.load(place / f"{name}.npy", "r" if mapped else None) for name in ("inputs", "labels"))
    return np.lib.stride_tricks.sliding_window_view(inputs, work.window, axis=0).transpose(0, 2, 1), labels


def _gather(work: Work, place: Path, *, mapped: bool) -> Epoch:
    """One fancy index per batch, of starts that were shuffled before: only the gather is timed."""
    windows, labels = uncompressed(work, place, mapped=mapped)
    starts = np.random.default_rng(0).permutation(window_starts(windows_of(place, work)))

    def epoch(_: int) -> Iterator[Batch]:
        for at in range(0, len(starts), work.batch):
            start = starts[at : at + work.batch]
            yield windows[start], labels[start + (work.window - 1)]

    return epoch


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
    "store.read a window": _store_read,
    "plain zarr a window": _plain_zarr,
}
