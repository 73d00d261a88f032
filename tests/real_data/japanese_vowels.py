"""Japanese vowels: the speaker is a class in the name of each file, and a number in a table."""

from pathlib import Path

import numpy as np

from tests.real_data.plain import Expected, Plain, class_codes, csv_rows, files_below, floats


def expected(folder: Path) -> dict[str, Expected]:
    """Return the expected store of the gallery."""
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
