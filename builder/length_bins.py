"""How long sequences are: a few figures, and a histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_BINS = 10
SKEWED = 32  # longest by shortest sequence from which on the bins double


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long the sequences are, in steps.

    Args:
        bins: (shortest, longest, how many sequences), from short to long; none is left out between the first and last.
    """

    min: int
    median: float
    mean: float
    max: int
    empty: int
    bins: tuple[tuple[int, int, int], ...]


def length_bins(
    lengths: NDArray[np.int64], most: int = LARGEST_BINS, *, doubling: bool | None = None
) -> tuple[tuple[int, int, int], ...]:
    """Count lengths (sequences,) in at most so many bins of whole numbers.

    They are of one width, or `doubling`; None: where that says more.

    >>> length_bins(np.array([1, 2, 2, 5]))
    ((1, 1, 1), (2, 2, 2), (3, 3, 0), (4, 4, 0), (5, 5, 1))
    """
    low, high = int(lengths.min()), int(lengths.max())
    if high > SKEWED * max(1, low) if doubling is None else doubling:
        factor = 2 ** math.ceil(math.log2(high / max(1, low) + 1) / (most - 1))
        edges = [low]
        while edges[-1] <= high:
            edges.append(max(1, edges[-1] * factor))
    else:
        width = -(-(high - low + 1) // most)
        edges = list(range(low, high + width + 1, width))
    counts, _ = np.histogram(lengths, [*edges[:-1], edges[-1] - 0.5])
    bins = zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    return tuple((start, min(stop - 1, high), count) for start, stop, count in bins)


def describe_lengths(lengths: NDArray[np.int64]) -> Lengths:
    """Say how long sequences are, from their lengths (sequences,), at least one."""
    return Lengths(
        min=int(lengths.min()),
        median=float(np.median(lengths)),
        mean=float(lengths.mean()),
        max=int(lengths.max()),
        empty=int((lengths == 0).sum()),
        bins=length_bins(lengths),
    )
