"""One run of a job, watched: what was done, what lay on the disk before each operation, what was acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from store_spec.disk.ledger import Ledger
from tests.campaigns.operations import CHANGES, Operation, Watch
from tests.campaigns.scenario import Scenario, broken
from tests.campaigns.trees import Tree, normal, read_tree, write_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Just before an operation that changes the disk, or after the last one."""

    number: int
    operation: Operation | None  # that comes next; None: the job is done
    done: int  # operations in the log of the recording
    tree: Tree  # what is there
    allowed: frozenset[int]  # states that readers may see: that of the last commit, and of the one under way

    def __str__(self) -> str:
        return f"operation {self.number:,}, {self.operation or 'the end'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A job from its first operation to its last, and what it leaves."""

    scenario: Scenario
    before: Tree
    moments: tuple[Moment, ...]
    log: tuple[Operation, ...]

    def some(self, every: int) -> Iterator[Moment]:
        """Yield the moments around commits, and every so many of the others."""
        for number, moment in enumerate(self.moments):
            if number % every == every // 2 or (moment.operation is not None and moment.operation.commits):
                yield moment


def record(
    scenario: Scenario,
    folder: Path,
    job: Callable[[Path], None] | None = None,
    *,
    every: int = 1,
    unsure: frozenset[int] = frozenset(),
) -> Recording:
    """Do a scenario's job, or another one, in a folder that is prepared for it; keep every so many moments.

    Those around a commit, and the end, are always kept. Up to its first commit, readers may also see the states in
    `unsure`: those that a job before, which was killed, may have left.
    """
    seen: list[tuple[int, Operation | None, int, Tree, frozenset[int]]] = []
    count = 0
    state = [scenario.seen(folder)]
    same: dict[bytes | None, bytes | None] = {}  # one object for equal files: a tree is kept for each operation

    def look(operation: Operation | None) -> None:
        nonlocal count
        if operation is None or operation.kind in CHANGES:
            if count % every == every // 2 or operation is None or operation.commits:
                tree = {name: same.setdefault(data, data) for name, data in read_tree(folder).items()}
                now = frozenset({state[-1]})
                seen.append((count, operation, len(watch.log), tree, now if state[1:] else now | unsure))
            count += 1

    before = read_tree(folder)
    watch = Watch(folder, look)
    with watch.watching(), acknowledged(lambda: state.append(_paused(watch, scenario, folder))):
        (job or scenario.act)(folder)
    state.append(scenario.seen(folder))  # not every job ends with a commit
    look(None)
    following = {old: new for old, new in pairwise(state) if old != new}
    moments = tuple(
        Moment(
            number=number,
            operation=operation,
            done=done,
            tree=tree,
            allowed=now | {following[old] for old in now if old in following},
        )
        for number, operation, done, tree, now in seen
    )
    return Recording(scenario=scenario, before=before, moments=moments, log=tuple(watch.log))


def _paused(watch: Watch, scenario: Scenario, folder: Path) -> int:
    with watch.paused():
        return scenario.seen(folder)


@contextmanager
def acknowledged(then: Callable[[], None]) -> Iterator[None]:
    """Do something whenever a commit has returned."""
    commit = Ledger.commit

    def watched(ledger: Ledger) -> int:
        count = commit(ledger)
        then()
        return count

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "commit", watched)
        yield


class Checker:
    """Holds what a disaster leaves against the promises. What was checked once is not checked again."""

    def __init__(self, scenario: Scenario, place: Path) -> None:
        self.scenario = scenario
        self.expected = scenario.finished(place / "undisturbed")
        self._folder = place / "checked"
        self._seen: dict[Any, int | str] = {}
        self._finished: dict[Any, str] = {}

    @property
    def distinct(self) -> int:
        """How many different states of the disk were looked at."""
        return len(self._seen)

    @property
    def finished(self) -> int:
        """From how many of them the job was done again."""
        return len(self._finished)

    def seen(self, tree: Tree) -> int | str:
        """Return which state of the scenario readers see, or what is wrong with it."""
        key = normal(tree)
        if key not in self._seen:
            write_tree(tree, self._folder)
            self._seen[key] = self._found()
        return self._seen[key]

    def check(self, tree: Tree, allowed: Collection[int], *, finish: bool = True) -> str:
        """Say which promise a state of the disk breaks; nothing if none."""
        found, key = self.seen(tree), normal(tree)
        if isinstance(found, str):
            return found
        if found not in allowed:
            return f"readers see commit {found}, not one of {sorted(allowed)}"
        if finish and key not in self._finished:
            write_tree(tree, self._folder)
            self._finished[key] = self._finish()
        return self._finished[key] if finish else ""

    def _found(self) -> int | str:
        try:
            return self.scenario.seen(self._folder)
        except Exception as error:  # noqa: BLE001  # whatever it is, readers see no commit
            return broken(error)

    def _finish(self) -> str:
        try:
            self.scenario.finish(self._folder, self.expected)
        except Exception as error:  # noqa: BLE001  # whatever it is, the job did not end
            return broken(error)
        return ""


def recorded(scenario: Scenario, folder: Path, *, every: int = 1) -> tuple[Recording, Checker]:
    """Do the job of a scenario once, and give what it takes to check moments of it."""
    checker = Checker(scenario, folder)
    (folder / "live").mkdir()
    scenario.prepare(folder / "live")
    return record(scenario, folder / "live", every=every), checker
