"""The sources of the benchmarks: seeded random walks rounded to 3 decimals, 8 inputs and 1 label, one series a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURES = 8
COLUMNS = (*(f"f{number}" for number in range(FEATURES)), "label")
ROW_BYTES = 4 * len(COLUMNS)


def walk(rng: np.random.Generator, steps: int) -> NDArray[np.float32]:
    """Return (steps, 9) float32: 8 walks, and how far the first of them goes in the next 16 steps."""
    places = 100 + rng.normal(0, 0.05, (steps + 16, FEATURES)).cumsum(0)
    moves = places[16:, :1] - places[:steps, :1]
    return np.concatenate([places[:steps].round(3), moves.round(3)], 1).astype(np.float32)


def write_sources(folder: Path, kind: str, megabytes: float, *, seed: int = 0) -> int:
    """Write .npy or .csv files that decode to about that many MB; return the bytes that they decode to."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    decoded, number = 0, 0
    while decoded < megabytes * 1e6:
        # Most have some thousand steps, a few none to speak of, as measured series do.
        steps = int(rng.integers(50, 200)) if rng.random() < 0.02 else int(rng.lognormal(np.log(4000), 0.668))
        rows = walk(rng, steps)
        path = folder / f"{number:05d}.{kind}"
        if kind == "npy":
            np.save(path, rows)
        else:
            np.savetxt(path, rows, "%.3f", ",", header=",".join(COLUMNS), comments="")
        decoded, number = decoded + rows.nbytes, number + 1
    return decoded


def write_tiny_sources(folder: Path, count: int, *, steps: int = 20, seed: int = 0) -> int:
    """Write many small .npy files; return the bytes that they decode to."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, steps, len(COLUMNS))).astype(np.float32)
    for first in range(0, count, 1000):
        (folder / f"{first // 1000:04d}").mkdir(parents=True)
        for number in range(first, min(first + 1000, count)):
            np.save(folder / f"{first // 1000:04d}" / f"{number:06d}.npy", rows[number])
    return rows.nbytes


def write_large_sources(folder: Path, sizes: list[int], *, seed: int = 0) -> int:
    """Write .npy files of about these many bytes; return the bytes that they decode to."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    # A walk takes long to make; its rows come in another order each time.
    block, decoded = walk(rng, 100_000), 0
    for number, size in enumerate(sizes):
        steps = size // ROW_BYTES
        path = folder / f"{number:05d}.npy"
        rows = np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), (steps, len(COLUMNS)))
        for first in range(0, steps, len(block)):
            shifted = np.roll(block, int(rng.integers(len(block))), axis=0)
            rows[first : first + len(block)] = shifted[: steps - first]
        rows.flush()
        decoded += rows.nbytes
    return decoded
