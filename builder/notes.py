"""What somebody who trains on a store should know first, of what `inspect` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from builder.amounts import count_text, printable
from builder.inspection import Inspection

NAMED = 5


def notes_of(found: Inspection, name: Callable[[str], str] = printable) -> Iterator[tuple[str, str]]:
    """Give notes: of which section, and the note.

    Args:
        found: What `inspect` finds.
        name: Writes the name of a source.
    """
    if found.failures:
        yield "failures", f"{count_text(found.failures, 'source')} could not be used in the last build."
    if found.lengths is not None and found.lengths.empty:
        yield "lengths", f"{count_text(found.lengths.empty, 'sequence')} without any step."
    default = "the default splits" if found.split_by is None else f"the splits by {printable(found.split_by)}"
    empty = [split.name for split in found.splits if not split.sequences]
    if empty and found.sequences:
        yield "splits", f"No sequence is in {' and '.join(empty)} of {default}."
    without = [split.name for split in found.splits if split.sequences and split.windows == 0]
    if without and found.shuffle is not None:
        steps = count_text(found.shuffle.asked.window, "step")
        yield "splits", f"Windows of {steps} fit into no sequence of {' and '.join(without)}."
    twins = found.twins
    if twins.count:
        pairs = ", ".join(f"{name(a)} = {name(b)}" for a, b in twins.named[:NAMED])
        groups = count_text(twins.count, "group")
        leak = "What is trained on one is tested on the other."
        yield "splits", f"The same bytes are in sources of different splits, {groups} of them: {pairs}. {leak}"
    if found.retired and found.retired > found.sequences:
        yield "retired", "More sequences are retired than not: seqzarr compact writes a store without them."
