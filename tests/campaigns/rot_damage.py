"""What can become of the files of a store without anybody's doing: each case is wrong in one way."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath

from store_spec.schema import ROW_ARRAYS
from tests.campaigns.rot_stores import Specimen

ROOT = "zarr.json"
FORGOTTEN = ("notes.txt", ".DS_Store", "c.0.0123456789abcdef.partial", "c.00")  # files that are none of a store's
BEYOND = 999  # a chunk behind all that are committed


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Other bytes in some files of a store.

    Args:
        kind: What happened to them.
        where: The byte or the commit, where that is not all of the file.
        files: What lies there instead; None where nothing does.
        sound: Whether every byte is one that a writer wrote for such a file, so that no checksum of its own can tell.
        harmless: Whether the bytes cannot matter to anybody: the same JSON in other blanks, or what no reader reads.
    """

    kind: str
    files: dict[str, bytes | None]
    where: str = ""
    sound: bool = False
    harmless: bool = False

    def __str__(self) -> str:
        return f"{', '.join(self.files)}: {self.kind}{self.where}"


def flips(specimen: Specimen, rng: random.Random, each: int | None) -> Iterator[Case]:
    """Change a byte of a file, in one bit or several: all bytes in turn, or `each` of every file."""
    for name, data in specimen.files.items():
        places = range(len(data)) if each is None else sorted(rng.sample(range(len(data)), min(each, len(data))))
        for place in places:
            mask = 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
            changed = bytearray(data)
            changed[place] ^= mask
            yield _of_one("flipped", name, data, bytes(changed), where=f" in byte {place:,}")


def losses(specimen: Specimen) -> Iterator[Case]:
    """Delete, empty, halve, double, shorten and lengthen each file."""
    for name, data in specimen.files.items():
        half = len(data) // 2
        yield Case(kind="deleted", files={name: None})
        for kind, changed in (
            ("emptied", b""),
            ("halved", data[:half]),
            ("halved to its end", data[half:]),
            ("one byte short", data[:-1]),
            ("one byte long", data + b"\0"),
            ("doubled", data + data),
        ):
            yield _of_one(kind, name, data, changed)


def swaps(specimen: Specimen) -> Iterator[Case]:
    """Swap each file with its neighbour of the same array, and with the file of that name of the next array."""
    folders: dict[str, list[str]] = {}
    for name in specimen.files:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    for names in folders.values():
        chunks = sorted((name for name in names if not name.endswith(ROOT)), key=_number)
        for one, other in pairwise(chunks):
            yield from _swapped("swapped with its neighbour", specimen, one, other)
    for one, other in pairwise(sorted(folders)):
        for name in folders[one]:
            across = f"{other}/{PurePosixPath(name).name}"
            if across in specimen.files:
                yield from _swapped("swapped with another array's", specimen, name, across)


def older_copies(specimen: Specimen) -> Iterator[Case]:
    """Put each file's older versions in its place, those that differ."""
    for number, commit in enumerate(specimen.commits[:-1]):
        for name, old in commit.items():
            if old != specimen.files.get(name):
                yield Case(kind="older", files={name: old}, where=f", as after commit {number}", sound=True)


def additions(specimen: Specimen) -> Iterator[Case]:
    """Add a file that is none of the store's to each folder; a chunk behind the last is one that was not committed."""
    for folder in sorted({str(PurePosixPath(name).parent) for name in specimen.files}):
        for name in FORGOTTEN:
            yield Case(kind="added", files={str(PurePosixPath(folder, name)): b"forgotten"})
        chunk = next((name for name in specimen.files if name.startswith(f"{folder}/c.")), None)
        if chunk is not None:
            beyond = chunk.replace(f"/c.{_number(chunk)}", f"/c.{BEYOND}")
            yield Case(kind="added", files={beyond: specimen.files[chunk]}, harmless=True)


def _of_one(kind: str, name: str, old: bytes, new: bytes, *, where: str = "") -> Case:
    """Return a case of one file; it is harmless if it reads the same all the same."""
    array = name.split("/", maxsplit=1)[0]
    return Case(
        kind=kind,
        files={name: new},
        where=where,
        harmless=(name != ROOT and name.endswith(ROOT) and _json(new) == _json(old))
        # The index of a shard is at its end, and its chunks are where they were.
        or (new == old + old and array in ROW_ARRAYS and not name.endswith(ROOT)),
    )


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data


def _swapped(kind: str, specimen: Specimen, one: str, other: str) -> Iterator[Case]:
    if specimen.files[one] != specimen.files[other]:
        files: dict[str, bytes | None] = {one: specimen.files[other], other: specimen.files[one]}
        yield Case(kind=kind, files=files, sound=True)


def _number(name: str) -> int:
    return int(name.rsplit("/", maxsplit=1)[-1].split(".")[1])
