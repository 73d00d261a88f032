"""Build rates, compared with reading, parsing and compressing alone."""

import importlib
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import store_spec
from builder.execution.build import build
from builder.frames.tabular import Tabular, tabular
from builder.workers.engine import DaskEngine, Engine, start_engine
from tests.benchmarks.children import (
    Figures,
    limit_memory,
    measure,
    memory_since,
    processor_seconds,
    processor_seconds_since,
    start_of_memory,
)
from tests.benchmarks.floors import FLOOR, STEPS, WHOLE, floor
from tests.benchmarks.results import Results, print_table, repeat
from tests.benchmarks.sources import FEATURES, draw_lengths, write_sources
from tests.benchmarks.stores import into_page_cache

GOAL = 1.6


def process_for(kind: str) -> Tabular:
    """Return the process function for .npy or .csv sources."""
    inputs, labels = (f"0:{FEATURES - 1}", f"{FEATURES}") if kind == "npy" else (f"f0:f{FEATURES - 1}", "label")
    return tabular(inputs=inputs, labels=labels, dtype="float32")


def build_once(kind: str, folder: Path, processes: int) -> Figures:
    """Build a store; return the time without the start and the end of the worker processes."""
    first = min(folder.rglob(f"*.{kind}"))
    apart = engine_timed_apart("builder.execution.build", partial(_import_all, kind, first))
    with tempfile.TemporaryDirectory(dir=folder.parent) as place, apart as ends:
        begin = time.perf_counter()
        report = build(folder, Path(place, "store"), process=process_for(kind), workers=processes)
        whole = time.perf_counter() - begin
    assert not report.failures
    return {"seconds": whole - ends["start"], "whole": whole, **ends}


def build_whole(process: Any, sources: Path, store: Path, workers: int, limit: int, sizes: dict[str, Any]) -> Figures:
    """Build with at most `limit` bytes of memory for all processes, if the system can limit it, and open the store.

    The start of the processes counts, as it does for a user.
    """
    limited = limit > 0 and limit_memory(limit)
    held, start, cpu = start_of_memory(), time.perf_counter(), time.process_time()
    report = build(sources, store, process=process, workers=workers, **sizes)
    assert not report.failures
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = memory_since(held)["peak"]
    start = time.perf_counter()
    assert len(store_spec.open_store(store)) == report.sequences
    found = {"seconds": seconds, "coordinator": cpu, "memory": memory, "open": time.perf_counter() - start}
    return found | {"limited": limited, "decoded": report.bytes_decoded}


@contextmanager
def engine_timed_apart(module: str, prepare: Callable[[], None]) -> Iterator[Figures]:
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


def _import_all(kind: str, path: Path) -> None:
    importlib.import_module("builder.workers.batch")
    process_for(kind)(path)


def benchmark_build(folder: Path, *, megabytes: Mapping[str, float], rounds: int, workers: Sequence[int]) -> None:
    """Print a table for each kind of source."""
    for kind, size in megabytes.items():
        sources = folder / f"build-{kind}"
        decoded = write_sources(sources, chain.from_iterable(draw_lengths(size)), kind) / 1e6
        into_page_cache(sources)
        steps: dict[Hashable, Callable[[], Figures]] = {}
        for processes in workers:
            for step in STEPS:
                steps[step, processes] = partial(measure, floor, step, sources, processes)
            steps["build", processes] = partial(measure, build_once, kind, sources, processes)
        found = repeat(rounds, steps)
        count = sum(1 for _ in sources.rglob("*.*"))
        print(f"\nBuild from .{kind}: {count:,} sources, {decoded:,.0f} MB decoded, median of {rounds} rounds\n")
        print_table(
            ["", "processes", "MB/s", "seconds", "of floor", "of all", "CPU s", "CPU of floor", "start s", "whole s"],
            [_row(found, name, processes, decoded) for processes in workers for name in (*STEPS, "build")],
        )
    print(f"\nof floor: time over that of {FLOOR} in the same round. Goal for the build: {GOAL}.")
    print("of all: time over that of the same, with what else a build has to do, but none of our code.")


def _row(found: Results, name: str, processes: int, decoded: float) -> list[str]:
    step, bare, whole = ((each, processes) for each in (name, FLOOR, WHOLE))
    return [
        name,
        str(processes),
        f"{decoded / found.median(step, 'seconds'):,.0f}",
        f"{found.median(step, 'seconds'):.2f}",
        f"{found.ratio(step, bare, 'seconds'):.2f}",
        f"{found.ratio(step, whole, 'seconds'):.2f}",
        f"{found.median(step, 'cpu'):.2f}",
        f"{found.ratio(step, bare, 'cpu'):.2f}",
        *(f"{found.median(step, each):.2f}" if name == "build" else "" for each in ("start", "whole")),
    ]
