"""Print an inspection for a terminal of 80 columns, or as plain text into a pipe."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

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
from builder.inspection.document import Inspection, notes_on
from builder.inspection.features import ColumnStatistics
from builder.inspection.shuffle import ShuffleMixing
from builder.inspection.source import PartInspection, Row, SourceInspection, Value
from builder.inspection.split_sizes import SplitSize
from builder.inspection.terminal import Section, columns, pairs
from builder.inspection.values import CleanedSource, ColumnValues, Lengths, StoreCleaning, TimeRange
from builder.planning.provenance import options_given
from store_spec import ArraySize

LISTED = 20  # of statistics, failures, and columns of sequences
LISTED_NAMES = 12
LISTED_CLASSES = 100
BAR_WIDTH = 32
LONGEST_OPTION = 400
LONGEST_VALUE = 24
PARTS_WITH_ROWS = 2  # parts of a source whose rows are shown
ROW_VALUES = 6  # values of a row that are shown


def inspection_text(document: Inspection) -> Iterator[Section]:
    """Yield all sections."""
    yield document.store.name or str(document.store), pairs(_overview(document))
    if notes := [note for _, note in notes_on(document)]:
        yield "Look at this first", *(Text(note) for note in notes)
    if document.lengths is not None:
        yield "Lengths, in steps", *_lengths(document.lengths)
    yield "Arrays", _arrays(document)
    yield _splits_title(document), _splits(document)
    yield "Statistics", *_statistics(document.statistics)
    if document.columns:
        yield "Columns of sequences", *_columns(document.columns)
    if document.cleaning is not None:
        yield "Cleaning", *_cleaning(document.cleaning)
    if options := list(options_given(document.build or {})):
        yield "Build", pairs((printable(name), printable(value)[:LONGEST_OPTION]) for name, value in options)
    if document.failures:
        yield f"Failures ({count_text(document.failures, 'source')} in the last build)", *_failures(document)
    if document.skipped:
        names = [Text(printable(name)) for name in document.skipped_listed[:LISTED]]
        names += _more(document.skipped_listed)
        yield f"Skipped ({count_text(document.skipped, 'empty source')})", *names
    if document.shuffle is not None:
        yield _shuffle(document.shuffle)


def _more(items: Sequence[object]) -> list[Text]:
    """Return a line with the number of items that are not listed, if there are any."""
    more = len(items) - LISTED
    return [Text(f"and {more:,} more, see --json")] if more > 0 else []


def _overview(document: Inspection) -> Iterator[tuple[str, str]]:
    counts = f"{count_text(document.sequences, 'sequence')}"
    if document.sources != document.sequences:
        counts += f" from {count_text(document.sources, 'source')}"
    counts += f", {count_text(document.steps, 'step')}"
    if document.label_axis == "own" and document.has_labels:
        counts += f", {count_text(document.label_steps, 'label step')}"
    yield "holds", counts
    if document.retired:
        yield "retired", f"{count_text(document.retired, 'sequence')}, whose rows stay on disk"
    stored, ratio = bytes_text(document.stored_bytes), ratio_text(document.decoded_bytes, document.stored_bytes)
    decoded = f"decoded {bytes_text(document.decoded_bytes)}, {ratio}"
    yield "on disk", f"{stored} in {count_text(document.files, 'file')}; {decoded}"
    yield "inputs", rows_text(document.inputs, "step")
    if document.has_labels:
        yield "labels", rows_text(document.labels, label_row(document.label_axis))
        yield from classes_text(document.labels)
        yield "label axis", document.label_axis
    else:
        yield "labels", "none; targets are chosen from the inputs when reading"
    if document.time is not None:
        yield "time", _time(document.time)
    yield from chunks_text(document)
    yield "codec", document.codec
    if document.missing_inputs is not None and document.missing_labels is not None:
        missing = f"{count_text(document.missing_inputs, 'step')} and {count_text(document.missing_labels, 'row')}"
        yield "NaN", f"means a missing value: {missing} of labels have some"
    yield "version", f"{document.version}, identity {document.identity[:16]}"


def chunks_text(document: Any) -> Iterator[tuple[str, str]]:
    """Yield the sizes of chunks and shards in an inspection or in the preview of a store."""
    yield "chunk", f"{count_text(document.chunk_steps, 'step')} (inputs: {bytes_text(document.chunk_bytes)})"
    yield "shard", f"{count_text(document.shard_steps, 'step')} (inputs: {bytes_text(document.shard_bytes)})"


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


def _lengths(lengths: Lengths) -> Iterator[RenderableType]:
    empty = f", {lengths.empty:,} empty" if lengths.empty else ""
    median, mean = number_text(lengths.median), number_text(lengths.mean)
    yield Text(f"min {lengths.min:,}, median {median}, mean {mean}, max {lengths.max:,}{empty}")
    most = max(count for _, _, count in lengths.bins)
    table = Table.grid(padding=(0, 2))
    for _ in ("span", "count"):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for low, high, count in lengths.bins:
        table.add_row(span_text(low, high), f"{count:,}", "#" * -(-BAR_WIDTH * count // most))
    yield table


def span_text(low: float, high: float) -> str:
    """Return a range of numbers as text.

    >>> span_text(3, 3), span_text(1000, 1999)
    ('3', '1,000 to 1,999')
    """
    return number_text(low) if low == high else f"{number_text(low)} to {number_text(high)}"


def _arrays(document: Inspection) -> RenderableType:
    def row(array: ArraySize) -> Sequence[str]:
        decoded, stored = array.decoded_bytes, array.stored_bytes
        sizes = (bytes_text(decoded), bytes_text(stored), ratio_text(decoded, stored))
        return array.name, array.dtype, *sizes, f"{array.files:,}"

    numbers = ("decoded", "stored", "ratio", "files")
    return columns(("array", "dtype", *numbers), map(row, document.arrays), right=numbers)


def _splits_title(document: Inspection) -> str:
    by = "the source's name" if document.split_by is None else printable(document.split_by)
    return f"Splits (from {by})" if document.pinned else f"Default splits (by a hash of {by}, seed 0)"


def _splits(document: Inspection) -> RenderableType:
    groups = () if document.split_by is None else ("groups",)
    windows = () if document.splits[0].windows is None else ("windows",)
    counts = (*groups, "sequences", "steps", *windows)

    def row(split: SplitSize) -> Sequence[str]:
        share = "-" if document.pinned else f"{100 * split.share:.0f} %"
        return split.name, share, *(f"{getattr(split, name):,}" for name in counts)

    return columns(("split", "share", *counts), map(row, document.splits), right=("share", *counts))


def _statistics(statistics: Sequence[ColumnStatistics]) -> Iterator[RenderableType]:
    """Yield a table of the first features and targets."""
    notes = ["unit: description"] if any(one.note for one in statistics[:LISTED]) else []

    def row(one: ColumnStatistics) -> Sequence[str]:
        values = (number_text(each) for each in (one.mean, one.std, one.min, one.max))
        name = str(one.column) if one.name is None else printable(one.name)
        return one.array, name, f"{one.count:,}", *values, *([printable(one.note)] if notes else [])

    numbers = ("count", "mean", "std", "min", "max")
    names = ("array", "column", *numbers, *notes)
    yield columns(names, map(row, statistics[:LISTED]), right=numbers, folded=["column", *notes])
    yield from _more(statistics)


def _columns(described: Sequence[ColumnValues]) -> Iterator[RenderableType]:
    """Yield a table of the first columns of sequences."""
    rows = (
        (printable(one.name), one.dtype, f"{one.missing:,}", f"{one.distinct:,}", _values(one))
        for one in described[:LISTED]
    )
    names = ("column", "dtype", "missing", "different", "values")
    yield columns(names, rows, right=["missing", "different"], folded=["column", "values"])
    yield from _more(described)


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

    def row(one: CleanedSource) -> Sequence[str]:
        share = percent_text(one.dropped / max(1, one.steps + one.dropped))
        counts = (f"{count:,}" for count in (one.sequences, one.steps, one.dropped))
        return printable(one.source), *counts, share, f"{one.filled:,}"

    numbers = ("sequences", "steps", "dropped", "share", "filled")
    yield columns(("source", *numbers), map(row, cleaning.worst), right=numbers, folded=["source"])
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
    """Return the arguments of a shuffle, and the number of its windows, pools and runs."""
    given, mixing = asdict(measured.shuffle), measured.mixing
    arguments = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in given.items() if value is not None)
    runs = count_text(max(1, mixing.runs // mixing.pools), "run")
    windows, pools = count_text(mixing.windows, "window"), count_text(mixing.pools, "pool")
    return arguments, f"{windows}; {pools} of {runs} of neighbouring windows"


def _shuffle(measured: ShuffleMixing) -> Section:
    """Return how well windows mix, compared with a global shuffle."""
    arguments, drawn = shuffle_text(measured)
    numbers = ("this shuffle", "a global one")
    table = columns(("", *numbers), mixing_rows(measured), right=numbers)
    return "Shuffle", Text(arguments), Text(drawn), table, Text(mixing_text(measured))


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


def source_text(document: SourceInspection) -> Iterator[Section]:
    """Yield all sections of one source."""
    yield document.source, pairs(_source_overview(document))
    yield "Sequences", *_parts(document.parts)
    if document.parts[0].columns:
        yield "Columns of sequences", *_part_columns(document.parts)
    yield "Statistics", *_statistics(document.statistics)
    for part in document.parts[:PARTS_WITH_ROWS]:
        if part.steps:
            labels = _row_table("labels", part.labels, document.classes)
            yield f"Rows of part {part.part}", _row_table("inputs", part.inputs), Text(), labels


def _source_overview(document: SourceInspection) -> Iterator[tuple[str, str]]:
    yield "store", printable(document.store.name)
    yield "holds", f"{count_text(document.sequences, 'sequence')}, {count_text(document.steps, 'step')}"
    if document.retired:
        yield "retired", count_text(document.retired, "sequence")
    yield "split", f"{document.split} (by a hash of its name, seed 0)"
    if document.file_size is None or document.file_sha256 is None:
        yield "file", "none: its arrays were appended"
    else:
        yield "file", bytes_text(document.file_size)
        yield "SHA-256", document.file_sha256


def _parts(parts: Sequence[PartInspection]) -> Iterator[RenderableType]:
    times = ["times"] if any(part.times for part in parts) else []

    def row(part: PartInspection) -> Sequence[str]:
        counts = (f"{number:,}" for number in (part.part, part.number, part.steps, part.label_rows))
        return *counts, *([" to ".join(part.times or ("-",))] if times else []), "retired" * part.retired

    numbers = ("part", "number", "steps", "label rows")
    yield columns((*numbers, *times, ""), map(row, parts[:LISTED]), right=numbers, folded=times)
    yield from _more(parts)


def _part_columns(parts: Sequence[PartInspection]) -> Iterator[RenderableType]:
    """Yield a table of the further columns of each part; equal values are shown once."""

    def row(name: str) -> Sequence[str]:
        values = [short_name(_value(part.columns[name]), LONGEST_VALUE) for part in parts[:LISTED]]
        return printable(name), ", ".join(values[:1] if len({*values}) == 1 else values)

    names, title = list(parts[0].columns), "of each part" if len(parts) > 1 else "value"
    yield columns(("column", title), map(row, names[:LISTED]), folded=["column", "of each part"])
    yield from _more(names)


def _row_table(name: str, rows: Sequence[Row], classes: Sequence[Sequence[str] | None] = ()) -> Table:
    shown = []
    for before, row in zip((None, *rows), rows, strict=False):
        if before is not None and row.step != before.step + 1:
            shown.append(("...", ""))
        values = [_value(value) for value in row.values[:ROW_VALUES]]
        for place, names in enumerate(classes[: len(values)]):
            code = row.values[place]
            if names is not None and isinstance(code, int) and 0 <= code < len(names):
                values[place] += f" {printable(names[code])}"
        shown.append((f"{row.step:,}", ", ".join(values) + ", ..." * (len(row.values) > ROW_VALUES)))
    return columns(("row", name), shown, right=["row"], folded=[name])


def _value(value: Value) -> str:
    if value is None:
        return "NaN"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
