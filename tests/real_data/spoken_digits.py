"""Spoken digits: WAV files, parsed without the module `wave`, which the function of the gallery uses."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.real_data.plain import Expected, Plain, files_below


def expected(folder: Path) -> dict[str, Expected]:
    """Return the expected store of the gallery."""
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
