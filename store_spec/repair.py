"""Put damaged files of a store again, with the very bytes that they had: what is put is proved by what is whole.

Rows are proved by the checksum of their sequence, and the tables by the identity in the root, so nothing can be put
that was not there before. What cannot be proved is not put.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import retired, shard
from store_spec.errors import ChecksumError, StoreError
from store_spec.layout import BLANK, chunk_key, chunk_number, table_chunk
from store_spec.problems import Problem
from store_spec.records import Records
from store_spec.schema import TABLES
from store_spec.snapshot import FACTS, Snapshot
from store_spec.spans import rows_in_file
from store_spec.tables import put_rows

ROW_ARRAYS = ("inputs", "labels")
BOUNDS = {"offsets": "row_size", "label_offsets": "label_row_size"}
PROVED = ("part", "source_size", "source_sha256", "inputs_crc32c", "labels_crc32c")  # with names, by the identity


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedFile:
    """A shard, or a chunk of a table, that has to be put again.

    Args:
        array: Whose it is.
        number: Its number.
        lost: The sequences of which it no longer has the rows.
    """

    array: str
    number: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is damaged in a store, in the order in which it has to be put right: each proves what follows.

    Args:
        bounds: Whether the offsets or the lengths are.
        tables: Chunks of tables whose rows follow from the sources.
        rows: Files of `inputs` and `labels`.
    """

    bounds: bool
    tables: tuple[DamagedFile, ...]
    rows: tuple[DamagedFile, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, problems: Iterable[Problem]) -> Damage:
        """Tell it from what `verify` found."""
        lost: dict[str, set[int]] = {}  # sequences, by array
        for problem in problems:
            array = _array_of(snapshot, problem.where)
            if array is not None:
                lost.setdefault(array, set()).update(retired.members(problem.sequences).tolist())
        every = set(range(snapshot.root.counts.sequences)) if "identity" in lost else set()
        for name in PROVED if every else ():
            lost[f"{TABLES}/{name}"] = every
        tables = [name for name in lost if "/" in name and FACTS[name].dtype != "string"]
        return cls(
            bounds=bool(lost.keys() & {*BOUNDS, *BOUNDS.values()}),
            tables=tuple(one for name in tables for one in _chunks(snapshot, name, lost[name])),
            rows=tuple(one for name in ROW_ARRAYS if lost.get(name) for one in _files(snapshot, name, lost[name])),
        )


def _array_of(snapshot: Snapshot, where: str) -> str | None:
    """Return which array a problem is about; `identity` where it is all of the tables."""
    if where == TABLES:
        return "identity"
    if where in {*BOUNDS, *BOUNDS.values()}:
        return where
    name, _, file = where.rpartition("/")
    fact = FACTS.get(name)
    if fact is None or fact not in snapshot.root.schema.arrays():
        return None
    return None if chunk_number(file, 1 + len(snapshot.root.schema.shape(fact))) is None else name


