"""The expected stores of the script of a set, without any code of seqzarr."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tests.store.oracle import Sequence

Target = Literal["future", "last", "aligned", "sequence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(Sequence):
    """A sequence with its file, and its number among the sequences of the file."""

    file: Path
    part: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """An expected store, and the windows and splits to compare.

    Args:
        sequences: In order.
        classes: The names of the classes of each target; None: labels are numbers.
        unit: The unit and epoch of the times; None: no times are stored.
        window: Steps of a window.
        stride: Steps between the starts of windows.
        target: Which labels windows have.
        skip: Whether windows with NaN are left out.
        mask: Whether windows have a mask of real values.
        by: The column by which splits keep sequences together; None: the source.
    """

    sequences: list[Plain]
    classes: list[list[str]] | None = None
    unit: tuple[str, str | None] | None = None
    window: int
    stride: int
    target: Target = "future"
    skip: bool = False
    mask: bool = False
    by: str | None = None


def files_below(folder: Path, suffix: str) -> list[tuple[str, Path]]:
    """Return the files with a suffix, sorted, by their names relative to the folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob(f"*{suffix}"))
    return [(name, folder / name) for name in names]


def csv_rows(path: Path) -> list[list[str]]:
    """Return the fields of each line but the first."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def blank_separated(lines: Iterable[str]) -> list[list[str]]:
    """Return the fields of each line."""
    return [line.split() for line in lines if line.strip()]


def floats(rows: Iterable[Iterable[str]]) -> NDArray[np.float64]:
    """Parse numbers as Python does, row by row."""
    return np.array([[float(value) for value in row] for row in rows], np.float64)


def class_codes(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the names of classes, in order of appearance, and the code of each text."""
    names: list[str] = []
    codes = []
    for text in texts:
        if text not in names:
            names.append(text)
        codes.append(names.index(text))
    return names, codes
