"""An inspection as a terminal shows it, readable in 80 columns; in a pipe it is plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from builder.amounts import bytes_text, count_text, printable, ratio_text
from builder.cli.tables import columns, pairs, section
from builder.frames.counts import StoreCleaning
from builder.inspection import ColumnStatistics, Inspection, Shuffled
from builder.length_bins import Lengths
from builder.notes import notes_of
from builder.recorded import options_given
from builder.sequence_values import ColumnValues, Times

SHOWN_STATISTICS = 20
SHOWN_FAILURES = 20
SHOWN_NAMES = 12
SHOWN_CLASSES = 100
BAR_WIDTH = 32
LONGEST_OPTION = 400
SHOWN_COLUMNS = 20
LONGEST_VALUE = 24


def inspection_text(found: Inspection, *, bar: str = "#") -> Iterator[RenderableType]:
    """Give all sections. Bars of the histogram are made of the letter `bar`."""
    yield section(found.store.name or str(found.store), _overview(found))
    if notes := [note for _, note in notes_of(found)]:
        yield section("Look at this first", *(Text(note) for note in notes))
    if found.lengths is not None:
        yield section("Lengths, in steps", *_lengths(found.lengths, bar))
    yield section("Arrays", _arrays(found))
    by = "the source's name" if found.split_by is None else printable(found.split_by)
    kind = f"Splits (as {by} says)" if found.pinned else f"Default splits (by a hash of {by}, seed 0)"
    yield section(kind, _splits(found))
    yield section("Statistics", *statistics_text(found.statistics))
    if found.columns:
        yield section("Columns of sequences", *_columns(found.columns))
    if found.cleaning is not None:
        yield section("Cleaning", *_cleaning(found.cleaning))
    if found.build is not None and (options := _build(found.build)).row_count:
        yield section("Build", options)
    if found.failures:
        yield section(f"Failures ({count_text(found.failures, 'source')} in the last build)", *_failures(found))
    if found.shuffle is not None:
        asked = found.shuffle.asked
        memory = bytes_text(asked.memory) if isinstance(asked.memory, int) else asked.memory
        yield section(
            f"Shuffle (windows of {asked.window:,}, stride {asked.stride:,}{asked.further}, "
            f"batches of {asked.batch:,}, memory {memory}, seed {asked.seed})",
            *_shuffle(found.shuffle),
        )


def _overview(found: Inspection) -> RenderableType:
    table = pairs()
    sources = "" if found.sources == found.sequences else f" from {count_text(found.sources, 'source')}"
    label_steps = f", {count_text(found.label_steps, 'label step')}" if found.label_axis == "own" else ""
    table.add_row(
        "holds", f"{count_text(found.sequences, 'sequence')}{sources}, {count_text(found.steps, 'step')}{label_steps}"
    )
    if found.retired:
        table.add_row("retired", f"{count_text(found.retired, 'sequence')}, whose rows stay on disk")
    table.add_row(
        "on disk",
        f"{bytes_text(found.stored_bytes)} in {count_text(found.files, 'file')}; "
        f"decoded {bytes_text(found.decoded_bytes)}, {ratio_text(found.decoded_bytes, found.stored_bytes)}",
    )
    table.add_row("inputs", rows_text(found.inputs, "step"))
    table.add_row("labels", rows_text(found.labels, {"own": "label step"}.get(found.label_axis, found.label_axis)))
    for name, text in classes_text(found.labels):
        table.add_row(name, text)
    table.add_row("label axis", found.label_axis)
    if found.time is not None:
        table.add_row("time", _time(found.time))
    table.add_row("chunk", f"{count_text(found.chunk_steps, 'step')} (inputs: {bytes_text(found.chunk_bytes)})")
    table.add_row("shard", f"{count_text(found.shard_steps, 'step')} (inputs: {bytes_text(found.shard_bytes)})")
    table.add_row("codec", found.codec)
    if found.missing_inputs is not None and found.missing_labels is not None:
        labels = count_text(found.missing_labels, "row")
        table.add_row(
            "NaN",
            f"stands for missing values: {count_text(found.missing_inputs, 'step')} and {labels} of labels miss one",
        )
    table.add_row("version", f"{found.version}, identity {found.identity[:16]}")
    return table


def _time(times: Times) -> str:
    """Say what times are, when the first and the last are, and whether sequences follow one another."""
    kind = "elapsed" if times.elapsed else times.zone or "local, without a zone"
    if times.first is None:
        return f"{times.unit}, {kind}; there is no step"
    order = "sequences follow one another" if times.in_order else "sequences overlap, or go back"
    return f"{times.unit}, {kind}: {times.first} to {times.last}; {order}"


def _columns(found: tuple[ColumnValues, ...]) -> Iterator[RenderableType]:
    """Give a table of the further columns of sequences, the first of many."""
    table = columns(
        "column", "dtype", "missing", "different", "values", right=("missing", "different"), folded=["column", "values"]
    )
    for one in found[:SHOWN_COLUMNS]:
        table.add_row(printable(one.name), one.dtype, f"{one.missing:,}", f"{one.distinct:,}", _values(one))
    yield table
    if (more := len(found) - SHOWN_COLUMNS) > 0:
        yield Text(f"and {more:,} more, which --json has")


def _values(column: ColumnValues) -> str:
    """Say which values a column has: the most frequent texts, or the range of numbers."""
    if column.common:
        shown = ", ".join(f"{_shortened(printable(text))} ({count:,})" for text, count in column.common)
        return f"{shown}, ..." if column.distinct > len(column.common) else shown
    if column.min is None or column.max is None:
        return "-"
    low, high = _value(column.min), _value(column.max)
    return low if low == high else f"{low} to {high}"


def _value(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _lengths(lengths: Lengths, bar: str) -> Iterator[RenderableType]:
    empty = f", {lengths.empty:,} empty" if lengths.empty else ""
    median, mean = _number(lengths.median), _number(lengths.mean)
    yield Text(f"min {lengths.min:,}, median {median}, mean {mean}, max {lengths.max:,}{empty}")
    most = max(count for _, _, count in lengths.bins)
    table = Table.grid(padding=(0, 2))
    for _ in ("span", "count"):
        table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for low, high, count in lengths.bins:
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        table.add_row(span, f"{count:,}", bar * -(-BAR_WIDTH * count // most))
    yield table


def _arrays(found: Inspection) -> RenderableType:
    numbers = ("decoded", "stored", "ratio", "files")
    table = columns("array", "dtype", *numbers, right=numbers)
    for array in found.arrays:
        decoded, stored = array.decoded_bytes, array.stored_bytes
        ratio = (
            "-" if not stored else f"{decoded / stored:.2g}" if decoded < 99 * stored else f"{decoded / stored:,.0f}"
        )
        table.add_row(array.name, array.dtype, bytes_text(decoded), bytes_text(stored), ratio, f"{array.files:,}")
    return table


def _splits(found: Inspection) -> RenderableType:
    names = ("share", *(("groups",) if found.split_by is not None else ()), "sequences", "steps")
    names += () if found.shuffle is None else ("windows",)
    table = columns("split", *names, right=names)
    for split in found.splits:
        counts = [f"{getattr(split, name):,}" for name in names[1:]]
        table.add_row(split.name, "-" if found.pinned else f"{100 * split.share:.0f} %", *counts)
    return table


def statistics_text(statistics: tuple[ColumnStatistics, ...]) -> Iterator[RenderableType]:
    """Give a table of features and targets, the first of many."""
    numbers = ("count", "mean", "std", "min", "max")
    table = columns("array", "column", *numbers, right=numbers, folded=["column"])
    for one in statistics[:SHOWN_STATISTICS]:
        values = ("-" if each is None else f"{each:.5g}" for each in (one.mean, one.std, one.min, one.max))
        table.add_row(one.array, _column(one), f"{one.count:,}", *values)
    yield table
    if (more := len(statistics) - SHOWN_STATISTICS) > 0:
        yield Text(f"and {more:,} more, which --json has")


def _cleaning(cleaning: StoreCleaning) -> Iterator[RenderableType]:
    """Say what was done to the rows, and to which sources most of it."""
    total = cleaning.total
    if not (cleaning.touched or total.several):
        yield Text("no step was dropped, no value was filled in, and no source gave several sequences")
        return
    yield Text(
        f"{count_text(total.dropped, 'step')} dropped, {count_text(total.filled, 'value')} filled in, of "
        f"{count_text(cleaning.touched, 'source')}; {count_text(total.several, 'source')} gave several sequences"
    )
    if not cleaning.worst:
        return
    numbers = ("sequences", "steps", "dropped", "share", "filled")
    table = columns("source", *numbers, right=numbers, folded=["source"])
    for one in cleaning.worst:
        share = f"{100 * one.dropped / max(1, one.steps + one.dropped):.3g} %"
        counts = (f"{count:,}" for count in (one.sequences, one.steps, one.dropped))
        table.add_row(printable(one.source), *counts, share, f"{one.filled:,}")
    yield table
    if (more := cleaning.named - len(cleaning.worst)) > 0:
        yield Text(f"and {more:,} more, of which a smaller share was dropped: store.sequences has each")


def _build(build: dict[str, Any]) -> Table:
    table = pairs()
    for name, value in options_given(build):
        table.add_row(printable(name), printable(value)[:LONGEST_OPTION])
    return table


def _failures(found: Inspection) -> Iterator[RenderableType]:
    for source, reason in found.failures_listed[:SHOWN_FAILURES]:
        yield Text(f"{printable(source)}: {printable(reason)}")
    if (more := found.failures - min(len(found.failures_listed), SHOWN_FAILURES)) > 0:
        yield Text(f"and {more:,} more; --json lists {len(found.failures_listed):,}")


def _shuffle(shuffled: Shuffled) -> Iterator[RenderableType]:
    """Say how well windows mix, beside a permutation of all of them, then in words."""
    mixing = shuffled.mixing
    ours, ideal = mixing.ours, mixing.ideal
    held = f"{count_text(mixing.pools, 'pool')} of {count_text(max(1, mixing.runs // mixing.pools), 'run')}"
    yield Text(f"{count_text(mixing.windows, 'window')}; {held} of neighbouring windows")
    numbers = ("this shuffle", "a global one", "ratio")
    table = columns("", *numbers, right=numbers)
    table.add_row(
        "sequences in a batch", f"{ours.sequences:,.1f}", f"{ideal.sequences:,.1f}", _ratio(mixing.sequences, 1)
    )
    for name, found, wanted in (
        ("of its windows, overlapping another one", ours.overlapping, ideal.overlapping),
        ("neighbours apart, median, of the epoch", ours.apart, ideal.apart),
        ("neighbours apart, 5 % nearest", ours.near, ideal.near),
    ):
        table.add_row(name, f"{100 * found:.3g} %", f"{100 * wanted:.3g} %", _ratio(found, wanted))
    correlation = round(ours.correlation, 3) + 0.0  # without the sign of a zero
    table.add_row("correlation with the order of the store", f"{correlation:.3f}", f"{ideal.correlation:.3f}", "")
    yield table
    yield Text(_in_words(shuffled))


def _in_words(shuffled: Shuffled) -> str:
    mixing = shuffled.mixing
    share = f"{100 * min(1.0, mixing.sequences):.0f} %"
    if mixing.pools == 1:
        return f"All windows are in memory together. A batch has {share} of the sequences that a global shuffle gives."
    return (
        f"A batch has {share} of the sequences that a global shuffle gives. One pool is in memory at a time, runs from "
        f"all over the store, and gives 1/{mixing.pools} of the epoch: neighbours come within it. More --memory makes "
        "pools larger; smaller chunks (seqzarr compact --chunk) make runs shorter, and more of them."
    )


def _ratio(found: float, wanted: float) -> str:
    return f"{found / wanted:.3g}" if wanted else "-"


def rows_text(rows: dict[str, Any], per: str) -> str:
    """Say what a row is: dtype, shape, and the first names."""
    shape = f"({', '.join(str(size) for size in rows['shape'])})" if rows["shape"] else "one number"
    names = [printable(name) for name in rows["names"] or ()]
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    return f"{rows['dtype']}, {shape} a {per}" + (f": {shown}" if names else "")


def classes_text(rows: dict[str, Any], *, codes: bool = True) -> Iterator[tuple[str, str]]:
    """Give, for each target that has classes, the codes and names of the first of these; or the names alone."""
    for target, names in enumerate(rows.get("classes") or ()):
        if names is None:
            continue
        column = printable(rows["names"][target]) if rows["names"] else str(target)
        first = [printable(name) for name in names[:SHOWN_CLASSES]]
        shown = ", ".join(f"{code} {name}" if codes else name for code, name in enumerate(first))
        more = f", ... {len(names):,} in all" if len(names) > SHOWN_CLASSES else ""
        yield ("classes" if len(rows["classes"]) == 1 else f"classes of {column}"), shown + more


def _column(one: ColumnStatistics) -> str:
    return str(one.column) if one.name is None else printable(one.name)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
