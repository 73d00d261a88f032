"""Kill writers, builds and repairs before every file operation and in the middle of every write.

Most kills are simulated: a copy of the files is kept before each operation and checked afterwards. Some processes are
killed with SIGKILL; what they leave must equal the copy.
"""

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.campaigns.operations import Interceptor, before_mutation
from tests.campaigns.outcome import Outcome
from tests.campaigns.recording import Checker, CrashPoint, record, record_scenario
from tests.campaigns.safeguards import Patch, patched, skip_fsync, skip_recovery, write_in_place, write_root_first
from tests.campaigns.scenarios import Repair, scenarios
from tests.campaigns.trees import Tree, difference, normalize, read_tree, without_cache, without_spilled, write_tree

CONTROLS: dict[str, Patch] = {
    "atomic rename": write_in_place,
    "writing the root last": write_root_first,
    "recovery": skip_recovery,
}


def campaign(*, quick: bool) -> Outcome:
    """Kill at every operation; in the quick form, at a sample of them."""
    outcome = Outcome()
    every = 89 if quick else 1
    with tempfile.TemporaryDirectory() as temporary, patched(skip_fsync):
        place = Path(temporary).resolve()
        for scenario in scenarios(place, small=quick, third=0 if quick else None):
            live = place / scenario.name / "live"
            recording, checker = record_scenario(scenario, live.parent, every=every)
            outcome.figures["kills"] += len(recording.points)
            outcome.violations += check(checker, recording.points)
            for point in recording.sample(120 if quick else 100):
                write_tree(point.tree, live)
                recovery = record(scenario, live, scenario.recover, every=every)
                outcome.figures["kills during recovery"] += len(recovery.points)
                outcome.violations += check(checker, recovery.points, f"before {point}, and again during recovery ")
            outcome.figures["distinct trees"] += len(checker.states)
            outcome.figures["jobs resumed"] += len(checker.resumed)
        kill_processes(place / "processes", outcome, quick=quick)
        outcome.controls = {name: control(patch, place / name, quick=quick) for name, patch in CONTROLS.items()}
    return outcome


def check(checker: Checker, points: Iterable[CrashPoint], when: str = "") -> list[str]:
    """Return a message for each crash point that violates a promise."""
    return [
        f"{checker.scenario.name}, killed {when}before {point}: {problem}"
        for point in points
        if (problem := checker.check(point.tree, point.allowed))
    ]


def control(patch: Patch, place: Path, *, quick: bool) -> int:
    """Return how many kills violate a promise without a safeguard. Repairs are left out, because they recover first."""
    count = 0
    with patched(patch):
        writing = [scenario for scenario in scenarios(place, small=True) if not isinstance(scenario, Repair)]
        for scenario in writing[: 2 if quick else None]:
            recording, checker = record_scenario(scenario, place / scenario.name, every=43 if quick else 5)
            count += len(check(checker, recording.points))
    return count


def kill_processes(place: Path, outcome: Outcome, *, quick: bool) -> None:
    """Kill processes at operations and, unless `quick`, at random times."""
    with pytest.MonkeyPatch.context() as patch:
        # numcodecs makes a semaphore in each process, and the tracker warns when it removes those of killed processes.
        patch.setenv("PYTHONWARNINGS", "ignore:resource_tracker")
        resource_tracker.ensure_running()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    count = 3 if quick else 60  # kills of each kind in each scenario
    for number, scenario in enumerate(scenarios(place / "ours", small=quick, third=2 if quick else None)):
        folder = place / scenario.name
        recording, checker = record_scenario(scenario, folder, every=29 if quick else 1)
        job = partial(_run_scenario, folder / "live", place / "theirs", scenario.name, small=quick)
        run = partial(_run_process, context, folder / "live", recording.before)
        rng = random.Random(number)
        points = recording.points[:-1]
        for point in rng.sample(points, min(count, len(points))):
            outcome.figures["processes killed at an operation"] += 1
            if problem := _check_killed(*run(partial(job, kill_at=point.number)), checker, point):
                outcome.violations.append(f"{scenario.name}, process killed before {point}: {problem}")
        if not quick:
            fractions = [rng.random() for _ in range(count)]
            begin = time.monotonic()
            run(job)
            duration = time.monotonic() - begin
            for fraction in fractions:
                outcome.figures["processes killed at a random time"] += 1
                left, _ = run(job, fraction * duration)
                if problem := checker.check(left, range(len(scenario.states))):
                    outcome.violations.append(f"{scenario.name}, process killed at a random time: {problem}")


def _check_killed(left: Tree, code: int | None, checker: Checker, point: CrashPoint) -> str:
    """Return a message if the files that a killed process left are not those recorded, or violate a promise."""
    if code != -signal.SIGKILL:
        return f"the process ended with {code}"
    found, recorded = (normalize(without_spilled(without_cache(tree))) for tree in (left, point.tree))
    if found != recorded:
        return f"the files differ from those recorded: {difference(left, point.tree)}"
    return checker.check(left, point.allowed)


def _run_process(
    context: ForkServerContext, folder: Path, before: Tree, job: Callable[[], None], seconds: float | None = None
) -> tuple[Tree, int | None]:
    """Run a job in a process for at most `seconds`; return the files that it leaves, and its exit code."""
    write_tree(before, folder)
    process = context.Process(target=job)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return read_tree(folder), process.exitcode


def _run_scenario(folder: Path, place: Path, name: str, *, small: bool, kill_at: int | None = None) -> None:
    """Run a job in a prepared folder, with source files in `place`; kill this process before a mutation."""
    scenario = next(scenario for scenario in scenarios(place, small=small) if scenario.name == name)
    if kill_at is None:
        scenario.run(folder)
    else:
        before = before_mutation(kill_at, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with Interceptor(folder, before).installed():
            scenario.run(folder)
