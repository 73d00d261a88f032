"""Print an inspection for a terminal of 80 columns, or as plain text into a pipe."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from builder.amounts import (
    bytes_text,
    count_text,
    first_names,
    number_text,
    percent_text,
    printable,
    ratio_text,
    short_name,
)
from builder.frames.counts import StoreCleaning
from builder.inspection.document import Inspection
from builder.inspection.features import ColumnStatistics
from builder.inspection.notes import notes_on
from builder.inspection.shuffle import ShuffleMixing
from builder.inspection.source import PartInspection, Row, SourceInspection, Value
from builder.inspection.terminal import columns, pairs, section
from builder.inspection.values import ColumnValues, Lengths, TimeRange
from builder.planning.provenance import options_given

LISTED = 20  # of statistics, failures, and columns of sequences
LISTED_NAMES = 12
LISTED_CLASSES = 100
BAR_WIDTH = 32
LONGEST_OPTION = 400
LONGEST_VALUE = 24
PARTS_WITH_ROWS = 2  # parts of a source whose rows are shown
ROW_VALUES = 6  # values of a row that are shown

Item = TypeVar("Item")


def inspection_text(document: Inspection, *, bar: str = "#") -> Iterator[RenderableType]:
    """Yield all sections. The bars of the histogram consist of the letter `bar`."""
    yield section(document.store.name or str(document.store), _overview(document))
    if notes := [note for _, note in notes_on(document)]:
        yield section("Look at this first", *(Text(note) for note in notes))
    if document.lengths is not None:
        yield section("Lengths, in steps", *_lengths(document.lengths, bar))
    yield section("Arrays", _arrays(document))
    yield section(_splits_title(document), _splits(document))
    yield section("Statistics", *statistics_text(document.statistics))
    if document.columns:
        yield section("Columns of sequences", *_columns(document.columns))
    if document.cleaning is not None:
        yield section("Cleaning", *_cleaning(document.cleaning))
    if options := list(options_given(document.build or {})):
        yield section("Build", _rows(pairs(), ((printable(a), printable(b)[:LONGEST_OPTION]) for a, b in options)))
    if document.failures:
        title = f"Failures ({count_text(document.failures, 'source')} in the last build)"
        yield section(title, *_failures(document))
    if document.skipped:
        listed, more = first_of(document.skipped_listed)
        title = f"Skipped ({count_text(document.skipped, 'empty source')})"
        yield section(title, *(Text(printable(name)) for name in listed), *more)
    if document.shuffle is not None:
        yield section(*_shuffle(document.shuffle))


def first_of(items: Sequence[Item]) -> tuple[Sequence[Item], list[Text]]:
    """Return the first items, and a line with the number of further items, if there are any."""
    more = len(items) - LISTED
    return items[:LISTED], [Text(f"and {more:,} more, see --json")] if more > 0 else []


def _rows(table: Table, rows: Iterable[Sequence[str]]) -> Table:
    for row in rows:
        table.add_row(*row)
    return table


def _overview(document: Inspection) -> RenderableType:
    table = pairs()
    sources = "" if document.sources == document.sequences else f" from {count_text(document.sources, 'source')}"
    label_steps = (
        f", {count_text(document.label_steps, 'label step')}"
        if document.label_axis == "own" and document.has_labels
        else ""
    )
    sequences, steps = count_text(document.sequences, "sequence"), count_text(document.steps, "step")
    table.add_row("holds", f"{sequences}{sources}, {steps}{label_steps}")
    if document.retired:
        table.add_row("retired", f"{count_text(document.retired, 'sequence')}, whose rows stay on disk")
    table.add_row(
        "on disk",
        f"{bytes_text(document.stored_bytes)} in {count_text(document.files, 'file')}; decoded "
        f"{bytes_text(document.decoded_bytes)}, {ratio_text(document.decoded_bytes, document.stored_bytes)}",
    )
    table.add_row("inputs", rows_text(document.inputs, "step"))
    if document.has_labels:
        table.add_row("labels", rows_text(document.labels, label_row(document.label_axis)))
        for name, text in classes_text(document.labels):
            table.add_row(name, text)
        table.add_row("label axis", document.label_axis)
    else:
        table.add_row("labels", "none; targets are chosen from the inputs when reading")
    if document.time is not None:
        table.add_row("time", _time(document.time))
    table.add_row("chunk", f"{count_text(document.chunk_steps, 'step')} (inputs: {bytes_text(document.chunk_bytes)})")
    table.add_row("shard", f"{count_text(document.shard_steps, 'step')} (inputs: {bytes_text(document.shard_bytes)})")
    table.add_row("codec", document.codec)
    if document.missing_inputs is not None and document.missing_labels is not None:
        missing = f"{count_text(document.missing_inputs, 'step')} and {count_text(document.missing_labels, 'row')}"
        table.add_row("NaN", f"means a missing value: {missing} of labels have some")
    table.add_row("version", f"{document.version}, identity {document.identity[:16]}")
    return table


def label_row(axis: str) -> str:
    """Return the unit that one row of labels belongs to."""
    return "label step" if axis == "own" else axis


def rows_text(rows: dict[str, Any], per: str) -> str:
    """Return the dtype, shape and first names of rows as text."""
    shape = f"({', '.join(str(size) for size in rows['shape'])})" if rows["shape"] else "one number"
    names = [printable(name) for name in rows["names"] or ()]
    return f"{rows['dtype']}, {shape} per {per}" + (f": {first_names(names, LISTED_NAMES)}" if names else "")


def classes_text(rows: dict[str, Any], *, codes: bool = True) -> Iterator[tuple[str, str]]:
    """Yield each target with classes, and its first classes: codes and names, or only names."""
    for target, names in enumerate(rows.get("classes") or ()):
        if names is None:
            continue
        column = printable(rows["names"][target]) if rows["names"] else str(target)
        first = [printable(name) for name in names[:LISTED_CLASSES]]
        listed = ", ".join(f"{code} {name}" if codes else name for code, name in enumerate(first))
        more = f", ... {len(names):,} in all" if len(names) > LISTED_CLASSES else ""
        yield ("classes" if len(rows["classes"]) == 1 else f"classes of {column}"), listed + more


def _time(times: TimeRange) -> str:
    """Return the kind of times, the first and the last, and whether sequences overlap, as text."""
    kind = "elapsed" if times.elapsed else times.zone or "local, without a zone"
    if times.first is None:
        return f"{times.unit}, {kind}; there is no step"
    order = "sequences are in order of time" if times.in_order else "sequences overlap, or are not in order of time"
    return f"{times.unit}, {kind}: {times.first} to {times.last}; {order}"


def _lengths(lengths: Lengths, bar: str) -> Iterator[RenderableType]:
    empty = f", {lengths.empty:,} empty" if lengths.empty else ""
    median, mean = number_text(lengths.median), number_text(lengths.mean)
    yield Text(f"min {lengths.min:,}, median {median}, mean {mean}, max {lengths.max:,}{empty}")
    most = max(count for _, _, count in lengths.bins)
    table = Table.grid(padding=(0, 2))
    for _ in ("span", "count"):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    bins = ((span_text(a, b), f"{count:,}", bar * -(-BAR_WIDTH * count // most)) for a, b, count in lengths.bins)
    yield _rows(table, bins)


def span_text(low: float, high: float) -> str:
    """Return a range of numbers as text.

    >>> span_text(3, 3), span_text(1000, 1999)
    ('3', '1,000 to 1,999')
    """
    return number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"


def _arrays(document: Inspection) -> RenderableType:
    numbers = ("decoded", "stored", "ratio", "files")
    table = columns("array", "dtype", *numbers, right=numbers)
    for array in document.arrays:
        ratio = array.decoded_bytes / max(1, array.stored_bytes)
        sizes = (bytes_text(array.decoded_bytes), bytes_text(array.stored_bytes))
        table.add_row(
            array.name, array.dtype, *sizes, f"{ratio:.2g}" if ratio < 99 else f"{ratio:,.0f}", f"{array.files:,}"
        )
    return table


def _splits_title(document: Inspection) -> str:
    by = "the source's name" if document.split_by is None else printable(document.split_by)
    return f"Splits (from {by})" if document.pinned else f"Default splits (by a hash of {by}, seed 0)"


def _splits(document: Inspection) -> RenderableType:
    groups = () if document.split_by is None else ("groups",)
    windows = () if document.splits[0].windows is None else ("windows",)
    names = ("share", *groups, "sequences", "steps", *windows)
    table = columns("split", *names, right=names)
    for split in document.splits:
        counts = [f"{getattr(split, name):,}" for name in names[1:]]
        table.add_row(split.name, "-" if document.pinned else f"{100 * split.share:.0f} %", *counts)
    return table


def statistics_text(statistics: Sequence[ColumnStatistics]) -> Iterator[RenderableType]:
    """Yield a table of the first features and targets."""
    numbers = ("count", "mean", "std", "min", "max")
    first, more = first_of(statistics)
    notes = ["unit: description"] if any(one.note for one in first) else []
    table = columns("array", "column", *numbers, *notes, right=numbers, folded=["column", *notes])
    for one in first:
        values = (number_text(each) for each in (one.mean, one.std, one.min, one.max))
        name = str(one.column) if one.name is None else printable(one.name)
        table.add_row(one.array, name, f"{one.count:,}", *values, *([printable(one.note)] if notes else []))
    yield table
    yield from more


def _columns(described: Sequence[ColumnValues]) -> Iterator[RenderableType]:
    """Yield a table of the first columns of sequences."""
    numbers = ("missing", "different")
    table = columns("column", "dtype", *numbers, "values", right=numbers, folded=["column", "values"])
    first, more = first_of(described)
    for one in first:
        table.add_row(printable(one.name), one.dtype, f"{one.missing:,}", f"{one.distinct:,}", _values(one))
    yield table
    yield from more


def _values(column: ColumnValues) -> str:
    """Return the most frequent texts of a column, or the range of its numbers."""
    if column.common:
        listed = ", ".join(f"{short_name(text, LONGEST_VALUE)} ({count:,})" for text, count in column.common)
        return f"{listed}, ..." if column.distinct > len(column.common) else listed
    return "-" if column.min is None or column.max is None else span_text(column.min, column.max)


def cleaning_text(cleaning: StoreCleaning) -> str:
    """Return the counts of cleaning as a sentence."""
    if not (cleaning.touched or cleaning.several):
        return "no step was dropped, no value was filled in, and no source was split into several sequences"
    return (
        f"{count_text(cleaning.dropped, 'step')} dropped, {count_text(cleaning.filled, 'value')} filled in, in "
        f"{count_text(cleaning.touched, 'source')}; {count_text(cleaning.several, 'source')} split into several "
        "sequences"
    )


def _cleaning(cleaning: StoreCleaning) -> Iterator[RenderableType]:
    """Yield the counts of cleaning, and the sources that it affected most."""
    yield Text(cleaning_text(cleaning))
    if not cleaning.worst:
        return
    numbers = ("sequences", "steps", "dropped", "share", "filled")
    table = columns("source", *numbers, right=numbers, folded=["source"])
    for one in cleaning.worst:
        share = percent_text(one.dropped / max(1, one.steps + one.dropped))
        counts = (f"{count:,}" for count in (one.sequences, one.steps, one.dropped))
        table.add_row(printable(one.source), *counts, share, f"{one.filled:,}")
    yield table
    if (more := cleaning.named - len(cleaning.worst)) > 0:
        yield Text(f"and {more:,} more, with smaller shares dropped: see store.sequences")


def _failures(document: Inspection) -> Iterator[RenderableType]:
    for source, reason in document.failures_listed[:LISTED]:
        yield Text(f"{printable(source)}: {printable(reason)}")
    if (more := document.failures - min(len(document.failures_listed), LISTED)) > 0:
        yield Text(f"and {more:,} more; --json lists {len(document.failures_listed):,}")


def mixing_rows(measured: ShuffleMixing) -> Iterator[tuple[str, str, str]]:
    """Yield the measured figures of a shuffle: name, figure, and the figure for a global shuffle."""
    ours, ideal = measured.mixing.ours, measured.mixing.ideal
    yield "sequences in a batch", f"{ours.sequences:,.1f}", f"{ideal.sequences:,.1f}"
    yield "median distance of neighbours, share of the epoch", percent_text(ours.apart), percent_text(ideal.apart)
    yield "distance of the nearest 5 %, share of the epoch", percent_text(ours.near), percent_text(ideal.near)
    correlation = round(ours.correlation, 3) + 0.0  # without the sign of a zero
    yield "correlation with the order of the store", f"{correlation:.3f}", f"{ideal.correlation:.3f}"


def shuffle_text(measured: ShuffleMixing) -> tuple[str, str]:
    """Return the options of a shuffle, and the number of its windows, pools and runs."""
    shuffle, mixing = measured.shuffle, measured.mixing
    memory = bytes_text(shuffle.memory) if isinstance(shuffle.memory, int) else shuffle.memory
    title = (
        f"windows of {shuffle.window:,}, stride {shuffle.stride:,}{shuffle.further}, "
        f"batches of {shuffle.batch:,}, memory {memory}, seed {shuffle.seed}"
    )
    runs = count_text(max(1, mixing.runs // mixing.pools), "run")
    windows, pools = count_text(mixing.windows, "window"), count_text(mixing.pools, "pool")
    return title, f"{windows}; {pools} of {runs} of neighbouring windows"


def _shuffle(measured: ShuffleMixing) -> tuple[Any, ...]:
    """Return the title of a section and its contents: how well windows mix, compared with a global shuffle."""
    title, drawn = shuffle_text(measured)
    numbers = ("this shuffle", "a global one")
    table = _rows(columns("", *numbers, right=numbers), mixing_rows(measured))
    return f"Shuffle ({title})", Text(drawn), table, Text(mixing_text(measured))


def mixing_text(measured: ShuffleMixing) -> str:
    """Return how well a shuffle mixes, in words."""
    mixing = measured.mixing
    share = f"{100 * min(1.0, mixing.sequences):.0f} %"
    if mixing.pools == 1:
        return f"All windows fit into memory. A batch has {share} of the sequences that a global shuffle gives."
    return (
        f"A batch has {share} of the sequences that a global shuffle gives. One pool is in memory at a time: runs from "
        f"all over the store, which make 1/{mixing.pools} of the epoch. Neighbours are in the same pool. More --memory "
        "makes pools larger; smaller chunks (seqzarr compact --chunk) make runs shorter and more numerous."
    )


def source_text(document: SourceInspection) -> Iterator[RenderableType]:
    """Yield all sections of one source."""
    yield section(document.source, _source_overview(document))
    yield section("Sequences", *_parts(document.parts))
    if document.parts[0].columns:
        yield section("Columns of sequences", *_part_columns(document.parts))
    yield section("Statistics", *statistics_text(document.statistics))
    for part in document.parts[:PARTS_WITH_ROWS]:
        if part.steps:
            labels = _row_table("labels", part.labels, document.classes)
            yield section(f"Rows of part {part.part}", _row_table("inputs", part.inputs), Text(), labels)


def _source_overview(document: SourceInspection) -> RenderableType:
    table = pairs()
    table.add_row("store", printable(document.store.name))
    table.add_row("holds", f"{count_text(document.sequences, 'sequence')}, {count_text(document.steps, 'step')}")
    if document.retired:
        table.add_row("retired", count_text(document.retired, "sequence"))
    table.add_row("split", f"{document.split} (by a hash of its name, seed 0)")
    if document.file_size is None:
        table.add_row("file", "none: its arrays were appended")
    else:
        table.add_row("file", bytes_text(document.file_size))
        table.add_row("SHA-256", document.file_sha256)
    return table


def _parts(parts: Sequence[PartInspection]) -> Iterator[RenderableType]:
    numbers = ("part", "number", "steps", "label rows")
    times = ["times"] if any(part.times for part in parts) else []
    table = columns(*numbers, *times, "", right=numbers, folded=times)
    first, more = first_of(parts)
    for part in first:
        counts = (f"{number:,}" for number in (part.part, part.number, part.steps, part.label_rows))
        table.add_row(*counts, *([" to ".join(part.times or ("-",))] if times else []), "retired" * part.retired)
    yield table
    yield from more


def _part_columns(parts: Sequence[PartInspection]) -> Iterator[RenderableType]:
    """Return a table of the further columns of each part; equal values are shown once."""
    table = columns("column", "of each part" if len(parts) > 1 else "value", folded=["column", "of each part"])
    names, more = first_of(tuple(parts[0].columns))
    for name in names:
        values = [short_name(_value(part.columns[name]), LONGEST_VALUE) for part in first_of(parts)[0]]
        table.add_row(printable(name), ", ".join(values[:1] if len({*values}) == 1 else values))
    yield table
    yield from more


def _row_table(name: str, rows: Sequence[Row], classes: Sequence[Sequence[str] | None] = ()) -> Table:
    table = columns("row", name, right=["row"], folded=[name])
    for before, row in zip((None, *rows), rows, strict=False):
        if before is not None and row.step != before.step + 1:
            table.add_row("...", "")
        values = [_value(value) for value in row.values[:ROW_VALUES]]
        for place, names in enumerate(classes[: len(values)]):
            code = row.values[place]
            if names is not None and isinstance(code, int) and 0 <= code < len(names):
                values[place] += f" {printable(names[code])}"
        table.add_row(f"{row.step:,}", ", ".join(values) + ", ..." * (len(row.values) > ROW_VALUES))
    return table


def _value(value: Value) -> str:
    if value is None:
        return "NaN"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
