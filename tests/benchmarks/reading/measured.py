"""Measurements in a new process each: rates, first batches, whole epochs."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import store_spec
from tests.benchmarks.children import processor_seconds
from tests.benchmarks.control_group import limit_memory
from tests.benchmarks.reading.readers import READERS, epoch_of, windows_of
from tests.benchmarks.reading.works import Work


def read_warm(reader: str, work: dict[str, Any], place: str, seconds: float) -> dict[str, Any]:
    """Read for about the given time after the first batch, in as many epochs as that takes."""
    epoch = READERS[reader](Work(**work), Path(place))
    held = start_of_memory()
    counts = itertools.chain.from_iterable(map(epoch, itertools.count()))
    next(counts)
    cpu, start = processor_seconds(), time.perf_counter()
    count, took = _count(counts, start, seconds)
    return {"rate": count / took, "cores": (processor_seconds() - cpu) / took} | memory_since(held)


def read_cold(reader: str, work: dict[str, Any], place: str, seconds: float) -> dict[str, Any]:
    """Read for about the given time from before the first batch, at most one epoch: then all is in the page cache."""
    epoch = READERS[reader](Work(**work), Path(place))
    start = time.perf_counter()
    count, took = _count(epoch(0), start, seconds)
    return {"rate": count / took}


def read_held(reader: str, work: dict[str, Any], place: str, seconds: float, group: str, limit: int) -> dict[str, Any]:
    """Read with limited memory, page cache included, if possible; the preparation is not limited."""
    epoch = READERS[reader](Work(**work), Path(place))
    held = limit_memory(Path(group), limit)
    start = time.perf_counter()
    count, took = _count(itertools.chain.from_iterable(map(epoch, itertools.count())), start, seconds)
    return {"rate": count / took, "held": held}


def first_batch(work: dict[str, Any], place: str) -> dict[str, Any]:
    """Time opening a store and its first batch, with everything imported."""
    asked = Work(**work)
    held = start_of_memory()
    start = time.perf_counter()
    windows = windows_of(Path(place), asked)
    opened = time.perf_counter() - start
    next(epoch_of(windows, asked, 0))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "opened": opened, "sequences": len(windows.store)} | memory_since(held)


def whole_epoch(work: dict[str, Any], place: str) -> dict[str, Any]:
    """Read every window once; the memory of the open store and its windows does not count as growth."""
    asked = Work(**work)
    windows = windows_of(Path(place), asked)
    held = start_of_memory()
    start = time.perf_counter()
    count = sum(len(inputs) for inputs, _ in epoch_of(windows, asked, 0))
    assert count == len(windows)
    return {"rate": count / (time.perf_counter() - start), "windows": count} | memory_since(held)


def decoded_bytes(place: Path) -> int:
    """Return the bytes of all rows of a store."""
    store = store_spec.open_store(place / "store.zarr")
    return int(store.counts.steps * (store.schema.inputs.nbytes + store.schema.labels.nbytes))


def _count(counts: Iterator[int], start: float, seconds: float) -> tuple[int, float]:
    """Return the number of windows, and the seconds from the start to the last of them."""
    count, took = 0, 0.0
    for size in counts:
        count += size
        took = time.perf_counter() - start
        if took >= seconds:
            break
    return count, took


def start_of_memory() -> int:
    """Return the bytes of this process in memory, and have the kernel forget the peak."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def memory_since(held: int) -> dict[str, Any]:
    """Return the peak of this process's memory since then, pages of mapped files included, and the growth to it."""
    peak = _status("VmHWM")
    return {"peak": peak, "growth": peak - held}


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
