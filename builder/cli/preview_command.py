"""Print the preview of a build."""

from collections.abc import Iterator

from rich.console import RenderableType

from builder.amounts import bytes_text, count_text, first_names, ignored_text, printable
from builder.cli.attention import absent_text
from builder.execution.preview import Preview, StorePreview
from builder.inspection.as_text import classes_text, rows_text
from builder.inspection.terminal import columns, pairs, section


def preview_text(preview: Preview) -> Iterator[RenderableType]:
    """Yield the sections of a dry run."""
    table = pairs()
    ignored = ignored_text(preview.ignored, preview.ignored_listed)
    table.add_row("sources", f"{preview.sources:,} found, {preview.to_process:,} to process{ignored}")
    if preview.absent:
        table.add_row("manifest", absent_text(preview.absent))
    if preview.to_process:
        table.add_row("to read", bytes_text(preview.bytes_to_read))
        if preview.dropped or preview.filled:
            done = f"{count_text(preview.dropped, 'step')} dropped, {count_text(preview.filled, 'value')} filled in"
            table.add_row("cleaning", f"{done}, of those looked at")
        sampled = printable(", ".join(preview.sampled))
        table.add_row("looked at", f"{count_text(len(preview.sampled), 'source')}: {sampled}")
        if preview.skipped:
            table.add_row("of them empty", printable(first_names([one.source for one in preview.skipped])))
    yield section(f"{preview.store}: {'would be brought up to date' if preview.exists else 'would be made'}", table)
    if preview.exists:
        yield section("Its sources", _sources(preview))
    if preview.result is not None:
        yield section("The store then", _result(preview, preview.result))


def _sources(preview: Preview) -> RenderableType:
    """Show the changes of sources since the last build, and what the build does with them."""
    table = columns("", "sources", "the build", "such as", right=("sources",), folded=("the build", "such as"))
    again = "builds them again" if preview.update else "leaves them as they are; --update builds them again"
    missing = "retires them" if preview.retire_missing else "leaves them in the store; --retire-missing retires them"
    failed = [failure.source for failure in preview.failed]
    unreadable = [failure.source for failure in preview.unreadable]
    for what, count, does, names in (
        ("new", len(preview.new), "adds them", preview.new),
        ("  failed before", len(failed), "tries them again", failed),
        ("changed", len(preview.changed), again, preview.changed),
        ("unchanged", preview.unchanged, "leaves them as they are", ()),
        ("  other code", len(preview.outdated), again, preview.outdated),
        ("vanished", len(preview.vanished), missing, preview.vanished),
        ("skipped", preview.skipped_before, "leaves them out, as they are empty", ()),
        ("unreadable", len(unreadable), "names them, and leaves them", unreadable),
    ):
        if count:
            table.add_row(what, f"{count:,}", does, printable(first_names(names)))
    return table


def _whole(result: StorePreview) -> str:
    if result.own_function:
        return ", and what the process function takes while it reads"
    if not result.whole_bytes:
        return "; no source is read whole"
    return f", {bytes_text(result.whole_bytes)} of them for sources, which are read whole"


def _result(preview: Preview, result: StorePreview) -> RenderableType:
    about = "about " if len(preview.sampled) < preview.to_process else ""
    table = pairs()
    for name, text in (
        ("holds", f"{about}{count_text(result.sequences, 'sequence')}, {count_text(result.steps, 'step')}"),
        ("inputs", rows_text(result.inputs, "step")),
        *((("dtype", result.dtype_why),) if result.dtype_why is not None else ()),
        ("labels", rows_text(result.labels, {"own": "label step"}.get(result.label_axis, result.label_axis))),
        # Other sources may have classes before these, so the codes are not known yet.
        *((f"{name} seen", text) for name, text in classes_text(result.labels, codes=not about)),
        ("label axis", result.label_axis),
        ("added", f"{about}{bytes_text(result.decoded_bytes)} decoded, before compression"),
        ("chunk", f"{count_text(result.chunk_steps, 'step')} (inputs: {bytes_text(result.chunk_bytes)})"),
        ("shard", f"{count_text(result.shard_steps, 'step')} (inputs: {bytes_text(result.shard_bytes)})"),
        ("codec", result.codec_why or result.codec),
        ("files", f"{about}{result.files:,}"),
        ("memory", f"at most about {bytes_text(result.memory_bytes)} while building{_whole(result)}"),
    ):
        table.add_row(name, text)
    return table
