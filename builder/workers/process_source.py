"""Process one source: call its process function, and explain why a source cannot be used."""

import os
import re
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import builder
import store_spec
from builder.build_errors import NO_ROWS, EmptySourceError, SourceError, UsageError, of_source
from builder.formats.files import unreadable_file
from builder.frames.digits import DigitNotes
from builder.frames.tabular import Tabular
from builder.labels.name_labels import classes_in_name
from builder.labels.text_classes import ClassCodes, Texts
from builder.manifest.manifest_columns import KeptColumn, SourceLabels
from builder.processes.function_process import Process
from builder.processes.process import searching
from builder.processes.row_dtypes import ARRAYS, Conversions, convert_like_store
from builder.sequence import LongSequence, Sequence, is_data_frame, map_sequence, sequences_of
from builder.sources.fingerprints import Fingerprint, SourceFiles, SourceRead, State, read_fingerprint
from builder.sources.folder import Folder
from builder.sources.label_files import LABELS_SHA256
from builder.workers.row_blocks import SpillError
from store_spec import Classes, SchemaError, SequenceError
from store_spec.building import SourceId

LONGEST_REASON = 1_000
_OUR_FOLDERS = tuple(f"{Path(module.__file__ or '').parent}{os.sep}" for module in (store_spec, builder))


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be used, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Skipped(Failure):
    """An empty source, the reason, and its fingerprint."""

    read: SourceRead


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceBatch:
    """Consecutive sources, and how to read them."""

    folder: Folder
    names: tuple[str, ...]
    process: Process
    labels: SourceLabels | None = None  # from the manifest; None: they come from elsewhere
    kept: tuple[KeptColumn, ...] = ()  # columns from the manifest and from `sequence_from`, (sources,) each
    search: tuple[str, ...] = ()  # folders to search for the module of the process function
    converted: Conversions = ()  # of rows before they are stored, if `compact` changed a dtype
    crashed: Mapping[str, str] = field(default_factory=dict)  # sources that are not tried again, and why
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of each source that consists of several files
    skips_empty: bool = True  # whether empty sources are skipped; otherwise they fail
    root: Path = Path()  # the folder of the files, within `ready`

    def __len__(self) -> int:
        return len(self.names)

    @contextmanager
    def ready(self) -> Iterator["SourceBatch"]:
        """Yield a batch that can be read: add the folders to search, and fetch the files if they are in a bucket."""
        files = {file: name for name in self.names if name not in self.crashed for file in self.every_file(name)}
        with searching(self.search), ExitStack() as stack:
            try:
                root, errors = stack.enter_context(self.folder.fetch(files))
            except OSError as error:
                raise SpillError(
                    error.errno, f"{error}; files of a bucket were to be stored there temporarily"
                ) from error
            failed = {files[file]: f"cannot be fetched: {error}" for file, error in errors.items()}
            yield replace(self, root=root, process=self.process.under(root), crashed={**self.crashed, **failed})

    def files_of(self, name: str) -> SourceFiles:
        """Return the files of a source, with its label file; SourceError if its name does not match `labels_from`."""
        return SourceFiles(self.files.get(name, (name,)), self.process.label_file(name), joined=name in self.files)

    def every_file(self, name: str) -> tuple[str, ...]:
        """Return the names of all files of a source, without a label file if its name does not match `labels_from`."""
        try:
            return self.files_of(name).every
        except SourceError:  # reading the source reports it
            return self.files.get(name, (name,))

    def take(self, numbers: Collection[int]) -> Self:
        """Return some of the sources, by their indices, as a batch."""
        names, rows = tuple(self.names[number] for number in numbers), np.array(numbers, np.int64)
        return replace(
            self,
            folder=self.folder.for_worker(file for name in names for file in self.every_file(name)),
            names=names,
            labels=None if self.labels is None else self.labels[rows],
            kept=tuple(one[rows] for one in self.kept),
            files={name: self.files[name] for name in names if name in self.files},
        )

    def with_classes(self, classes: Classes | None) -> Self:
        """Return the same sources for labels with these classes."""
        return replace(self, process=self.process.with_classes(classes))

    def with_notes(self, digits: DigitNotes) -> Self:
        """Return the same sources; reading tables adds to `digits` the numbers in text that float32 does not keep."""
        process = self.process
        return replace(self, process=replace(process, digits=digits)) if isinstance(process, Tabular) else self

    @property
    def may_add_classes(self) -> bool:
        """Whether sources may add classes, since the user did not name the classes of every target."""
        classes = self.process.store_classes or ()
        return sum(names is not None for names in classes) > len(self.process.options.classes)

    def classes_in(self, number: int) -> Mapping[str, Texts]:
        """Return the classes of each target in a source, wherever its labels come from; None: labels are numbers."""
        process = self.process_of(number)
        if self.labels is not None:
            texts_of = zip(self.labels.targets, self.labels.texts, strict=False)
            return {target: texts and (texts[number],) for target, texts in texts_of}
        if process.options.label_pattern is not None:
            return classes_in_name(self.names[number], process.options.label_pattern, process.options.classes)
        return process.classes_in(self.root / self.names[number]) if process.options.label_source == "columns" else {}

    def process_of(self, number: int) -> Process:
        """Return the process function for a source."""
        files = self.files.get(self.names[number])
        return self.process if files is None else self.process.with_files(files)

    def process_with(self, codes: ClassCodes, number: int) -> Process:
        """Add the classes of a source to the codes, and return the process function with these codes."""
        with suppress(SourceError):  # reading the source reports it
            codes.add(self.classes_in(number))
        return self.process_of(number).with_classes(codes.classes)

    def labels_of(self, number: int, process: Process) -> NDArray[Any] | None:
        """Return the labels (targets,) of a source; None: the process function returns them."""
        if self.labels is None:
            return process.labels_in_name(self.names[number])
        labels: NDArray[Any] = self.labels.numbers[number].copy()
        # Not by `SourceLabels.codes`, which makes a dictionary of all classes for each source.
        for target, (texts, names) in enumerate(zip(self.labels.texts, process.store_classes or (), strict=False)):
            if texts is not None and names is not None and texts[number] in names:
                labels[target] = names.index(texts[number])
        return labels


