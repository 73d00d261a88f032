"""The work of a worker on a batch of sources: read, process, check, describe. The rows stay on the worker."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import BuildError
from builder.formats.column_notes import Columns
from builder.frames.digits import NO_DIGITS, DigitNotes, ManyDigits
from builder.labels.text_classes import ClassCodes, Recoding, first_classes, recode_labels
from builder.sources.fingerprints import Fingerprints
from builder.workers.conform import SourceProbe, append_checked
from builder.workers.process_source import Failure, Skipped, SourceBatch, UsedSource, read_source
from builder.workers.row_blocks import BatchRows, RowBlocks, Space, SpilledRows, bytes_in_memory
from store_spec import Classes, LabelAxis, Missing, Rows, Schema
from store_spec.building import EncodedRows, Records, RunningRows, compress_rows

TEXT_DTYPE = "float32"  # of numbers in text, unless numbers in the first source need more digits
BATCH_SECONDS = 2.0  # a batch ends after this time, even if sources are left,
TABLE_BYTES = 2**25  # or when the table rows of its sequences have so many bytes

Content = tuple[int, NDArray[np.int64], Classes | None]  # see `BatchSummary.content`
READ_BYTES = 2**24  # of rows in a file that are in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """What the coordinator receives of a batch: all but the rows."""

    records: Records
    bytes_decoded: int  # of all rows
    bytes_in_memory: int  # of the rows that are not in files
    done: int  # how many sources were processed, from the first on
    bytes_read: int
    fingerprints: Fingerprints = field(default_factory=partial(Fingerprints.of, {}))
    failures: tuple[Failure, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    classes: Classes | None = None  # of each target, in the order of their codes before `recode`
    seconds: float = 0.0  # processing time
    interrupt: KeyboardInterrupt | None = None  # ended the batch early
    piece_bytes: int = 0  # of the largest piece of a sequence, for the estimate of `preview`
    whole_bytes: int = 0  # of sequences that do not come in pieces, likewise
    rounded: ManyDigits = NO_DIGITS  # numbers that float32 does not keep

    @property
    def content(self) -> Content:
        """What must be the same if a batch is processed again.

        The number of processed sources; int64 (sequences, facts), the lengths and checksums of each sequence; classes.
        """
        names = (f"sequences/{array}_crc32c" for array in ("inputs", "labels", "time", "filled"))
        checksums = [self.records.columns[name] for name in names if name in self.records.columns]
        facts = [self.records.lengths, self.records.label_lengths, *checksums]
        return self.done, np.stack(facts, axis=1, dtype=np.int64), self.classes


@dataclass(frozen=True, slots=True)
class ProcessedBatch:
    """The sequences of a batch. Only the summary leaves the worker."""

    summary: BatchSummary
    rows: dict[str, RowBlocks]  # of the sharded arrays, all sequences one after another

    def __sizeof__(self) -> int:
        # Engines use this to choose the worker for tasks that need the batch; rows in files are not sent.
        return self.summary.bytes_in_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The size of the first usable source, and what it determines in a new store."""

    schema: Schema  # with the default chunks and codec
    bytes_read: int
    nbytes: int
    text_dtype: str | None = None  # the dtype of all tables if it is text; None: tables keep their dtypes
    many_digits: ManyDigits = NO_DIGITS  # numbers in text that float32 does not keep


