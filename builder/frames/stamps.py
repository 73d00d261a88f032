"""When each of some rows was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.frames.iso_times import Zone
from builder.options.table_options import Unit


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """When each of some rows was.

    Args:
        values: (rows,) whole numbers of the unit, since 1970, or since some beginning; anything where there is none.
        unit: Of these.
        absent: (rows,) where there is none.
        zone: `"UTC"`, or None for local times without a zone.
        elapsed: Whether they count from some beginning.
    """

    values: NDArray[np.int64]
    unit: Unit
    absent: NDArray[np.bool_]
    zone: Zone = None
    elapsed: bool = False

    @property
    def array(self) -> NDArray[Any]:
        """They as datetime64 or timedelta64."""
        return self.values.view(f"{'m' if self.elapsed else 'M'}8[{self.unit}]")

    def taken(self, rows: NDArray[np.int64]) -> Stamps:
        """Return those of some rows."""
        return replace(self, values=self.values[rows], absent=self.absent[rows])

    def text(self, row: int) -> str:
        """Write one down."""
        if self.elapsed:
            return f"{self.values[row]:,} {self.unit}"
        stamp = np.datetime_as_string(self.array[row], unit="auto")
        return f"{stamp}{'Z' if self.zone else ''}"
