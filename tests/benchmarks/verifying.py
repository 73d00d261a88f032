"""The rate of `verify`, compared with reading and decompressing the same chunks by bare processes."""

import importlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from numcodecs import blosc

import builder
import store_spec
from tests.benchmarks.building import engine_timed_apart
from tests.benchmarks.children import Figures, measure, ready_pool, timed
from tests.benchmarks.results import print_table, repeat
from tests.benchmarks.stores import Chunk, decoded_bytes, into_page_cache, make_store, shards_of

GOAL = 0.5  # of the rate of reading and decompressing alone


def decompress(path: Path, processes: int) -> Figures:
    """Time bare processes that read all shards and decompress every chunk, without their start."""
    shards = shards_of(path)
    if processes == 1:
        return timed(partial(map, _decompress, [shards]))
    with ready_pool(processes, _decompress, []) as pool:
        return timed(partial(pool.imap_unordered, _decompress, [shards[one::processes] for one in range(processes)]))


def _decompress(shards: Sequence[tuple[str, Sequence[Chunk]]]) -> None:
    for file, chunks in shards:
        data = memoryview(Path(file).read_bytes())
        for offset, length in chunks:
            blosc.decompress(data[offset : offset + length])


def verify(path: Path, processes: int) -> Figures:
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


def benchmark_verify(folder: Path, *, megabytes: float, rounds: int, workers: Sequence[int]) -> None:
    """Print a table of medians of rounds that measure all in turn."""
    path = make_store(folder, "walks", megabytes) / "store.zarr"
    decoded = decoded_bytes(path) / 1e6
    into_page_cache(path)
    keys = [(name, processes) for processes in workers for name in STEPS]
    found = repeat(rounds, {key: partial(measure, STEPS[key[0]], path, key[1]) for key in keys})
    rows = []
    for name, processes in keys:
        step, bare = (name, processes), ("read + decompress", processes)
        rates = [f"{decoded / found.median(step, figure):,.0f}" for figure in ("seconds", "cpu")]
        shares = [f"{found.ratio(bare, step, figure):.2f}" for figure in ("seconds", "cpu")]
        rows.append([name, str(processes), *rates, *shares])
    count = len(store_spec.open_store(path))
    print(f"\nVerify {decoded:,.0f} MB decoded, of {count:,} sources, median of {rounds} rounds\n")
    print_table(["", "processes", "MB/s", "MB a CPU s", "of read + decompress", "by CPU"], rows)
    print(f"\nGoal: at least {GOAL} of the rate of read + decompress.")
