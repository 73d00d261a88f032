"""The digests of all cases in one JSON document, and their comparison."""

import json
import platform
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.documents import DocumentError
from tests.frozen.building import SAMPLES, Made, Stores, make, ways
from tests.frozen.cases import Case

PROCESSES = 2
LIBRARIES = ("numcodecs", "numpy", "pyarrow", "zarr")
SHOWN = 12  # digits of a digest
NOTHING = "nothing"
QUICK = (
    "README.md, Try it",
    "builder/README.md, Files with gaps, dates and many sequences",
    "builder/README.md, Files of any other kind",
    "store_spec/README.md, Write arrays",
    "golden stores",
)

Record = dict[str, Any]
Names = tuple[str, str, str]  # of a case, a variant and a way


def record(file: Path, cases: list[Case], data: Path, samples: Iterable[str]) -> None:
    """Make all cases in all ways, and write their digests.

    Raises:
        DocumentError: A command failed, or two ways give different files.
    """
    kept: Record = {case.name: {"case": asdict(case), "stores": {}} for case in cases}
    made = make_all(cases, data, samples)
    problems: list[str] = []
    for names, (stores, _) in made.items():
        name, variant, _ = names
        first = kept.setdefault(name, {"stores": {}})["stores"].setdefault(variant, stores)
        problems += differences(", ".join(names), first, stores)
    if problems:
        raise DocumentError("\n".join(problems))
    document = {"cases": kept, "made by": made_by()}
    file.write_text(json.dumps(document, sort_keys=True, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{file}: {count_text(made)}; by {', '.join(f'{name} {which}' for name, which in made_by().items())}")


def compare(file: Path, data: Path, *, quick: bool) -> int:
    """Make all recorded cases again, and print a line for each difference.

    Args:
        file: The record.
        data: The folder of real files.
        quick: Whether only the cases in `QUICK` are made, as written and without workers.

    Returns:
        The number of differences.

    Raises:
        DocumentError: A command of a case failed.
    """
    recorded: Record = json.loads(file.read_text(encoding="utf-8"))
    kept = {name: each for name, each in recorded["cases"].items() if not quick or name in QUICK}
    cases = [Case(**each["case"]) for each in kept.values() if "case" in each]
    made = make_all(cases, data, [name for name in kept if name in SAMPLES], quick=quick)
    found = 0
    for names, (stores, _) in made.items():
        name, variant, _ = names
        for line in differences(", ".join(names), kept[name]["stores"].get(variant, {}), stores):
            print(line)
            found += 1
    old = recorded["made by"].items()
    others = [f"{name} {made_by()[name]}, and not {which}" for name, which in old if made_by().get(name) != which]
    if others:
        print(f"note: run by {', '.join(others)}" + ("; compressed bytes may differ by that" if found else ""))
    left_out = f"; quick: {len(recorded['cases']) - len(kept):,} cases left out, and all ways but one" if quick else ""
    print(f"{file}: {found:,} differences in {count_text(made)}{left_out}")
    return found


def make_all(cases: list[Case], data: Path, samples: Iterable[str], *, quick: bool = False) -> dict[Names, Made]:
    """Make cases in all ways, or if `quick` in the first, and read samples, some at a time."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        futures: dict[Names, Future[Made]] = {}
        for case in sorted(cases, key=lambda case: -case.small):  # the longest first
            for (variant, name), way in list(ways(case).items())[: 1 if quick else None]:
                futures[case.name, variant, name] = pool.submit(make, case, way, data)
        for name in samples:
            futures[name, "as made", "in process"] = pool.submit(SAMPLES[name])
        try:
            return {names: future.result() for names, future in futures.items()}
        finally:
            pool.shutdown(cancel_futures=True)


def count_text(made: dict[Names, Made]) -> str:
    """Return the numbers of things that were made."""
    stores, killed = sum(len(one.stores) for one in made.values()), sum(one.killed for one in made.values())
    return f"{len({name for name, *_ in made}):,} cases, {stores:,} stores built, {killed:,} processes killed"


def made_by() -> dict[str, str]:
    """Return the versions on which digests may depend."""
    here = {"machine": platform.machine(), "python": platform.python_version()}
    return {name: version(name) for name in LIBRARIES} | here


def differences(where: str, recorded: Stores, found: Stores) -> Iterator[str]:
    """Yield a line for each difference from the record, for the kinds of digests that were made."""
    for name in sorted(recorded.keys() | found.keys()):
        if name not in recorded or name not in found:
            yield f"{where}: the store {name} is {'not recorded' if name in found else 'no longer made'}"
            continue
        for kind, now in found[name].items():
            before = recorded[name].get(kind, {})
            for each in sorted(before.keys() | now.keys()):
                old, new = (digests.get(each, NOTHING)[:SHOWN] for digests in (before, now))
                if before.get(each) != now.get(each):
                    yield f"{where}: {name}, {kind}, {each}: recorded {old}, now {new}"
