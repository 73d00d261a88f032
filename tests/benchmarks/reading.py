"""The rates of batches of windows, compared with bare readers, and their memory."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from store_spec.reading.argument_checks import parse_bytes
from tests.benchmarks.children import Figures, measure
from tests.benchmarks.measured import decompress, distinct_sequences, read_windows, whole_epoch
from tests.benchmarks.readers import WINDOW, Work, windows_of
from tests.benchmarks.results import Results, at_least, at_most, print_table, repeat
from tests.benchmarks.stores import decoded_bytes, evict, into_page_cache, make_store

DENSE = Work(name="dense, shuffled", goal=1.5)
DISJOINT = Work(name="disjoint, shuffled", stride=WINDOW, goal=0.8, beside="decompress")
MAIN = (
    DENSE,
    Work(name="stride 16, shuffled", stride=16, goal=0.9),
    DISJOINT,
    Work(name="disjoint, in order", stride=WINDOW, shuffle=False, goal=0.8, beside="decompress"),
    Work(name="dense, in order", shuffle=False),
)
TINY = Work(name="tiny sequences, disjoint", store="tiny", window=5, stride=5)

THREADS = (1, 2)
ALONE = tuple(f"decompress, {threads}" for threads in THREADS)
SAME_THREADS = ALONE[-1]  # the number of cores of the machine for which the goals are
RATES = ("batches", "gather", "memory map")
SLICES = ("store.read a window", "plain zarr a window")
SLICE_SECONDS = 1.5  # at most
MIXED_GOAL = 0.9  # of the distinct sequences in a batch of a global shuffle
COLD_GOAL = 5  # times the memory map
GROWTH_GOAL = 100  # MB, besides the budget
COLD_SECONDS = 1  # so the memory map is still cold; later, all of a small store is in the page cache
WORKS = (DENSE, DISJOINT)
BESIDE_THE_MAP = ("batches", "memory map")

Steps = dict[Hashable, Callable[[], Figures]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How much is measured.

    Args:
        places: Where each store is.
        seconds: The time of each measurement.
        rounds: The number of rounds; tables show medians.
    """

    places: Mapping[str, Path]
    seconds: float
    rounds: int

    def reading(self, reader: str, work: Work, **options: Any) -> Callable[[], Figures]:
        """Return the measurement of a reader in a new process; options are those of `read_windows`."""
        run = partial(read_windows, reader, work, self.places[work.store], self.seconds)
        return partial(measure, partial(run, **options))


def key_of(reader: str, work: Work) -> Hashable:
    """Return the key of a rate: works that differ in order share those of what batches are compared with."""
    return reader, work.name if reader == "batches" else work.stride


def compare(setting: Setting) -> None:
    """Print the rates of batches, and of the gather from memory, the memory map, and decompressing alone."""
    place = setting.places["walks"]
    steps: Steps = {
        name: partial(measure, decompress, place, threads, setting.seconds)
        for name, threads in zip(ALONE, THREADS, strict=True)
    }
    steps |= {key_of(reader, work): setting.reading(reader, work) for work in MAIN for reader in RATES}
    found = repeat(setting.rounds, steps)
    heads = ["windows/s", *RATES, *ALONE, "of gather", "of map", *(f"of {name}" for name in ALONE)]
    rows = [_row(found, work, setting) for work in MAIN]
    print_table([*heads, "sequences", "of global", "peak MB", "cores", "goal", "met"], rows)
    print(f"\nGoal where dense: at least {MIXED_GOAL:g} of the sequences in a batch of a global shuffle.")


def _row(found: Results, work: Work, setting: Setting) -> list[str]:
    batches, place = key_of("batches", work), setting.places[work.store]
    windows = windows_of(place, work)
    windows_a_row = len(windows) / int(windows.store.lengths.sum())
    rates = {reader: found.median(key_of(reader, work)) for reader in RATES}
    ratios = {reader: found.ratio(batches, key_of(reader, work)) for reader in RATES[1:]}
    for name in ALONE:  # rows per second
        rates[name] = found.median(name) * windows_a_row
        ratios[name] = found.ratio(batches, name) / windows_a_row
    mixed = ["", ""]
    if work.shuffle:
        drawn = measure(distinct_sequences, work, place, setting.seconds)
        mixed = [f"{drawn['distinct']:.0f}", f"{drawn['distinct'] / drawn['global']:.2f}"]
    return [
        work.name,
        *(f"{rate:,.0f}" for rate in rates.values()),
        *(f"{ratio:.2f}" for ratio in ratios.values()),
        *mixed,
        f"{found.median(batches, 'peak') / 1e6:,.0f}",
        f"{found.median(batches, 'cores'):.1f}",
        *at_least(ratios["gather" if work.beside == "gather" else SAME_THREADS], work.goal, f"of {work.beside}"),
    ]


