"""Plan a build: the sources to process, and their batches."""

import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import store_spec
from builder.build_errors import UsageError
from builder.frames.digits import NO_DIGITS, ManyDigits
from builder.frames.tabular import Tabular
from builder.manifest.manifest_columns import check_classes
from builder.planning.build_options import BuildOptions
from builder.planning.comparison import Comparison, StoredSources, compare
from builder.planning.provenance import RecordedSkips
from builder.planning.resolved_sources import ResolvedSources, find_sources, open_if_exists, split_into_batches
from builder.sources.fingerprints import FingerprintCache
from builder.sources.source_list import SourceList
from builder.workers.batch import ProbeResult
from builder.workers.process_source import Failure, SourceBatch
from store_spec import Schema
from store_spec.building import StorePlace, store_place

MOST_COMPARED = 64  # files that are hashed to find out whether the root is another one
LEAST_RATIO, LARGEST_RATIO = 0.05, 50.0  # the limits of the estimated number of decoded bytes per byte of a file


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
    def unreadable(self) -> tuple[Failure, ...]:
        """The sources of the store that cannot be read now, in the order of the names."""
        return tuple(Failure(name, why) for name, why in self.comparison.unreadable.items())

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
        assert sources.recorded is not None
        outdated = tuple(name for name in sources.recorded.outdated(sources.code.sha256, old_store) if name in same)
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
