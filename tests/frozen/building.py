"""Build the stores of a case in each way, and compute digests of their files and of what the reader returns.

SAMPLES has the stores below `tests/data`, which every release has to read or to refuse.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import store_spec
from store_spec import StoreError
from tests.document_section import bash, environment_in
from tests.frozen.cases import Case
from tests.frozen.command import KILLED, WAY, Way
from tests.frozen.reading import digest_or_error, readings
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FAULTS
from tests.store.oracle import files

Stores = dict[str, dict[str, dict[str, str]]]  # by name: "files" and "batches", each with digests by name


class Made(NamedTuple):
    """Stores, and the number of processes that were killed while they were built."""

    stores: Stores
    killed: int = 0


def ways(case: Case) -> dict[tuple[str, str], Way]:
    """Return the ways in which a case is made, by variant and name. All ways of a variant give the same stores."""
    if not case.small:
        return {("as written", "workers by default"): Way(workers=None)}
    return {
        ("as written", "workers 0"): Way(),
        ("small shards", "workers 0"): Way(shard=case.small),
        ("small shards", "workers 2"): Way(shard=case.small, workers=2),
        ("small shards", "killed"): Way(shard=case.small, killed=True),
    }


def make(case: Case, way: Way, data: Path) -> Made:
    """Run the commands of a case in an empty folder.

    Raises:
        DocumentError: A command failed.
    """
    with tempfile.TemporaryDirectory(prefix="frozen-") as temporary:
        folder = Path(temporary)
        case.lay_out(folder, data)
        environment = environment_in(folder / ".programs", "tests.frozen.command") | {
            WAY: json.dumps(asdict(way)),
            "LC_ALL": "C",  # the order in which the shell lists files
        }
        for text in case.commands:
            bash(text, f"{case.name}, {way}", folder, environment)
        killed = folder / KILLED
        stores = {path.name: digests(path, read=way.first) for path in sorted(folder.glob("*.zarr"))}
        return Made(stores, killed.stat().st_size if killed.exists() else 0)


def digests(path: Path, *, read: bool) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each file of a store, and of what the reader returns if that is wanted."""
    found = {"files": {name: hashlib.sha256(data).hexdigest() for name, data in files(path).items()}}
    return found | ({"batches": readings(path)} if read else {})


def golden() -> Made:
    """Return the readings of each golden store; `tests/store` compares their files with those of the writer."""
    return Made({f"{each.name}.zarr": {"batches": readings(GOLDEN / f"{each.name}.zarr")} for each in STORES})


def malformed() -> Made:
    """Return the number of problems of each malformed store, and the error of reading all of its rows."""
    found: Stores = {}
    with tempfile.TemporaryDirectory(prefix="frozen-") as folder:
        for fault in (fault for fault in FAULTS if fault.committed):
            path = Path(folder, fault.name)
            fault.assemble(path)
            try:
                problems = f"{len(store_spec.verify(path))} found"
            except StoreError as error:
                problems = type(error).__name__
            found[fault.name] = {
                "batches": {"problems": problems, "rows": digest_or_error(store_spec.open_store, path)}
            }
    return Made(found)


SAMPLES = {"golden stores": golden, "malformed stores": malformed}
