"""What a build is going to do, before it does it: which sources it processes, and how they are dealt."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import store_spec
from builder.build_errors import UsageError
from builder.labels.text_classes import Texts
from builder.manifest.label_classes import check_given
from builder.planning.build_options import BuildOptions
from builder.planning.comparison import Comparison, Held, compare
from builder.planning.resolved_sources import Reading, dealt, find_sources, opened
from builder.sources.fingerprints import SeenFiles, read_fingerprint
from builder.sources.source_list import SourceList
from builder.workers.process_source import Batch, Failure
from store_spec import Schema
from store_spec.building import check_path

MOST_COMPARED = 64  # files that are hashed to tell whether the root is another one
LEAST_RATIO, LARGEST_RATIO = 0.05, 50.0  # decoded bytes a byte of a file; what lies outside is taken for chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sources of a build, compared with what the store holds."""

    store: Path
    reading: Reading
    numbers: Sequence[int]  # the sources to process, in order, by their place among the names
    new_bytes: Sequence[int]  # of their files, and those of labels; 0 where there is none, as is said when it is read
    outdated: tuple[str, ...]  # unchanged sources with sequences that come from other code, and are not redone
    compared: Comparison
    replaced: dict[str, list[int]]  # the sequences that the store has of sources to process
    vanished: tuple[int, ...]  # the sequences of vanished sources
    seen: SeenFiles
    held: store_spec.Store | None  # the store as it is; None: there is none yet

    @property
    def new(self) -> tuple[str, ...]:
        """Return the names of the sources to process, in the order in which they are appended."""
        return tuple(self.reading.names[number] for number in self.numbers)

    @property
    def exists(self) -> bool:
        """Whether there is a store to append to."""
        return self.held is not None

    @property
    def unreadable(self) -> tuple[Failure, ...]:
        """Return the sources that the store holds and that nobody can compare with it, in the order of the names."""
        return tuple(Failure(name, why) for name, why in self.compared.unreadable.items())

    @property
    def found(self) -> int:
        """Return how many sources are there, whatever becomes of them."""
        compared = self.compared
        return len(compared.new) + compared.held - len(compared.vanished) + len(self.reading.misnamed)

    def for_schema(self, schema: Schema) -> Plan:
        """Return the plan for a store whose features have names: columns are found by them in every source."""
        return replace(self, reading=self.reading.for_schema(schema))

    def batch(self, numbers: slice) -> Batch:
        """Return some of the sources to process, as a worker takes them."""
        return self.reading.batch(self.numbers[numbers])

    def batches(self, batch_bytes: int, ratio: float, *, workers: int = 0) -> Iterator[tuple[Batch, int]]:
        """Deal the sources to process, in order, into batches of about that many decoded bytes; each with its estimate.

        With `workers`, which are then to end together, the last ones are smaller. Where one batch ends leaves no trace
        in the store.
        """
        for part, size in dealt(self.new_bytes, batch_bytes, ratio, workers=workers):
            yield self.batch(part), size

    def check_text(self, texts: Mapping[str, Texts]) -> None:
        """Refuse text where nothing but the lack of rows made labels of the store numbers.

        Args:
            texts: Of each target, in the first usable source.

        Raises:
            UsageError: There is text.
        """
        held = self.held
        if held is None or held.schema.labels.classes or self.reading.process.label_source != "columns":
            return
        for target, found in texts.items():
            if found and not held.snapshot.offsets[-1]:
                raise UsageError(
                    f"{held.path}: none of its sources had rows, so that labels {target} were taken for numbers, and "
                    f"now they hold text, as {found[0]!r:.80}; build all sources to another path, or remove this store "
                    "first"
                )

    def bytes_to_read(self) -> int:
        """Return the bytes of the files of the sources to process."""
        return sum(self.new_bytes)


