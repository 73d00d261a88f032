"""Order the rows of a group by time: sort, merge duplicates, split at gaps, check for a regular step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.convert import refuse_any
from builder.formats.table import Array, Table
from builder.frames.step_times import Stamps
from builder.frames.transforms import as_floats
from builder.options.option_syntax import NANOSECONDS, End, nanoseconds
from builder.options.table_options import TableOptions


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Consecutive rows without a gap in time."""

    table: Table
    dropped: int = 0  # rows that were dropped: without a time, or duplicates
    stamps: Stamps | None = None  # the ascending times of the rows; None: they have no times


def split_by_time(table: Table, stamps: Stamps, options: TableOptions, without: End, *, name: str) -> Iterator[Stretch]:
    """Yield the stretches of some rows, in order.

    Args:
        table: The rows.
        stamps: The time of each row.
        options: `sort_time`, `duplicates`, `max_gap` and `every` are used.
        without: The policy for rows without a time: `drop` drops them; `split` also ends the stretch there, unless rows
            are sorted; any other policy refuses them.
        name: The column of the times.

    Raises:
        SourceError: A time is missing, decreases, occurs twice, or breaks the regular step.
    """
    if without not in ("drop", "split"):
        advice = f"fill it in, or drop such rows with --missing {name}=drop"
        refuse_any({name: stamps.absent}, table, "missing value", advice)
    rows = np.flatnonzero(~stamps.absent)
    if not len(rows):
        return
    rows = rows[np.argsort(stamps.values[rows], kind="stable")] if options.sort_time else rows

    def error(rows: NDArray[np.int64], where: NDArray[np.bool_], what: str, advice: str) -> SourceError:
        """Return the error about the first row that `where` (rows - 1,) marks, and the row before it."""
        before, row = rows[where.argmax() :][:2].tolist()
        return SourceError(
            f"row {table.number(row):,}, column {name}: {stamps.text(row)} {what} {stamps.text(before)} in row "
            f"{table.number(before):,} ({int(where.sum()):,} in all); {advice}"
        )

    now, before = stamps.values[rows[1:]], stamps.values[rows[:-1]]
    if (falls := now < before).any():
        clocks = "; if clocks were set back, give the zone with --time-zone, or write it with each time"
        clocks = "" if stamps.zone or stamps.elapsed else clocks
        raise error(rows, falls, "comes before", f"--sort-time sorts the rows{clocks}")
    same = np.zeros(len(rows), np.bool_)
    same[1:] = now == before
    if same.any() and options.duplicates == "error":
        raise error(rows, same[1:], "is also the time of", "choose one with --duplicates first, last or mean")
    first, last = ~same, ~np.append(same[1:], False)[: len(rows)]  # masks of the first and the last row of each time
    times = rows[last if options.duplicates == "last" else first]
    size, values = NANOSECONDS[stamps.unit], stamps.values[times].view(np.uint64)
    steps = values[1:] - values[:-1]  # uint64 can hold any difference of ascending int64 values
    jumps = np.zeros(len(times), np.bool_)  # a mask of the times that start a new stretch
    if options.max_gap is not None:
        jumps[1:] = steps > min(nanoseconds(options.max_gap, "max_gap") // size, np.iinfo(np.uint64).max)
    if without == "split" and not options.sort_time:
        absent_before = np.cumsum(stamps.absent)
        jumps[1:] |= absent_before[rows[first]][1:] > absent_before[rows[last]][:-1]
    every, fraction = divmod(0 if options.every is None else nanoseconds(options.every, "every"), size)
    if options.every is not None and (off := ((steps != every) | (fraction > 0)) & ~jumps[1:]).any():
        what = f"is {int(steps[off.argmax()]) * size / NANOSECONDS['s']:.9g} s after"
        raise error(times, off, what, f"each step should be {options.every}; --max-gap ends a sequence at longer ones")
    time_number, number = np.cumsum(~same) - 1, np.cumsum(jumps)  # the time of each row, the stretch of each time
    counts, absent_rows = np.bincount(number[time_number]), np.flatnonzero(stamps.absent)  # of rows in each stretch
    # Rows without a time count with the next stretch, or with the last; if rows are sorted, with the first.
    after = np.minimum(np.searchsorted(rows, absent_rows), len(rows) - 1)
    np.add.at(counts, np.zeros_like(after) if options.sort_time else number[time_number[after]], 1)
    dropped = counts - np.bincount(number)
    if options.duplicates == "mean":
        table = _means(table, rows, time_number, times)
    elif len(times) < table.rows or options.sort_time:
        table = table.take(times)
    for one, count in enumerate(dropped.tolist()):
        start, stop = np.searchsorted(number, [one, one + 1]).tolist()
        yield Stretch(table.slice(start, stop - start), count, stamps.take(times[start:stop]))


def _means(table: Table, rows: NDArray[np.int64], time_number: NDArray[np.int64], times: NDArray[np.int64]) -> Table:
    """Return the mean of each column over the rows of the same time, as floats; missing values are left out."""
    means: dict[str, Array] = {}
    for name in table.columns:
        floats = as_floats(table, name)
        gaps = table.absent(name)
        absent = np.zeros(floats.shape, np.bool_) if gaps is None else gaps
        known = np.where(absent, 0.0, floats)[rows].astype(np.float64)
        sums = np.zeros((len(times), *floats.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        np.add.at(sums, time_number, known)
        np.add.at(counts, time_number, ~absent[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            means[name] = (sums / counts).astype(floats.dtype)
    return replace(table.take(times), columns=means, block=None, missing={})
