"""Small stores, and all the ways in which their files are damaged."""

import json
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any
from unittest import mock

import numpy as np

from store_spec import open_store
from store_spec.disk.ledger import Ledger
from store_spec.format.records import SourceId
from store_spec.format.times import Time
from store_spec.schema import ROW_ARRAYS
from tests.store.damage import ROOT
from tests.store.oracle import Recipe, assert_holds, checked, files, make

TABLE_CHUNK_BYTES = 64  # 8 rows of int64, 2 names: ten sequences make several chunks of each table
LENGTHS = (5, 3, 0, 7, 1, 2, 6, 0, 3, 4)
PARTS = 2  # sequences per source
COMMITS = (4, 6, 10, 10)  # the number of sequences after each commit
UPDATED = range(2, 4)  # sequences that the second commit replaces
RETIRED = range(4)  # sequences that are retired after the last commit, which does nothing else

STRAY_FILES = ("notes.txt", ".DS_Store", "c.0.0123456789abcdef.partial", "c.00")  # not part of any store
UNCOMMITTED_CHUNK = 999

# Chunks of inputs have 2 rows, shards have 4.
RECIPES = {
    "own, none": Recipe(
        inputs=("float32", (2,)), labels=("int16", (2,)), label_axis="own", codec="none", chunk=16, shard=32,
        columns=(("site", "string"), ("age", "float64")),
    ),
    "step, zstd": Recipe(
        inputs=("float64", ()), labels=("uint8", (3,)), label_axis="step", missing="keep",
        codec="zstd", chunk=16, shard=32, time=Time("ns"), filled=True,
    ),
    "sequence, lz4": Recipe(
        inputs=("int16", (4,)), labels=("float32", (2,)), label_axis="sequence", codec="lz4:9", chunk=16, shard=32
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """An undamaged store, and the bytes of its files after each commit."""

    path: Path
    commits: list[dict[str, bytes]]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]


def small_tables(size: int = TABLE_CHUNK_BYTES) -> AbstractContextManager[Any]:
    """Limit the chunks of tables to `size` bytes. Writer and readers must use the same limit."""
    return mock.patch("store_spec.schema.TABLE_CHUNK_BYTES", size)


def write_specimen(recipe: Recipe, path: Path) -> Specimen:
    """Write a store in several commits, with sizes, hashes and several parts of each source, as builds do."""
    sources = [f"wälk-{number // PARTS}" for number in range(len(LENGTHS))]
    sources[COMMITS[0] : COMMITS[0] + PARTS] = [sources[number] for number in UPDATED]
    sequences = make(recipe, LENGTHS, sources=sources)
    schema = recipe.schema()
    commits, start = [], 0
    with Ledger.create(path, schema) as ledger:
        for stop in COMMITS:
            for number in range(start, stop):
                sequence, file = sequences[number], number // PARTS + 1
                source = SourceId(name=sequence.source, part=number % PARTS, size=file, sha256=bytes([file]) * 32)
                ledger.register(checked(schema, sequence, source).record(schema, source))
            for job in ledger.jobs(final=True):
                rows = np.concatenate([sequence.rows(job.name) for sequence in sequences])
                job.write([rows[job.start : job.stop]])
                ledger.mark_done(job)
            if stop == COMMITS[1]:
                ledger.replace(sources[UPDATED[0]], UPDATED)
            if stop == start:
                ledger.retire(RETIRED)
            ledger.commit()
            start = stop
            commits.append(files(path))
    assert_holds(open_store(path), sequences[RETIRED.stop :])
    return Specimen(path=path, commits=commits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of damage to some files."""

    kind: str  # what happened to the files
    files: dict[str, bytes | None]  # the new bytes of each file; None: it is deleted
    where: str = ""  # further words about the kind
    is_misplaced: bool = False  # each file is valid with the right checksums, but in the wrong place or too old
    is_harmless: bool = False  # no reader can notice it, such as other white space in JSON

    def __str__(self) -> str:
        return f"{', '.join(self.files)}: {self.kind}{self.where}"


def put_files(folder: Path, contents: dict[str, bytes | None]) -> None:
    """Write files, and remove those without content."""
    for name, data in contents.items():
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)


def flips(specimen: Specimen, rng: random.Random, each: int | None) -> Iterator[Case]:
    """Flip one or several bits of a byte: of every byte, or of `each` random bytes of every file."""
    for name, data in specimen.files.items():
        places = range(len(data)) if each is None else sorted(rng.sample(range(len(data)), min(each, len(data))))
        for place in places:
            mask = 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
            changed = data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]
            yield _changed("flipped", name, data, changed, where=f" in byte {place:,}")


def losses(specimen: Specimen) -> Iterator[Case]:
    """Delete, truncate, double and lengthen each file."""
    for name, data in specimen.files.items():
        half = len(data) // 2
        yield Case(kind="deleted", files={name: None})
        yield _changed("emptied", name, data, b"")
        yield _changed("halved", name, data, data[:half])
        yield _changed("halved to its end", name, data, data[half:])
        yield _changed("one byte short", name, data, data[:-1])
        yield _changed("one byte long", name, data, data + b"\0")
        yield _changed("doubled", name, data, data + data)


def swaps(specimen: Specimen) -> Iterator[Case]:
    """Swap each file with the next chunk of its array, and with the file of the same name of the next array."""
    folders: dict[str, list[str]] = {}
    for name in specimen.files:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    pairs = []
    for names in folders.values():
        chunks = sorted((name for name in names if not name.endswith(ROOT)), key=_chunk_number)
        pairs += [("swapped with its neighbour", one, other) for one, other in pairwise(chunks)]
    for one, other in pairwise(sorted(folders)):
        across = [(name, f"{other}/{PurePosixPath(name).name}") for name in folders[one]]
        pairs += [("swapped with another array's", *pair) for pair in across if pair[1] in specimen.files]
    for kind, one, other in pairs:
        first, second = specimen.files[one], specimen.files[other]
        if first != second:
            yield Case(kind=kind, files={one: second, other: first}, is_misplaced=True)


def older_copies(specimen: Specimen) -> Iterator[Case]:
    """Replace each file by each of its older versions."""
    for number, commit in enumerate(specimen.commits[:-1]):
        for name, old in commit.items():
            if old != specimen.files.get(name):
                yield Case(kind="older", files={name: old}, where=f", as after commit {number}", is_misplaced=True)


def additions(specimen: Specimen) -> Iterator[Case]:
    """Add files to each folder: stray files, and a chunk that was not committed."""
    for folder in sorted({str(PurePosixPath(name).parent) for name in specimen.files}):
        for name in STRAY_FILES:
            yield Case(kind="added", files={str(PurePosixPath(folder, name)): b"stray"})
        chunk = next((name for name in specimen.files if name.startswith(f"{folder}/c.")), None)
        if chunk is not None:
            added = chunk.replace(f"/c.{_chunk_number(chunk)}", f"/c.{UNCOMMITTED_CHUNK}")
            yield Case(kind="added", files={added: specimen.files[chunk]}, is_harmless=True)


def _changed(kind: str, name: str, old: bytes, new: bytes, *, where: str = "") -> Case:
    is_document = name.endswith(ROOT)
    # A doubled shard has its index at its end, and its chunks where they were.
    is_doubled_shard = new == old + old and name.split("/", maxsplit=1)[0] in ROW_ARRAYS and not is_document
    is_same_json = is_document and name != ROOT and _json(new) == _json(old)
    return Case(kind=kind, files={name: new}, where=where, is_harmless=is_same_json or is_doubled_shard)


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data


def _chunk_number(name: str) -> int:
    return int(name.rsplit("/", maxsplit=1)[-1].split(".")[1])
