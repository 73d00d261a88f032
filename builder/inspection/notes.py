"""Notes on a store for users who want to train on it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from builder.amounts import count_text, percent_text, short_name
from builder.inspection.document import Inspection
from builder.inspection.features import ColumnStatistics

LISTED = 5
MISSING = 0.5  # a note names columns with a larger share of missing values
_DROPPING = ("drop", "split", "diff")  # options with these words also drop steps
_NO_NAME = re.compile(r"unnamed_\d+|__index_level_\d+__")  # ours in text, pandas' in Parquet


def notes_on(document: Inspection) -> Iterator[tuple[str, str]]:
    """Yield notes, each with the name of the section that has details."""
    if document.failures:
        yield "failures", f"{count_text(document.failures, 'source')} could not be used in the last build."
    if document.skipped:
        yield "failures", f"{count_text(document.skipped, 'source')} skipped as empty."
    if document.lengths is not None and document.lengths.empty:
        yield "lengths", f"{count_text(document.lengths.empty, 'sequence')} without any step."
    yield from (("features", note) for note in _on_names(document))
    features = [one for one in document.statistics if one.array == "inputs"]
    targets = [] if document.labels_are_inputs else [one for one in document.statistics if one.array == "labels"]
    if document.steps:
        yield from (("features", note) for note in _on_values(features, "feature"))
        yield from (("labels", note) for note in _on_values(targets, "target"))
    yield from (("labels", note) for note in _on_classes(document))
    if lost := _without_labels(document):
        were = "was left out since it has" if lost == 1 else "were left out since they have"
        span = "(--join inner), and windows span such gaps."
        advice = "--max-gap with --time ends sequences there; so does --join left with --missing split."
        yield "cleaning", f"{count_text(lost, 'step')} {were} no labels {span} In another store, {advice}"
    yield from (("splits", note) for note in _on_splits(document))
    if document.retired > document.sequences:
        yield "overview", "More sequences are retired than not: seqzarr compact writes a store without them."


def _on_names(document: Inspection) -> Iterator[str]:
    """Note features that have no name in the files, if the build took all columns as inputs."""
    options = _options(document)
    if options is None or options.get("inputs") is not None:
        return
    names = [name for name in document.inputs["names"] or () if _NO_NAME.fullmatch(name)]
    if names:
        it = "it" if len(names) == 1 else "them"
        leave = f"they are no features: --exclude {','.join(names)} leaves {it} out of another store."
        what = count_text(len(names), "feature")
        yield f"{what} without a name in the files. If these are row numbers, as pandas writes, {leave}"


def _on_values(columns: Sequence[ColumnStatistics], noun: str) -> Iterator[str]:
    empty = [one.title for one in columns if not one.count]
    constant = [one.title for one in columns if one.min == one.max is not None]
    missing = [one.title for one in columns if one.count and one.missing_share > MISSING]
    for titles, what in ((empty, "no value at all"), (constant, "one value only")):
        if titles:
            yield f"{count_text(len(titles), noun)} {_verb(titles, 'has', 'have')} {what}: {_listed(titles)}."
    if missing:
        yield f"More than {percent_text(MISSING)} of the values are missing in {_listed(missing)}."


def _on_classes(document: Inspection) -> Iterator[str]:
    """Note classes that no row has, if all rows were read; a source that failed can have added them."""
    sample = document.rows and document.rows.labels
    if not sample or sample.rows < sample.total:
        return
    for column, names in zip(sample.columns, document.labels.get("classes") or (), strict=False):
        codes = {one.code for one in column.classes}
        unused = [name for code, name in enumerate(names or ()) if code not in codes]
        if codes and unused:
            what = count_text(len(unused), "class", "classes")
            target = short_name((document.labels["names"] or ["labels"])[column.column])
            yield f"{what} of {target} {_verb(unused, 'is', 'are')} the label of no row: {_listed(unused)}."


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


def _without_labels(document: Inspection) -> int:
    """Count the steps that were left out since they have no labels.

    Return 0 if other options may have dropped steps as well, if sequences end at gaps, or without an inner join.
    """
    options = _options(document)
    if document.cleaning is None or options is None or not options.get("on") or options.get("join") != "inner":
        return 0
    if options.get("max_gap") is not None or options.get("every") is not None:
        return 0
    others = [*_texts(options.get("missing")), *_texts(options.get("transforms"))]
    if options.get("duplicates") != "error" or any(word in text for text in others for word in _DROPPING):
        return 0
    return document.cleaning.total.dropped


def _options(document: Inspection) -> dict[str, Any] | None:
    """Return the recorded options of reading tables; None if no tables were read."""
    process = (document.build or {}).get("process")
    options = process.get("tabular") if isinstance(process, dict) else None
    return options if isinstance(options, dict) else None


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _verb(items: Sequence[str], one: str, many: str) -> str:
    return one if len(items) == 1 else many


def _listed(names: Sequence[str]) -> str:
    """Return the first names, and the number of further names, as text."""
    listed = ", ".join(short_name(name) for name in names[:LISTED])
    return listed if len(names) <= LISTED else f"{listed} and {len(names) - LISTED:,} more"
