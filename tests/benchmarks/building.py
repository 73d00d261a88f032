"""Build rates, compared with reading, parsing and compressing alone."""

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from builder.execution.build import build
from builder.frames.tabular import Tabular, tabular
from builder.workers.engine import DaskEngine, Engine, start_engine
from tests.benchmarks.children import measure, processor_seconds, processor_seconds_since
from tests.benchmarks.floors import FLOOR, STEPS, WHOLE, floor
from tests.benchmarks.reading.rounds import Key, Round, median, ratio
from tests.benchmarks.reading.stores import warm
from tests.benchmarks.sources import FEATURES, write_sources
from tests.benchmarks.table import print_table

GOAL = 1.6


def process_for(kind: str) -> Tabular:
    """Return the process function for .npy or .csv sources."""
    inputs, labels = (f"0:{FEATURES - 1}", f"{FEATURES}") if kind == "npy" else (f"f0:f{FEATURES - 1}", "label")
    return tabular(inputs=inputs, labels=labels, dtype="float32")


def build_once(kind: str, folder: str, processes: int) -> dict[str, Any]:
    """Build a store; return the time without the start and the end of the worker processes."""
    first = str(min(Path(folder).iterdir()))
    apart = engine_timed_apart("builder.execution.build", partial(_import_all, kind, first))
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as place, apart as ends:
        begin = time.perf_counter()
        report = build(folder, Path(place, "store"), process=process_for(kind), workers=processes)
        whole = time.perf_counter() - begin
    assert not report.failures
    return {"seconds": whole - ends["start"], "whole": whole, **ends}


@contextmanager
def engine_timed_apart(module: str, prepare: Callable[[], None]) -> Iterator[dict[str, float]]:
    """Let a module start its engine; yield the seconds of its start and end, and the processor time between them.

    Args:
        module: The module whose `start_engine` is replaced.
        prepare: Called by each worker before the clock starts, to import what it needs, as the bare processes do.
    """
    ends = {"start": 0.0, "cpu": 0.0}

    @contextmanager
    def timed_engine(*arguments: Any) -> Iterator[Engine]:
        begin = time.perf_counter()
        with start_engine(*arguments) as engine:
            if isinstance(engine, DaskEngine):
                engine._client.run(prepare)
            ends["start"] += time.perf_counter() - begin
            cpu = processor_seconds()
            yield engine
            ends["cpu"] = processor_seconds_since(cpu)
            begin = time.perf_counter()
        ends["start"] += time.perf_counter() - begin

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module(module), "start_engine", timed_engine)
        yield ends


def _import_all(kind: str, path: str) -> None:
    importlib.import_module("builder.workers.batch")
    process_for(kind)(Path(path))


def into_page_cache(folder: Path) -> None:
    """Read all files once, after they are on the disk: otherwise the system writes them while something is timed."""
    os.sync()
    warm(folder)


def benchmark_build(folder: Path, *, megabytes: dict[str, float], rounds: int, workers: tuple[int, ...]) -> None:
    """Print a table for each kind of source."""
    for kind, size in megabytes.items():
        sources = folder / f"build-{kind}"
        decoded = write_sources(sources, kind, size) / 1e6
        into_page_cache(sources)
        found: list[Round] = []
        for _ in range(rounds):
            found.append({})
            for processes in workers:
                for step in STEPS:
                    found[-1][step, processes] = measure(floor, step, str(sources), processes)
                found[-1]["build", processes] = measure(build_once, kind, str(sources), processes)
        count = len(list(sources.iterdir()))
        print(f"\nBuild from .{kind}: {count:,} sources, {decoded:,.0f} MB decoded, median of {rounds} rounds\n")
        print_table(
            ["", "processes", "MB/s", "seconds", "of floor", "of all", "CPU s", "CPU of floor", "start s", "whole s"],
            [[key[0], str(key[1]), *_cells(found, key, decoded)] for key in sorted(found[0], key=lambda key: key[1])],
        )
    print(f"\nof floor: time over that of {FLOOR} in the same round. Goal for the build: {GOAL}.")
    print("of all: time over that of the same, with what else a build has to do, but none of our code.")


def _cells(rounds: list[Round], key: Key, decoded: float) -> list[str]:
    seconds, alone, whole = median(rounds, key, "seconds"), (FLOOR, key[1]), (WHOLE, key[1])
    ends = [f"{median(rounds, key, name):.2f}" if name in rounds[0][key] else "" for name in ("start", "whole")]
    return [
        f"{decoded / seconds:,.0f}",
        f"{seconds:.2f}",
        f"{ratio(rounds, key, alone, 'seconds'):.2f}",
        f"{ratio(rounds, key, whole, 'seconds'):.2f}",
        f"{median(rounds, key, 'cpu'):.2f}",
        f"{ratio(rounds, key, alone, 'cpu'):.2f}",
        *ends,
    ]
