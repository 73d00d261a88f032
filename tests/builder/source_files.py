"""Write small source files, and build stores from them."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pyarrow import ipc

from builder import Report, SourceError, build, tabular
from store_spec import Store, open_store

Content = str | bytes | NDArray[Any] | Mapping[str, Any]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": partial(pa.compress, codec="zstd", asbytes=True),
}


def write_files(folder: Path, contents: Mapping[str, Content]) -> Path:
    """Write files, each at its path below the folder, and return the folder."""
    for name, content in contents.items():
        write_file(folder / name, content)
    return folder


def write_file(path: Path, content: Any, *, row_group: int | None = None) -> Path:
    """Write a file, and return its path.

    Text is written in UTF-8, compressed if the suffix says so, and an array as NPY file; arrays by name as NPZ file or
    as the columns of a table. A table is written as the suffix says, with this number of rows in each row group.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_bytes(PACKERS.get(path.suffix, bytes)(content.encode()))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    elif path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **{key: np.asarray(value) for key, value in content.items()})
    else:
        _write_table(path, content if isinstance(content, pa.Table) else pa.table(dict(content)), row_group)
    return path


def _write_table(path: Path, table: pa.Table, row_group: int | None) -> None:
    if path.suffix in (".arrow", ".feather", ".ipc"):
        new = ipc.new_stream if path.suffix == ".ipc" else ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=row_group)
    else:
        pq.write_table(table, path, row_group_size=row_group)


@dataclass(frozen=True, slots=True)
class Built:
    """A build, and where its store is, if there is one."""

    report: Report
    path: Path

    @property
    def store(self) -> Store:
        return open_store(self.path)

    @property
    def reasons(self) -> list[str]:
        return [failure.reason for failure in self.report.failures]


def build_files(
    place: Path, contents: Mapping[str, Content], process: Any = None, store: str = "t.zarr", **options: Any
) -> Built:
    """Write files in the folder `src`, and build all that is there in this process, however many sources fail."""
    folder = write_files(place / "src", contents)
    given = {"workers": 0, "max_failures": 99} | options
    return Built(build(folder, place / store, process=process, **given), place / store)


def refusal(path: Path, **options: Any) -> str:
    """Return the reason for which a file is refused with these options of `tabular`."""
    with pytest.raises(SourceError) as caught:
        list(tabular(**options).sequences(path))
    return caught.value.reason
