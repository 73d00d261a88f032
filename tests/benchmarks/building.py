"""Builds: their rates, compared with bare code; very many small sources; sources far larger than memory."""

import importlib
import shutil
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
from builder.workers.engine import Engine, start_engine
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
from tests.benchmarks.sources import FEATURES, ROW_BYTES, draw_lengths, write_sources
from tests.benchmarks.stores import into_page_cache

GOAL = 1.6
TINY_GOAL = 1.2
TINY_STEPS = 20
# Small shards, so that the smaller number fills some too: the rows of a shard are in memory until it is full.
TINY_SIZES: dict[str, Any] = {"chunk": "256kB", "shard": "2MB", "batch": "8MB"}
TINY_HEADS = ("sources", "µs each", "of the first", "µs of the coordinator", "its peak MB", "peak MB of all",
              "s to open the store")  # fmt: skip
SOURCE = 20_000_000 // ROW_BYTES  # steps
LARGE_SOURCE = 200_000_000 // ROW_BYTES


def process_for(kind: str) -> Tabular:
    """Return the process function for .npy or .csv sources."""
    inputs, labels = (f"0:{FEATURES - 1}", f"{FEATURES}") if kind == "npy" else (f"f0:f{FEATURES - 1}", "label")
    return tabular(inputs=inputs, labels=labels, dtype="float32")


def build_once(
    process: Any, sources: Path, store: Path, workers: int, *, first: Path | None = None, limit: int = 0, **sizes: Any
) -> Figures:
    """Build a store and open it; `seconds` is the time without the start and the end of the worker processes.

    Args:
        process: The process function.
        sources: Their folder.
        store: Where the store is to be.
        workers: Worker processes.
        first: A source that each worker processes before the clock starts, as the bare processes do.
        limit: Bytes of memory of all processes, if the system can limit it.
        sizes: Sizes of chunks, shards and batches.
    """
    limited = limit > 0 and limit_memory(limit)
    prepare = partial(_import_all, process, first) if first else None
    with engine_timed_apart("builder.execution.build", prepare) as ends:
        held, start, cpu = start_of_memory(), time.perf_counter(), time.process_time()
        report = build(sources, store, process=process, workers=workers, **sizes)
        whole, coordinator = time.perf_counter() - start, time.process_time() - cpu
    assert not report.failures
    memory = memory_since(held)["peak"]
    start = time.perf_counter()
    assert len(store_spec.open_store(store)) == report.sequences
    found = {"seconds": whole - ends["start"], "whole": whole, "open": time.perf_counter() - start, **ends}
    return found | {"coordinator": coordinator, "memory": memory, "limited": limited, "decoded": report.bytes_decoded}


@contextmanager
def engine_timed_apart(module: str, prepare: Callable[[], None] | None) -> Iterator[Figures]:
    """Let a module start its engine; yield the seconds of its start and end, and the processor time between them.

    Each worker calls `prepare` before the clock starts, to import what it needs, as the bare processes do.
    """
    ends = {"start": 0.0, "cpu": 0.0}

    @contextmanager
    def timed_engine(*arguments: Any) -> Iterator[Engine]:
        begin = time.perf_counter()
        with start_engine(*arguments) as engine:
            if prepare:
                for _ in range(engine.workers):  # one for each worker, since each takes a while
                    engine.submit(prepare, watch=True)
                for _ in range(engine.workers):
                    engine.result(engine.next_finished())
            ends["start"] += time.perf_counter() - begin
            cpu = processor_seconds()
            yield engine
            ends["cpu"] = processor_seconds_since(cpu)
            begin = time.perf_counter()
        ends["start"] += time.perf_counter() - begin

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module(module), "start_engine", timed_engine)
        yield ends


