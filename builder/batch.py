"""What a worker does with a batch of sources: read, process, check, describe. The rows stay where they were made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError, UsageError
from builder.fingerprints import BUFFER_BYTES, Fingerprint, Seen, read_fingerprint
from builder.formats.files import unreadable
from builder.process import Process, searching, sequences_of
from builder.tabular import Tabular
from store_spec import shard
from store_spec.errors import SequenceError
from store_spec.records import Records, SourceId, check_sequence, describe, no_records
from store_spec.schema import LabelAxis, Missing, Rows, Schema
from store_spec.shard import Stretch, between

BLOCK_BYTES = 2**16  # small arrays are joined to at least that
LONGEST_REASON = 1_000


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be used, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some sources that follow one another, and how to read them."""

    root: Path
    names: tuple[str, ...]
    labels: NDArray[Any] | None  # (sources, targets), where they come from the manifest
    process: Process
    search: tuple[str, ...] = ()  # folders to search for the process function's module

    def __len__(self) -> int:
        return len(self.names)


@dataclass(slots=True)
class Processed:
    """A batch's sequences: their table rows, their rows, and what went wrong."""

    records: Records
    rows: dict[str, RowBlocks]  # of the arrays that lie in shards, all sequences one after another
    failures: list[Failure]
    seen: Seen
    bytes_read: int

    def __sizeof__(self) -> int:
        # What dask weighs when it decides where to run the tasks that need this.
        return sum(rows.nbytes for rows in self.rows.values())


