"""Tables for a terminal of 80 columns, or plain text for a pipe. Text in cells is never interpreted as markup.

If the terminal is narrower than a table, it wraps the lines: nothing is cut off.
"""

import textwrap
from collections.abc import Collection, Iterable, Sequence

import click
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from builder.amounts import printable

INDENT = 2
GAP = 2  # between two columns
LEAST_FOLDED = 8  # letters in a line of a folded cell, even on a narrow terminal

Section = tuple[str, *tuple[RenderableType, ...]]  # a title, and what stands below it


def show(sections: Iterable[Section]) -> None:
    """Print sections to stdout, separated by blank lines; their content is indented."""
    console, shown = Console(markup=False, highlight=False, emoji=False), []
    for title, *content in sections:
        with console.capture() as heading:
            console.print(Text(printable(title), style="bold"))
        with console.capture() as body:
            for one in content:
                if isinstance(one, Table) and _least_width(one) > console.width - INDENT:
                    one.width = _least_width(one)  # rich would silently cut off the ends of cells
                console.print(one, crop=False, width=console.width - INDENT)
        shown.append(heading.get() + textwrap.indent(body.get(), " " * INDENT))
    # rich pads lines with blanks to the width of the terminal.
    click.echo("\n".join(line.rstrip() for line in "\n".join(shown).splitlines()))


def _least_width(table: Table) -> int:
    """Return the width in letters below which cells of a table would be cut."""
    least = GAP * (len(table.columns) - 1)
    for column in table.columns:
        longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        least += longest if column.no_wrap else min(longest, LEAST_FOLDED)
    return least


def columns(
    names: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[str] = (), folded: Collection[str] = ()
) -> Table:
    """Return a table with a line of names; columns in `right` are right-aligned, those in `folded` wrap."""
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for name in names:
        table.add_column(
            name, no_wrap=name not in folded, overflow="fold", justify="right" if name in right else "left"
        )
    for row in rows:
        table.add_row(*row)
    return table


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """Return a table of names and values."""
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
