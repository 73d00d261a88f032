"""Path data of SVG charts, in a box one unit high that is stretched to the width of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.inspection.examples import Line, Span
from builder.inspection.values import Bin

LEAST = 0.02  # of the height, so that the smallest count is visible


def bars(bins: Sequence[Bin]) -> str:
    """Return a bar for each bin, one unit apart.

    >>> bars([(0, 1, 5), (2, 3, 0), (4, 5, 10)])
    'M.1 1V.5h.8V1zM2.1 1V0h.8V1z'
    """
    most = max(count for _, _, count in bins)
    heights = [max(LEAST, count / most) if count else 0.0 for _, _, count in bins]
    return "".join(f"M{_n(at + 0.1)} 1V{_n(1 - high)}h.8V1z" for at, high in enumerate(heights) if high)


def curve(line: Line) -> str:
    """Return the area between the least and the largest values along the steps; it is a line where they are equal.

    It is interrupted where all values are missing.
    """
    low, high = line.low or 0.0, line.high or 0.0
    span = high / 2 - low / 2  # high - low can exceed float64

    def y(value: float) -> str:
        return _n(1 - (value / 2 - low / 2) / span if span else 0.5)

    paths = []
    for run in _runs(line.spans):
        there = [f"{_n(at + 0.5)} {y(top)}" for at, (_, top) in run]
        back = [f"{_n(at + 0.5)} {y(bottom)}" for at, (bottom, _) in reversed(run)]
        paths.append(f"M{'L'.join(there + back)}")
    return "".join(paths)


def _runs(spans: Sequence[Span]) -> Iterator[list[tuple[int, tuple[float, float]]]]:
    """Yield the runs of spans that are not missing, each span with its number."""
    run: list[tuple[int, tuple[float, float]]] = []
    for number, span in enumerate((*spans, None)):
        if span is not None:
            run.append((number, span))
        elif run:
            yield run
            run = []


def _n(value: float) -> str:
    """Return a number as short text.

    >>> _n(3.0), _n(0.25), _n(0.0004)
    ('3', '.25', '0')
    """
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") if text.startswith("0.") else text
