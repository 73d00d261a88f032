"""Which chart shows what: content in, shapes with their words out."""

from __future__ import annotations

from builder.amounts import count_text
from builder.report import svg
from builder.report.classes import Balance, ClassCount
from builder.report.content import Content
from builder.report.drawings import Drawing, Line, Ribbon, name_of
from builder.report.features import Distribution, Feature
from builder.report.kept import KeptColumn
from builder.report.splits import Compared
from builder.report.words import name_text, number_text, percent_text
from store_spec.reading.splits import DEFAULT_SPLITS
from store_spec.schema import Rows

SPLITS = tuple(DEFAULT_SPLITS)


def lengths(bins: tuple[tuple[int, int, int], ...]) -> svg.Svg:
    """Draw how many sequences have which length."""
    titles = [f"{span_text(low, high)} steps: {count_text(count, 'sequence')}" for low, high, count in bins]
    label = f"Lengths of sequences, from {bins[0][0]:,} to {bins[-1][1]:,} steps"
    return svg.histogram([count for _, _, count in bins], label, titles, height=140, kind="bars tall")


def span_text(low: int, high: int) -> str:
    """Write a range of whole numbers.

    >>> span_text(3, 3), span_text(1000, 1999)
    ('3', '1,000 to 1,999')
    """
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def distribution(feature: Feature, *, titled: bool) -> svg.Svg | None:
    """Draw how the sampled values of a feature lie; None where there are none that differ."""
    found = feature.distribution
    if found is None or found.low == found.high:
        return None
    label = f"{name_text(name_of(feature.statistics))}: sampled values, {ends_text(found)}"
    titles = tuple(_bins(found)) if titled else ()
    return svg.histogram(
        found.counts, label, titles, height=90 if titled else 36, kind="bars mid" if titled else "bars low"
    )


def ends_text(found: Distribution) -> str:
    """Say from where to where bins reach."""
    return f"from {number_text(found.low)} to {number_text(found.high)}"


def kept(column: KeptColumn) -> svg.Svg | None:
    """Draw how the numbers of a kept column lie; None where there are none that differ."""
    found = column.distribution
    if found is None or found.low == found.high:
        return None
    label = f"{name_text(column.found.name)}, {ends_text(found)}"
    return svg.histogram(found.counts, label, kind="bars low", height=36)


def beyond(found: Distribution) -> float:
    """Return the share of sampled values that lie outside of the bins."""
    outside = found.below + found.above
    return outside / (outside + sum(found.counts))


def _bins(found: Distribution) -> list[str]:
    if found.step:
        wide = found.step * found.each
        starts = [found.low + place * wide for place in range(len(found.counts))]
        ends = [min(found.high, start + wide - found.step) for start in starts]
        return [
            f"{number_text(low)}{f' to {number_text(high)}' if found.each > 1 and low < high else ''}: {count:,}"
            for low, high, count in zip(starts, ends, found.counts, strict=True)
        ]
    parts = len(found.counts)
    edges = [found.low * (1 - number / parts) + found.high * (number / parts) for number in range(parts + 1)]
    return [
        f"{number_text(low)} to {number_text(high)}: {count:,}"
        for low, high, count in zip(edges, edges[1:], found.counts, strict=False)
    ]


def along(content: Content, drawing: Drawing, one: Line | Ribbon) -> svg.Svg:
    """Draw a feature or target of a sequence along its steps."""
    label = f"{name_text(one.name)} of {name_text(drawing.source)}, along {drawing.shown:,} steps"
    if isinstance(one, Ribbon):
        codes = {code for _, _, code in one.pieces}
        return svg.ribbon(one.pieces, {code: label_text(content, one.column, code) for code in codes}, label)
    return svg.line(one.spans, one.low, one.high, label)


def doubling(bins: tuple[tuple[int, int, int], ...]) -> bool:
    """Tell whether bins of lengths become wider."""
    widths = {high - low for low, high, _ in bins[:-1]}
    return len(widths) > 1


def label_text(content: Content, target: int, value: float) -> str:
    """Write a label of a target: the name of its class, where it has one.

    Args:
        content: Which has the names.
        target: The column of the target.
        value: The label.
    """
    names = content.classes[target] if target < len(content.classes) else None
    if names is not None and float(value).is_integer() and 0 <= value < len(names):
        return name_text(names[int(value)])
    return number_text(float(value))


def class_name(content: Content, balance: Balance, one: ClassCount) -> str:
    """Write a class: its label, or how many others are left."""
    if one.code is None:
        return f"{balance.distinct - len(balance.classes) + 1:,} others"
    return label_text(content, balance.column, one.code)


def shape_text(rows: Rows) -> str:
    """Say what one row is.

    >>> shape_text(Rows("float32", (64, 3))), shape_text(Rows("int64", ()))
    ('64 x 3', 'one number')
    """
    return " x ".join(f"{size:,}" for size in rows.shape) or "one number"


def split_sizes(sizes: tuple[int, ...], noun: str) -> svg.Svg:
    """Draw how large each split is."""
    total = sum(sizes) or 1
    parts = [
        (name, f"{name}: {count_text(size, noun)}, {percent_text(size / total)}", float(size))
        for name, size in zip(SPLITS, sizes, strict=True)
    ]
    return svg.shares(parts, f"{noun}s in each split", kind="shares big")


def compared(one: Compared) -> svg.Svg:
    """Draw mean and standard deviation of a feature in each split."""
    parts = [
        (name, f"{name}: mean {number_text(part.mean)}, std {number_text(part.std)}", part.mean, part.std)
        for name, part in zip(SPLITS, one.parts, strict=True)
    ]
    return svg.spreads(parts, f"{name_text(one.name)}: mean and standard deviation in {', '.join(SPLITS)}")


def class_share(one: ClassCount, name: str, largest: int) -> svg.Svg:
    """Draw how large a class is, beside the largest one."""
    parts = [("count", f"{name}: {one.count:,}", float(one.count)), ("none", "", float(largest - one.count))]
    return svg.shares(parts, f"{name}: {one.count:,}", height=12)


def stored_share(stored: int, total: int, name: str) -> svg.Svg:
    """Draw which part of what is stored an array takes."""
    parts = [("count", f"{name}: {percent_text(stored / max(1, total))}", float(stored))]
    return svg.shares([*parts, ("none", "", float(total - stored))], f"{name}, of all that is stored", height=10)
