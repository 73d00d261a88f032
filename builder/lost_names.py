"""Names of sources that a store has lost, guessed from the files that are there: who asks has them proved."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.compare import READERS
from builder.fingerprints import read_fingerprint
from builder.given_again import check_not_ours
from builder.reading import Reading
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import DAMAGE
from store_spec.format import retired
from store_spec.format.records import SOURCES
from store_spec.schema import TABLES
from store_spec.verification.damage import DamagedFile
from store_spec.verification.repair import readable

PARTS, SIZES, HASHES = (f"{TABLES}/{name}" for name in ("part", "source_size", "source_sha256"))
Key = tuple[int, bytes]  # a file's size and hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameless:
    """The sequences of one source whose name was lost, which follow one another.

    Args:
        first: The number of the first.
        key: The file that it was.
        retired: Whether they are.
    """

    first: int
    key: Key
    retired: bool


def guessed(lost: Sequence[Nameless], files: Mapping[str, Key], known: frozenset[str]) -> dict[int, str]:
    """Return a name for each source that has lost its own, by the number of its first sequence, as far as one is near.

    A file of the very bytes is the source. Of several alike each is taken once, in the order of the names, as a build
    takes them. What has no such file may be one that changed: those that are left over are taken in their order.

    Args:
        lost: The sources, in the order of their sequences.
        files: What each file that is there is now, in the order of their names.
        known: The names that the store still has of sources that are not retired.

    >>> one, other = Nameless(first=0, key=(9, b"x"), retired=False), Nameless(first=2, key=(7, b"y"), retired=False)
    >>> guessed([one, other], {"a.csv": (9, b"x"), "b.csv": (8, b"z"), "c.csv": (3, b"")}, frozenset({"c.csv"}))
    {0: 'a.csv', 2: 'b.csv'}
    """
    names: dict[int, str] = {}
    for key in dict.fromkeys(one.key for one in lost):
        ours = [one for one in lost if one.key == key]
        alike = [name for name, found in files.items() if found == key]
        free = [name for name in alike if name not in known] or alike
        live = [one for one in ours if not one.retired]
        if len(free) == len(ours):
            names |= {one.first: name for one, name in zip(ours, free, strict=True)}
        elif free and len(free) >= len(live):
            # What is retired came from one of them before, and was built again by other code, or updated twice.
            names |= {one.first: free[0] for one in ours}
            names |= {one.first: name for one, name in zip(live, free, strict=False)}
    left = [name for name in files if name not in known and name not in names.values()]
    nameless = [one for one in lost if one.first not in names and not one.retired]
    return names | {one.first: name for one, name in zip(nameless, left, strict=False)}


def are_retired(snapshot: Snapshot) -> NDArray[np.bool_]:
    """Tell which sequences are retired."""
    gone = np.zeros(snapshot.root.counts.sequences, bool)
    gone[retired.members(snapshot.root.retired)] = True
    return gone


def told_names(damaged: Sequence[DamagedFile], snapshot: Snapshot, reading: Reading) -> NDArray[Any]:
    """Return all names of sources: for those that are lost, of files that have the sizes and hashes in the tables.

    Where some of that is lost too, they are told from the order of the files: whoever puts names has them proved.

    Raises:
        StoreError: All of it is lost.
    """
    whole: dict[str, NDArray[Any]] = {}
    for name in (SIZES, HASHES, PARTS):
        with contextlib.suppress(*DAMAGE):
            whole[name] = snapshot.table(name)
    if not whole:
        snapshot.table(PARTS)  # says why; no memory is taken by what a root alone says
    sizes, hashes = (whole[name] if name in whole else readable(snapshot, name) for name in (SIZES, HASHES))
    names = readable(snapshot, SOURCES)
    gone = are_retired(snapshot)
    lost = sorted({number for one in damaged for number in one.lost})
    keys = {number: (int(sizes[number]), hashes[number].tobytes()) for number in lost}
    files = dict(_keys_of(reading, {size for size, _ in keys.values()}))
    begins = whole[PARTS] == 0 if PARTS in whole else _begins(sizes, hashes, gone, files)
    nameless = [
        Nameless(first=number, key=keys[number], retired=bool(gone[number])) for number in lost if begins[number]
    ]
    known = frozenset(names[np.setdiff1d(np.flatnonzero(~gone), lost)].tolist())
    found = guessed(nameless, files, known)
    for number in lost:
        names[number] = found.get(number, "") if begins[number] or not number else names[number - 1]
    return names


def _begins(
    sizes: NDArray[np.int64], hashes: NDArray[np.uint8], gone: NDArray[np.bool_], files: Mapping[str, Key]
) -> NDArray[np.bool_]:
    """Tell which sequences are the first of their source, by its file: of several files alike each has as many."""
    begins = np.ones(len(sizes), bool)
    begins[1:] = (sizes[1:] != sizes[:-1]) | (hashes[1:] != hashes[:-1]).any(axis=1) | (gone[1:] != gone[:-1])
    alike = Counter(files.values())
    for first, stop in pairwise([*np.flatnonzero(begins).tolist(), len(sizes)]):
        each, rest = divmod(stop - first, alike[int(sizes[first]), hashes[first].tobytes()] or 1)
        if not rest:
            begins[first:stop:each] = True
    return begins


def _keys_of(reading: Reading, sizes: Collection[int]) -> Iterator[tuple[str, Key]]:
    """Give the sources that are there, in order, with their sizes, and with their hashes where these are among some."""

    def key(name: str) -> Key | None:
        path = reading.sources.path(name)
        try:
            size = path.stat().st_size
            return size, read_fingerprint(path).sha256 if size in sizes else b""
        except OSError as error:
            check_not_ours(error, path)
            return None

    with ThreadPoolExecutor(READERS) as pool:
        for name, found in zip(reading.names, pool.map(key, reading.names), strict=True):
            if found is not None:
                yield name, found