def make_plan(options: BuildOptions) -> Plan:
    """Find the sources, match the manifest, and leave out what the store holds already.

    What is not given is as the first build of the store recorded it. With `update`, sources that changed, and those
    that other code of the process function made, are to be processed again. With `redo`
    these alone are, whether they changed or not.

    Raises:
        UsageError: A folder, file, column or function that is not there, or options that clash, or are not those that
            the store was built with.
        StoreError: There is something else than a store at `store`, or that is a URL.
    """
    store = Path(options.store)
    check_path(store)
    held = opened(store)
    reading = find_sources(options, held, allow_none=options.retire_missing and options.yes)
    names, seen = reading.names, SeenFiles.load(store)
    holding = None if held is None else Held(held)
    root, beside = reading.sources.root.absolute(), reading.label_file
    # Text is compared as the codes that the store has for it; a class that it has not is another label than any.
    known = reading.labels if held is None else reading.labels_with(held.schema.labels.classes)
    compared = compare(root, names, holding, seen, known, kept=reading.kept, label_file=beside)
    outdated: tuple[str, ...] = ()
    if held is not None:
        check_root(held, reading.sources, compared.new)
        there = set(compared.unchanged)
        assert reading.recorded is not None
        outdated = tuple(name for name in reading.recorded.outdated(reading.code.sha256, held) if name in there)
    wanted = {*compared.new, *(compared.changed + outdated if options.update else ())}
    if options.redo:
        wanted = set(options.redo).intersection(names)
    # Arrays take a fifth of the memory of tuples, and there may be millions.
    new = array("q", (number for number, name in enumerate(names) if name in wanted))
    if reading.texts is not None:
        check_given(reading.targets, reading.process.classes, reading.texts, names, new)
    numbers = {} if holding is None else holding.numbers
    return Plan(
        store=store,
        reading=reading if held is None else reading.for_schema(held.schema),
        numbers=new,
        new_bytes=array("q", (reading.file_bytes(names[number]) for number in new)),
        outdated=() if options.update else outdated,
        compared=compared,
        replaced={name: numbers[name] for name in wanted if name in numbers},
        vanished=tuple(number for name in compared.vanished for number in numbers[name]),
        seen=seen,
        held=held,
    )


def check_root(held: store_spec.Store, found: SourceList, new: Sequence[str]) -> None:
    """Refuse files that are in the store under the names that they have below another root.

    Where a source of the store is there, unchanged, under its own name, the root is the same: what else has the bytes
    of another one is a copy of it, or was moved.

    Raises:
        UsageError: There is such a file among the new ones.
    """
    if not new:
        return
    known = dict(zip(held.sources, held.selection.tolist(), strict=True))
    sizes = held.snapshot.table("sequences/source_size")

    def is_same(name: str, number: int) -> bool:
        path = found.path(name)
        if not path.is_file() or path.stat().st_size != sizes[number]:
            return False
        sha256 = held.snapshot.table("sequences/source_sha256", number, number + 1).tobytes()
        return read_fingerprint(path).sha256 == sha256

    own = ((name, known[name]) for name in found.names if name in known)
    if any(is_same(*one) for one in itertools.islice(own, MOST_COMPARED)):
        return
    longer: dict[str, list[str]] = {}  # sources by all ends of their names
    for source in known:
        for end in _ends(source):
            longer.setdefault(end, []).append(source)
    for name in new:
        others = [*longer.get(name, ()), *(end for end in _ends(name) if end in known)]
        for source in others[:MOST_COMPARED]:
            if is_same(name, known[source]):
                raise UsageError(
                    f"{held.path}: {name} is in the store already, as {source}, and nothing lies where that did: "
                    f"names are relative to the folder or to the fixed part of the glob, here {found.root}; give the "
                    "sources as in the first build (where the files themselves were moved: build another store)"
                )


def _ends(name: str) -> Iterator[str]:
    """Give the ends of a path that are shorter, part by part."""
    while "/" in name:
        name = name.partition("/")[2]
        yield name