@dataclass(frozen=True, slots=True)
class UsedSource:
    """A source that was processed: what `each` of `read_source` returned for its sequences, and its fingerprint."""

    results: list[Any]
    read: SourceRead


def read_source(
    batch: SourceBatch,
    number: int,
    each: Callable[[SourceId, Sequence | LongSequence], Any],
    *,
    codes: ClassCodes | None = None,
) -> UsedSource | Failure:
    """Process one source, and call a function with each of its sequences; return a Failure if it cannot be used.

    Args:
        batch: The sources.
        number: The index of the source in the batch.
        each: Called with each sequence.
        codes: Codes of classes, to which the classes of the source are added first.

    Raises:
        UsageError: The process function cannot be imported, so that no source can be used.
        SpillError: `each` could not store a sequence.
    """
    name = batch.names[number]
    path = batch.root / name
    read: SourceRead | None = None
    kept = {one.column.name: one.values[number] for one in batch.kept}
    try:
        read = _read_files(batch, name)
        size, hashes = read.size, read.hashes
        if read.files.labels is not None:
            kept[LABELS_SHA256] = hashes[1].hex()
        process = batch.process_of(number) if codes is None else batch.process_with(codes, number)
        labels = batch.labels_of(number, process)  # before the call, which may take long
        results: list[Any] = []
        has_rows = False

        def complete(origin: SourceId, piece: Sequence) -> Sequence:
            nonlocal has_rows
            has_rows |= np.shape(piece.inputs)[:1] != (0,)  # reads nothing if the inputs are read when needed
            return _complete(labels, kept, batch.converted, origin, piece)

        with ExitStack() as stack:
            source = stack.enter_context(path.open("rb")) if process.takes_file else path
            for sequence in sequences_of(_call(process, source, labels)):
                origin = SourceId(name=name, part=len(results), size=size, sha256=hashes[0])
                results.append(each(origin, map_sequence(sequence, partial(complete, origin))))
                del sequence  # frees its memory before the next sequence is made
        if changed := _changed(batch, name, read):
            raise SourceError(changed)
        if not has_rows:
            raise EmptySourceError(NO_ROWS if results else "it gave no sequence")
    except (UsageError, SpillError):
        raise  # not the fault of a source
    except (SourceError, SequenceError, SchemaError) as error:
        if isinstance(error, EmptySourceError) and read is not None and batch.skips_empty:
            if changed := _changed(batch, name, read):  # another program may be writing it again
                return _failure(batch, name, changed)
            failure = _failure(batch, name, str(error))
            return Skipped(failure.source, failure.reason, read)
        return _failure(batch, name, str(error))
    # A process function can raise anything. A panic in Rust, for example, is only a BaseException, and dask would wait
    # endlessly for a task that raises one.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # it was a Ctrl-C
        place = _error_place(error) if batch.process.is_custom and not isinstance(error, MemoryError) else ""
        return _failure(batch, name, _error_text(error) + place)
    return UsedSource(results, read)


