"""The sources of the benchmarks: series of seeded random walks rounded to 3 decimals, 8 inputs and 1 label."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURES = 8
COLUMNS = (*(f"f{number}" for number in range(FEATURES)), "label")
ROW_BYTES = 4 * len(COLUMNS)
IN_A_FOLDER = 1000  # files

Rows = NDArray[np.float32]


def walk(rng: np.random.Generator, steps: int) -> Rows:
    """Return (steps, 9) float32: walks, and the change of the first one in the next 16 steps."""
    places = 100 + rng.normal(0, 0.05, (steps + 16, FEATURES)).cumsum(0)
    moves = places[16:, :1] - places[:steps, :1]
    return np.concatenate([places[:steps].round(3), moves.round(3)], 1).astype(np.float32)


def draw_lengths(megabytes: float, *, tiny: bool = False) -> Iterator[list[int]]:
    """Yield the lengths of the sequences of each source, until they have about this decoded size in MB.

    Most sources have one sequence of some thousand steps, a few one of very few, as measured series do; tiny sequences
    have 5 to 30 steps, and a source has many of them.
    """
    rng = np.random.default_rng(0)
    left = megabytes * 1e6 / ROW_BYTES
    while left > 0:
        if tiny:
            lengths = rng.integers(5, 31, 1000).tolist()
        elif rng.random() < 0.02:
            lengths = [int(rng.integers(50, 200))]
        else:
            lengths = [int(rng.lognormal(np.log(4000), 0.668))]
        yield lengths
        left -= sum(lengths)


def write_sources(folder: Path, lengths: Iterable[int], kind: str = "npy") -> int:
    """Write a .npy or .csv file with one sequence for each length; return their decoded bytes."""
    rng = np.random.default_rng(0)
    rows, decoded = walk(rng, 100_000), 0
    for number, steps in enumerate(lengths):
        path = folder / f"{number // IN_A_FOLDER:04d}" / f"{number:07d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "csv":
            series = np.concatenate(list(_pieces(rng, rows, steps)))
            np.savetxt(path, series, "%.3f", ",", header=",".join(COLUMNS), comments="")
        else:
            header = {"descr": rows.dtype.str, "fortran_order": False, "shape": (steps, len(COLUMNS))}
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.writelines(piece.data for piece in _pieces(rng, rows, steps))
        decoded += steps * ROW_BYTES
    return decoded


def _pieces(rng: np.random.Generator, rows: Rows, steps: int) -> Iterator[Rows]:
    """Yield pieces of a walk from random places: a series of its own would take longer to make than to write."""
    while steps > 0:
        start = int(rng.integers(len(rows)))
        piece = rows[start : start + steps]
        yield piece
        steps -= len(piece)
