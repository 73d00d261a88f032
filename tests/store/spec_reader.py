"""A reader written from SPEC.md alone, with JSON, Blosc, crc32c and NumPy, without store_spec. It trusts the store."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc

ABSENT = 2**64 - 1


class SpecReader:
    """One snapshot of a store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = (path / "zarr.json").read_bytes()
        document = json.loads(self.data)
        self.said = document["attributes"]["seqzarr"][0]
        self.arrays: dict[str, Any] = document["consolidated_metadata"]["metadata"]
        assert self.said["version"].split(".")[0] == "1"
        assert self.digest() == self.said["digest"]

    def digest(self) -> str:
        mark = b'"digest": "%s"' % self.said["digest"].encode()
        assert self.data.count(mark) == 1
        return hashlib.sha256(self.data.replace(mark, b'"digest": "%s"' % (b"0" * 64))).hexdigest()

    def chunk(self, stored: bytes, codecs: list[Any]) -> bytes:
        names = [codec["name"] for codec in codecs]
        body, crc = stored[:-4], int.from_bytes(stored[-4:], "little")
        assert names[-1] == "crc32c"
        assert google_crc32c.value(body) == crc
        return bytes(blosc.decompress(body)) if "blosc" in names else body

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the decoded chunks that hold committed rows."""
        array = self.arrays[name]
        (rows, *row), (size, *_) = array["shape"], array["chunk_grid"]["configuration"]["chunk_shape"]
        for number in range(-(-rows // size)):
            stored = (self.path / name / ("c." + ".".join(map(str, [number] + [0] * len(row))))).read_bytes()
            codec = array["codecs"][0]
            if codec["name"] != "sharding_indexed":
                yield self.chunk(stored, array["codecs"])
                continue
            inner = codec["configuration"]["chunk_shape"][0]
            index = stored[-(16 * (size // inner) + 4) :]
            assert google_crc32c.value(index[:-4]) == int.from_bytes(index[-4:], "little")
            stamp = stored[-len(index) - 36 : -len(index)]
            assert google_crc32c.value(stamp[:32]) == int.from_bytes(stamp[32:], "little")
            assert (stamp[:16].rstrip(b"\0").decode(), int.from_bytes(stamp[16:24], "little")) == (name, number)
            assert int.from_bytes(stamp[24:32], "little") >= min(rows - number * size, size)
            for offset, length in np.frombuffer(index[:-4], "<u8").reshape(-1, 2).tolist():
                if offset != ABSENT:
                    yield self.chunk(stored[offset : offset + length], codec["configuration"]["codecs"])

    def rows(self, name: str) -> np.ndarray[Any, Any]:
        array = self.arrays[name]
        dtype = np.dtype(array["data_type"]).newbyteorder("<")
        decoded = np.frombuffer(b"".join(self.chunks(name)), dtype)
        return decoded.reshape(-1, *array["shape"][1:])[: array["shape"][0]]

    def strings(self, name: str) -> list[str]:
        found = []
        for data in self.chunks(name):
            at = 4
            for _ in range(int.from_bytes(data[:4], "little")):
                start = at + 4
                at = start + int.from_bytes(data[at:start], "little")
                found.append(data[start:at].decode())
        return found[: self.arrays[name]["shape"][0]]

    def sequences(self, *, every: bool = False) -> Iterator[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        """Yield the sequences in order, without retired ones unless they are requested."""
        gone = {number for start, stop in self.said["retired"] for number in range(start, stop)}
        inputs, labels, bounds = self.rows("inputs"), self.rows("labels"), self.rows("offsets")
        label_bounds = {
            "step": lambda: bounds,
            "sequence": lambda: np.arange(len(bounds)),
            "own": lambda: self.rows("label_offsets"),
        }[self.said["labels"]["axis"]]()
        for number, source in enumerate(self.strings("sequences/source")):
            if number in gone and not every:
                continue
            start, stop = bounds[number : number + 2]
            label_start, label_stop = label_bounds[number : number + 2]
            yield source, inputs[start:stop], labels[label_start:label_stop]

    def times(self, number: int) -> np.ndarray[Any, Any]:
        """Return the times of a sequence; retired ones are counted."""
        start, stop = self.rows("offsets")[number : number + 2]
        return self.rows("time")[start:stop]

    def column(self, name: str) -> list[Any]:
        """Return a further column."""
        dtype = next(column["dtype"] for column in self.said["columns"] if column["name"] == name)
        key = f"sequences/{name}"
        return self.strings(key) if dtype == "string" else list(self.rows(key).tolist())

    def column_bytes(self, name: str) -> list[bytes]:
        """Return each value of a further column as the identity hashes it."""
        if self.arrays[f"sequences/{name}"]["data_type"] == "string":
            encoded = [text.encode() for text in self.column(name)]
            return [len(data).to_bytes(4, "little") + data for data in encoded]
        return [value.tobytes() for value in self.rows(f"sequences/{name}")]

    def identity(self) -> str:
        value = bytes(32)
        parts, sizes = self.rows("sequences/part"), self.rows("row_size")
        file_sizes, hashes = self.rows("sequences/source_size"), self.rows("sequences/source_sha256")
        own = self.rows("label_row_size") if self.said["labels"]["axis"] == "own" else np.zeros_like(sizes)
        kept = [self.column_bytes(column["name"]) for column in self.said["columns"]]
        for number, (source, inputs, labels) in enumerate(self.sequences(every=True)):
            crcs = [google_crc32c.value(np.ascontiguousarray(rows).tobytes()) for rows in (inputs, labels)]
            file = f"{file_sizes[number]} {hashes[number].tobytes().hex()}"
            lengths = f"{sizes[number]} {own[number]}"
            line = f"{source}\n{parts[number]} {file} {lengths} {crcs[0]:08x} {crcs[1]:08x}"
            if self.said["time"] is not None:
                line += f" {google_crc32c.value(self.times(number).tobytes()):08x}"
            if self.said.get("filled"):
                start, stop = self.rows("offsets")[number : number + 2]
                line += f" {google_crc32c.value(np.ascontiguousarray(self.rows('filled')[start:stop]).tobytes()):08x}"
            if kept:
                line += f" {google_crc32c.value(b''.join(column[number] for column in kept)):08x}"
            value = hashlib.sha256(value + line.encode()).digest()
        return value.hex()
