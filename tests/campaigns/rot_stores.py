"""Small stores with all that rot can hit: each label axis and codec, many shards, many chunks in every table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from store_spec import open_store
from store_spec.disk.ledger import Ledger
from store_spec.format.records import SourceId, describe
from store_spec.format.times import Time
from tests.store.oracle import Recipe, assert_holds, checked, files, make

TABLE_CHUNK_BYTES = 64  # 8 rows of int64, 2 names: ten sequences make several chunks of each table
LENGTHS = (5, 3, 0, 7, 1, 2, 6, 0, 3, 4)
PARTS = 2  # sequences of one source
COMMITS = (4, 6, 10, 10)  # sequences after each
UPDATED = range(2, 4)  # retired by the second commit, which has their source anew
RETIRED = range(4)  # of these the last commit retires those that are left, and does nothing else

# 2 rows in a chunk of inputs, 4 in a shard.
RECIPES = {
    "own, none": Recipe(
        inputs=("float32", (2,)),
        labels=("int16", (2,)),
        label_axis="own",
        codec="none",
        chunk=16,
        shard=32,
        columns=(("site", "string"), ("age", "float64")),
    ),
    "step, zstd": Recipe(
        inputs=("float64", ()),
        labels=("uint8", (3,)),
        label_axis="step",
        missing="keep",
        filled=True,
        chunk=16,
        shard=32,
        time=Time("ns"),
    ),
    "sequence, lz4": Recipe(
        inputs=("int16", (4,)), labels=("float32", (2,)), label_axis="sequence", codec="lz4:9", chunk=16, shard=32
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A sound store, and the bytes of its files after each of its commits."""

    path: Path
    commits: list[dict[str, bytes]]

    @property
    def files(self) -> dict[str, bytes]:
        """The bytes of each file, as they are now."""
        return self.commits[-1]


@contextmanager
def small_tables(size: int = TABLE_CHUNK_BYTES) -> Iterator[None]:
    """Let chunks of tables have no more bytes than these; writer and readers have to agree on it."""
    with mock.patch("store_spec.schema.TABLE_CHUNK_BYTES", size):
        yield


def write_specimen(recipe: Recipe, path: Path) -> Specimen:
    """Write a store in several commits, as the builder does: sources have sizes, hashes and several parts."""
    sources = [f"wälk-{number // PARTS}" for number in range(len(LENGTHS))]
    sources[COMMITS[0] : COMMITS[0] + PARTS] = [sources[number] for number in UPDATED]
    sequences = make(recipe, LENGTHS, sources=sources)
    schema = recipe.schema()
    commits, done = [], 0
    with Ledger.create(path, schema) as ledger:
        for stop in COMMITS:
            for number in range(done, stop):
                sequence, file = sequences[number], number // PARTS + 1
                source = SourceId(name=sequence.source, part=number % PARTS, size=file, sha256=bytes([file]) * 32)
                ledger.register(describe(schema, checked(schema, sequence, source), source))
            for job in ledger.jobs(final=True):
                rows = np.concatenate([sequence.rows(job.name) for sequence in sequences])
                job.write([rows[job.start : job.stop]])
                ledger.mark_done(job)
            if stop == COMMITS[1]:
                ledger.replace(sources[UPDATED[0]], UPDATED)
            if stop == done:
                ledger.retire(RETIRED)
            ledger.commit()
            done = stop
            commits.append(files(path))
    assert_holds(open_store(path), sequences[RETIRED.stop :])
    return Specimen(path=path, commits=commits)
