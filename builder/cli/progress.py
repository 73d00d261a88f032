"""What a build shows while it runs, on a terminal, and the line that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from builder.build import Report
from builder.cli.amounts import bytes_text, count_text, ratio_text, seconds_text
from builder.plan import FILE_COST
from builder.run import Tally


def fraction_done(tally: Tally) -> float:
    """Return how much of the work is done, from 0 to 1: bytes count, and so do files."""
    work = tally.bytes_to_read + FILE_COST * tally.sources
    return min(1.0, (tally.bytes_read + FILE_COST * tally.done) / work) if work else 1.0


def pace(tally: Tally) -> str:
    """Say how fast it goes and how long it will take.

    >>> pace(Tally(sources=7))
    'starting'
    """
    done, seconds = fraction_done(tally), tally.seconds
    if not tally.done or seconds <= 0:
        return "starting"
    left = seconds_text(seconds * (1 - done) / done)
    return f"{100 * done:.0f} %, {bytes_text(tally.bytes_read / seconds)}/s, {left} left"


def account(tally: Tally) -> str:
    """Say what was done so far.

    >>> account(Tally(sources=7, done=2, steps=1234, bytes_read=5000, bytes_written=900))
    '2 of 7 sources, 1,234 steps, 5.0 kB in, 900 bytes out'
    """
    failed = f"; {len(tally.failures):,} failed" if tally.failures else ""
    return (
        f"{tally.done:,} of {count_text(tally.sources, 'source')}, {count_text(tally.steps, 'step')}, "
        f"{bytes_text(tally.bytes_read)} in, {bytes_text(tally.bytes_written)} out{failed}"
    )


def summary(report: Report) -> str:
    """Return the line that a build leaves.

    A ratio is that of the decoded bytes of the rows to those of their shards.
    """
    name, failed = report.store.name or str(report.store), len(report.failures)
    if not report.total_sequences and failed and report.sources == failed:
        return f"{name}: no store was made: {count_text(failed, 'source')} failed, none could be used"
    unchanged = f", {report.unchanged:,} unchanged" if report.unchanged else ""
    counted = (("added", report.added), ("built again", report.updated), ("retired", report.retired))
    done = ", ".join(f"{count_text(number, 'source')} {what}" for what, number in counted if number)
    if not report.sequences:
        return f"{name}: {done or 'nothing new'}{unchanged}; {failed:,} failed"
    ratio = f" ({ratio_text(report.bytes_decoded, report.bytes_written)})" if report.bytes_written else ""
    read = report.added + report.updated
    sequences = "" if report.sequences == read else f"{count_text(report.sequences, 'sequence')}, "
    return (
        f"{name}: {done}{unchanged}, {sequences}"
        f"{count_text(report.steps, 'step')}, {bytes_text(report.bytes_read)} read, "
        f"{bytes_text(report.bytes_decoded)} decoded, {bytes_text(report.bytes_written)} written{ratio} "
        f"in {seconds_text(report.seconds)}; {failed:,} failed"
    )


@contextmanager
def showing(name: str, *, visible: bool = True) -> Iterator[Callable[[Tally], None]]:
    """Give what a build calls with its tally, and show that on stderr, if it is a terminal, until the end."""
    console = Console(stderr=True)
    screen = Screen(name)
    if not visible or not console.is_terminal or console.is_dumb_terminal:
        yield screen.update
        return
    with Live(screen, console=console, refresh_per_second=8, transient=True, redirect_stdout=False):
        yield screen.update


class Screen:
    """What a terminal shows of a build: a bar with the pace, and below it the account.

    Args:
        name: What the store is called.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tally: Tally | None = None

    def update(self, tally: Tally) -> None:
        """Show this from now on."""
        self._tally = tally

    def __rich__(self) -> RenderableType:
        if self._tally is None:
            return Text(f"{self._name}: listing the sources", overflow="ellipsis", no_wrap=True)
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(overflow="ellipsis", no_wrap=True, max_width=30)
        line.add_column(ratio=1)
        line.add_column(no_wrap=True)
        bar = ProgressBar(total=1.0, completed=fraction_done(self._tally), pulse=not self._tally.done)
        line.add_row(Text(self._name), bar, Text(pace(self._tally)))
        return Group(line, Text(account(self._tally), overflow="ellipsis", no_wrap=True))
