"""The time of the work on the sources without our code: bare processes that read, parse, compress and so on."""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numcodecs import blosc

from tests.benchmarks.children import Figures, ready_pool, timed
from tests.benchmarks.sources import COLUMNS, FEATURES, Rows

CHUNK_ROWS = 2**13  # 256 KiB of inputs, as in the store
SHARES = 8  # of the sources for each process, so that they end at about the same time

Pair = tuple[Rows, Rows]


def floor(step: str, folder: Path, processes: int) -> Figures:
    """Time one step on all files of a folder, in processes that are running and have imported everything."""
    paths = sorted(map(str, folder.rglob("*.*")))
    shares = [paths[one :: SHARES * processes] for one in range(min(len(paths), SHARES * processes))]
    with ready_pool(processes, _parse, paths[0]) as pool:
        if step != "compress":
            return timed(partial(pool.imap_unordered, _STEPS[step], shares))
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
    with tempfile.TemporaryFile(dir=Path(paths[0]).parents[2]) as file:
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
    _compress_in_thread(pairs)
    return time.perf_counter() - start, time.process_time() - cpu


def _compress_in_thread(pairs: Iterable[Pair], write: Callable[[bytes], object] = len) -> None:
    # Blosc uses more threads in a process's main thread.
    thread = threading.Thread(target=_compress, args=(pairs, write))
    thread.start()
    thread.join()


def _compress(pairs: Iterable[Pair], write: Callable[[bytes], object]) -> None:
    for pair in _chunks(pairs):
        for rows in pair:
            write(
                blosc.compress(rows.reshape(-1), b"lz4", 9, blosc.SHUFFLE, 0)
            )  # like a build without the option codec


def _chunks(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield chunks of the same number of rows, whatever the files' sizes; the last one may be smaller."""
    waiting: list[Pair] = []
    rows = 0
    for pair in pairs:
        waiting.append(pair)
        rows += len(pair[0])
        if rows >= CHUNK_ROWS:
            inputs, labels = map(np.concatenate, zip(*waiting, strict=True))
            whole = rows - rows % CHUNK_ROWS
            for start in range(0, whole, CHUNK_ROWS):
                yield inputs[start : start + CHUNK_ROWS], labels[start : start + CHUNK_ROWS]
            waiting, rows = [(inputs[whole:], labels[whole:])], rows - whole
    if rows:
        inputs, labels = map(np.concatenate, zip(*waiting, strict=True))
        yield inputs, labels


def _parse(path: str) -> Pair:
    table = np.load(path) if path.endswith(".npy") else _parse_csv(path)
    return np.ascontiguousarray(table[:, :FEATURES]), np.ascontiguousarray(table[:, FEATURES:])


def _parse_csv(path: str) -> Rows:
    import pyarrow as pa
    from pyarrow import csv

    types = csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.float32()))
    columns = csv.read_csv(path, csv.ReadOptions(use_threads=False), convert_options=types).columns
    return np.stack([column.to_numpy() for column in columns], 1)


FLOOR, WHOLE = "read + parse + compress", "+ hash, describe, write"
STEPS = ("read", "parse", "compress", FLOOR, WHOLE)
_STEPS: dict[str, Callable[[Sequence[str]], None]] = {
    "read": _read,
    "parse": _parse_all,
    FLOOR: _read_parse_compress,
    WHOLE: _all_of_it,
}
