"""Describe a store in one document, from its metadata and tables, and on request from some rows."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from builder.amounts import count_text, percent_text, short_name
from builder.inspection.features import ColumnStatistics, column_statistics
from builder.inspection.sampling import RowSample, row_sample
from builder.inspection.shuffle import Shuffle, ShuffleMixing, measure_shuffle, windows_of
from builder.inspection.split_sizes import Duplicates, SplitSize, duplicates_across_splits, split_numbers, split_sizes
from builder.inspection.values import (
    ColumnValues,
    Lengths,
    StoreCleaning,
    TimeRange,
    cleaning_of_store,
    describe_column,
    describe_lengths,
    describe_times,
)
from builder.planning.provenance import LISTED_FAILURES, RecordedSkips, failures_in
from store_spec import DEFAULT_SPLITS, VERSION, ArraySize, Schema, StoreLocation, open_store

NAMED = 5  # names in a note
MOSTLY_MISSING = 0.5  # a note names columns with a larger share of missing values


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The result of `inspect`. Its JSON has the same keys."""

    store: Any  # its location: a Path, or text for other stores of zarr
    version: str
    identity: str
    sequences: int  # without retired ones, like all of the following but the sizes on disk
    retired: int  # sequences that readers skip; their rows stay on disk
    sources: int
    steps: int
    label_steps: int
    inputs: dict[str, Any]  # dtype, shape, names
    labels: dict[str, Any]  # the same, and the classes of each target if any has some
    label_axis: str
    has_labels: bool
    labels_are_inputs: bool
    missing: str
    missing_inputs: int | None  # steps that miss a value of inputs; None: the store keeps no missing values
    missing_labels: int | None  # rows of labels that miss a value
    codec: str
    chunk_steps: int
    chunk_bytes: int  # decoded, of inputs
    shard_steps: int
    shard_bytes: int
    files: int
    stored_bytes: int
    decoded_bytes: int
    lengths: Lengths | None  # None: the store has no sequences
    arrays: tuple[ArraySize, ...]
    time: TimeRange | None  # None: the store has no times
    columns: tuple[ColumnValues, ...]  # further columns of sequences
    split_by: str | None  # the column of sequences that determines the splits; None: the sources' names
    pinned: bool  # whether that column has the names of the splits, and nothing is hashed
    splits: tuple[SplitSize, ...]
    duplicates: Duplicates
    statistics: tuple[ColumnStatistics, ...]
    cleaning: StoreCleaning | None  # None: the store has no counts of dropped steps and filled values
    build: dict[str, Any] | None  # the options of the build; None: no build made it
    failures: int  # sources that the last build could not use
    failures_listed: tuple[tuple[str, str], ...]  # the first failures: (source, reason)
    skipped: int  # empty sources
    skipped_listed: tuple[str, ...]  # the first skipped sources
    shuffle: ShuffleMixing | None  # None: nothing was measured
    rows: RowSample | None  # None: no row was read

    def __repr__(self) -> str:
        rows = f"{self.sequences:,} sequences of {self.sources:,} sources, {self.steps:,} steps"
        disk = f"{self.stored_bytes:,} bytes in {self.files:,} files"
        return f"<inspection of {self.store.name}: {rows}, {disk}, {self.failures:,} failures>"

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        failures = [{"source": source, "reason": reason} for source, reason in self.failures_listed]
        return asdict(self) | {"store": str(self.store), "failures_listed": failures}


def inspect(
    store: StoreLocation, *, shuffle: Shuffle | None = None, split_by: str | None = None, rows: bool = False
) -> Inspection:
    """Describe a store: schema, lengths, sizes, splits, statistics, build options, and failures.

    Args:
        store: Its path, its URL as a str, or a zarr store.
        shuffle: Windows and batches, to measure how well an epoch of them mixes. None: nothing is measured.
        split_by: A column of sequences: the splits are those of `store.split(..., by=split_by)`.
        rows: Whether to read a sample of rows, always the same one, for histograms, classes and plots of sequences.

    Raises:
        UsageError: This store has no such windows or batches, or no such column.
        MissingStoreError: The store does not exist.
        FormatError: The path is not a store that this version can read.
        ChecksumError: A file is damaged.

    >>> import tempfile, numpy as np, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((5, 2), "float32"), np.zeros((5, 1), "float32"), source="walk-0")
    >>> document = inspect(path)
    >>> document.sequences, document.steps, document.statistics[0].mean
    (1, 5, 1.0)
    """
    opened = open_store(store)
    schema = opened.schema
    split_of = split_numbers(opened, split_by)
    splits = [opened.view(split_of == split) for split in range(len(DEFAULT_SPLITS))]
    mixing, windows = None, None
    if shuffle is not None:
        mixing = measure_shuffle(opened, shuffle)  # first, since it refuses impossible options
        windows = [len(windows_of(split, shuffle)) for split in splits]
    usage = opened.disk_usage()
    statistics = column_statistics(opened, splits)
    failures, listed = failures_in(opened.provenance)
    build, skipped = opened.provenance.get("build"), tuple(RecordedSkips.of(opened.provenance).by_name)
    return Inspection(
        store=opened.path,
        version=".".join(map(str, VERSION)),
        identity=opened.identity,
        sequences=len(opened),
        retired=opened.counts.sequences - len(opened),
        sources=len(set(opened.sources)),
        steps=int(opened.lengths.sum()),
        label_steps=int(opened.label_lengths.sum()) if schema.label_axis == "own" else 0,
        has_labels=opened.has_labels,
        labels_are_inputs=opened.snapshot.labels_are_inputs(),
        missing=schema.missing,
        missing_inputs=opened.missing_rows("inputs"),
        missing_labels=opened.missing_rows("labels"),
        files=usage.files,
        stored_bytes=usage.stored_bytes,
        decoded_bytes=sum(array.decoded_bytes for array in usage.arrays),
        lengths=describe_lengths(opened.lengths),
        arrays=usage.arrays,
        time=describe_times(opened),
        columns=tuple(describe_column(one.name, one.dtype, opened.sequences[one.name]) for one in schema.columns),
        split_by=split_by,
        pinned=split_by is not None and opened.names_splits(split_by),
        splits=split_sizes(splits, split_by, windows),
        duplicates=duplicates_across_splits(opened, split_of),
        statistics=statistics,
        cleaning=cleaning_of_store(opened),
        build=build if isinstance(build, dict) else None,
        failures=failures,
        failures_listed=tuple((one.source, one.reason) for one in listed),
        skipped=len(skipped),
        skipped_listed=skipped[:LISTED_FAILURES],
        shuffle=mixing,
        rows=row_sample(opened, statistics, split_of) if rows else None,
        **schema_facts(schema),
    )


