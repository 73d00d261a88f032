"""Find the sources of a build and the way to read them, from its options and the record of the store."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

import store_spec
from builder.build_errors import UsageError
from builder.formats import is_unpacked
from builder.formats.arrow_modules import pa
from builder.frames.groups import as_integers
from builder.frames.tabular import Tabular
from builder.labels.text_classes import parse_classes
from builder.manifest.manifest_columns import KeptColumn, check_kinds, columns_with_classes, keep_column, text_columns
from builder.manifest.manifest_table import DEFAULT_KEY, read_manifest
from builder.options.table_options import TableOptions
from builder.planning.build_options import BuildOptions
from builder.planning.provenance import RecordedBuild, describe_build, earlier_conversions
from builder.planning.resolved_options import as_process, label_axis_of, options_of_new, options_of_old
from builder.processes.function_process import Process
from builder.processes.process_code import ProcessCode, code_of
from builder.sources.label_files import LABELS_SHA256, LabelFilePattern, check_below, without_label_files
from builder.sources.source_list import (
    MISNAMED,
    SourceList,
    discover,
    folder_of,
    group_files,
    texts_in_path,
)
from builder.workers.process_source import Failure, SourceBatch
from store_spec import DAMAGE, LabelAxis, Missing, MissingStoreError, Schema, SequenceColumn
from store_spec.building import StorePlace, build_folder, place_of

LEAST_BATCH_BYTES = 2**22  # of the last batches; the overhead of a batch equals the time to process about 2 MB
FILE_COST = 2**16  # bytes that take as long to read as opening a file


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSources:
    """The sources of a build, and the way to read them."""

    listing: SourceList
    every: SourceBatch  # the sources to use, which can be a part of the listing
    described: dict[str, Any]  # the record of the build for a new store
    label_axis: LabelAxis | None  # None: the labels of the first source determine it
    code: ProcessCode  # of the process function
    label_names: tuple[str, ...] | None = None  # of the targets in a manifest
    absent: tuple[str, ...] = ()  # sources that the manifest lists and that do not exist, by its keys
    missing: Missing = "error"  # whether NaN may stand for missing values in a new store

    @property
    def misnamed(self) -> tuple[Failure, ...]:
        """The files whose names cannot be stored, in the order of the names."""
        return tuple(Failure(name, MISNAMED) for name in self.listing.misnamed)

    def file_bytes(self, name: str) -> int:
        """Return the size of a source with its label file; files that do not exist count 0."""
        nbytes = 0
        for file in self.every.every_file(name):
            with suppress(OSError):
                nbytes += self.listing.folder.state(file).size
        return nbytes

    def for_schema(self, schema: Schema) -> Self:
        """Return the same sources for a store with this schema; its names of features select columns in each source."""
        return replace(self, every=replace(self.every, process=self.every.process.for_schema(schema)))

    def is_small(self, file_bytes: Sequence[int], batch_bytes: int) -> bool:
        """Return whether reading files of these sizes takes less time than starting processes.

        It does for tables of at most two batches. A function of the user may take long or crash, so it gets a process.
        """
        cost = sum(file_bytes) + FILE_COST * len(file_bytes)
        return not self.every.process.is_custom and cost <= 2 * batch_bytes

    def are_harmless(self, names: Sequence[str]) -> bool:
        """Return whether sources can neither end the process that reads them, nor fill its memory.

        A function of the user may do anything, and a small compressed file can have any number of rows.
        """
        every, options = self.every, self.every.process.options
        if every.process.is_custom or not isinstance(options, TableOptions):
            return False
        return all(is_unpacked(file, options) for name in names for file in every.every_file(name))


def open_if_exists(path: StorePlace) -> store_spec.Store | None:
    """Return the store at a path or a URL, or None; UsageError if the path exists, but is not a store."""
    if not isinstance(path, Path):
        with suppress(MissingStoreError):
            return store_spec.open_store(path)
        return None
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return store_spec.open_store(path)
    except MissingStoreError as error:
        what = "a folder, but no store" if path.is_dir() else "a broken link" if path.is_symlink() else "a file"
        raise UsageError(f"{path}: is {what}; give another path for the store, or remove it") from error


def find_sources(
    build_options: BuildOptions, old_store: store_spec.Store | None, *, allow_none: bool = False
) -> ResolvedSources:
    """Find the sources and match the manifest; options that are not given are those that the store records.

    With `allow_none` a folder may contain no source.
    """
    recorded = None if old_store is None else RecordedBuild.of(old_store)
    function, record, build = (
        options_of_new(build_options) if recorded is None else options_of_old(recorded, build_options)
    )
    process, code = as_process(function, build), code_of(function)
    label_axis = label_axis_of(process, build)
    manifest = None if build.manifest is None else Path(build.manifest)
    listing = _discover(build, process, manifest, allow_none=allow_none)
    if process.options.labels_from is not None:
        given = build_options.process
        if recorded is not None and not (isinstance(given, Tabular) and given.is_explicit("labels_from")):
            check_below(listing, process.label_file, recorded.store, process.options.labels_from)
        listing = without_label_files(listing, process.label_file, process.options.labels_from)
    if recorded is not None and recorded.manifest is not None:
        listing, manifest = recorded.with_manifest(listing, manifest)
    resolved = ResolvedSources(
        listing=listing,
        every=SourceBatch(
            folder=listing.folder,
            names=listing.names,
            process=process,
            search=(str(Path.cwd()),) if process.is_custom else (),
            converted=() if old_store is None else earlier_conversions(old_store),
            skips_empty=build_options.empty == "skip",
            files=listing.files,
        ),
        described=describe_build(record, build, listing, manifest),
        label_axis=label_axis,
        code=code,
        missing="keep" if process.options.keeps_nan else "error",
    )
    if manifest is not None:
        resolved = _match_manifest(resolved, build, manifest, old_store)
    if build.sequence_from is not None:
        known = {} if old_store is None else {column.name: column for column in old_store.schema.columns}
        of_pattern = columns_of(build.sequence_from, listing, resolved.every.names, known)
        for name in {one.column.name for one in of_pattern} & {one.column.name for one in resolved.every.kept}:
            raise UsageError(
                f"column {name} is a group of sequence_from (--sequence-from), and also a column of the "
                "manifest's keep (--keep); rename the group"
            )
        kept = (*resolved.every.kept, *of_pattern)
        resolved = replace(resolved, every=replace(resolved.every, kept=kept))
    return resolved


def _match_manifest(
    resolved: ResolvedSources, build: BuildOptions, path: Path, old_store: store_spec.Store | None
) -> ResolvedSources:
    """Return the sources that have a row in the manifest, with their labels and kept columns from it."""
    listing, every, columns, kept = resolved.listing, resolved.every, build.label_column, build.keep
    if kept is not None and LABELS_SHA256 in kept and not every.process.is_custom:
        raise UsageError(f"keep={LABELS_SHA256}: this name is for the hash of a source's labels; rename the column")
    types = {} if old_store is None else {column.name: column for column in old_store.schema.columns}
    text = [name for name, column in types.items() if column.dtype == "string"]
    classes = parse_classes(every.process.options.classes)
    labels_as_text = text_columns(columns, classes, old_store)
    manifest = read_manifest(path, key=build.key or DEFAULT_KEY, text=[*text, *labels_as_text])
    matched, absent = manifest.match(
        listing.names,
        only_listed=build.manifest_only,
        strict=build.manifest_strict,
        stored_names=_stored_names(old_store),
    )
    places = np.array(list(matched.values()), np.int64)
    every, label_names = replace(every, names=tuple(matched)), None
    if columns is not None:
        # A range may have other columns by now.
        chosen = columns if old_store is None else old_store.schema.labels.names or columns
        labels = manifest.labels(chosen, as_text=columns_with_classes(columns, classes), order=places)
        check_kinds(old_store, labels, path)
        label_names = labels.targets
        every = replace(every, labels=labels)
    if kept is not None:
        every = replace(every, kept=tuple(one[places] for one in manifest.kept(kept, types)))
    return replace(resolved, every=every, label_names=label_names, absent=absent)


def _discover(options: BuildOptions, process: Process, manifest: Path | None, *, allow_none: bool) -> SourceList:
    """List the files that can be sources, without the store, its build folder and the manifest."""
    store, sequence_from = place_of(options.store), options.sequence_from
    exclude: list[StorePlace] = [store, build_folder(store)] if isinstance(store, Path) else [store]
    if manifest is not None:
        exclude.append(manifest)
    listing = discover(
        options.sources,
        any_suffix=process.is_custom or process.options.format is not None,
        exclude=exclude,
        allow_none=allow_none,
    )
    if sequence_from is None and not listing.in_folders:
        return listing
    if process.takes_file:
        raise UsageError(
            "the process function asks for an open file, but a source consists of several files; let it take a path, "
            "and it is called for each of them"
        )
    if process.options.labels_from is not None:  # label files are not parts of a source
        labels = LabelFilePattern.parse(process.options.labels_from)
        listing = replace(listing, names=tuple(name for name in listing.names if not labels.is_label_file(name)))
    if sequence_from is None:
        return group_files(listing, folder_of, "the folder")
    what = f"sequence_from={sequence_from!r:.200} (--sequence-from)"
    return group_files(listing, partial(texts_in_path, sequence_from), what)


def _stored_names(old_store: store_spec.Store | None) -> Sequence[str]:
    """Return the names of the sources in a store, also retired ones; empty if they cannot be read."""
    with suppress(*DAMAGE):  # the caller refuses rows without a source anyway
        return () if old_store is None else old_store.snapshot.sources()
    return ()


def split_into_batches(
    file_bytes: Sequence[int], batch_bytes: int, ratio: float, *, workers: int = 0
) -> Iterator[tuple[slice, int]]:
    """Split files, in order, into batches of about `batch_bytes`; yield each with its size.

    A size is the decoded bytes, `ratio` for each byte of a file, and FILE_COST for each file. With `workers` the last
    batches become smaller and smaller, so that all workers end at about the same time. (Factoring: Hummel, Schonberg
    and Flynn, Communications of the ACM 35-8, 1992.)
    """

    def size_of(nbytes: int) -> int:
        return round(nbytes * ratio) + FILE_COST

    left, start, size, limit = sum(map(size_of, file_bytes)) if workers else 0, 0, 0, batch_bytes
    for number, more in enumerate(map(size_of, file_bytes)):
        if number > start and size + more > limit:
            yield slice(start, number), size
            start, left, size = number, left - size, 0
        if workers and number == start:
            limit = min(batch_bytes, max(left // (2 * workers), LEAST_BATCH_BYTES))
        size += more
    if start < len(file_bytes):
        yield slice(start, len(file_bytes)), size


def columns_of(
    pattern: str, listing: SourceList, names: Sequence[str], known: Mapping[str, SequenceColumn]
) -> tuple[KeptColumn, ...]:
    """Return the named groups of a pattern as columns of sequences, (names,) each.

    A column has whole numbers if all values are whole numbers in canonical form, otherwise text.

    Args:
        pattern: The pattern that formed the sources.
        listing: The sources, with their files.
        names: The sources to use.
        known: The columns of an old store, by name.
    """
    compiled = re.compile(pattern)
    if not compiled.groupindex:
        return ()
    matches = [compiled.search(listing.files[name][0]) for name in names]
    columns = []
    for group in compiled.groupindex:
        values = ["" if match is None else match[group] or "" for match in matches]
        before = known.get(group)
        column = pa.chunked_array([values], pa.string())
        if before is None or before.dtype != "string":
            column = as_integers(column)
        columns.append(keep_column(group, column, before, "sequence_from (--sequence-from)"))
    return tuple(columns)
