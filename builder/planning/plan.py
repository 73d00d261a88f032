"""Plan a build: compare the sources with those in the store, and divide those to process into batches."""

import itertools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.build_errors import UsageError
from builder.frames.digits import NO_DIGITS, ManyDigits
from builder.frames.tabular import Tabular
from builder.manifest.manifest_columns import KeptColumn, check_classes
from builder.planning.build_options import BuildOptions
from builder.planning.provenance import RecordedSkips, outdated_sources
from builder.planning.resolved_sources import ResolvedSources, find_sources, open_if_exists, split_into_batches
from builder.sources.fingerprints import Fingerprint, FingerprintCache, Fingerprints, SourceFiles, State
from builder.sources.folder import Folder
from builder.sources.label_files import LABELS_SHA256
from builder.sources.source_list import SourceList
from builder.workers.batch import ProbeResult
from builder.workers.process_source import Failure, SourceBatch
from store_spec import Schema, SequenceColumn
from store_spec.building import StorePlace, store_place

READERS = 8  # files that are read in parallel; hashing releases the GIL
SUBMITTED = 4_096  # sources that are submitted at once; each takes 2 kB until it is read
Verdict = Literal["new", "changed", "unchanged", "skipped"]  # fields of Comparison
MOST_COMPARED = 64  # files that are hashed to find out whether the root is another one
LEAST_RATIO, LARGEST_RATIO = 0.05, 50.0  # the limits of the estimated number of decoded bytes per byte of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The sources compared with those in a store, each field in the order of the names."""

    new: tuple[str, ...]
    changed: tuple[str, ...] = ()  # the bytes differ from the store, or the labels or kept columns in the manifest
    unchanged: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()  # in the store, but not among the sources
    unreadable: tuple[Failure, ...] = ()  # in the store, but not readable now
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
    unreadable = {name: Failure(name, why) for name, why in errors.items() if name in stored}
    named: dict[str, list[str]] = {"new": [], "changed": [], "unchanged": [], "skipped": []}
    for name in every.names:
        if name not in unreadable:
            named[verdicts.get(name, "new")].append(name)
    vanished = tuple(sorted(stored.numbers.keys() - set(every.names)))
    by_verdict = {verdict: tuple(names) for verdict, names in named.items()}
    return Comparison(vanished=vanished, unreadable=tuple(unreadable.values()), **by_verdict)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sources of a build, compared with those in the store."""

    store: StorePlace
    sources: ResolvedSources
    numbers: Sequence[int]  # the indices of the sources to process, in order
    new_bytes: Sequence[int]  # the sizes of their files and label files; 0 for a file that does not exist
    outdated: tuple[str, ...]  # unchanged sources with sequences from other code, if they are not built again
    comparison: Comparison
    replaced: dict[str, list[int]]  # the numbers of the old sequences, by source to process
    vanished: tuple[int, ...]  # the numbers of the sequences of vanished sources
    fingerprints: FingerprintCache
    skips: RecordedSkips  # of earlier builds
    old_store: store_spec.Store | None  # the store before the build; None: it does not exist yet
    many_digits: ManyDigits = NO_DIGITS  # in the first source of a new store, which float32 does not keep

    @property
    def new(self) -> tuple[str, ...]:
        """The names of the sources to process, in the order in which they are appended."""
        return tuple(self.sources.every.names[number] for number in self.numbers)

    @property
    def count(self) -> int:
        """The number of sources in the folder."""
        comparison = self.comparison
        there = comparison.stored - len(comparison.vanished) + len(comparison.skipped)
        return len(comparison.new) + there + len(self.sources.misnamed)

    def take(self, places: Sequence[int]) -> Self:
        """Return the plan with some of the sources to process, by their indices among these."""
        numbers, nbytes = ([each[place] for place in places] for each in (self.numbers, self.new_bytes))
        return replace(self, numbers=numbers, new_bytes=nbytes)

    def with_first(self, first: ProbeResult) -> Self:
        """Return the plan for a new store whose first usable source is this one, which determines the dtype of text."""
        sources, process = self.sources, self.sources.every.process
        if first.text_dtype is not None and isinstance(process, Tabular):
            described = sources.described | {"text_dtype": first.text_dtype}
            every = replace(sources.every, process=replace(process, text_dtype=first.text_dtype))
            sources = replace(sources, every=every, described=described)
        return replace(self, sources=sources, many_digits=first.many_digits)

    def for_schema(self, schema: Schema) -> Self:
        """Return the plan for a store with this schema; names of features select columns in every source."""
        return replace(self, sources=self.sources.for_schema(schema))

    def batch(self, numbers: slice) -> SourceBatch:
        """Return a slice of the sources to process, as a batch."""
        return self.sources.every.take(self.numbers[numbers])

    def batches(self, batch_bytes: int, ratio: float, *, workers: int = 0) -> Iterator[tuple[SourceBatch, int]]:
        """Split the sources to process into batches; yield each with its estimated bytes.

        The arguments are those of `split_into_batches`. The store does not depend on the batches.
        """
        for part, size in split_into_batches(self.new_bytes, batch_bytes, ratio, workers=workers):
            yield self.batch(part), size


def make_plan(options: BuildOptions) -> Plan:
    """Find the sources, match the manifest, and leave out sources that are already in the store.

    Options that are not given are those of the first build. With `update`, sources that changed, or whose process
    function changed, are processed again; with `redo`, only the named sources are processed.
    """
    store = store_place(options.store)
    old_store = open_if_exists(store)
    sources = find_sources(options, old_store, allow_none=options.retire_missing and options.yes)
    names, labels, fingerprints = sources.every.names, sources.every.labels, FingerprintCache.load(store)
    stored = None if old_store is None else StoredSources(old_store)
    provenance = {} if old_store is None or not sources.every.skips_empty else old_store.provenance
    skips = RecordedSkips.of(provenance, sources.code.sha256)
    comparison = Comparison(new=names)
    outdated: tuple[str, ...] = ()
    if old_store is not None and stored is not None:
        comparison = compare(sources, stored, fingerprints, skips)
        check_root(stored, sources.listing, comparison.new, store)
        same = set(comparison.unchanged)
        outdated = tuple(name for name in outdated_sources(old_store, sources.code.sha256) if name in same)
    chosen = {*comparison.new, *(comparison.changed + outdated if options.update else ())}
    if options.redo:
        chosen = set(options.redo).intersection(names)
    # Arrays take a fifth of the memory of tuples, and there may be millions.
    new = array("q", (number for number, name in enumerate(names) if name in chosen))
    if labels is not None and labels.texts:
        check_classes(labels, sources.every.process.options.classes, names, new)
    numbers = {} if stored is None else stored.numbers
    return Plan(
        store=store,
        sources=sources if old_store is None else sources.for_schema(old_store.schema),
        numbers=new,
        new_bytes=array("q", (sources.file_bytes(names[number]) for number in new)),
        outdated=() if options.update else outdated,
        comparison=comparison,
        replaced={name: numbers[name] for name in chosen if name in numbers},
        vanished=tuple(number for name in comparison.vanished for number in numbers[name]),
        fingerprints=fingerprints,
        skips=skips,
        old_store=old_store,
    )


def check_root(stored: StoredSources, listing: SourceList, new: Sequence[str], store: StorePlace) -> None:
    """Refuse new files that are already in the store under longer or shorter paths, relative to another root.

    If a file has the name and the bytes of a source in the store, the root is the same. Then a new file with the bytes
    of a source is a copy, or was moved.
    """
    if not new:
        return
    known = stored.numbers

    def is_same(name: str, source: str) -> bool:
        try:
            if listing.folder.state(name).size != stored.size(source):
                return False
            return stored.hashes(source) == (listing.folder.read(name).sha256,)
        except OSError:  # it does not exist, or cannot be read now
            return False

    old = (name for name in listing.names if name in known)
    if any(is_same(name, name) for name in itertools.islice(old, MOST_COMPARED)):
        return
    longer: dict[str, list[str]] = {}  # the sources whose names end with each path
    listed = set(listing.names)
    gone = dict.fromkeys(source for source in known if source not in listed)
    for source in gone:
        for end in _ends(source):
            longer.setdefault(end, []).append(source)
    for name in new:
        candidates = [*longer.get(name, ()), *(end for end in _ends(name) if end in gone)]
        for source in candidates[:MOST_COMPARED]:
            if is_same(name, source):
                raise UsageError(
                    f"{store}: {name} is already in the store, as {source}, which no longer exists: names are "
                    f"relative to the folder or to the fixed part of the glob, here {listing.folder}; give the sources "
                    "as in the first build (if the files themselves were moved: build another store)"
                )


def _ends(name: str) -> Iterator[str]:
    """Yield the path without its first component, without its first two, and so on."""
    while "/" in name:
        name = name.partition("/")[2]
        yield name
