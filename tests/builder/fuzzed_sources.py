"""Valid files of every source format, damaged at random: each is refused with a reason, or read as an oracle reads it.

`fuzz` runs any number of examples, for the tests and for campaigns.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from builder import SourceError, tabular
from tests.builder.broken_sources import arrow_bytes, npy_bytes, npz_bytes, parquet_bytes, zstd

# The end of such a file shows that it is complete.
ENDS: frozenset[str] = frozenset({"csv.gz", "csv.zst", "csv.bz2", "csv.xz", "parquet", "arrow", "ipc", "npy", "npz"})
# For many examples, each run once.
CAMPAIGN = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@dataclass(slots=True)
class Outcomes:
    """The numbers of damaged files that were read, and that were refused."""

    read: int = 0
    refused: int = 0


def valid_files() -> dict[str, list[bytes]]:
    """Return valid files of each format, by suffix; none of HDF5, whose library can loop endlessly on a damaged one."""
    values = np.array([[1.5, -2.0], [3e-7, 4.0], [0.0, 1e300]])
    text = b"a,b\n1.5,-2\n3e-7,4\n0,1e300\n"
    quoted = b'\xef\xbb\xbf"a","b c"\r\n"1",true\r\n"-2.5",false\r\n'
    table = pa.table({"a": values[:, 0], "b": values[:, 1]})
    others = pa.table(
        {
            "i": pa.array([1, 2, 3], pa.int16()),
            "e": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
            "d": pa.array([7, 7, 8]).dictionary_encode(),
            "t": pa.array([True, False, True]),
        }
    )
    tables = [table, others]
    arrays = [
        values,
        np.arange(5, dtype=">i4"),
        np.asfortranarray(np.ones((2, 3, 2), np.float16)),
        np.array([[True, False]]),
    ]
    return {
        "csv": [text, quoted],
        "tsv": [text.replace(b",", b"\t")],
        "csv.gz": [gzip.compress(text, mtime=0), gzip.compress(text + b"5,6\n" * 9, mtime=0)],
        "csv.zst": [zstd(text), zstd(text + b"5,6\n" * 9)],
        "csv.bz2": [bz2.compress(text)],
        "csv.xz": [lzma.compress(text)],
        "jsonl": [
            b'{"a": 1.5, "b": -2}\n{"a": 3e-7, "b": 4}\n\n{"b": 1e300, "a": 0}\n',
            b'{"e": [1, 2]}\n{"e": [3, 4]}',
        ],
        "txt": [b"1.5 -2\n 3e-7\t4 \n\n0  1e300", b"1\n2\n3\n"],
        "parquet": list(map(parquet_bytes, tables)),
        "arrow": [*map(arrow_bytes, tables), arrow_bytes(others, compression="zstd")],
        "ipc": [arrow_bytes(one, stream=True, compression=packed) for one in tables for packed in (None, "lz4")],
        "npy": list(map(npy_bytes, arrays)),
        "npz": [
            npz_bytes({"inputs": npy_bytes(array), "labels": npy_bytes(array)}, compression)
            for array in arrays[:2]
            for compression in (0, 8)
        ],
    }


FORMATS = tuple(valid_files())


def fuzz(format: str, examples: int, seed: int) -> Outcomes:  # noqa: A002 - what builds call it
    """Damage files of a format, and check the result of reading each.

    Args:
        format: One of FORMATS.
        examples: The number of files.
        seed: Determines the damage.

    Raises:
        Exception: An example, made as small as possible, was read wrong, or raised another error than SourceError or
            MemoryError.
    """
    outcomes = Outcomes()
    valid = valid_files()[format]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x.{format}")

        @hypothesis.seed(seed)
        @settings(CAMPAIGN, max_examples=examples, phases=[Phase.generate, Phase.shrink])
        @given(whole=st.sampled_from(valid), damages=st.lists(damage(), min_size=1, max_size=3))
        def one(whole: bytes, damages: list[Callable[[bytes], bytes]]) -> None:
            data = whole
            for damaged in damages:
                data = damaged(data)
            path.write_bytes(data)
            rows = read(path)
            if rows is None:
                outcomes.refused += 1
                return
            outcomes.read += 1
            cut = format in ENDS and any(other != data and other.startswith(data) for other in valid)
            assert not cut, f"a file cut at byte {len(data)} was read: {rows!r}"
            check(format, data, rows)

        one()
    return outcomes


def read(path: Path) -> NDArray[Any] | None:
    """Return the rows of a file; None if it was refused."""
    try:
        rows, _ = tabular().under(path.parent)(path)
    except SourceError as error:
        assert str(error).startswith(f"{path.name}: ")  # noqa: PT017 - it may also not be raised
        assert len(error.reason) > 8  # noqa: PT017
        assert str(path.parent) not in str(error)  # noqa: PT017
        return None
    except MemoryError:  # a build regards it as a fault of the source
        return None
    assert rows.dtype.kind in "biuf"
    assert rows.ndim >= 2
    return np.asarray(rows)


def check(format: str, data: bytes, rows: NDArray[Any]) -> None:  # noqa: A002
    """Compare rows with what other readers make of a file."""
    expected = expected_rows(format, data)
    if expected is not None:
        native = expected.astype(expected.dtype.newbyteorder("="))
        assert (rows.dtype, rows.shape) == (native.dtype, native.shape)
        assert rows.tobytes() == native.tobytes()


def expected_rows(format: str, data: bytes) -> NDArray[Any] | None:  # noqa: A002
    """Read with NumPy and plain Python; None for formats that only pyarrow reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format == "npy":
            return column(np.load(io.BytesIO(data), allow_pickle=False))
        if format == "npz":
            # NumPy determines the format by the first bytes, but an archive may have other bytes before it.
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return column(np.load(io.BytesIO(archive.read("inputs.npy")), allow_pickle=False))
    if format == "jsonl":
        return json_rows(data)
    if format == "csv.gz":
        return text_rows(gzip.decompress(data), ",")
    if format in {"csv", "tsv", "txt"}:
        return text_rows(data, {"csv": ",", "tsv": "\t", "txt": None}[format])
    return None


