"""The stores that are read, each with its uncompressed rows beside it, for comparison."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from builder.execution.build import build
from tests.benchmarks.sources import draw_length, walk

ARRAYS = ("inputs", "labels")
SEQUENCES_OF_A_SOURCE = 1000  # for tiny sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The content of a store.

    Args:
        features: The features of inputs; labels have one.
        tiny: Sequences of 5 to 30 steps, many from each source; others have some thousand steps, one from each source.
    """

    features: int = 8
    tiny: bool = False


STORES = {"walks": Kind(), "wide": Kind(features=512), "tiny": Kind(tiny=True)}


def make_store(folder: Path, name: str, megabytes: float, workers: int) -> Path:
    """Return the place with a store of about this decoded size in MB; make it if the folder has none.

    A place has `store.zarr`, `inputs.npy` and `labels.npy`.
    """
    place = folder / f"{name}-{megabytes:g}MB"
    if not place.exists():
        unfinished = folder / f"{place.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        _write_seeds(unfinished / "sources", STORES[name], megabytes)
        build(unfinished / "sources", unfinished / "store.zarr", process=sequences, workers=workers)
        for array in ARRAYS:
            _copy_rows(unfinished / "store.zarr", array, unfinished / f"{array}.npy")
        unfinished.rename(place)
    return place


def rows_of(place: Path, name: str, *, mapped: bool) -> NDArray[np.float32]:
    """Return the uncompressed rows of `inputs` or `labels`: in memory, or as a memory map."""
    rows: NDArray[np.float32] = np.load(place / f"{name}.npy", mmap_mode="r" if mapped else None)
    return rows


def sequences(path: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Make the sequences of a source, whose file has only a seed and lengths: this is faster than writing them."""
    source = json.loads(path.read_text())
    lengths: list[int] = source["lengths"]
    rows = walk(np.random.default_rng(source["seed"]), sum(lengths), source["features"])
    for start, length in zip(itertools.accumulate(lengths, initial=0), lengths, strict=False):
        yield rows[start : start + length, :-1], rows[start : start + length, -1:]


def evict(place: Path) -> None:
    """Remove all files of a place from the page cache; new files are written to the disk first."""
    for path in filter(Path.is_file, place.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def warm(place: Path) -> None:
    """Read all files of a place, so that they are in the page cache."""
    for path in filter(Path.is_file, place.rglob("*")):
        with path.open("rb") as file:
            while file.read(2**20):
                pass


def _write_seeds(folder: Path, kind: Kind, megabytes: float) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    steps = megabytes * 1e6 / (4 * (kind.features + 1))
    for seed in itertools.count():
        lengths = rng.integers(5, 31, SEQUENCES_OF_A_SOURCE).tolist() if kind.tiny else [draw_length(rng)]
        source: dict[str, Any] = {"seed": seed, "features": kind.features, "lengths": lengths}
        (folder / f"{seed:05d}.json").write_text(json.dumps(source))
        steps -= sum(lengths)
        if steps <= 0:
            return


def _copy_rows(store: Path, name: str, path: Path) -> None:
    array = zarr.open_array(store, path=name, mode="r")
    rows = np.lib.format.open_memmap(path, "w+", array.dtype, array.shape)
    together = array.shards[0] if array.shards else len(rows)
    for start in range(0, len(rows), together):
        rows[start : start + together] = array[start : start + together]
    rows.flush()
