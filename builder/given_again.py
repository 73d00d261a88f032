"""What the sources give again of rows and columns that were lost: read, proved and put, in a task of its own."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.fingerprints import BUFFER_BYTES, Fingerprint
from builder.given import check_given
from builder.labels.beside import LABELS_SHA256
from builder.one_source import Batch, Failure, UnusableError, read_source
from builder.process import searching
from builder.sequence import LongSequence
from builder.sequence import Sequence as SourceSequence
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import RAN_OUT
from store_spec.errors import DAMAGE, StorageError
from store_spec.format.codec import crc32c
from store_spec.format.records import SourceId
from store_spec.schema import TABLES, Schema
from store_spec.verification.damage import DamagedFile
from store_spec.verification.repair import restore_rows

LABELS = f"{TABLES}/{LABELS_SHA256}"
LENGTHS = {"row_size": "inputs", "label_row_size": "labels"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The sequences of one source, which follow one another."""

    source: str
    first: int
    count: int
    retired: bool


def columns_of(
    batch: Batch, schema: Schema, names: Sequence[str]
) -> tuple[dict[str, list[dict[str, NDArray[Any]]]], list[Failure]]:
    """Return columns of the tables for each sequence of some sources, and the sources that cannot be used.

    Args:
        batch: The sources.
        schema: Of the store.
        names: Of further columns, of checksums of rows, and of lengths.
    """
    found: dict[str, list[dict[str, NDArray[Any]]]] = {}
    failures: list[Failure] = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with searching(batch.search):
        for number, name in enumerate(batch.names):
            try:
                found[name], _ = read_source(batch, number, buffer, partial(_columns, schema, names))
            except UnusableError as error:
                check_not_ours(error, batch.root / name)
                failures.append(error.failure)
    return found, failures


def _columns(
    schema: Schema, names: Sequence[str], origin: SourceId, sequence: SourceSequence | LongSequence
) -> dict[str, NDArray[Any]]:
    checked = check_given(schema, origin, sequence)
    checksums = {f"{TABLES}/{array}_crc32c": array for array in schema.row_arrays}
    found = {name: crc32c(checked.rows[checksums[name]]) for name in names if name in checksums}
    found |= {name: len(checked.rows[array]) for name, array in LENGTHS.items()}
    return checked.columns | {name: np.array([value]) for name, value in found.items()}


def restore_files(
    batch: Batch, origins: Sequence[Origin], snapshot: Snapshot, damaged: Sequence[DamagedFile]
) -> tuple[list[str], list[Failure]]:
    """Put files of `inputs` or `labels` from the sources of the sequences of which they lost rows.

    Args:
        batch: The sources.
        origins: Which sequences are theirs.
        snapshot: The store.
        damaged: The files, all of one array.

    Returns:
        Those that were put; and the sources at fault where others could not be.
    """
    array, lost = damaged[0].array, {number for one in damaged for number in one.lost}
    schema = snapshot.root.schema
    given: dict[int, NDArray[Any]] = {}
    failures: list[Failure] = []
    buffer = memoryview(bytearray(BUFFER_BYTES))
    try:
        with searching(batch.search):
            for number, origin in enumerate(origins):
                try:
                    found, read = read_source(batch, number, buffer, partial(_rows, schema, array))
                except UnusableError as error:
                    check_not_ours(error, batch.root / origin.source)
                    if not may_be_zeros(schema, array, origin):
                        failures.append(error.failure)
                    continue
                mine = {origin.first + part: rows for part, rows in enumerate(found)}
                needed = [one for one in range(origin.first, origin.first + origin.count) if one in lost]
                if all(one in mine and snapshot.had(array, one, mine[one]) for one in needed):
                    given |= {one: mine[one] for one in needed}
                elif not may_be_zeros(schema, array, origin):
                    failures.append(Failure(origin.source, _why_other(snapshot, origin, read)))
        if failures:
            return [], failures
        zeros = lost - given.keys()  # of sequences that are retired: any other is a failure by now
        given |= {one: skipped_rows(snapshot, array, one) for one in zeros}
        put = (restore_rows(snapshot, one, given, unproved=zeros) for one in damaged)
        return [file for file in put if file is not None], []
    except DAMAGE as error:
        return [], [Failure(snapshot.storage.root.name, str(error))]


def may_be_zeros(schema: Schema, array: str, origin: Origin) -> bool:
    """Tell whether zeros may stand for rows that nobody has, of a sequence that readers skip, lest all others are lost.

    In a table, that is: rows of a shard can go on behind it instead. Its checksum tells that these are not its rows.
    """
    return origin.retired and not schema.is_sharded(array)


def check_not_ours(error: BaseException, path: Path) -> None:
    """Refuse to take for a fault of a source what is one of this process: sequences would be retired for it.

    Args:
        error: Why the source cannot be used; what it was raised from counts too.
        path: The source.

    Raises:
        StorageError: The process has too many open files, or too little memory.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in RAN_OUT:
            raise StorageError(cause.errno, f"{path}: reading failed: {cause.strerror}; try again") from error
        if isinstance(cause, MemoryError):
            raise StorageError(errno.ENOMEM, f"{path}: reading failed: out of memory; try again with more") from error
        cause = cause.__cause__


def skipped_rows(snapshot: Snapshot, array: str, number: int) -> NDArray[Any]:
    """Return the rows of a sequence that stands for rows that were skipped."""
    start, stop = snapshot.bounds(array)[number : number + 2].tolist()
    return snapshot.root.schema.rows(array).zeros(stop - start)


def _why_other(snapshot: Snapshot, origin: Origin, read: Fingerprint) -> str:
    """Say why a source gives other rows than the store had."""
    if origin.retired:
        return OTHER_BEFORE
    if read.beside is not None:
        with contextlib.suppress(*DAMAGE):  # the table may be damaged too
            (was,) = snapshot.table(LABELS, origin.first, origin.first + 1)
            if str(was) != read.beside[1].sha256.hex():
                return OTHER_LABELS.format(read.beside[0])
    return OTHER


def _rows(schema: Schema, array: str, origin: SourceId, sequence: SourceSequence | LongSequence) -> NDArray[Any]:
    return check_given(schema, origin, sequence).rows[array].copy()  # a process function may fill its arrays again


OTHER = "it gives other rows now than the store had: it changed, or the code that reads it"
OTHER_LABELS = "it gives other rows now than the store had: {}, where its labels are, changed"
OTHER_BEFORE = "the rows that it had before it was built again are lost, and it does not give them any more"
