"""What a build is going to do, before it does it: which sources are new, their labels, and how they are dealt."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.batch import Batch, Failure
from builder.compare import Comparison, Held, compare
from builder.errors import UsageError
from builder.fingerprints import SeenFiles, read_fingerprint
from builder.manifest import DEFAULT_KEY, ManifestLabels, read_manifest
from builder.options import options_of_new, options_of_old
from builder.process import Portable, Process, code_of
from builder.recorded import Recorded, describe_build
from builder.sources import MISNAMED, SourceList, discover
from builder.tabular import Tabular
from store_spec.errors import MissingStoreError
from store_spec.lock import build_folder
from store_spec.schema import LabelAxis, Schema

FILE_COST = 2**16  # bytes that opening a file counts as: reading that much takes about as long
LEAST_RATIO, LARGEST_RATIO = 0.05, 50.0  # decoded bytes a byte of a file; what lies outside is taken for chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sources of a build, compared with what the store holds."""

    sources: SourceList
    store: Path
    new: tuple[str, ...]  # to process, in the order in which they are appended; changed ones only if they are updated
    new_bytes: tuple[int, ...]  # of their files; 0 where there is none, which will be reported when it is read
    labels: NDArray[Any] | None  # (new sources, targets), where they come from a manifest
    label_names: tuple[str, ...] | None
    process: Process
    portable: Process  # the same, as it goes to the workers
    described: dict[str, Any]  # what the store records of all this
    label_axis: LabelAxis | None  # None: the first source's labels tell
    code: str | None  # of the process function, as the store records it; None: `tabular`
    outdated: tuple[str, ...]  # unchanged sources with sequences that come from other code, and are not redone
    compared: Comparison
    replaced: dict[str, list[int]]  # the sequences that the store has of sources to process
    vanished: tuple[int, ...]  # the sequences of vanished sources
    seen: SeenFiles
    held: store_spec.Store | None  # the store as it is; None: there is none yet
    search: tuple[str, ...]

    @property
    def exists(self) -> bool:
        """Whether there is a store to append to."""
        return self.held is not None

    @property
    def misnamed(self) -> tuple[Failure, ...]:
        """Return the files that cannot be sources by their names, in the order of these."""
        return tuple(Failure(name, MISNAMED) for name in self.sources.misnamed)

    @property
    def unreadable(self) -> tuple[Failure, ...]:
        """Return the sources that the store holds and that nobody can compare with it, in the order of the names."""
        return tuple(Failure(name, why) for name, why in self.compared.unreadable.items())

    @property
    def found(self) -> int:
        """Return how many sources are there, whatever becomes of them."""
        compared = self.compared
        return len(compared.new) + compared.held - len(compared.vanished) + len(self.sources.misnamed)

    def for_schema(self, schema: Schema) -> Plan:
        """Return the plan for a store whose features have names: columns are found by them in every source."""
        if not isinstance(self.process, Tabular):
            return self
        process = self.process.for_store(schema.inputs.names, schema.labels.names)
        return replace(self, process=process, portable=process)

    def batch(self, numbers: slice) -> Batch:
        """Return some of the new sources, as a worker takes them."""
        return Batch(
            root=self.sources.root.absolute(),
            names=self.new[numbers],
            labels=None if self.labels is None else self.labels[numbers],
            process=self.portable,
            search=self.search,
        )

    def batches(self, batch_bytes: int, ratio: float) -> Iterator[tuple[Batch, int]]:
        """Deal the new sources, in order, into batches of about that many decoded bytes; each with its estimate.

        Where one batch ends leaves no trace in the store.
        """
        start, size = 0, 0
        for number, file_bytes in enumerate(self.new_bytes):
            cost = round(file_bytes * ratio) + FILE_COST
            if number > start and size + cost > batch_bytes:
                yield self.batch(slice(start, number)), size
                start, size = number, 0
            size += cost
        if start < len(self.new):
            yield self.batch(slice(start, len(self.new))), size

    def is_small(self, batch_bytes: int) -> bool:
        """Tell whether reading takes less time than starting processes for it: a table, and two batches at most.

        A function of the user's own may take any time, and may crash: it is kept out of this process.
        """
        cost = self.bytes_to_read() + FILE_COST * len(self.new)
        return isinstance(self.process, Tabular) and cost <= 2 * batch_bytes

    def bytes_to_read(self) -> int:
        """Return the bytes of the new sources' files."""
        return sum(self.new_bytes)


