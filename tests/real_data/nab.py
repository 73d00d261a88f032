"""The Numenta Anomaly Benchmark: values with time stamps that repeat, go back, or pause for hours."""

import itertools
import math
from datetime import datetime
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from tests.real_data.plain import Expected, Plain, csv_rows, files_below

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the stamps have no zone
LONGEST_GAP = 2 * 3600

Rows = list[tuple[int, float]]


def expected(folder: Path) -> dict[str, Expected]:
    """Return the expected stores of the gallery."""
    files = [(name, path, stamped(path)) for name, path in files_below(folder / "data", ".csv")]
    strict = [
        one_sequence(name, path, rows)
        for name, path, rows in files
        if all(before[0] < now[0] for before, now in itertools.pairwise(rows))
    ]
    parts = [part for name, path, rows in files for part in parts_of(name, path, rows)]
    busy = [
        busy_roads(name.removeprefix("realTraffic/"), path, rows)
        for name, path, rows in files
        if name.startswith("realTraffic/occupancy_")
    ]
    nanoseconds, seconds = ("ns", "1970-01-01"), ("s", "1970-01-01")
    return {
        "strict.zarr": Expected(sequences=strict, unit=nanoseconds, window=32, stride=11),
        "nab.zarr": Expected(sequences=parts, unit=nanoseconds, window=16, stride=5),
        "busy.zarr": Expected(sequences=busy, unit=seconds, window=12, stride=1, skip=True, mask=True),
    }


def stamped(path: Path) -> Rows:
    """Return the second since 1970 and the value of each row."""
    rows = []
    for stamp, value in csv_rows(path):
        since = datetime.fromisoformat(stamp) - EPOCH
        rows.append((since.days * 86_400 + since.seconds, float(value)))
    return rows


def one_sequence(name: str, path: Path, rows: Rows, part: int = 0, **counts: int) -> Plain:
    """Return rows as a sequence whose labels are its inputs, with the counts of cleaning, if any."""
    values = np.array([[value] for _, value in rows])
    time = np.array([second * 10**9 for second, _ in rows], np.int64)
    return Plain(source=name, file=path, part=part, inputs=values, labels=values, time=time, columns={**counts})


def parts_of(name: str, path: Path, rows: Rows) -> list[Plain]:
    """Sort rows by time, average those of one time, and cut at gaps of more than two hours."""
    at: dict[int, list[float]] = {}
    for second, value in sorted(rows, key=lambda row: row[0]):
        at.setdefault(second, []).append(value)
    seconds = list(at)
    cuts = [number for number in range(1, len(seconds)) if seconds[number] - seconds[number - 1] > LONGEST_GAP]
    parts: list[Plain] = []
    for start, stop in itertools.pairwise([0, *cuts, len(seconds)]):
        # `sum` rounds differently from Python 3.12 on.
        means = [(second, reduce(add, at[second], 0.0) / len(at[second])) for second in seconds[start:stop]]
        dropped = sum(len(at[second]) - 1 for second in seconds[start:stop])
        parts.append(one_sequence(name, path, means, part=len(parts), dropped=dropped, filled=0))
    return parts


def busy_roads(name: str, path: Path, rows: Rows) -> Plain:
    """Take the last row of each time.

    0 is a failed measurement, of which one in a row is replaced by the value before.
    """
    kept = [now for now, after in zip(rows, [*rows[1:], (None, 0.0)], strict=True) if now[0] != after[0]]
    inputs: list[float] = []
    filled = []
    for number, (_, value) in enumerate(kept):
        fills = value == 0 and number > 0 and kept[number - 1][1] != 0
        inputs.append(value if value != 0 else kept[number - 1][1] if fills else math.nan)
        filled.append(fills)
    values = np.array(inputs, np.float32)[:, None]  # few digits; other files of this set have up to 17
    time, mask = np.array([second for second, _ in kept], np.int64), np.array(filled)[:, None]
    columns: dict[str, int | str] = {"dropped": len(rows) - len(kept), "filled": sum(filled)}
    return Plain(source=name, file=path, inputs=values, labels=values, time=time, filled=mask, columns=columns)
