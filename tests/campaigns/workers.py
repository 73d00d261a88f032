"""Kill the workers of builds, at random times or at chosen places, and the schedulers of clusters.

The build must end with the same bytes as without the kills. Otherwise it must stop soon with an error that says what to
do, readers must see one of its commits, and the next build must end with the same bytes. No process may keep running.
"""

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
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import SECONDS, BuildResult, cluster, run_build, workers_of
from tests.campaigns.scenarios import STORE, State, describe, visible_state
from tests.campaigns.trees import Tree, difference, read_tree, without_cache, write_tree
from tests.campaigns.worker_deaths import PLACES, Death, environment
from tests.store.oracle import Sequence

SOURCES, FIRST = 100, 30  # files, and how many of them are in the store to which a build appends
PROCESS = "tests.campaigns.worker_deaths:read"
SIZES: dict[str, Any] = {"chunk": "4kB", "shard": "16kB", "batch": "4kB"}
ALLOWED_DEATHS = 3  # of workers with the same task, before dask gives it up
ATTEMPTS = 4  # to kill something before the build ends
HINTS = ("workers=0", "repeat the command")  # one of them is in each error message


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A build and the kills during it."""

    name: str  # also the seed
    gaps: tuple[float, ...] = ()  # seconds before each kill, the first counted from when there is something to kill
    kills: Literal["a worker", "all workers", "the scheduler"] = "a worker"
    death: Death | None = None  # where workers kill themselves
    gives_up: bool = False  # give up a task after the first death of its worker, not after the fourth
    appends: bool = False
    workers: int = 2

    @property
    def must_finish(self) -> bool:
        """Whether there are too few deaths for dask to give up a task."""
        deaths = len(self.gaps) if self.death is None else self.death.times
        return not self.gives_up and self.kills != "the scheduler" and deaths <= ALLOWED_DEATHS


class Sources:
    """The source files, and the stores that undisturbed builds make from them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.folder = place / "all"
        self.sequences: list[Sequence] = []
        for folder in ("first", "all"):
            (place / folder).mkdir()
        for number in range(SOURCES):
            inputs = np.random.default_rng(number).normal(size=(50 + number % 37, 4)).astype(np.float32)
            self.sequences.append(Sequence(f"{number:03}.npy", inputs, inputs[:, :1]))
            for folder in ("first", "all") if number < FIRST else ("all",):
                np.save(place / folder / self.sequences[-1].source, inputs)
        self.first = build(place / "first", place / "of first")
        self.all = build(place / "all", place / "of all")

    def check(self, folder: Path, case: Case, result: BuildResult) -> str:
        """Return a message if a build violates a promise, or else ""."""
        if result.code is None:
            return f"it hung: {SECONDS:.0f} s after the last kill it had not ended"
        if result.left:
            return f"{result.left} of its processes are still running"
        if not result.kills:
            return "nothing was killed"
        if not result.code and result.error:
            return f"it printed {result.error!r:.200}"
        if result.code and case.must_finish:
            return f"it stopped: {result.error[-300:]!r}"
        if result.code and (not result.error.startswith("Error: ") or result.error.count("\n") != 1):
            return f"it did not print one line with an error, but {result.error[-300:]!r}"
        if result.code and not any(hint in result.error for hint in HINTS):
            return f"its error does not say what to do: {result.error}"
        states: list[State] = [self.sequences[:count] for count in range(FIRST if case.appends else 0, SOURCES + 1)]
        try:
            if not result.code:
                return difference(without_cache(read_tree(folder)), self.all)
            visible_state(folder / STORE, tuple(states if case.appends else [None, *states]))
            return difference(build(self.folder, folder), self.all)
        except Exception as error:  # noqa: BLE001
            return describe(error)


# By the safeguard that is removed in the control, without which the case fails.
CONTROLS = {
    "removing temporary files": Case(name="a worker dies in a put", death=Death(place="in a put", call=1, times=1)),
    "waiting for shards": Case(
        name="a worker dies before a put, and the build gives up",
        death=Death(place="before a put", call=0, times=1),
        gives_up=True,
        appends=True,
    ),
    "atomic rename": Case(
        name="a worker dies in the put of a shard that readers see, and the build gives up",
        death=Death(place="in a put", call=0, times=1),
        gives_up=True,
        appends=True,
        workers=1,  # this worker puts the shard of the old store first
    ),
}
QUICK_CONTROLS = ("waiting for shards", "atomic rename")  # no worker is replaced in these, which takes seconds


