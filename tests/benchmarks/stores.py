"""The stores that are read, each with its uncompressed rows beside it, for comparison."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zarr

import store_spec
from builder.execution.build import build
from tests.benchmarks.sources import Rows, draw_lengths, walk

ARRAYS = ("inputs", "labels")

Chunk = tuple[int, int]  # offset in the file, and bytes without the checksum


def make_store(folder: Path, name: str, megabytes: float) -> Path:
    """Return the place with the store `walks` or `tiny` of about this decoded size in MB; make it if there is none.

    A place has `store.zarr`, `inputs.npy` and `labels.npy`.
    """
    place = folder / f"{name}-{megabytes:g}MB"
    if not place.exists():
        unfinished = folder / f"{place.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / "sources").mkdir(parents=True)
        for seed, lengths in enumerate(draw_lengths(megabytes, tiny=name == "tiny")):
            (unfinished / "sources" / f"{seed:05d}.json").write_text(json.dumps({"seed": seed, "lengths": lengths}))
        build(unfinished / "sources", unfinished / "store.zarr", process=sequences, workers=2)
        for array in ARRAYS:
            np.save(unfinished / f"{array}.npy", zarr.open_array(unfinished / "store.zarr", path=array, mode="r")[:])
        unfinished.rename(place)
    return place


def sequences(path: Path) -> Iterator[tuple[Rows, Rows]]:
    """Make the sequences of a source, whose file has only a seed and lengths: this is faster than writing them."""
    source = json.loads(path.read_text())
    lengths: list[int] = source["lengths"]
    rows = walk(np.random.default_rng(source["seed"]), sum(lengths))
    for start, length in zip(itertools.accumulate(lengths, initial=0), lengths, strict=False):
        yield rows[start : start + length, :-1], rows[start : start + length, -1:]


def shards_of(path: Path) -> list[tuple[str, list[Chunk]]]:
    """Return the files of inputs and labels of a store, and their chunks."""
    schema = store_spec.open_store(path).schema
    shards = []
    for name in ARRAYS:
        chunking = schema.chunking(name)
        size = chunking.shard // chunking.chunk * 16 + 4
        for file in sorted((path / name).glob("c.*")):
            with file.open("rb") as opened:
                opened.seek(-size, os.SEEK_END)
                index = np.frombuffer(opened.read(size - 4), "<u8").reshape(-1, 2)
            shards.append((str(file), [(at, length - 4) for at, length in index[index[:, 1] < 2**63].tolist()]))
    return shards


def into_page_cache(folder: Path) -> None:
    """Read all files once, after they are on the disk: otherwise the system writes them while something is timed."""
    os.sync()
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            while file.read(2**20):
                pass


def evict(folder: Path) -> None:
    """Remove all files from the page cache; new files are written to the disk first."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def decoded_bytes(path: Path) -> int:
    """Return the bytes of all rows of a store."""
    store = store_spec.open_store(path)
    return int(store.counts.steps * (store.schema.inputs.nbytes + store.schema.labels.nbytes))
