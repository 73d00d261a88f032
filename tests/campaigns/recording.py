"""Record a run of a job: its operations, and the files before each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from store_spec.disk.ledger import Ledger
from tests.campaigns.operations import MUTATIONS, Interceptor, Operation
from tests.campaigns.scenarios import Scenario, describe
from tests.campaigns.trees import Tree, normalize, read_tree, write_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPoint:
    """The moment before an operation that changes files, or the end of a job.

    Args:
        number: Its number in the job.
        operation: The next operation; None at the end.
        logged: How many operations of the recording's log come before it.
        tree: The files at that moment.
        allowed: The states that readers may see: that of the last commit, and that of the commit in progress.
    """

    number: int
    operation: Operation | None
    logged: int
    tree: Tree
    allowed: frozenset[int]

    def __str__(self) -> str:
        return f"operation {self.number:,}, {self.operation or 'the end'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A job from its first operation to its last."""

    scenario: Scenario
    before: Tree
    points: tuple[CrashPoint, ...]
    log: tuple[Operation, ...]

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
    uncertain: frozenset[int] = frozenset(),
) -> Recording:
    """Run a job in a prepared folder and record it.

    Args:
        scenario: The scenario to which the folder belongs.
        folder: The folder.
        job: The job, by default that of the scenario.
        every: Keep one in so many crash points. Those around commits and the end are always kept.
        uncertain: The states that an earlier, interrupted job may have left. They are allowed until the first commit.
    """
    kept: list[tuple[int, Operation | None, int, Tree, frozenset[int]]] = []
    count = 0
    states = [scenario.visible_state(folder)]
    interned: dict[bytes | None, bytes | None] = {}  # equal files share memory, because a tree is kept for each point

    def keep(operation: Operation | None) -> None:
        nonlocal count
        if operation is None or operation.kind in MUTATIONS:
            if count % every == every // 2 or operation is None or operation.commits:
                tree = {name: interned.setdefault(data, data) for name, data in read_tree(folder).items()}
                current = frozenset({states[-1]})
                allowed = current if states[1:] else current | uncertain
                kept.append((count, operation, len(interceptor.log), tree, allowed))
            count += 1

    def add_state() -> None:
        with interceptor.paused():
            states.append(scenario.visible_state(folder))

    before = read_tree(folder)
    interceptor = Interceptor(folder, keep)
    with interceptor.installed(), commits_reported(add_state):
        (job or scenario.run)(folder)
    states.append(scenario.visible_state(folder))  # because not every job ends with a commit
    keep(None)
    following = {old: new for old, new in pairwise(states) if old != new}
    points = tuple(
        CrashPoint(
            number=number,
            operation=operation,
            logged=logged,
            tree=tree,
            allowed=allowed | {following[state] for state in allowed if state in following},
        )
        for number, operation, logged, tree, allowed in kept
    )
    return Recording(scenario=scenario, before=before, points=points, log=tuple(interceptor.log))


@contextmanager
def commits_reported(callback: Callable[[], None]) -> Iterator[None]:
    """Call a function whenever a commit has returned."""
    commit = Ledger.commit

    def reporting_commit(ledger: Ledger) -> int:
        count = commit(ledger)
        callback()
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "commit", reporting_commit)
        yield


class Checker:
    """Checks the files after an interruption. Each distinct tree is checked once."""

    def __init__(self, scenario: Scenario, place: Path) -> None:
        self.scenario = scenario
        self.expected = scenario.run_undisturbed(place / "undisturbed")
        self._folder = place / "checked"
        self._states: dict[Any, int | str] = {}
        self._resumed: dict[Any, str] = {}

    @property
    def distinct(self) -> int:
        """How many distinct trees were checked."""
        return len(self._states)

    @property
    def resumed(self) -> int:
        """From how many of them the job was resumed."""
        return len(self._resumed)

    def state(self, tree: Tree) -> int | str:
        """Return the number of the state that readers see, or a message if it is none of the scenario's states."""
        key = normalize(tree)
        if key not in self._states:
            write_tree(tree, self._folder)
            try:
                self._states[key] = self.scenario.visible_state(self._folder)
            except Exception as error:  # noqa: BLE001
                self._states[key] = describe(error)
        return self._states[key]

    def check(self, tree: Tree, allowed: Collection[int], *, resume: bool = True) -> str:
        """Return a message if readers see a state that is not allowed, or if the job cannot be resumed; else ""."""
        state, key = self.state(tree), normalize(tree)
        if isinstance(state, str):
            return state
        if state not in allowed:
            return f"readers see state {state}, not one of {sorted(allowed)}"
        if resume and key not in self._resumed:
            write_tree(tree, self._folder)
            self._resumed[key] = ""
            try:
                self.scenario.resume(self._folder, self.expected)
            except Exception as error:  # noqa: BLE001
                self._resumed[key] = describe(error)
        return self._resumed[key] if resume else ""


def record_scenario(scenario: Scenario, folder: Path, *, every: int = 1) -> tuple[Recording, Checker]:
    """Record the job of a scenario, in `folder / "live"`."""
    checker = Checker(scenario, folder)
    (folder / "live").mkdir()
    scenario.prepare(folder / "live")
    return record(scenario, folder / "live", every=every), checker
