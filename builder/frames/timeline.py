"""The rows of a group in the order of their times: sorted, one a moment, cut where time jumps, at a regular step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.convert import refuse_any
from builder.formats.table import ROW, Frame, Table, column_of
from builder.frames.stamps import Stamps
from builder.frames.step_times import PER_SECOND
from builder.frames.transforms import as_floats
from builder.options.durations import nanoseconds
from builder.options.policies import End
from builder.options.table_options import TableOptions


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Rows that follow one another, in time without a jump if there are times.

    Args:
        frame: The rows.
        dropped: How many rows beside them were left out: without a time, or with that of another.
        stamps: When each was, rising; None: nobody knows.
    """

    frame: Frame
    dropped: int = 0
    stamps: Stamps | None = None


def split_by_time(
    frame: Frame, stamps: Stamps, options: TableOptions, without: End, *, name: str, source: str
) -> Iterator[Stretch]:
    """Give the stretches of some rows, one after another.

    Args:
        frame: The rows.
        stamps: When each was.
        options: What that has to be like: `sort_time`, `duplicates`, `max_gap`, `every`.
        without: What becomes of rows without a time: `drop` leaves them out, `split` ends the stretch there as well,
            unless they are sorted; anything else refuses them.
        name: The column of the times, for errors.
        source: For errors.

    Raises:
        SourceError: A time is missing, falls, comes twice, or is off the regular step.
    """
    if stamps.absent.any() and without not in ("drop", "split"):
        advice = f"fill it in, or leave such rows out with --missing {name}=drop"
        refuse_any({name: stamps.absent}, Table.of(frame), source, "missing value", advice)
    rows = np.flatnonzero(~stamps.absent)
    if options.sort_time:
        rows = rows[np.argsort(stamps.values[rows], kind="stable")]
    now, before = stamps.values[rows[1:]], stamps.values[rows[:-1]]
    wrong = partial(_wrong, frame, stamps, rows, f"column {name}", source)
    if (falls := now < before).any():
        clocks = "; where clocks were set back, say the zone with --time-zone, or write it beside each time"
        clocks = "" if stamps.zone or stamps.elapsed else clocks
        raise wrong(falls, "comes before", f"--sort-time sorts the rows{clocks}")
    same = np.zeros(len(rows), np.bool_)
    same[1:] = now == before
    if same.any() and options.duplicates == "error":
        raise wrong(same[1:], "is the time of", "--duplicates first, last or mean says which is taken")
    first, last = ~same, ~np.append(same[1:], False)[: len(rows)]  # whether each row is that of its time
    times = rows[last if options.duplicates == "last" else first]
    jumps = _jumps(stamps, times, options.max_gap)
    if without == "split" and not options.sort_time:
        gone = np.cumsum(stamps.absent)
        jumps[1:] |= gone[rows[first]][1:] > gone[rows[last]][:-1]
    wrong = partial(_wrong, frame, stamps, times, f"column {name}", source)
    _check_step(stamps, times, jumps, options.every, wrong)
    moment, number = np.cumsum(~same) - 1, np.cumsum(jumps)  # of each row its time, of each time its stretch
    dropped = _left_out(stamps.absent, rows, number[moment], sort=options.sort_time) - np.bincount(number)
    if options.duplicates == "mean":
        frame = _means(frame, rows, moment, times, source)
    elif len(times) < len(frame) or options.sort_time:
        frame = frame.take(column_of(times))
    for one, count in enumerate(dropped.tolist()):
        start, stop = np.searchsorted(number, [one, one + 1]).tolist()
        yield Stretch(frame.slice(start, stop - start), count, stamps.taken(times[start:stop]))


def _jumps(stamps: Stamps, rows: NDArray[np.int64], max_gap: str | None) -> NDArray[np.bool_]:
    """Return where a stretch begins that is not the first: before which of the rows time jumps."""
    jumps = np.zeros(len(rows), np.bool_)
    if max_gap is not None:
        longest = nanoseconds(max_gap, "max_gap") // (PER_SECOND["ns"] // PER_SECOND[stamps.unit])
        jumps[1:] = _steps(stamps, rows) > min(longest, np.iinfo(np.uint64).max)
    return jumps


def _steps(stamps: Stamps, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the time between each row and the next; they rise, so that it is exact, however far they are apart."""
    values = stamps.values[rows].view(np.uint64)
    return values[1:] - values[:-1]


def _check_step(
    stamps: Stamps,
    rows: NDArray[np.int64],
    jumps: NDArray[np.bool_],
    every: str | None,
    wrong: Callable[..., SourceError],
) -> None:
    """Refuse rows of which one is not `every` after the last, but where a stretch begins."""
    if every is None:
        return
    size = PER_SECOND["ns"] // PER_SECOND[stamps.unit]
    step, rest = divmod(nanoseconds(every, "every"), size)
    steps = _steps(stamps, rows)
    off = ((steps != step) if not rest else np.ones(len(steps), np.bool_)) & ~jumps[1:]
    if off.any():
        away = f"{int(steps[off.argmax()]) * size / PER_SECOND['ns']:.9g} s"
        raise wrong(off, f"is {away} after", f"each step should be {every}; --max-gap ends a sequence at longer ones")


def _left_out(
    absent: NDArray[np.bool_], rows: NDArray[np.int64], number: NDArray[np.int64], *, sort: bool
) -> NDArray[np.int64]:
    """Count all rows of each stretch; those without a time with the one that comes after them, or the last.

    Args:
        absent: (all rows,) where there is no time.
        rows: Those that have one.
        number: Of each of these, which stretch it is in.
        sort: Whether their order is not that of the file; those without a time then count with the first.
    """
    counts = np.bincount(number)
    gone = np.flatnonzero(absent)
    if len(rows) and len(gone):
        after = np.minimum(np.searchsorted(rows, gone), len(rows) - 1)
        np.add.at(counts, np.zeros_like(gone) if sort else number[after], 1)
    return counts


def _means(
    frame: Frame, rows: NDArray[np.int64], moment: NDArray[np.int64], times: NDArray[np.int64], source: str
) -> Frame:
    """Return the mean of each column over the rows of each moment, as floats; what is missing does not count."""
    table = Table.of(frame)
    means = frame.select([ROW]).take(column_of(times))
    for name in table.columns:
        floats = as_floats(table, name, source)
        gaps = table.absent(name)
        absent = np.zeros(floats.shape, np.bool_) if gaps is None else gaps
        known = np.where(absent, 0.0, floats)[rows].astype(np.float64)
        sums = np.zeros((len(times), *floats.shape[1:]))
        counts = np.zeros(sums.shape, np.int64)
        np.add.at(sums, moment, known)
        np.add.at(counts, moment, ~absent[rows])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = means.append_column(name, column_of((sums / counts).astype(floats.dtype)))
    return means


def _wrong(  # noqa: PLR0917
    frame: Frame,
    stamps: Stamps,
    rows: NDArray[np.int64],
    column: str,
    source: str,
    where: NDArray[np.bool_],
    what: str,
    advice: str,
) -> SourceError:
    """Say what is wrong between a row and the one before; `where` (rows - 1,) that is."""
    before, row = rows[where.argmax() :][:2].tolist()
    number, other = (frame[ROW][one].as_py() for one in (row, before))
    return SourceError(
        source,
        f"row {number:,}, {column}: {stamps.text(row)} {what} {stamps.text(before)} in row {other:,} "
        f"({int(where.sum()):,} in all); {advice}",
    )
