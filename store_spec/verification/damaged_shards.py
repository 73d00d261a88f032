"""Find the damaged shards of rows and the sequences that have rows in them, for a repair."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import FormatError
from store_spec.format import retired
from store_spec.format.layout import ROOT, chunk_number
from store_spec.schema import TABLES
from store_spec.verification.parts import overlapping, present_files
from store_spec.verification.problems import Problem

MOST_MISSING = 10**6  # missing shards that are returned; a damaged root may count any number of them


@dataclass(frozen=True, slots=True)
class LostSequence:
    """A sequence with lost rows, as the tables describe it: its rows in the array, and their checksum."""

    number: int
    start: int
    stop: int
    source: str
    part: int
    size: int  # of the source
    sha256: list[int]
    crc32c: int


@dataclass(frozen=True, slots=True)
class DamagedShard:
    """A shard to restore, and the sequences that lost rows in it, in the order of their rows."""

    array: str
    number: int
    lost: tuple[LostSequence, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources to process, each once."""
        return tuple(dict.fromkeys(one.source for one in self.lost))


def damaged_shards(snapshot: Snapshot, problems: Iterable[Problem]) -> list[DamagedShard]:
    """Return the shards of rows to restore.

    Raises:
        FormatError: A table is damaged, or is not as the root has it.
        StoreError: A table cannot be read.
    """
    schema, lost = snapshot.root.schema, dict[tuple[str, int], set[int]]()
    arrays = {fact.name for fact in schema.arrays()}
    for problem in problems:
        folder, _, file = problem.where.rpartition("/")
        number = chunk_number(schema, folder, file) if folder in arrays else None
        array = problem.where if number is None else folder
        if array not in arrays and array not in (TABLES, ROOT):
            continue  # an array's own metadata, or a file that belongs to nothing here
        if not schema.is_sharded(array):
            raise FormatError(f"{snapshot.storage.path(problem.where)}: damaged")
        size, bounds = schema.chunking(array).shard, snapshot.bounds(array)
        if number is None:  # the problem is that more files are missing than were named
            present = present_files(snapshot, array)
            for shard in islice((one for one in range(snapshot.root.files(array)) if one not in present), MOST_MISSING):
                every = overlapping(bounds, shard * size, (shard + 1) * size)
                lost[array, shard] = set(retired.members(every).tolist())
            continue
        for one in retired.members(problem.sequences).tolist():
            shards_of_one = range(int(bounds[one]) // size, -(-int(bounds[one + 1]) // size))
            # If its checksum is wrong, though every chunk is intact, any of its shards may come from another store.
            for shard in shards_of_one if problem.kind == "crc32c" else [number]:
                lost.setdefault((array, shard), set()).add(one)
    crcs = {array: f"{array}_crc32c" for array, _ in lost}
    names = ("source", "part", "source_size", "source_sha256")
    table = {name: snapshot.table(f"{TABLES}/{name}") for name in (*names, *crcs.values())}
    shards = []
    for (array, shard), sequences in sorted(lost.items()):
        size, bounds, numbers = schema.chunking(array).shard, snapshot.bounds(array), np.array([*sequences], np.int64)
        numbers.sort()
        starts, stops = bounds[numbers].clip(shard * size), bounds[numbers + 1].clip(max=(shard + 1) * size)
        numbers = numbers[starts < stops]  # the others have no rows in it
        columns = [numbers, bounds[numbers], bounds[numbers + 1]]
        columns += [table[name][numbers] for name in (*names, crcs[array])]
        rows: Iterable[Any] = zip(*(column.tolist() for column in columns), strict=True)
        shards.append(DamagedShard(array, shard, tuple(LostSequence(*row) for row in rows)))
    return shards
