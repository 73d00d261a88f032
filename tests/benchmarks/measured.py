"""Measurements of reading, in a new process each: rates, first batches, whole epochs, decompressing alone."""

import itertools
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

import store_spec
from tests.benchmarks.children import Figures, memory_since, processor_seconds, start_of_memory
from tests.benchmarks.readers import READERS, Work, epoch_of, uncompressed, window_starts, windows_of
from tests.benchmarks.stores import shards_of

BATCHES = 32  # compared with the uncompressed rows


def read_windows(reader: str, work: Work, place: Path, seconds: float, *, cold: bool = False) -> Figures:
    """Read for about the given time, in as many epochs as that takes, after the first batch.

    Args:
        reader: A name in READERS.
        work: What is read.
        place: The folder of the store.
        seconds: The time.
        cold: Count the first batch too, and read one epoch at most, as then all is in the page cache.
    """
    epoch = READERS[reader](work, place)
    held = start_of_memory()
    batches = itertools.chain.from_iterable(map(epoch, range(1) if cold else itertools.count()))
    if not cold:
        next(batches)
    count, took, cpu, start = 0, 0.0, processor_seconds(), time.perf_counter()
    for inputs, *_ in batches:
        count += len(inputs)
        took = time.perf_counter() - start
        if took >= seconds:
            break
    return {"rate": count / took, "cores": (processor_seconds() - cpu) / took} | memory_since(held)


def first_batch(work: Work, place: Path | str) -> Figures:
    """Time opening a store and its first batch, with everything imported."""
    start = time.perf_counter()
    windows = windows_of(place, work)
    next(epoch_of(windows, work, 0))
    return {"seconds": time.perf_counter() - start, "sequences": len(windows.store)}


def whole_epoch(work: Work, place: Path | str) -> Figures:
    """Read every window once; the memory of the open store and its windows does not count as growth."""
    windows = windows_of(place, work)
    held, start = start_of_memory(), time.perf_counter()
    count = sum(len(inputs) for inputs, _ in epoch_of(windows, work, 0))
    assert count == len(windows)
    seconds = time.perf_counter() - start
    return {"rate": count / seconds, "seconds": seconds, "windows": count} | memory_since(held)


def distinct_sequences(work: Work, place: Path, seconds: float) -> Figures:
    """Return the mean number of sequences in a batch, and that of batches drawn from all windows.

    Batches are read for the given time, and some of them are compared with the uncompressed rows.
    """
    windows = windows_of(place, work)
    due, labels_due = uncompressed(work, place, mapped=True)
    starts = window_starts(windows)
    taken: list[NDArray[np.int64]] = []
    start = time.perf_counter()
    for inputs, labels, index in epoch_of(windows, work, 0, index=True):
        passed = time.perf_counter() - start
        if len(inputs) == min(work.batch, len(windows)) and passed >= len(taken) * seconds / BATCHES:
            assert np.array_equal(inputs, due[starts[index]])
            assert np.array_equal(labels, labels_due[starts[index] + work.window - 1])
            taken.append(index)
        if len(taken) == BATCHES:
            break
    random = [*np.random.default_rng(0).choice(len(windows), (len(taken), len(taken[0])))]
    return {"distinct": _sequences_of(windows.index.first, taken), "global": _sequences_of(windows.index.first, random)}


def _sequences_of(first: NDArray[np.int64], batches: Sequence[NDArray[np.int64]]) -> float:
    """Return the mean, over batches, of the number of sequences of their windows."""
    return float(np.mean([len(np.unique(np.searchsorted(first, batch, side="right"))) for batch in batches]))


def decompress(place: Path, threads: int, seconds: float) -> Figures:
    """Return the rows per second of threads that read and decompress all chunks repeatedly, for about the given time.

    No checksum is compared, and each thread decompresses into one buffer, which stays in the processor's cache.
    """
    store = store_spec.open_store(place / "store.zarr")
    chunks = [
        (descriptor, *chunk)
        for file, found in shards_of(place / "store.zarr")
        for descriptor in [os.open(file, os.O_RDONLY)]
        for chunk in found
    ]
    # Those of labels among the others, so that the threads end at about the same time.
    np.random.default_rng(0).shuffle(chunks)
    buffers = [np.empty(store.schema.steps.chunk * store.schema.inputs.nbytes, np.uint8) for _ in range(threads)]
    # Never in the main thread, where Blosc uses several threads.
    with ThreadPoolExecutor(threads) as pool:
        passes, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < seconds or not passes:
            list(pool.map(_decompress, (chunks[one::threads] for one in range(threads)), buffers))
            passes += 1
    return {"rate": passes * store.counts.steps / took}


def _decompress(chunks: Sequence[tuple[int, int, int]], buffer: NDArray[np.uint8]) -> None:
    for descriptor, offset, length in chunks:
        data = os.pread(descriptor, length, offset)
        blosc.decompress(data, buffer[: int.from_bytes(data[4:8], "little")])
