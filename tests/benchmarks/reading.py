"""Windows a second, beside the same gather from memory and one slice a window of the same store."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import store_spec
from builder.build import build
from tests.benchmarks.building import process_for
from tests.benchmarks.children import measure
from tests.benchmarks.sources import write_sources
from tests.benchmarks.table import print_table

WINDOW, BATCH = 128, 256
STRIDES = {"dense": 1, "disjoint": WINDOW}
READERS = ("gather from memory", "batches", "one slice a window, store.read", "one slice a window, plain zarr")
GOAL = 50  # times as many windows in batches as by one slice each


def read(reader: str, path: str, stride: int, seconds: float) -> dict[str, Any]:
    """Count the windows that a reader gives in about that time, its first batch not included."""
    store = store_spec.open_store(path)
    batches = _READERS[reader](store, stride)
    next(batches)
    count, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < seconds:
        count += next(batches)
    return {"rate": count / took}


def _batches(store: store_spec.Store, stride: int) -> Iterator[int]:
    windows, epoch = store.windows(WINDOW, stride=stride), 0
    while True:
        for inputs, _ in windows.batches(BATCH, shuffle=True, epoch=epoch):
            yield len(inputs)
        epoch += 1


def _gather(store: store_spec.Store, stride: int) -> Iterator[int]:
    snapshot, steps = store.snapshot, store.counts.steps
    inputs, labels = (snapshot.rows(name, 0, steps) for name in ("inputs", "labels"))
    view = np.lib.stride_tricks.sliding_window_view(inputs, WINDOW, axis=0).transpose(0, 2, 1)
    for sequences, first in _shuffled(store, stride, BATCH):
        start = store.starts[sequences] + first
        batch, _ = view[start], labels[start + WINDOW][:, None]
        yield len(batch)


def _store_read(store: store_spec.Store, stride: int) -> Iterator[int]:
    for sequences, first in _shuffled(store, stride, 1):
        store.read(int(sequences[0]), int(first[0]), int(first[0]) + WINDOW + 1)
        yield 1


def _plain_zarr(store: store_spec.Store, stride: int) -> Iterator[int]:
    group = zarr.open_group(store.path, mode="r")
    inputs, labels = group["inputs"], group["labels"]
    assert isinstance(inputs, zarr.Array)
    assert isinstance(labels, zarr.Array)
    for sequences, first in _shuffled(store, stride, 1):
        start = int(store.starts[sequences][0] + first[0])
        _ = inputs[start : start + WINDOW], labels[start + WINDOW]
        yield 1


def _shuffled(store: store_spec.Store, stride: int, size: int) -> Iterator[tuple[Any, Any]]:
    """Give sequence and first step of windows in random order, `size` at a time, again and again."""
    index = store.windows(WINDOW, stride=stride).index
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(index))
        for start in range(0, len(order), size):
            yield index.locate_many(order[start : start + size])


_READERS: dict[str, Callable[[store_spec.Store, int], Iterator[int]]] = dict(
    zip(READERS, (_gather, _batches, _store_read, _plain_zarr), strict=True)
)


def benchmark_reading(folder: Path, *, megabytes: float, seconds: float, rounds: int) -> None:
    """Print a table; every figure is the median of rounds that go over all readers in turn."""
    sources, path = folder / "read-npy", folder / "read-store"
    decoded = write_sources(sources, "npy", megabytes) / 1e6
    build(sources, path, process=process_for("npy"), workers=0)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, stride in STRIDES.items():
            for reader in READERS:
                found.setdefault((name, reader), []).append(measure(read, reader, str(path), stride, seconds)["rate"])
    print(f"\nRead windows of {WINDOW} x 8 float32, shuffled, from {decoded:,.0f} MB, median of {rounds} rounds\n")
    rows = []
    for (name, reader), rates in found.items():
        memory = [rate / other for rate, other in zip(rates, found[name, READERS[0]], strict=True)]
        slices = [rate / other for rate, other in zip(rates, found[name, READERS[2]], strict=True)]
        rate, of_memory, of_slices = map(statistics.median, (rates, memory, slices))
        rows.append([f"{name}: {reader}", f"{rate:,.0f}", f"{of_memory:.4f}", f"{of_slices:,.1f}"])
    print_table(["", "windows/s", "of memory", "of one slice"], rows)
    print(f"\nGoal: batches at least {GOAL} times one slice a window. Windows in batches of {BATCH}, where in batches.")
