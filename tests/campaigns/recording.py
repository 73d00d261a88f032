"""Record a run of a job: its operations, and the files before each of them."""

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from store_spec.disk.ledger import Ledger
from tests.campaigns.operations import MUTATIONS, Interceptor, Operation
from tests.campaigns.scenarios import Scenario, describe
from tests.campaigns.trees import Tree, normalize, read_tree, write_tree

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class CrashPoint:
    """The moment before a mutation, or the end of a job."""

    number: int
    operation: Operation | None  # the mutation; None at the end
    logged: int  # operations of the recording's log that come before it
    tree: Tree
    allowed: set[int]  # what readers may see: the state of the last commit, or that of the commit in progress

    def __str__(self) -> str:
        return f"operation {self.number:,}, {self.operation or 'the end'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A job from its first operation to its last."""

    scenario: Scenario
    before: Tree
    points: list[CrashPoint]
    log: list[Operation]

    def sample(self, every: int) -> Iterator[CrashPoint]:
        """Yield the points around commits, and one in `every` of the others."""
        for number, point in enumerate(self.points):
            if number % every == every // 2 or (point.operation is not None and point.operation.commits):
                yield point


def record(
    scenario: Scenario,
    folder: Path,
    job: Callable[[Path], None] | None = None,
    *,
    every: int = 1,
    uncertain: Collection[int] = (),
) -> Recording:
    """Run a job, by default that of the scenario, in a prepared folder, and record it.

    Only one in `every` crash points is kept, besides those around commits and the end. Until its first commit, readers
    may also see the `uncertain` states, which an earlier, interrupted job may have left.
    """
    points: list[CrashPoint] = []
    numbers = itertools.count()
    interned: dict[bytes | None, bytes | None] = {}  # equal files share memory, because a tree is kept for each point

    def keep(operation: Operation | None) -> None:
        if operation is not None and operation.kind not in MUTATIONS:
            return
        number = next(numbers)
        if number % every == every // 2 or operation is None or operation.commits:
            tree = {name: interned.setdefault(data, data) for name, data in read_tree(folder).items()}
            allowed, logged = {states[-1], *(() if states[1:] else uncertain)}, len(interceptor.log)
            points.append(CrashPoint(number=number, operation=operation, logged=logged, tree=tree, allowed=allowed))

    before = read_tree(folder)
    interceptor = Interceptor(folder, keep)
    with states_seen(lambda: scenario.visible_state(folder), interceptor) as states, interceptor.installed():
        (job or scenario.run)(folder)
    states.append(scenario.visible_state(folder))  # because not every job ends with a commit
    keep(None)
    following = {old: new for old, new in itertools.pairwise(states) if old != new}
    for point in points:
        point.allowed |= {following[state] for state in point.allowed if state in following}
    return Recording(scenario=scenario, before=before, points=points, log=interceptor.log)


@contextmanager
def states_seen(look: Callable[[], T], interceptor: Interceptor) -> Iterator[list[T]]:
    """Yield a list of what readers see: now, and whenever a commit has returned."""
    commit, states = Ledger.commit, [look()]

    def observed_commit(ledger: Ledger) -> int:
        count = commit(ledger)
        with interceptor.paused():
            states.append(look())
        return count

    with mock.patch.object(Ledger, "commit", observed_commit):
        yield states


class Checker:
    """Checks the files after an interruption. Each distinct tree is checked once."""

    def __init__(self, scenario: Scenario, place: Path) -> None:
        self.scenario = scenario
        self.expected = scenario.run_undisturbed(place / "undisturbed")
        self._folder = place / "checked"
        self.states: dict[Any, int | str] = {}  # by tree: the state that readers see, or a violation
        self.resumed: dict[Any, str] = {}  # by tree: the violation of the resumed job, or ""

    def state(self, tree: Tree) -> int | str:
        """Return the number of the state that readers see, or a message if it is none of the scenario's states."""
        key = normalize(tree)
        if key not in self.states:
            self.states[key] = self._attempt(tree, self.scenario.visible_state)
        return self.states[key]

    def check(self, tree: Tree, allowed: Collection[int], *, resume: bool = True) -> str:
        """Return a message if readers see a state that is not allowed, or if the job cannot be resumed; else ""."""
        key, state = normalize(tree), self.state(tree)
        if isinstance(state, str):
            return state
        if state not in allowed:
            return f"readers see state {state}, not one of {sorted(allowed)}"
        if resume and key not in self.resumed:
            self.resumed[key] = self._attempt(tree, lambda folder: self.scenario.resume(folder, self.expected))
        return self.resumed[key] if resume else ""

    def _attempt(self, tree: Tree, action: Callable[[Path], T]) -> T | str:
        write_tree(tree, self._folder)
        try:
            return action(self._folder)
        except Exception as error:  # noqa: BLE001
            return describe(error)


def record_scenario(scenario: Scenario, place: Path, *, every: int = 1) -> tuple[Recording, Checker]:
    """Record the job of a scenario, in `place / "live"`."""
    checker, live = Checker(scenario, place), place / "live"
    live.mkdir()
    scenario.prepare(live)
    return record(scenario, live, every=every), checker
