"""Build the stores of a case in each way, and compute digests of their files and of what the reader returns."""

import hashlib
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.document_section import environment_in
from tests.frozen.cases import Case
from tests.frozen.command import KILLED, Way
from tests.frozen.reading import readings
from tests.store.oracle import files

Stores = dict[str, dict[str, dict[str, str]]]  # by name: "files" and "batches", each with digests by name


class BuildingError(Exception):
    """A command of a case had an unexpected result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A case, made in one way."""

    case: Case
    variant: str
    name: str  # of the way
    way: Way
    read: bool  # whether readings are wanted: for one way only, since the files are the same

    def __str__(self) -> str:
        return f"{self.case.name}, {self.variant}, {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The outcome of a job."""

    stores: Stores = field(default_factory=dict)
    killed: int = 0  # processes
    error: str = ""


def jobs(case: Case) -> list[Job]:
    """Return the ways in which a case is made: as its commands are written, and with small shards."""
    if not case.small:
        return [Job(case=case, variant="as written", name="workers by default", way=Way(workers=None), read=True)]
    ways = [
        ("as written", "workers 0", Way(), True),
        ("small shards", "workers 0", Way(shard=case.small), True),
        ("small shards", "workers 2", Way(shard=case.small, workers=2), False),
        ("small shards", "killed", Way(shard=case.small, killed=True), False),
    ]
    return [Job(case=case, variant=variant, name=name, way=way, read=read) for variant, name, way, read in ways]


def make(job: Job, data: Path) -> Made:
    """Run the commands of a case in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="frozen-") as temporary:
        folder = Path(temporary)
        job.case.lay_out(folder, data)
        environment = environment_in(folder / ".programs", "tests.frozen.command") | job.way.environment()
        environment["LC_ALL"] = "C"  # the order in which the shell lists files
        for text in job.case.commands:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=folder,
                env=environment,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode:
                return Made(error=f"{job}: exit status {done.returncode} from {text}\n{done.stdout}")
        killed = folder / KILLED
        return Made(
            stores={path.name: digests(path, read=job.read) for path in sorted(folder.glob("*.zarr"))},
            killed=killed.stat().st_size if killed.exists() else 0,
        )


def digests(path: Path, *, read: bool) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file of a store, and of what the reader returns if that is wanted."""
    found = {"files": {name: hashlib.sha256(data).hexdigest() for name, data in files(path).items()}}
    return found | ({"batches": readings(path)} if read else {})
