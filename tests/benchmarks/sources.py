"""The sources of the benchmarks:

seeded random walks rounded to 3 decimals, 8 inputs and 1 label, one series per file.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURES = 8
COLUMNS = (*(f"f{number}" for number in range(FEATURES)), "label")
ROW_BYTES = 4 * len(COLUMNS)


def walk(rng: np.random.Generator, steps: int, features: int = FEATURES) -> NDArray[np.float32]:
    """Return (steps, features + 1) float32: walks, and the change of the first one in the next 16 steps."""
    places = 100 + rng.normal(0, 0.05, (steps + 16, features)).cumsum(0)
    moves = places[16:, :1] - places[:steps, :1]
    return np.concatenate([places[:steps].round(3), moves.round(3)], 1).astype(np.float32)


def draw_length(rng: np.random.Generator) -> int:
    """Return the length of a source: most have some thousand steps, a few have very few, as measured series do."""
    return int(rng.integers(50, 200)) if rng.random() < 0.02 else int(rng.lognormal(np.log(4000), 0.668))


def write_sources(folder: Path, kind: str, megabytes: float, *, seed: int = 0) -> int:
    """Write .npy or .csv files of about this decoded size in MB; return their decoded bytes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    decoded, number = 0, 0
    while decoded < megabytes * 1e6:
        rows = walk(rng, draw_length(rng))
        path = folder / f"{number:05d}.{kind}"
        if kind == "npy":
            np.save(path, rows)
        else:
            np.savetxt(path, rows, "%.3f", ",", header=",".join(COLUMNS), comments="")
        decoded, number = decoded + rows.nbytes, number + 1
    return decoded


def write_tiny_sources(folder: Path, count: int, *, steps: int = 20, seed: int = 0) -> int:
    """Write many small .npy files; return their decoded bytes."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, steps, len(COLUMNS))).astype(np.float32)
    for first in range(0, count, 1000):
        (folder / f"{first // 1000:04d}").mkdir(parents=True)
        for number in range(first, min(first + 1000, count)):
            np.save(folder / f"{first // 1000:04d}" / f"{number:06d}.npy", rows[number])
    return rows.nbytes


def write_large_sources(folder: Path, sizes: list[int], *, seed: int = 0) -> int:
    """Write .npy files of about these sizes in bytes; return their decoded bytes."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    # A walk takes long to make, so its rows are permuted each time.
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


def write_grouped_source(path: Path, megabytes: int, *, steps: int = 100_000, seed: int = 0) -> int:
    """Write a Parquet file of sequences with this number of steps, by `g`, in row groups; return their decoded bytes.

    `steps=0`: all rows are one sequence.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    block = walk(rng, 100_000)
    parts = max(1, megabytes * 10**6 // block.nbytes)
    schema = pa.schema([("g", pa.int32()), *((name, pa.float32()) for name in COLUMNS)])
    with pq.ParquetWriter(path, schema) as writer:
        for part in range(parts):
            rows = np.roll(block, int(rng.integers(len(block))), axis=0)
            numbers = (np.arange(len(block)) + part * len(block)) // steps if steps else np.zeros(len(block))
            columns = dict(zip(COLUMNS, np.ascontiguousarray(rows.T), strict=True))
            writer.write_table(pa.table({"g": numbers.astype(np.int32), **columns}, schema), row_group_size=50_000)
    return parts * block.nbytes
