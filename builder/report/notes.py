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
    columns = content.features + content.targets
    nothing = [one for one in columns if not one.statistics.count]
    constant = [one for one in columns if one.statistics.count and one.statistics.min == one.statistics.max is not None]
    missing = [one for one in columns if one.statistics.count and one.missing_share > MISSING]
    for which, what in ((nothing, "no value at all"), (constant, "one value only")):
        if which and found.steps:
            yield "features", f"{_have(which)} {what}: {_names(which)}."
    if missing:
        yield "features", f"More than {percent_text(MISSING)} of the values are missing in {_names(missing)}."
    drifting = [one for one in content.compared if one.drifts or one.spreads]
    if drifting:
        names = ", ".join(name_text(one.name) for one in drifting[:NAMED]) + (", …" if len(drifting) > NAMED else "")
        yield "splits", f"{count_text(len(drifting), 'column differs', 'columns differ')} much between splits: {names}."


def _have(which: list[Feature]) -> str:
    return f"{count_text(len(which), 'column')} {'has' if len(which) == 1 else 'have'}"


def _names(which: list[Feature]) -> str:
    shown = ", ".join(name_text(name_of(one.statistics)) for one in which[:NAMED])
    return shown + (", …" if len(which) > NAMED else "")