def _chunks(snapshot: Snapshot, name: str, lost: set[int]) -> list[DamagedFile]:
    """Return the chunks of a table, each as a whole: `verify` lets the last bits of sums pass."""
    size, count = table_chunk(snapshot.root.schema, FACTS[name]), snapshot.root.counts.sequences
    chunks = sorted({number // size for number in lost})
    return [
        DamagedFile(array=name, number=chunk, lost=tuple(range(chunk * size, min((chunk + 1) * size, count))))
        for chunk in chunks
    ]


def _files(snapshot: Snapshot, name: str, lost: set[int]) -> list[DamagedFile]:
    """Return every file that has rows of sequences that are lost."""
    try:
        bounds = snapshot.offsets if name == "inputs" else snapshot.label_offsets
    except StoreError:
        return []  # these come first
    size = rows_in_file(snapshot, name)
    by_file: dict[int, list[int]] = {}
    for number in sorted(lost):
        for file in range(int(bounds[number]) // size, -(-int(bounds[number + 1]) // size)):
            by_file.setdefault(file, []).append(number)
    return [DamagedFile(array=name, number=file, lost=tuple(some)) for file, some in by_file.items()]


def restore_bounds(snapshot: Snapshot) -> list[str]:
    """Put offsets and lengths again from one another: those are right with which the tables have their identity.

    Returns:
        The files that were put; none where neither is right.
    """
    schema, counts = snapshot.root.schema, snapshot.root.counts
    own = schema.label_axis == "own"
    steps, label_steps = _candidates(snapshot, "offsets"), _candidates(snapshot, "label_offsets") if own else [None]
    try:
        columns = {f"{TABLES}/{name}": snapshot.table(f"{TABLES}/{name}") for name in PROVED}
        names = tuple(snapshot.sources())
    except StoreError:
        return []
    for lengths, label_lengths in product(steps, label_steps):
        assert lengths is not None
        ours = np.zeros_like(lengths) if label_lengths is None else label_lengths
        if Records(names, lengths, ours, columns).identity(BLANK) != snapshot.root.identity:
            continue
        put = []
        for name, right in (("offsets", lengths), ("label_offsets", label_lengths)):
            if right is None:
                continue
            begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(right)])
            assert begins[-1] == (counts.steps if name == "offsets" else counts.label_steps)
            for table, rows in ((name, begins), (BOUNDS[name], right)):
                put += _put_where_other(snapshot, table, rows)
        return put
    return []


def _candidates(snapshot: Snapshot, name: str) -> list[NDArray[np.int64]]:
    """Return the lengths by the offsets, and by themselves, as far as they can be read and could be right."""
    last = snapshot.root.counts.steps if name == "offsets" else snapshot.root.counts.label_steps
    found = []
    for table in (name, BOUNDS[name]):
        try:
            values = snapshot.table(table)
        except StoreError:
            continue
        lengths = np.diff(values) if table == name else values
        if (lengths >= 0).all() and int(lengths.sum()) == last:
            found.append(lengths)
    return found


def _put_where_other(snapshot: Snapshot, name: str, rows: NDArray[Any]) -> list[str]:
    """Put the chunks of a table that hold something else than these rows, which are all of it."""
    schema, fact = snapshot.root.schema, FACTS[name]
    size, put = table_chunk(schema, fact), []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        try:
            same = np.array_equal(snapshot.table(name, first, first + len(part)), part)
        except StoreError:
            same = False
        if not same:
            put_rows(snapshot.storage, schema, fact, first, part)
            put.append(chunk_key(name, first // size, rows.ndim))
    snapshot.storage.sync([name])
    return put


def restore_tables(snapshot: Snapshot, damaged: Iterable[DamagedFile], records: Mapping[int, Records]) -> list[str]:
    """Put chunks of tables again, from what processing the sources again gave.

    Args:
        snapshot: The store.
        damaged: The chunks.
        records: Of each sequence that is lost, its table rows.

    Returns:
        The files that were put.

    Raises:
        ChecksumError: The tables would not have the identity that the root has: the sources are others than then.
    """
    schema = snapshot.root.schema
    tables: dict[str, NDArray[Any]] = {}
    chunks: dict[str, list[int]] = {}
    for one in damaged:
        if one.array not in tables:
            tables[one.array] = _readable(snapshot, one.array)
        for number in one.lost:
            tables[one.array][number] = records[number].columns[one.array][0]
        chunks.setdefault(one.array, []).append(one.number)
    columns = {name: tables[name] if name in tables else snapshot.table(name) for name in _proved_names()}
    lengths, own = snapshot.table("row_size"), schema.label_axis == "own"
    label_lengths = snapshot.table("label_row_size") if own else np.zeros_like(lengths)
    if Records(tuple(snapshot.sources()), lengths, label_lengths, columns).identity(BLANK) != snapshot.root.identity:
        raise ChecksumError(
            f"{snapshot.storage.path(TABLES)}: the sources do not give what its tables had, so nothing was put"
        )
    for number, record in records.items():
        for name in (f"{TABLES}/{array}_crc32c" for array in ROW_ARRAYS):
            if record.columns[name][0] != columns[name][number]:
                raise ChecksumError(
                    f"{snapshot.storage.path(name)}: sequence {number:,} had other rows than its source gives now, so "
                    "nothing was put"
                )
    put = []
    for name, numbers in chunks.items():
        size = table_chunk(schema, FACTS[name])
        for number in numbers:
            rows = tables[name][number * size : (number + 1) * size]
            put_rows(snapshot.storage, schema, FACTS[name], number * size, rows)
            put.append(chunk_key(name, number, rows.ndim))
        snapshot.storage.sync([name])
    return put


def _proved_names() -> list[str]:
    return [f"{TABLES}/{name}" for name in PROVED]


def _readable(snapshot: Snapshot, name: str) -> NDArray[Any]:
    """Return a table, with zeros where it cannot be read."""
    schema, fact = snapshot.root.schema, FACTS[name]
    size, count = table_chunk(schema, fact), snapshot.root.counts.of(schema.axis(fact))
    table = np.zeros((count, *schema.shape(fact)), schema.dtype(fact))
    for first in range(0, count, size):
        out = np.empty((size, *schema.shape(fact)), schema.dtype(fact))
        try:
            snapshot.fill_from_chunk(fact, first // size, out)
        except StoreError:
            continue
        table[first : first + size] = out[: count - first]
    return table


def restore_rows(snapshot: Snapshot, damaged: DamagedFile, given: Mapping[int, NDArray[Any]]) -> str:
    """Put a file of `inputs` or `labels` again.

    Args:
        snapshot: The store.
        damaged: The file.
        given: All rows of each sequence of which it lost some.

    Returns:
        The file that was put.

    Raises:
        ChecksumError: Rows that are given are not those that the sequence had.
        StoreError: Rows that were not lost cannot be read.
    """
    schema, name = snapshot.root.schema, damaged.array
    size, chunking = rows_in_file(snapshot, name), schema.chunking(name)
    start = damaged.number * size
    stop = min(start + size, snapshot.root.counts.of(schema.axis(FACTS[name])))
    bounds = snapshot.offsets if name == "inputs" else snapshot.label_offsets
    out = schema.rows(name).empty(stop - start)
    at = start
    for number in damaged.lost:
        begin, end = int(bounds[number]), int(bounds[number + 1])
        rows = given[number]
        if len(rows) != end - begin or not snapshot.had(name, number, rows):
            raise ChecksumError(f"{snapshot.storage.path(name)}: sequence {number:,} had other rows; nothing was put")
        low, high = max(start, begin), min(stop, end)
        if at < low:
            out[at - start : low - start] = snapshot.rows(name, at, low)
        out[low - start : high - start] = rows[low - begin : high - begin]
        at = max(at, high)
    if at < stop:
        out[at - start : stop - start] = snapshot.rows(name, at, stop)
    key = chunk_key(name, damaged.number, out.ndim)
    if chunking is None:
        put_rows(snapshot.storage, schema, FACTS[name], start, out)
    else:
        snapshot.storage.put(key, shard.encode([out], schema.rows(name), chunking, schema.codec))
    snapshot.storage.sync([name])
    return key