def schema_facts(schema: Schema) -> dict[str, Any]:
    """Return what an inspection, and the preview of a build, say of the schema of a store."""
    steps, row_bytes, labels = schema.steps, schema.inputs.nbytes, schema.labels.to_json()
    if schema.labels.classes is not None:
        labels["classes"] = [None if names is None else list(names) for names in schema.labels.classes]
    return {
        "inputs": schema.inputs.to_json(),
        "labels": labels,
        "label_axis": schema.label_axis,
        "codec": str(schema.codec),
        "chunk_steps": steps.chunk,
        "chunk_bytes": steps.chunk * row_bytes,
        "shard_steps": steps.shard,
        "shard_bytes": steps.shard * row_bytes,
    }


def notes_on(document: Inspection) -> Iterator[tuple[str, str]]:
    """Yield notes, each with the name of the section that has details."""
    if document.failures:
        yield "failures", f"{count_text(document.failures, 'source')} could not be used in the last build."
    if document.skipped:
        yield "failures", f"{count_text(document.skipped, 'source')} skipped as empty."
    if document.lengths is not None and document.lengths.empty:
        yield "lengths", f"{count_text(document.lengths.empty, 'sequence')} without any step."
    features = [one for one in document.statistics if one.array == "inputs"]
    targets = [] if document.labels_are_inputs else [one for one in document.statistics if one.array == "labels"]
    if document.steps:
        yield from (("features", note) for note in _on_values(features, "feature"))
        yield from (("labels", note) for note in _on_values(targets, "target"))
    yield from (("splits", note) for note in _on_splits(document))
    if document.retired > document.sequences:
        yield "overview", "More sequences are retired than not: seqzarr compact writes a store without them."


def _on_values(columns: Sequence[ColumnStatistics], noun: str) -> Iterator[str]:
    empty = [one.title for one in columns if not one.count]
    constant = [one.title for one in columns if one.min == one.max is not None]
    missing = [one.title for one in columns if one.count and one.missing_share > MOSTLY_MISSING]
    for titles, what in ((empty, "no value at all"), (constant, "one value only")):
        if titles:
            yield f"{count_text(len(titles), noun)} {'has' if len(titles) == 1 else 'have'} {what}: {_listed(titles)}."
    if missing:
        yield f"More than {percent_text(MOSTLY_MISSING)} of the values are missing in {_listed(missing)}."


def _on_splits(document: Inspection) -> Iterator[str]:
    splits = "the default splits" if document.split_by is None else f"the splits by {short_name(document.split_by)}"
    empty = [split.name for split in document.splits if not split.sequences]
    if empty and document.sequences:
        yield f"No sequence is in {' and '.join(empty)} of {splits}."
    without = [split.name for split in document.splits if split.sequences and split.windows == 0]
    if without and document.shuffle is not None:
        steps = count_text(document.shuffle.shuffle.window, "step")
        yield f"Windows of {steps} fit into no sequence of {' and '.join(without)}."
    if document.duplicates.count:
        examples = document.duplicates.examples[:NAMED]
        pairs = ", ".join(f"{short_name(a)} = {short_name(b)}" for a, b in examples)
        groups = count_text(document.duplicates.count, "group")
        yield f"Sources in different splits have the same bytes, so test data are in training data ({groups}): {pairs}."


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and the number of further names, as text."""
    listed = ", ".join(short_name(name) for name in names[:NAMED])
    return listed if len(names) <= NAMED else f"{listed} and {len(names) - NAMED:,} more"
