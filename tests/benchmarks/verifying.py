"""The rate of `verify`, compared with reading and decompressing the same chunks by bare processes."""

import importlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc

import builder
import store_spec
from builder.execution.build import build
from tests.benchmarks.building import engine_timed_apart, into_page_cache, process_for
from tests.benchmarks.children import measure, ready_pool, timed
from tests.benchmarks.reading.rounds import Round, median, ratio
from tests.benchmarks.sources import write_sources
from tests.benchmarks.table import print_table

GOAL = 0.5  # of the rate of reading and decompressing alone


def decompress(path: str, processes: int) -> dict[str, Any]:
    """Time bare processes that read all shards and decompress every chunk, without their start."""
    schema = store_spec.open_store(path).schema
    files, index_bytes = [], {}
    for name in ("inputs", "labels"):
        chunking = schema.chunking(name)
        index_bytes[name] = chunking.shard // chunking.chunk * 16 + 4
        files += [str(file) for file in Path(path, name).glob("c.*")]
    work = partial(_decompress, index_bytes)
    if processes == 1:
        return timed(map(work, [files]))
    with ready_pool(processes, _decompress, index_bytes, ()) as pool:
        return timed(pool.imap_unordered(work, [files[one::processes] for one in range(processes)]))


def _decompress(index_bytes: dict[str, int], files: Sequence[str]) -> None:
    for file in files:
        data = memoryview(Path(file).read_bytes())
        size = index_bytes[Path(file).parent.name]
        index = np.frombuffer(data[-size:-4], "<u8").reshape(-1, 2)
        for offset, length in index[index[:, 1] < 2**63].tolist():
            blosc.decompress(data[offset : offset + length - 4])


def verify(path: str, processes: int) -> dict[str, Any]:
    """Time `verify` without the start and the end of its worker processes; one process is this one."""
    with engine_timed_apart("builder.maintenance.checks", _import_all) as ends:
        begin = time.perf_counter()
        problems = builder.verify(path, workers=0 if processes == 1 else processes)
        whole = time.perf_counter() - begin
    assert not problems
    return {"seconds": whole - ends["start"], "cpu": ends["cpu"]}


def _import_all() -> None:
    importlib.import_module("store_spec.verification.described_rows")


STEPS = {"read + decompress": decompress, "verify": verify}


def benchmark_verify(folder: Path, *, megabytes: float, rounds: int, workers: tuple[int, ...]) -> None:
    """Print a table of medians of rounds that measure all in turn."""
    sources, path = folder / "verify-npy", folder / "verify-store"
    decoded = write_sources(sources, "npy", megabytes) / 1e6
    build(sources, path, process=process_for("npy"), workers=0)
    into_page_cache(path)
    found: list[Round] = [
        {(name, n): measure(step, str(path), n) for n in workers for name, step in STEPS.items()} for _ in range(rounds)
    ]
    rows = []
    for name, processes in found[0]:
        key, alone = (name, processes), ("read + decompress", processes)
        rates = [f"{decoded / median(found, key, field):,.0f}" for field in ("seconds", "cpu")]
        shares = [f"{ratio(found, alone, key, field):.2f}" for field in ("seconds", "cpu")]
        rows.append([name, str(processes), *rates, *shares])
    count = len(list(sources.iterdir()))
    print(f"\nVerify {decoded:,.0f} MB decoded, of {count:,} sources, median of {rounds} rounds\n")
    print_table(["", "processes", "MB/s", "MB a CPU s", "of read + decompress", "by CPU"], rows)
    print(f"\nGoal: at least {GOAL} of the rate of read + decompress.")
