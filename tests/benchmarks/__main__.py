"""All benchmarks, as tables: `python -m tests.benchmarks`, from the repository's root."""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.building import benchmark_build
from tests.benchmarks.memory import benchmark_memory
from tests.benchmarks.reading import benchmark_reading
from tests.benchmarks.tiny import benchmark_tiny
from tests.benchmarks.verifying import benchmark_verify

SECTIONS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None] | None]] = {
    # Each as it is, and with --quick.
    "build": (
        lambda folder: benchmark_build(folder, megabytes={"npy": 140, "csv": 60}, rounds=5, workers=(1, 2)),
        lambda folder: benchmark_build(folder, megabytes={"npy": 20, "csv": 8}, rounds=1, workers=(1,)),
    ),
    "read": (
        lambda folder: benchmark_reading(folder, megabytes=140, seconds=3, rounds=3),
        lambda folder: benchmark_reading(folder, megabytes=20, seconds=0.5, rounds=1),
    ),
    "verify": (
        lambda folder: benchmark_verify(folder, megabytes=840, rounds=5, workers=(1, 2)),
        lambda folder: benchmark_verify(folder, megabytes=20, rounds=1, workers=(1,)),
    ),
    "tiny": (
        lambda folder: benchmark_tiny(folder, counts=(10_000, 100_000), workers=2, rounds=1),
        lambda folder: benchmark_tiny(folder, counts=(200, 2_000), workers=1, rounds=1),
    ),
    "memory": (
        lambda folder: benchmark_memory(folder, megabytes=4_000, limit=1_500_000_000, workers=(1, 2)),
        None,
    ),
}


def main() -> None:
    """Run the sections that are asked for, each in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, no memory: less than a minute")
    parser.add_argument("--folder", type=Path, help="where to make sources and stores, 5 GB (default: temporary)")
    given = parser.parse_args()
    for name in given.sections:
        if name not in SECTIONS:
            parser.error(f"there is no section {name}; there are {', '.join(SECTIONS)}")
    packages = ("numpy", "numcodecs", "zarr", "dask", "pyarrow")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages))
    begin = time.perf_counter()
    for name in given.sections or SECTIONS:
        run = SECTIONS[name][given.quick]
        if run is not None:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                run(Path(folder))
    print(f"\n{time.perf_counter() - begin:.0f} seconds in all.")


if __name__ == "__main__":
    main()
