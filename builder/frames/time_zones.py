"""Local times of a zone as moments: an hour that clocks show twice is told apart by the order of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.frames.iso_times import StampError
from builder.frames.stamps import Stamps


def in_zone(stamps: Stamps, zone: str, *, sort: bool) -> Stamps:
    """Return local times of a zone as UTC.

    Where clocks are set back, they show an hour twice. Of rows that follow one another in such an hour, those are in
    the second one that come after the place where the times fall.

    Args:
        stamps: When each row was, without a zone, in the order of the file.
        zone: As `Europe/Berlin`.
        sort: Whether that order says nothing, so that no such hour can be told apart.

    Raises:
        StampError: Clocks in the zone do not show a time, or show it twice, and nothing tells which it is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    local = pa.array(stamps.array, mask=stamps.absent)
    first, second = (pc.assume_timezone(local, zone, ambiguous=one, nonexistent=one) for one in ("earliest", "latest"))
    shown = pc.equal(pc.local_timestamp(first), local)
    if (row := pc.index(shown, False).as_py()) >= 0:
        raise StampError(row, f"{stamps.text(row)} is no time in {zone}, where clocks were set forward; correct it")
    early, late = _whole(first), _whole(second)
    known = np.flatnonzero(~stamps.absent)
    twice = known[early[known] != late[known]]
    # An hour's rows follow one another among those that have a time.
    for rows in np.split(twice, np.flatnonzero(np.diff(np.searchsorted(known, twice)) > 1) + 1) if len(twice) else ():
        falls = np.append(False, stamps.values[rows[1:]] <= stamps.values[rows[:-1]])
        if sort or falls.sum() != 1:
            raise StampError(
                int(rows[0]),
                f"{stamps.text(rows[0])} comes twice in {zone}, where clocks were set back, and the order of the rows "
                "does not tell which it is; write the zone beside each time",
            )
        early[rows[falls.argmax() :]] = late[rows[falls.argmax() :]]
    return replace(stamps, values=early, zone="UTC")


def _whole(column: Any) -> NDArray[np.int64]:
    import pyarrow as pa

    return np.array(column.cast(pa.int64()).fill_null(0))
