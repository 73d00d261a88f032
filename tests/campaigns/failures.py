"""Failures: the system refuses one operation of a job, or all from one on; and a disk that is really full."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from builder.build_errors import BuildError
from store_spec.errors import StoreError
from tests.campaigns.full_disk import full_disk
from tests.campaigns.operations import CHANGES, Operation, Watch
from tests.campaigns.outcome import Outcome
from tests.campaigns.recording import Checker, acknowledged
from tests.campaigns.safeguards import Without, taken_out, without_errors, without_rename, without_syncing
from tests.campaigns.scenario import Scenario
from tests.campaigns.scenarios import scenarios
from tests.campaigns.trees import Tree, read_tree, write_tree

CONTROLS: dict[str, Without] = {"renaming into place": without_rename, "errors": without_errors}
SPACE = frozenset({"create", "write", "sync", "rename", "mkdir", "link", "truncate", "close"})
REFUSED: dict[int, frozenset[str]] = {  # the operations that the system may refuse for a reason
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EIO: CHANGES | {"open", "read", "list", "close"},
    errno.EMFILE: frozenset({"create", "truncate", "open", "list"}),
}


@dataclass(slots=True, kw_only=True)
class Refusal:
    """Refuses the operation of one number, or all from it on, of those that can fail for a reason."""

    number: int
    reason: int
    lasting: bool
    kinds: frozenset[str]
    count: int = 0
    refused: list[Operation] = field(default_factory=list)

    def __call__(self, operation: Operation) -> None:
        if operation.kind not in self.kinds:
            return
        if self.count == self.number or (self.lasting and self.count > self.number):
            self.refused.append(operation)
        self.count += 1
        if self.refused and self.refused[-1] is operation:
            raise OSError(self.reason, os.strerror(self.reason))

    def __str__(self) -> str:
        return f"{errno.errorcode[self.reason]} {'from' if self.lasting else 'at'} {self.refused[0]}"


def campaign(*, quick: bool) -> Outcome:
    """Let every operation fail for every reason; in the quick form, a sample of them."""
    broken: list[str] = []
    refused = dict.fromkeys(REFUSED, 0)
    distinct = 0
    with tempfile.TemporaryDirectory() as temporary, taken_out(without_syncing):
        place = Path(temporary).resolve()
        for scenario in scenarios(place, small=True, third=2 if quick else None):
            checker = Checker(scenario, place / scenario.name)
            for refusal, problem in failures(scenario, checker, place / scenario.name, every=199 if quick else 1):
                refused[refusal.reason] += 1
                if problem:
                    broken.append(f"{scenario.name}, {refusal}: {problem}")
            distinct += checker.distinct
        full = full_disk(place / "full", quick=quick)
        controls = {
            name: control(without, place / f"without {name}", quick=quick) for name, without in CONTROLS.items()
        }
    return Outcome(
        figures={
            **{f"jobs that {errno.errorcode[reason]} stopped": count for reason, count in refused.items()},
            "different states of the disk": distinct,
            f"jobs on a full disk ({full.made_by})": full.jobs,
        },
        violations=(*broken, *full.broken),
        controls=controls,
    )


def failures(scenario: Scenario, checker: Checker, place: Path, *, every: int) -> Iterator[tuple[Refusal, str]]:
    """Yield failures of the job, a fifth as many that last, and which promise each breaks; nothing if none."""
    live = place / "live"
    live.mkdir()
    scenario.prepare(live)
    before = read_tree(live)
    for reason, every_kind in REFUSED.items():
        kinds = every_kind - scenario.looks_for if reason == errno.EIO else every_kind
        for lasting, step in ((False, every), (True, every * 5)):
            number = step // 2
            while True:
                refusal = Refusal(number=number, reason=reason, lasting=lasting, kinds=kinds)
                write_tree(before, live)
                problem = failed(scenario, checker, live, refusal)
                if not refusal.refused:
                    break
                yield refusal, problem
                number += step


def failed(scenario: Scenario, checker: Checker, live: Path, refusal: Refusal) -> str:
    """Do a job that is refused something, and say which promise that breaks; nothing if none."""
    ended = ""
    watch = Watch(live, refusal)
    commits: list[Tree] = []  # what lay there when a commit had returned

    def keep() -> None:
        with watch.paused():
            commits.append(read_tree(live))

    try:
        with watch.watching(), acknowledged(keep):
            scenario.act(live)
    except (StoreError, BuildError) as error:
        ended = str(error)
    except Exception as error:  # noqa: BLE001  # that is what must not happen
        return f"{type(error).__name__} instead of an error of ours: {error}"
    allowed = range(len(scenario.states))
    if not ended:  # what was refused was none of the job's business, such as the removal of the lock's file
        allowed = allowed[-1:]
    elif commits:
        last = checker.seen(commits[-1])
        if isinstance(last, str):
            return f"after its last commit: {last}"
        allowed = allowed[last:]
    problem = checker.check(read_tree(live), allowed)
    if not problem and ended:
        problem = unclear(ended, live, refusal)
    return problem


def unclear(message: str, live: Path, refusal: Refusal) -> str:
    """Say what a message lacks: a file that was refused something, the step, the reason."""
    for what, said in {
        "the file": any(name in message for refused in refusal.refused for name in names(live, refused)),
        "the step": " failed: " in message,
        "the reason": os.strerror(refusal.reason) in message,
    }.items():
        if not said:
            return f"the message does not name {what}: {message}"
    return ""


def names(live: Path, refused: Operation) -> list[str]:
    """Return what a message may call the file of an operation."""
    path = PurePosixPath(refused.path)
    while path.name.endswith(".partial"):
        path = path.with_name(path.name.rsplit(".", 2)[0])
    # What is removed with all that lies in it goes by one name.
    removed = [above for above in path.parents if above.match("*.build/*")]
    targets = [PurePosixPath(refused.target)] if refused.target else []
    return [str(live / one) for one in (path, *removed, *targets)]


def control(without: Without, place: Path, *, quick: bool) -> int:
    """Return how many failures break a promise without one safeguard."""
    with taken_out(without):
        scenario = scenarios(place, small=True)[1]
        checker = Checker(scenario, place / scenario.name)
        found = failures(scenario, checker, place / scenario.name, every=97 if quick else 5)
        return sum(bool(problem) for _, problem in found)
