"""Stores with one fault are refused, each with its own error: never a crash, never wrong rows."""

from __future__ import annotations

import tracemalloc

import pytest

import store_spec
from store_spec import errors
from tests.store.make_golden import STORES
from tests.store.make_malformed import FAULTS, MALFORMED, read_and_compare
from tests.store.oracle import files

GOLDEN = {golden.name: golden for golden in STORES}
LARGEST_MEMORY = 100 * 2**20  # a root document of 64 MiB is read before it is refused


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_malformed_store_is_refused_with_its_own_error_and_verify_finds_it(fault, tmp_path):
    path = tmp_path / "store.zarr"
    (fault.assemble if fault.committed else fault.make)(path)
    tracemalloc.start()
    try:
        with pytest.raises(errors.StoreError) as caught:
            read_and_compare(path, GOLDEN[fault.base])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert type(caught.value).__name__ == fault.error
    assert fault.text in message
    assert str(path) in message
    assert len(message) < 1500
    assert peak < LARGEST_MEMORY
    if fault.error == "MissingStoreError":  # nothing there could have a problem
        with pytest.raises(errors.MissingStoreError):
            store_spec.verify(path)
    else:
        problems = store_spec.verify(path)
        assert problems
        assert all(len(str(problem)) < 1500 for problem in problems)
    if fault.committed:  # the file is what its script makes
        fault.make(tmp_path / "made.zarr")
        assert files(tmp_path / "made.zarr") == files(path)


def test_every_fault_has_a_unique_name_and_text():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert {path.name for path in MALFORMED.iterdir()} - {"faults.json"} <= {fault.name for fault in FAULTS}
