"""What the check of one part leaves for that of the next: memory that was used before, and chunks of tables."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chunks = dict[str, tuple[int, NDArray[Any]]]  # of a table, by its name: number and rows


class Workspace(threading.local):
    """Of each thread its own. Pickled, it is empty.

    New memory is dear: the system must clear its pages, which takes longer than a look at the rows that then lie there.
    """

    def __init__(self) -> None:
        self.rows: NDArray[Any] | None = None  # of the array: whatever they were, they are done with
        self.chunks: Chunks = {}
        self._array, self._floats = "", np.empty(0)

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()

    def turn_to(self, array: str) -> None:
        """Keep nothing of any other array than this one, which parts are checked of from now on."""
        if array != self._array:
            self.rows, self._array, self._floats = None, array, np.empty(0)
            self.chunks.clear()

    def floats(self, rows: int, columns: int) -> NDArray[np.float64]:
        """Return an array of these sizes, with any values, in the same memory each time."""
        if len(self._floats) < rows * columns:
            self._floats = np.empty(rows * columns)
        return self._floats[: rows * columns].reshape(rows, columns)
