"""How many files and bytes a store takes on disk."""

import math
from dataclasses import dataclass

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import in_order
from store_spec.format.layout import ROOT, Counts, Root
from store_spec.schema import GROUPS, ArrayFact, Schema

TEXT_LENGTH_BYTES = 4  # before the characters of each string


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySize:
    """One array: what it contains, and how much space it takes.

    Args:
        name: Such as `inputs` or `sequences/part`.
        dtype: Of its values.
        shape: Including the rows of retired sequences.
        axis: The name of the first dimension.
        codec: How its chunks are compressed, such as `lz4:9`.
        decoded_bytes: In memory.
        stored_bytes: On disk.
        files: How many files it has.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    axis: str
    codec: str
    decoded_bytes: int
    stored_bytes: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsage:
    """The files of a store: of its arrays, of the root and of the groups."""

    arrays: tuple[ArraySize, ...]
    files: int
    stored_bytes: int


def disk_usage(snapshot: Snapshot) -> DiskUsage:
    """Return the size of each array and of the whole store."""
    facts = snapshot.root.schema.arrays()
    files: dict[str, list[int]] = {fact.name: [] for fact in facts}
    for key, size in snapshot.file_sizes(files).items():
        files[key.rpartition("/")[0]].append(size)
    arrays = tuple(_array_size(snapshot, fact, files[fact.name]) for fact in facts)
    keys = (ROOT, *(f"{name}/{ROOT}" for name in GROUPS))
    documents = [size for size in in_order(snapshot.storage, snapshot.storage.size, keys) if size]
    return DiskUsage(
        arrays=arrays,
        files=len(documents) + sum(array.files for array in arrays),
        stored_bytes=sum(documents) + sum(array.stored_bytes for array in arrays),
    )


def count_files(schema: Schema, *, sequences: int, steps: int, label_steps: int) -> int:
    """Return how many files a store of this schema has."""
    root = Root(schema=schema, counts=Counts(sequences=sequences, steps=steps, label_steps=label_steps))
    return 1 + len(GROUPS) + sum(1 + root.files(fact.name) for fact in schema.arrays())


def _array_size(snapshot: Snapshot, fact: ArrayFact, files: list[int]) -> ArraySize:
    """Return the size of an array from the sizes of its files."""
    schema, rows = snapshot.root.schema, snapshot.root.committed(fact.name)
    shape = (rows, *schema.shape(fact))
    if fact.dtype == "string":
        decoded = sum(len(str(text).encode()) for text in snapshot.table(fact.name)) + TEXT_LENGTH_BYTES * rows
    else:
        decoded = math.prod(shape) * schema.dtype(fact).itemsize
    return ArraySize(
        name=fact.name,
        dtype=fact.dtype or schema.dtype(fact).name,
        shape=shape,
        axis=schema.axis(fact),
        codec=str(schema.codec_of(fact)),
        decoded_bytes=decoded,
        stored_bytes=sum(files),
        files=len(files),
    )
