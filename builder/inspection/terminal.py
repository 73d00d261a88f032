"""Tables for a terminal of 80 columns, or plain text for a pipe. Text in cells is never interpreted as markup.

If the terminal is narrower than a table, it wraps the lines: nothing is cut off.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from builder.amounts import printable

INDENT = 2
GAP = 2  # between two columns
LEAST_FOLDED = 8  # letters in a line of a folded cell, even on a narrow terminal


def show(sections: Iterable[RenderableType], console: Console) -> None:
    """Print sections to stdout, separated by blank lines."""
    with console.capture() as captured:
        for number, one in enumerate(sections):
            if number:
                console.print()
            console.print(one, crop=False)  # a cropped number would be wrong
    # rich pads lines with blanks to the width of the terminal.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def plain_console() -> Console:
    """Return a console on stdout that does not interpret text."""
    return Console(markup=False, highlight=False, emoji=False)


def section(title: str, *content: RenderableType) -> RenderableType:
    """Return a title with indented content below it."""
    return _Section(title, content)


@dataclass(frozen=True, slots=True)
class _Section:
    title: str
    content: tuple[RenderableType, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(printable(self.title), style="bold")
        for one in self.content:
            # If the width were less, rich would silently cut off the ends of cells.
            width = max(options.max_width, INDENT + _least_width(one)) if isinstance(one, Table) else options.max_width
            yield from console.render(Padding(one, (0, 0, 0, INDENT)), options.update(width=width))


def _least_width(table: Table) -> int:
    """Return the width in letters below which cells of a table would be cut."""
    least = GAP * (len(table.columns) - 1)
    for column in table.columns:
        longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        least += longest if column.no_wrap else min(longest, LEAST_FOLDED)
    return least


def columns(*names: str, right: Collection[str] = (), folded: Collection[str] = ()) -> Table:
    """Return an empty table with a line of names; columns in `right` are right-aligned, those in `folded` wrap."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for name in names:
        table.add_column(
            name, no_wrap=name not in folded, overflow="fold", justify="right" if name in right else "left"
        )
    return table


def pairs() -> Table:
    """Return an empty table of names and values."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table
