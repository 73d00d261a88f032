"""Kill writers, builds and repairs before every file operation and in the middle of every write.

Most kills are simulated: a copy of the files is kept before each operation and checked afterwards. Some processes are
killed with SIGKILL; what they leave must equal the copy.
"""

import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tests.campaigns.operations import Interceptor, before_mutation
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import in_process
from tests.campaigns.recording import Checker, CrashPoint, Recording, record, record_scenario
from tests.campaigns.safeguards import without
from tests.campaigns.scenarios import Repair, scenarios
from tests.campaigns.trees import Tree, difference, normalize, read_tree, without_cache, without_spilled, write_tree

SECONDS = 60.0  # limit for a job in a process
KILLED = f"the process ended with {-signal.SIGKILL}"


def campaign(*, quick: bool) -> Outcome:
    """Kill at every operation; in the quick form, at a sample of them."""
    outcome, every = Outcome(), 89 if quick else 1
    with tempfile.TemporaryDirectory() as temporary, without("fsync"):
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
    with without(safeguard):
        for scenario in writing[: 2 if quick else None]:
            recording, checker = record_scenario(scenario, place / scenario.name, every=43 if quick else 5)
            for point in recording.points:
                yield checker.check(point.tree, point.allowed)


def kill_processes(
    outcome: Outcome, recording: Recording, checker: Checker, live: Path, sources: Path, *, quick: bool
) -> None:
    """Kill processes that do the job at operations and, unless `quick`, at random times."""
    name, count = recording.scenario.name, 2 if quick else 60  # kills of each kind
    get_context("forkserver").set_forkserver_preload([__name__])
    rng, points = random.Random(name), recording.points[:-1]

    def run(kill_at: int | None = None, seconds: float = SECONDS) -> str:
        write_tree(recording.before, live)
        job = partial(_run_scenario, live, sources, name, small=quick, kill_at=kill_at)
        try:
            in_process(job, seconds=seconds, method="forkserver")
        except RuntimeError as error:
            return str(error)
        return "the process was not killed"

    for point in rng.sample(points, min(count, len(points))):
        ended = run(point.number)
        problem = _compare(read_tree(live), point) if ended == KILLED else ended
        problem = problem or checker.check(read_tree(live), point.allowed)
        outcome.count("processes killed at an operation", f"{name}, process killed before {point}", problem)
    if quick:
        return
    begin = time.monotonic()
    run()
    duration = time.monotonic() - begin
    for _ in range(count):
        run(seconds=rng.random() * duration)
        problem = checker.check(read_tree(live), range(len(recording.scenario.states)))
        outcome.count("processes killed at a random time", f"{name}, process killed at a random time", problem)


def _compare(left: Tree, point: CrashPoint) -> str:
    """Return a message if the files that a killed process left are not those recorded."""
    found, recorded = (normalize(without_spilled(without_cache(tree))) for tree in (left, point.tree))
    return "" if found == recorded else f"the files differ from those recorded: {difference(left, point.tree)}"


def _run_scenario(folder: Path, sources: Path, name: str, *, small: bool, kill_at: int | None) -> None:
    """Run a job in a prepared folder, with its own source files; kill this process before a mutation."""
    scenario = next(scenario for scenario in scenarios(sources, small=small) if scenario.name == name)
    if kill_at is None:
        scenario.run(folder)
    else:
        before = before_mutation(kill_at, lambda: os.kill(os.getpid(), signal.SIGKILL))
        with Interceptor(folder, before).installed():
            scenario.run(folder)
