"""Tables in plain text."""

from collections.abc import Sequence


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with the first column aligned left, and numbers aligned right."""
    widths = [max(len(row[number]) for row in (heads, *rows)) for number in range(len(heads))]
    print(_line(heads, widths))
    first, *others = widths
    print("|" + "|".join(["-" * (first + 2), *("-" * (width + 1) + ":" for width in others)]) + "|")
    for row in rows:
        print(_line(row, widths))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]) + " |"
