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
from tests.campaigns.safeguards import patched, skip_fsync
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
    effort = Effort(157, 1999, 1, 20) if quick else Effort(1, 200, 3, 25)
    outcome = Outcome(controls={"syncing files": 0, "syncing folders": 0})
    with tempfile.TemporaryDirectory() as temporary, patched(skip_fsync):
        for scenario in scenarios(Path(temporary).resolve(), small=True, third=1 if quick else None):
            folder = Path(temporary).resolve() / scenario.name
            recording, checker = record_scenario(scenario, folder, every=effort.every)
            cut_power(recording, checker, effort, outcome)
            for point in recording.sample(effort.kills):
                write_tree(point.tree, folder / "live")
                second = record(scenario, folder / "live", every=effort.every * 3, uncertain=point.allowed)
                # One log, because what the killed job did not sync can still be lost.
                points = tuple(replace(after, logged=after.logged + point.logged) for after in second.points)
                joined = replace(recording, points=points, log=recording.log[: point.logged] + second.log)
                cut_power(joined, checker, effort, outcome, f"killed before {point}, resumed, ")
            outcome.figures["distinct trees"] += len(checker.states)
            outcome.figures["jobs resumed"] += len(checker.resumed)
            if scenario.name in ("create", "append"):
                outcome.controls["syncing files"] += control(recording, checker, effort, folders=False)
                outcome.controls["syncing folders"] += control(recording, checker, effort, folders=True)
    return outcome


def cut_power(recording: Recording, checker: Checker, effort: Effort, outcome: Outcome, when: str = "") -> None:
    """Check the states after power cuts, and that the model reproduces the recorded files."""
    name, resumed = recording.scenario.name, " after a kill" if when else ""
    outcome.violations += [
        f"{name}: the log does not reproduce the files before {point}: {differs}"
        for point, disk in replay(recording, recording.log)
        if (differs := difference(disk.current(), point.tree))
    ]
    outcome.figures[f"power cuts{resumed}"] += len(recording.points)
    for point, description, tree in states_after(recording, recording.log, effort):
        outcome.figures[f"states after these power cuts{resumed}"] += 1
        before = len(checker.states)
        problem = checker.check(tree, point.allowed, resume=False)
        if not problem and len(checker.states) > before and before % effort.resume == 0:
            problem = checker.check(tree, point.allowed)
        if problem:
            outcome.violations.append(f"{name}, {when}power cut before {point}, {description}: {problem}")


def states_after(
    recording: Recording, log: tuple[Operation, ...], effort: Effort
) -> Iterator[tuple[CrashPoint, str, Tree]]:
    """Yield states that a power cut at each point may leave, with descriptions."""
    rng = random.Random(recording.scenario.name)
    for point, disk in replay(recording, log):
        yield point, "only synced changes survive", disk.synced()
        yield point, "everything survives", disk.current()
        for what, fate in {"empty": Fate.LOST, "zeros": Fate.LENGTH, "half written": Fate.HALF}.items():
            yield point, f"names survive, but unsynced files are {what}", disk.current(fate)
        for number in range(effort.random_states):
            yield point, f"random state {number}", disk.sample(rng)


def replay(recording: Recording, log: tuple[Operation, ...]) -> Iterator[tuple[CrashPoint, Disk]]:
    """Yield the modelled disk at each crash point."""
    disk, done = Disk(recording.before), 0
    for point in recording.points:
        for operation in log[done : point.logged]:
            disk.apply(operation)
        done = point.logged
        yield point, disk


def control(recording: Recording, checker: Checker, effort: Effort, *, folders: bool) -> int:
    """Return how many states violate a promise if files, or folders, are never synced."""
    nothing = Operation(kind="nothing", path="")
    log = tuple(nothing if one.kind == "sync" and one.is_folder == folders else one for one in recording.log)
    states = states_after(recording, log, effort)
    return sum(bool(checker.check(tree, point.allowed, resume=False)) for point, _, tree in states)
