"""Rates of batches and of what they are compared with, everything in the page cache."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.benchmarks.children import measure
from tests.benchmarks.reading.decompressing import decompress
from tests.benchmarks.reading.measured import read_warm
from tests.benchmarks.reading.mixing import distinct_sequences
from tests.benchmarks.reading.readers import windows_of
from tests.benchmarks.reading.rounds import Round, Setting, at_least, in_rounds, median, ratio
from tests.benchmarks.reading.works import DENSE, DISJOINT, Work
from tests.benchmarks.table import print_table

THREADS = (1, 2)
SAME_THREADS = f"decompress, {THREADS[-1]}"  # the number of cores of the machine for which the goals are
RATES = ("batches", "gather", "memory map")
SLICES = ("store.read a window", "plain zarr a window")
SLICE_SECONDS = 1.5  # at most
THROUGH = ("torch, 0 workers", "torch, 2 workers", "gather, torch, 2 workers")
TORCH_GOALS = {"torch, 0 workers": 0.7}  # of the rate of the same batches without torch
MIXED_GOAL = 0.9  # of the distinct sequences in a batch of a global shuffle


def compare(works: Sequence[Work], setting: Setting) -> None:
    """Print the rates of each work, and of the gather from memory, the memory map, and decompressing alone."""
    windows_a_row = {work.name: _windows_a_row(work, setting) for work in works}
    rounds: list[Round] = []
    for _ in range(setting.rounds):
        found: Round = {}
        for store in dict.fromkeys(work.store for work in works):
            own = [work for work in works if work.store == store]
            for threads in THREADS:
                run = measure(decompress, setting.place(own[0]), threads, setting.seconds)
                for work in own:
                    found[work.name, f"decompress, {threads}"] = {"rate": run["rows"] * windows_a_row[work.name]}
            for work in own:
                for reader in RATES:
                    same = _measured_already(work, reader, own, found)
                    arguments = reader, asdict(work), setting.place(work), setting.seconds
                    found[work.name, reader] = same or measure(read_warm, *arguments)
        rounds.append(found)
    rows = [_cells(work, rounds, setting) for work in works]
    alone = [f"decompress, {threads}" for threads in THREADS]
    heads = ["windows/s", *RATES, *alone, "of gather", "of map", *(f"of {name}" for name in alone)]
    print_table([*heads, "sequences", "of global", "peak MB", "cores", "goal", "met"], rows)
    print(f"\nGoal where dense: at least {MIXED_GOAL:g} of the sequences in a batch of a global shuffle.")


def _measured_already(work: Work, reader: str, others: Sequence[Work], found: Round) -> dict[str, float] | None:
    """Return a rate that was measured for the same windows in another order."""
    if reader == "batches":
        return None
    same = (found.get((one.name, reader)) for one in others if (one.window, one.stride) == (work.window, work.stride))
    return next(filter(None, same), None)


def _windows_a_row(work: Work, setting: Setting) -> float:
    windows = windows_of(setting.places[work.store], work)
    return len(windows) / int(windows.store.lengths.sum())


def _cells(work: Work, rounds: Sequence[Round], setting: Setting) -> list[str]:
    batches = work.name, "batches"
    alone = [f"decompress, {threads}" for threads in THREADS]
    against = ("gather", "memory map", *alone)
    ratios = {reader: ratio(rounds, batches, (work.name, reader)) for reader in against}
    mixed = ["", ""]
    if work.shuffle:
        found = measure(distinct_sequences, asdict(work), setting.place(work), setting.seconds)
        mixed = [f"{found['distinct']:.0f}", f"{found['distinct'] / found['global']:.2f}"]
    return [
        work.name,
        *(f"{median(rounds, (work.name, reader)):,.0f}" for reader in ("batches", *against)),
        *(f"{value:.2f}" for value in ratios.values()),
        *mixed,
        f"{median(rounds, batches, 'peak') / 1e6:,.0f}",
        f"{median(rounds, batches, 'cores'):.1f}",
        *at_least(ratios["gather" if work.beside == "gather" else SAME_THREADS], work.goal, f"of {work.beside}"),
    ]


def compare_slices(setting: Setting) -> None:
    """Print the rates of one slice per window, and of batches and the gather from memory."""
    readers, seconds = ("gather", "batches", *SLICES), min(SLICE_SECONDS, setting.seconds)

    def measured(reader: str, work: Work) -> dict[str, Any]:
        return measure(read_warm, reader, asdict(work), setting.place(work), seconds)

    rounds = in_rounds(setting, (DENSE, DISJOINT), readers, measured)
    rows = []
    for work in (DENSE, DISJOINT):
        for reader in readers[1:]:
            key = work.name, reader
            of_gather = ratio(rounds, key, (work.name, "gather"))
            batches = ratio(rounds, (work.name, "batches"), key)
            cells = f"{median(rounds, key):,.0f}", f"{of_gather:.4f}", f"{batches:,.1f}"
            rows.append([f"{work.name}: {reader}", *cells])
    print_table(["", "windows/s", "of gather", "batches give, times"], rows)


def compare_torch(setting: Setting) -> None:
    """Print the rates of batches through a torch DataLoader, and of the same batches without it."""

    def measured(reader: str, work: Work) -> dict[str, Any]:
        arguments = reader, asdict(work), setting.place(work), setting.seconds
        return measure(read_warm, *arguments, memory=reader in THROUGH)

    rounds = in_rounds(setting, (DENSE, DISJOINT), ("batches", *THROUGH), measured)
    rows = []
    for work in (DENSE, DISJOINT):
        for reader in ("batches", *THROUGH):
            key, share = (work.name, reader), ratio(rounds, (work.name, reader), (work.name, "batches"))
            memory, cores = median(rounds, key, "peak") / 1e6, median(rounds, key, "cores")
            goal = at_least(share, TORCH_GOALS.get(reader), "of batches")
            cells = f"{median(rounds, key):,.0f}", f"{share:.2f}", f"{memory:,.0f}", f"{cores:.1f}", *goal
            rows.append([f"{work.name}: {reader}", *cells])
    print_table(["", "windows/s", "of batches", "peak MB", "cores", "goal", "met"], rows)
