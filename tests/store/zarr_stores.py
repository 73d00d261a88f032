"""The stores of zarr, each with the files of a store in a folder."""

import itertools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import obstore.store
import pytest
from zarr.abc.buffer import Buffer
from zarr.abc.store import Store
from zarr.buffer.cpu import Buffer as CpuBuffer
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore, ZipStore

import store_spec
from tests.store.make_golden import STORES
from tests.store.oracle import files

_NUMBERS = itertools.count()


def in_memory(folder: Path) -> MemoryStore:
    """Return a store in memory."""
    values = {key: np.frombuffer(data, np.uint8) for key, data in files(folder).items()}
    buffers: dict[str, Buffer] = {key: CpuBuffer.from_array_like(value) for key, value in values.items()}
    return MemoryStore(buffers)


def in_zip_file(folder: Path) -> ZipStore:
    """Return a store in a zip file beside the folder."""
    path = folder.with_name(f"{folder.name}-{next(_NUMBERS)}.zip")
    with zipfile.ZipFile(path, "w") as file:
        for key, data in files(folder).items():
            file.writestr(key, data)
    return ZipStore(path, read_only=True)


def in_memory_of_fsspec(folder: Path) -> FsspecStore:
    """Return a store in fsspec's memory, of which a process has one."""
    system, place = fsspec.filesystem("memory"), f"/{folder.name}-{next(_NUMBERS)}"
    for key, data in files(folder).items():
        system.pipe(f"{place}/{key}", data)
    return FsspecStore.from_url(f"memory:/{place}", read_only=True)


def in_memory_of_obstore(folder: Path) -> ObjectStore[Any]:
    """Return a store in obstore's memory."""
    store = obstore.store.MemoryStore()
    for key, data in files(folder).items():
        obstore.put(store, key, data)
    return ObjectStore(store, read_only=True)


KINDS: dict[str, Callable[[Path], Store]] = {
    "LocalStore": lambda folder: LocalStore(folder, read_only=True),
    "MemoryStore": in_memory,
    "ZipStore": in_zip_file,
    "FsspecStore of files": lambda folder: FsspecStore.from_url(f"file://{folder}", read_only=True),
    "FsspecStore of memory": in_memory_of_fsspec,
    "ObjectStore of files": lambda folder: ObjectStore(obstore.store.LocalStore(folder), read_only=True),
    "ObjectStore of memory": in_memory_of_obstore,
    "a store of somebody else": lambda folder: WrapperStore(in_memory(folder)),
}

URL = "a web server"
EVERY = (*KINDS, URL)
# Tests of all kinds take long, and zarr itself tests each kind.
QUICK = ("MemoryStore", "ObjectStore of memory", URL)
EACH_KIND = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in EVERY]
# Each golden store in the quick kinds, and in one of the others in turn; the first golden store in all kinds.
KINDS_OF_GOLDEN = [
    pytest.param(kind, golden, marks=() if kind in QUICK else pytest.mark.slow, id=f"{golden.name}-{kind}")
    for number, golden in enumerate(STORES)
    for place, kind in enumerate(EVERY)
    if kind in QUICK or number == 0 or number % len(KINDS) == place
]


def batches(store: store_spec.Store) -> Iterator[Any]:
    """Yield everything in a store: whole sequences, times, statistics, padded batches, windows and streams."""
    yield from store
    if store.schema.time is not None:
        yield from (store.times(number) for number in range(len(store)))
    yield store.sources, store.stats().inputs.mean, *(store.sequences[name] for name in store.sequences)
    yield from store.padded(2, shuffle=True, seed=3)
    if store.schema.label_axis != "own":
        target: Any = "sequence" if store.schema.label_axis == "sequence" else "future"
        yield from store.windows(2, target=target).batches(3, shuffle=True, seed=4)
        yield from store.windows(2, target=target, short="pad").batches(3, memory="1MB")
        yield from store.streams(2, 3, shuffle=True, seed=5)
        yield from store.packed(64, max_steps=8, shuffle=True, seed=6)


def bits(value: Any) -> Any:
    """Return dtype, shape and bytes of an array, or of each in a tuple."""
    if isinstance(value, tuple | list):
        return [bits(each) for each in value]
    array = np.asarray(value)
    return array.dtype, array.shape, array.tolist() if array.dtype == object else array.tobytes()


def read(store: Any) -> list[Any]:
    return [bits(batch) for batch in batches(store_spec.open_store(store))]


def read_elsewhere(store: store_spec.Store, due: list[Any]) -> None:
    assert [bits(batch) for batch in batches(store)] == due