@dataclass(slots=True)
class RowBlocks:
    """Rows of many sequences, one after another: few arrays, and hardly ever a copy of a large one."""

    blocks: list[NDArray[Any]] = field(default_factory=list)
    nbytes: int = 0
    _small: list[NDArray[Any]] = field(default_factory=list)
    _small_bytes: int = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Take the next rows, which are then ours."""
        self.nbytes += rows.nbytes
        if rows.nbytes >= BLOCK_BYTES:
            self.close()
            self.blocks.append(rows)
            return
        self._small.append(rows)
        self._small_bytes += rows.nbytes
        if self._small_bytes >= BLOCK_BYTES:
            self.close()

    def close(self) -> None:
        """Join what was added so far."""
        if self._small:
            self.blocks.append(np.concatenate(self._small))
            self._small, self._small_bytes = [], 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the coordinator hears of a batch: all but the rows."""

    records: Records
    failures: tuple[Failure, ...]
    seen: Seen
    bytes_read: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the first source that can be read is like."""

    inputs: Rows
    labels: Rows
    label_axis: LabelAxis
    source: str
    bytes_read: int
    nbytes: int
    steps: int
    sequences: int


def process_batch(batch: Batch, schema: Schema) -> Processed:
    """Turn sources into sequences. A source that fails is named, and leaves no trace among the others."""
    records: list[Records] = [no_records(schema)]
    rows = {name: RowBlocks() for name in ("inputs", "labels") if schema.chunking(name) is not None}
    failures: list[Failure] = []
    seen: dict[str, Fingerprint] = {}
    bytes_read = 0
    checked = partial(_checked, schema, ours=isinstance(batch.process, Tabular))
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with searching(batch.search):
        for number in range(len(batch)):
            try:
                sequences, read = read_source(batch, number, buffer, checked)
            except UnusableError as error:
                failures.append(error.failure)
                continue
            seen[batch.names[number]] = read
            bytes_read += read.state.size
            for record, arrays in sequences:
                records.append(record)
                for name, blocks in rows.items():
                    blocks.add(arrays[name])
    for blocks in rows.values():
        blocks.close()
    return Processed(Records.concatenate(records), rows, failures, Seen.of(seen), bytes_read)


def summarise(processed: Processed) -> Summary:
    """Return what the coordinator needs to know."""
    return Summary(
        records=processed.records,
        failures=tuple(processed.failures),
        seen=processed.seen,
        bytes_read=processed.bytes_read,
        nbytes=sum(rows.nbytes for rows in processed.rows.values()),
    )


def compress(
    processed: Processed, names: tuple[str, ...], rows: slice, first: int, schema: Schema
) -> dict[str, Stretch]:
    """Compress some rows of a batch, of arrays on one axis; the first of them is row `first` of the whole arrays."""
    stretches = {}
    for name in names:
        chunking = schema.chunking(name)
        assert chunking is not None
        parts = between(processed.rows[name].blocks, rows.start, rows.stop)
        stretches[name] = shard.compress(parts, first, schema.rows(name), chunking, schema.codec)
    return stretches


def probe(batch: Batch, label_axis: LabelAxis | None, missing: Missing) -> Found | list[Failure]:
    """Say what the first usable source of a batch is like; its failures if there is none."""
    failures = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    for number in range(len(batch)):
        try:
            with searching(batch.search):
                sequences, read = read_source(batch, number, buffer, partial(_looked_at, label_axis, missing))
        except UnusableError as error:
            failures.append(error.failure)
            continue
        first = sequences[0]
        return Found(
            inputs=first.inputs,
            labels=first.labels,
            label_axis=first.label_axis,
            source=batch.names[number],
            bytes_read=read.state.size,
            nbytes=sum(one.nbytes for one in sequences),
            steps=sum(one.steps for one in sequences),
            sequences=len(sequences),
        )
    return failures


@dataclass(frozen=True, slots=True)
class _Look:
    inputs: Rows
    labels: Rows
    label_axis: LabelAxis
    nbytes: int
    steps: int


@dataclass(slots=True)
class UnusableError(Exception):
    """Carries a failure out of the reading of one source."""

    failure: Failure = field()


def read_source(
    batch: Batch, number: int, buffer: memoryview, each: Callable[[SourceId, Any, Any], Any]
) -> tuple[list[Any], Fingerprint]:
    """Process one source, and give each of its sequences to a function; return what that gave, and what was read.

    Raises:
        UnusableError: The source cannot be used.
        UsageError: No source can be: the process function is not to be found.
    """
    name = batch.names[number]
    path = batch.root / name
    labels = None if batch.labels is None else batch.labels[number]
    try:
        try:
            read = read_fingerprint(path, buffer)
        except OSError as error:
            raise unreadable(name, error) from error
        results = []
        for part, (inputs, own_labels) in enumerate(_pairs(batch.process, path, labels)):
            origin = SourceId(name=name, part=part, size=read.state.size, sha256=read.sha256)
            results.append(each(origin, inputs, own_labels if labels is None else labels))
        if not results:
            raise SourceError(name, "it gave no sequence")
        if not read.is_of(os.stat(path)):
            raise SourceError(name, "it changed while it was read; the next build tries it again")
    except UsageError:
        raise  # no source is at fault
    except (SourceError, SequenceError) as error:
        raise UnusableError(_failure(batch, name, str(error))) from error
    except (Exception, SystemExit) as error:  # whatever a process function of the user's own raises
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UnusableError(_failure(batch, name, message)) from error
    return results, read


def _pairs(process: Process, path: Path, labels: NDArray[Any] | None) -> Iterator[tuple[Any, Any]]:
    result = process(path)
    if labels is not None and hasattr(result, "__array__"):
        result = (result, None)  # a function need not return labels that the manifest has
    return sequences_of(result)


def _checked(
    schema: Schema, origin: SourceId, inputs: Any, labels: Any, *, ours: bool
) -> tuple[Records, dict[str, NDArray[Any]]]:
    """Check one sequence; `ours` says that nobody else has its arrays."""
    given = {"inputs": inputs, "labels": labels}
    checked = dict(zip(given, check_sequence(schema, inputs, labels, origin), strict=True))
    record = describe(schema, checked["inputs"], checked["labels"], origin)
    if ours:
        return record, checked
    # A process function may fill the same array again for the next sequence, or give a corner of a large one.
    shared = {name for name, rows in checked.items() if np.may_share_memory(rows, np.asarray(given[name]))}
    return record, {name: rows.copy() if name in shared else rows for name, rows in checked.items()}


def _looked_at(label_axis: LabelAxis | None, missing: Missing, origin: SourceId, inputs: Any, labels: Any) -> _Look:
    x, y = np.asarray(inputs), np.asarray(labels)
    if x.ndim == 0:
        raise SequenceError(f"{origin}: inputs are a single {type(inputs).__name__}; they have one row a step")
    axis = label_axis or _guessed_axis(x, y, origin)
    if axis != "sequence" and y.ndim == 0:
        raise SequenceError(f"{origin}: labels are a single {type(labels).__name__}: only the sequence axis has such")
    rows = Rows(x.dtype, x.shape[1:]), Rows(y.dtype, y.shape if axis == "sequence" else y.shape[1:])
    # The source that decides what the store is like must itself fit it.
    check_sequence(Schema.plan(*rows, label_axis=axis, missing=missing), x, y, origin)
    return _Look(*rows, axis, x.nbytes + y.nbytes, len(x))


def _guessed_axis(inputs: NDArray[Any], labels: NDArray[Any], origin: SourceId) -> LabelAxis:
    if labels.ndim and len(labels) == len(inputs):
        return "step"
    if labels.ndim <= 1:
        return "sequence"
    raise SequenceError(
        f"{origin}: {len(inputs):,} input rows and labels of shape {labels.shape}: say with label_axis (--label-axis) "
        "whether they are one row a step, one for the sequence, or have lengths of their own"
    )


def _failure(batch: Batch, name: str, message: str) -> Failure:
    """Name a failure. No path of this machine is kept: the store depends on the sources alone."""
    reason = message.replace(f"{batch.root}{os.sep}", "").removeprefix(f"{name}: ").removeprefix(f"{name} ")
    return Failure(name, reason[:LONGEST_REASON])
