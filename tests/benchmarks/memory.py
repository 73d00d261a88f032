"""A build of sources far larger than the memory that it may take."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import builder
from tests.benchmarks.building import process_for
from tests.benchmarks.children import measure
from tests.benchmarks.sources import write_large_sources
from tests.benchmarks.table import print_table

CONTROLLER = Path("/sys/fs/cgroup/memory")  # of version 1: where it is, root can set a limit that the kernel holds
SOURCE = 20_000_000
LARGE_SOURCE = 200_000_000


def build_large(folder: str, store: str, workers: int, group: str, limit: int) -> dict[str, Any]:
    """Build, where that can be with no more memory than `limit` bytes for this process and all that it starts."""
    limited = _limit(Path(group), limit)
    start = time.perf_counter()
    report = builder.build(folder, store, process=process_for("npy"), workers=workers)
    assert not report.failures
    return {"seconds": time.perf_counter() - start, "limited": limited}


def benchmark_memory(folder: Path, *, megabytes: int, limit: int, workers: tuple[int, ...]) -> None:
    """Print the peak of the whole process tree, for builds that are held to a limit where the system can do that."""
    sources = folder / "memory-npy"
    sizes = [SOURCE] * max(1, (megabytes * 10**6 - LARGE_SOURCE) // SOURCE)
    sizes.insert(len(sizes) // 2, LARGE_SOURCE)
    decoded = write_large_sources(sources, sizes) / 1e6
    rows = []
    for count in workers:
        store = folder / "memory-store"
        with _control_group() as group:
            found = measure(build_large, str(sources), str(store), count, str(group), limit, memory=True)
        held = f"{limit / 1e6:,.0f} MB by a cgroup" if found["limited"] else "not held"
        rate = decoded / found["seconds"]
        cells = f"{found['peak'] / 1e6:,.0f}", held, f"{found['seconds']:.1f}", f"{rate:,.0f}"
        rows.append([f"{count} workers", *cells])
        shutil.rmtree(store)
    shutil.rmtree(sources)
    print(f"\nMemory: {len(sizes):,} sources, {decoded:,.0f} MB decoded, one of them {LARGE_SOURCE / 1e6:,.0f} MB\n")
    print_table(["", "peak MB", "limit", "seconds", "MB/s"], rows)
    print("\npeak: of the proportional set sizes of all processes of the build together, sampled ten times a second.")


def _limit(group: Path, limit: int) -> bool:
    """Put this process, and what it will start, under a limit that counts the page cache too; tell whether it holds."""
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _control_group() -> Iterator[Path]:
    """Make a group of processes, where that can be; remove it when they have ended."""
    group = CONTROLLER / f"seqzarr-{os.getpid()}"
    with contextlib.suppress(OSError):
        group.mkdir()
    yield group
    with contextlib.suppress(OSError):
        group.rmdir()
