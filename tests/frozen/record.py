"""The digests of all cases in one JSON document, and their comparison."""

import platform
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.frozen.building import BuildingError, Job, Made, Stores, jobs, make
from tests.frozen.cases import Case
from tests.frozen.samples import SAMPLES

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


@dataclass(slots=True)
class Counts:
    """The numbers of things that were made and compared."""

    cases: int = 0
    stores: int = 0
    killed: int = 0  # processes

    def add(self, made: Made) -> None:
        """Count what one job made."""
        self.stores += len(made.stores)
        self.killed += made.killed

    def __str__(self) -> str:
        return f"{self.cases:,} cases, {self.stores:,} stores built, {self.killed:,} processes killed"


def made_by() -> dict[str, str]:
    """Return the versions on which digests may depend."""
    here = {"machine": platform.machine(), "python": platform.python_version()}
    return {name: version(name) for name in LIBRARIES} | here


def results(todo: list[Job], data: Path, samples: Iterable[str]) -> Iterator[tuple[str, str, str, Made]]:
    """Run jobs and read samples, some at a time; yield the case, variant and way of each, and its stores.

    Raises:
        BuildingError: A command of a case failed.
    """
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        made: dict[tuple[str, str, str], Future[Made]] = {}
        for job in sorted(todo, key=lambda job: -job.case.small):  # the longest first
            made[job.case.name, job.variant, job.name] = pool.submit(make, job, data)
        for name in samples:
            made[name, "as made", "in process"] = pool.submit(SAMPLES[name])
        try:
            for names, future in made.items():
                done = future.result()
                if done.error:
                    raise BuildingError(done.error)
                yield *names, done
        finally:
            pool.shutdown(cancel_futures=True)


def record(cases: list[Case], data: Path, samples: Iterable[str]) -> tuple[Record, Counts]:
    """Make all cases in all ways, and return their digests.

    Raises:
        BuildingError: A command failed, or two ways give different files.
    """
    kept: Record = {case.name: {"case": case.to_json(), "stores": {}} for case in cases}
    problems: list[str] = []
    counts = Counts()
    for name, variant, way, made in results([job for case in cases for job in jobs(case)], data, samples):
        first = kept.setdefault(name, {"stores": {}})["stores"].setdefault(variant, made.stores)
        problems += differences(f"{name}, {variant}, {way}", first, made.stores)
        counts.add(made)
    if problems:
        raise BuildingError("\n".join(problems))
    counts.cases = len(kept)
    return {"cases": kept, "made by": made_by()}, counts


def compare(recorded: Record, data: Path, counts: Counts, *, quick: bool) -> Iterator[str]:
    """Make all recorded cases again, and return a line for each difference.

    Args:
        recorded: The result of `record`.
        data: The folder of real files.
        counts: The numbers to which those of this comparison are added.
        quick: Whether only the cases in `QUICK` are made, as written and without workers.

    Raises:
        BuildingError: A command of a case failed.
    """
    kept = {name: each for name, each in recorded["cases"].items() if not quick or name in QUICK}
    cases = [Case.from_json(each["case"]) for each in kept.values() if "case" in each]
    todo = [job for case in cases for job in jobs(case)[: 1 if quick else None]]
    for name, variant, way, made in results(todo, data, [name for name in kept if name in SAMPLES]):
        before = kept[name]["stores"].get(variant, {})
        yield from differences(f"{name}, {variant}, {way}", before, made.stores)
        counts.add(made)
    counts.cases = len(kept)


def differences(where: str, recorded: Stores, found: Stores) -> Iterator[str]:
    """Yield a line for each difference from the record, for the kinds of digests that were made.

    >>> old = {"a.zarr": {"files": {"zarr.json": "12"}, "batches": {"padded": "34"}}}
    >>> [*differences("one", old, {"a.zarr": {"files": {"zarr.json": "21"}}})]
    ['one: a.zarr, files, zarr.json: recorded 12, now 21']
    """
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


def other_cases(recorded: Record, now: list[Case]) -> Iterator[str]:
    """Return lines about cases of the current documents that differ from the recorded ones, which are compared."""
    old = {name: each["case"] for name, each in recorded["cases"].items() if "case" in each}
    new = {case.name: case.to_json() for case in now}
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name}: not recorded"
        elif name not in new:
            yield f"{name}: recorded, and no longer in the texts"
        elif old[name] != new[name]:
            yield f"{name}: recorded with other commands or files"


def other_versions(recorded: Record) -> list[str]:
    """Return lines about versions that differ from those of a record."""
    now = made_by()
    return [f"{name} {now[name]}, and not {old}" for name, old in recorded["made by"].items() if now.get(name) != old]