def process_batch(batch: SourceBatch, schema: Schema, space: Space, *, whole: bool = False) -> ProcessedBatch:
    """Turn sources into sequences. A source that fails is named, and none of its rows are kept.

    Args:
        batch: The sources.
        schema: The schema of the store.
        space: The memory and the folder for the rows.
        whole: Process all sources. Otherwise the batch ends after BATCH_SECONDS or TABLE_BYTES, so that finished
            sources can be committed.

    Raises:
        KeyboardInterrupt: An interrupt came before the first source was processed. A later one ends the batch.
        SpillError: Rows do not fit into memory, and cannot be written to disk.
        UsageError: The process function cannot be imported.
    """
    codes = ClassCodes(batch.process.store_classes or ())
    if batch.may_add_classes:  # the schema may lack some classes, so labels are checked against `codes`
        schema = replace(schema, labels=replace(schema.labels, classes=None))
    rows = BatchRows(schema, space)
    finished: list[UsedSource | Failure] = []  # one for each processed source
    marks: list[tuple[Mapping[str, tuple[int, int]], list[int]]] = []  # where rows and classes ended before each source
    append = partial(append_checked, rows, owned=not batch.process.is_custom)
    interrupt: KeyboardInterrupt | None = None
    seconds, table_bytes = (math.inf, math.inf) if whole else (BATCH_SECONDS, TABLE_BYTES)  # that are left
    notes, rounded = DigitNotes(), NO_DIGITS
    batch = batch.with_notes(notes) if batch.process.text_dtype is not None else batch
    with batch.ready() as batch:
        started = time.monotonic()
        for number in range(len(batch)):
            try:
                if finished and (time.monotonic() - started >= seconds or table_bytes <= 0):
                    break
                marks.append((rows.ends(), codes.counts()))
                result = read_source(batch, number, append, codes=codes if batch.may_add_classes else None)
                if isinstance(result, Failure):
                    rows.truncate(marks[-1][0])
                    codes.truncate(marks[-1][1])
                    notes.take()  # not counted
                else:
                    table_bytes -= sum(record.nbytes for record in result.results)
                finished.append(result)
                rounded += notes.take(batch.names[number]) or NO_DIGITS
            except KeyboardInterrupt as error:
                interrupt = error
                break
    if interrupt is not None and not finished:
        raise interrupt
    if len(marks) > len(finished):  # the last source was interrupted
        rows.truncate(marks[-1][0])
        codes.truncate(marks[-1][1])
    records = [Records.empty(schema), *(row for one in finished if isinstance(one, UsedSource) for row in one.results)]
    read = [one.read for one in finished if isinstance(one, UsedSource | Skipped)]
    files = {file: batch.folder.as_listed(found, file) for one in read for file, found in one.fingerprints.items()}
    blocks = rows.close()
    summary = BatchSummary(
        records=Records.concatenate(records),
        bytes_decoded=sum(one.nbytes for one in blocks.values()),
        bytes_in_memory=bytes_in_memory(blocks),
        done=len(finished),
        bytes_read=sum(found.state.size for found in files.values()),
        fingerprints=Fingerprints.of(files),
        failures=tuple(one for one in finished if isinstance(one, Failure) and not isinstance(one, Skipped)),
        skipped=tuple(one for one in finished if isinstance(one, Skipped)),
        classes=codes.classes,
        seconds=time.monotonic() - started,
        interrupt=interrupt,
        piece_bytes=rows.piece_bytes,
        whole_bytes=rows.whole_bytes,
        rounded=rounded,
    )
    return ProcessedBatch(summary, blocks)


@dataclass(frozen=True, slots=True)
class FirstResult:
    """What a batch contained when it was processed first, which is registered, and how to process it again."""

    content: Content
    again: Callable[[], ProcessedBatch]  # processes all sources that the batch had first


def complete_batch(processed: ProcessedBatch, first: FirstResult | None) -> ProcessedBatch:
    """Return a batch that has the same sequences as when it was processed first.

    If its rows were lost with their worker, it was processed again, and may have ended after another source.

    Args:
        processed: The batch.
        first: What it contained first; None: the batch cannot differ.

    Raises:
        BuildError: The process function gave other sequences than first.
    """
    if first is None:
        return processed
    if processed.summary.done != first.content[0]:
        processed = first.again()
    (_, facts, classes), (_, first_facts, first_classes) = processed.summary.content, first.content
    if np.array_equal(facts, first_facts) and classes == first_classes:
        return processed
    common, sources = min(len(facts), len(first_facts)), processed.summary.records.sources
    at = int(np.append((facts[:common] != first_facts[:common]).any(axis=1), True).argmax())
    name = sources[min(at, len(sources) - 1)] if len(sources) else "all of a batch of sources"
    name += "" if at < common else ", or a source beside it,"
    raise BuildError(
        f"{name} gave other rows when it was processed again after a worker died: a source or its labels changed "
        "during the build, or the process function does not give the same rows each time; run the build again, which "
        "goes on after the last commit"
    )


def summarise(processed: ProcessedBatch) -> BatchSummary:
    """Return the summary for the coordinator."""
    return processed.summary


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRange:
    """Consecutive rows of a batch, the same rows of all arrays on one axis."""

    names: tuple[str, ...]  # of the arrays
    rows: slice  # of the rows of the batch
    first: int  # the index of the first row in the arrays of the store

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start  # type: ignore[no-any-return]


def compress(
    processed: ProcessedBatch, chosen: RowRange, schema: Schema, first: FirstResult | None
) -> dict[str, EncodedRows]:
    """Compress some rows of a batch, once it is complete; rows in files are read, array after array."""
    processed = complete_batch(processed, first)
    encoded: dict[str, EncodedRows] = {}
    for name in chosen.names:
        blocks = processed.rows[name]
        if "inputs" in encoded and blocks is processed.rows["inputs"]:  # labels that are the inputs
            encoded[name] = encoded["inputs"]
            continue
        rows = blocks.between(chosen.rows.start, chosen.rows.stop)
        encoded[name] = compress_rows(rows, chosen.first, schema.rows(name), schema.chunking(name), schema.codec)
    return encoded


