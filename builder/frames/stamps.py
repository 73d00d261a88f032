"""The time stamps of rows, and local times as UTC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.frames.iso_times import StampError, Zone
from builder.options.table_options import Unit


@dataclass(frozen=True, slots=True, eq=False)
class Stamps:
    """The time stamps of some rows."""

    values: NDArray[np.int64]  # (rows,) whole numbers of the unit since 1970, or since some start; arbitrary if absent
    unit: Unit
    absent: NDArray[np.bool_]  # (rows,) True if a row has no time
    zone: Zone = None  # "UTC", or None for local times without a zone
    elapsed: bool = False  # whether `values` count from some start instead of 1970

    @property
    def array(self) -> NDArray[Any]:
        """The stamps as datetime64 or timedelta64."""
        return self.values.view(f"{'m' if self.elapsed else 'M'}8[{self.unit}]")

    def take(self, rows: NDArray[np.int64]) -> Stamps:
        """Return the stamps of some rows."""
        return replace(self, values=self.values[rows], absent=self.absent[rows])

    def text(self, row: int) -> str:
        """Return the stamp of a row as text."""
        if self.elapsed:
            return f"{self.values[row]:,} {self.unit}"
        stamp = np.datetime_as_string(self.array[row], unit="auto")
        return f"{stamp}{'Z' if self.zone else ''}"


def to_utc(stamps: Stamps, zone: str, *, sort: bool) -> Stamps:
    """Convert local times of a zone to UTC.

    When clocks are set back, an hour occurs twice. In consecutive rows of such an hour, its second occurrence begins
    where the times decrease.

    Args:
        stamps: Local times, in the order of the file.
        zone: A name such as `Europe/Berlin`.
        sort: Whether the rows are unordered, so that such hours are ambiguous.

    Raises:
        StampError: A time does not exist in the zone, or is ambiguous.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    local = pa.array(stamps.array, mask=stamps.absent)
    first, second = (pc.assume_timezone(local, zone, ambiguous=one, nonexistent=one) for one in ("earliest", "latest"))
    shown = pc.equal(pc.local_timestamp(first), local)
    if (row := pc.index(shown, False).as_py()) >= 0:
        raise StampError(row, f"{stamps.text(row)} does not exist in {zone}: clocks were set forward; correct it")
    early, late = (np.array(one.cast(pa.int64()).fill_null(0)) for one in (first, second))
    known = np.flatnonzero(~stamps.absent)
    twice = known[early[known] != late[known]]
    # Rows of one such hour are consecutive among the rows with a time.
    hours = np.split(twice, np.flatnonzero(np.diff(np.searchsorted(known, twice)) > 1) + 1)
    for rows in hours if len(twice) else ():
        falls = np.append(False, stamps.values[rows[1:]] <= stamps.values[rows[:-1]])
        if sort or falls.sum() != 1:
            raise StampError(
                int(rows[0]),
                f"{stamps.text(rows[0])} occurs twice in {zone}, as clocks were set back, and the order of the rows "
                "does not determine which it is; write the zone with each time",
            )
        early[rows[falls.argmax() :]] = late[rows[falls.argmax() :]]
    return replace(stamps, values=early, zone="UTC")
