"""The stores below `tests/data`: those that every release has to read, and those that it has to refuse."""

import tempfile
from pathlib import Path

import store_spec
from store_spec import StoreError
from tests.frozen.building import Made, Stores
from tests.frozen.reading import digest_or_error, readings
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FAULTS


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
