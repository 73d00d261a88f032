"""C-MAPSS: engines, a file for each; all in one file; and some in one file, in alphabetical order of their lines."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.real_data.plain import Expected, Plain, blank_separated, files_below, floats


def expected(folder: Path) -> dict[str, Expected]:
    """Return the expected stores of the gallery."""
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
