"""What a worker does with a batch of sources: read, process, check, describe. The rows stay where they were made."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from builder.frames.counts import StoreCleaning, cleaning_of
from builder.labels.class_codes import ClassCodes
from builder.labels.text_classes import Texts
from builder.processes.process import searching
from builder.sources.fingerprints import BUFFER_BYTES, Fingerprint, Seen
from builder.workers.conform import Pieces, looked_at, taken
from builder.workers.process_source import Batch, Failure, UnusableError, read_source
from builder.workers.row_blocks import BatchRows, RowBlocks, Space, bytes_in_memory
from store_spec import Classes, LabelAxis, Missing, Rows, Schema, SequenceColumn, Time
from store_spec.building import EncodedRows, Records, compress_rows, no_records

BATCH_SECONDS = 2.0  # after which a batch ends, however many of its sources are left


@dataclass(slots=True)
class Processed:
    """A batch's sequences: their table rows, their rows, and what went wrong."""

    records: Records
    rows: dict[str, RowBlocks]  # of the arrays that lie in shards, all sequences one after another
    failures: list[Failure]
    seen: Seen
    bytes_read: int
    done: int  # sources that were processed: the first so many of the batch
    classes: Classes | None = None  # of each target, in the order of their codes in these rows
    seconds: float = 0.0  # that it took
    interrupt: KeyboardInterrupt | None = None  # what cut it off before the end of the batch
    in_memory: Pieces = field(default_factory=Pieces)  # while the sources are read

    @property
    def cleaning(self) -> StoreCleaning:
        """What was done to the rows, where the sequences count that."""
        columns = {name.removeprefix("sequences/"): column for name, column in self.records.columns.items()}
        return cleaning_of(self.records.sources, self.records.lengths, columns)

    def __sizeof__(self) -> int:
        # What dask weighs when it decides where to run the tasks that need this: rows in files do not travel.
        return bytes_in_memory(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the coordinator hears of a batch: all but the rows."""

    records: Records
    failures: tuple[Failure, ...]
    seen: Seen
    bytes_read: int
    done: int  # sources that were processed: the first so many of the batch
    classes: Classes | None  # of each target, in the order of their codes in these rows
    seconds: float  # that it took
    interrupt: KeyboardInterrupt | None
    nbytes: int  # of the rows
    in_memory: int  # bytes of them; the others lie in files
    spilled: bool  # whether there are files
    cleaning: StoreCleaning


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the first source that can be read is like."""

    inputs: Rows
    labels: Rows
    texts: Mapping[str, Texts]  # of each target
    label_axis: LabelAxis
    columns: tuple[SequenceColumn, ...]  # that the process function gives, and that are kept of the manifest
    time: Time | None
    filled: bool
    source: str
    bytes_read: int
    nbytes: int
    steps: int
    sequences: int


def process_batch(batch: Batch, schema: Schema, space: Space, *, whole: bool = False) -> Processed:
    """Turn sources into sequences. A source that fails is named, and leaves no trace among the others.

    Args:
        batch: The sources.
        schema: Of the store.
        space: Where the rows lie.
        whole: Process all of them. Otherwise no source is started after BATCH_SECONDS, so that those that are
            finished can be committed.

    Raises:
        KeyboardInterrupt: It came before the first source was processed. Later it ends the batch.
        SpillError: Rows do not fit into memory, and the disk refused them.
        UsageError: The process function is not to be found.
    """
    codes = ClassCodes(batch.process.store_classes or ())
    if batch.may_add_classes:  # the codes are from there, and the schema need not have all
        schema = replace(schema, labels=replace(schema.labels, classes=None))
    rows, pieces = BatchRows(schema, space), Pieces()
    finished: list[Failure | tuple[list[Records], Fingerprint]] = []  # of each source that was processed
    marks: list[tuple[Mapping[str, tuple[int, int]], list[int]]] = []  # where rows and classes ended before each source
    take = partial(taken, schema, rows, pieces, ours=not batch.process.is_custom)
    buffer = memoryview(bytearray(BUFFER_BYTES))
    started, interrupt = time.monotonic(), None
    limit = math.inf if whole else BATCH_SECONDS
    with searching(batch.search):
        for number in range(len(batch)):
            try:
                if finished and time.monotonic() - started >= limit:
                    break
                marks.append((rows.marked(), codes.counts()))
                try:
                    one: Failure | tuple[list[Records], Fingerprint]
                    one = read_source(
                        batch, number, buffer, take, pieces.begin, codes=codes if batch.may_add_classes else None
                    )
                except UnusableError as error:
                    one = error.failure
                    rows.cut(marks[-1][0])
                    codes.truncate(marks[-1][1])
                finished.append(one)
            except KeyboardInterrupt as error:
                interrupt = error
                break
    if interrupt is not None and not finished:
        raise interrupt
    if len(marks) > len(finished):  # the last source was cut off
        rows.cut(marks[-1][0])
        codes.truncate(marks[-1][1])
    processed = _processed(batch, schema, finished, rows, pieces)
    processed.classes, processed.seconds, processed.interrupt = codes.classes, time.monotonic() - started, interrupt
    return processed


def _processed(
    batch: Batch,
    schema: Schema,
    finished: Sequence[Failure | tuple[list[Records], Fingerprint]],
    rows: BatchRows,
    pieces: Pieces,
) -> Processed:
    """Join what the sources of a batch gave."""
    records: list[Records] = [no_records(schema)]
    seen: dict[str, Fingerprint] = {}
    bytes_read = 0
    for name, one in zip(batch.names, finished, strict=False):  # the first so many of the names
        if isinstance(one, Failure):
            continue
        records += one[0]
        seen[name] = one[1]
        bytes_read += one[1].state.size
        if one[1].beside is not None:
            seen[one[1].beside[0]] = one[1].beside[1]
            bytes_read += one[1].beside[1].state.size
    return Processed(
        records=Records.concatenate(records),
        rows=rows.close(),
        failures=[one for one in finished if isinstance(one, Failure)],
        seen=Seen.of(seen),
        bytes_read=bytes_read,
        done=len(finished),
        in_memory=pieces,
    )


def process_all(processed: Processed, batch: Batch, schema: Schema, space: Space) -> Processed:
    """Return what was processed if that is all of a batch; else process all of it, however long that takes.

    The rows of a batch may be lost with their worker. Then dask calls `process_batch` again, which may end after other
    sources than the first time, while the store expects the same ones.
    """
    return processed if processed.done == len(batch) else process_batch(batch, schema, space, whole=True)


def summarise(processed: Processed) -> Summary:
    """Return what the coordinator needs to know."""
    return Summary(
        records=processed.records,
        failures=tuple(processed.failures),
        seen=processed.seen,
        bytes_read=processed.bytes_read,
        done=processed.done,
        classes=processed.classes,
        seconds=processed.seconds,
        interrupt=processed.interrupt,
        nbytes=sum(rows.nbytes for rows in processed.rows.values()),
        in_memory=bytes_in_memory(processed.rows),
        spilled=any(rows.spilled for rows in processed.rows.values()),
        cleaning=processed.cleaning,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPart:
    """Some rows of a batch, of arrays on one axis.

    Args:
        names: Of the arrays.
        rows: Which, by their place in the batch.
        first: The row of the whole arrays that the first of them is.
    """

    names: tuple[str, ...]
    rows: slice
    first: int

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start  # type: ignore[no-any-return]


def compress(processed: Processed, part: BatchPart, schema: Schema) -> dict[str, EncodedRows]:
    """Compress some rows of a batch; those in files are read, array after array."""
    stretches: dict[str, EncodedRows] = {}
    for name in part.names:
        blocks = processed.rows[name]
        same = next((other for other in stretches if processed.rows[other] is blocks), None)
        if same is not None:  # labels that are the inputs
            stretches[name] = stretches[same]
            continue
        parts = blocks.between(part.rows.start, part.rows.stop)
        stretches[name] = compress_rows(parts, part.first, schema.rows(name), schema.chunking(name), schema.codec)
    return stretches


def probe(batch: Batch, label_axis: LabelAxis | None, missing: Missing) -> Found | list[Failure]:
    """Say what the first usable source of a batch is like; its failures if there is none.

    One without rows, as a table that has no more than its header, is taken where no other has any.
    """
    failures, without_rows = [], list[Found]()
    buffer = memoryview(bytearray(BUFFER_BYTES))
    for number in range(len(batch)):
        try:
            codes = ClassCodes(batch.process.store_classes, batch.process.classes)
            with searching(batch.search):
                look = partial(looked_at, label_axis, missing, {kept.column.name: kept.column for kept in batch.kept})
                sequences, read = read_source(batch, number, buffer, look, codes=codes)
        except UnusableError as error:
            failures.append(error.failure)
            continue
        first = sequences[0]
        found = Found(
            inputs=first.inputs,
            labels=first.labels,
            texts=codes.last_texts,
            label_axis=first.label_axis,
            columns=first.columns,
            time=first.time,
            filled=first.filled,
            source=batch.names[number],
            bytes_read=read.state.size + (0 if read.beside is None else read.beside[1].state.size),
            nbytes=sum(one.nbytes for one in sequences),
            steps=sum(one.steps for one in sequences),
            sequences=len(sequences),
        )
        if found.steps:
            return found
        without_rows.append(found)
    return without_rows[0] if without_rows else failures
