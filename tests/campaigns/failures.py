"""Fail file operations with every possible error, and run out of disk space."""

import errno
import itertools
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from builder.build_errors import BuildError
from store_spec.errors import StoreError
from tests.campaigns.operations import MUTATIONS, Interceptor, Operation
from tests.campaigns.outcome import Outcome
from tests.campaigns.recording import Checker, states_seen
from tests.campaigns.safeguards import without
from tests.campaigns.scenarios import STORE, Scenario, describe, scenarios
from tests.campaigns.trees import read_tree, write_tree

SPACE = frozenset({"create", "write", "sync", "rename", "mkdir", "truncate", "close"})
ERRORS: dict[int, frozenset[str]] = {  # the kinds of operations that can fail with each error
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EIO: MUTATIONS | {"open", "read", "list", "close"},
    errno.EMFILE: frozenset({"create", "truncate", "open", "list"}),
}
PAGE = 4096  # bytes; the unit of a tmpfs
UNLIMITED = 2**16  # pages, or files and folders

Limit = Callable[[int | None], None]  # limits the further space in a folder; None: no limit


@dataclass(slots=True, kw_only=True)
class Fault:
    """Fails one operation, or all operations from it on, with an error."""

    number: int  # of the operation, among those of these kinds
    error: int
    is_permanent: bool  # also fail all later operations of these kinds
    kinds: frozenset[str]
    count: int = 0
    failed: list[Operation] = field(default_factory=list)

    def __call__(self, operation: Operation) -> None:
        if operation.kind not in self.kinds:
            return
        self.count += 1
        if self.count == self.number + 1 or (self.is_permanent and self.count > self.number):
            self.failed.append(operation)
            raise OSError(self.error, os.strerror(self.error))

    def __str__(self) -> str:
        return f"{errno.errorcode[self.error]} {'from' if self.is_permanent else 'at'} {self.failed[0]}"


