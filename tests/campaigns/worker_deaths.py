"""What runs in the processes of a build whose workers die: `python -m tests.campaigns.worker_deaths` is the command
`seqzarr`, and dask loads this module in each worker, where a death may be told to come at a certain place.

A death of a worker's own choice comes at places that a kill from outside hits once in a thousand times.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest

from builder.execution import run
from builder.execution.run import Run
from builder.workers import batch
from builder.workers.process_source import read_source
from store_spec.disk.job import ShardJob
from store_spec.disk.ledger import Ledger
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.storage import PARTIAL, LocalStorage
from store_spec.format import shard
from tests.campaigns.safeguards import Patch, write_in_place

SLOW, DEATH, DEATHS, WITHOUT = (f"CAMPAIGN_{what}" for what in ("SLOW", "DEATH", "DEATHS", "WITHOUT"))
SECONDS = 0.03  # that the reading of a source takes at least, so that there is time to kill something

Place = Literal["reading", "compressing", "before a put", "in a put", "before the rename", "after the rename"]
Safeguard = Literal["tidying up", "waiting for shards", "renaming into place"]
PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where workers die."""

    place: Place
    call: int  # the number of the call, counted by each worker on its own
    times: int  # so many workers die, one after another

    def __post_init__(self) -> None:
        if self.place not in PLACES or self.call < 0 or self.times < 1:
            raise ValueError(f"{self}: place is one of {PLACES}, call 0 or more, times 1 or more")


def environment(deaths: Path, death: Death | None, without: Safeguard | None, *, gives_up: bool) -> dict[str, str]:
    """Return what tells the processes of a build what to do.

    Args:
        deaths: A folder in which each worker that dies of its own leaves a file.
        death: Where workers die.
        without: What the build does without.
        gives_up: A task is given up at the first death of a worker that has it.
    """
    told = {SLOW: str(SECONDS), "DASK_DISTRIBUTED__WORKER__PRELOAD": f"[{__name__!r}]"}
    if death is not None:
        told |= {DEATH: json.dumps(asdict(death)), DEATHS: str(deaths)}
    if without is not None:
        told[WITHOUT] = without
    if gives_up:
        told["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = "0"
    return told


def read(path: Path) -> Any:
    """Read a source, slowly enough to be killed meanwhile: the process function of these builds."""
    time.sleep(float(os.environ.get(SLOW, "0")))
    rows = np.load(path)
    return rows, rows[:, :1]


def without_tidying(patch: pytest.MonkeyPatch) -> None:
    """Leave what puts leave that were cut off."""
    patch.setattr(LocalLedger, "tidy", lambda _: None)


def without_waiting(patch: pytest.MonkeyPatch) -> None:
    """Count a shard as put, and commit it, when it is handed out."""
    jobs = Ledger.jobs

    def hasty(ledger: Ledger, *, final: bool = False) -> list[ShardJob]:
        handed = jobs(ledger, final=final)
        for job in handed:
            ledger.mark_done(job)
        return handed

    patch.setattr(Ledger, "jobs", hasty)
    patch.setattr(Run, "_is_due", lambda _: True)
    patch.setattr(Run, "_has_open_jobs", lambda _: False)


SAFEGUARDS: dict[str, Patch] = {
    "tidying up": without_tidying,
    "waiting for shards": without_waiting,
    "renaming into place": write_in_place,
}


def dask_setup(worker: object) -> None:
    """Have this worker die where the environment says; dask calls it as the worker starts."""
    del worker
    _do_without()
    if DEATH in os.environ:
        _watch(Death(**json.loads(os.environ[DEATH])))


def main() -> None:
    """Run the command, with a commit whenever one adds something."""
    from builder.cli import main as seqzarr

    run.COMMIT_SECONDS = -1.0
    _do_without()
    seqzarr(prog_name="seqzarr")


def _do_without() -> None:
    """Take out the safeguard that the environment names, for good: this process serves nothing else."""
    if WITHOUT in os.environ:
        SAFEGUARDS[os.environ[WITHOUT]](pytest.MonkeyPatch())


def _watch(death: Death) -> None:
    """Have the calls counted at the place of a death, and the worker die at one of them."""
    calls = 0

    def pass_by() -> None:
        nonlocal calls
        if calls == death.call:
            _die(death)
        calls += 1

    def halved(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        data = b"".join(parts)
        yield data[: len(data) // 2]
        pass_by()
        yield data[len(data) // 2 :]

    put, replace = LocalStorage.put, os.replace
    match death.place:
        case "reading":
            batch.read_source = partial(_before, pass_by, read_source)  # type: ignore[attr-defined]
        case "compressing":
            batch.compress_rows = partial(_before, pass_by, shard.compress)  # type: ignore[attr-defined]
        case "before a put":
            LocalStorage.put = lambda *args, **check: _before(pass_by, put, *args, **check)  # type: ignore[method-assign]
        case "in a put":
            LocalStorage.put = lambda self, key, parts, check=None: put(self, key, halved(parts), check)  # type: ignore[method-assign]
        case "before the rename" | "after the rename":

            def renamed(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
                ours = os.fspath(source).endswith(PARTIAL)
                if ours and death.place == "before the rename":
                    pass_by()
                replace(source, target)
                if ours and death.place == "after the rename":
                    pass_by()

            os.replace = renamed  # type: ignore[assignment]


def _before(pass_by: Callable[[], None], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    pass_by()
    return call(*args, **kwargs)


def _die(death: Death) -> None:
    """Die, unless enough have died."""
    for number in range(death.times):
        try:
            os.close(os.open(Path(os.environ[DEATHS]) / str(number), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
