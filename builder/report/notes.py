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
    yield from (("labels", note) for note in _without_rows(content))
    drifting = [one for one in content.compared if one.drifts or one.spreads]
    if drifting:
        names = _listed([one.name for one in drifting])
        yield "splits", f"{count_text(len(drifting), 'column differs', 'columns differ')} much between splits: {names}."


def _without_rows(content: Content) -> Iterator[str]:
    """Give notes on classes that no row has, where all were looked at: a slip in a source that was not used makes one.

    They keep their codes, which a model has an output for.
    """
    for balance in content.balances:
        names = content.classes[balance.column] if balance.column < len(content.classes) else None
        without = [name for code, name in enumerate(names or ()) if code not in balance.codes]
        if without and balance.whole:
            it = "is" if len(without) == 1 else "are"
            what = count_text(len(without), "class", "classes")
            yield f"{what} of {name_text(balance.target)} {it} the label of no row: {_listed(without)}."


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