def _import_all(process: Tabular, first: Path) -> None:
    importlib.import_module("builder.workers.batch")
    process(first)
    time.sleep(0.2)


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
            steps["build", processes] = partial(_measure_build, kind, sources, processes)
        found = repeat(rounds, steps)
        count = sum(1 for _ in sources.rglob("*.*"))
        print(f"\nBuild from .{kind}: {count:,} sources, {decoded:,.0f} MB decoded, median of {rounds} rounds\n")
        print_table(
            ["", "processes", "MB/s", "seconds", "of floor", "of all", "CPU s", "CPU of floor", "start s", "whole s"],
            [_row(found, name, processes, decoded) for processes in workers for name in (*STEPS, "build")],
        )
    print(f"\nof floor: time over that of {FLOOR} in the same round. Goal for the build: {GOAL}.")
    print("of all: time over that of the same, with what else a build has to do, but none of our code.")


def _measure_build(kind: str, sources: Path, processes: int) -> Figures:
    first = min(sources.rglob(f"*.{kind}"))
    with tempfile.TemporaryDirectory(dir=sources.parent) as folder:
        return measure(partial(build_once, first=first), process_for(kind), sources, Path(folder, "store"), processes)


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


def benchmark_tiny(folder: Path, *, counts: Sequence[int], workers: int) -> None:
    """Print time and memory for several numbers of sources."""
    rows, each = [], []
    for count in counts:
        sources, store = folder / f"tiny-{count}", folder / "tiny-store"
        write_sources(sources, [TINY_STEPS] * count)
        run = measure(partial(build_once, **TINY_SIZES), process_for("npy"), sources, store, workers, memory=True)
        shutil.rmtree(store)
        shutil.rmtree(sources)
        each.append(run["whole"] / count)
        cells = [f"{each[-1] * 1e6:,.0f}", f"{each[-1] / each[0]:.2f}", f"{run['coordinator'] / count * 1e6:,.0f}"]
        memory = f"{run['memory'] / 1e6:,.0f}", f"{run['peak'] / 1e6:,.0f}"
        rows.append([f"{count:,}", *cells, *memory, f"{run['open']:.3f}"])
    print(f"\nTiny sources: {TINY_STEPS} steps each, {workers} workers, their start included\n")
    print_table(TINY_HEADS, rows)
    print(f"\nGoal: {TINY_GOAL} times the time of each at ten times the number.")


def write_many(folder: Path, steps: int) -> None:
    """Write sources of 20 MB, and in their midst one of 200 MB."""
    lengths = [SOURCE] * max(1, (steps - LARGE_SOURCE) // SOURCE)
    lengths.insert(len(lengths) // 2, LARGE_SOURCE)
    write_sources(folder, lengths)


def benchmark_memory(folder: Path, *, megabytes: int, limit: int, workers: Sequence[int]) -> None:
    """Print the peak of all processes together, for builds whose memory is limited if the system can do that."""
    sources, store = folder / "memory-sources", folder / "memory-store"
    write_many(sources, megabytes * 10**6 // ROW_BYTES)
    rows = []
    for count in workers:
        found = measure(partial(build_once, limit=limit), process_for("npy"), sources, store, count, memory=True)
        held = f"{limit / 1e6:,.0f} MB by a cgroup" if found["limited"] else "not held"
        decoded = found["decoded"] / 1e6
        cells = f"{found['peak'] / 1e6:,.0f}", held, f"{found['whole']:.1f}", f"{decoded / found['whole']:,.0f}"
        rows.append([str(count), f"{decoded:,.0f}", *cells])
        shutil.rmtree(store)
    large = LARGE_SOURCE * ROW_BYTES / 1e6
    print(
        f"\nMemory: {sum(1 for _ in sources.rglob('*.npy')):,} NPY files, far larger than it; one has {large:,.0f} MB\n"
    )
    print_table(["workers", "decoded MB", "peak MB", "limit", "seconds", "MB/s"], rows)
    print("\npeak: of the proportional set sizes of all processes of the build together, sampled ten times a second.")
