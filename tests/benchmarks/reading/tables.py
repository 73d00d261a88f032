"""The tables about reading, and the stores that they need."""

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.reading.compared import compare, compare_slices, compare_torch
from tests.benchmarks.reading.held import compare_cold, compare_held, show_growth, time_first_batches
from tests.benchmarks.reading.measured import decoded_bytes
from tests.benchmarks.reading.rounds import Setting
from tests.benchmarks.reading.stores import make_store, warm
from tests.benchmarks.reading.works import MAIN, OTHERS

ROUNDS = "{rounds} rounds of {seconds:g} s each, medians"
Table = tuple[str, tuple[str, ...], Callable[[Setting], None]]  # title, the stores that it reads, and its function

TABLES: dict[str, Table] = {
    "main": (f"Windows of 128 x 8 in batches of 256; {ROUNDS}", ("walks",), lambda setting: compare(MAIN, setting)),
    "slices": ("One slice a window; {rounds} rounds, medians", ("walks",), compare_slices),
    "torch": (f"Through a torch DataLoader; {ROUNDS}", ("walks",), compare_torch),
    "others": (f"Other shapes; {ROUNDS}", ("walks", "wide", "tiny"), lambda setting: compare(OTHERS, setting)),
    "cold": (
        "Out of the page cache before each, first batch included, an epoch at most; {rounds} rounds, medians",
        ("walks",),
        compare_cold,
    ),
    "limit": (f"Under a limit of {{megabytes:,.0f}} MB, page cache included; {ROUNDS}", ("walks",), compare_held),
    "first": ("Opening, and the first batch; {rounds} rounds, medians", ("tiny",), time_first_batches),
    "growth": ("Memory over an epoch", ("walks", "wide", "tiny"), show_growth),
}


def benchmark_reading(
    folder: Path,
    *,
    megabytes: Mapping[str, float],
    seconds: float,
    rounds: int,
    limit: int,
    workers: int,
    tables: Sequence[str] = (),
) -> None:
    """Print the named tables, or all.

    Args:
        folder: The folder of the stores, which are made if they do not exist.
        megabytes: The decoded size of each store.
        seconds: The time of each measurement.
        rounds: The number of rounds; tables show medians.
        limit: Bytes of memory for readers with limited memory.
        workers: Processes that build the stores.
        tables: Names in TABLES.
    """
    chosen = [name for name in tables or TABLES if name != "torch" or _has_torch()]
    needed = sorted({store for name in chosen for store in TABLES[name][1]})
    start = time.perf_counter()
    places = {name: make_store(folder, name, megabytes[name], workers) for name in needed}
    sizes = (f"{name} {decoded_bytes(place) / 1e6:,.0f} MB" for name, place in places.items())
    print(f"\nRead {', '.join(sizes)}, decoded; there after {time.perf_counter() - start:.0f} s")
    setting = Setting(places=places, seconds=seconds, rounds=rounds, limit=limit)
    for name in chosen:
        title, stores, show = TABLES[name]
        for store in stores:
            warm(places[store])
        amounts = {"rounds": rounds, "seconds": seconds, "megabytes": limit / 1e6}
        print(f"\n{title.format_map(amounts)}\n")
        show(setting)


def _has_torch() -> bool:
    if find_spec("torch") and find_spec("store_spec.torch"):
        return True
    print("\nNot measured: batches through torch, as it is not here.")
    return False
