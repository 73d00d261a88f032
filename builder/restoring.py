"""Files of a store put again, by workers: what the sources and the store itself give of what was lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build import BATCH_BYTES
from builder.compare import READERS
from builder.engine import Engine, Task, as_done
from builder.errors import SourceError
from builder.fingerprints import Fingerprint, read_fingerprint
from builder.given_again import LENGTHS, Origin, check_not_ours, columns_of, may_be_zeros, restore_files
from builder.lost_names import HASHES, PARTS, SIZES, are_retired
from builder.one_source import Failure
from builder.reading import Reading, dealt
from builder.run import workers_died
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import DAMAGE, StoreError
from store_spec.format.missing_runs import no_runs
from store_spec.format.records import SOURCES, SourceId, derived, zeros_described
from store_spec.schema import SKIPPED, TABLES
from store_spec.verification.damage import DamagedFile
from store_spec.verification.parts import Part, cut
from store_spec.verification.repair import (
    describe_part,
    put_chunks,
    readable,
    restore_bounds,
    restore_missing,
    restore_tables,
    runs_of_part,
)
from store_spec.verification.tables import present_files

Result = tuple[list[str], list[Failure], list[DamagedFile]]  # files that were put; why, and which others were not


def origins_of(snapshot: Snapshot, told: NDArray[Any] | None = None) -> list[Origin]:
    """Return the sources, in the order of their sequences; one that was built again is there several times.

    Args:
        snapshot: The store.
        told: The names of the sources, where these are lost.
    """
    names = np.array(snapshot.sources(), object) if told is None else told
    gone = are_retired(snapshot)
    begins = np.ones(len(names), bool)
    begins[1:] = (names[1:] != names[:-1]) | (gone[1:] != gone[:-1])
    with contextlib.suppress(*DAMAGE):  # it may be what is damaged
        # Only retired sequences may follow others of the same source.
        begins |= gone & (snapshot.table(PARTS) == 0)
    starts = np.flatnonzero(begins).tolist()
    return [
        Origin(source=names[start], first=start, count=stop - start, retired=bool(gone[start]))
        for start, stop in pairwise([*starts, len(names)])
    ]


def restore_names(damaged: Sequence[DamagedFile], snapshot: Snapshot, names: NDArray[Any]) -> Result:
    """Put chunks of the names of sources, where nothing else is lost that proves them."""
    try:
        return restore_tables(snapshot, damaged, {SOURCES: names}), [], []
    except DAMAGE as error:
        return [], [Failure(snapshot.storage.root.name, str(error))], []


def labels_gone(reading: Reading, source: str) -> str | None:
    """Say that the file of a source's labels is there no more, if it is not."""
    with contextlib.suppress(SourceError):  # said when it is read
        beside = reading.label_file(source)
        if beside is not None and not reading.sources.path(beside).exists():
            return GONE_LABELS.format(beside)
    return None


