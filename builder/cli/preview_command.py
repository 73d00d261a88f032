"""Print the preview of a build."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType

from builder.amounts import bytes_text, count_text, first_names, ignored_text, printable
from builder.cli.build_command import absent_text
from builder.execution.preview import Preview, StorePreview
from builder.inspection.as_text import chunks_text, classes_text, label_row, rows_text
from builder.inspection.terminal import Section, columns, pairs


def preview_text(preview: Preview) -> Iterator[Section]:
    """Yield the sections of a dry run."""
    title = f"{preview.store}: {'would be brought up to date' if preview.exists else 'would be made'}"
    yield title, pairs(_overview(preview))
    if preview.exists:
        yield "Its sources", _sources(preview)
    if preview.result is not None:
        yield "The store then", pairs(_result(preview, preview.result))


def _overview(preview: Preview) -> Iterator[tuple[str, str]]:
    ignored = ignored_text(preview.ignored, preview.ignored_listed)
    yield "sources", f"{preview.sources:,} found, {preview.to_process:,} to process{ignored}"
    if preview.absent:
        yield "manifest", absent_text(preview.absent)
    if preview.to_process:
        yield "to read", bytes_text(preview.bytes_to_read)
        if preview.dropped or preview.filled:
            done = f"{count_text(preview.dropped, 'step')} dropped, {count_text(preview.filled, 'value')} filled in"
            yield "cleaning", f"{done}, of those looked at"
        sampled = printable(", ".join(preview.sampled))
        yield "looked at", f"{count_text(len(preview.sampled), 'source')}: {sampled}"
        if preview.skipped:
            yield "of them empty", printable(first_names([one.source for one in preview.skipped]))


def _sources(preview: Preview) -> RenderableType:
    """Show the changes of sources since the last build, and what the build does with them."""
    again = "builds them again" if preview.update else "leaves them as they are; --update builds them again"
    missing = "retires them" if preview.retire_missing else "leaves them in the store; --retire-missing retires them"
    failed = [failure.source for failure in preview.failed]
    unreadable = [failure.source for failure in preview.unreadable]
    changes: Iterable[tuple[str, int, str, Sequence[str]]] = (
        ("new", len(preview.new), "adds them", preview.new),
        ("  failed before", len(failed), "tries them again", failed),
        ("changed", len(preview.changed), again, preview.changed),
        ("unchanged", preview.unchanged, "leaves them as they are", ()),
        ("  other code", len(preview.outdated), again, preview.outdated),
        ("vanished", len(preview.vanished), missing, preview.vanished),
        ("skipped", preview.skipped_before, "leaves them out, as they are empty", ()),
        ("unreadable", len(unreadable), "names them, and leaves them", unreadable),
    )
    rows = ((what, f"{n:,}", does, printable(first_names(names))) for what, n, does, names in changes if n)
    names = ("", "sources", "the build", "such as")
    return columns(names, rows, right=("sources",), folded=("the build", "such as"))


def _whole(result: StorePreview) -> str:
    if result.own_function:
        return ", and what the process function takes while it reads"
    if not result.whole_bytes:
        return "; no source is read whole"
    return f", {bytes_text(result.whole_bytes)} of them for sources, which are read whole"


def _result(preview: Preview, result: StorePreview) -> Iterator[tuple[str, str]]:
    about = "about " if len(preview.sampled) < preview.to_process else ""
    yield "holds", f"{about}{count_text(result.sequences, 'sequence')}, {count_text(result.steps, 'step')}"
    yield "inputs", rows_text(result.inputs, "step")
    if result.dtype_why is not None:
        yield "dtype", result.dtype_why
    yield "labels", rows_text(result.labels, label_row(result.label_axis))
    # Other sources may have classes before these, so the codes are not known yet.
    yield from ((f"{name} seen", text) for name, text in classes_text(result.labels, codes=not about))
    yield "label axis", result.label_axis
    yield "added", f"{about}{bytes_text(result.decoded_bytes)} decoded, before compression"
    yield from chunks_text(result)
    yield "codec", result.codec_why or result.codec
    yield "files", f"{about}{result.files:,}"
    yield "memory", f"at most about {bytes_text(result.memory_bytes)} while building{_whole(result)}"
