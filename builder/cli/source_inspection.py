"""What a store has of one source, as a terminal shows it in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from builder.amounts import bytes_text, count_text, printable
from builder.cli.inspection import statistics_text
from builder.cli.tables import columns, pairs, section
from builder.source_inspection import Row, SourceInspection, Value

SHOWN_PARTS = 20
SHOWN_ROWS_OF = 2  # parts of which rows are shown
SHOWN_VALUES = 6
SHOWN_COLUMNS = 20
LONGEST_VALUE = 40


def source_text(found: SourceInspection) -> Iterator[RenderableType]:
    """Give all sections."""
    yield section(found.source, _overview(found))
    yield section("Sequences", *_parts(found))
    if found.parts[0].columns:
        yield section("Columns of sequences", *_columns(found))
    yield section("Statistics", *statistics_text(found.statistics))
    for part in found.parts[:SHOWN_ROWS_OF]:
        if part.steps:
            yield section(
                f"Rows of part {part.part}",
                _rows("inputs", part.inputs),
                Text(),
                _rows("labels", part.labels, found.classes),
            )


def _overview(found: SourceInspection) -> RenderableType:
    table = pairs()
    table.add_row("store", printable(found.store.name))
    table.add_row("holds", f"{count_text(found.sequences, 'sequence')}, {count_text(found.steps, 'step')}")
    if found.retired:
        table.add_row("retired", count_text(found.retired, "sequence"))
    table.add_row("split", f"{found.split} (by a hash of its name, seed 0)")
    if found.file_size is None:
        table.add_row("file", "none: its arrays were appended")
    else:
        table.add_row("file", bytes_text(found.file_size))
        table.add_row("SHA-256", found.file_sha256)
    return table


def _parts(found: SourceInspection) -> Iterator[RenderableType]:
    numbers = ("part", "number", "steps", "label rows")
    timed = any(part.times for part in found.parts)
    table = columns(*numbers, *(["times"] if timed else []), "", right=numbers, folded=["times"])
    for part in found.parts[:SHOWN_PARTS]:
        counts = (f"{number:,}" for number in (part.part, part.number, part.steps, part.label_rows))
        times = [" to ".join(part.times or ("-",))] if timed else []
        table.add_row(*counts, *times, "retired" if part.retired else "")
    yield table
    if (more := len(found.parts) - SHOWN_PARTS) > 0:
        yield Text(f"and {more:,} more, which --json has")


def _columns(found: SourceInspection) -> Iterator[RenderableType]:
    """Say what else is kept of each part: once, where it is the same of all."""
    parts, names = found.parts[:SHOWN_PARTS], tuple(found.parts[0].columns)
    table = columns("column", "of each part" if len(found.parts) > 1 else "value", folded=["column", "of each part"])
    for name in names[:SHOWN_COLUMNS]:
        values = [_value(part.columns[name]) for part in parts]
        shown = [value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 3]}..." for value in values]
        table.add_row(printable(name), ", ".join(shown[:1] if len({*values}) == 1 else shown))
    yield table
    if (more := len(names) - SHOWN_COLUMNS) > 0:
        yield Text(f"and {more:,} more, which --json has")


def _rows(name: str, rows: tuple[Row, ...], classes: tuple[tuple[str, ...] | None, ...] = ()) -> Table:
    table = columns("row", name, right=["row"], folded=[name])
    for before, row in zip((None, *rows), rows, strict=False):
        if before is not None and row.step != before.step + 1:
            table.add_row("...", "")
        more = ", ..." if len(row.values) > SHOWN_VALUES else ""
        values = [_value(value) for value in row.values[:SHOWN_VALUES]]
        for place, (value, names) in enumerate(zip(row.values, classes, strict=False)):
            if names is not None and isinstance(value, int) and 0 <= value < len(names) and place < SHOWN_VALUES:
                values[place] += f" {printable(names[value])}"
        table.add_row(f"{row.step:,}", ", ".join(values) + more)
    return table


def _value(value: Value) -> str:
    if value is None:
        return "NaN"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