def make_plan(
    sources: str | Path,
    store: Path,
    *,
    process: Process | str | None = None,
    manifest: ManifestLabels | None = None,
    label_axis: LabelAxis | None = None,
    update: bool = False,
    every: bool = False,
    allow_none: bool = False,
) -> Plan:
    """Find the sources, match the manifest, and leave out what the store holds already.

    What is not given is as the first build of the store recorded it. With `update`, sources that changed, and those
    that other code of the process function made, are to be processed again. `every` stands for all that the
    store holds, and nothing new. `allow_none` lets a folder be empty.

    Raises:
        UsageError: A folder, file, column or function that is not there, or options that clash, or are not those that
            the store was built with.
        StoreError: There is something else than a store at `store`.
    """
    held = _opened(store)
    recorded = None if held is None else Recorded.of(held)
    asked = process, manifest, label_axis
    options = options_of_new(*asked) if recorded is None else options_of_old(recorded, *asked)
    function, table = options.process, options.manifest
    is_tabular = isinstance(function, Tabular)
    found = discover(
        sources,
        format=function.read.format if isinstance(function, Tabular) else None,
        any_suffix=not is_tabular,
        exclude=[store, build_folder(store), *([table.path] if table is not None and table.path is not None else [])],
        allow_none=allow_none,
    )
    if isinstance(function, Tabular):
        function = function.under(found.root.absolute())
    if recorded is not None and table is not None:
        found, table = recorded.with_manifest(found, table)
    names, labels, label_names = list(found.names), None, None
    if table is not None and table.path is not None:
        rows = read_manifest(table.path, key=table.key or DEFAULT_KEY)
        matched = rows.match(found.names, only_listed=table.only_listed, misnamed=found.misnamed)
        names = list(matched.rows)
        if table.parts is not None:
            labels = rows.labels(table.parts)[list(matched.rows.values())]
            label_names = table.parts if len(table.parts) == labels.shape[1] else None
    code, seen = code_of(options.named), SeenFiles.load(store)
    holding = None if held is None else Held(held)
    compared = compare(found.root.absolute(), names, holding, seen, labels)
    if held is not None:
        _check_root(held, found, compared.new)
    there = set(compared.unchanged)
    outdated = () if recorded is None or held is None else recorded.outdated(code, held)
    outdated = tuple(name for name in outdated if name in there)
    wanted = {*compared.new, *(compared.changed + outdated if update else ())}
    if every:
        wanted = {*compared.unchanged, *compared.changed, *compared.unreadable}
    new = [number for number, name in enumerate(names) if name in wanted]
    numbers = {} if holding is None else holding.numbers
    return Plan(
        sources=found,
        store=store,
        new=tuple(names[number] for number in new),
        new_bytes=tuple(_file_bytes(os.path.join(found.root, names[number])) for number in new),
        labels=None if labels is None else labels[np.array(new, np.int64)],
        label_names=label_names,
        process=function,
        portable=function if is_tabular else Portable(function),
        described=describe_build(options.named, options.label_axis, table, found.root),
        code=code,
        outdated=() if update else outdated,
        compared=compared,
        replaced={name: numbers[name] for name in wanted if name in numbers},
        vanished=tuple(number for name in compared.vanished for number in numbers[name]),
        seen=seen,
        label_axis=options.label_axis or _label_axis(function, labels),
        held=held,
        search=() if is_tabular else (str(Path.cwd()),),
    )


def _file_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _check_root(held: store_spec.Store, found: SourceList, new: Sequence[str]) -> None:
    """Refuse to append files again that are in the store under the name that they have below another root."""
    known: dict[str, list[tuple[int, str]]] = {}
    for number, source in zip(held.selection.tolist(), held.sources, strict=True):
        known.setdefault(source.rpartition("/")[2], []).append((number, source))
    sizes = held.snapshot.table("sequences/source_size")
    for name in new:
        for number, source in known.get(name.rpartition("/")[2], ()):
            same_end = source.endswith(f"/{name}") or name.endswith(f"/{source}")
            path = found.path(name)
            if not same_end or not path.is_file() or path.stat().st_size != sizes[number]:
                continue
            if (
                read_fingerprint(path).sha256
                == held.snapshot.table("sequences/source_sha256", number, number + 1).tobytes()
            ):
                raise UsageError(
                    f"{held.path}: {name} is in the store already, as {source}: names are relative to the folder or to "
                    f"the fixed part of the glob, here {found.root}; give the sources as in the first build"
                )


def _opened(path: Path) -> store_spec.Store | None:
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return store_spec.open_store(path)
    except MissingStoreError as error:
        what = "a folder, but no store" if path.is_dir() else "a link to nothing" if path.is_symlink() else "a file"
        raise UsageError(f"{path}: is {what}; give another path for the store, or remove what is there") from error


def _label_axis(process: Process, labels: NDArray[Any] | None) -> LabelAxis | None:
    """Return the label axis where the options tell: a first source of as many steps as targets would mislead."""
    if labels is not None or (isinstance(process, Tabular) and process.label_source == "pattern"):
        return "sequence"
    return "step" if isinstance(process, Tabular) and process.label_source == "columns" else None