def column(array: NDArray[Any]) -> NDArray[Any]:
    return array[:, None] if array.ndim == 1 else array


def text_rows(data: bytes, delimiter: str | None) -> NDArray[np.float64]:
    """Read text line by line."""
    words = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
    text = data.decode("utf-8-sig", "replace")
    if delimiter is None:
        text = re.sub(r"^ |(?<=[\r\n]) | (?=[\r\n]|$)", "", re.sub(r"[ \t]+", " ", text))
    fields = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or " ")
    rows = [row for row in fields if len(row) > 1 or any(map(str.strip, row))]
    names, rows = (rows[0], rows[1:]) if delimiter is not None else (rows[0], rows)
    if rows:  # pyarrow, which reads the rows, skips a byte-order mark there
        rows[0][0] = rows[0][0].removeprefix("\ufeff")
    values = [[one.strip(" \t\r\n\u00a0") for one in row] for row in rows]
    table = [[words[one] if one in words else float(one) for one in row] for row in values]
    return np.array(table, np.float64).reshape(len(rows), len(names))


def json_rows(data: bytes) -> NDArray[np.float64] | None:
    """Read JSON line by line, if it holds only numbers."""
    try:
        rows = [json.loads(line) for line in data.splitlines() if line.strip()]
    except ValueError:  # for example, two objects in a line, which pyarrow reads
        return None
    names = [*dict.fromkeys(name for row in rows for name in row)]
    lists = [[row[name] if isinstance(row[name], list) else [row[name]] for name in names] for row in rows]
    table = [[one for values in row for one in values] for row in lists]
    return np.array(table, np.float64) if all(type(one) in (int, float) for row in table for one in row) else None


def damage() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Draw a damage: flip a bit, remove, insert or repeat a part, or cut off the end."""
    place = st.integers(0, 4095)
    odd = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from([b"\0" * 8, b"\xff" * 8, b'"', b",", b"\n", b"\r", b"9" * 30, b"inf", b"1,5", b"\xef\xbb\xbf"]),
    )
    return st.one_of(
        st.builds(lambda at, bit: lambda data: flipped(data, at, bit), place, st.integers(0, 7)),
        st.builds(lambda at, length: lambda data: spliced(data, at, length, b""), place, st.integers(1, 16)),
        st.builds(lambda at: lambda data: data[: at % max(1, len(data))], place),
        st.builds(lambda at, new: lambda data: spliced(data, at, 0, new), place, odd),
        st.builds(lambda at, new: lambda data: spliced(data, at, len(new), new), place, odd),
        st.builds(
            lambda at, first, size: lambda data: spliced(data, at, 0, data[first % max(1, len(data)) :][:size]),
            place,
            place,
            st.integers(1, 64),
        ),
    )


def flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[at % len(data)] ^= 1 << bit
    return bytes(changed)


def spliced(data: bytes, at: int, length: int, new: bytes) -> bytes:
    """Return data with new bytes in place of `length` others."""
    start = at % (len(data) + 1)
    return data[:start] + new + data[start + length :]
