"""A preview as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from builder.amounts import bytes_text, count_text, printable
from builder.cli.attention import first_of, ignored_text
from builder.execution.preview import Preview, StorePreview
from builder.inspection.as_text import classes_text, rows_text
from builder.inspection.terminal import columns, pairs, section


def preview_text(found: Preview) -> Iterator[RenderableType]:
    """Give the sections of a dry run."""
    table = pairs()
    ignored = ignored_text(found.ignored, found.ignored_listed)
    table.add_row("sources", f"{found.sources:,} found, {found.to_process:,} to process{ignored}")
    if found.to_process:
        table.add_row("to read", bytes_text(found.bytes_to_read))
        if found.dropped or found.filled:
            done = f"{count_text(found.dropped, 'step')} dropped, {count_text(found.filled, 'value')} filled in"
            table.add_row("cleaning", f"{done}, of those looked at")
        table.add_row("looked at", f"{count_text(len(found.sampled), 'source')}: {printable(', '.join(found.sampled))}")
    yield section(f"{found.store}: {'would be brought up to date' if found.exists else 'would be made'}", table)
    if found.exists:
        yield section("Its sources", _sources(found))
    if found.result is not None:
        yield section("The store then", _result(found, found.result))


def _sources(found: Preview) -> RenderableType:
    """Show what became of the sources of a store, and what the build does with them."""
    table = columns("", "sources", "the build", "such as", right=("sources",), folded=("the build", "such as"))
    again = "builds them again" if found.update else "leaves them as they are; --update builds them again"
    missing = "retires them" if found.retire_missing else "leaves them in the store; --retire-missing retires them"
    failed = [failure.source for failure in found.failed]
    unreadable = [failure.source for failure in found.unreadable]
    for what, count, does, names in (
        ("new", len(found.new), "adds them", found.new),
        ("  failed before", len(failed), "tries them again", failed),
        ("changed", len(found.changed), again, found.changed),
        ("unchanged", found.unchanged, "leaves them as they are", ()),
        ("  other code", len(found.outdated), again, found.outdated),
        ("vanished", len(found.vanished), missing, found.vanished),
        ("unreadable", len(unreadable), "names them, and leaves them", unreadable),
    ):
        if count:
            table.add_row(what, f"{count:,}", does, first_of(names))
    return table


def _whole(result: StorePreview) -> str:
    if result.own_function:
        return ", and what the process function takes while it reads"
    if not result.whole_bytes:
        return "; no source is read whole"
    return f", {bytes_text(result.whole_bytes)} of them for sources, which are read whole"


def _result(found: Preview, result: StorePreview) -> RenderableType:
    about = "about " if len(found.sampled) < found.to_process else ""
    table = pairs()
    for name, text in (
        ("holds", f"{about}{count_text(result.sequences, 'sequence')}, {count_text(result.steps, 'step')}"),
        ("inputs", rows_text(result.inputs, "step")),
        ("labels", rows_text(result.labels, {"own": "label step"}.get(result.label_axis, result.label_axis))),
        # Sources that were not looked at may have classes before those that were seen: these have no codes yet.
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
