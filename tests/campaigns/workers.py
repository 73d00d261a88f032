"""Workers: killed at random while a build runs, or dying at a chosen place; and the scheduler of a cluster, killed.

The build finishes in spite of it, with the bytes of one that nothing disturbed. Or it stops, and soon, with an error
that a person understands, and readers see one of its commits; then the next build finishes to the same bytes. Either
way no process is left over.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil

import builder
import store_spec
from tests.campaigns.disturbed import SECONDS, Ended, Kills, cluster, kill_each, run_build, workers_of
from tests.campaigns.outcome import Outcome
from tests.campaigns.scenarios import STORE, describe
from tests.campaigns.trees import Tree, difference, read_tree, without_cache, write_tree
from tests.campaigns.worker_deaths import PLACES, Death, Safeguard, environment
from tests.store.oracle import Sequence, assert_holds

SOURCES, BEGUN = 100, 30  # files; how many of them an old store has that a build appends to
PROCESS = "tests.campaigns.worker_deaths:read"
SIZES: dict[str, Any] = {"chunk": "4kB", "shard": "16kB", "batch": "4kB"}
ALLOWED = 3  # workers that may die of a task, as dask has it
TRIES = 4  # to kill something before a build is done: how long it takes depends on the machine
HINTS = ("workers=0", "repeat the command")  # what an error tells the user to do


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A build, and what is killed while it runs."""

    name: str
    gaps: tuple[float, ...] = ()  # seconds from when there is something to kill to the first kill, and so on
    kills: Literal["a worker", "all workers", "the scheduler"] = "a worker"
    death: Death | None = None  # where workers die of their own
    gives_up: bool = False  # at the first death of a worker that has a task, not at the fourth
    appends: bool = False  # to a store that is there
    workers: int = 2

    @property
    def finishes(self) -> bool:
        """Whether it has to finish: no task can have been on so many workers that died that dask gives it up."""
        deaths = len(self.gaps) if self.death is None else self.death.times
        return not self.gives_up and self.kills != "the scheduler" and deaths <= ALLOWED


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The sources, and what a build of them has to end with."""

    place: Path
    sequences: list[Sequence]
    begun: Tree  # the folder of a store of the first sources
    whole: Tree  # the same of all

    @property
    def sources(self) -> Path:
        """The folder of all sources."""
        return self.place / "all"

    @classmethod
    def set_up(cls, place: Path) -> Bench:
        """Write the sources, and build them undisturbed."""
        sequences: list[Sequence] = []
        for folder in ("first", "all"):
            (place / folder).mkdir(parents=True)
        for number in range(SOURCES):
            inputs = np.random.default_rng(number).normal(size=(50 + number % 37, 4)).astype(np.float32)
            sequences.append(Sequence(f"{number:03}.npy", inputs, inputs[:, :1]))
            for folder in ("first", "all") if number < BEGUN else ("all",):
                np.save(place / folder / sequences[-1].source, inputs)
        begun, whole = (_built(place / folder, place / f"of {folder}") for folder in ("first", "all"))
        return cls(place=place, sequences=sequences, begun=begun, whole=whole)

    def check(self, folder: Path, case: Case, ended: Ended) -> str:
        """Say which promise a build breaks; nothing if none."""
        if ended.code is None:
            return f"it hung: {SECONDS:.0f} s after the last kill it had not ended"
        if ended.left:
            return f"{ended.left} of its processes are left over"
        if not ended.kills:
            return "nothing was killed"
        if ended.code and case.finishes:
            return f"it stopped: {ended.error[-300:]!r}"
        try:
            if ended.code:
                problem = unclear(ended.error) or self._unlike_a_commit(folder / STORE, BEGUN if case.appends else 0)
                return problem or difference(_built(self.sources, folder), self.whole)
            if ended.error:
                return f"it printed {ended.error!r:.200}"
            return difference(without_cache(read_tree(folder)), self.whole)
        except Exception as error:  # noqa: BLE001  # whatever it is, that is not what was without_cache
            return describe(error)

    def _unlike_a_commit(self, store: Path, least: int) -> str:
        """Say what is wrong with what readers see of a build that stopped."""
        if not store.exists():
            return "the store is gone" if least else ""
        held = store_spec.open_store(store)
        expected = self.sequences[: len(held)]
        if len(held) < least or held.sources != tuple(one.source for one in expected):
            return f"readers see {len(held):,} sequences, which no commit has"
        assert_holds(held, expected)
        problems = [str(problem) for problem in store_spec.verify(store) if not problem.leftover]
        return f"verify says: {problems[0]}" if problems else ""


def unclear(error: str) -> str:
    """Say what is wrong with what a build prints that stops."""
    if not error.startswith("Error: ") or error.count("\n") != 1:
        return f"it printed no error in one line, but {error[-300:]!r}"
    return "" if any(hint in error for hint in HINTS) else f"its error does not say what to do: {error}"


def campaign(*, quick: bool) -> Outcome:
    """Disturb builds; in the quick form, one of each kind."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench.set_up(Path(temporary).resolve())
        cases = quick_cases() if quick else all_cases()
        for case in cases:
            ended, problem = in_time(bench, case)
            counts["schedulers" if case.kills == "the scheduler" else "workers"] += ended.kills
            counts["hung" if ended.code is None else "stopped" if ended.code else "finished"] += 1
            counts["left"] += ended.left
            if problem:
                found.append(f"{case.name}: {problem}")
        controls = QUICK_CONTROLS if quick else tuple(CONTROLS)
        broke = {without: bool(disturbed(bench, CONTROLS[without], without)[1]) for without in controls}
    return Outcome(
        figures={
            "builds disturbed": len(cases),
            "workers killed": counts["workers"],
            "schedulers killed": counts["schedulers"],
            "builds that finished in spite of it": counts["finished"],
            "builds that stopped, and were resumed": counts["stopped"],
            "builds that hung": counts["hung"],
            "processes left over": counts["left"],
        },
        violations=found,
        controls={without: int(found_it) for without, found_it in broke.items()},
    )


