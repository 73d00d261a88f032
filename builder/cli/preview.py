"""A preview as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from builder.cli.amounts import bytes_text, count_text, printable
from builder.cli.inspection import rows_text
from builder.cli.tables import pairs, section
from builder.preview import Preview, StorePreview


def preview_text(found: Preview) -> Iterator[RenderableType]:
    """Give the sections of a dry run."""
    table = pairs()
    old = f", {found.sources - found.new:,} in the store already" if found.exists else ""
    table.add_row("sources", f"{found.sources:,} found, {found.new:,} new{old}{_ignored(found)}")
    if found.new:
        table.add_row("to read", bytes_text(found.bytes_to_read))
        table.add_row("looked at", f"{count_text(len(found.sampled), 'source')}: {printable(', '.join(found.sampled))}")
    yield section(f"{found.store}: {'would be brought up to date' if found.exists else 'would be made'}", table)
    if found.result is not None:
        yield section("The store then", _result(found, found.result))


def _ignored(found: Preview) -> str:
    if not found.ignored:
        return ""
    names = ", ".join(found.ignored_listed) + (", ..." if found.ignored > len(found.ignored_listed) else "")
    return f"; {count_text(found.ignored, 'file')} ignored ({printable(names)})"


def _result(found: Preview, result: StorePreview) -> RenderableType:
    about = "about " if len(found.sampled) < found.new else ""
    table = pairs()
    for name, text in (
        ("holds", f"{about}{count_text(result.sequences, 'sequence')}, {count_text(result.steps, 'step')}"),
        ("inputs", rows_text(result.inputs, "step")),
        ("labels", rows_text(result.labels, {"own": "label step"}.get(result.label_axis, result.label_axis))),
        ("label axis", result.label_axis),
        ("added", f"{about}{bytes_text(result.decoded_bytes)} decoded, before compression"),
        ("chunk", f"{count_text(result.chunk_steps, 'step')} (inputs: {bytes_text(result.chunk_bytes)})"),
        ("shard", f"{count_text(result.shard_steps, 'step')} (inputs: {bytes_text(result.shard_bytes)})"),
        ("codec", result.codec),
        ("files", f"{about}{result.files:,}"),
        ("memory", f"at most about {bytes_text(result.memory_bytes)} while building"),
    ):
        table.add_row(name, text)
    return table
