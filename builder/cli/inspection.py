"""An inspection as a terminal shows it, readable in 80 columns; in a pipe it is plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from builder.cli.amounts import bytes_text, count_text, printable, ratio_text
from builder.cli.tables import columns, pairs, section
from builder.inspection import ColumnStatistics, Inspection
from builder.length_bins import Lengths
from builder.tabular import tabular

SHOWN_STATISTICS = 20
SHOWN_FAILURES = 20
SHOWN_NAMES = 12
BAR_WIDTH = 32
LONGEST_OPTION = 400


def inspection_text(found: Inspection, *, bar: str = "#") -> Iterator[RenderableType]:
    """Give all sections. Bars of the histogram are made of the letter `bar`."""
    yield section(found.store.name or str(found.store), _overview(found))
    if found.lengths is not None:
        yield section("Lengths, in steps", *_lengths(found.lengths, bar))
    yield section("Arrays", _arrays(found))
    yield section("Default splits (by a hash of the source's name, seed 0)", _splits(found))
    yield section("Statistics", *_statistics(found))
    if found.build is not None:
        yield section("Build", _build(found.build))
    if found.failures:
        yield section(f"Failures ({count_text(found.failures, 'source')} in the last build)", *_failures(found))


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
    table.add_row("label axis", found.label_axis)
    table.add_row("chunk", f"{count_text(found.chunk_steps, 'step')} (inputs: {bytes_text(found.chunk_bytes)})")
    table.add_row("shard", f"{count_text(found.shard_steps, 'step')} (inputs: {bytes_text(found.shard_bytes)})")
    table.add_row("codec", found.codec)
    if found.missing == "keep":
        table.add_row("NaN", "stands for missing values")
    table.add_row("version", f"{found.version}, identity {found.identity[:16]}")
    return table


def _lengths(lengths: Lengths, bar: str) -> Iterator[RenderableType]:
    empty = f", {lengths.empty:,} empty" if lengths.empty else ""
    median, mean = _number(lengths.median), _number(lengths.mean)
    yield Text(f"min {lengths.min:,}, median {median}, mean {mean}, max {lengths.max:,}{empty}")
    most = max(count for _, _, count in lengths.bins)
    table = Table.grid(padding=(0, 2))
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify, no_wrap=True)
    for low, high, count in lengths.bins:
        span = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        table.add_row(span, f"{count:,}", bar * -(-BAR_WIDTH * count // most))
    yield table


def _arrays(found: Inspection) -> RenderableType:
    numbers = ("decoded", "stored", "ratio", "files")
    table = columns("array", "dtype", *numbers, right=numbers)
    for array in found.arrays:
        decoded, stored = array.decoded_bytes, array.stored_bytes
        ratio = ratio_text(decoded, stored).removesuffix(" to 1")
        table.add_row(array.name, array.dtype, bytes_text(decoded), bytes_text(stored), ratio, f"{array.files:,}")
    return table


def _splits(found: Inspection) -> RenderableType:
    table = columns("split", "share", "sequences", "steps", right=("share", "sequences", "steps"))
    for split in found.splits:
        table.add_row(split.name, f"{100 * split.share:.0f} %", f"{split.sequences:,}", f"{split.steps:,}")
    return table


def _statistics(found: Inspection) -> Iterator[RenderableType]:
    numbers = ("count", "mean", "std", "min", "max")
    table = columns("array", "column", *numbers, right=numbers, folded=["column"])
    for one in found.statistics[:SHOWN_STATISTICS]:
        values = ("-" if each is None else f"{each:.5g}" for each in (one.mean, one.std, one.min, one.max))
        table.add_row(one.array, _column(one), f"{one.count:,}", *values)
    yield table
    if (more := len(found.statistics) - SHOWN_STATISTICS) > 0:
        yield Text(f"and {more:,} more, which --json has")


def _build(build: dict[str, Any]) -> RenderableType:
    table = pairs()
    for name, value in _options(build):
        table.add_row(printable(name), printable(value)[:LONGEST_OPTION])
    return table


def _failures(found: Inspection) -> Iterator[RenderableType]:
    for source, reason in found.failures_listed[:SHOWN_FAILURES]:
        yield Text(f"{printable(source)}: {printable(reason)}")
    if (more := found.failures - min(len(found.failures_listed), SHOWN_FAILURES)) > 0:
        yield Text(f"and {more:,} more; --json lists {len(found.failures_listed):,}")


def _options(build: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the options that were set, those of the process function among them."""
    usual = tabular().describe() | {"only_listed": False, "code": []}
    for name, value in build.items():
        if isinstance(value, dict):
            yield from _options(value)
        elif value not in (None, usual.get(name)):
            yield name, _code(value) if name == "code" else _option(value)


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _code(pairs: Any) -> str:
    """Say which code made which sequences, the latest first."""
    match pairs:
        case [*earlier, [int(first), str(sha256)]]:
            rest = f"; {_code(earlier)}" if earlier else ""
            return f"{sha256[:12]} from sequence {first:,}{rest}"
    return _option(pairs)


def rows_text(rows: dict[str, Any], per: str) -> str:
    """Say what a row is: dtype, shape, and the first names."""
    shape = f"({', '.join(str(size) for size in rows['shape'])})" if rows["shape"] else "one number"
    names = [printable(name) for name in rows["names"] or ()]
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    return f"{rows['dtype']}, {shape} a {per}" + (f": {shown}" if names else "")


def _column(one: ColumnStatistics) -> str:
    return str(one.column) if one.name is None else printable(one.name)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
