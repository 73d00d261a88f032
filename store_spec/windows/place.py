"""The places of windows in their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from store_spec.reading.read_ranges import read_ranges

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows


class Place(NamedTuple):
    """The place of a window in its source, or of several windows.

    Args:
        source: The name of the source, or an array of names.
        part: Int64, the part of the source.
        sequence: Int64, the number of the sequence in `windows.store`.
        step: Int64, the step of the sequence at which the window starts.
        time: The time of this step, datetime64 or timedelta64; None if the store has no times.
    """

    source: Any
    part: Any
    sequence: Any
    step: Any
    time: Any


def place_of(windows: Windows, numbers: ArrayLike) -> Place:
    """Return where a window starts, or many windows: see `Windows.locate`."""
    (sequences, steps), times = windows.index.locate_many(numbers, windows.store.path), None
    parts = windows.store.parts[sequences]
    if (time := windows.store.schema.time) is not None:
        rows = (windows.store.starts[sequences] + steps).reshape(-1)
        read = read_ranges(windows.store.snapshot, "time", rows, rows + 1, recent=True)
        times = np.concatenate([np.zeros(0, np.int64), *read]).view(time.dtype).reshape(sequences.shape)[()]
    if not sequences.ndim:
        return Place(windows.store.sources[int(sequences)], int(parts), int(sequences), int(steps), times)
    names = np.array([windows.store.sources[number] for number in sequences.ravel().tolist()], object)
    return Place(names.reshape(sequences.shape), parts, sequences, steps, times)
