"""Notes on a store for users who want to train on it."""

from collections.abc import Iterator, Sequence

from builder.amounts import count_text, percent_text, short_name
from builder.inspection.document import Inspection
from builder.inspection.features import ColumnStatistics

LISTED = 5
MISSING = 0.5  # a note names columns with a larger share of missing values


def notes_on(document: Inspection) -> Iterator[tuple[str, str]]:
    """Yield notes, each with the name of the section that has details."""
    if document.failures:
        yield "failures", f"{count_text(document.failures, 'source')} could not be used in the last build."
    if document.skipped:
        yield "failures", f"{count_text(document.skipped, 'source')} skipped as empty."
    if document.lengths is not None and document.lengths.empty:
        yield "lengths", f"{count_text(document.lengths.empty, 'sequence')} without any step."
    features = [one for one in document.statistics if one.array == "inputs"]
    targets = [] if document.labels_are_inputs else [one for one in document.statistics if one.array == "labels"]
    if document.steps:
        yield from (("features", note) for note in _on_values(features, "feature"))
        yield from (("labels", note) for note in _on_values(targets, "target"))
    yield from (("splits", note) for note in _on_splits(document))
    if document.retired > document.sequences:
        yield "overview", "More sequences are retired than not: seqzarr compact writes a store without them."


def _on_values(columns: Sequence[ColumnStatistics], noun: str) -> Iterator[str]:
    empty = [one.title for one in columns if not one.count]
    constant = [one.title for one in columns if one.min == one.max is not None]
    missing = [one.title for one in columns if one.count and one.missing_share > MISSING]
    for titles, what in ((empty, "no value at all"), (constant, "one value only")):
        if titles:
            yield f"{count_text(len(titles), noun)} {'has' if len(titles) == 1 else 'have'} {what}: {_listed(titles)}."
    if missing:
        yield f"More than {percent_text(MISSING)} of the values are missing in {_listed(missing)}."


def _on_splits(document: Inspection) -> Iterator[str]:
    splits = "the default splits" if document.split_by is None else f"the splits by {short_name(document.split_by)}"
    empty = [split.name for split in document.splits if not split.sequences]
    if empty and document.sequences:
        yield f"No sequence is in {' and '.join(empty)} of {splits}."
    without = [split.name for split in document.splits if split.sequences and split.windows == 0]
    if without and document.shuffle is not None:
        steps = count_text(document.shuffle.shuffle.window, "step")
        yield f"Windows of {steps} fit into no sequence of {' and '.join(without)}."
    if document.duplicates.count:
        examples = document.duplicates.examples[:LISTED]
        pairs = ", ".join(f"{short_name(a)} = {short_name(b)}" for a, b in examples)
        groups = count_text(document.duplicates.count, "group")
        yield f"Sources in different splits have the same bytes, so test data are in training data ({groups}): {pairs}."


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and the number of further names, as text."""
    listed = ", ".join(short_name(name) for name in names[:LISTED])
    return listed if len(names) <= LISTED else f"{listed} and {len(names) - LISTED:,} more"
