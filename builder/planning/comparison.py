"""What became of each source since the store was built: new, unchanged, changed, vanished, or not to be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.manifest.kept import Kept
from builder.sources.fingerprints import Fingerprint, Seen, SeenFiles, State, read_fingerprint
from builder.sources.label_files import LABELS_SHA256
from store_spec import SequenceColumn

READERS = 8  # files that are read at once; hashing leaves Python's lock to the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The sources that are there, held against those that a store holds. All in the order of the names."""

    new: tuple[str, ...]
    changed: tuple[str, ...]  # other bytes than the store has, or other labels or kept columns in the manifest
    unchanged: tuple[str, ...]
    vanished: tuple[str, ...]  # in the store, and not among the sources
    unreadable: Mapping[str, str]  # in the store, and nobody can say whether they changed: why

    @property
    def held(self) -> int:
        """Sources that the store holds."""
        return len(self.changed) + len(self.unchanged) + len(self.vanished) + len(self.unreadable)


class Held:
    """The sources that readers of a store see: which sequences are theirs, and what they were when they were read."""

    def __init__(self, store: store_spec.Store) -> None:
        self._store = store
        self.numbers: dict[str, list[int]] = {}  # of each source's sequences
        for number, source in zip(store.selection.tolist(), store.sources, strict=True):
            self.numbers.setdefault(source, []).append(number)
        self._sizes = store.snapshot.table("sequences/source_size")
        self._columns: dict[str, NDArray[Any]] = {}  # those that were asked for
        self._hashes = store.snapshot.table("sequences/source_sha256")

    def __contains__(self, source: str) -> bool:
        return source in self.numbers

    def size(self, source: str) -> int:
        """Return how many bytes the file had."""
        return int(self._sizes[self.numbers[source][0]])

    def sha256(self, source: str) -> bytes:
        """Return the hash that the file had."""
        return bytes(self._hashes[self.numbers[source][0]])

    def labels_sha256(self, source: str) -> bytes:
        """Return the hash that the file of its labels had; b"" where the store has none."""
        name = SequenceColumn(LABELS_SHA256, "string").array
        if name not in self._columns:
            is_there = any(column.array == name for column in self._store.schema.columns)
            self._columns[name] = self._store.snapshot.table(name) if is_there else np.empty(0, object)
        held = self._columns[name]
        return bytes.fromhex(str(held[self.numbers[source][0]])) if len(held) else b""

    def has_labels(self, source: str, labels: NDArray[Any]) -> bool:
        """Tell whether these are the labels that its sequences have: one row, on the `sequence` axis."""
        rows = self._store.schema.labels
        wanted = labels.reshape(rows.shape).astype(rows.dtype)
        held = (self._store.snapshot.table("labels", number, number + 1)[0] for number in self.numbers[source])
        return all(np.array_equal(one, wanted, equal_nan=rows.dtype.kind in "fc") for one in held)

    def has_kept(self, source: str, kept: Sequence[Kept], number: int) -> bool:
        """Tell whether its sequences have what the manifest says of that source."""
        for one in kept:
            name = one.column.array
            if name not in self._columns:
                self._columns[name] = self._store.snapshot.table(name)
            held = self._columns[name][self.numbers[source]].tolist()
            if {repr(value) for value in held} != {repr(one.values[[number]].tolist()[0])}:  # NaN is itself
                return False
        return True


def compare(
    root: Path,
    names: Sequence[str],
    held: Held | None,
    seen: SeenFiles,
    labels: NDArray[Any] | None,
    *,
    kept: Sequence[Kept] = (),
    label_file: Callable[[str], str | None] = lambda _: None,
) -> Comparison:
    """Tell new, changed, unchanged and vanished sources apart.

    A file costs one look at its size and times; it is read if these are not those that it was last read with.

    Args:
        root: Where the sources lie.
        names: Those that are there.
        held: Those that the store holds; None: there is no store yet.
        seen: The files that were read before; those that are read now are added.
        labels: (sources, targets), where they come from a manifest.
        kept: What is kept of the manifest, (sources,) each.
        label_file: Gives the name of the file of a source's labels, which counts as part of the source.
    """
    new, changed, unchanged, to_read = [], set(), set(), []
    unreadable = {}
    for number, name in enumerate(names):
        if held is None or name not in held:
            new.append(name)
            continue
        file = name
        try:
            state = State.of(os.stat(os.path.join(root, file)))
            beside = label_file(name)
            file = beside or name
            beside_state = None if beside is None else State.of(os.stat(os.path.join(root, file)))
        except OSError as error:
            unreadable[name] = _why(error, name, file)
            continue
        other_labels = labels is not None and not held.has_labels(name, labels[number])
        if state.size != held.size(name) or other_labels or not held.has_kept(name, kept, number):
            changed.add(name)
            continue
        unchanged.add(name)  # unless it turns out to be not
        if seen.sha256(name, state) != held.sha256(name):
            to_read.append((name, name, held.sha256(name)))
        if beside is not None and beside_state is not None:
            hashed = held.labels_sha256(name)
            if seen.sha256(beside, beside_state) != hashed:
                to_read.append((name, beside, hashed))
    if held is not None:
        read: dict[str, Fingerprint] = {}
        with ThreadPoolExecutor(READERS) as pool:
            reads = pool.map(lambda one: _read(root, one[1]), to_read)
            for (name, file, before), found in zip(to_read, reads, strict=True):
                if isinstance(found, OSError):
                    unreadable[name] = _why(found, name, file)
                    continue
                read[file] = found
                if found.sha256 != before:
                    changed.add(name)
        changed -= unreadable.keys()
        unchanged -= changed | unreadable.keys()
        seen.add(Seen.of(read))
    there = set(names)
    return Comparison(
        new=tuple(new),
        changed=tuple(name for name in names if name in changed),
        unchanged=tuple(name for name in names if name in unchanged),
        vanished=() if held is None else tuple(sorted(name for name in held.numbers if name not in there)),
        unreadable=unreadable,
    )


def _read(root: Path, name: str) -> Fingerprint | OSError:
    try:
        return read_fingerprint(os.path.join(root, name))
    except OSError as error:
        return error


def _why(error: OSError, name: str, file: str) -> str:
    which = "it" if file == name else f"{file}, where its labels are,"
    why = f"{which} cannot be read now ({error.strerror or error})"
    return f"{why}, so nobody knows whether it changed; the store keeps it"
