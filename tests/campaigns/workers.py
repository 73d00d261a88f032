"""Kill the workers of builds, at random times or at chosen places, and the schedulers of clusters.

The build must end with the same bytes as without the kills. Otherwise it must stop soon with an error that says what to
do, readers must see one of its commits, and the next build must end with the same bytes. No process may keep running.
"""

import math
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import psutil

from tests.builder.made_sources import Made
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import POLL_SECONDS, ROOT, Cluster, cluster, kill_all, workers_of
from tests.campaigns.recording import Checker
from tests.campaigns.safeguards import without
from tests.campaigns.scenarios import STORE, Building, compare
from tests.campaigns.trees import read_tree
from tests.campaigns.worker_deaths import PLACES, Death, environment

SOURCES, FIRST = 100, 30  # files, and how many of them are in the store to which a build appends
MADE = {f"{number:03}.made": Made(lengths=(70 + number % 37,), seed=number) for number in range(SOURCES)}
SECONDS = 60.0  # limit for a build after the last kill
EXIT_SECONDS = 10.0  # limit for the processes of a build to exit after it
MARK = "CAMPAIGN_BUILD"  # an environment variable that marks all processes of one build
ALLOWED_DEATHS = 3  # of workers with the same task, before it is given up
ATTEMPTS = 4  # to kill something before the build ends
HINTS = ("workers=0", "repeat the command", "no dask scheduler answers")  # one of them is in each error message


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
        """Whether there are too few deaths to give up a task."""
        deaths = len(self.gaps) if self.death is None else self.death.times
        return not self.gives_up and self.kills != "the scheduler" and deaths <= ALLOWED_DEATHS


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """How a build ended."""

    code: int | None  # the exit status; None: it hung and was killed
    error: str  # what it printed to standard error
    kills: int
    left: int  # processes that were still running afterwards


def campaign(*, quick: bool) -> Outcome:
    """Run all cases; in the quick form, one of each kind."""
    outcome = Outcome(Counter({"workers killed": 0, "schedulers killed": 0}))
    with tempfile.TemporaryDirectory() as temporary, without("fsync"):  # processes of their own call it
        builds = Builds(Path(temporary).resolve())
        for case in quick_cases() if quick else all_cases():
            result, problem = builds.run_until_killed(case)
            outcome.figures["schedulers killed" if case.kills == "the scheduler" else "workers killed"] += result.kills
            how = "hung" if result.code is None else "stopped and resumed" if result.code else "finished"
            outcome.count(f"builds that {how}", case.name, problem)
        for name in QUICK_CONTROLS if quick else CONTROLS:
            outcome.control(name, [builds.run(CONTROLS[name], name)[1]])
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


class SlowBuild(Building):
    """A build with commits and shards of few sources, slow enough for kills."""

    process = "tests.campaigns.worker_deaths:read"
    options: ClassVar[dict[str, Any]] = {"chunk": "4kB", "shard": "16kB", "batch": 300}


class Builds:
    """Builds of the same source files, of a new store or appended to one with the first of them."""

    def __init__(self, place: Path) -> None:
        first = {name: MADE[name] for name in sorted(MADE)[:FIRST]}
        self._place = place
        self._checkers = [
            Checker(SlowBuild(f"after {len(before)}", place, before=before, after=MADE), place / f"of {len(before)}")
            for before in ({}, first)
        ]

    def run_until_killed(self, case: Case) -> tuple[BuildResult, str]:
        """Run a case. If the build ends before the first kill, try again with earlier kills."""
        for _ in range(ATTEMPTS):
            result, problem = self.run(case)
            if result.kills or not case.gaps:
                break
            case = replace(case, gaps=tuple(gap / 2 for gap in case.gaps))
        return result, problem

    def run(self, case: Case, safeguard: str | None = None) -> tuple[BuildResult, str]:
        """Run a case, possibly without a safeguard; return its result and a message if it violates a promise, or ""."""
        with tempfile.TemporaryDirectory(dir=self._place) as temporary, ExitStack() as stack:
            place, checker = Path(temporary), self._checkers[case.appends]
            build: Any = checker.scenario
            folder, deaths = place / "folder", place / "deaths"
            deaths.mkdir()
            folder.mkdir()
            build.prepare(folder)
            variables = environment(deaths, case.death, safeguard, gives_up=case.gives_up)
            arguments = [str(build.sources), str(folder / STORE), f"--process={build.process}"]
            arguments += [f"--{name}={size}" for name, size in build.options.items()]
            other = None
            if case.kills == "the scheduler":
                other = stack.enter_context(cluster(place, variables))
            arguments.append(f"--scheduler={other.address}" if other else f"--workers={case.workers}")
            result = run_build(arguments, folder, variables, case, other)
            if case.death is not None:
                result = replace(result, kills=len(list(deaths.iterdir())))
            return result, check(checker, folder, case, result)


def check(checker: Checker, folder: Path, case: Case, result: BuildResult) -> str:
    """Return a message if a build violates a promise, or else ""."""
    if result.code is None:
        return f"it hung: {SECONDS:.0f} s after the last kill it had not ended"
    if result.left:
        return f"{result.left} of its processes are still running"
    if not result.kills:
        return "nothing was killed"
    if not result.code:
        printed = result.error and f"it printed {result.error!r:.200}"
        return printed or compare(folder, checker.expected)
    if case.must_finish:
        return f"it stopped: {result.error[-300:]!r}"
    if not result.error.startswith("Error: ") or result.error.count("\n") != 1:
        return f"it did not print one line with an error, but {result.error[-300:]!r}"
    if not any(hint in result.error for hint in HINTS):
        return f"its error does not say what to do: {result.error}"
    return checker.check(read_tree(folder), range(SOURCES + 1))


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes of a build that are running."""
    running = psutil.process_iter(["environ"])
    return [process for process in running if (process.info["environ"] or {}).get(MARK) == mark]


def run_build(
    arguments: list[str], folder: Path, variables: Mapping[str, str], case: Case, other: Cluster | None
) -> BuildResult:
    """Run `seqzarr build`, keep what it prints to standard error, and kill processes of its own or another cluster."""
    mark, count, rng, log = uuid.uuid4().hex, 0, random.Random(case.name), folder.with_name("log")
    command = [sys.executable, "-m", "tests.campaigns.worker_deaths", "build", "--quiet", *arguments]
    environ = {**os.environ, **variables, MARK: mark}
    with log.open("wb") as file:  # a pipe would stay open until the last worker exits
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=file)

    def targets() -> list[psutil.Process]:
        if other is None:
            return workers_of(process.pid)
        return [psutil.Process(other.scheduler.pid)] if (folder / f"{STORE}.build").exists() else []

    remaining, due, deadline = iter(case.gaps), math.inf, time.monotonic() + SECONDS
    has_begun = False
    while process.poll() is None and (now := time.monotonic()) < deadline:
        if not has_begun and targets():
            has_begun, due = True, now + next(remaining, math.inf)
        if now >= due:
            found = targets()
            count += kill_all(rng.sample(found, min(1, len(found))) if case.kills == "a worker" else found)
            due, deadline = now + next(remaining, math.inf), now + SECONDS
        time.sleep(POLL_SECONDS)
    code = process.poll()
    process.kill()
    process.wait()
    deadline = time.monotonic() + EXIT_SECONDS
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return BuildResult(code=code, error=log.read_text(), kills=count, left=kill_all(left))
