"""All benchmarks, as tables: `python -m tests.benchmarks`, in the root of the repository."""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.buckets import benchmark_buckets
from tests.benchmarks.building import benchmark_build, benchmark_memory, benchmark_tiny
from tests.benchmarks.reading import TABLES, benchmark_reading
from tests.benchmarks.training import benchmark_training
from tests.benchmarks.verifying import benchmark_verify

SECTIONS: dict[str, tuple[Callable[..., None], dict[str, Any], dict[str, Any] | None]] = {
    # Each with its arguments, and with those for --quick.
    "build": (
        benchmark_build,
        {"megabytes": {"npy": 1000, "csv": 300}, "rounds": 3, "workers": (1, 2)},
        {"megabytes": {"npy": 20, "csv": 8}, "rounds": 1, "workers": (1,)},
    ),
    "reading": (
        benchmark_reading,
        {"megabytes": {"walks": 1050, "tiny": 640}, "seconds": 4, "rounds": 3, "tables": [*TABLES]},
        {"megabytes": {"walks": 20, "tiny": 6}, "seconds": 0.2, "rounds": 1, "tables": [*TABLES]},
    ),
    "verify": (
        benchmark_verify,
        {"megabytes": 840, "rounds": 5, "workers": (1, 2)},
        {"megabytes": 60, "rounds": 1, "workers": (1,)},
    ),
    "tiny": (
        benchmark_tiny,
        {"counts": (10_000, 100_000, 1_000_000), "workers": 2},
        {"counts": (200, 2_000), "workers": 1},
    ),
    "buckets": (
        benchmark_buckets,
        {"megabytes": 1050, "tiny": 64, "memories": ("256MB", "1GB")},
        {"megabytes": 20, "tiny": 6, "memories": ("256MB",)},
    ),
    "training": (benchmark_training, {"seeds": 10}, {"seeds": 2}),
    "memory": (benchmark_memory, {"megabytes": 4_000, "limit": 1_500_000_000, "workers": (1, 2)}, None),
}


def main() -> None:
    """Run the named sections, each in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round, no memory: about a minute")
    parser.add_argument("--folder", type=Path, help="where to make sources and stores, 5 GB (default: temporary)")
    only = parser.add_argument_group("reading")
    only.add_argument("--keep", type=Path, metavar="FOLDER", help="where its stores are, or are made, and stay: 3 GB")
    only.add_argument("--tables", type=lambda text: text.split(","), default=[], metavar="A,B", help=", ".join(TABLES))
    only.add_argument("--rounds", type=int, metavar="N", help="rounds of which it shows the medians")
    only = parser.add_argument_group("training")
    only.add_argument("--data", type=Path, action="append", metavar="FOLDER", help="a set; may be given several times")
    given = parser.parse_args()
    for name in given.sections:
        if name not in SECTIONS:
            parser.error(f"there is no section {name}; there are {', '.join(SECTIONS)}")
    for name in given.tables:
        if name not in TABLES:
            parser.error(f"there is no table {name}; there are {', '.join(TABLES)}")
    packages = ("numpy", "numcodecs", "zarr", "dask", "pyarrow")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in packages))
    begin = time.perf_counter()
    changes = {"rounds": given.rounds, "tables": given.tables}
    more = {"reading": {name: value for name, value in changes.items() if value}, "training": {"sets": given.data}}
    for name in given.sections or SECTIONS:
        run, whole, quick = SECTIONS[name]
        arguments = quick if given.quick else whole
        if arguments is not None:
            with tempfile.TemporaryDirectory(dir=given.folder) as folder:
                place = given.keep if name == "reading" and given.keep else Path(folder)
                run(place, **arguments | more.get(name, {}))
    print(f"\n{time.perf_counter() - begin:.0f} seconds in all.")


if __name__ == "__main__":
    main()
