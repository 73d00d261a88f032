"""Write, verify and read ragged stores: as windows, padded sequences, streams and batches of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike

from store_spec.disk.ledger import Ledger
from store_spec.disk.places import StoreLocation
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import storage_of
from store_spec.disk.writer import Writer
from store_spec.errors import (
    DAMAGE,
    ChecksumError,
    ConflictError,
    FormatError,
    LockedError,
    MissingStoreError,
    SchemaError,
    SequenceError,
    SequenceIndexError,
    StateError,
    StorageError,
    StoreError,
    StoreExistsError,
    UnreadableError,
    VersionError,
    WindowError,
)
from store_spec.format.codec import Codec
from store_spec.format.moments import Moments
from store_spec.format.names import Classes, checked_classes
from store_spec.format.sequence_columns import ColumnType, SequenceColumn, as_columns
from store_spec.format.times import Time
from store_spec.reading.argument_checks import parse_bytes
from store_spec.reading.disk_usage import ArraySize
from store_spec.reading.named_batch import Batch
from store_spec.reading.splits import DEFAULT_SPLITS
from store_spec.schema import VERSION, Chunking, LabelAxis, Missing, Rows, Schema
from store_spec.store import Store
from store_spec.verification.problems import Problem
from store_spec.verification.verify import verify
from store_spec.windows.mixing import Mixing
from store_spec.windows.shape import Short, Target
from store_spec.windows.windows import Windows

__all__ = [
    "DAMAGE",
    "DEFAULT_SPLITS",
    "VERSION",
    "ArraySize",
    "Batch",
    "ChecksumError",
    "Chunking",
    "Classes",
    "Codec",
    "ColumnType",
    "ConflictError",
    "FormatError",
    "LabelAxis",
    "LockedError",
    "Missing",
    "MissingStoreError",
    "Mixing",
    "Moments",
    "Problem",
    "Rows",
    "Schema",
    "SchemaError",
    "SequenceColumn",
    "SequenceError",
    "SequenceIndexError",
    "Short",
    "StateError",
    "StorageError",
    "Store",
    "StoreError",
    "StoreExistsError",
    "StoreLocation",
    "Target",
    "Time",
    "UnreadableError",
    "VersionError",
    "WindowError",
    "Windows",
    "Writer",
    "create_store",
    "open_store",
    "parse_bytes",
    "verify",
]


def create_store(
    path: StoreLocation,
    *,
    inputs: Rows | tuple[DTypeLike, tuple[int, ...]],
    labels: Rows | tuple[DTypeLike, tuple[int, ...]],
    label_axis: LabelAxis = "step",
    missing: Missing = "error",
    chunk: int | str | None = None,
    shard: int | str | None = None,
    codec: str = "lz4",
    columns: Mapping[str, ColumnType] | None = None,
    time: Time | DTypeLike | None = None,
    classes: Sequence[Sequence[str] | None] | None = None,
    filled: bool = False,
    provenance: dict[str, Any] | None = None,
) -> Writer:
    """Start a new store and return its writer. In a folder the store appears with the first commit.

    Args:
        path: A folder that does not exist yet; or the URL of an object store as a str (`s3://`, `gs://`, `az://`,
            `memory://`), or an `ObjectStore` of zarr. There an empty store appears at once.
        inputs: What one row is: `("float32", (17,))`, or `Rows` with names for the features.
        labels: The same for one row of labels.
        label_axis: `step`: one label row for each input row. `sequence`: one label row for the whole sequence.
            `own`: label sequences with their own lengths.
        missing: `error` refuses NaN, `keep` lets it stand for missing values. Infinities are always refused.
        chunk: Decoded bytes that are compressed and read together, such as `"1MB"`; by default 256 KiB.
        shard: Decoded bytes in one file; by default 64 MiB.
        codec: `lz4`, which is read two to three times as fast, or `zstd`, which is smaller, with a level as in
            `zstd:5`; or `none`.
        columns: Further columns of each sequence, by name and type: `string`, `int64`, `float64` or `bool`, as in
            `{"site": "string", "age": "float64"}`.
        time: Store the time of each step, in this unit: `"s"`, `"ms"`, `"us"` or `"ns"` for dates, a dtype such as
            `"timedelta64[ms]"` for elapsed time, or a `Time`, which can have a zone. None: no times.
        classes: Names for the integers of labels: for each target a list, whose item k is the name of the integer k, or
            None; as in `[["cat", "dog"]]`. `writer.extend_classes` adds more.
        filled: Record which values of inputs were filled in, for `value_mask=True` when reading.
        provenance: Any JSON object to store about where the data come from.

    Raises:
        StoreExistsError: Something is at that path already.
        SchemaError: Such a store is impossible, or none can be written at that URL.
        LockedError: Another writer is creating the store.
        StorageError: A server or a disk reported an error, or the server ignores the conditions of puts.

    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with create_store(path, inputs=("float32", (2,)), labels=("int64", ()), label_axis="sequence") as writer:
    ...     writer.append(np.ones((5, 2), "float32"), 3, source="walk-0")
    >>> len(open_store(path))
    1
    """
    label_rows = _rows("labels", labels)
    if classes is not None:
        label_rows = replace(label_rows, classes=checked_classes(classes, label_rows.dtype, label_rows.features))
    schema = Schema.plan(
        _rows("inputs", inputs),
        label_rows,
        label_axis=label_axis,
        missing=missing,
        codec=Codec.parse(codec),
        chunk_bytes=None if chunk is None else parse_bytes(chunk),
        shard_bytes=None if shard is None else parse_bytes(shard),
        columns=as_columns({} if columns is None else columns),
        time=None if time is None else Time.of(time),
        filled=filled,
    )
    return Writer.of(Ledger.create(path, schema, provenance))


@overload
def open_store(
    path: StoreLocation,
    mode: Literal["r"] = "r",
    *,
    cache: str | PathLike[str] | None = None,
    cache_size: int | str = "10GB",
) -> Store: ...
@overload
def open_store(path: StoreLocation, mode: Literal["a"]) -> Writer: ...
def open_store(
    path: StoreLocation,
    mode: Literal["r", "a"] = "r",
    *,
    cache: str | PathLike[str] | None = None,
    cache_size: int | str = "10GB",
) -> Store | Writer:
    """Open a store, to read its present state (`r`), or to append to it (`a`), which returns a writer.

    Opening reads one document and the lengths, but no rows. The folder of a store, and up to 32 files after they were
    read, stay open until the store object is deleted.

    Args:
        path: The path of the store; or its URL as a str (`s3://`, `gs://`, `az://`, `https://`, `file://`, or
            `memory://` for objects of this process); or a zarr store: a `MemoryStore`, `ZipStore`, `FsspecStore`,
            `ObjectStore` or any other one. A `LocalStore` is used like its path. Stores at `https://`, and in zarr
            stores other than `ObjectStore`, can only be read.
        mode: `r` or `a`.
        cache: A local folder for the bytes of shards that were read from a URL. The processes of a machine share it,
            and it can serve several stores. `store.cache_use` says what was read through it. It is not used for
            `file://` and `memory://`.
        cache_size: The most that it may contain, such as `"50GB"`.

    Raises:
        MissingStoreError: There is no store at that path.
        FormatError: What is there is not a store that this version can read.
        SchemaError: The URL is not one of a store, there is no such mode, or `cache_size` is not a size.
        StorageError: A server or a disk reported an error.
        LockedError: Another writer has the store open (mode `a`, in a folder). On an object store the later writer
            continues, and the commit of the earlier one raises ConflictError.
    """
    if mode == "r":
        size = parse_bytes(cache_size)
        if size < 0:
            raise SchemaError(f"cache_size is {cache_size!r}; it must be at least 0")
        cached = None if cache is None else (Path(cache), size)
        return Store(Snapshot.of(storage_of(path, cached)))
    if mode != "a":
        raise SchemaError(f"mode {mode!r} is not 'r' or 'a'")
    return Writer.of(Ledger.open(path))


def _rows(name: str, rows: Rows | tuple[DTypeLike, tuple[int, ...]]) -> Rows:
    if isinstance(rows, Rows):
        return rows
    try:
        dtype, shape = rows
        return Rows(np.dtype(dtype), shape)
    except SchemaError:
        raise
    except (TypeError, ValueError) as error:
        raise SchemaError(
            f"{name}={rows!r:.200} does not describe a row; give for example ('float32', (17,))"
        ) from error
