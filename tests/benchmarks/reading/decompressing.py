"""How fast threads that do nothing else decompress the chunks of a store."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc

import store_spec
from tests.benchmarks.children import processor_seconds

Chunk = tuple[int, int, int]  # descriptor, offset, bytes


def decompress(place: str, threads: int, seconds: float) -> dict[str, Any]:
    """Read and decompress all chunks of inputs and labels repeatedly, for about the given time.

    No checksum is compared, and each thread decompresses into one buffer, which stays in the processor's cache.
    """
    store = store_spec.open_store(Path(place, "store.zarr"))
    chunks = [chunk for name in ("inputs", "labels") for chunk in _chunks(store, name)]
    # Those of labels among the others, so that the threads end at about the same time.
    chunks = [chunks[number] for number in np.random.default_rng(0).permutation(len(chunks)).tolist()]
    largest = store.schema.steps.chunk * store.schema.inputs.nbytes
    buffers = [np.empty(largest, np.uint8) for _ in range(threads)]
    # Never in the main thread, where Blosc uses several threads.
    with ThreadPoolExecutor(threads) as pool:
        passes, cpu, start = 0, processor_seconds(), time.perf_counter()
        while (took := time.perf_counter() - start) < seconds or not passes:
            list(pool.map(_decompress, (chunks[one::threads] for one in range(threads)), buffers))
            passes += 1
        used = processor_seconds() - cpu
    return {"rows": passes * store.counts.steps / took, "cores": used / took}


def _chunks(store: store_spec.Store, name: str) -> list[Chunk]:
    chunking = store.schema.chunking(name)
    size = chunking.shard // chunking.chunk * 16 + 4
    found = []
    for path in sorted(Path(store.path, name).glob("c.*")):
        descriptor = os.open(path, os.O_RDONLY)
        tail = os.pread(descriptor, size, path.stat().st_size - size)
        index = np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)
        found += [(descriptor, offset, length) for offset, length in index[index[:, 1] < 2**63].tolist()]
    return found


def _decompress(chunks: Sequence[Chunk], buffer: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    for descriptor, offset, length in chunks:
        data = os.pread(descriptor, length - 4, offset)
        blosc.decompress(data, buffer[: int.from_bytes(data[4:8], "little")])