def campaign(*, quick: bool) -> Outcome:
    """Run all cases; in the quick form, one of each kind."""
    cases = quick_cases() if quick else all_cases()
    names = ("workers killed", "schedulers killed", "finished", "stopped and resumed", "hung", "processes left running")
    outcome = Outcome(Counter({"builds": len(cases), **dict.fromkeys(names, 0)}))
    with tempfile.TemporaryDirectory() as temporary:
        sources = Sources(Path(temporary).resolve())
        for case in cases:
            result, problem = run_until_killed(sources, case)
            outcome.figures["schedulers killed" if case.kills == "the scheduler" else "workers killed"] += result.kills
            outcome.figures[
                "hung" if result.code is None else "stopped and resumed" if result.code else "finished"
            ] += 1
            outcome.figures["processes left running"] += result.left
            if problem:
                outcome.violations.append(f"{case.name}: {problem}")
        for name in QUICK_CONTROLS if quick else CONTROLS:
            outcome.controls[name] = int(bool(run_case(sources, CONTROLS[name], name)[1]))
    return outcome


def quick_cases() -> list[Case]:
    return [
        Case(name="a worker is killed as it starts, and another one later", gaps=(0.0, 4.0)),
        *(CONTROLS[name] for name in QUICK_CONTROLS),
        Case(name="the scheduler is killed", gaps=(0.7,), kills="the scheduler"),
    ]


def all_cases() -> list[Case]:
    rng = random.Random(0)
    cases = list(CONTROLS.values())
    for number in range(24):
        gaps = tuple(rng.uniform(0, 3) for _ in range(1 + number % 5))
        cases.append(Case(name=f"a worker is killed, {number}", gaps=gaps, appends=number % 4 == 3))
    for number in range(6):
        gaps = rng.uniform(0, 4), rng.uniform(0, 4)
        cases.append(Case(name=f"all workers are killed, {number}", gaps=gaps, kills="all workers"))
    cases += [Case(name=f"a build gives up, {number}", gaps=(rng.uniform(1, 5),), gives_up=True) for number in range(6)]
    for place in PLACES:
        for times in (1, 3):
            death = Death(place=place, call=rng.randrange(4), times=times)
            cases.append(Case(name=f"{times} workers die {place}", death=death, appends=times == 3))
    for number in range(20):
        name, gaps = f"the scheduler is killed, {number}", (rng.uniform(0, 2.5),)
        cases.append(Case(name=name, gaps=gaps, kills="the scheduler", appends=number % 4 == 3))
    return cases


def run_until_killed(sources: Sources, case: Case) -> tuple[BuildResult, str]:
    """Run a case. If the build ends before the first kill, try again with earlier kills."""
    for _ in range(ATTEMPTS):
        result, problem = run_case(sources, case)
        if result.kills or not case.gaps:
            break
        case = replace(case, gaps=tuple(gap / 2 for gap in case.gaps))
    return result, problem


def run_case(sources: Sources, case: Case, safeguard: str | None = None) -> tuple[BuildResult, str]:
    """Run a case, possibly without a safeguard; return its result and a message if a promise is violated, or ""."""
    rng = random.Random(case.name) if case.kills == "a worker" else None
    with tempfile.TemporaryDirectory(dir=sources.place) as temporary, ExitStack() as stack:
        place = Path(temporary)
        folder, deaths = place / "folder", place / "deaths"
        deaths.mkdir()
        write_tree(sources.first if case.appends else {}, folder)
        variables = environment(deaths, case.death, safeguard, gives_up=case.gives_up)
        options = [f"--{name}={size}" for name, size in SIZES.items()]
        if case.kills == "the scheduler":
            other = stack.enter_context(cluster(place, variables))
            options.append(f"--scheduler={other.address}")
        else:
            options.append(f"--workers={case.workers}")

        def targets(coordinator: int) -> list[psutil.Process]:
            if case.kills == "the scheduler":
                return [psutil.Process(other.scheduler.pid)] if (folder / f"{STORE}.build").exists() else []
            return workers_of(coordinator)

        arguments = [str(sources.folder), str(folder / STORE), f"--process={PROCESS}", *options]
        result = run_build(arguments, place / "log", variables, case.gaps, targets, rng)
        if case.death is not None:
            result = replace(result, kills=len(list(deaths.iterdir())))
        return result, sources.check(folder, case, result)


def build(sources: Path, folder: Path) -> Tree:
    """Build without kills; return the content of the folder."""
    folder.mkdir(exist_ok=True)
    builder.build(sources, folder / STORE, process=PROCESS, workers=0, **SIZES)
    return without_cache(read_tree(folder))
