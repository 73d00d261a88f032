"""A build of sources far larger than the memory that it may use."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.frames.tabular import tabular
from tests.benchmarks.building import build_whole, process_for
from tests.benchmarks.children import measure
from tests.benchmarks.results import print_table
from tests.benchmarks.sources import COLUMNS, ROW_BYTES, write_grouped_source, write_sources

SOURCE = 20_000_000 // ROW_BYTES  # steps
LARGE_SOURCE = 200_000_000 // ROW_BYTES
PART = 100_000  # steps of a sequence of a large source

Write = Callable[[Path, int], int]  # sources of so many steps into a folder


def in_parts(path: Path) -> Iterator[Any]:
    """Yield sequences, and keep none."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while len(values := np.fromfile(file, np.float32, PART * len(COLUMNS))):
            part = values.reshape(-1, len(COLUMNS))
            yield part[:, :-1], part[:, -1:]


def write_many(folder: Path, steps: int) -> int:
    """Write sources of 20 MB, and in their midst one of 200 MB."""
    lengths = [SOURCE] * max(1, (steps - LARGE_SOURCE) // SOURCE)
    lengths.insert(len(lengths) // 2, LARGE_SOURCE)
    return write_sources(folder, lengths)


def write_one(folder: Path, steps: int) -> int:
    """Write one source of half of the size."""
    return write_sources(folder, [steps // 2])


SOURCES: dict[str, tuple[Write, Any]] = {
    # Each with the function that makes the sources, and their process function.
    "NPY files": (write_many, process_for("npy")),
    "one Parquet file, by groups": (
        lambda folder, steps: write_grouped_source(folder / "x.parquet", steps, PART),
        tabular(inputs="f0:f7", labels="label", group_by="g"),
    ),
    "one Parquet file, one sequence": (
        lambda folder, steps: write_grouped_source(folder / "x.parquet", steps // 2, steps),
        tabular(inputs="f0:f7", labels="label"),
    ),
    "one NPY file": (write_one, process_for("npy")),
    "a function that yields parts": (write_one, in_parts),
}


def benchmark_memory(folder: Path, *, megabytes: int, limit: int, workers: Sequence[int]) -> None:
    """Print the peak of all processes together, for builds whose memory is limited if the system can do that."""
    sources, store = folder / "memory-sources", folder / "memory-store"
    rows = []
    for kind, (write, process) in SOURCES.items():
        write(sources, megabytes * 10**6 // ROW_BYTES)
        name = kind if write is not write_many else f"{sum(1 for _ in sources.rglob('*.npy')):,} {kind}"
        for count in workers:
            found = measure(build_whole, process, sources, store, count, limit, {}, memory=True)
            held = f"{limit / 1e6:,.0f} MB by a cgroup" if found["limited"] else "not held"
            decoded = found["decoded"] / 1e6
            cells = f"{found['peak'] / 1e6:,.0f}", held, f"{found['seconds']:.1f}", f"{decoded / found['seconds']:,.0f}"
            rows.append([name, str(count), f"{decoded:,.0f}", *cells])
            shutil.rmtree(store)
        shutil.rmtree(sources)
    large = LARGE_SOURCE * ROW_BYTES / 1e6
    print(f"\nMemory: sources far larger than it; one of the many has {large:,.0f} MB\n")
    print_table(["", "workers", "decoded MB", "peak MB", "limit", "seconds", "MB/s"], rows)
    print("\npeak: of the proportional set sizes of all processes of the build together, sampled ten times a second.")
