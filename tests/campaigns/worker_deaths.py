"""The command `seqzarr` with workers that kill themselves at chosen places.

Kills from outside would rarely hit these places. An environment variable says what to do.
"""

import importlib
import itertools
import json
import os
import pkgutil
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from builder.execution import run
from builder.workers import process_engine
from store_spec.disk.storage import LocalStorage
from tests.builder.made_sources import read_made
from tests.campaigns.safeguards import without

VARIABLE = "CAMPAIGN_WORKERS"
SECONDS = 0.03  # the minimum time to read a source, so that there is time for a kill

# By the place where a worker dies, the function at whose call it does; "after" it, once the call is done.
PLACES = {
    "reading": "builder.workers.batch.read_source",
    "compressing": "builder.workers.batch.compress_rows",
    "before a put": "store_spec.disk.storage.LocalStorage.put",
    "in a put": "store_spec.disk.storage.LocalStorage.put",
    "before the rename": "os.replace",
    "after the rename": "os.replace",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where workers die."""

    place: str  # one of PLACES
    call: int  # the number of the call, counted in each worker
    times: int  # how many workers die, one after another


def environment(folder: Path, death: Death | None, safeguard: str | None, *, gives_up: bool) -> dict[str, str]:
    """Return the environment variables for a build.

    Each worker that kills itself creates a file in `folder`. The `safeguard` is removed. If the build
    `gives_up`, the first death of a worker ends its task.
    """
    orders = {
        "folder": str(folder),
        "death": asdict(death) if death else None,
        "safeguard": safeguard,
        "gives up": gives_up,
    }
    return {VARIABLE: json.dumps(orders)}


def read(path: Path) -> Any:
    """Read a source, slowly in a campaign: the process function of the builds."""
    time.sleep(SECONDS if VARIABLE in os.environ else 0)
    return read_made(path)


FOR_EVER = ExitStack()
MODULE = "tests.campaigns.worker_deaths"  # which this is called in workers


def prepare(memory: int) -> None:
    """Prepare a worker."""
    process_engine.prepare_worker(memory)
    remove_safeguard()
    if (death := json.loads(os.environ[VARIABLE])["death"]) is not None:
        arrange(Death(**death))


def remove_safeguard() -> None:
    if (safeguard := json.loads(os.environ[VARIABLE])["safeguard"]) is not None:
        FOR_EVER.enter_context(without(safeguard))


def arrange(death: Death) -> None:
    """Make this worker count the calls of a function, and kill itself at one of them."""
    calls, function = itertools.count(), pkgutil.resolve_name(PLACES[death.place])

    def count() -> None:
        if next(calls) == death.call:
            die(death)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if not death.place.startswith("after"):
            count()
        result = function(*args, **kwargs)
        if death.place.startswith("after"):
            count()
        return result

    def put(storage: LocalStorage, key: str, parts: Iterable[bytes], check: Any = None, *, sync: bool = True) -> None:
        # Files that are not synced hold rows that wait for their shard.
        function(storage, key, halved(b"".join(parts)) if sync else parts, check, sync=sync)

    def halved(data: bytes) -> Iterator[bytes]:
        yield data[: len(data) // 2]
        count()
        yield data[len(data) // 2 :]

    counting = put if death.place == "in a put" else counted
    FOR_EVER.enter_context(mock.patch(PLACES[death.place], counting))


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
    process_engine.MOST_DEATHS = 0 if json.loads(os.environ[VARIABLE])["gives up"] else process_engine.MOST_DEATHS
    with mock.patch.object(process_engine, "prepare_worker", importlib.import_module(MODULE).prepare):
        seqzarr(prog_name="seqzarr")


if __name__ == "__main__":
    main()
