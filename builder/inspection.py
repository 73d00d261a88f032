"""What a store is, from its metadata and tables alone: no row is read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.amounts import count_text
from builder.errors import UsageError
from builder.frames.counts import StoreCleaning, cleaning_of_store
from builder.length_bins import Lengths, describe_lengths
from builder.packing import codec_text
from builder.recorded_failures import failures_in
from builder.sequence_values import ColumnValues, Times, column_values, times_of
from builder.twins import Twins, twins_of
from store_spec import Store, StoreLocation, open_store
from store_spec.errors import WindowError
from store_spec.format.layout import ROOT
from store_spec.format.missing_runs import runs_of_sequences
from store_spec.format.moments import Moments
from store_spec.reading.splits import DEFAULT_SPLITS, are_pinned, split_of_each
from store_spec.schema import GROUPS, VERSION, ArrayFact, Rows, Schema
from store_spec.windows.mixing import Mixing, measure
from store_spec.windows.shape import Short, Target
from store_spec.windows.windows import Windows

TEXT_LENGTH_BYTES = 4  # that a string takes beside its characters


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySize:
    """One array: what it holds, and what that takes on disk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    axis: str  # the name of the first dimension
    codec: str
    decoded_bytes: int
    stored_bytes: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSize:
    """One of the default splits, by the hash of the sources' names, or of a column's values, with seed 0."""

    name: str
    share: float
    groups: int  # different sources, or values of that column
    sequences: int
    steps: int
    windows: int | None = None  # of those to shuffle; None: it was not asked for


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
class Shuffle:
    """What to shuffle: `store.windows(window, ...).batches(batch, shuffle=True, ...)` with these arguments.

    `target=None` is `"future"`, and where a sequence has one label `"sequence"`.
    """

    window: int
    stride: int = 1
    horizon: int = 1
    lead: int = 0
    sampling_rate: int = 1
    target: Target | None = None
    short: Short = "drop"
    batch: int = 256
    memory: int | str = "256MB"
    seed: int = 0
    epoch: int = 0

    @property
    def further(self) -> str:
        """Say which of the less usual arguments are given, as `", horizon 12"`."""
        given = {name: getattr(self, name) for name in ("horizon", "lead", "sampling_rate", "target", "short", "epoch")}
        defaults = {one.name: one.default for one in fields(self)}
        return "".join(
            f", {name.replace('_', ' ')} {value}" for name, value in given.items() if value != defaults[name]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """How well that mixes."""

    asked: Shuffle
    mixing: Mixing


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What `inspect` finds."""

    store: Any  # where it lies: a Path; of a store of zarr, a text with a name
    version: str
    identity: str
    sequences: int  # that readers see; so of all below but the sizes on disk
    retired: int  # sequences that are no more: their rows stay on disk
    sources: int
    steps: int
    label_steps: int
    inputs: dict[str, Any]  # dtype, shape, names
    labels: dict[str, Any]  # the same, and the classes of each target where any has some
    label_axis: str
    missing: str
    missing_inputs: int | None  # steps that miss a value of inputs; None: the store keeps no missing values
    missing_labels: int | None  # rows of labels that miss one
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
    time: Times | None  # None: the store keeps none
    columns: tuple[ColumnValues, ...]  # the further ones of sequences
    splits: tuple[SplitSize, ...]
    twins: Twins  # the same bytes on two sides of these
    statistics: tuple[ColumnStatistics, ...]
    cleaning: StoreCleaning | None  # None: the store does not count what was done to its rows
    build: dict[str, Any] | None  # the options of the build; None: no build made it
    failures: int  # sources that the last build could not use
    failures_listed: tuple[tuple[str, str], ...]  # (source, reason) of the first of them
    shuffle: Shuffled | None = None  # None: it was not asked for
    split_by: str | None = None  # the column of sequences that the splits are by; None: the sources' names
    pinned: bool = False  # whether that column has the names of the splits, and nothing is hashed

    def __repr__(self) -> str:
        rows = f"{self.sequences:,} sequences of {self.sources:,} sources, {self.steps:,} steps"
        disk = f"{self.stored_bytes:,} bytes in {self.files:,} files"
        return f"<inspection of {self.store.name}: {rows}, {disk}, {self.failures:,} failures>"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        listed = [{"source": source, "reason": reason} for source, reason in self.failures_listed]
        return asdict(self) | {"store": str(self.store), "failures_listed": listed}


def inspect(store: StoreLocation, *, shuffle: Shuffle | None = None, split_by: str | None = None) -> Inspection:
    """Say what a store is: schema, lengths, sizes, splits, statistics, how it was built, and what failed.

    Args:
        store: Its path, or a store of zarr.
        shuffle: Windows and batches; how well an epoch of them mixes is said too. None: nothing of it.
        split_by: A column of sequences: the splits are those of `store.split(..., by=split_by)`.

    Raises:
        UsageError: There are no such windows or batches of this store, or no such column.
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
    return inspection_of(open_store(store), shuffle, split_by)


def inspection_of(
    opened: Store,
    shuffle: Shuffle | None = None,
    split_by: str | None = None,
    *,
    numbers: NDArray[np.int64] | None = None,
) -> Inspection:
    """Say of a store that is open what `inspect` says.

    Args:
        opened: The store.
        shuffle: As `inspect` has it.
        split_by: As `inspect` has it.
        numbers: (sequences,), which split each is in; None: found out, which takes a hash of each name.
    """
    schema, counts = opened.schema, opened.counts
    numbers = split_numbers(opened, split_by) if numbers is None else numbers
    shuffled = None if shuffle is None else measured(opened, shuffle)  # first: it refuses what cannot be
    arrays = tuple(_array_size(opened, fact) for fact in schema.arrays())
    documents = _sizes(opened, [ROOT, *(f"{name}/{ROOT}" for name in GROUPS)])
    failures, listed = failures_in(opened.provenance)
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
        labels=labels_json(schema),
        label_axis=schema.label_axis,
        missing=schema.missing,
        missing_inputs=_rows_missing(opened, "inputs"),
        missing_labels=_rows_missing(opened, "labels"),
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
        time=times_of(opened),
        columns=tuple(column_values(one.name, one.dtype, opened.sequences[one.name]) for one in schema.columns),
        splits=_splits(opened, split_by, numbers, shuffle),
        twins=twins_of(opened, numbers),
        statistics=_statistics(opened),
        cleaning=cleaning_of_store(opened),
        build=build if isinstance(build, dict) else None,
        failures=failures,
        failures_listed=tuple((one.source, one.reason) for one in listed),
        shuffle=shuffled,
        split_by=split_by,
        pinned=split_by is not None and are_pinned(opened.grouped(split_by), DEFAULT_SPLITS),
    )


