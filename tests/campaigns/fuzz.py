"""Damage metadata documents of stores, and source files of every format, at random.

A store must be rejected with an error that names its file, or give the right rows (defined in `fuzz_stores`). A source
must be rejected with a reason, or give the rows that other readers give (`tests/builder/fuzzed_sources.py`). Memory and
time are limited. Hypothesis shrinks a violation before it is reported, and the same seed gives the same examples.
"""

import json
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.builder.fuzzed_sources import FORMATS, fuzz
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import run_module

PROCESSES = 2
SEEDS = 8  # of the examples of stores; each seed is a process
STORES = 1_000  # examples per seed
SOURCES = 3_000  # examples per format
QUICK = (30, 8)  # the same two numbers in the quick form
CONTROL = 250  # examples in the control
SECONDS = 900.0  # after which a process is considered to hang

Results = dict[str, Any]  # the `counts` and `violations` of a process


def campaign(*, quick: bool) -> Outcome:
    """Damage stores and sources, in two processes at a time."""
    stores, sources = QUICK if quick else (STORES, SOURCES)
    groups = [FORMATS] if quick else [(format,) for format in FORMATS]  # noqa: A001
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PROCESSES) as pool:
        jobs = [partial(fuzz_stores, folder, CONTROL, 0, control=True)]
        jobs += [partial(fuzz_stores, folder, stores, seed) for seed in range(1 if quick else SEEDS)]
        jobs += [partial(run_child, "fuzz", {"formats": group, "examples": sources, "seed": 0}) for group in groups]
        control, *results = pool.map(lambda job: job(), jobs)
    outcome = Outcome(controls={"checksums of sequences": control["counts"].get("stores: violations", 0)})
    for result in results:
        outcome.add(Outcome(Counter(result["counts"]), result["violations"]))
    outcome.violations += control["violations"]
    return outcome


def fuzz_stores(folder: str, examples: int, seed: int, *, control: bool = False) -> Results:
    """Run examples of stores in a process. If the process dies, report the last example."""
    place = Path(folder, f"{control} {seed}")
    place.mkdir()
    arguments = {"folder": str(place), "examples": examples, "seed": seed, "control": control}
    results = run_child("fuzz_stores", arguments)
    last = place / "last"
    if not results["counts"] and last.exists():
        results["violations"] = [f"{message} [{last.read_text()}]" for message in results["violations"]]
    return {**results, "counts": {f"stores: {name}": count for name, count in results["counts"].items()}}


def run_child(module: str, arguments: dict[str, Any]) -> Results:
    # Each arena of the allocator reserves address space, which is limited.
    variables = {"MALLOC_ARENA_MAX": "2"}
    try:
        results: Results = run_module(module, json.dumps(arguments), seconds=SECONDS, variables=variables)
    except RuntimeError as error:
        return {"counts": {}, "violations": [f"{arguments}: {error}"]}
    return results


def main(arguments: dict[str, Any]) -> Results:
    """Damage source files of some formats."""
    counts: dict[str, int] = {}
    violations = []
    for format in arguments["formats"]:  # noqa: A001
        try:
            outcomes = fuzz(format, arguments["examples"], arguments["seed"])
        except Exception as error:  # noqa: BLE001
            notes = "; ".join(getattr(error, "__notes__", ()))
            violations.append(f"{format}: {type(error).__name__}: {error!s:.500} [{notes:.1500}]")
        else:
            counts |= {f"{format}: rejected": outcomes.refused, f"{format}: read": outcomes.read}
    return {"counts": counts, "violations": violations}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
