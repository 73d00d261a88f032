"""What somebody who trains on a store should know first, of what `inspect` finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from builder.amounts import count_text, printable
from builder.inspection import Inspection

NAMED = 5
_LEAVING_OUT = ("drop", "split", "diff")  # in the words of options: they leave out steps too
_NO_NAME = re.compile(r"unnamed_\d+|__index_level_\d+__")  # ours in text, pandas' in Parquet


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
    if nameless := _nameless(found):
        it = "it" if len(nameless) == 1 else "them"
        leave = f"they are no features: --exclude {printable(','.join(nameless))} leaves {it} out of another store."
        what = count_text(len(nameless), "feature")
        yield "features", f"{what} without a name in the files. If these are row numbers, as pandas writes, {leave}"
    if lost := _without_labels(found):
        left = "was left out as it has" if lost == 1 else "were left out as they have"
        span = "(--join inner), and windows span what is left out between others."
        advice = "--max-gap beside --time ends sequences there; so does --join left with --missing split."
        yield "cleaning", f"{count_text(lost, 'step')} {left} no labels {span} In another store, {advice}"
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


def _options(found: Inspection) -> dict[str, Any] | None:
    """Return what the store records of how tables were read; None where they were not."""
    process = (found.build or {}).get("process")
    options = process.get("tabular") if isinstance(process, dict) else None
    return options if isinstance(options, dict) else None


def _without_labels(found: Inspection) -> int:
    """Count the steps left out since no labels were joined to them; 0 where others may be among those left out.

    Neither where sequences end at gaps, or none may have one.
    """
    options = _options(found)
    if found.cleaning is None or options is None or not options.get("on") or options.get("join") != "inner":
        return 0
    if options.get("max_gap") is not None or options.get("every") is not None:
        return 0
    others = [*_texts(options.get("missing")), *_texts(options.get("transforms"))]
    if options.get("duplicates") != "error" or any(word in text for text in others for word in _LEAVING_OUT):
        return 0
    return found.cleaning.total.dropped


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _nameless(found: Inspection) -> list[str]:
    """Return the features that have no name in the files, and that a build took since it was to take all columns."""
    options = _options(found)
    if options is None or options.get("inputs") is not None:
        return []
    return [name for name in found.inputs["names"] or () if _NO_NAME.fullmatch(name)]
