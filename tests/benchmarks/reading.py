"""The rates of batches of windows, their memory, and the time to the first one, compared with bare readers."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from store_spec.reading.argument_checks import parse_bytes
from tests.benchmarks.children import Figures, measure
from tests.benchmarks.measured import decompress, distinct_sequences, first_batch, read_windows, whole_epoch
from tests.benchmarks.readers import WINDOW, Work, windows_of
from tests.benchmarks.results import Results, at_least, at_most, print_table, repeat
from tests.benchmarks.stores import STORES, decoded_bytes, evict, into_page_cache, make_store

DENSE = Work(name="dense, shuffled", goal=1.5)
DISJOINT = Work(name="disjoint, shuffled", stride=WINDOW, goal=0.8, beside="decompress")
MAIN = (
    DENSE,
    Work(name="stride 16, shuffled", stride=16, goal=0.9),
    DISJOINT,
    Work(name="disjoint, in order", stride=WINDOW, shuffle=False, goal=0.8, beside="decompress"),
    Work(name="dense, in order", shuffle=False),
)
# Lower goals. A batch of 256 windows of 512 features is 67 MB, which needs a larger budget.
OTHERS = (
    Work(name="512 features, dense", store="wide", memory="600MB", goal=0.5),
    Work(name="512 features, disjoint", store="wide", memory="600MB", stride=WINDOW, goal=0.4, beside="decompress"),
    Work(name="windows of 1024, dense", window=1024, goal=0.5),
    Work(name="windows of 1024, disjoint", window=1024, stride=1024, goal=0.4, beside="decompress"),
    Work(name="tiny sequences, dense", store="tiny", window=5, goal=0.5),
    Work(name="tiny sequences, disjoint", store="tiny", window=5, stride=5, goal=0.4, beside="decompress"),
)
TINY = OTHERS[-2]

THREADS = (1, 2)
ALONE = tuple(f"decompress, {threads}" for threads in THREADS)
SAME_THREADS = ALONE[-1]  # the number of cores of the machine for which the goals are
RATES = ("batches", "gather", "memory map")
SLICES = ("store.read a window", "plain zarr a window")
SLICE_SECONDS = 1.5  # at most
THROUGH = ("torch, 0 workers", "torch, 2 workers", "gather, torch, 2 workers")
TORCH_GOALS = {"torch, 0 workers": 0.7}  # of the rate of the same batches without torch
MIXED_GOAL = 0.9  # of the distinct sequences in a batch of a global shuffle
COLD_GOAL = 5  # times the memory map
FIRST_GOALS = (1, 200)  # seconds, MB
GROWTH_GOAL = 100  # MB, besides the budget
COLD_SECONDS = 1  # so the memory map is still cold; later, all of a small store is in the page cache
WORKS = (DENSE, DISJOINT)
READERS = ("batches", "memory map")
LIMIT = 400_000_000  # bytes of memory, page cache included

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
        return partial(measure, partial(run, **options), memory=reader in THROUGH)


def key_of(reader: str, work: Work) -> Hashable:
    """Return the key of a rate: works that differ in order share those of what batches are compared with."""
    return (reader, work.name) if reader == "batches" else (reader, work.store, work.window, work.stride)


def compare(works: Sequence[Work], setting: Setting) -> None:
    """Print the rates of each work, and of the gather from memory, the memory map, and decompressing alone."""
    steps: Steps = {}
    for work in works:
        place = setting.places[work.store]
        for name, threads in zip(ALONE, THREADS, strict=True):
            steps[name, work.store] = partial(measure, decompress, place, threads, setting.seconds)
        for reader in RATES:
            steps[key_of(reader, work)] = setting.reading(reader, work)
    found = repeat(setting.rounds, steps)
    heads = ["windows/s", *RATES, *ALONE, "of gather", "of map", *(f"of {name}" for name in ALONE)]
    rows = [_row(found, work, setting) for work in works]
    print_table([*heads, "sequences", "of global", "peak MB", "cores", "goal", "met"], rows)
    print(f"\nGoal where dense: at least {MIXED_GOAL:g} of the sequences in a batch of a global shuffle.")


def _row(found: Results, work: Work, setting: Setting) -> list[str]:
    batches, place = key_of("batches", work), setting.places[work.store]
    windows = windows_of(place, work)
    windows_a_row = len(windows) / int(windows.store.lengths.sum())
    rates = {reader: found.median(key_of(reader, work)) for reader in RATES}
    ratios = {reader: found.ratio(batches, key_of(reader, work)) for reader in RATES[1:]}
    for name in ALONE:  # rows per second
        rates[name] = found.median((name, work.store)) * windows_a_row
        ratios[name] = found.ratio(batches, (name, work.store)) / windows_a_row
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
    found, rows = _of_readers(("gather", "batches", *SLICES), setting), []
    for work in (DENSE, DISJOINT):
        gather, batches = key_of("gather", work), key_of("batches", work)
        for reader in ("batches", *SLICES):
            key = key_of(reader, work)
            cells = f"{found.median(key):,.0f}", f"{found.ratio(key, gather):.4f}", f"{found.ratio(batches, key):,.1f}"
            rows.append([f"{work.name}: {reader}", *cells])
    print_table(["", "windows/s", "of gather", "batches give, times"], rows)


def compare_torch(setting: Setting) -> None:
    """Print the rates of batches through a torch DataLoader, and of the same batches without it."""
    found, rows = _of_readers(("batches", *THROUGH), setting), []
    for work in (DENSE, DISJOINT):
        for reader in ("batches", *THROUGH):
            key = key_of(reader, work)
            share = found.ratio(key, key_of("batches", work))
            memory, cores = found.median(key, "peak") / 1e6, found.median(key, "cores")
            goal = at_least(share, TORCH_GOALS.get(reader), "of batches")
            cells = f"{found.median(key):,.0f}", f"{share:.2f}", f"{memory:,.0f}", f"{cores:.1f}", *goal
            rows.append([f"{work.name}: {reader}", *cells])
    print_table(["", "windows/s", "of batches", "peak MB", "cores", "goal", "met"], rows)


def _of_readers(readers: Sequence[str], setting: Setting) -> Results:
    works = (DENSE, DISJOINT)
    steps = {key_of(reader, work): setting.reading(reader, work) for work in works for reader in readers}
    return repeat(setting.rounds, steps)


def compare_cold(setting: Setting) -> None:
    """Print the rates of batches and of the memory map, with the files of both removed from the page cache first."""
    lengths = sorted({min(COLD_SECONDS, setting.seconds), setting.seconds})
    _beside_the_map([replace(setting, seconds=seconds) for seconds in lengths], {"cold": True})


def compare_held(setting: Setting) -> None:
    """Print the same for processes with less memory than the size of the store, page cache included."""
    found = _beside_the_map([setting], {"limit": LIMIT})
    if not all(figures["limited"] for one in found.rounds for figures in one.values()):
        print("\nNothing was held to that limit: it takes root, and version 1 of the memory controller.")


def _beside_the_map(settings: list[Setting], options: Mapping[str, int]) -> Results:
    def evicted(setting: Setting, work: Work, reader: str) -> Figures:
        evict(setting.places[work.store])
        return setting.reading(reader, work, **options)()

    lines = {f"{work.name}, {setting.seconds:g} s": (setting, work) for setting in settings for work in WORKS}
    steps: Steps = {
        (name, reader): partial(evicted, setting, work, reader)
        for name, (setting, work) in lines.items()
        for reader in READERS
    }
    found, rows = repeat(settings[0].rounds, steps), []
    for name in lines:
        batches, mapped = ((name, reader) for reader in READERS)
        times = found.ratio(batches, mapped)
        rates = (f"{found.median(key):,.0f}" for key in (batches, mapped))
        rows.append([name, *rates, f"{times:.1f}", *at_least(times, COLD_GOAL, "times")])
    print_table(["windows/s", *READERS, "times the map", "goal", "met"], rows)
    return found


def time_first_batches(setting: Setting) -> None:
    """Print the time and the memory of opening a store of very many sequences and of its first batch."""
    works = (TINY, replace(TINY, name=f"{TINY.name}, in order", shuffle=False))
    place = setting.places[TINY.store]
    found, rows = repeat(setting.rounds, {work.name: partial(measure, first_batch, work, place) for work in works}), []
    for work in works:
        seconds, opened, sequences = (found.median(work.name, each) for each in ("seconds", "opened", "sequences"))
        peak, growth = (found.median(work.name, each) / 1e6 for each in ("peak", "growth"))
        times = [f"{sequences:,.0f}", f"{opened:.2f}", f"{seconds:.2f}", *at_most(seconds, FIRST_GOALS[0], "s")]
        rows.append([work.name, *times, f"{peak:,.0f}", f"{growth:,.0f}", *at_most(peak, FIRST_GOALS[1], "MB")])
    heads = ["first batch", "sequences", "open s", "seconds", "goal", "met", "peak MB", "of it grown", "goal", "met"]
    print_table(heads, rows)


def show_growth(setting: Setting) -> None:
    """Print the growth of memory over a whole epoch."""
    rows = []
    for work in (DENSE, DISJOINT, OTHERS[1], TINY):
        found = measure(whole_epoch, work, setting.places[work.store])
        growth, budget = found["growth"] / 1e6, parse_bytes(work.memory) / 1e6
        cells = f"{found['windows']:,}", f"{found['rate']:,.0f}", f"{found['peak'] / 1e6:,.0f}", f"{growth:,.0f}"
        rows.append([work.name, *cells, *at_most(growth, budget + GROWTH_GOAL, "MB")])
    print_table(["a whole epoch", "windows", "windows/s", "peak MB", "growth MB", "goal", "met"], rows)


ROUNDS = "{rounds} rounds of {seconds:g} s each, medians"
COLD = "Out of the page cache before each, first batch included, an epoch at most; {rounds} rounds, medians"
HELD = f"Under a limit of {LIMIT / 1e6:,.0f} MB, page cache included; {ROUNDS}"
Table = tuple[str, Sequence[str], Callable[[Setting], None]]  # title, the stores that it reads, and its function

TABLES: dict[str, Table] = {
    "main": (f"Windows of 128 x 8 in batches of 256; {ROUNDS}", ["walks"], partial(compare, MAIN)),
    "slices": ("One slice a window; {rounds} rounds, medians", ["walks"], compare_slices),
    "torch": (f"Through a torch DataLoader; {ROUNDS}", ["walks"], compare_torch),
    "others": (f"Other shapes; {ROUNDS}", [*STORES], partial(compare, OTHERS)),
    "cold": (COLD, ["walks"], compare_cold),
    "limit": (HELD, ["walks"], compare_held),
    "first": ("Opening, and the first batch; {rounds} rounds, medians", ["tiny"], time_first_batches),
    "growth": ("Memory over an epoch", [*STORES], show_growth),
}


def benchmark_reading(
    folder: Path, *, megabytes: Mapping[str, float], seconds: float, rounds: int, tables: Sequence[str]
) -> None:
    """Print tables.

    Args:
        folder: The folder of the stores, which are made if they do not exist.
        megabytes: The decoded size of each store.
        seconds: The time of each measurement.
        rounds: The number of rounds; tables show medians.
        tables: Names in TABLES.
    """
    chosen = [name for name in tables if name != "torch" or _has_torch()]
    needed = sorted({store for name in chosen for store in TABLES[name][1]})
    start = time.perf_counter()
    places = {name: make_store(folder, name, megabytes[name]) for name in needed}
    sizes = (f"{name} {decoded_bytes(place / 'store.zarr') / 1e6:,.0f} MB" for name, place in places.items())
    print(f"\nRead {', '.join(sizes)}, decoded; there after {time.perf_counter() - start:.0f} s")
    setting = Setting(places=places, seconds=seconds, rounds=rounds)
    for name in chosen:
        title, stores, show = TABLES[name]
        for store in stores:
            into_page_cache(places[store])
        print(f"\n{title.format(rounds=rounds, seconds=seconds)}\n")
        show(setting)


def _has_torch() -> bool:
    if find_spec("torch") and find_spec("store_spec.torch"):
        return True
    print("\nNot measured: batches through torch, as it is not here.")
    return False
