"""Compare sources with those in a store: new, unchanged, changed, vanished, or unreadable."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.manifest.manifest_columns import KeptColumn
from builder.planning.provenance import RecordedSkips
from builder.planning.resolved_sources import ResolvedSources
from builder.sources.fingerprints import Fingerprint, FingerprintCache, Fingerprints, SourceFiles, State
from builder.sources.folder import Folder
from builder.sources.label_files import LABELS_SHA256
from store_spec import SequenceColumn

READERS = 8  # files that are read in parallel; hashing releases the GIL
SUBMITTED = 4_096  # sources that are submitted at once; each takes 2 kB until it is read
Verdict = Literal["new", "changed", "unchanged", "skipped"]  # fields of Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The sources compared with those in a store, each field in the order of the names."""

    new: tuple[str, ...]
    changed: tuple[str, ...] = ()  # the bytes differ from the store, or the labels or kept columns in the manifest
    unchanged: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()  # in the store, but not among the sources
    unreadable: Mapping[str, str] = field(default_factory=dict)  # in the store, but not readable now; with the reason
    skipped: tuple[str, ...] = ()  # not in the store, since they were empty in an earlier build, and unchanged since

    @property
    def stored(self) -> int:
        """The number of sources in the store."""
        return len(self.changed) + len(self.unchanged) + len(self.vanished) + len(self.unreadable)


class StoredSources:
    """The sources of a store: the numbers of their sequences, and the fingerprints of their files."""

    def __init__(self, store: store_spec.Store) -> None:
        self.store = store
        self.numbers: dict[str, list[int]] = {}  # of each source's sequences
        for number, source in zip(store.selection.tolist(), store.sources, strict=True):
            self.numbers.setdefault(source, []).append(number)
        self._column = cache(store.snapshot.table)

    def __contains__(self, source: str) -> bool:
        return source in self.numbers

    def size(self, source: str) -> int:
        """Return the size of the file."""
        return int(self._column("sequences/source_size")[self.numbers[source][0]])

    def hashes(self, source: str, *, with_labels: bool = False) -> tuple[bytes, ...]:
        """Return the hash of the file, and with `with_labels` that of its label file, if the store records it."""
        first = self.numbers[source][0]
        sha256 = bytes(self._column("sequences/source_sha256")[first])
        name = SequenceColumn(LABELS_SHA256, "string").array
        if not with_labels or all(column.array != name for column in self.store.schema.columns):
            return (sha256,)
        return sha256, bytes.fromhex(str(self._column(name)[first]))

    def has_labels(self, source: str, labels: NDArray[Any] | None) -> bool:
        """Return whether all sequences of a source have the labels (targets,); None matches any labels."""
        if labels is None:
            return True
        rows = self.store.schema.labels
        row = labels.reshape(rows.shape)
        if rows.dtype.kind in "fc":  # a build rounds labels to these dtypes, but never to integers
            row = row.astype(rows.dtype)
        stored = (self.store.snapshot.table("labels", number, number + 1)[0] for number in self.numbers[source])
        return all(np.array_equal(one, row, equal_nan=rows.dtype.kind in "fc") for one in stored)

    def has_kept_values(self, source: str, kept: Sequence[KeptColumn], number: int) -> bool:
        """Return whether all sequences of a source have its values of these columns; `number` is its index there."""
        for one in kept:
            stored = self._column(one.column.array)[self.numbers[source]].tolist()
            if {repr(value) for value in stored} != {repr(one.values[[number]].tolist()[0])}:  # repr, as NaN != NaN
                return False
        return True


def compare(
    sources: ResolvedSources, stored: StoredSources, fingerprints: FingerprintCache, skips: RecordedSkips
) -> Comparison:
    """Compare sources with those in a store.

    A file is read only if its size or times changed since it was last read.

    Args:
        sources: The sources.
        stored: The sources in the store.
        fingerprints: The files that were read before; files that are read now are added.
        skips: The sources that earlier builds skipped.
    """
    folder, every = sources.listing.folder, sources.every
    # Text is compared by its code in the store; a new class differs from every label.
    labels = None if every.labels is None else every.labels.codes(stored.store.schema.labels.classes or ())
    verdicts = dict[str, Verdict]()  # by name
    errors, to_read = dict[str, str](), dict[str, SourceFiles]()
    for number, name in enumerate(every.names):
        if name not in stored and name not in skips:
            continue
        files, states, file = every.files_of(name), dict[str, State](), name
        try:
            for file in files.every:
                states[file] = folder.state(file)
        except OSError as error:
            errors[name] = _error_text(error, file, name, files)
            continue
        is_same = name not in stored or (
            sum(states[file].size for file in files.own) == stored.size(name)
            and stored.has_labels(name, None if labels is None else labels[number])
            and stored.has_kept_values(name, every.kept, number)
        )
        hashes = [known for one, state in states.items() if (known := fingerprints.sha256(one, state)) is not None]
        if not is_same:
            verdicts[name] = "changed"
        elif len(hashes) == len(states):
            verdicts[name] = _verdict(name, files.hashes(hashes), stored, skips)
        else:
            to_read[name] = files
    read = _read_all(folder, to_read, errors)
    fingerprints.add(Fingerprints.of(read))
    for name, files in to_read.items():
        if name not in errors:
            verdicts[name] = _verdict(name, files.hashes([read[one].sha256 for one in files.every]), stored, skips)
    # A source that is not in the store is processed, which reports the error.
    unreadable = {name: why for name, why in errors.items() if name in stored}
    named: dict[str, list[str]] = {"new": [], "changed": [], "unchanged": [], "skipped": []}
    for name in every.names:
        if name not in unreadable:
            named[verdicts.get(name, "new")].append(name)
    vanished = tuple(sorted(stored.numbers.keys() - set(every.names)))
    by_verdict = {verdict: tuple(names) for verdict, names in named.items()}
    return Comparison(**by_verdict, vanished=vanished, unreadable=unreadable)


def _verdict(name: str, hashes: Sequence[bytes], stored: StoredSources, skips: RecordedSkips) -> Verdict:
    """Classify a source by the hashes of its files."""
    if name not in stored:
        return "skipped" if skips.is_same(name, hashes) else "new"
    return "unchanged" if tuple(hashes) == stored.hashes(name, with_labels=len(hashes) > 1) else "changed"


def _error_text(error: OSError, file: str, name: str, files: SourceFiles) -> str:
    what = "it" if file == name else file if file != files.labels else f"its label file {file}"
    why = error.strerror or error
    return f"{what} cannot be read now ({why}), so it is unknown whether it changed; the store keeps it"


def _read_all(folder: Folder, sources: Mapping[str, SourceFiles], errors: dict[str, str]) -> dict[str, Fingerprint]:
    """Return the fingerprints of the files of some sources; note the sources with files that cannot be read."""
    every, read = [*sources.items()], dict[str, Fingerprint]()
    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(every), SUBMITTED):
            some = every[first : first + SUBMITTED]
            futures = [[pool.submit(folder.read, file) for file in files.every] for _, files in some]
            for (name, files), reads in zip(some, futures, strict=True):
                file = name
                try:
                    for file, future in zip(files.every, reads, strict=True):
                        read[file] = future.result()
                except OSError as error:
                    errors[name] = _error_text(error, file, name, files)
    return read
