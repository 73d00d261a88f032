"""What a store is, from its metadata and tables alone: no row is read."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from builder.length_bins import Lengths, describe_lengths
from builder.packing import codec_text
from store_spec import Store, open_store
from store_spec.layout import ROOT
from store_spec.moments import Moments
from store_spec.schema import GROUPS, VERSION, ArrayFact, Rows
from store_spec.splits import DEFAULT_SPLITS, position

TEXT_LENGTH_BYTES = 4  # that a string takes beside its characters


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySize:
    """One array: what it holds, and what that takes on disk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    axis: str  # the name of the first dimension
    decoded_bytes: int
    stored_bytes: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSize:
    """One of the default splits, by the hash of the sources' names with seed 0."""

    name: str
    share: float
    sequences: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStatistics:
    """One feature or target over the whole store; None where there is no value (or no order, as of complex numbers)."""

    array: str  # inputs or labels
    column: int
    name: str | None
    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What `inspect` finds."""

    store: Path
    version: str
    identity: str
    sequences: int  # that readers see; so of all below but the sizes on disk
    retired: int  # sequences that are no more: their rows stay on disk
    sources: int
    steps: int
    label_steps: int
    inputs: dict[str, Any]  # dtype, shape, names
    labels: dict[str, Any]
    label_axis: str
    missing: str
    codec: str
    chunk_steps: int
    chunk_bytes: int  # decoded, of inputs
    shard_steps: int
    shard_bytes: int
    files: int
    stored_bytes: int
    decoded_bytes: int
    lengths: Lengths | None  # None: there is no sequence
    arrays: tuple[ArraySize, ...]
    splits: tuple[SplitSize, ...]
    statistics: tuple[ColumnStatistics, ...]
    build: dict[str, Any] | None  # the options of the build; None: no build made it
    failures: int  # sources that the last build could not use
    failures_listed: tuple[tuple[str, str], ...]  # (source, reason) of the first of them

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        listed = [{"source": source, "reason": reason} for source, reason in self.failures_listed]
        return asdict(self) | {"store": str(self.store), "failures_listed": listed}


def inspect(store: str | PathLike[str]) -> Inspection:
    """Say what a store is: schema, lengths, sizes, splits, statistics, how it was built, and what failed.

    Raises:
        MissingStoreError: There is no store at that path.
        FormatError: What is there is not a store that this version may read.

    >>> import tempfile, numpy as np, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((5, 2), "float32"), np.zeros((5, 1), "float32"), source="walk-0")
    >>> found = inspect(path)
    >>> found.sequences, found.steps, found.statistics[0].mean
    (1, 5, 1.0)
    """
    opened = open_store(store)
    schema, counts = opened.schema, opened.counts
    arrays = tuple(_array_size(opened, fact) for fact in schema.arrays())
    documents = _sizes([opened.path / ROOT, *(opened.path / name / ROOT for name in GROUPS)])
    failures, listed = _failures(opened.provenance.get("failures"))
    build = opened.provenance.get("build")
    return Inspection(
        store=opened.path,
        version=".".join(map(str, VERSION)),
        identity=opened.identity,
        sequences=len(opened),
        retired=counts.sequences - len(opened),
        sources=len(set(opened.sources)),
        steps=int(opened.lengths.sum()),
        label_steps=int(opened.label_lengths.sum()) if schema.label_axis == "own" else 0,
        inputs=schema.inputs.to_json(),
        labels=schema.labels.to_json(),
        label_axis=schema.label_axis,
        missing=schema.missing,
        codec=codec_text(schema.codec),
        chunk_steps=schema.steps.chunk,
        chunk_bytes=schema.steps.chunk * schema.inputs.nbytes,
        shard_steps=schema.steps.shard,
        shard_bytes=schema.steps.shard * schema.inputs.nbytes,
        files=sum(array.files for array in arrays) + len(documents),
        stored_bytes=sum(array.stored_bytes for array in arrays) + sum(documents),
        decoded_bytes=sum(array.decoded_bytes for array in arrays),
        lengths=describe_lengths(opened.lengths) if len(opened) else None,
        arrays=arrays,
        splits=_splits(opened),
        statistics=_statistics(opened),
        build=build if isinstance(build, dict) else None,
        failures=failures,
        failures_listed=listed,
    )


def _array_size(store: Store, fact: ArrayFact) -> ArraySize:
    schema = store.schema
    rows = store.counts.of(schema.axis(fact))
    shape = (rows, *schema.shape(fact))
    if fact.dtype == "string":
        decoded = sum(len(source.encode()) for source in store.sources) + TEXT_LENGTH_BYTES * rows
    else:
        decoded = math.prod(shape) * schema.dtype(fact).itemsize
    files = _sizes([Path(entry) for entry in store.snapshot.storage.list(fact.name)])
    return ArraySize(
        name=fact.name,
        dtype=fact.dtype or schema.dtype(fact).name,
        shape=shape,
        axis=schema.axis(fact),
        decoded_bytes=decoded,
        stored_bytes=sum(files),
        files=len(files),
    )


def _sizes(paths: list[Path]) -> list[int]:
    """Return the bytes of each file; those of a commit in progress can go at any moment."""
    sizes = []
    for path in paths:
        with suppress(FileNotFoundError):
            sizes.append(path.lstat().st_size)
    return sizes


def _splits(store: Store) -> tuple[SplitSize, ...]:
    """Return the default splits: as `store.split` deals the sources, but each name is hashed once."""
    where = {source: position(source, 0) for source in dict.fromkeys(store.sources)}
    at = np.array([where[source] for source in store.sources])
    inner = np.cumsum(list(DEFAULT_SPLITS.values()))[:-1]
    numbers = np.searchsorted(inner, at, side="right")
    sequences = np.bincount(numbers, minlength=len(DEFAULT_SPLITS))
    steps = np.array([store.lengths[numbers == number].sum() for number in range(len(DEFAULT_SPLITS))])
    return tuple(
        SplitSize(name=name, share=share, sequences=int(sequences[number]), steps=int(steps[number]))
        for number, (name, share) in enumerate(DEFAULT_SPLITS.items())
    )


def _statistics(store: Store) -> tuple[ColumnStatistics, ...]:
    stats = store.stats()
    return (
        *_column_statistics("inputs", store.schema.inputs, stats.inputs),
        *_column_statistics("labels", store.schema.labels, stats.labels),
    )


def _column_statistics(array: str, rows: Rows, moments: Moments) -> list[ColumnStatistics]:
    names = rows.names or (None,) * rows.features
    columns = zip(names, moments.count, moments.mean, moments.std, moments.min, moments.max, strict=True)
    return [
        ColumnStatistics(
            array=array,
            column=number,
            name=name,
            count=int(count),
            mean=_finite(mean),
            std=_finite(std),
            min=_finite(low),
            max=_finite(high),
        )
        for number, (name, count, mean, std, low, high) in enumerate(columns)
    ]


def _finite(value: float) -> float | None:
    """Return a number that JSON has: it knows no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def _failures(recorded: Any) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Read what a build wrote down of its failures; a stranger's store may hold anything there."""
    if not isinstance(recorded, dict):
        return 0, ()
    count, listed = recorded.get("count"), recorded.get("listed")
    pairs = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return (
        count if isinstance(count, int) else len(pairs),
        tuple((str(one.get("source")), str(one.get("reason"))) for one in pairs),
    )
