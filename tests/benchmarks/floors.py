"""The time of the work on the sources without our code: bare processes that read, parse, compress and so on."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from tests.benchmarks.children import ready_pool, timed
from tests.benchmarks.sources import COLUMNS, FEATURES

CHUNK_ROWS = 2**13  # 256 KiB of inputs, as in the store
SHARES = 8  # of the sources for each process, so that they end at about the same time

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def floor(step: str, folder: str, processes: int) -> dict[str, Any]:
    """Time one step on all files of a folder, in processes that are running and have imported everything."""
    paths = sorted(map(str, Path(folder).iterdir()))
    shares = [list(share) for share in np.array_split(np.array(paths, object), SHARES * processes) if len(share)]
    with ready_pool(processes, _parse, paths[0]) as pool:
        if step != "compress":
            return timed(pool.imap_unordered(_STEPS[step], shares))
        # Parsed before the clock starts: each process has its share in memory.
        times = pool.map(_time_compressing, [paths[one::processes] for one in range(processes)], 1)
    return {"seconds": max(seconds for seconds, _ in times), "cpu": sum(cpu for _, cpu in times)}


def _read(paths: Sequence[str]) -> None:
    for path in paths:
        Path(path).read_bytes()


def _parse_all(paths: Sequence[str]) -> None:
    for path in paths:
        _parse(path)


def _read_parse_compress(paths: Sequence[str]) -> None:
    _compress_in_thread(map(_parse, paths))


def _all_of_it(paths: Sequence[str]) -> None:
    with tempfile.TemporaryFile(dir=Path(paths[0]).parents[1]) as file:
        _compress_in_thread(map(_hashed_and_described, paths), file.write)
        file.flush()
        os.fsync(file.fileno())


def _hashed_and_described(path: str) -> Pair:
    hashlib.sha256(Path(path).read_bytes()).digest()
    pair = _parse(path)
    for rows in pair:
        columns = np.ascontiguousarray(rows.T, np.float64)  # several times faster than across the rows
        for describe in (np.min, np.max, np.mean, np.var):
            assert np.isfinite(describe(columns, axis=1)).all()
    return pair


def _time_compressing(paths: Sequence[str]) -> tuple[float, float]:
    pairs = [_parse(path) for path in paths]
    cpu, start = time.process_time(), time.perf_counter()
    _compress_in_thread(iter(pairs))
    return time.perf_counter() - start, time.process_time() - cpu


def _compress_in_thread(pairs: Iterator[Pair], write: Callable[[bytes], object] = len) -> None:
    # Blosc uses more threads in a process's main thread.
    thread = threading.Thread(target=_compress, args=(pairs, write))
    thread.start()
    thread.join()


def _compress(pairs: Iterator[Pair], write: Callable[[bytes], object]) -> None:
    """Compress rows in chunks of one size, whatever the files' sizes."""
    waiting: list[Pair] = []
    rows = 0
    for pair in pairs:
        waiting.append(pair)
        rows += len(pair[0])
        if rows >= CHUNK_ROWS:
            rows = _compress_chunks(waiting, CHUNK_ROWS, write)
    _compress_chunks(waiting, 1, write)


def _compress_chunks(waiting: list[Pair], least: int, write: Callable[[bytes], object]) -> int:
    """Compress full chunks, or all rows if `least` is 1, and return the remaining rows."""
    inputs, labels = (np.concatenate([pair[which] for pair in waiting]) if waiting else None for which in (0, 1))
    waiting.clear()
    if inputs is None or labels is None:
        return 0
    start = 0
    while len(inputs) - start >= least:
        for array in (inputs, labels):
            chunk = array[start : start + CHUNK_ROWS].reshape(-1)
            write(blosc.compress(chunk, b"lz4", 9, blosc.SHUFFLE, 0))  # like a build without the option codec
        start += CHUNK_ROWS
    if start < len(inputs):
        waiting.append((inputs[start:], labels[start:]))
    return max(0, len(inputs) - start)


def _parse(path: str) -> Pair:
    table = np.load(path) if path.endswith(".npy") else _parse_csv(path)
    return np.ascontiguousarray(table[:, :FEATURES]), np.ascontiguousarray(table[:, FEATURES:])


def _parse_csv(path: str) -> NDArray[np.float32]:
    import pyarrow as pa
    from pyarrow import csv

    types = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float32()))
    columns = csv.read_csv(path, csv.ReadOptions(use_threads=False), convert_options=types).columns
    return np.stack([column.to_numpy() for column in columns], 1)


_STEPS: dict[str, Callable[[Sequence[str]], None]] = {
    "read": _read,
    "parse": _parse_all,
    "read + parse + compress": _read_parse_compress,
    "+ hash, describe, write": _all_of_it,
}
FLOOR, WHOLE = "read + parse + compress", "+ hash, describe, write"
STEPS = ("read", "parse", "compress", FLOOR, WHOLE)