def _rows_missing(store: Store, array: str) -> int | None:
    """Count the rows of an array that miss a value, by the runs that the store keeps."""
    if store.schema.missing != "keep":
        return None
    starts, lengths = store.places(array)
    _, runs = runs_of_sequences(store.snapshot.missing(array), starts, starts + lengths)
    return int((runs[:, 1] - runs[:, 0]).sum())


def labels_json(schema: Schema) -> dict[str, Any]:
    """Return what a row of labels is: dtype, shape, names; and the classes of each target, where any has some."""
    classes = schema.labels.classes
    listed = None if classes is None else [None if names is None else list(names) for names in classes]
    return schema.labels.to_json() | ({} if listed is None else {"classes": listed})


def measured(store: Store, asked: Shuffle) -> Shuffled:
    """Measure how well such a shuffle mixes.

    Raises:
        UsageError: There are no such windows or batches of this store.
    """
    try:
        windows = _windows(store, asked)
        if len(store) and not len(windows):
            raise UsageError(
                f"{store.path}: windows of {asked.window:,} steps fit nowhere: the longest of "
                f"{count_text(len(store), 'sequence')} has {count_text(int(store.lengths.max()), 'step')}, which have "
                "to hold the label too; ask for fewer steps"
            )
        mixing = measure(windows, asked.batch, seed=asked.seed, epoch=asked.epoch, memory=asked.memory)
    except WindowError as error:
        raise UsageError(str(error)) from error
    return Shuffled(asked=asked, mixing=mixing)


def _windows(store: Store, asked: Shuffle) -> Windows:
    return store.windows(
        asked.window,
        stride=asked.stride,
        horizon=asked.horizon,
        lead=asked.lead,
        sampling_rate=asked.sampling_rate,
        target=asked.target or ("sequence" if store.schema.label_axis == "sequence" else "future"),
        short=asked.short,
    )


def _array_size(store: Store, fact: ArrayFact) -> ArraySize:
    schema = store.schema
    rows = store.snapshot.root.committed(fact.name)
    shape = (rows, *schema.shape(fact))
    if fact.dtype == "string":
        texts = store.snapshot.table(fact.name)  # those of retired sequences too
        decoded = sum(len(str(text).encode()) for text in texts) + TEXT_LENGTH_BYTES * rows
    else:
        decoded = math.prod(shape) * schema.dtype(fact).itemsize
    files = _sizes(store, [f"{fact.name}/{entry.name}" for entry in store.snapshot.storage.list(fact.name)])
    return ArraySize(
        name=fact.name,
        dtype=fact.dtype or schema.dtype(fact).name,
        shape=shape,
        axis=schema.axis(fact),
        codec=codec_text(schema.codec_of(fact)),
        decoded_bytes=decoded,
        stored_bytes=sum(files),
        files=len(files),
    )


def _sizes(store: Store, keys: list[str]) -> list[int]:
    """Return the bytes of each file that is there; those of a commit in progress can go at any moment."""
    return [size for key in keys if (size := store.snapshot.storage.size(key))]


def split_numbers(store: Store, by: str | None = None) -> NDArray[np.int64]:
    """Return (sequences,), which of the default splits each is in: as `store.split` has it, each name hashed once.

    Raises:
        UsageError: There is no such column to split by, or it has values that cannot be.
    """
    try:
        return split_of_each(store.grouped(by), DEFAULT_SPLITS, 0, sources=None if by is None else store.sources)
    except WindowError as error:
        raise UsageError(str(error)) from error


def _splits(store: Store, by: str | None, numbers: NDArray[np.int64], shuffle: Shuffle | None) -> tuple[SplitSize, ...]:
    names = np.array(store.grouped(by), object)
    sequences = np.bincount(numbers, minlength=len(DEFAULT_SPLITS))
    steps = np.array([store.lengths[numbers == number].sum() for number in range(len(DEFAULT_SPLITS))])
    return tuple(
        SplitSize(
            name=name,
            share=share,
            groups=len(set(names[numbers == number].tolist())),
            sequences=int(sequences[number]),
            steps=int(steps[number]),
            windows=None if shuffle is None else len(_windows(store.select(numbers == number), shuffle)),
        )
        for number, (name, share) in enumerate(DEFAULT_SPLITS.items())
    )


def _statistics(store: Store) -> tuple[ColumnStatistics, ...]:
    stats = store.stats()
    return (
        *column_statistics("inputs", store.schema.inputs, stats.inputs),
        *column_statistics("labels", store.schema.labels, stats.labels),
    )


def column_statistics(array: str, rows: Rows, moments: Moments) -> list[ColumnStatistics]:
    """Say what moments say of each feature of `inputs` or target of `labels`."""
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
