"""Stores that are each wrong in one way are refused, each with its own error: never a crash, never wrong rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

import store_spec
from store_spec import errors
from store_spec.schema import ROW_ARRAYS
from tests.store.make_golden import STORES
from tests.store.make_malformed import FAULTS, MALFORMED, files_of

GOLDEN = {golden.name: golden for golden in STORES}
LARGEST_MEMORY = 100 * 2**20  # a root document of 64 MiB is read before it is refused


def read_everything(path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Open a store; read its offsets and tables, then give each sequence."""
    store = store_spec.open_store(path)
    label_lengths, lengths = store.label_lengths, store.lengths
    assert len(lengths) == len(label_lengths) == len(store.sources) == len(store.parts)
    for fact in store.schema.arrays():
        if fact.name not in ROW_ARRAYS:
            store.snapshot.table(fact.name)
    for name in ("inputs", "labels"):
        store.snapshot.missing(name)
    if store.schema.filled:
        store.snapshot.rows("filled", 0, store.counts.steps)
    if store.schema.time is not None:
        for number in range(len(store)):
            store.times(number)
    yield from store


def read_and_compare(path, golden) -> None:
    """Read all; whatever sequence is given, before an error comes, is that of the sound store."""
    for (_, inputs, labels), (found_inputs, found_labels) in zip(golden.live, read_everything(path), strict=True):
        assert found_inputs.tobytes() == inputs.tobytes()
        assert np.asarray(found_labels).tobytes() == labels.tobytes()


@pytest.mark.parametrize("golden", STORES, ids=lambda golden: golden.name)
def test_the_sound_store_is_read_whole(golden, tmp_path):
    golden.write(tmp_path / "sound.zarr")
    read_and_compare(tmp_path / "sound.zarr", golden)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_malformed_store_is_refused_with_its_own_error(fault, tmp_path):
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


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.committed], ids=lambda fault: fault.name)
def test_the_committed_malformed_store_is_the_one_that_its_script_makes(fault, tmp_path):
    made, kept = tmp_path / "made.zarr", tmp_path / "kept.zarr"
    fault.make(made)
    fault.assemble(kept)
    assert files_of(made) == files_of(kept)
    assert all((made / name).read_bytes() == (kept / name).read_bytes() for name in files_of(made))


def test_every_fault_has_a_name_and_a_text_of_its_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert {path.name for path in MALFORMED.iterdir()} - {"faults.json"} <= {fault.name for fault in FAULTS}
