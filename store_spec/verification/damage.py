"""Which files of a store are damaged, and of which sequences they lost rows, by what `verify` found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import DAMAGE
from store_spec.format import retired
from store_spec.format.layout import chunk_number, rows_in_file
from store_spec.format.records import SOURCES, derived, proved
from store_spec.schema import MISSING_RUNS, ROW_ARRAYS, SKIPPED, TABLES
from store_spec.verification.problems import Problem
from store_spec.verification.tables import present_files

BOUNDS = {"offsets": "row_size", "label_offsets": "label_row_size"}
MOST_LOST = 10**6  # files of an array that are put again; a root may count more than there are atoms


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedFile:
    """A shard, or a chunk of a table, that has to be put again.

    Args:
        array: Whose it is.
        number: Its number.
        lost: The sequences of which it no longer has the rows.
        sure: Whether it is this file that is damaged; otherwise it may be another one of the same sequences.
    """

    array: str
    number: int
    lost: tuple[int, ...]
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is damaged in a store, in the order in which it has to be put right: each proves what follows.

    Args:
        bounds: Whether the offsets or the lengths are.
        names: Chunks of the names of sources.
        tables: Chunks of the tables that have the identity.
        rows: Files of `inputs`, `labels` and `time`.
        missing: Arrays whose runs of rows that miss a value have to be found again.
        stats: Chunks of what follows from the rows: statistics, and first and last times.
    """

    bounds: bool
    names: tuple[DamagedFile, ...]
    tables: tuple[DamagedFile, ...]
    rows: tuple[DamagedFile, ...]
    missing: tuple[str, ...]
    stats: tuple[DamagedFile, ...]

    @classmethod
    def of(cls, snapshot: Snapshot, problems: Iterable[Problem]) -> Damage:
        """Tell it from what `verify` found."""
        files: dict[tuple[str, int], set[int]] = {}  # sequences that lost rows, by array and number of the file
        unsure: dict[str, set[int]] = {}  # sequences that have other rows, by array: nobody knows in which file
        whole, tables = False, proved(snapshot.root.schema)
        for problem in problems:
            whole |= problem.where == TABLES
            array, number = _place(snapshot, problem.where)
            if array in ROW_ARRAYS and problem.kind == "crc32c":
                unsure.setdefault(array, set()).update(retired.members(problem.sequences).tolist())
            elif array is not None:
                files.setdefault((array, number), set()).update(retired.members(problem.sequences).tolist())
        for array, number in _missing(snapshot):  # of many, verify names some
            files.setdefault((array, number), set()).update(_in_file(snapshot, array, number))
        others = _files_of(snapshot, unsure)
        for place in files.keys() & others.keys():
            files[place] |= others.pop(place)
        skipped = _skipped(snapshot)
        for (array, number), lost in chain(files.items(), others.items()):
            if array in ROW_ARRAYS and skipped:
                lost.update(skipped.intersection(_in_file(snapshot, array, number)))
        if whole:
            files |= {(name, number): set() for name in tables for number in range(snapshot.root.files(name))}
        damaged = [
            DamagedFile(array=array, number=number, lost=_lost(snapshot, array, number, lost))
            for (array, number), lost in sorted(files.items())
        ]
        rows = [one for one in damaged if one.array in ROW_ARRAYS]
        follow = {name for array in ROW_ARRAYS for name in derived(array)}
        return cls(
            bounds=any(one.array in {*BOUNDS, *BOUNDS.values()} for one in damaged),
            names=tuple(one for one in damaged if one.array == SOURCES),
            tables=tuple(one for one in damaged if one.array in tables),
            rows=(
                *rows,
                *(
                    DamagedFile(array=array, number=number, lost=tuple(sorted(lost)), sure=False)
                    for (array, number), lost in sorted(others.items())
                ),
            ),
            missing=tuple(array for array, runs in MISSING_RUNS.items() if any(one.array == runs for one in damaged)),
            stats=tuple(one for one in damaged if one.array in follow),
        )


def _skipped(snapshot: Snapshot) -> set[int]:
    """Return the sequences whose rows no file need have; none where the names cannot be read."""
    try:
        names = snapshot.sources() if snapshot.root.retired else []  # before memory is taken by what the root says
    except DAMAGE:
        return set()
    return {number for number in retired.members(snapshot.root.retired).tolist() if names[number] == SKIPPED}


def _place(snapshot: Snapshot, where: str) -> tuple[str | None, int]:
    """Return which array a problem is about, and the number of its file."""
    if where in {*BOUNDS, *BOUNDS.values(), *MISSING_RUNS.values()}:
        return where, 0
    name, _, file = where.rpartition("/")
    fact = next((fact for fact in snapshot.root.schema.arrays() if fact.name == name), None)
    if fact is None:
        return None, 0
    number = chunk_number(file, 1 + len(snapshot.root.schema.shape(fact)))
    return (None, 0) if number is None else (name, number)


def _missing(snapshot: Snapshot) -> list[tuple[str, int]]:
    """Return the files that are not there."""
    missing: list[tuple[str, int]] = []
    for fact in snapshot.root.schema.arrays():
        present = present_files(snapshot, fact.name)
        lost = (number for number in range(snapshot.root.files(fact.name)) if number not in present)
        missing += [(fact.name, number) for number in islice(lost, MOST_LOST)]
    return missing


def _in_file(snapshot: Snapshot, name: str, number: int) -> Iterable[int]:
    """Return the sequences that have rows in a file; none where nobody knows where they begin."""
    size = rows_in_file(snapshot.root.schema, name)
    if name in MISSING_RUNS.values():
        return ()  # it has as many rows as there are runs
    if name not in ROW_ARRAYS:
        return range(number * size, min((number + 1) * size, snapshot.root.counts.sequences))
    try:
        bounds = snapshot.bounds(name)
    except DAMAGE:
        return ()
    first = int(np.searchsorted(bounds, number * size, "right")) - 1
    last = int(np.searchsorted(bounds, (number + 1) * size, "left"))
    return range(first, min(last, len(bounds) - 1))


def _lost(snapshot: Snapshot, name: str, number: int, found: set[int]) -> tuple[int, ...]:
    """Return the sequences whose rows a file has to get: of tables, all, since `verify` lets last bits of sums pass."""
    inside = _in_file(snapshot, name, number)
    return tuple(inside) if name not in ROW_ARRAYS else tuple(one for one in inside if one in found)


def _files_of(snapshot: Snapshot, sequences: dict[str, set[int]]) -> dict[tuple[str, int], set[int]]:
    """Return every file that has rows of some sequences of an array, and which of them."""
    files: dict[tuple[str, int], set[int]] = {}
    for name, numbers in sequences.items():
        try:
            bounds = snapshot.bounds(name)
        except DAMAGE:
            continue
        size = rows_in_file(snapshot.root.schema, name)
        for number in numbers:
            for file in range(int(bounds[number]) // size, -(-int(bounds[number + 1]) // size)):
                files.setdefault((name, file), set()).add(number)
    return files
