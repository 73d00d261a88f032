"""Processing one source: what its process function gives of it, and why it cannot be used."""

from __future__ import annotations

import inspect
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import builder
import store_spec
from builder.build_errors import SourceError, UsageError
from builder.formats.files import unreadable_file
from builder.labels.class_codes import ClassCodes
from builder.labels.name_labels import classes_in_name
from builder.labels.text_classes import Texts
from builder.manifest.kept import Kept
from builder.processes.process import Process
from builder.processes.row_dtypes import ARRAYS, Conversions, converted_as
from builder.sequence import LongSequence, Sequence, map_sequence, resident_bytes, sequences_of
from builder.sources.fingerprints import Fingerprint, read_fingerprint
from builder.sources.label_files import LABELS_SHA256
from builder.workers.row_blocks import SpillError
from store_spec import Classes, SequenceError
from store_spec.building import SourceId

LONGEST_REASON = 1_000
_OURS = tuple(f"{Path(module.__file__ or '').parent}{os.sep}" for module in (store_spec, builder))


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be used, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some sources that follow one another, and how to read them."""

    root: Path
    names: tuple[str, ...]
    labels: NDArray[Any] | None  # (sources, targets), where they come from the manifest; of text -1
    process: Process
    texts: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)  # of the manifest's targets
    kept: tuple[Kept, ...] = ()  # of the manifest, (sources,) each
    search: tuple[str, ...] = ()  # folders to search for the process function's module
    converted: Conversions = ()  # what rows become before they are stored, where `compact` changed a dtype
    crashed: Mapping[str, str] = field(default_factory=dict)  # sources that are not tried again, and why

    def __len__(self) -> int:
        return len(self.names)

    def part(self, start: int, stop: int) -> Batch:
        """Return the sources from `start` up to, not including, `stop`, as a batch."""
        numbers = np.arange(start, stop)
        labels = None if self.labels is None else self.labels[start:stop]
        texts = {target: texts and texts[start:stop] for target, texts in self.texts.items()}
        kept = tuple(one[numbers] for one in self.kept)
        return replace(self, names=self.names[start:stop], labels=labels, texts=texts, kept=kept)

    def with_classes(self, classes: Classes | None) -> Batch:
        """Return the same sources for labels with these classes."""
        return replace(self, process=self.process.with_classes(classes))

    @property
    def may_add_classes(self) -> bool:
        """Whether sources may have other classes than those that are known: not all are given."""
        classes = self.process.store_classes or ()
        return sum(names is not None for names in classes) > len(self.process.classes)

    def only(self, number: int) -> Batch:
        """Return one of the sources, as a batch."""
        return self.part(number, number + 1)

    def refuse_crashed(self, number: int) -> None:
        """Refuse a source that ended the process that read it.

        Raises:
            SourceError: It did.
        """
        name = self.names[number]
        if name in self.crashed:
            raise SourceError(name, self.crashed[name])

    def classes_in(self, number: int) -> Mapping[str, Texts]:
        """Return the classes of each target in one of them, wherever its labels are; None: they are numbers.

        Raises:
            SourceError: They cannot be read.
            UsageError: Classes are given for what is no target.
        """
        process = self.process
        if self.labels is not None:
            return {target: texts and (texts[number],) for target, texts in self.texts.items()}
        if process.label_pattern is not None:
            return classes_in_name(self.names[number], process.label_pattern, process.classes)
        return process.classes_in(self.root / self.names[number]) if process.label_source == "columns" else {}

    def process_with(self, codes: ClassCodes, number: int) -> Process:
        """Return the process function with the codes for one of them, whose classes are added to these.

        Raises:
            UsageError: There are too many classes, or classes are given for what is no target.
        """
        with suppress(SourceError):  # reading the source says what is wrong
            codes.add(self.classes_in(number))
        return self.process.with_classes(codes.classes)

    def labels_of(self, number: int, process: Process) -> NDArray[Any] | None:
        """Return the labels (targets,) of one of them, where the process function does not give them.

        Raises:
            SourceError: They should be in its name, and are not.
        """
        if self.labels is None:
            return process.labels_in_name(self.names[number])
        labels = self.labels[number].copy()
        for target, (texts, names) in enumerate(zip(self.texts.values(), process.store_classes or (), strict=False)):
            if texts is not None and names is not None and texts[number] in names:
                labels[target] = names.index(texts[number])
        return labels  # type: ignore[no-any-return]


@dataclass(slots=True)
class UnusableError(Exception):
    """Carries a failure out of the reading of one source."""

    failure: Failure = field()


def read_source(
    batch: Batch,
    number: int,
    buffer: memoryview,
    each: Callable[[SourceId, Sequence | LongSequence], Any],
    begin: Callable[[int | None], None] = lambda _: None,
    *,
    codes: ClassCodes | None = None,
) -> tuple[list[Any], Fingerprint]:
    """Process one source, and give each of its sequences to a function; return what that gave, and what was read.

    Before the first, `begin` is told how many bytes of the source's rows are in memory beside each; see
    `resident_bytes`. With `codes`, the classes of the source are added there first.

    Raises:
        UnusableError: The source cannot be used.
        UsageError: No source can be: the process function is not to be found.
        SpillError: The function of the sequences had no room for one.
    """
    name = batch.names[number]
    path = batch.root / name
    kept = {one.column.name: one.values[number] for one in batch.kept}
    try:
        batch.refuse_crashed(number)
        try:
            read = read_fingerprint(path, buffer)
        except OSError as error:
            raise unreadable_file(name, error) from error
        if (beside := batch.process.label_file(name)) is not None:
            try:
                labels_read = read_fingerprint(batch.root / beside, buffer)
            except FileNotFoundError as error:
                raise SourceError(name, f"there is no {beside}, where its labels should be (--labels-from)") from error
            except OSError as error:
                raise SourceError(name, f"its labels are not to be read: {unreadable_file(beside, error)}") from error
            read = replace(read, beside=(beside, labels_read))
            kept[LABELS_SHA256] = labels_read.sha256.hex()
        process = batch.process if codes is None else batch.process_with(codes, number)
        labels = batch.labels_of(number, process)  # before it is processed, which may take long
        results: list[Any] = []
        result = process(path)
        _refuse_async(result, name)
        begin(resident_bytes(result))
        for sequence in _sequences(result, labels, name):
            origin = SourceId(name=name, part=len(results), size=read.state.size, sha256=read.sha256)
            results.append(each(origin, _prepared(batch, kept, origin, sequence)))
            del sequence  # its memory is free for the next one
        if not results:
            raise SourceError(name, "it gave no sequence")
        if not read.is_of(os.stat(path)):
            raise SourceError(name, "it changed while it was read; the next build tries it again")
        if read.beside is not None and not read.beside[1].is_of(os.stat(batch.root / read.beside[0])):
            raise SourceError(name, f"{read.beside[0]} changed while it was read; the next build tries it again")
    except (UsageError, SpillError):
        raise  # no source is at fault
    except (SourceError, SequenceError) as error:
        raise UnusableError(_failure(batch, name, str(error))) from error
    # Whatever a process function of the user's own raises: a panic of Rust's, say, is no Exception, and dask waits for
    # ever where one leaves a task.
    except BaseException as error:
        _let_pass(error)
        where = _where(error) if batch.process.is_custom and not isinstance(error, MemoryError) else ""
        raise UnusableError(_failure(batch, name, _why(error) + where)) from error
    return results, read


def _refuse_async(result: Any, name: str) -> None:
    if inspect.iscoroutine(result):
        result.close()  # or Python warns on stderr that nobody awaited it
    elif not inspect.isasyncgen(result):
        return
    raise SourceError(
        name,
        "the process function is async (async def), and nothing awaits what it gives; write it with def, and "
        "asyncio.run(...) inside of it where it has to await something",
    )


def _sequences(result: Any, labels: NDArray[Any] | None, name: str) -> Iterator[Sequence | LongSequence]:
    if labels is None:
        return (_labelled(sequence, name) for sequence in sequences_of(result))
    if hasattr(result, "__array__"):
        result = (result, None)  # a function need not return labels that stand elsewhere
    return (map_sequence(sequence, partial(replace, labels=labels)) for sequence in sequences_of(result))


def _labelled(sequence: Sequence | LongSequence, name: str) -> Sequence | LongSequence:
    """Return a sequence that has labels, which stand nowhere else; of one in pieces, the first piece has."""
    if isinstance(sequence, LongSequence):
        return LongSequence(_first_labelled(sequence.sequences(), name))
    return next(_first_labelled(iter([sequence]), name))


def _first_labelled(sequences: Iterator[Sequence], name: str) -> Iterator[Sequence]:
    for number, sequence in enumerate(sequences):
        if sequence.labels is None and not number:
            raise SourceError(
                name,
                "the process function gives None for labels; give a label a step, or one for the sequence, or name "
                "columns of a manifest (--label-column); where the labels are the inputs, return (inputs, inputs)",
            )
        yield sequence


def _prepared(
    batch: Batch, kept: Mapping[str, Any], origin: SourceId, sequence: Sequence | LongSequence
) -> Sequence | LongSequence:
    if kept:
        sequence = map_sequence(sequence, partial(_with_kept, kept, origin))
    if batch.converted:
        sequence = map_sequence(sequence, partial(_converted, batch.converted, origin))
    return sequence


def _with_kept(kept: Mapping[str, Any], origin: SourceId, sequence: Sequence) -> Sequence:
    """Return a sequence with what the manifest says of its source."""
    twice = [name for name in sequence.columns if name in kept]
    if twice:
        raise SequenceError(
            f"{origin}: column {twice[0]!r:.80} comes from the process function and from the manifest's keep; "
            "rename one"
        )
    return replace(sequence, columns={**sequence.columns, **kept})


def _converted(conversions: Conversions, origin: SourceId, sequence: Sequence) -> Sequence:
    inputs, labels = (converted_as(conversions, getattr(sequence, name), name, origin) for name in ARRAYS)
    return replace(sequence, inputs=inputs, labels=labels)


def _let_pass(error: BaseException) -> None:
    """Raise what is a Ctrl-C: that comes to the main thread alone, which in worker processes reads no sources."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def _why(error: BaseException) -> str:
    """Say what a process function raised."""
    if isinstance(error, MemoryError):
        why = f" ({error})" if str(error) else ""
        return f"it needs more memory than there is{why}; take fewer --workers, or read it in pieces (--process)"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _where(error: BaseException) -> str:
    """Say in which line it was raised, of a process function's file or one beside it."""
    folder, where = None, ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if file.startswith((*_OURS, "<")):  # as <string>: code that was generated, as a dataclass's __init__
            continue
        folder = folder or os.path.join(os.path.dirname(file), "")
        if file.startswith(folder):
            where = f" ({os.path.basename(file)}, line {line:,}, in {frame.f_code.co_name})"
    return where


def _failure(batch: Batch, name: str, message: str) -> Failure:
    """Name a failure. No path of this machine is kept: the store depends on the sources alone."""
    reason = message.replace(f"{batch.root}{os.sep}", "").removeprefix(f"{name}: ").removeprefix(f"{name} ")
    return Failure(name, reason[:LONGEST_REASON])
