"""Lines about sources that need the user's attention: changed, vanished, made by other code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.amounts import count_text, first_names, printable

if TYPE_CHECKING:
    from builder.execution.report import Report


def absent_text(keys: Sequence[str]) -> str:
    """Name the sources that a manifest lists and that do not exist.

    >>> absent_text(["a.csv"])
    'there are no files for 1 source of the manifest: a.csv; --manifest-strict refuses that'
    """
    listed = f"{count_text(len(keys), 'source')} of the manifest: {printable(first_names(keys))}"
    return f"there are no files for {listed}; --manifest-strict refuses that"


def attention(report: Report) -> Iterator[str]:
    """Yield a line for each kind of source that the user should know of, with advice."""
    reason = printable(report.skipped[0].reason) if report.skipped else ""
    for sources, what, advice in (
        (report.changed, "changed since the store was built", "--update builds such sources again"),
        (() if report.retired else report.vanished, "no longer exist", "--retire-missing retires their sequences"),
        (report.outdated, "made by other code of the process function", "--update builds such sources again"),
        ([one.source for one in report.skipped], "empty", f"{reason}; --empty error counts such sources as failed"),
    ):
        if sources:
            yield f"{what}: {count_text(len(sources), 'source')} ({printable(first_names(sources))}); {advice}"
    if report.absent:
        yield absent_text(report.absent)
    if report.rounded.values:
        yield (
            f"rounded to float32: {count_text(report.rounded.values, 'number')} of "
            f"{count_text(report.rounded.sources, 'source')}, such as {printable(report.rounded.example)}: the first "
            "source has fewer digits; to keep them, build to another path with --dtype float64"
        )
    if report.uncompared is not None:
        yield report.uncompared
    failed = len(report.failures)
    if 0 < report.added < failed and report.added + failed == report.sources:  # of a new store
        yield (
            f"{failed:,} of {count_text(report.sources, 'source')} failed, and the store records the options of this "
            f"build: to build with others, as these lines may advise, remove {report.store.name} first"
        )