class Dealing:
    """Has files put again by the workers, and says which were put, why others were not, and which."""

    def __init__(self, engine: Engine, snapshot: Snapshot, reading: Reading, origins: Sequence[Origin]) -> None:
        self._engine, self._reading, self._origins = engine, reading, origins
        self._snapshot = snapshot.slim()
        self._places = {name: number for number, name in enumerate(reading.names)}
        self._starts = np.array([origin.first for origin in origins], np.int64)

    def bounds(self) -> Result:
        """Put offsets and lengths, where both are lost, by the lengths of what all the sources give."""
        columns, why = self._lengths()
        if put := restore_bounds(self._snapshot, columns):
            return put, why, []
        return [], [*why, Failure(self._snapshot.storage.root.name, OTHER_LENGTHS)], []

    def _lengths(self) -> tuple[dict[str, NDArray[Any]], list[Failure]]:
        """Return the lengths of what all the sources give, and which of them give none."""
        every = range(self._snapshot.root.counts.sequences)
        columns: dict[str, NDArray[Any]] = {name: np.zeros(len(every), np.int64) for name in LENGTHS}
        return columns, self._from_sources(set(every), list(LENGTHS), columns)

    def tables(
        self, damaged: Sequence[DamagedFile], *, bounds: bool = False, told: NDArray[Any] | None = None
    ) -> Result:
        """Put chunks of what has the identity: checksums of rows, hashes of files, numbers of parts, and columns.

        Args:
            damaged: The chunks.
            bounds: Whether offsets or lengths are damaged too.
            told: The names of the sources, where chunks of these are among the damaged.
        """
        schema = self._snapshot.root.schema
        names = {one.array for one in damaged}
        lost = {number for one in damaged for number in one.lost}
        columns = {name: readable(self._snapshot, name) for name in names}
        if told is not None:
            columns[SOURCES] = told
        numbers = np.array(sorted(lost), np.int64)
        if PARTS in names:
            parts = np.concatenate([np.arange(origin.count) for origin in self._origins])
            columns[PARTS][numbers] = parts[numbers]
        self._describe_files(lost, {name: columns[name] for name in (SIZES, HASHES) if name in names})
        why: list[Failure] = []
        if kept := [column.array for column in schema.columns if column.array in names]:
            why += self._from_sources(lost, kept, columns)
        for array in schema.row_arrays:
            if (name := f"{TABLES}/{array}_crc32c") in names:
                unread: set[int] = set()
                self._describe(array, lost, [name], columns, unread)
                # Rows may be lost with their checksums: those of the sources are, if the tables are what they were.
                why += self._from_sources(unread, [name], columns) if unread else []
        try:
            return self._put_proved(damaged, columns, why, bounds=bounds), why, []
        except DAMAGE as error:
            why.append(Failure(self._snapshot.storage.root.name, str(error)))
        if told is not None:
            why.append(Failure(self._snapshot.storage.root.name, OTHER_NAMES))
        return [], why, []

    def _put_proved(
        self, damaged: Sequence[DamagedFile], columns: dict[str, NDArray[Any]], why: list[Failure], *, bounds: bool
    ) -> list[str]:
        """Put chunks of tables, with the lengths of what the sources give where those of the store prove nothing.

        Raises:
            StoreError: They are not what they were, or another one cannot be read.
        """
        try:
            return restore_tables(self._snapshot, damaged, columns)
        except DAMAGE:
            if not bounds:
                raise
        given, others = self._lengths()
        why += others
        # Where all tables can be read, it is the offsets or the lengths that are another store's.
        return restore_bounds(self._snapshot, given) or restore_tables(self._snapshot, damaged, columns, given)

    def _describe_files(self, lost: set[int], columns: dict[str, NDArray[Any]]) -> None:
        """Fill sizes and hashes of the files of sequences, as far as they are there."""
        for origin, read in self._fingerprints(lost) if columns else ():
            inside = [one for one in range(origin.first, origin.first + origin.count) if one in lost]
            values = {SIZES: read.state.size, HASHES: np.frombuffer(read.sha256, np.uint8)}
            for name, column in columns.items():
                column[inside] = values[name]

    def _from_sources(self, lost: set[int], names: Sequence[str], columns: dict[str, NDArray[Any]]) -> list[Failure]:
        """Fill columns of sequences, or checksums of their rows, from their sources; say which give none."""
        origins = [origin for origin in self._of(lost) if origin.source in self._places]
        sizes = [self._reading.file_bytes(origin.source) for origin in origins]
        some = (origins[part] for part, _ in dealt(sizes, BATCH_BYTES, 1.0))

        def give(group: list[Origin]) -> Task:
            batch = self._reading.batch([self._places[origin.source] for origin in group])
            return self._engine.submit(columns_of, batch, self._snapshot.root.schema, tuple(names), watch=True)

        why: list[Failure] = []
        for group, task in as_done(self._engine, some, give):
            found, failures = self._result([origin.source for origin in group], task)
            why += failures
            for origin in group:
                for part, given in enumerate(found.get(origin.source, ())[: origin.count]):
                    for name in names if origin.first + part in lost else ():
                        columns[name][origin.first + part] = given[name][0]
        return why

    def stats(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put chunks of statistics, and of first and last times, from the rows of the store itself."""
        put: list[str] = []
        why: list[Failure] = []
        for array in self._snapshot.root.schema.row_arrays:
            ours = [one for one in damaged if one.array in derived(array)]
            if ours:
                names = sorted({one.array for one in ours})
                columns = {name: readable(self._snapshot, name) for name in names}
                failures = self._describe(array, {number for one in ours for number in one.lost}, names, columns, set())
                why += failures
                if not failures:
                    put += put_chunks(self._snapshot, ours, columns)
        return put, why, []

    def missing(self, arrays: Sequence[str]) -> Result:
        """Put the runs of rows that miss a value, from the rows of the store itself."""
        put: list[str] = []
        why: list[Failure] = []
        for array in arrays:
            found = {-1: no_runs()}
            errors: list[StoreError] = []
            try:
                parts = self._parts(array)
                for part, task in as_done(self._engine, parts, partial(self._given, runs_of_part)):
                    try:
                        found[part.first] = self._result([], task)
                    except DAMAGE as error:
                        errors.append(error)
                if not errors:
                    runs = np.concatenate([found[first] for first in sorted(found)])
                    put += restore_missing(self._snapshot, array, runs)
            except DAMAGE as error:
                errors.append(error)
            why += [Failure(self._snapshot.storage.root.name, str(error)) for error in errors]
        return put, why, []

    def _parts(self, array: str) -> Iterator[Part]:
        """Cut an array into parts.

        Raises:
            StoreError: Nobody knows where its sequences begin.
        """
        return cut(self._snapshot, array, self._snapshot.bounds(array), present_files(self._snapshot, array))

    def _given(self, function: Callable[[Snapshot, Part], Any], part: Part) -> Task:
        return self._engine.submit(function, self._snapshot, part, watch=True)

    def _describe(
        self, array: str, lost: set[int], names: Sequence[str], columns: dict[str, NDArray[Any]], unread: set[int]
    ) -> list[Failure]:
        """Fill columns of sequences from their rows; say which rows cannot be read, and add whose they are."""
        try:
            every = self._parts(array)
        except DAMAGE as error:
            unread |= lost
            return [Failure(self._snapshot.storage.root.name, str(error))]
        zeros = {origin.first for origin in self._origins if origin.source == SKIPPED}  # no file need have these
        for number in lost & zeros:
            found = self._of_zeros(number)
            for name in names:
                columns[name][number] = found[name][0]
        parts = (part for some in every for part in without(some, zeros) if not lost.isdisjoint(numbers_of(part)))
        why = []
        for part, task in as_done(self._engine, parts, partial(self._given, describe_part)):
            inside = [one for one in numbers_of(part) if one in lost]
            try:
                found = self._result([], task)
            except DAMAGE as error:
                why.append(Failure(self._snapshot.storage.root.name, str(error)))
                unread |= set(inside)
                continue
            for name in names:
                columns[name][inside] = found[name][[one - part.first for one in inside]]
        return why

    def _of_zeros(self, number: int) -> dict[str, NDArray[Any]]:
        """Return what the tables have of a sequence that stands for rows that were skipped."""
        schema = self._snapshot.root.schema
        begins = {name: self._snapshot.bounds(name)[number : number + 2] for name in schema.row_arrays}
        lengths = {name: int(stop - start) for name, (start, stop) in begins.items()}
        return zeros_described(schema, SourceId(name=SKIPPED), lengths).columns

    def _fingerprints(self, lost: set[int]) -> Iterator[tuple[Origin, Fingerprint]]:
        """Read the files of sequences again, as far as they are there."""
        origins = [origin for origin in self._of(lost) if origin.source in self._places]
        with ThreadPoolExecutor(READERS) as pool:
            for origin, read in zip(origins, pool.map(self._fingerprint, origins), strict=True):
                if read is not None:
                    yield origin, read

    def _fingerprint(self, origin: Origin) -> Fingerprint | None:
        path = self._reading.sources.path(origin.source)
        try:
            return read_fingerprint(path)
        except OSError as error:
            check_not_ours(error, path)
            return None

    def rows(self, damaged: Sequence[DamagedFile]) -> Result:
        """Put files of `inputs` and `labels`, those of the same sources in one task."""
        put: list[str] = []
        why: list[Failure] = []
        unput: list[DamagedFile] = []
        work: list[tuple[list[DamagedFile], list[Origin]]] = []
        ready = []
        for one in damaged:
            origins, gone = list[Origin](), dict[str, str]()
            for origin in self._of(one.lost):
                if origin.source == SKIPPED:  # whose rows are zeros
                    continue
                what = self._gone(origin)
                if what is None:
                    origins.append(origin)
                elif not may_be_zeros(self._snapshot.root.schema, one.array, origin):
                    gone[origin.source] = what
            why += [Failure(name, what) for name, what in gone.items()]
            if gone:
                unput.append(one)
            else:
                ready.append((one, origins))
        for _, alike in groupby(ready, key=lambda item: (item[0].array, [origin.first for origin in item[1]])):
            group = list(alike)
            work.append(([one for one, _ in group], group[0][1]))

        def restore(item: tuple[list[DamagedFile], list[Origin]]) -> Task:
            some, origins = item
            batch = self._reading.batch([self._places[origin.source] for origin in origins])
            return self._engine.submit(restore_files, batch, origins, self._snapshot, some, watch=True)

        for (some, origins), task in as_done(self._engine, work, restore):
            files, failures = self._result([origin.source for origin in origins], task)
            put += files
            why += failures
            unput += some if failures else []
        return put, why, unput

    def _gone(self, origin: Origin) -> str | None:
        """Say what of a source is there no more, if anything."""
        if origin.source in self._places:
            return labels_gone(self._reading, origin.source)
        return GONE_BEFORE if origin.retired else GONE

    def _of(self, numbers: Iterable[int]) -> list[Origin]:
        which = np.unique(np.searchsorted(self._starts, np.fromiter(numbers, np.int64), "right")) - 1
        return [self._origins[one] for one in which.tolist()]

    def _result(self, names: Sequence[str], task: Task) -> Any:
        try:
            return task.result()
        except self._engine.lost as error:
            raise workers_died(names) from error


def numbers_of(part: Part) -> range:
    """Return which sequences a part has; none where nobody knows."""
    return range(part.first, part.first + (0 if part.bounds is None else len(part.bounds) - 1))


def without(part: Part, numbers: Collection[int]) -> Iterator[Part]:
    """Give what is left of a part without some sequences: those between two of them."""
    edges = [part.first - 1, *sorted(set(numbers).intersection(numbers_of(part))), numbers_of(part).stop]
    for before, stop in pairwise(edges):
        if part.bounds is not None and before + 1 < stop:
            bounds = part.bounds[before + 1 - part.first : stop - part.first + 1]
            yield replace(part, first=before + 1, bounds=bounds, start=int(bounds[0]), stop=int(bounds[-1]))


OTHER_LENGTHS = (
    "nobody knows where its sequences begin: offsets and lengths are both lost, and what the sources give today has "
    "others; put the sources back as they were, or build another store"
)
OTHER_NAMES = (
    "names of its sources are lost with other tables, and were guessed from the files that are there, maybe wrongly: "
    "restore one of the two, or build another store"
)
GONE = "it is there no more, so nobody has the rows that were lost; seqzarr build --retire-missing takes them away"
GONE_BEFORE = "it is there no more, so nobody has the rows that were lost; it was retired before"
GONE_LABELS = "{}, where its labels were, is there no more, so nobody has the rows that were lost; put it back"
