"""Sources for which a process function returns labels that are text, or arrays with NaN."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from builder import Sequence
from tests.builder.source_files import write_files


def given(path: Path) -> Any:
    """Return one value per step, and the labels of the file, as JSON has them."""
    made = json.loads(path.read_text())
    return np.array(made["x"], np.float64), made["y"]


def as_array(path: Path) -> Any:
    """Return the labels as an array of NumPy's text."""
    x, y = given(path)
    return x, np.array(y)


def as_objects(path: Path) -> Any:
    """Yield a sequence with labels as Python objects, twice."""
    x, y = given(path)
    for _ in range(2):
        yield Sequence(x, np.array(y, object), columns={"note": path.stem})


def inputs_alone(path: Path) -> Any:
    return given(path)[0]


def write(folder: Path, **sources: tuple[Any, Any]) -> Path:
    """Write a file for each: its inputs and labels."""
    return write_files(folder, {f"{name}.json": json.dumps({"x": x, "y": y}) for name, (x, y) in sources.items()})
