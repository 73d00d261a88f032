"""Which sources there are, and how they are read: what the options say, those that a store records among them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.build_errors import SourceError, UsageError
from builder.labels.text_classes import parse_classes
from builder.manifest.kept import Kept
from builder.manifest.label_classes import Texts, check_kinds, coded, texts_given, texts_wanted
from builder.manifest.manifest_table import DEFAULT_KEY, read_manifest
from builder.planning.build_options import BuildOptions
from builder.planning.options import gives, options_of_new, options_of_old
from builder.planning.provenance import Recorded, describe_build
from builder.processes.process import Process
from builder.processes.process_code import ProcessCode
from builder.sources.label_files import LABELS_SHA256, check_below, without_label_files
from builder.sources.source_list import MISNAMED, SourceList, discover
from builder.workers.process_source import Batch, Failure
from store_spec import DAMAGE, Classes, LabelAxis, Missing, MissingStoreError, Schema
from store_spec.building import build_folder

LEAST_BATCH_BYTES = 2**22  # of those that are dealt last: the tasks of a batch take as long as processing some 2 MB
FILE_COST = 2**16  # bytes that opening a file counts as: reading that much takes about as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The sources that are there, and how to read each."""

    sources: SourceList
    names: tuple[str, ...]  # of those to use: the manifest may list some alone
    labels: NDArray[Any] | None  # (names, targets), where they come from a manifest
    label_names: tuple[str, ...] | None
    texts: Texts | None  # of labels that are text in the manifest: their codes are -1 until the classes are known
    targets: tuple[str, ...]  # the columns of the manifest that are labels
    kept: tuple[Kept, ...]  # columns of the manifest, (names,) each
    process: Process
    described: dict[str, Any]  # what a new store records of all this
    label_axis: LabelAxis | None  # None: the first source's labels tell
    code: ProcessCode  # of the process function
    recorded: Recorded | None  # what the store records; None: there is none yet
    search: tuple[str, ...]
    missing: Missing = "error"  # whether NaN may stand for missing values in a new store

    @property
    def misnamed(self) -> tuple[Failure, ...]:
        """Return the files that cannot be sources by their names, in the order of these."""
        return tuple(Failure(name, MISNAMED) for name in self.sources.misnamed)

    def label_file(self, name: str) -> str | None:
        """Return the name of the file of a source's labels, if there is one, relative to the root."""
        return self.process.label_file(name)

    def file_bytes(self, name: str) -> int:
        """Return the bytes to read of a source, its labels in another file among them; 0 of what is not there."""
        size = file_bytes(os.path.join(self.sources.root, name))
        with suppress(SourceError):  # said when it is read
            if (beside := self.label_file(name)) is not None:
                size += file_bytes(os.path.join(self.sources.root, beside))
        return size

    def for_schema(self, schema: Schema) -> Reading:
        """Return the same for a store whose features have names: columns are found by them in every source."""
        columns = [(column.name, column.dtype) for column in schema.columns]
        process = self.process.for_store(schema.inputs.names, schema.labels.names, columns)
        return replace(self, process=process.with_classes(schema.labels.classes))

    def labels_with(self, classes: Classes | None) -> NDArray[Any] | None:
        """Return the labels of the manifest, with the codes of these classes in place of text."""
        if self.texts is None or self.labels is None or classes is None:
            return self.labels
        return coded(self.labels, self.texts, classes)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Return some sources, by their place among the names, as a worker takes them."""
        return Batch(
            root=self.sources.root.absolute(),
            names=tuple(self.names[number] for number in numbers),
            labels=None if self.labels is None else self.labels[np.array(numbers, np.int64)],
            process=self.process,
            texts={
                target: texts and tuple(texts[number] for number in numbers)
                for target, texts in zip(self.targets, self.texts or (), strict=False)
            },
            kept=tuple(kept[np.array(numbers, np.int64)] for kept in self.kept),
            search=self.search,
            converted=() if self.recorded is None else self.recorded.converted,
        )

    def is_small(self, file_bytes: Sequence[int], batch_bytes: int) -> bool:
        """Tell whether reading files of these sizes takes less time than starting processes for it.

        So it is for tables, and two batches at most. A function of the user's own may take any time, and may crash: it
        is kept out of this process.
        """
        cost = sum(file_bytes) + FILE_COST * len(file_bytes)
        return not self.process.is_custom and cost <= 2 * batch_bytes


def opened(path: Path) -> store_spec.Store | None:
    """Return the store at a path; None if nothing is there.

    Raises:
        UsageError: Something else is.
        StoreError: It cannot be read.
    """
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return store_spec.open_store(path)
    except MissingStoreError as error:
        what = "a folder, but no store" if path.is_dir() else "a link to nothing" if path.is_symlink() else "a file"
        raise UsageError(f"{path}: is {what}; give another path for the store, or remove what is there") from error


def find_sources(asked: BuildOptions, held: store_spec.Store | None, *, allow_none: bool = False) -> Reading:
    """Find the sources and match the manifest; what is not given is as the first build of the store recorded it.

    Args:
        asked: The options of the build.
        held: The store that is there.
        allow_none: Let a folder be empty.

    Raises:
        UsageError: A folder, file, column or function that is not there, or options that clash, or are not those that
            the store was built with.
    """
    recorded = None if held is None else Recorded.of(held)
    options = options_of_new(asked) if recorded is None else options_of_old(recorded, asked)
    store = Path(asked.store)
    function, table = options.process, options.manifest
    found = discover(
        Path(asked.sources),
        format=function.format,
        any_suffix=function.is_custom,
        exclude=[store, build_folder(store), *([table.path] if table is not None and table.path is not None else [])],
        allow_none=allow_none,
    )
    function = function.under(found.root.absolute())
    if function.labels_from is not None:
        if recorded is not None and not gives(asked.process, "labels_from"):
            check_below(found, function.label_file, recorded.store, function.labels_from)
        found = without_label_files(found, function.label_file, function.labels_from)
    if recorded is not None and table is not None:
        found, table = recorded.with_manifest(found, table)
    names, labels, label_names = found.names, None, None
    texts: Texts | None = None
    targets: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    if table is not None and table.kept is not None and LABELS_SHA256 in table.kept and not function.is_custom:
        raise UsageError(f"keep={LABELS_SHA256}: a column of that name has the hash of a source's labels; rename it")
    if table is not None and table.path is not None:
        types = {} if held is None else {column.name: column for column in held.schema.columns}
        text = [name for name, column in types.items() if column.dtype == "string"]
        labels_as_text = texts_wanted(table.parts, parse_classes(function.classes), held)
        rows = read_manifest(
            table.path, key=table.key or DEFAULT_KEY, text=[*text, *labels_as_text], kept=table.kept or ()
        )
        matched = rows.match(
            found.names, only_listed=table.only_listed, misnamed=found.misnamed, held=lambda: _sources_of(held)
        )
        names, places = tuple(matched), np.array(list(matched.values()), np.int64)
        if table.parts is not None:
            labels, targets, texts = rows.labels(
                table.parts, given=texts_given(table.parts, parse_classes(function.classes)), order=places
            )
            check_kinds(held, targets, texts, table.path)
            label_names = table.parts if len(table.parts) == labels.shape[1] else None
        if table.kept is not None:
            kept = tuple(one[places] for one in rows.kept(table.kept, types))
    return Reading(
        sources=found,
        names=names,
        labels=labels,
        label_names=label_names,
        texts=texts,
        targets=targets,
        kept=kept,
        process=function,
        described=describe_build(options.named, options.label_axis, table, found.root),
        label_axis=options.label_axis or function.label_axis or ("sequence" if options.labels_of_sequences else None),
        code=options.code,
        recorded=recorded,
        search=(str(Path.cwd()),) if function.is_custom else (),
        missing="keep" if function.keeps_nan else "error",
    )


def _sources_of(held: store_spec.Store | None) -> Sequence[str]:
    """Return the names of the sources that a store has, retired ones too; none where they cannot be read."""
    with suppress(*DAMAGE):  # who asks says it
        return () if held is None else held.snapshot.sources()
    return ()


def file_bytes(path: str) -> int:
    """Return the size of a file; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def dealt(
    file_bytes: Sequence[int], batch_bytes: int, ratio: float, *, workers: int = 0
) -> Iterator[tuple[slice, int]]:
    """Cut files that follow one another into batches of about that many decoded bytes; give each with its estimate.

    With `workers` the last ones are ever smaller, so that all end at about the same time. (Factoring: Hummel, Schonberg
    and Flynn, Communications of the ACM 35-8, 1992.)
    """

    def costs() -> Iterator[int]:
        return (round(nbytes * ratio) + FILE_COST for nbytes in file_bytes)

    left, start, size, most = sum(costs()) if workers else 0, 0, 0, batch_bytes
    for number, cost in enumerate(costs()):
        if number > start and size + cost > most:
            yield slice(start, number), size
            start, left, size = number, left - size, 0
        if workers and number == start:
            most = min(batch_bytes, max(left // (2 * workers), LEAST_BATCH_BYTES))
        size += cost
    if start < len(file_bytes):
        yield slice(start, len(file_bytes)), size
