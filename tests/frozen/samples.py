"""The stores below `tests/data`: those that every release has to read, and those that it has to refuse."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import store_spec
from store_spec import StoreError
from tests.frozen.building import Made, Stores
from tests.frozen.reading import digest_or_error, readings
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FAULTS


def golden() -> Made:
    """Return the readings of each golden store; `tests/store` compares their files with those of the writer."""
    return Made(stores={f"{each.name}.zarr": {"batches": readings(GOLDEN / f"{each.name}.zarr")} for each in STORES})


def malformed() -> Made:
    """Return the number of problems of each malformed store, and the error of reading it."""
    found: Stores = {}
    with tempfile.TemporaryDirectory(prefix="frozen-") as folder:
        for fault in FAULTS:
            if fault.committed:
                path = Path(folder, fault.name)
                fault.assemble(path)
                found[fault.name] = {"batches": refusals(path)}
    return Made(stores=found)


def refusals(path: Path) -> dict[str, str]:
    """Return the error of reading all of a store, and the number of its problems."""
    try:
        problems = f"{len(store_spec.verify(path))} found"
    except StoreError as error:
        problems = type(error).__name__
    return {"problems": problems, "rows": digest_or_error(sequences_of, path)}


def sequences_of(path: Path) -> Iterator[Any]:
    """Yield the rows of each sequence of a store."""
    yield from store_spec.open_store(path)


SAMPLES = {"golden stores": golden, "malformed stores": malformed}