def compare_slices(setting: Setting) -> None:
    """Print the rates of one slice per window, and of batches and the gather from memory."""
    setting = replace(setting, seconds=min(SLICE_SECONDS, setting.seconds))
    readers = ("gather", "batches", *SLICES)
    steps = {key_of(reader, work): setting.reading(reader, work) for work in WORKS for reader in readers}
    found, rows = repeat(setting.rounds, steps), []
    for work in WORKS:
        gather, batches = key_of("gather", work), key_of("batches", work)
        for reader in readers[1:]:
            key = key_of(reader, work)
            cells = f"{found.median(key):,.0f}", f"{found.ratio(key, gather):.4f}", f"{found.ratio(batches, key):,.1f}"
            rows.append([f"{work.name}: {reader}", *cells])
    print_table(["", "windows/s", "of gather", "batches give, times"], rows)


def compare_cold(setting: Setting) -> None:
    """Print the rates of batches and of the memory map, with the files of both removed from the page cache first."""

    def evicted(setting: Setting, work: Work, reader: str) -> Figures:
        evict(setting.places[work.store])
        return setting.reading(reader, work, cold=True)()

    settings = [replace(setting, seconds=one) for one in sorted({min(COLD_SECONDS, setting.seconds), setting.seconds})]
    lines = {f"{work.name}, {one.seconds:g} s": (one, work) for one in settings for work in WORKS}
    steps: Steps = {
        (name, reader): partial(evicted, *line, reader) for name, line in lines.items() for reader in BESIDE_THE_MAP
    }
    found, rows = repeat(setting.rounds, steps), []
    for name in lines:
        batches, mapped = ((name, reader) for reader in BESIDE_THE_MAP)
        times = found.ratio(batches, mapped)
        rates = (f"{found.median(key):,.0f}" for key in (batches, mapped))
        rows.append([name, *rates, f"{times:.1f}", *at_least(times, COLD_GOAL, "times")])
    print_table(["windows/s", *BESIDE_THE_MAP, "times the map", "goal", "met"], rows)


def show_growth(setting: Setting) -> None:
    """Print the growth of memory over a whole epoch."""
    rows = []
    for work in (DENSE, DISJOINT, TINY):
        found = measure(whole_epoch, work, setting.places[work.store])
        growth, budget = found["growth"] / 1e6, parse_bytes(work.memory) / 1e6
        cells = f"{found['windows']:,}", f"{found['rate']:,.0f}", f"{found['peak'] / 1e6:,.0f}", f"{growth:,.0f}"
        rows.append([work.name, *cells, *at_most(growth, budget + GROWTH_GOAL, "MB")])
    print_table(["a whole epoch", "windows", "windows/s", "peak MB", "growth MB", "goal", "met"], rows)


ROUNDS = "{rounds} rounds of {seconds:g} s each, medians"
COLD = "Out of the page cache before each, first batch included, an epoch at most; {rounds} rounds, medians"
Table = tuple[str, Sequence[str], Callable[[Setting], None]]  # title, the stores that it reads, and its function

TABLES: dict[str, Table] = {
    "main": (f"Windows of 128 x 8 in batches of 256; {ROUNDS}", ["walks"], compare),
    "slices": ("One slice a window; {rounds} rounds, medians", ["walks"], compare_slices),
    "cold": (COLD, ["walks"], compare_cold),
    "growth": ("Memory over an epoch", ["walks", "tiny"], show_growth),
}


def benchmark_reading(
    folder: Path, *, megabytes: Mapping[str, float], seconds: float, rounds: int, tables: Sequence[str]
) -> None:
    """Print some of TABLES, for the stores of a folder; those that do not exist are made."""
    needed = sorted({store for name in tables for store in TABLES[name][1]})
    start = time.perf_counter()
    places = {name: make_store(folder, name, megabytes[name]) for name in needed}
    sizes = (f"{name} {decoded_bytes(place / 'store.zarr') / 1e6:,.0f} MB" for name, place in places.items())
    print(f"\nRead {', '.join(sizes)}, decoded; there after {time.perf_counter() - start:.0f} s")
    setting = Setting(places=places, seconds=seconds, rounds=rounds)
    for name in tables:
        title, stores, show = TABLES[name]
        for store in stores:
            into_page_cache(places[store])
        print(f"\n{title.format(rounds=rounds, seconds=seconds)}\n")
        show(setting)