def probe(batch: SourceBatch, label_axis: LabelAxis | None, missing: Missing) -> ProbeResult | list[Failure]:
    """Return the properties of the first usable source of a batch, or the failures and skips if none is usable."""
    failures, notes = list[Failure](), DigitNotes()
    batch = batch.with_notes(notes)
    for number in range(len(batch)):
        notes.take()
        codes = ClassCodes(batch.process.store_classes, batch.process.options.classes)
        with batch.take([number]).ready() as one:
            kept = {column.column.name: column.column for column in batch.kept}
            found = SourceProbe(label_axis, missing, kept)
            used = read_source(one, 0, found.add, codes=codes)
            if isinstance(used, Failure):
                failures.append(used)
                continue
            features, targets = one.process_of(0).columns(one.root / one.names[0])
        schema, many_digits = used.results[0], notes.take(batch.names[number])
        is_narrow = many_digits is not None and not many_digits.values  # None: no number of the source is text
        inputs, labels = schema.inputs, schema.labels
        if is_narrow:
            is_in_table = batch.labels is None and batch.process.has_labels_in_table
            inputs, labels = _narrow(inputs), _narrow(labels) if is_in_table else labels
        texts = codes.last_texts
        if len(texts) != labels.features:  # targets of a function, or on the last axis of arrays: by place
            texts = dict.fromkeys(map(str, range(labels.features)))
        labels = replace(_with_columns(labels, targets), classes=first_classes(texts, batch.process.options.classes))
        return ProbeResult(
            schema=replace(schema, inputs=_with_columns(inputs, features), labels=labels),
            text_dtype=TEXT_DTYPE if is_narrow else None,
            many_digits=many_digits or NO_DIGITS,
            bytes_read=sum(file.state.size for file in used.read.fingerprints.values()),
            nbytes=found.nbytes,
        )
    return failures


def _with_columns(rows: Rows, columns: Columns) -> Rows:
    """Return the description of rows with the names of their columns, unless each value of a column is an array.

    Names in a store are those of the last axis, where such arrays have no columns.
    """
    return columns.describe(rows) if len(rows.shape) < 2 else rows


def _narrow(rows: Rows) -> Rows:
    """Return the description of rows if numbers in text are float32; class codes and integers do not change."""
    return replace(rows, dtype=np.dtype(TEXT_DTYPE)) if rows.dtype == np.float64 else rows


def recode(processed: ProcessedBatch, recoding: Recoding, schema: Schema, first: FirstResult | None) -> ProcessedBatch:
    """Return a complete batch with other class codes. Rows in files are recoded when they are read."""
    processed = complete_batch(processed, first)
    records, rows = processed.summary.records, processed.rows
    columns = dict(records.columns)
    if schema.label_axis == "sequence":
        columns["labels"] = recode_labels(columns["labels"], recoding)
        blocks: list[NDArray[Any] | SpilledRows] = [columns["labels"]]
        lengths = np.ones(len(records), np.int64)
    else:
        rows = {**rows, "labels": rows["labels"].with_change(partial(recode_labels, recoding=recoding))}
        blocks = rows["labels"].blocks
        lengths = records.label_lengths if schema.label_axis == "own" else records.lengths
    columns |= describe_labels(_read_blocks(blocks), lengths.tolist(), schema.labels)
    return ProcessedBatch(replace(processed.summary, records=replace(records, columns=columns)), rows)


def describe_labels(blocks: Iterator[NDArray[Any]], lengths: Iterable[int], labels: Rows) -> dict[str, NDArray[Any]]:
    """Return the table columns about the labels of consecutive sequences.

    Args:
        blocks: The rows, in blocks that may begin and end anywhere.
        lengths: The number of rows of each sequence; at least one sequence.
        labels: The description of a row.
    """
    facts, block = [], labels.empty(0)
    for length in lengths:
        running = RunningRows("labels", labels)
        while running.length < length:
            block = block if len(block) else next(blocks)
            piece, block = np.split(block, [length - running.length])
            running.add(piece)
        facts.append(running.result())
    return {name: np.concatenate([one[name] for one in facts]) for name in facts[0]}


def _read_blocks(blocks: Iterable[NDArray[Any] | SpilledRows]) -> Iterator[NDArray[Any]]:
    """Yield the rows of some blocks as arrays of about READ_BYTES."""
    for block in blocks:
        step = max(1, READ_BYTES // block[:1].nbytes) if len(block) else 1
        yield from (np.asarray(block[start : start + step]) for start in range(0, len(block), step))
