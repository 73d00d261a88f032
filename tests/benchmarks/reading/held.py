"""Reading data that are not, or do not fit, in the page cache; first batches, and the memory of whole epochs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from store_spec.reading.argument_checks import parse_bytes
from tests.benchmarks.children import measure
from tests.benchmarks.control_group import control_group
from tests.benchmarks.reading.measured import first_batch, read_cold, read_held, whole_epoch
from tests.benchmarks.reading.rounds import Round, Setting, at_least, at_most, in_rounds, median, ratio
from tests.benchmarks.reading.stores import evict
from tests.benchmarks.reading.works import DENSE, DISJOINT, OTHERS, TINY, Work
from tests.benchmarks.table import print_table

COLD_GOAL = 5  # times the memory map
FIRST_GOALS = (1, 200)  # seconds, MB
GROWTH_GOAL = 100  # MB, besides the budget
COLD_SECONDS = 1  # so the memory map is still cold; later, all of a small store is in the page cache
WORKS = (DENSE, DISJOINT)
READERS = ("batches", "memory map")


def compare_cold(setting: Setting) -> None:
    """Print the rates of batches and of the memory map, with the files of both removed from the page cache first."""

    def cold(reader: str, work: Work, seconds: float) -> dict[str, Any]:
        return measure(read_cold, reader, asdict(work), setting.place(work), seconds)

    _beside_the_map(setting, cold, sorted({min(COLD_SECONDS, setting.seconds), setting.seconds}))


def compare_held(setting: Setting) -> None:
    """Print the same for processes with less memory than the size of the store, page cache included."""
    held = []

    def limited(reader: str, work: Work, seconds: float) -> dict[str, Any]:
        with control_group() as group:
            arguments = reader, asdict(work), setting.place(work), seconds, str(group), setting.limit
            found = measure(read_held, *arguments)
        held.append(found["held"])
        return found

    _beside_the_map(setting, limited, [setting.seconds])
    if not all(held):
        print("\nNothing was held to that limit: it takes root, and version 1 of the memory controller.")


def _beside_the_map(
    setting: Setting, measured: Callable[[str, Work, float], dict[str, Any]], lengths: Sequence[float]
) -> None:
    lines = {f"{work.name}, {seconds:g} s": (work, seconds) for seconds in lengths for work in WORKS}
    rounds: list[Round] = []
    for _ in range(setting.rounds):
        found: Round = {}
        for name, (work, seconds) in lines.items():
            for reader in READERS:
                evict(setting.places[work.store])
                found[name, reader] = measured(reader, work, seconds)
        rounds.append(found)
    rows = []
    for name in lines:
        batches, mapped = ((name, reader) for reader in READERS)
        times = ratio(rounds, batches, mapped)
        rates = (f"{median(rounds, key):,.0f}" for key in (batches, mapped))
        rows.append([name, *rates, f"{times:.1f}", *at_least(times, COLD_GOAL, "times")])
    print_table(["windows/s", *READERS, "times the map", "goal", "met"], rows)


def time_first_batches(setting: Setting) -> None:
    """Print the time and the memory of opening a store of very many sequences and of its first batch."""
    works = (TINY, replace(TINY, name=f"{TINY.name}, in order", shuffle=False))
    rounds = in_rounds(
        setting, works, ["first"], lambda _, work: measure(first_batch, asdict(work), setting.place(work))
    )
    print_table(
        ["first batch", "sequences", "open s", "seconds", "goal", "met", "peak MB", "of it grown", "goal", "met"],
        [_first(work, rounds) for work in works],
    )


def _first(work: Work, rounds: Sequence[Round]) -> list[str]:
    key = work.name, "first"
    seconds, opened, sequences = (median(rounds, key, name) for name in ("seconds", "opened", "sequences"))
    peak, growth = (median(rounds, key, name) / 1e6 for name in ("peak", "growth"))
    times = [f"{sequences:,.0f}", f"{opened:.2f}", f"{seconds:.2f}", *at_most(seconds, FIRST_GOALS[0], "s")]
    return [work.name, *times, f"{peak:,.0f}", f"{growth:,.0f}", *at_most(peak, FIRST_GOALS[1], "MB")]


def show_growth(setting: Setting) -> None:
    """Print the growth of memory over a whole epoch."""
    rows = []
    for work in (DENSE, DISJOINT, OTHERS[1], TINY):
        found = measure(whole_epoch, asdict(work), setting.place(work))
        growth, budget = found["growth"] / 1e6, parse_bytes(work.memory) / 1e6
        cells = f"{found['windows']:,}", f"{found['rate']:,.0f}", f"{found['peak'] / 1e6:,.0f}", f"{growth:,.0f}"
        rows.append([work.name, *cells, *at_most(growth, budget + GROWTH_GOAL, "MB")])
    print_table(["a whole epoch", "windows", "windows/s", "peak MB", "growth MB", "goal", "met"], rows)
