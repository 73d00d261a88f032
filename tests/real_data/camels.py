"""CAMELS: daily forcings of river basins, and their daily flow, in another file and not for all days."""

import hashlib
import math
from datetime import date
from pathlib import Path

import numpy as np

from tests.real_data.plain import Expected, Plain, blank_separated, files_below, floats


def expected(folder: Path) -> dict[str, Expected]:
    """Return the expected stores of the gallery."""
    joined = [basin(folder, name, path, every_day=False) for name, path in files_below(folder / "forcing", ".txt")]
    days = [basin(folder, name, path, every_day=True) for name, path in files_below(folder / "forcing", ".txt")]
    return {
        "rivers.zarr": Expected(sequences=joined, window=30, stride=1),
        "days.zarr": Expected(
            sequences=days, unit=("s", "1970-01-01"), window=30, stride=1, target="last", skip=True, mask=True
        ),
    }


def basin(folder: Path, name: str, path: Path, *, every_day: bool) -> Plain:
    """Return the days of a basin with their flow: those that have one, or every day."""
    beside = folder / "streamflow" / f"{name.partition('_')[0]}_streamflow_qc.txt"
    flow = {as_date(row[1:4]): float(row[4]) for row in blank_separated(beside.read_text().splitlines())}
    rows = blank_separated(path.read_text().splitlines()[4:])
    kept = [row for row in rows if every_day or as_date(row[:3]) in flow]
    digest = hashlib.sha256(beside.read_bytes()).hexdigest()
    columns: dict[str, int | str] = {"dropped": len(rows) - len(kept), "filled": 0, "labels_sha256": digest}
    inputs = floats(row[4:11] for row in kept).astype(np.float32)
    labels = np.array([[flow.get(as_date(row[:3]), math.nan)] for row in kept], np.float32)
    seconds = [(as_date(row[:3]) - date(1970, 1, 1)).days * 86_400 for row in kept]
    time = np.array(seconds, np.int64) if every_day else None
    return Plain(source=name, file=path, inputs=inputs, labels=labels, time=time, columns=columns)


def as_date(fields: list[str]) -> date:
    """Return the day of a year, a month and a day."""
    year, month, day = map(int, fields)
    return date(year, month, day)
