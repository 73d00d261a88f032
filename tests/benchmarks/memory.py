"""A build of sources far larger than the memory that it may use."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import builder
from builder.frames.tabular import tabular
from tests.benchmarks.building import process_for
from tests.benchmarks.children import measure
from tests.benchmarks.control_group import control_group, limit_memory
from tests.benchmarks.sources import COLUMNS, write_grouped_source, write_large_sources
from tests.benchmarks.table import print_table

SOURCE = 20_000_000
LARGE_SOURCE = 200_000_000


def build_large(folder: str, store: str, kind: str, workers: int, group: str, limit: int) -> dict[str, Any]:
    """Build with at most `limit` bytes of memory for all processes, if the system can limit it."""
    limited = limit_memory(Path(group), limit)
    start = time.perf_counter()
    report = builder.build(folder, store, process=PROCESSES[kind](), workers=workers)
    assert not report.failures
    return {"seconds": time.perf_counter() - start, "limited": limited, "decoded": report.bytes_decoded}


def benchmark_memory(folder: Path, *, megabytes: int, limit: int, workers: tuple[int, ...]) -> None:
    """Print the peak of all processes together, for builds whose memory is limited if the system can do that."""
    sizes = [SOURCE] * max(1, (megabytes * 10**6 - LARGE_SOURCE) // SOURCE)
    sizes.insert(len(sizes) // 2, LARGE_SOURCE)
    half = megabytes // 2
    rows = []
    for kind, write in {
        f"{len(sizes):,} NPY files": lambda place: write_large_sources(place, sizes),
        "one Parquet file, by groups": lambda place: write_grouped_source(place / "x.parquet", megabytes),
        "one Parquet file, one sequence": lambda place: write_grouped_source(place / "x.parquet", half, steps=0),
        "one NPY file": lambda place: write_large_sources(place, [half * 10**6]),
        "a function that yields parts": lambda place: write_large_sources(place, [half * 10**6]),
    }.items():
        sources, store = folder / "memory-sources", folder / "memory-store"
        write(sources)
        for count in workers:
            with control_group() as group:
                arguments = str(sources), str(store), kind.partition(" ")[2], count, str(group), limit
                found = measure(build_large, *arguments, memory=True)
            held = f"{limit / 1e6:,.0f} MB by a cgroup" if found["limited"] else "not held"
            decoded = found["decoded"] / 1e6
            cells = f"{found['peak'] / 1e6:,.0f}", held, f"{found['seconds']:.1f}", f"{decoded / found['seconds']:,.0f}"
            rows.append([kind, str(count), f"{decoded:,.0f}", *cells])
            shutil.rmtree(store)
        shutil.rmtree(sources)
    print(f"\nMemory: sources far larger than it; one of the many has {LARGE_SOURCE / 1e6:,.0f} MB\n")
    print_table(["", "workers", "decoded MB", "peak MB", "limit", "seconds", "MB/s"], rows)
    print("\npeak: of the proportional set sizes of all processes of the build together, sampled ten times a second.")


def in_parts(path: Path) -> Iterator[Any]:
    """Yield sequences of 100,000 rows each, and keep none."""
    width = len(COLUMNS)
    with path.open("rb") as file:
        file.seek(path.stat().st_size % (4 * width))  # after the header
        while len(values := np.fromfile(file, np.float32, 100_000 * width)):
            part = values.reshape(-1, width)
            yield part[:, :-1], part[:, -1:]


PROCESSES: dict[str, Callable[[], Any]] = {
    "NPY files": lambda: process_for("npy"),
    "Parquet file, by groups": lambda: tabular(inputs="f0:f7", labels="label", group_by="g"),
    "Parquet file, one sequence": lambda: tabular(inputs="f0:f7", labels="label"),
    "NPY file": lambda: process_for("npy"),
    "function that yields parts": lambda: in_parts,
}
