"""Compare the sources with those in a store: new, unchanged, changed, vanished, or unreadable."""

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
from builder.manifest.kept_columns import KeptColumn
from builder.sources.fingerprints import Fingerprint, FingerprintCache, Fingerprints, State, read_fingerprint
from builder.sources.label_files import LABELS_SHA256
from store_spec import SequenceColumn

READERS = 8  # files that are read at once; hashing releases Python's lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The sources compared with those in a store, each field in the order of the names."""

    new: tuple[str, ...]
    changed: tuple[str, ...]  # other bytes than in the store, or other labels or kept columns in the manifest
    unchanged: tuple[str, ...]
    vanished: tuple[str, ...]  # in the store, but not among the sources
    unreadable: Mapping[str, str]  # in the store, but not readable now; with the reason

    @property
    def stored(self) -> int:
        """The number of sources in the store."""
        return len(self.changed) + len(self.unchanged) + len(self.vanished) + len(self.unreadable)


class StoredSources:
    """The sources of a store: the numbers of their sequences, and the fingerprints of their files."""

    def __init__(self, store: store_spec.Store) -> None:
        self._store = store
        self.numbers: dict[str, list[int]] = {}  # of each source's sequences
        for number, source in zip(store.selection.tolist(), store.sources, strict=True):
            self.numbers.setdefault(source, []).append(number)
        self._sizes = store.snapshot.table("sequences/source_size")
        self._columns: dict[str, NDArray[Any]] = {}  # cached
        self._hashes = store.snapshot.table("sequences/source_sha256")

    def __contains__(self, source: str) -> bool:
        return source in self.numbers

    def size(self, source: str) -> int:
        """Return the size of the file."""
        return int(self._sizes[self.numbers[source][0]])

    def sha256(self, source: str) -> bytes:
        """Return the hash of the file."""
        return bytes(self._hashes[self.numbers[source][0]])

    def labels_sha256(self, source: str) -> bytes:
        """Return the hash of the label file; b"" if the store has none."""
        name = SequenceColumn(LABELS_SHA256, "string").array
        if all(column.array != name for column in self._store.schema.columns):
            return b""
        return bytes.fromhex(str(self._column(name)[self.numbers[source][0]]))

    def has_labels(self, source: str, labels: NDArray[Any]) -> bool:
        """Tell whether its sequences have these labels: one row, on the `sequence` axis."""
        rows = self._store.schema.labels
        row = labels.reshape(rows.shape).astype(rows.dtype)
        stored = (self._store.snapshot.table("labels", number, number + 1)[0] for number in self.numbers[source])
        return all(np.array_equal(one, row, equal_nan=rows.dtype.kind in "fc") for one in stored)

    def has_kept_values(self, source: str, kept: Sequence[KeptColumn], number: int) -> bool:
        """Tell whether its sequences have the values of these columns in row `number` of the manifest."""
        for one in kept:
            stored = self._column(one.column.array)[self.numbers[source]].tolist()
            if {repr(value) for value in stored} != {repr(one.values[[number]].tolist()[0])}:  # repr, as NaN != NaN
                return False
        return True

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            self._columns[name] = self._store.snapshot.table(name)
        return self._columns[name]


def compare(
    root: Path,
    names: Sequence[str],
    stored: StoredSources | None,
    fingerprints: FingerprintCache,
    labels: NDArray[Any] | None,
    *,
    kept: Sequence[KeptColumn] = (),
    label_file: Callable[[str], str | None] = lambda _: None,
) -> Comparison:
    """Compare sources with those in a store.

    A file is read only if its size and times differ from those when it was last read.

    Args:
        root: The folder of the sources.
        names: The names of the sources.
        stored: The sources in the store; None: there is no store yet.
        fingerprints: The files that were read before; files that are read now are added.
        labels: (sources, targets) from a manifest; None: labels are elsewhere.
        kept: Columns of the manifest, (sources,) each.
        label_file: Returns the name of a source's label file, which counts as part of the source.
    """
    new, changed, unchanged, to_read = [], set(), set(), []
    unreadable = {}
    for number, name in enumerate(names):
        if stored is None or name not in stored:
            new.append(name)
            continue
        file = name
        files = {}
        try:
            files[name] = State.of(os.stat(os.path.join(root, name))), stored.sha256(name)
            if (labels_name := label_file(name)) is not None:
                file = labels_name
                files[file] = State.of(os.stat(os.path.join(root, file))), stored.labels_sha256(name)
        except OSError as error:
            unreadable[name] = _why(error, name, file)
            continue
        other_labels = labels is not None and not stored.has_labels(name, labels[number])
        other_size = files[name][0].size != stored.size(name)
        if other_size or other_labels or not stored.has_kept_values(name, kept, number):
            changed.add(name)
            continue
        unchanged.add(name)  # removed again below if a file has other bytes
        for file, (state, sha256) in files.items():
            if fingerprints.sha256(file, state) != sha256:
                to_read.append((name, file, sha256))
    if stored is not None:
        read: dict[str, Fingerprint] = {}
        with ThreadPoolExecutor(READERS) as pool:
            reads = pool.map(lambda one: _read(root, one[1]), to_read)
            for (name, file, before), result in zip(to_read, reads, strict=True):
                if isinstance(result, OSError):
                    unreadable[name] = _why(result, name, file)
                    continue
                read[file] = result
                if result.sha256 != before:
                    changed.add(name)
        changed -= unreadable.keys()
        unchanged -= changed | unreadable.keys()
        fingerprints.add(Fingerprints.of(read))
    there = set(names)
    return Comparison(
        new=tuple(new),
        changed=tuple(name for name in names if name in changed),
        unchanged=tuple(name for name in names if name in unchanged),
        vanished=() if stored is None else tuple(sorted(name for name in stored.numbers if name not in there)),
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
