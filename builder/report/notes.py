"""What somebody who trains on a store should look at first."""

from __future__ import annotations

from collections.abc import Iterator

from builder.amounts import count_text
from builder.notes import NAMED, notes_of
from builder.report.content import Content
from builder.report.drawings import name_of
from builder.report.features import Feature
from builder.report.words import name_text, percent_text

MISSING = 0.5  # share of values from which on a feature is said to be mostly missing


def notes_on(content: Content) -> Iterator[tuple[str, str]]:
    """Give notes: which section says more, and the note."""
    found = content.found
    yield from notes_of(found, name_text)
    for section, noun, columns in (("features", "feature", content.features), ("labels", "target", content.targets)):
        yield from ((section, note) for note in _notes_on(columns, noun, steps=found.steps))
    drifting = [one for one in content.compared if one.drifts or one.spreads]
    if drifting:
        names = _listed([one.name for one in drifting])
        yield "splits", f"{count_text(len(drifting), 'column differs', 'columns differ')} much between splits: {names}."


def _notes_on(columns: tuple[Feature, ...], noun: str, *, steps: int) -> Iterator[str]:
    """Give notes on the features or targets of a store that has so many steps."""
    nothing = [one for one in columns if not one.statistics.count]
    constant = [one for one in columns if one.statistics.count and one.statistics.min == one.statistics.max is not None]
    missing = [one for one in columns if one.statistics.count and one.missing_share > MISSING]
    for which, what in ((nothing, "no value at all"), (constant, "one value only")):
        if which and steps:
            yield f"{count_text(len(which), noun)} {'has' if len(which) == 1 else 'have'} {what}: {_names(which)}."
    if missing:
        yield f"More than {percent_text(MISSING)} of the values are missing in {_names(missing)}."


def _names(which: list[Feature]) -> str:
    return _listed([name_of(one.statistics) for one in which])


def _listed(names: list[str]) -> str:
    """Write the first names, and how many more there are."""
    shown = ", ".join(name_text(name) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED:,} more"
