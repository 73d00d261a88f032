"""Kill writers, builds and repairs before every file operation and in the middle of every write.

Most kills are simulated: a copy of the files is kept before each operation and checked afterwards. Some processes are
killed with SIGKILL; what they leave must equal the copy.
"""

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from unittest import mock

from tests.campaigns.operations import Interceptor, before_mutation
from tests.campaigns.outcome import Outcome
from tests.campaigns.recording import Checker, CrashPoint, Recording, record, record_scenario
from tests.campaigns.safeguards import WITHOUT
from tests.campaigns.scenarios import Repair, scenarios
from tests.campaigns.trees import Tree, difference, normalize, read_tree, without_cache, without_spilled, write_tree


def campaign(*, quick: bool) -> Outcome:
    """Kill at every operation; in the quick form, at a sample of them."""
    outcome, every = Outcome(), 89 if quick else 1
    with tempfile.TemporaryDirectory() as temporary, WITHOUT["fsync"]:
        place = Path(temporary).resolve()
        for scenario in scenarios(place, small=quick, third=0 if quick else None):
            live = place / scenario.name / "live"
            recording, checker = record_scenario(scenario, live.parent, every=every)
            check(outcome, "kills", checker, recording)
            for point in recording.sample(120 if quick else 100):
                write_tree(point.tree, live)
                recovery = record(scenario, live, scenario.recover, every=every)
                check(
                    outcome, "kills during recovery", checker, recovery, f"before {point}, and again during recovery "
                )
            kill_processes(outcome, recording, checker, live, place / "theirs", quick=quick)
            outcome.figures["distinct trees"] += len(checker.states)
            outcome.figures["jobs resumed"] += len(checker.resumed)
        for safeguard in ("atomic rename", "writing the root last", "recovery"):
            outcome.control(safeguard, problems_without(safeguard, place / safeguard, quick=quick))
    return outcome


def check(outcome: Outcome, figure: str, checker: Checker, recording: Recording, when: str = "") -> None:
    for point in recording.points:
        where = f"{recording.scenario.name}, killed {when}before {point}"
        outcome.count(figure, where, checker.check(point.tree, point.allowed))


def problems_without(safeguard: str, place: Path, *, quick: bool) -> Iterator[str]:
    """Yield the result of each kill without a safeguard. Repairs are left out, because they recover first."""
    writing = [scenario for scenario in scenarios(place, small=True) if not isinstance(scenario, Repair)]
    with WITHOUT[safeguard]:
        for scenario in writing[: 2 if quick else None]:
            recording, checker = record_scenario(scenario, place / scenario.name, every=43 if quick else 5)
            for point in recording.points:
                yield checker.check(point.tree, point.allowed)


def kill_processes(
    outcome: Outcome, recording: Recording, checker: Checker, live: Path, sources: Path, *, quick: bool
) -> None:
    """Kill processes that do the job at operations and, unless `quick`, at random times."""
    name, count = recording.scenario.name, 2 if quick else 60  # kills of each kind
    job = partial(_run_scenario, live, sources, name, small=quick)
    rng, points = random.Random(name), recording.points[:-1]
    for point in rng.sample(points, min(count, len(points))):
        left, code = _run_process(live, recording.before, partial(job, kill_at=point.number))
        where = f"{name}, process killed before {point}"
        outcome.count("processes killed at an operation", where, _check_killed(left, code, checker, point))
    if quick:
        return
    begin = time.monotonic()
    _run_process(live, recording.before, job)
    duration = time.monotonic() - begin
    for _ in range(count):
        left, _ = _run_process(live, recording.before, job, rng.random() * duration)
        problem = checker.check(left, range(len(recording.scenario.states)))
        outcome.count("processes killed at a random time", f"{name}, process killed at a random time", problem)


def _check_killed(left: Tree, code: int | None, checker: Checker, point: CrashPoint) -> str:
    """Return a message if the files that a killed process left are not those recorded, or violate a promise."""
    if code != -signal.SIGKILL:
        return f"the process ended with {code}"
    found, recorded = (normalize(without_spilled(without_cache(tree))) for tree in (left, point.tree))
    if found != recorded:
        return f"the files differ from those recorded: {difference(left, point.tree)}"
    return checker.check(left, point.allowed)


def _run_process(
    folder: Path, before: Tree, job: Callable[[], None], seconds: float | None = None
) -> tuple[Tree, int | None]:
    """Run a job in a process for at most `seconds`; return the files that it leaves, and its exit code."""
    # numcodecs makes a semaphore in each process, and the tracker warns when it removes those of killed processes.
    with mock.patch.dict(os.environ, PYTHONWARNINGS="ignore:resource_tracker"):
        resource_tracker.ensure_running()
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    write_tree(before, folder)
    process = context.Process(target=job)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return read_tree(folder), process.exitcode


def _run_scenario(folder: Path, sources: Path, name: str, *, small: bool, kill_at: int | None = None) -> None:
    """Run a job in a prepared folder, with its own source files; kill this process before a mutation."""
    scenario = next(scenario for scenario in scenarios(sources, small=small) if scenario.name == name)
    if kill_at is None:
        scenario.run(folder)
    else:
        before = before_mutation(kill_at, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with Interceptor(folder, before).installed():
            scenario.run(folder)
