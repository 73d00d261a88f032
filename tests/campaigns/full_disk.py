"""A disk that is really full: a small tmpfs where one may be mounted, otherwise a limit on the size of files."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from builder.build_errors import BuildError
from store_spec.errors import StoreError
from tests.campaigns.recording import Checker
from tests.campaigns.scenario import STORE, Scenario, broken
from tests.campaigns.scenarios import scenarios
from tests.campaigns.trees import read_tree

PAGE = 4096  # a tmpfs counts in these
ENOUGH = 2**16
ROOMS = range(1, 100)  # for a tmpfs, 0 is no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class FullDisk:
    """How often the disk was full, what made it so, and which promises that broke."""

    made_by: str
    jobs: int
    broken: tuple[str, ...]


class Limit(Protocol):
    """Leaves room in a folder for so much more, in units of its own; None: for as much as it takes."""

    def __call__(self, room: int | None) -> None:
        """Set the limit."""


def full_disk(place: Path, *, quick: bool) -> FullDisk:
    """Do each job with too little room, with every amount of it, and then with enough."""
    problems: list[str] = []
    jobs = 0
    for scenario in scenarios(place, small=True, third=1 if quick else None):
        checker = Checker(scenario, place / scenario.name)
        folder = place / scenario.name / "mounted"
        folder.mkdir()
        with _small_disks(folder) as (made_by, limits):
            for what, (limit, sizes) in limits.items():
                for size in sizes[::49] if quick else sizes:
                    problem = _filled(scenario, checker, folder, limit, size)
                    jobs += problem is not None
                    if problem:
                        problems.append(f"{scenario.name}, with room for {size} {what}: {problem}")
    if not jobs:
        problems.append("no disk was ever full")
    return FullDisk(made_by=made_by, jobs=jobs, broken=tuple(problems))


def _filled(scenario: Scenario, checker: Checker, folder: Path, limit: Limit, room: int) -> str | None:
    """Say which promise a full disk breaks; None where there was room enough."""
    limit(None)
    shutil.rmtree(folder / "live", ignore_errors=True)
    (folder / "live").mkdir()
    scenario.prepare(folder / "live")
    limit(room)
    try:
        scenario.act(folder / "live")
    except (StoreError, BuildError) as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001  # that is what must not happen
        return f"{type(error).__name__} instead of an error of ours: {error}"
    else:
        return None
    finally:
        left = read_tree(folder / "live")
        limit(None)
    if problem := checker.check(left, range(len(scenario.states))):
        return problem
    if str(folder / "live" / STORE) not in message or " failed: " not in message:
        return f"the message does not name file and step: {message}"
    try:
        scenario.finish(folder / "live", checker.expected)
    except Exception as error:  # noqa: BLE001  # whatever it is, the job did not end where it was cut off
        return broken(error)
    return ""


@contextmanager
def _small_disks(folder: Path) -> Iterator[tuple[str, dict[str, tuple[Limit, range]]]]:
    """Give what makes the disk small, and the limits to set, with the sizes to try, by what they count."""
    mount = ["mount", "-t", "tmpfs", "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield "RLIMIT_FSIZE", {"bytes in a file": (_limit_files, range(0, 6000, 60))}
        return
    try:
        yield (
            "tmpfs",
            {
                "pages": (_remounted(folder, "size", PAGE), ROOMS),
                "files and folders": (_remounted(folder, "nr_inodes", 1), ROOMS),
            },
        )
    finally:
        subprocess.run(["umount", folder], check=True)


def _remounted(folder: Path, option: str, unit: int) -> Limit:
    def limit(room: int | None) -> None:
        now = os.statvfs(folder)
        used = now.f_blocks - now.f_bfree if option == "size" else now.f_files - now.f_ffree
        value = ENOUGH if room is None else used + room
        subprocess.run(["mount", "-o", f"remount,{option}={value * unit}", folder], check=True, capture_output=True)

    return limit


def _limit_files(room: int | None) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if room is None else room, hard))