def _read_files(batch: SourceBatch, name: str) -> SourceRead:
    """Read and hash the files of a source; SourceError if one cannot be read, or it crashed a worker before."""
    if name in batch.crashed:
        raise SourceError(batch.crashed[name])
    files, read = batch.files_of(name), dict[str, Fingerprint]()
    if files.labels in files.own:
        raise SourceError(f"its label file {files.labels} is also one of its files; name it differently, or move it")
    for file in files.every:
        try:
            read[file] = read_fingerprint(os.path.join(batch.root, file))
        except OSError as error:
            if file != files.labels:
                with of_source(file):
                    raise unreadable_file(error) from error
            if isinstance(error, FileNotFoundError):
                raise SourceError(f"its label file {file} does not exist (--labels-from)") from error
            raise SourceError(f"its labels cannot be read: {file}: {unreadable_file(error)}") from error
    return SourceRead(files, read)


def _changed(batch: SourceBatch, name: str, read: SourceRead) -> str:
    """Return which file of a source changed since it was hashed, as a message; empty if none did."""
    for file, one in read.fingerprints.items():
        try:
            is_same = one.state == State.of(os.stat(os.path.join(batch.root, file)))
        except OSError:
            is_same = False
        if not is_same:
            return f"{'it' if file == name else file} changed while it was read; the next build tries it again"
    return ""


def _call(process: Process, source: Any, labels: NDArray[Any] | None) -> Any:
    """Call the process function. This is no generator, in which a StopIteration would become another error."""
    result = process(source)
    if labels is not None and (hasattr(result, "__array__") or is_data_frame(result)):
        result = (result, None)  # if labels come from elsewhere, a function may return the inputs alone
    return result


def _complete(
    labels: NDArray[Any] | None,
    kept: Mapping[str, Any],
    conversions: Conversions,
    origin: SourceId,
    sequence: Sequence,
) -> Sequence:
    """Return a sequence with the labels and kept columns from elsewhere, converted like the rows of the store."""
    if labels is not None:
        sequence = replace(sequence, labels=labels, targets=None)  # the names are those of other labels
    if kept:
        twice = [name for name in sequence.columns if name in kept]
        if twice:
            raise SequenceError(
                f"{origin}: column {twice[0]!r:.80} comes from its rows (--group-by, --missing, --process) and from "
                "the manifest (--keep) or the names of files (--sequence-from); rename one of them"
            )
        sequence = replace(sequence, columns={**sequence.columns, **kept})
    if conversions:
        inputs, labels = (convert_like_store(conversions, getattr(sequence, name), name, origin) for name in ARRAYS)
        sequence = replace(sequence, inputs=inputs, labels=labels)
    return sequence


def _error_text(error: BaseException) -> str:
    """Return the text of an exception of a process function."""
    if isinstance(error, MemoryError):
        text = f" ({error})" if str(error) else ""
        return f"it needs more memory than there is{text}; use fewer --workers, or read it in pieces (--process)"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _error_place(error: BaseException) -> str:
    """Return the last line of an error's traceback that is in the file of the process function or in its folder."""
    folder, place = None, ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if file.startswith((*_OUR_FOLDERS, "<")):  # generated code, such as the __init__ of a dataclass, is in <string>
            continue
        if frame.f_globals.get("__name__") == "__main__":  # workers do not know this file, and must record the same
            continue
        folder = folder or os.path.join(os.path.dirname(file), "")
        if file.startswith(folder):
            place = f" ({os.path.basename(file)}, line {line:,}, in {frame.f_code.co_name})"
    return place


def _failure(batch: SourceBatch, name: str, message: str) -> Failure:
    """Return a failure without the absolute path of the root, since the store depends only on the sources."""
    reason = re.sub(rf"^{re.escape(name)}:? ", "", message.replace(f"{batch.root}{os.sep}", ""))
    # The name of a file in an error may have bytes that are not UTF-8, which JSON cannot hold.
    return Failure(name, reason[:LONGEST_REASON].encode(errors="backslashreplace").decode())
