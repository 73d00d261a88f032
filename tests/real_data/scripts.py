"""What the stores of each set of the gallery should hold, by a plain script for each set."""

import hashlib
import itertools
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.real_data.plain import Expected, Plain, blank_separated, class_codes, csv_rows, files_below, floats

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # the stamps have no zone
LONGEST_GAP = 2 * 3600

Rows = list[tuple[int, float]]


def nab(folder: Path) -> dict[str, Expected]:
    """The Numenta Anomaly Benchmark: values with time stamps that repeat, go back, or pause for hours."""
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


def cmapss(folder: Path) -> dict[str, Expected]:
    """C-MAPSS: engines, a file for each; all in one file; and some in one file, its lines in alphabetical order."""
    split: list[Plain] = []
    joined: list[Plain] = []
    together = folder.parent / "joined.txt"
    train: list[Plain] = []
    for name, path in files_below(folder / "split", ".txt"):
        data_set, _, file = name.partition("/")
        rows = blank_separated(path.read_text(encoding="ascii").splitlines())
        values = floats(row[2:] for row in rows).astype(np.float32)
        engine = Plain(source=name, file=path, inputs=values, labels=values)
        split.append(engine)
        unit = int(file.removeprefix("unit_").removesuffix(".txt"))
        columns: dict[str, int | str] = {"0": data_set, "1": unit}
        joined.append(replace(engine, source=together.name, file=together, part=len(joined), columns=columns))
        if data_set == "train_FD001":
            # Numbers in text may have decimals, so times are stored in nanoseconds, whatever their unit.
            time = np.array([int(row[1]) * 10**9 for row in rows], np.int64)
            train.append(replace(engine, columns={"0": unit}, time=time))
    # Each line begins with the unit and a blank, so units are in the alphabetical order of their numbers.
    train.sort(key=lambda one: f"{one.columns['0']} ")
    jumbled = folder.parent / "jumbled.txt"
    cycles = [replace(one, source=jumbled.name, file=jumbled, part=part) for part, one in enumerate(train)]
    return {
        "split.zarr": Expected(sequences=split, window=30, stride=7),
        "engines.zarr": Expected(sequences=joined, window=30, stride=7, by="1"),
        "cycles.zarr": Expected(sequences=cycles, unit=("ns", None), window=30, stride=7, by="0"),
    }


def watch(folder: Path) -> dict[str, Expected]:
    """Exercises recorded by a watch: labels are classes by name, from a table with a row for each recording."""
    table = {record: row for record, *row in csv_rows(folder / "labels.csv")}
    files = files_below(folder / "npy", ".npy")
    names, codes = class_codes(table[path.stem][1] for _, path in files)
    sequences = []
    for (name, path), code in zip(files, codes, strict=True):
        _, _, subject, side = table[path.stem]
        columns: dict[str, int | str] = {"subject": int(subject), "side": int(side)}
        labels = np.array([code], np.int64)
        sequences.append(Plain(source=name, file=path, inputs=np.load(path), labels=labels, columns=columns))
    return {
        "watch.zarr": Expected(
            sequences=sequences, classes=[names], window=100, stride=25, target="sequence", by="subject"
        )
    }


def vowels(folder: Path) -> dict[str, Expected]:
    """Japanese vowels: the speaker is a class in the name of each file, and a number in a table."""
    speakers = dict(csv_rows(folder / "labels.csv"))
    files = files_below(folder / "train", ".csv")
    names, codes = class_codes(path.stem.split("_")[2] for _, path in files)
    sequences = []
    for (name, path), code in zip(files, codes, strict=True):
        inputs = floats(csv_rows(path)).astype(np.float32)
        labels = np.array([code], np.int64)
        columns: dict[str, int | str] = {"speaker": int(speakers[name])}
        sequences.append(Plain(source=name, file=path, inputs=inputs, labels=labels, columns=columns))
    return {
        "vowels.zarr": Expected(
            sequences=sequences, classes=[names], window=5, stride=1, target="sequence", by="speaker"
        )
    }


def camels(folder: Path) -> dict[str, Expected]:
    """CAMELS: daily forcings of river basins, and their daily flow, in another file and not for all days."""
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


def spoken_digits(folder: Path) -> dict[str, Expected]:
    """Spoken digits: WAV files, parsed without the module `wave`, which the function of the gallery uses."""
    sequences = []
    for name, path in files_below(folder / "recordings", ".wav"):
        digit, speaker, _ = name.split("_")
        inputs = (samples(path.read_bytes()) / 32768).astype(np.float32)[:, None]
        labels = np.array([int(digit)], np.int64)
        sequences.append(Plain(source=name, file=path, inputs=inputs, labels=labels, columns={"speaker": speaker}))
    return {"digits.zarr": Expected(sequences=sequences, window=800, stride=400, target="sequence", by="speaker")}


def samples(data: bytes) -> NDArray[np.int16]:
    """Return the samples of a file with one channel of 16 bits: its chunk `data`."""
    assert (data[:4], data[8:12]) == (b"RIFF", b"WAVE")
    at = 12
    while True:
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"fmt ":
            _, channels, _, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            assert (channels, bits) == (1, 16)
        if kind == b"data":
            return np.frombuffer(data, "<i2", size // 2, at + 8)
        at += 8 + size + size % 2


SCRIPTS: Mapping[str, Callable[[Path], dict[str, Expected]]] = {
    "nab": nab,
    "cmapss": cmapss,
    "watch": watch,
    "japanese-vowels": vowels,
    "camels": camels,
    "spoken-digits": spoken_digits,
}
