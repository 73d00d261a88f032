"""Processes that are really killed, with SIGKILL: at an operation of their own, or at any moment from outside.

What one leaves that dies at an operation must be what `recording` kept before that operation: else deaths that are
only looked at would prove nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.campaigns.operations import CHANGES, Operation, Watch
from tests.campaigns.recording import Checker, Moment, Recording, recorded
from tests.campaigns.scenarios import scenarios
from tests.campaigns.trees import difference, normal, promised, read_tree, write_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class RealKills:
    """How many processes were killed, and which promises that broke."""

    at_operations: int
    at_any_moment: int
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A process that does the job of a scenario, and what it needs to know."""

    place: Path  # for its own source files
    small: bool
    name: str  # of the scenario
    folder: Path
    at: int | None  # the operation at which it kills itself; None: it is killed, or comes to its end

    def run(self, context: ForkServerContext, delay: float | None = None) -> int | None:
        """Run it to its end, or for so many seconds; return its exit code."""
        process = context.Process(target=_die, args=(self,))
        process.start()
        process.join(delay)
        process.kill()
        process.join()
        return process.exitcode


def kill_processes(place: Path, *, quick: bool) -> RealKills:
    """Kill processes in each scenario; in the quick form, at operations alone."""
    with pytest.MonkeyPatch.context() as patch:
        # numcodecs makes a semaphore in each process; those of the killed ones are removed by this one, in silence.
        patch.setenv("PYTHONWARNINGS", "ignore:resource_tracker")
        resource_tracker.ensure_running()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    broken: list[str] = []
    at_operations = at_any_moment = 0
    each = 3 if quick else 60
    for number, scenario in enumerate(scenarios(place / "ours", small=quick, third=2 if quick else None)):
        folder = place / scenario.name
        recording, checker = recorded(scenario, folder, every=29 if quick else 1)
        victim = Victim(place=place / "theirs", small=quick, name=scenario.name, folder=folder / "live", at=None)
        rng = random.Random(number)
        moments = recording.moments[:-1]
        for moment in rng.sample(moments, min(each, len(moments))):
            at_operations += 1
            problem = _at_operation(context, victim, recording, checker, moment)
            if problem:
                broken.append(f"{scenario.name}, really killed before {moment}: {problem}")
        if not quick:
            at_any_moment += each
            broken += [
                f"{scenario.name}, really killed at any moment: {problem}"
                for problem in _at_any_moment(context, victim, recording, checker, [rng.random() for _ in range(each)])
            ]
    return RealKills(at_operations=at_operations, at_any_moment=at_any_moment, broken=tuple(broken))


def _at_operation(
    context: ForkServerContext, victim: Victim, recording: Recording, checker: Checker, moment: Moment
) -> str:
    write_tree(recording.before, victim.folder)
    code = replace(victim, at=moment.number).run(context)
    found = read_tree(victim.folder)
    if code != -signal.SIGKILL:
        return f"the process ended with {code}"
    if normal(promised(found)) != normal(promised(moment.tree)):
        return f"it left not what was kept: {difference(found, moment.tree)}"
    return checker.check(found, moment.allowed)


def _at_any_moment(
    context: ForkServerContext, victim: Victim, recording: Recording, checker: Checker, parts: list[float]
) -> list[str]:
    """Kill processes when they have run for parts of the time that a whole job takes; return what that broke."""
    write_tree(recording.before, victim.folder)
    begin = time.monotonic()
    victim.run(context)
    seconds = time.monotonic() - begin
    found = []
    for part in parts:
        write_tree(recording.before, victim.folder)
        victim.run(context, part * seconds)
        found.append(checker.check(read_tree(victim.folder), range(len(recording.scenario.states))))
    return [problem for problem in found if problem]


def _die(victim: Victim) -> None:
    """Do the job, up to one operation that changes the disk."""
    scenario = next(one for one in scenarios(victim.place, small=victim.small) if one.name == victim.name)
    count = 0

    def before(operation: Operation) -> None:
        nonlocal count
        if operation.kind in CHANGES:
            if count == victim.at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    if victim.at is None:
        scenario.act(victim.folder)
    else:
        with Watch(victim.folder, before).watching():
            scenario.act(victim.folder)
