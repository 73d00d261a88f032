"""Show progress in a terminal, and the line after a build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from builder.amounts import bytes_text, count_text, ratio_text, seconds_text
from builder.cli.attention import ignored_text
from builder.execution.report import Report
from builder.execution.tally import Tally
from builder.maintenance.verification import Checking
from builder.planning.resolved_sources import FILE_COST

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The displayed progress of some work.

    Args:
        fraction: The finished share, from 0 to 1; None: nothing is finished yet.
        pace: The speed, and the remaining time.
        account: The work so far.
    """

    fraction: float | None
    pace: str
    account: str


def of_build(tally: Tally) -> View:
    """Return the progress of a build."""
    return View(fraction=fraction_done(tally) if tally.done else None, pace=pace(tally), account=account(tally))


def of_check(checking: Checking) -> View:
    """Return the progress of a check.

    >>> of_check(Checking(to_check=5000, checked=1200, problems=2)).account
    '1.2 kB of 5.0 kB checked; 2 problems'
    """
    problems = f"; {count_text(checking.problems, 'problem')}" if checking.problems else ""
    account = f"{bytes_text(checking.checked)} of {bytes_text(checking.to_check)} checked{problems}"
    if not checking.checked:
        return View(fraction=None, pace="starting", account=account)
    done = checking.checked / checking.to_check
    return View(fraction=done, pace=_pace(done, checking.checked, checking.seconds), account=account)


def fraction_done(tally: Tally) -> float:
    """Return the finished share of a build, from 0 to 1, by bytes and files."""
    work = tally.bytes_to_read + FILE_COST * tally.sources
    return min(1.0, (tally.bytes_read + FILE_COST * tally.done) / work) if work else 1.0


def pace(tally: Tally) -> str:
    """Say how fast a build goes and how long it will take.

    >>> pace(Tally(sources=7))
    'starting'
    """
    return _pace(fraction_done(tally), tally.bytes_read, tally.seconds) if tally.done else "starting"


def _pace(done: float, nbytes: int, seconds: float) -> str:
    if seconds <= 0:
        return "starting"
    return f"{100 * done:.0f} %, {bytes_text(nbytes / seconds)}/s, {seconds_text(seconds * (1 - done) / done)} left"


def account(tally: Tally) -> str:
    """Say what a build did so far.

    >>> account(Tally(sources=7, done=2, steps=1234, bytes_read=5000, bytes_written=900))
    '2 of 7 sources, 1,234 steps, 5.0 kB in, 900 bytes out'
    """
    failed = f"; {len(tally.failures):,} failed" if tally.failures else ""
    failed += f"; {len(tally.skipped):,} skipped" if tally.skipped else ""
    return (
        f"{tally.done:,} of {count_text(tally.sources, 'source')}, {count_text(tally.steps, 'step')}, "
        f"{bytes_text(tally.bytes_read)} in, {bytes_text(tally.bytes_written)} out{failed}"
    )


def summary(report: Report) -> str:
    """Return the line after a build.

    Its ratio is the decoded bytes of the rows divided by the bytes of their shards.
    """
    name, failed = report.store.name or str(report.store), len(report.failures)
    skipped = len(report.skipped) + report.skipped_before
    left_out = f"{failed:,} failed" + (f", {skipped:,} skipped as empty" if skipped else "")
    # An old store still exists, even if all of its sequences are retired.
    if not report.total_sequences and report.sources == failed + skipped and not report.store.exists():
        why = [f"{count_text(failed, 'source')} failed"] * bool(failed)
        why += [f"{count_text(skipped, 'source')} skipped as empty"] * bool(skipped)
        return f"{name}: no store was made: {', '.join(why)}, none could be used"
    ignored = ignored_text(report.ignored, report.ignored_listed)
    unchanged = f", {report.unchanged:,} unchanged" if report.unchanged else ""
    counted = (("added", report.added), ("built again", report.updated), ("retired", report.retired))
    done = ", ".join(f"{count_text(number, 'source')} {what}" for what, number in counted if number)
    if not report.sequences:
        return f"{name}: {done or 'nothing new'}{unchanged}; {left_out}{ignored}"
    ratio = f" ({ratio_text(report.bytes_decoded, report.bytes_written)})" if report.bytes_written else ""
    read = report.added + report.updated
    sequences = "" if report.sequences == read else f"{count_text(report.sequences, 'sequence')}, "
    steps = f"{count_text(report.steps, 'step')}{cleaning_text(report.dropped, report.filled)}"
    return (
        f"{name}: {done}{unchanged}, {sequences}{steps}, {bytes_text(report.bytes_read)} read, "
        f"{bytes_text(report.bytes_decoded)} decoded, {bytes_text(report.bytes_written)} written{ratio} "
        f"in {seconds_text(report.seconds)}; {left_out}{ignored}"
    )


def cleaning_text(dropped: int, filled: int) -> str:
    """Say what cleaning did, as a part of a sentence.

    >>> cleaning_text(1, 2000), cleaning_text(0, 0)
    (' (1 more dropped, 2,000 values filled in)', '')
    """
    texts = [f"{dropped:,} more dropped"] * bool(dropped) + [f"{count_text(filled, 'value')} filled in"] * bool(filled)
    return f" ({', '.join(texts)})" if texts else ""


@contextmanager
def show_progress(
    name: str, view: Callable[[Done], View], *, begin: str, visible: bool = True
) -> Iterator[Callable[[Done], None]]:
    """Yield a function that takes the progress of some work, and show it on stderr, if that is a terminal.

    Args:
        name: The name of the store.
        view: Turns the progress into a view.
        begin: The work before the first call.
        visible: Whether to show anything.
    """
    console = Console(stderr=True)
    screen = Screen(name, view, begin)
    if not visible or not console.is_terminal or console.is_dumb_terminal:
        yield screen.update
        return
    with Live(screen, console=console, refresh_per_second=8, transient=True, redirect_stdout=False):
        yield screen.update


class Screen(Generic[Done]):
    """Displays a bar with the pace, and below it the account.

    Args:
        name: The name of the store.
        view: Turns the progress into a view.
        begin: The work before the first update.
    """

    def __init__(self, name: str, view: Callable[[Done], View], begin: str) -> None:
        self._name, self._view, self._begin = name, view, begin
        self._done: Done | None = None

    def update(self, done: Done) -> None:
        """Show this progress from now on."""
        self._done = done

    def __rich__(self) -> RenderableType:
        if self._done is None:
            return Text(f"{self._name}: {self._begin}", overflow="ellipsis", no_wrap=True)
        view = self._view(self._done)
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(overflow="ellipsis", no_wrap=True, max_width=30)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        bar = ProgressBar(total=1.0, completed=view.fraction or 0.0, pulse=view.fraction is None)
        line.add_row(Text(self._name), bar, Text(view.pace))
        return Group(line, Text(view.account, overflow="ellipsis", no_wrap=True))
