"""Put damaged files of a store again, with the rows that they had: what is put is proved by what is whole.

Rows are proved by the checksum of their sequence, and the tables by the identity in the root, so nothing can be put
that was not there before. What cannot be proved is not put.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.errors import DAMAGE, ChecksumError, ConflictError
from store_spec.format import shard
from store_spec.format.codec import crc32c
from store_spec.format.layout import BLANK, LARGEST_DOCUMENT, ROOT, Root, chunk_key, rows_in_file, table_chunk
from store_spec.format.missing_runs import Runs, cut_at, missing_runs, no_runs
from store_spec.format.moments import moments
from store_spec.format.records import SOURCES, Records, proved
from store_spec.reading.read_ranges import read_ranges
from store_spec.schema import MISSING_RUNS, MOMENTS, TABLES, ArrayFact
from store_spec.verification.damage import BOUNDS, DamagedFile
from store_spec.verification.parts import Part


def restore_folders(path: Path) -> None:
    """Make the folders of a store that are lost, so that it can be opened, and its files be put again.

    Raises:
        StoreError: There is no store at that path, or its root cannot be read.
    """
    storage = LocalStorage(path.absolute())
    root = Root.decode(storage.get(ROOT, 0, LARGEST_DOCUMENT + 1), str(storage.path(ROOT)))
    for folder in root.schema.folders():
        if not os.path.lexists(storage.path(folder)):
            storage.make_folder(folder)


def restore_bounds(snapshot: Snapshot, given: Mapping[str, NDArray[np.int64]] | None = None) -> list[str]:
    """Put offsets and lengths again from one another: those are right with which the tables have their identity.

    Args:
        snapshot: The store.
        given: `row_size` and `label_row_size` from elsewhere, where both may be lost.

    Returns:
        The files that were put; none where neither is right, or the tables cannot be read.
    """
    try:
        columns = {name: snapshot.table(name) for name in proved(snapshot.root.schema)}
        found = _proving(snapshot, snapshot.sources(), columns, given)
    except DAMAGE:
        return []
    if found is None:
        return []
    _check_current(snapshot)
    put = []
    for name, right in found.items():
        begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(right)])
        for table, rows in ((name, begins), (BOUNDS[name], right)):
            put += _put_where_other(snapshot, table, rows)
    return put


def _proving(
    snapshot: Snapshot,
    names: Sequence[str],
    columns: Mapping[str, NDArray[Any]],
    given: Mapping[str, NDArray[np.int64]] | None,
) -> dict[str, NDArray[np.int64]] | None:
    """Return the lengths, by the offsets that go with them, with which tables have their identity; None if none have.

    Raises:
        ChecksumError: There are no lengths that could be right.
    """
    schema = snapshot.root.schema
    steps = _candidates(snapshot, "offsets", given)
    label_steps = _candidates(snapshot, "label_offsets", given) if schema.label_axis == "own" else [None]
    for lengths, label_lengths in product(steps, label_steps):
        ours = np.zeros_like(lengths) if label_lengths is None else label_lengths
        if Records(tuple(names), lengths, ours, dict(columns)).identity(BLANK, schema) == snapshot.root.identity:
            return {"offsets": lengths} | ({} if label_lengths is None else {"label_offsets": label_lengths})
    return None


def _candidates(
    snapshot: Snapshot, name: str, given: Mapping[str, NDArray[np.int64]] | None
) -> list[NDArray[np.int64]]:
    """Return the lengths by the offsets, by themselves, and as given, as far as they are there and could be right.

    Raises:
        ChecksumError: None of them.
    """
    last = snapshot.root.counts.steps if name == "offsets" else snapshot.root.counts.label_steps
    found = [] if given is None else [given[BOUNDS[name]]]
    for table in (name, BOUNDS[name]):
        with contextlib.suppress(*DAMAGE):
            values = snapshot.table(table)
            found.append(np.diff(values) if table == name else values)
    right = [lengths for lengths in found if (lengths >= 0).all() and int(lengths.sum()) == last]
    if not right:
        raise ChecksumError(
            f"{snapshot.storage.path(name)}: nobody knows where its sequences begin: neither this table nor "
            f"{BOUNDS[name]} can be read and has the {last:,} rows that are committed; restore one of the two, or "
            "build another store"
        )
    return right


def restore_tables(
    snapshot: Snapshot,
    damaged: Iterable[DamagedFile],
    found: Mapping[str, NDArray[Any]],
    given: Mapping[str, NDArray[np.int64]] | None = None,
) -> list[str]:
    """Put chunks of the tables that have the identity, or of the names of the sources.

    Either of offsets and lengths will do, as they may be lost with these.

    Args:
        snapshot: The store.
        damaged: The chunks.
        found: Each of their tables; what is damaged in it is from elsewhere, and proved here.
        given: As for `restore_bounds`.

    Returns:
        The files that were put.

    Raises:
        ChecksumError: The tables would not have the identity that the root has; or nobody knows the lengths.
        StoreError: Another one cannot be read.
    """
    schema = snapshot.root.schema
    columns = {name: found[name] if name in found else snapshot.table(name) for name in proved(schema)}
    names = found[SOURCES].tolist() if SOURCES in found else snapshot.sources()
    if _proving(snapshot, names, columns, given) is None:
        raise ChecksumError(
            f"{snapshot.storage.path(TABLES)}: with what its rows and the sources say today it is not what it was, so "
            "nothing was put; put the sources back as they were, or build another store"
        )
    return put_chunks(snapshot, damaged, found)


def put_chunks(snapshot: Snapshot, damaged: Iterable[DamagedFile], columns: Mapping[str, NDArray[Any]]) -> list[str]:
    """Put chunks of tables from whole columns, whose rows the caller has proved; return the files."""
    _check_current(snapshot)
    put = []
    for one in damaged:
        fact, size = snapshot.root.schema.fact(one.array), rows_in_file(snapshot.root.schema, one.array)
        rows = columns[one.array][one.number * size : (one.number + 1) * size]
        _put_rows(snapshot, fact, one.number * size, rows)
        put.append(chunk_key(one.array, one.number, rows.ndim))
    _folder(snapshot).sync({one.array for one in damaged})
    return put


def _put_where_other(snapshot: Snapshot, name: str, rows: NDArray[Any]) -> list[str]:
    """Put the chunks of a table that hold something else than these rows, which are all of it."""
    fact, size, put = snapshot.root.schema.fact(name), rows_in_file(snapshot.root.schema, name), []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        try:
            same = np.array_equal(snapshot.table(name, first, first + len(part)), part)
        except DAMAGE:
            same = False
        if not same:
            _put_rows(snapshot, fact, first, part)
            put.append(chunk_key(name, first // size, rows.ndim))
    _folder(snapshot).sync([name])
    return put


def readable(snapshot: Snapshot, name: str) -> NDArray[Any]:
    """Return a table, with zeros where it cannot be read."""
    schema, fact = snapshot.root.schema, snapshot.root.schema.fact(name)
    size, count = table_chunk(schema, fact), snapshot.root.committed(name)
    table = np.zeros((count, *schema.shape(fact)), schema.dtype(fact))
    for first in range(0, count, size):
        out = np.empty((size, *schema.shape(fact)), schema.dtype(fact))
        try:
            snapshot.tables.fill_from_chunk(fact, first // size, out)
        except DAMAGE:
            continue
        table[first : first + size] = out[: count - first]
    return table


def describe_part(snapshot: Snapshot, part: Part) -> dict[str, NDArray[Any]]:
    """Return what the tables have of the sequences of a part, computed from its rows: checksums and statistics.

    Raises:
        StoreError: Some of its rows cannot be read.
    """
    assert part.bounds is not None
    every = read_ranges(snapshot, part.array, part.bounds[:-1], part.bounds[1:])
    columns: dict[str, NDArray[Any]] = {
        f"{TABLES}/{part.array}_crc32c": np.array([crc32c(rows) for rows in every], np.uint32)
    }
    if part.array == "time":
        for at, name in ((0, "first"), (-1, "last")):
            found_times = [rows[at] if len(rows) else 0 for rows in every]
            columns[f"{TABLES}/time_{name}"] = np.array(found_times, np.int64)
        return columns
    if part.array == "filled":
        return columns
    found = [moments(rows) for rows in every]
    columns |= {f"stats/{part.array}_{name}": np.stack([getattr(one, name) for one in found]) for name in MOMENTS}
    return columns


def runs_of_part(snapshot: Snapshot, part: Part) -> Runs:
    """Return the runs of rows of a part that miss a value, a piece of its rows at a time.

    Raises:
        StoreError: Some of its rows cannot be read.
    """
    assert part.bounds is not None
    size = rows_in_file(snapshot.root.schema, part.array)
    found = [no_runs()]
    for first in range(part.start - part.start % size, part.stop, size):
        start, stop = max(part.start, first), min(part.stop, first + size)
        found.append(missing_runs(snapshot.rows(part.array, start, stop)) + start)
    return cut_at(np.concatenate(found), part.bounds)


def restore_missing(snapshot: Snapshot, array: str, runs: Runs) -> list[str]:
    """Put the runs of rows of an array that miss a value, where they are others; return the files.

    Args:
        snapshot: The store.
        array: `inputs` or `labels`.
        runs: All runs that its rows have.

    Raises:
        ChecksumError: The root counts another number of them.
    """
    name = MISSING_RUNS[array]
    due = snapshot.root.committed(name)
    if len(runs) != due:
        raise ChecksumError(
            f"{snapshot.storage.path(name)}: its rows have {len(runs):,} runs that miss a value, where {due:,} are "
            "committed; nothing was put"
        )
    _check_current(snapshot)
    return _put_where_other(snapshot, name, runs)


def restore_rows(
    snapshot: Snapshot, damaged: DamagedFile, given: Mapping[int, NDArray[Any]], *, unproved: Collection[int] = ()
) -> str | None:
    """Put a file of `inputs` or `labels` again.

    Args:
        snapshot: The store.
        damaged: The file.
        given: All rows of each sequence of which it lost some.
        unproved: Those of which the rows may be others than they had.

    Returns:
        The file that was put; None if it has these rows, so that it is another one that is damaged.

    Raises:
        ChecksumError: Rows that are given are not those that the sequence had.
        ConflictError: A writer committed meanwhile.
        StoreError: Rows that were not lost cannot be read.
    """
    schema, name = snapshot.root.schema, damaged.array
    size = rows_in_file(schema, name)
    start = damaged.number * size
    stop = min(start + size, snapshot.root.committed(name))
    bounds = snapshot.bounds(name)
    out = schema.rows(name).empty(stop - start)
    at = start
    for number in damaged.lost:
        begin, end = int(bounds[number]), int(bounds[number + 1])
        rows = given[number]
        proved = number in unproved or snapshot.had(name, number, rows)
        if len(rows) != end - begin or not proved:
            raise ChecksumError(f"{snapshot.storage.path(name)}: sequence {number:,} had other rows; nothing was put")
        low, high = max(start, begin), min(stop, end)
        if at < low:
            out[at - start : low - start] = snapshot.rows(name, at, low)
        out[low - start : high - start] = rows[low - begin : high - begin]
        at = max(at, high)
    if at < stop:
        out[at - start : stop - start] = snapshot.rows(name, at, stop)
    if not damaged.sure and _has(snapshot, name, start, out):
        return None
    _check_current(snapshot)
    key = chunk_key(name, damaged.number, out.ndim)
    if schema.is_sharded(name):
        place, chunking = shard.ShardId(name, damaged.number), schema.chunking(name)
        _folder(snapshot).put(key, shard.encode([out], place, schema.rows(name), chunking, schema.codec))
    else:
        _put_rows(snapshot, schema.fact(name), start, out)
    _folder(snapshot).sync([name])
    return key


def is_closed(snapshot: Snapshot, damaged: DamagedFile) -> bool:
    """Tell whether a file is the last, partial shard of its array, and so damaged that no rows can follow in it."""
    schema, rows = snapshot.root.schema, snapshot.root.committed(damaged.array)
    size = rows_in_file(schema, damaged.array)
    start = damaged.number * size
    if not schema.is_sharded(damaged.array) or start + size <= rows:
        return False
    try:
        snapshot.encoded_rows(damaged.array, start, rows)
    except DAMAGE:
        return True
    return False


def _has(snapshot: Snapshot, name: str, start: int, rows: NDArray[Any]) -> bool:
    try:
        return snapshot.rows(name, start, start + len(rows)).tobytes() == rows.tobytes()
    except DAMAGE:
        return False


def _put_rows(snapshot: Snapshot, fact: ArrayFact, first: int, rows: NDArray[Any]) -> None:
    """Put chunks of a table, of which `first` begins one."""
    from store_spec.disk.zarr_arrays import put_rows  # late, as zarr takes 0.1 s to import

    put_rows(_folder(snapshot), snapshot.root.schema, fact, first, rows)


def _folder(snapshot: Snapshot) -> LocalStorage:
    """Return the folder of the store, to write to."""
    return LocalStorage(snapshot.storage.root)


def _check_current(snapshot: Snapshot) -> None:
    """Refuse to put what an older snapshot gives: where a writer committed meanwhile, the last files have more rows.

    The lock keeps writers out; this is for a process that outlives the one that holds it.
    """
    if Snapshot.open(snapshot.storage.root).root.counts != snapshot.root.counts:
        raise ConflictError(f"{snapshot.storage.root}: a writer committed meanwhile; nothing was put: check it again")