def campaign(*, quick: bool) -> Outcome:
    """Fail every operation with every error; in the quick form, a sample of them."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as temporary, without("fsync"):
        place = Path(temporary).resolve()
        for scenario in scenarios(place, small=True, third=2 if quick else None):
            checker = Checker(scenario, place / scenario.name)
            for fault, problem in failures(checker, place / scenario.name, every=199 if quick else 1):
                outcome.count(f"jobs stopped by {errno.errorcode[fault.error]}", f"{scenario.name}, {fault}", problem)
            outcome.figures["distinct trees"] += len(checker.states)
        fill_disks(place / "full", outcome, quick=quick)
        for safeguard in ("atomic rename", "reporting write errors"):
            with without(safeguard):
                appending = scenarios(place / safeguard, small=True)[1]
                checker = Checker(appending, place / safeguard)
                found = failures(checker, place / safeguard, every=97 if quick else 5)
                outcome.control(safeguard, (problem for _, problem in found))
    return outcome


def failures(checker: Checker, place: Path, *, every: int) -> Iterator[tuple[Fault, str]]:
    """Yield faults, a fifth of them permanent, each with the violation that it causes, or ""."""
    live, scenario = place / "live", checker.scenario
    live.mkdir()
    scenario.prepare(live)
    before = read_tree(live)
    for error, all_kinds in ERRORS.items():
        kinds = all_kinds - scenario.handled if error == errno.EIO else all_kinds
        for is_permanent, step in ((False, every), (True, every * 5)):
            for number in itertools.count(step // 2, step):
                fault = Fault(number=number, error=error, is_permanent=is_permanent, kinds=kinds)
                write_tree(before, live)
                problem = run_with_fault(checker, live, fault)
                if not fault.failed:
                    break
                yield fault, problem


def run_with_fault(checker: Checker, live: Path, fault: Fault) -> str:
    """Run a job with a fault; return a message if a promise is violated, or else ""."""
    interceptor, last = Interceptor(live, fault), len(checker.scenario.states) - 1
    try:
        with states_seen(lambda: checker.state(read_tree(live)), interceptor) as states, interceptor.installed():
            message = error_of(checker.scenario, live)
    except Exception as error:  # noqa: BLE001
        return describe(error)
    if isinstance(seen := states[-1], str):
        return f"after its last commit: {seen}"
    # Without a message, the fault hit something of no consequence, such as the removal of the lock file.
    problem = checker.check(read_tree(live), range(seen if message else last, last + 1))
    if problem or not message:
        return problem
    names = [name for operation in fault.failed for name in names_of(live, operation)]
    return check_message(message, names) or ("" if os.strerror(fault.error) in message else f"no reason: {message}")


def error_of(scenario: Scenario, live: Path) -> str:
    """Run a job, and return the message of its StoreError or BuildError, or "" if it succeeded."""
    try:
        scenario.run(live)
    except (StoreError, BuildError) as error:
        return str(error)
    return ""


def check_message(message: str, names: list[str]) -> str:
    """Return a complaint if the message names none of these files, or no step that failed."""
    if not any(name in message for name in names):
        return f"the message names no file: {message}"
    return "" if " failed: " in message else f"the message names no step: {message}"


def names_of(live: Path, operation: Operation) -> list[str]:
    """Return the paths by which a message may name the file of an operation."""
    path = PurePosixPath(operation.path)
    while path.name.endswith(".partial"):
        path = path.with_name(path.name.rsplit(".", 2)[0])
    # A folder that is removed with its content is named itself.
    removed = [parent for parent in path.parents if parent.match("*.build/*")]
    targets = [PurePosixPath(operation.target)] if operation.target else []
    return [str(live / name) for name in (path, *removed, *targets)]


def fill_disks(place: Path, outcome: Outcome, *, quick: bool) -> None:
    """Run each job with every amount of free space, then with enough."""
    figures = set()
    for scenario in scenarios(place, small=True, third=1 if quick else None):
        checker = Checker(scenario, place / scenario.name)
        folder = place / scenario.name / "mounted"
        folder.mkdir()
        with small_disk(folder) as limits:
            for what, (limit, rooms) in limits.items():
                for room in rooms[::49] if quick else rooms:
                    problem = run_on_full_disk(checker, folder / "live", limit, room)
                    if problem is not None:
                        figures.add(figure := f"jobs on a disk limited in {what}")
                        outcome.count(figure, f"{scenario.name}, with room for {room} {what}", problem)
    if not figures:
        outcome.violations.append("no disk was ever full")


def run_on_full_disk(checker: Checker, live: Path, limit: Limit, room: int) -> str | None:
    """Return the violation that a full disk causes, "" if there is none, or None if the disk was not full."""
    scenario = checker.scenario
    limit(None)
    write_tree({}, live)
    scenario.prepare(live)
    limit(room)
    try:
        message = error_of(scenario, live)
        left = read_tree(live)
        limit(None)
        if not message:
            return None
        problem = checker.check(left, range(len(scenario.states))) or check_message(message, [str(live / STORE)])
        return problem or scenario.resume(live, checker.expected)
    except Exception as error:  # noqa: BLE001
        return describe(error)
    finally:
        limit(None)


@contextmanager
def small_disk(folder: Path) -> Iterator[dict[str, tuple[Limit, range]]]:
    """Mount a tmpfs if possible, or else limit the size of files; yield each limit with the values to try."""
    mount = ["mount", "-t", "tmpfs", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield {"bytes per file (RLIMIT_FSIZE)": (limit_files, range(0, 6000, 60))}
        return
    rooms = range(1, 100)  # a limit of 0 means no limit
    try:
        yield {
            "pages (tmpfs)": (partial(limit_mount, folder, "size", PAGE), rooms),
            "files and folders (tmpfs)": (partial(limit_mount, folder, "nr_inodes", 1), rooms),
        }
    finally:
        subprocess.run(["umount", folder], check=True)


def limit_mount(folder: Path, option: str, unit: int, room: int | None) -> None:
    now = os.statvfs(folder)
    used = now.f_blocks - now.f_bfree if option == "size" else now.f_files - now.f_ffree
    value = UNLIMITED if room is None else used + room
    subprocess.run(["mount", "-o", f"remount,{option}={value * unit}", folder], check=True, capture_output=True)


def limit_files(room: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if room is None else room, hard))
