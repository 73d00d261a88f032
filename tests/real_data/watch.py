"""Exercises recorded by a watch: labels are classes by name, from a table with a row for each recording."""

from pathlib import Path

import numpy as np

from tests.real_data.plain import Expected, Plain, class_codes, csv_rows, files_below


def expected(folder: Path) -> dict[str, Expected]:
    """Return the expected store of the gallery."""
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
