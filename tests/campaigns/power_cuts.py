"""Cut the power before every operation of a job, with any subset of the unsynced changes lost."""

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.crash_model import Disk, Fate
from tests.campaigns.operations import Operation
from tests.campaigns.outcome import Outcome
from tests.campaigns.recording import Checker, CrashPoint, Recording, record, record_scenario
from tests.campaigns.safeguards import without
from tests.campaigns.scenarios import scenarios
from tests.campaigns.trees import Tree, difference, write_tree


class Effort(NamedTuple):
    """How many of all possible power cuts are tried."""

    every: int  # operations per power cut
    kills: int  # crash points per kill; after each kill, the job is resumed and meets power cuts
    random_states: int  # per power cut
    resume: int  # distinct trees per resumed job


def campaign(*, quick: bool) -> Outcome:
    """Cut the power at every operation; in the quick form, at a sample of them."""
    outcome, effort = Outcome(), Effort(157, 1999, 1, 20) if quick else Effort(1, 200, 3, 25)
    with tempfile.TemporaryDirectory() as temporary, without("fsync"):  # a sync is recorded, not executed
        for scenario in scenarios(Path(temporary).resolve(), small=True, third=1 if quick else None):
            folder = Path(temporary).resolve() / scenario.name
            recording, checker = record_scenario(scenario, folder, every=effort.every)
            cut_power(recording, checker, effort, outcome)
            for point in recording.sample(effort.kills):
                write_tree(point.tree, folder / "live")
                second = record(scenario, folder / "live", every=effort.every * 3, uncertain=point.allowed)
                # One log, because what the killed job did not sync can still be lost.
                points = [replace(after, logged=after.logged + point.logged) for after in second.points]
                joined = replace(recording, points=points, log=recording.log[: point.logged] + second.log)
                cut_power(joined, checker, effort, outcome, f"killed before {point}, resumed, ")
            outcome.figures["distinct trees"] += len(checker.states)
            outcome.figures["jobs resumed"] += len(checker.resumed)
            if scenario.name in {"create", "append"}:
                for what, folders in {"syncing files": False, "syncing folders": True}.items():
                    outcome.control(what, problems_without(recording, checker, effort, folders=folders))
    return outcome


def cut_power(recording: Recording, checker: Checker, effort: Effort, outcome: Outcome, when: str = "") -> None:
    """Check the states after power cuts, and that the model reproduces the recorded files."""
    name, resumed = recording.scenario.name, " after a kill" if when else ""
    for point, disk in replay(recording):
        where = f"{name}: the log does not reproduce the files before {point}"
        outcome.count(f"power cuts{resumed}", where, difference(disk.current(), point.tree))
    for point, description, tree in states_after(recording, effort):
        before = len(checker.states)
        problem = checker.check(tree, point.allowed, resume=False)
        if not problem and len(checker.states) > before and before % effort.resume == 0:
            problem = checker.check(tree, point.allowed)
        where = f"{name}, {when}power cut before {point}, {description}"
        outcome.count(f"states after these power cuts{resumed}", where, problem)


def states_after(recording: Recording, effort: Effort) -> Iterator[tuple[CrashPoint, str, Tree]]:
    """Yield states that a power cut at each point may leave, with descriptions."""
    rng = random.Random(recording.scenario.name)
    for point, disk in replay(recording):
        yield point, "only synced changes survive", disk.synced()
        yield point, "everything survives", disk.current()
        for what, fate in {"empty": Fate.LOST, "zeros": Fate.LENGTH, "half written": Fate.HALF}.items():
            yield point, f"names survive, but unsynced files are {what}", disk.current(fate)
        for number in range(effort.random_states):
            yield point, f"random state {number}", disk.sample(rng)


def replay(recording: Recording) -> Iterator[tuple[CrashPoint, Disk]]:
    """Yield the modelled disk at each crash point."""
    disk, done = Disk(recording.before), 0
    for point in recording.points:
        for operation in recording.log[done : point.logged]:
            disk.apply(operation)
        done = point.logged
        yield point, disk


def problems_without(recording: Recording, checker: Checker, effort: Effort, *, folders: bool) -> Iterator[str]:
    """Yield the result of each state that is left if files, or folders, are never synced."""
    nothing = Operation(kind="nothing", path="")
    log = [nothing if one.kind == "sync" and one.is_folder == folders else one for one in recording.log]
    for point, _, tree in states_after(replace(recording, log=log), effort):
        yield checker.check(tree, point.allowed, resume=False)
