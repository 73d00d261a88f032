"""Many small sources: the time per source, and the memory of all processes, must not grow with their number."""

import shutil
import time
from pathlib import Path
from typing import Any

import builder
import store_spec
from tests.benchmarks.building import process_for
from tests.benchmarks.children import measure
from tests.benchmarks.reading.measured import memory_since, start_of_memory
from tests.benchmarks.sources import write_tiny_sources
from tests.benchmarks.table import print_table

GOAL = 1.2


def build_tiny(folder: str, store: str, workers: int) -> dict[str, Any]:
    """Build; the start of the processes counts, as it does for a user."""
    held, start, cpu = start_of_memory(), time.perf_counter(), time.process_time()
    # Small shards, so that the smaller number fills some too: the rows of a shard are in memory until it is full.
    report = builder.build(
        folder, store, process=process_for("npy"), workers=workers, chunk="256kB", shard="2MB", batch="8MB"
    )
    assert not report.failures
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = memory_since(held)["peak"]
    start = time.perf_counter()
    assert len(store_spec.open_store(store)) == report.added
    return {"seconds": seconds, "coordinator": cpu, "memory": memory, "open": time.perf_counter() - start}


def benchmark_tiny(folder: Path, *, counts: tuple[int, ...], workers: int, rounds: int) -> None:
    """Print time and memory for several numbers of sources, as medians of rounds."""
    rows, each = [], []
    for count in counts:
        sources, store = folder / f"tiny-{count}", folder / "tiny-store"
        write_tiny_sources(sources, count)
        found = []
        for _ in range(rounds):
            found.append(measure(build_tiny, str(sources), str(store), workers, memory=True))
            shutil.rmtree(store)
        shutil.rmtree(sources)
        run = sorted(found, key=lambda one: one["seconds"])[len(found) // 2]
        each.append(run["seconds"] / count)
        cells = [f"{each[-1] * 1e6:,.0f}", f"{each[-1] / each[0]:.2f}", f"{run['coordinator'] / count * 1e6:,.0f}"]
        memory = f"{run['memory'] / 1e6:,.0f}", f"{run['peak'] / 1e6:,.0f}"
        rows.append([f"{count:,}", *cells, *memory, f"{run['open']:.3f}"])
    print(f"\nTiny sources: 20 steps each, {workers} workers, their start included\n")
    print_table(
        [
            *("sources", "µs each", "of the first", "µs of the coordinator", "its peak MB", "peak MB of all"),
            "s to open the store",
        ],
        rows,
    )
    print(f"\nGoal: {GOAL} times the time of each at ten times the number.")
