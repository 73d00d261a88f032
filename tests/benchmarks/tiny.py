"""Many small sources: the time per source, and the memory of all processes, must not grow with their number."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import builder
import store_spec
from tests.benchmarks.building import process_for
from tests.benchmarks.children import Figures, measure, memory_since, start_of_memory
from tests.benchmarks.results import print_table
from tests.benchmarks.sources import write_sources

GOAL = 1.2
STEPS = 20
HEADS = ("sources", "µs each", "of the first", "µs of the coordinator", "its peak MB", "peak MB of all",
         "s to open the store")  # fmt: skip


def build_tiny(folder: Path, store: Path, workers: int) -> Figures:
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


def benchmark_tiny(folder: Path, *, counts: Sequence[int], workers: int) -> None:
    """Print time and memory for several numbers of sources."""
    rows, each = [], []
    for count in counts:
        sources, store = folder / f"tiny-{count}", folder / "tiny-store"
        write_sources(sources, [STEPS] * count)
        run = measure(build_tiny, sources, store, workers, memory=True)
        shutil.rmtree(store)
        shutil.rmtree(sources)
        each.append(run["seconds"] / count)
        cells = [f"{each[-1] * 1e6:,.0f}", f"{each[-1] / each[0]:.2f}", f"{run['coordinator'] / count * 1e6:,.0f}"]
        memory = f"{run['memory'] / 1e6:,.0f}", f"{run['peak'] / 1e6:,.0f}"
        rows.append([f"{count:,}", *cells, *memory, f"{run['open']:.3f}"])
    print(f"\nTiny sources: {STEPS} steps each, {workers} workers, their start included\n")
    print_table(HEADS, rows)
    print(f"\nGoal: {GOAL} times the time of each at ten times the number.")
