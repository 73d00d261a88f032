"""Fuzz: metadata documents of stores, and source files of every format, damaged at random.

A store is refused with an error that names its file, or gives the right rows (`fuzz_stores` says what that means); a
source is refused with a reason, or read as other readers read it (`fuzzed_sources`). Never anything else: each process
has so much memory and time, and ends with an error when it takes more. What broke a promise is shown as small as
hypothesis could make it; the same seeds make the same examples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.builder.fuzzed_sources import FORMATS, fuzz
from tests.campaigns.outcome import Outcome

PROCESSES = 2
SEEDS = 8  # of stores, in the whole run; each is a process
STORES = 1_000  # examples of a seed
SOURCES = 3_000  # examples of a format
QUICK = (30, 8)  # the same in the quick run
CONTROL = 250  # lies that the control tells
SECONDS = 900.0  # by which a process has to be done; after that it hangs
REPOSITORY = Path(__file__).resolve().parents[2]

Found = dict[str, Any]  # `counts` of a process, and what it saw `broken`


def campaign(*, quick: bool) -> Outcome:
    """Damage stores and sources, in two processes at a time."""
    stores, sources = QUICK if quick else (STORES, SOURCES)
    groups = [FORMATS] if quick else [(format,) for format in FORMATS]  # noqa: A001
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PROCESSES) as pool:
        jobs: list[Callable[[], Found]] = [partial(_stores, folder, "control", CONTROL, 0)]
        jobs += [partial(_stores, folder, "stores", stores, seed) for seed in range(1 if quick else SEEDS)]
        jobs += [partial(_child, "fuzz", {"formats": group, "examples": sources, "seed": 0}) for group in groups]
        control, *found = pool.map(lambda job: job(), jobs)
    counts: Counter[str] = Counter()
    for one in found:
        counts.update(one["counts"])
    return Outcome(
        figures=dict(counts),
        violations=(*(sentence for one in found for sentence in one["broken"]), *control["broken"]),
        controls={"checksums of sequences": control["counts"].get("broken", 0)},
    )


def _stores(folder: str, kind: str, examples: int, seed: int) -> Found:
    """Run examples of stores in a new process; should it die, the last one is named."""
    own = Path(folder, f"{kind} {seed}")
    own.mkdir()
    given = {"folder": str(own), "examples": examples, "seed": seed, "control": kind == "control"}
    found = _child("fuzz_stores", given)
    last = own / "last"
    if not found["counts"] and last.exists():
        found["broken"] = [f"{sentence} [{last.read_text()}]" for sentence in found["broken"]]
    prefix = "" if kind == "control" else "stores: "
    return {"counts": {f"{prefix}{name}": count for name, count in found["counts"].items()}, "broken": found["broken"]}


def _child(module: str, given: dict[str, Any]) -> Found:
    """Run a module of this package in a new process."""
    command = [sys.executable, "-W", "ignore", "-m", f"tests.campaigns.{module}", json.dumps(given)]
    # Every arena of the allocator reserves address space of its own.
    environment = os.environ | {"MALLOC_ARENA_MAX": "2"}
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"counts": {}, "broken": [f"{given}: hangs"]}
    if done.returncode:
        return {"counts": {}, "broken": [f"{given}: status {done.returncode}: {done.stderr[-1_000:]}"]}
    found: Found = json.loads(done.stdout)
    return found


def main(given: dict[str, Any]) -> Found:
    counts: dict[str, int] = {}
    broken = []
    for format in given["formats"]:  # noqa: A001
        try:
            outcomes = fuzz(format, given["examples"], given["seed"])
        except Exception as error:  # noqa: BLE001  # whatever it is, it is reported
            notes = "; ".join(getattr(error, "__notes__", ()))
            broken.append(f"{format}: {type(error).__name__}: {error!s:.500} [{notes:.1500}]")
        else:
            counts |= {f"{format}: refused": outcomes.refused, f"{format}: read": outcomes.read}
    return {"counts": counts, "broken": broken}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
