"""Charts as inline SVG: shapes alone, which stretch to the width that there is; words stand beside them in HTML.

Each has a title that is read aloud, and colours from the style sheet. What is in it is escaped by the XML library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from builder.report.drawings import Span

WIDTH = 240  # units of all charts, whatever their width on a screen


@dataclass(frozen=True, slots=True)
class Svg:
    """A chart: markup, which templates take as it is."""

    text: str

    def __html__(self) -> str:
        return self.text


def histogram(
    counts: Sequence[int], label: str, titles: Sequence[str] = (), *, height: int = 60, kind: str = "bars"
) -> Svg:
    """Draw a bar for each count.

    Args:
        counts: One or more.
        label: What is read aloud.
        titles: A tooltip for each bar; none: the bars are one shape.
        height: In units.
        kind: The class, for the style sheet.
    """
    root = _root(label, height, kind)
    most = max(1, *counts)
    width = WIDTH / len(counts)
    bar = max(width * 0.6, width - 1.5)
    path = []
    for number, count in enumerate(counts):
        # What is there at all is seen.
        high = max(1.5, height * count / most) if count else 0.0
        left, top = number * width + (width - bar) / 2, height - high
        if titles:
            shape = SubElement(root, "g", {"class": "bar"})
            # The whole column answers to the pointer, so that a low bar has a tooltip too.
            SubElement(shape, "rect", _rect(number * width, 0, width, height) | {"class": "hit"})
            SubElement(shape, "rect", _rect(left, top, bar, high))
            SubElement(shape, "title").text = titles[number]
        elif count:
            path.append(f"M{_n(left)} {height}V{_n(top)}h{_n(bar)}V{height}z")
    if path:
        SubElement(root, "path", {"d": "".join(path)})
    return _done(root)


def line(spans: Sequence[Span], low: float, high: float, label: str, *, height: int = 44) -> Svg:
    """Draw values along the steps: a line, or where a point is of many steps a band from the least to the largest."""
    root = _root(label, height, "line")
    step = WIDTH / max(1, len(spans))

    def y(value: float) -> str:
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if high / 2 - low / 2 else 0.5
        return _n(height - 2 - share * (height - 4))

    for run in _runs(spans):
        x = [_n((number + 0.5) * step) for number, _ in run]
        if any(span[0] != span[1] for _, span in run):
            there = [f"{at} {y(span[1])}" for at, (_, span) in zip(x, run, strict=True)]
            back = [f"{at} {y(span[0])}" for at, (_, span) in zip(x, run, strict=True)][::-1]
            SubElement(root, "path", {"d": f"M{'L'.join(there + back)}z", "class": "band"})
        else:
            points = [f"{at} {y(span[0])}" for at, (_, span) in zip(x, run, strict=True)]
            # A step alone among missing ones is a point, which as wide as a line would hardly be seen.
            path, kind = (f"M{'L'.join(points)}", "stroke") if len(points) > 1 else (f"M{points[0]}h0", "stroke point")
            SubElement(root, "path", {"d": path, "class": kind})
    return _done(root)


def ribbon(pieces: Iterable[tuple[int, int, int]], names: Mapping[int, str], label: str, *, height: int = 16) -> Svg:
    """Draw classes along the steps: (first step, the one after the last, class)."""
    pieces = list(pieces)
    root = _root(label, height, "ribbon")
    total = max(1, pieces[-1][1] if pieces else 0)
    for start, stop, code in pieces:
        place = _rect(WIDTH * start / total, 0, WIDTH * (stop - start) / total, height)
        shape = SubElement(root, "rect", place | {"class": f"c{code % 8}"})
        SubElement(shape, "title").text = f"{names.get(code, str(code))}: steps {start:,} to {stop - 1:,}"
    return _done(root)


def shares(parts: Sequence[tuple[str, str, float]], label: str, *, height: int = 14, kind: str = "shares") -> Svg:
    """Draw parts of a whole in one bar: (class, tooltip, size)."""
    root = _root(label, height, kind)
    total, left = sum(size for _, _, size in parts) or 1.0, 0.0
    for which, title, size in parts:
        shape = SubElement(root, "rect", _rect(left, 0, WIDTH * size / total, height) | {"class": which})
        if title:
            SubElement(shape, "title").text = title
        left += WIDTH * size / total
    return _done(root)


def spreads(parts: Sequence[tuple[str, str, float | None, float | None]], label: str) -> Svg:
    """Draw a mean, and one standard deviation to either side, one below another: (class, tooltip, mean, deviation)."""
    each = 11
    root = _root(label, each * len(parts), "spreads")
    ends = [value for _, _, mean, std in parts if mean is not None for value in (mean - (std or 0), mean + (std or 0))]
    low, high = (min(ends), max(ends)) if ends else (0.0, 0.0)
    for number, (kind, title, mean, std) in enumerate(parts):
        if mean is None:
            continue

        def x(value: float) -> str:
            share = (value / 2 - low / 2) / (high / 2 - low / 2) if high / 2 - low / 2 else 0.5
            return _n(4 + share * (WIDTH - 8))

        y = each * number + each / 2
        shape = SubElement(root, "g", {"class": kind})
        SubElement(shape, "title").text = title
        SubElement(shape, "path", {"d": f"M{x(mean - (std or 0))} {_n(y)}H{x(mean + (std or 0))}", "class": "range"})
        SubElement(shape, "path", {"d": f"M{x(mean)} {_n(y - 4)}v8", "class": "mean"})
    return _done(root)


def _runs(spans: Sequence[Span]) -> Iterable[list[tuple[int, tuple[float, float]]]]:
    """Give what lies between missing parts: (number, span)."""
    run: list[tuple[int, tuple[float, float]]] = []
    for number, span in enumerate(spans):
        if span is not None:
            run.append((number, span))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _root(label: str, height: int, kind: str) -> Element:
    box = {"viewBox": f"0 0 {WIDTH} {height}", "preserveAspectRatio": "none"}
    root = Element("svg", {"class": f"chart {kind}", "role": "img", **box})
    SubElement(root, "title").text = label  # the name that is read aloud, and a tooltip
    return root


def _rect(x: float, y: float, width: float, height: float) -> dict[str, str]:
    return {"x": _n(x), "y": _n(y), "width": _n(width), "height": _n(height)}


def _n(value: float) -> str:
    """Write a place in units, to a tenth.

    >>> _n(3.0), _n(0.26)
    ('3', '0.3')
    """
    return f"{value:.1f}".removesuffix(".0")


def _done(root: Element) -> Svg:
    return Svg(tostring(root, encoding="unicode", short_empty_elements=False))
