"""Many small sources: the time per source, and the memory of all processes, must not grow with their number."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.building import build_whole, process_for
from tests.benchmarks.children import measure
from tests.benchmarks.results import print_table
from tests.benchmarks.sources import write_sources

GOAL = 1.2
STEPS = 20
# Small shards, so that the smaller number fills some too: the rows of a shard are in memory until it is full.
SIZES = {"chunk": "256kB", "shard": "2MB", "batch": "8MB"}
HEADS = ("sources", "µs each", "of the first", "µs of the coordinator", "its peak MB", "peak MB of all",
         "s to open the store")  # fmt: skip


def benchmark_tiny(folder: Path, *, counts: Sequence[int], workers: int) -> None:
    """Print time and memory for several numbers of sources."""
    rows, each = [], []
    for count in counts:
        sources, store = folder / f"tiny-{count}", folder / "tiny-store"
        write_sources(sources, [STEPS] * count)
        run = measure(build_whole, process_for("npy"), sources, store, workers, 0, SIZES, memory=True)
        shutil.rmtree(store)
        shutil.rmtree(sources)
        each.append(run["seconds"] / count)
        cells = [f"{each[-1] * 1e6:,.0f}", f"{each[-1] / each[0]:.2f}", f"{run['coordinator'] / count * 1e6:,.0f}"]
        memory = f"{run['memory'] / 1e6:,.0f}", f"{run['peak'] / 1e6:,.0f}"
        rows.append([f"{count:,}", *cells, *memory, f"{run['open']:.3f}"])
    print(f"\nTiny sources: {STEPS} steps each, {workers} workers, their start included\n")
    print_table(HEADS, rows)
    print(f"\nGoal: {GOAL} times the time of each at ten times the number.")
