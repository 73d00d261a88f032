"""Show the progress of some work: a bar on a terminal or in a notebook, elsewhere a line every ten seconds."""

import html
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from builder.amounts import bytes_text, count_text, seconds_text
from builder.execution.report import Tally
from builder.planning.resolved_sources import FILE_COST

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_SECONDS = 10.0  # between lines, if there is no bar
NOTEBOOK_SECONDS = 0.5  # between updates of the bar in a notebook
Done = TypeVar("Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The displayed progress of some work."""

    fraction: float | None  # the finished share, from 0 to 1; None: nothing is finished yet
    pace: str  # the speed, and the remaining time
    account: str  # the work so far


def of_build(tally: Tally) -> View:
    """Return the progress of a build.

    >>> of_build(Tally(sources=7, done=2, steps=1234, bytes_read=5000, bytes_written=900)).account
    '2 of 7 sources, 1,234 steps, 5.0 kB in, 900 bytes out'
    """
    failed = f"; {len(tally.failures):,} failed" if tally.failures else ""
    failed += f"; {len(tally.skipped):,} skipped" if tally.skipped else ""
    account = (
        f"{tally.done:,} of {count_text(tally.sources, 'source')}, {count_text(tally.steps, 'step')}, "
        f"{bytes_text(tally.bytes_read)} in, {bytes_text(tally.bytes_written)} out{failed}"
    )
    work = max(1, tally.bytes_to_read + FILE_COST * tally.sources)
    done = min(1.0, (tally.bytes_read + FILE_COST * tally.done) / work) if tally.done else None
    return view_of(account, done, tally.bytes_read, tally.seconds)


def view_of(account: str, done: float | None, nbytes: int, seconds: float) -> View:
    """Return the progress of some work, with its speed and remaining time; `done` is the finished share."""
    if done is None or seconds <= 0:
        return View(fraction=done, pace="starting", account=account)
    left = seconds_text(seconds * (1 - done) / done)
    return View(
        fraction=done, pace=f"{100 * done:.0f} %, {bytes_text(nbytes / seconds)}/s, {left} left", account=account
    )


@contextmanager
def show_progress(
    name: str, view: Callable[[Done], View], *, begin: str, visible: bool = True
) -> Iterator[Callable[[Done], None]]:
    """Yield a function that takes the progress of some work; show it on stderr or in a notebook.

    Args:
        name: The name of the store.
        view: Turns the progress into a view.
        begin: What is shown before the first call.
        visible: Whether to show anything.
    """
    screen = Screen(name, view, begin)
    if not visible:
        yield screen.update
        return
    from rich.console import Console  # here, because most builds from Python show nothing
    from rich.live import Live

    console = Console(stderr=True)
    if (display := notebook_display()) is not None:
        bar = display(screen.in_notebook(), raw=True, display_id=True)
        with _repeat(lambda: bar.update(screen.in_notebook(), raw=True), NOTEBOOK_SECONDS):
            yield screen.update
        bar.update(screen.in_notebook(), raw=True)
    elif console.is_terminal and not console.is_dumb_terminal:
        # What a process function prints appears above the bar, unless it goes elsewhere.
        above = sys.stdout.isatty()
        with Live(screen, console=console, refresh_per_second=8, transient=True, redirect_stdout=above):
            yield screen.update
    else:
        with _repeat(lambda: print(screen.line(), file=sys.stderr, flush=True), LINE_SECONDS):  # noqa: T201
            yield screen.update


def notebook_display() -> Callable[..., Any] | None:
    """Return IPython's function `display` in a notebook; None anywhere else."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    display: Callable[..., Any] | None = getattr(sys.modules.get("IPython.display"), "display", None)
    return display if hasattr(shell, "kernel") else None  # IPython in a terminal has no kernel


@contextmanager
def _repeat(show: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call a function every few seconds in another thread, until the context ends."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            with suppress(OSError, ValueError):  # stderr may be closed
                show()

    thread = threading.Thread(target=run, name="seqzarr progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Screen(Generic[Done]):
    """A bar with the pace, and below it the account; the arguments are those of `show_progress`."""

    def __init__(self, name: str, view: Callable[[Done], View], begin: str) -> None:
        self._name, self._view, self._begin = name, view, begin
        self._done: Done | None = None

    def update(self, done: Done) -> None:
        """Show this progress from now on."""
        self._done = done

    def line(self) -> str:
        """Return the progress as a line of text."""
        if self._done is None:
            return f"{self._name}: {self._begin}"
        view = self._view(self._done)
        return f"{self._name}: {view.pace}; {view.account}"

    def in_notebook(self) -> dict[str, str]:
        """Return the progress as text and as HTML, by media type."""
        view = None if self._done is None else self._view(self._done)
        value = "" if view is None or view.fraction is None else f' value="{view.fraction:.3f}"'
        return {"text/plain": self.line(), "text/html": f"<progress{value}></progress> {html.escape(self.line())}"}

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

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
