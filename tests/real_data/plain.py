"""What the script of a set says that its stores are, without a line of seqzarr."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Target = Literal["future", "last", "aligned", "sequence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """One sequence.

    Args:
        source: What the store calls its file.
        file: That file.
        part: Which sequence of the file it is.
        inputs: (steps, features).
        labels: (steps, targets), or (targets,) of a sequence as a whole.
        time: (steps,) in the unit of the store; None: no time is kept.
        filled: (steps, features), where a value of inputs was filled in; None: that is not kept.
        columns: What else is kept of it.
    """

    source: str
    file: Path
    part: int = 0
    inputs: NDArray[Any]
    labels: NDArray[Any]
    time: NDArray[np.int64] | None = None
    filled: NDArray[np.bool_] | None = None
    columns: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A store, and how windows of it are cut and its splits are made where it is compared.

    Args:
        sequences: In order.
        classes: Of each target the names of its classes; None: labels are numbers.
        unit: Of the times, and since when; None: no time is kept.
        window: Steps of a window.
        stride: From start to start.
        target: Which labels windows have.
        skip: Whether windows that touch NaN are left out.
        mask: Whether windows tell which values are real.
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
    """Return the files with a suffix, under their names relative to the folder, in the order of these."""
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
    """Return numbers as Python reads them, row by row."""
    return np.array([[float(value) for value in row] for row in rows], np.float64)


def class_codes(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the names of classes, in the order in which they first appear, and the code of each text."""
    names: list[str] = []
    codes = []
    for text in texts:
        if text not in names:
            names.append(text)
        codes.append(names.index(text))
    return names, codes
