"""Power cuts: after every operation of a job, whatever part of what was not synced survives."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.campaigns.crash_model import Disk, Fate
from tests.campaigns.operations import Operation
from tests.campaigns.outcome import Outcome
from tests.campaigns.recording import Checker, Moment, Recording, record, recorded
from tests.campaigns.safeguards import taken_out, without_syncing
from tests.campaigns.scenarios import scenarios
from tests.campaigns.trees import Tree, difference, write_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much of all possible cuts is tried."""

    every: int  # operations from one cut to the next
    kills: int  # cuts from one kill to the next, after which the job is done again and cut off
    chances: int  # states by chance after each
    finish: int  # different states from one to the next from which the job is done again


@dataclass(slots=True, kw_only=True)
class Count:
    """What was tried."""

    cuts: int = 0
    states: int = 0
    distinct: int = 0
    finished: int = 0
    broken: list[str] = field(default_factory=list)


def campaign(*, quick: bool) -> Outcome:
    """Cut the power everywhere; in the quick form, at a sample of the places."""
    effort = (
        Effort(every=157, kills=1999, chances=1, finish=20)
        if quick
        else Effort(every=1, kills=200, chances=3, finish=25)
    )
    count, again = Count(), Count()
    controls = {"syncing files": 0, "syncing folders": 0}
    with tempfile.TemporaryDirectory() as temporary, taken_out(without_syncing):
        for scenario in scenarios(Path(temporary).resolve(), small=True, third=1 if quick else None):
            folder = Path(temporary).resolve() / scenario.name
            recording, checker = recorded(scenario, folder, every=effort.every)
            cut(recording, checker, effort, count, "")
            for moment in recording.some(effort.kills):
                write_tree(moment.tree, folder / "live")
                second = record(scenario, folder / "live", every=effort.every * 3, unsure=moment.allowed)
                # What the killed one had not synced is not safe yet.
                whole = followed(recording, moment, second)
                cut(whole, checker, effort, again, f"killed before {moment}, done again, ")
            count.distinct += checker.distinct
            count.finished += checker.finished
            if scenario.name in ("create", "append"):
                controls["syncing files"] += control(recording, checker, effort, folders=False)
                controls["syncing folders"] += control(recording, checker, effort, folders=True)
    return Outcome(
        figures={
            "power cuts": count.cuts,
            "states that they may leave": count.states,
            "power cuts after a kill and a new start": again.cuts,
            "states that these may leave": again.states,
            "different states of the disk": count.distinct,
            "jobs done again from these": count.finished,
        },
        violations=(*count.broken, *again.broken),
        controls=controls,
    )


def cut(recording: Recording, checker: Checker, effort: Effort, count: Count, when: str) -> None:
    """Check whatever power cuts may leave, and that the model of the disk is faithful."""
    name = recording.scenario.name
    count.broken += [f"{name}: {problem}" for problem in unfaithful(recording)]
    count.cuts += len(recording.moments)
    for moment, what, tree in left(recording, recording.log, effort):
        count.states += 1
        new = checker.distinct
        problem = checker.check(tree, moment.allowed, finish=False)
        if not problem and checker.distinct > new and new % effort.finish == 0:
            problem = checker.check(tree, moment.allowed)
        if problem:
            count.broken.append(f"{name}, {when}power cut before {moment}, {what}: {problem}")


def followed(first: Recording, killed: Moment, second: Recording) -> Recording:
    """Return two jobs as one: the first up to a kill, and all of the second."""
    moments = tuple(replace(moment, done=moment.done + killed.done) for moment in second.moments)
    return replace(first, moments=moments, log=first.log[: killed.done] + second.log)


def left(recording: Recording, log: tuple[Operation, ...], effort: Effort) -> Iterator[tuple[Moment, str, Tree]]:
    """Yield what a power cut may leave at each moment, and in words what survives there."""
    rng = random.Random(recording.scenario.name)  # a fixed seed
    for moment, disk in replayed(recording, log):
        yield moment, "nothing unsynced survives", disk.nothing()
        yield moment, "everything survives", disk.everything()
        for what, fate in {"empty": Fate.LOST, "zeros": Fate.LENGTH, "half there": Fate.HALF}.items():
            yield moment, f"names survive, and files are {what}", disk.names_alone(fate)
        for number in range(effort.chances):
            yield moment, f"chance {number} decides", disk.chance(rng)


def replayed(recording: Recording, log: tuple[Operation, ...]) -> Iterator[tuple[Moment, Disk]]:
    """Yield the disk as it is at each moment."""
    disk, done = Disk(recording.before), 0
    for moment in recording.moments:
        for operation in log[done : moment.done]:
            disk.do(operation)
        done = moment.done
        yield moment, disk


def unfaithful(recording: Recording) -> list[str]:
    """Return a sentence for each moment whose log does not give what lay there: the model would prove nothing."""
    return [
        f"the log does not give what lay there before {moment}: {differs}"
        for moment, disk in replayed(recording, recording.log)
        if (differs := difference(disk.everything(), moment.tree))
    ]


def control(recording: Recording, checker: Checker, effort: Effort, *, folders: bool) -> int:
    """Return how many states break a promise where files, or folders, are never synced."""
    other = Operation(kind="nothing", path="")
    log = tuple(other if one.kind == "sync" and one.folder == folders else one for one in recording.log)
    return sum(
        bool(checker.check(tree, moment.allowed, finish=False)) for moment, _, tree in left(recording, log, effort)
    )
