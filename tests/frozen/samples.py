"""The stores below `tests/data`: those that every release has to read, and those that it has to refuse."""

from __future__ import annotations

import tempfile
from pathlib import Path

import store_spec
from tests.frozen.building import Made, Stores, digests
from tests.frozen.reading import digest_or_error, readings
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FAULTS


def golden() -> Made:
    """Return the files that today's writer gives of each golden store, and what the reader gives of the one kept."""
    found: Stores = {}
    with tempfile.TemporaryDirectory(prefix="frozen-") as folder:
        for each in STORES:
            name = f"{each.name}.zarr"
            each.write(Path(folder, name))
            found[name] = {"files": digests(Path(folder, name)), "batches": readings(GOLDEN / name)}
    return Made(stores=found)


def malformed() -> Made:
    """Return which files of each malformed store are found wrong, and which error each of its first readings raises."""
    found: Stores = {}
    with tempfile.TemporaryDirectory(prefix="frozen-") as folder:
        for fault in FAULTS:
            if fault.committed:
                path = Path(folder, fault.name)
                fault.assemble(path)
                found[fault.name] = {"batches": refusals(path)}
    return Made(stores=found)


def refusals(path: Path) -> dict[str, str]:
    """Return the error of reading all of a store, and a digest of where its problems are."""
    return {
        "problems": digest_or_error(lambda: sorted(problem.where for problem in store_spec.verify(path))),
        "rows": digest_or_error(lambda: (pair for pair in store_spec.open_store(path))),
    }


SAMPLES = {"golden stores": golden, "malformed stores": malformed}
