"""Tables for a terminal of 80 columns; in a pipe, plain text. Nothing in a cell is taken for a style or a command."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import click
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from builder.amounts import printable


def show(sections: Iterable[RenderableType], console: Console) -> None:
    """Print to stdout, a blank line between two sections."""
    with console.capture() as captured:
        for number, one in enumerate(sections):
            if number:
                console.print()
            console.print(one)
    # rich fills lines with blanks up to the width of the terminal.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def plain_console() -> Console:
    """Return a console on stdout that takes text as it is."""
    return Console(markup=False, highlight=False, emoji=False)


def section(title: str, *content: RenderableType) -> RenderableType:
    """Return a title and what stands below it."""
    return Group(Text(printable(title), style="bold"), Padding(Group(*content), (0, 0, 0, 2)))


def columns(*names: str, right: Collection[str] = (), folded: Collection[str] = ()) -> Table:
    """Return an empty table with a line of names; numbers stand to the `right`, long text is `folded`."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(
            name, no_wrap=name not in folded, overflow="fold", justify="right" if name in right else "left"
        )
    return table


def pairs() -> Table:
    """Return an empty table of names and values."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table