# Each of these holds, and does not without that safeguard.
CONTROLS: dict[Safeguard, Case] = {
    "tidying up": Case(name="a worker dies in a put", death=Death(place="in a put", call=1, times=1)),
    "waiting for shards": Case(
        name="a worker dies before a put, and the build gives up",
        death=Death(place="before a put", call=0, times=1),
        gives_up=True,
        appends=True,
    ),
    "renaming into place": Case(
        name="a worker dies in the put of a shard that readers see, and the build gives up",
        death=Death(place="in a put", call=0, times=1),
        gives_up=True,
        appends=True,
        workers=1,  # it puts that shard first
    ),
}
# Those in which no worker has to be replaced, which takes seconds.
QUICK_CONTROLS: tuple[Safeguard, ...] = ("waiting for shards", "renaming into place")


def quick_cases() -> list[Case]:
    """Return one case of each kind."""
    return [
        Case(name="a worker is killed as it starts, and another one later", gaps=(0.0, 4.0)),
        *(CONTROLS[without] for without in QUICK_CONTROLS),
        Case(name="the scheduler is killed", gaps=(0.7,), kills="the scheduler"),
    ]


def all_cases() -> list[Case]:
    """Return many cases, always the same."""
    rng = random.Random(0)
    cases = list(CONTROLS.values())
    for number in range(24):
        gaps = tuple(rng.uniform(0, 3) for _ in range(1 + number % 5))
        cases.append(Case(name=f"a worker is killed, {number}", gaps=gaps, appends=number % 4 == 3))
    for number in range(6):
        gaps = rng.uniform(0, 4), rng.uniform(0, 4)
        cases.append(Case(name=f"all workers are killed, {number}", gaps=gaps, kills="all workers"))
    for number in range(6):
        gaps = (rng.uniform(1, 5),)
        cases.append(Case(name=f"a build gives up, {number}", gaps=gaps, gives_up=True))
    for place in PLACES:
        for times in (1, 3):
            death = Death(place=place, call=rng.randrange(4), times=times)
            cases.append(Case(name=f"{times} workers die {place}", death=death, appends=times == 3))
    for number in range(20):
        gaps = (rng.uniform(0, 2.5),)
        some = Case(name=f"the scheduler is killed, {number}", gaps=gaps, kills="the scheduler")
        cases.append(replace(some, appends=number % 4 == 3))
    return cases


def in_time(bench: Bench, case: Case) -> tuple[Ended, str]:
    """Disturb a build like `disturbed`, sooner where it was done before anything was killed."""
    for _ in range(TRIES):
        ended, problem = disturbed(bench, case)
        if ended.kills or not case.gaps:
            break
        case = replace(case, gaps=tuple(gap / 2 for gap in case.gaps))
    return ended, problem


def disturbed(bench: Bench, case: Case, without: Safeguard | None = None) -> tuple[Ended, str]:
    """Run a build and disturb it; return how it ended, and which promise that breaks."""
    rng = random.Random(case.name)
    with tempfile.TemporaryDirectory(dir=bench.place) as temporary:
        place = Path(temporary)
        folder, deaths = place / "folder", place / "deaths"
        deaths.mkdir()
        write_tree(bench.begun if case.appends else {}, folder)
        variables = environment(deaths, case.death, without, gives_up=case.gives_up)
        options = [f"--{name}={size}" for name, size in SIZES.items()]
        with ExitStack() as stack:
            if case.kills == "the scheduler":
                other = stack.enter_context(cluster(place, variables))
                options.append(f"--scheduler={other.address}")
                locked = folder / f"{STORE}.build"
                kills = Kills(
                    ready=lambda _: locked.exists(),
                    gaps=case.gaps,
                    strike=lambda _: kill_each([psutil.Process(other.scheduler.pid)]),
                )
            else:
                options.append(f"--workers={case.workers}")

                def strike(coordinator: int) -> int:
                    there = workers_of(coordinator)
                    return kill_each(there if case.kills == "all workers" else rng.sample(there, min(1, len(there))))

                kills = Kills(ready=lambda coordinator: bool(workers_of(coordinator)), gaps=case.gaps, strike=strike)
            arguments = [str(bench.sources), str(folder / STORE), f"--process={PROCESS}", *options]
            ended = run_build(arguments, place / "log", variables, kills)
        if case.death is not None:
            ended = replace(ended, kills=len(list(deaths.iterdir())))
        return ended, bench.check(folder, case, ended)


def _built(sources: Path, folder: Path) -> Tree:
    """Build without a disturbance; return what the folder holds then."""
    folder.mkdir(exist_ok=True)
    builder.build(sources, folder / STORE, process=PROCESS, workers=0, **SIZES)
    return without_cache(read_tree(folder))
