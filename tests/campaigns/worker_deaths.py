"""The command `seqzarr` and a preload module of dask workers, with which workers kill themselves at chosen places.

Kills from outside would rarely hit these places. An environment variable says what to do.
"""

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from unittest import mock

from builder.execution import run
from builder.execution.run import Run
from builder.workers import batch
from builder.workers.process_source import read_source
from store_spec.building import compress_rows
from store_spec.disk.ledger import Ledger, ShardJob
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.storage import PARTIAL, LocalStorage
from tests.builder.made_sources import read_made
from tests.campaigns import safeguards

VARIABLE = "CAMPAIGN_WORKERS"
SECONDS = 0.03  # the minimum time to read a source, so that there is time for a kill

Place = Literal["reading", "compressing", "before a put", "in a put", "before the rename", "after the rename"]
PLACES: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where workers die."""

    place: Place
    call: int  # the number of the call, counted in each worker
    times: int  # how many workers die, one after another


def environment(folder: Path, death: Death | None, safeguard: str | None, *, gives_up: bool) -> dict[str, str]:
    """Return the environment variables for a build.

    Each worker that kills itself creates a file in `folder`. A safeguard of WITHOUT is removed. If the build
    `gives_up`, the first death of a worker ends its task.
    """
    orders = {"folder": str(folder), "death": asdict(death) if death else None, "safeguard": safeguard}
    variables = {VARIABLE: json.dumps(orders), "DASK_DISTRIBUTED__WORKER__PRELOAD": f"[{__name__!r}]"}
    return variables | ({"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"} if gives_up else {})


def read(path: Path) -> Any:
    """Read a source, slowly in a campaign: the process function of the builds."""
    time.sleep(SECONDS if VARIABLE in os.environ else 0)
    return read_made(path)


@contextmanager
def commits_before_shards() -> Iterator[None]:
    """Commit shards before they are written."""
    jobs = Ledger.jobs

    def finished_jobs(ledger: Ledger, *, final: bool = False) -> list[ShardJob]:
        pending = jobs(ledger, final=final)
        for job in pending:
            ledger.mark_done(job)
        return pending

    with (
        mock.patch.object(Ledger, "jobs", finished_jobs),
        mock.patch.multiple(Run, _is_due=lambda _: True, _has_open_jobs=lambda _: False),
    ):
        yield


WITHOUT: dict[str, AbstractContextManager[Any]] = {
    "removing temporary files": mock.patch.object(LocalLedger, "tidy"),
    "waiting for shards": commits_before_shards(),
    "atomic rename": safeguards.WITHOUT["atomic rename"],
}
FOR_EVER = ExitStack()


def dask_setup(worker: object) -> None:
    """Prepare a worker; dask calls this when the worker starts."""
    del worker
    remove_safeguard()
    if (death := json.loads(os.environ[VARIABLE])["death"]) is not None:
        arrange(Death(**death))


def remove_safeguard() -> None:
    if (safeguard := json.loads(os.environ[VARIABLE])["safeguard"]) is not None:
        FOR_EVER.enter_context(WITHOUT[safeguard])


def arrange(death: Death) -> None:
    """Make this worker count the calls of a place, and kill itself at one of them."""
    calls = itertools.count()
    put, replace = LocalStorage.put, os.replace

    def count() -> None:
        if next(calls) == death.call:
            die(death)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def count_and_call(*args: Any, **kwargs: Any) -> Any:
            count()
            return call(*args, **kwargs)

        return count_and_call

    def halved(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
        data = b"".join(parts)
        yield data[: len(data) // 2]
        count()
        yield data[len(data) // 2 :]

    def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        is_put = os.fspath(source).endswith(PARTIAL)
        if is_put and death.place == "before the rename":
            count()
        replace(source, target)
        if is_put and death.place == "after the rename":
            count()

    replacements: dict[Place, tuple[Any, str, Callable[..., Any]]] = {
        "reading": (batch, "read_source", counted(read_source)),
        "compressing": (batch, "compress_rows", counted(compress_rows)),
        "before a put": (LocalStorage, "put", counted(put)),
        "in a put": (LocalStorage, "put", lambda self, key, parts, check=None: put(self, key, halved(parts), check)),
        "before the rename": (os, "replace", rename),
        "after the rename": (os, "replace", rename),
    }
    setattr(*replacements[death.place])


def die(death: Death) -> None:
    """Kill this process, unless enough workers have died."""
    for number in range(death.times):
        try:
            (Path(json.loads(os.environ[VARIABLE])["folder"]) / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the command, with as many commits as possible."""
    from builder.cli import main as seqzarr

    run.COMMIT_SECONDS = -1.0
    remove_safeguard()
    seqzarr(prog_name="seqzarr")


if __name__ == "__main__":
    main()
