"""Copy sequences of a store on a worker: read them, verify their checksums, and convert their dtypes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError, UsageError
from builder.formats.table import Array, DType
from builder.planning.build_options import BATCH_BYTES
from builder.processes.row_dtypes import ARRAYS, convert_rows
from builder.workers.batch import BatchSummary, ProcessedBatch
from builder.workers.row_blocks import BatchRows, Space, bytes_in_memory
from store_spec import Schema
from store_spec.building import (
    CheckedSequence,
    Piecewise,
    Records,
    Snapshot,
    SourceId,
    crc32c,
    read_ranges,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copy:
    """The sequences of some sources of a store, to be copied."""

    snapshot: Snapshot
    numbers: NDArray[np.int64]  # (sequences,) in the old store
    names: tuple[str, ...]  # of the sources
    starts: dict[str, NDArray[np.int64]]  # by array: (sequences,) the first row of each sequence
    stops: dict[str, NDArray[np.int64]]  # by array: (sequences,) the row after the last
    # The old table rows, without statistics, which are computed again; None: numbers ascend, and rows do not change.
    records: Records | None


def copy(work: Copy, schema: Schema, space: Space) -> ProcessedBatch:
    """Read sequences, verify their checksums, and convert them to the dtypes of the new store.

    Raises:
        ChecksumError: The rows of a sequence do not have its checksum.
        UsageError: A value does not fit into the dtype.
        SpillError: Rows do not fit into memory, and cannot be written to disk.
    """
    records = work.snapshot.records(work.numbers) if work.records is None else work.records
    rows, described = BatchRows(schema, space), list[Piecewise]()
    if work.records is not None:  # rows come array by array and piece by piece
        described = [Piecewise(schema, _origin(records, place)) for place in range(len(records))]
    for name in schema.row_arrays:
        checksums = records.columns[f"sequences/{name}_crc32c"].tolist()
        crc = 0
        for place, old, is_end in _read(work, name, max(1, BATCH_BYTES // max(1, schema.rows(name).nbytes))):
            crc = crc32c(old, crc)
            if is_end:
                if crc != checksums[place]:
                    work.snapshot.check_crc(name, int(work.numbers[place]), crc)
                crc = 0
            new = old
            if name in ARRAYS and old.dtype != schema.rows(name).dtype:
                new = convert_for_copy(old, schema.rows(name).dtype, name, _origin(records, place))
            if described:
                columns = {each.array: records.columns[each.array][place : place + 1] for each in schema.columns}
                described[place].add(CheckedSequence({name: new}, columns))
            rows.add({name: new})
    if described:
        records = Records.concatenate([one.record() for one in described])
    blocks = rows.close()
    nbytes = sum(one.nbytes for one in blocks.values())
    summary = BatchSummary(
        records=records,
        bytes_decoded=nbytes,
        bytes_in_memory=bytes_in_memory(blocks),
        done=len(work.names),
        bytes_read=nbytes,
    )
    return ProcessedBatch(summary, blocks)


def _origin(records: Records, place: int) -> SourceId:
    part, size, sha256 = (
        records.columns[f"sequences/{name}"][place] for name in ("part", "source_size", "source_sha256")
    )
    return SourceId(name=records.sources[place], part=int(part), size=int(size), sha256=sha256.tobytes())


def convert_for_copy(rows: Array, dtype: DType, name: str, origin: SourceId) -> Array:
    """Return rows of another dtype; UsageError if a value does not fit."""
    try:
        return convert_rows(rows, dtype, name)
    except SourceError as error:
        option = "--dtype" if name == "inputs" else "--dtype, or one for the labels with --label-dtype"
        raise UsageError(f"{origin}: {error}; choose another {option}") from None


def _read(work: Copy, name: str, most: int) -> Iterator[tuple[int, NDArray[Any], bool]]:
    """Read the rows of an array, about `most` at a time.

    Yields:
        The index of a sequence, some of its rows in order, and whether they are its last rows.
    """
    starts, stops = work.starts[name], work.stops[name]
    ends = np.cumsum(stops - starts)
    first = 0
    while first < len(starts):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, "right")))
        start, stop = int(starts[first]), int(stops[first])
        if stop - start > most:
            for low in range(start, stop, most):
                yield first, work.snapshot.rows(name, low, min(low + most, stop)), low + most >= stop
        else:
            for number, one in enumerate(read_ranges(work.snapshot, name, starts[first:last], stops[first:last])):
                yield first + number, one, True
        first = last
