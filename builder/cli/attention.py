"""Lines about sources that need the user's attention: changed, vanished, made by other code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from builder.amounts import count_text, printable

if TYPE_CHECKING:
    from builder.execution.report import Report

NAMED = 5


def first_of(sources: Sequence[str]) -> str:
    """Return the first few names.

    >>> first_of(["a", "b"]), first_of("abcdefg")
    ('a, b', 'a, b, c, d, e, ...')
    """
    return printable(", ".join(sources[:NAMED]) + (", ..." if len(sources) > NAMED else ""))


def ignored_text(files: int, listed: Sequence[str]) -> str:
    """Return the number of ignored files, and the first of them, as the end of a sentence.

    >>> ignored_text(9, ["note.md", "run.sh"]), ignored_text(0, [])
    ('; 9 files ignored (note.md, run.sh, ...)', '')
    """
    names = ", ".join(listed) + (", ..." if files > len(listed) else "")
    return f"; {count_text(files, 'file')} ignored ({printable(names)})" if files else ""


def absent_text(keys: Sequence[str]) -> str:
    """Name the sources that a manifest lists and that do not exist.

    >>> absent_text(["a.csv"])
    'the manifest lists 1 source that does not exist: a.csv; --manifest-strict refuses that'
    """
    do = "does" if len(keys) == 1 else "do"
    listed = f"{count_text(len(keys), 'source')} that {do} not exist: {first_of(keys)}"
    return f"the manifest lists {listed}; --manifest-strict refuses that"


def attention(report: Report) -> Iterator[str]:
    """Yield a line for each kind of source that the user should know of, with advice."""
    vanished = () if report.retired else report.vanished
    for sources, one, many, advice in (
        (report.changed, "is not as the store has it", "are not as the store has them", "--update builds {} again"),
        (vanished, "of the store no longer exists", "of the store no longer exist", "--retire-missing retires {}"),
        (report.outdated, f"of the store was {_OTHER}", f"of the store were {_OTHER}", "--update builds {} again"),
    ):
        if sources:
            what, it = (one, "it") if len(sources) == 1 else (many, "them")
            yield f"{count_text(len(sources), 'source')} {what}: {first_of(sources)}; {advice.format(it)}"
    if report.absent:
        yield absent_text(report.absent)
    if report.skipped:
        names, reason = [one.source for one in report.skipped], report.skipped[0].reason
        are, them = ("is empty", "it") if len(names) == 1 else ("are empty", "them")
        yield (
            f"{count_text(len(names), 'source')} {are}: {first_of(names)} ({printable(reason)}); --empty error counts "
            f"{them} as failed"
        )
    if report.rounded.values:
        rounded = f"{count_text(report.rounded.values, 'number')} of {count_text(report.rounded.sources, 'source')}"
        were = "was" if report.rounded.values == 1 else "were"
        yield (
            f"{rounded} {were} rounded to float32, such as {printable(report.rounded.example)}: the first "
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


_OTHER = "made by other code of the process function"
