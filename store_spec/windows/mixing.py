"""Measure how well an epoch is shuffled, compared with a permutation of all windows. No rows are read.

    windows     0 1 2 3 4 5 6 7 8 9        in the order of their rows
    epoch       8 5 0 9 4 1 6 3 7 2        in the order of the batches, here of 5 windows
    batch 0     8 5 0 9 4                  how many sequences it has
    neighbours  3 and 4 are at 7 and 4     their distance is 3 of 10 windows: 0.3 of the epoch
    correlation of the first line with the position of each window in the epoch

All this is measured on the actual order of batches. For a large epoch it is measured on samples of pools, batches and
neighbours, always the same ones: see `BATCHES`, `POOLS`, `FEW` and `PAIRS`. The numbers of one lane (see `order`) are
in memory at a time, so memory does not grow with the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from store_spec.errors import WindowError
from store_spec.format.moments import Floats
from store_spec.format.runs import Ints, bounds_of, spread
from store_spec.windows.batches import BatchOptions, Epoch
from store_spec.windows.index import WindowIndex
from store_spec.windows.order import EpochOrder, Share

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

BATCHES = 64  # batches to measure
POOLS = 8  # the least number of pools they come from; a pool is computed as a whole
FEW = 10**7  # windows: as many pools are computed as have this many together, at most one per batch
PAIRS = 2048  # pairs of neighbours to measure; the first window of each is in one of these pools
NEAR = 0.05  # the quantile of distances that shows how close the closest neighbours are


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Measures of an order.

    Args:
        sequences: Different sequences in a batch, on average.
        correlation: Of the positions of windows in the store and in the epoch, -1 to 1.
        apart: The median distance in the epoch of windows that are neighbours in the store, as a share of the epoch.
        near: The 5 % quantile of this distance.
    """

    sequences: float
    correlation: float
    apart: float
    near: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How well an order mixes. Get it from `measure`; `str` returns a table.

    Args:
        windows: Windows in the epoch.
        size: Windows in a batch.
        pools: Pools in the epoch. The rows of a pool are in memory together, and its windows are shuffled.
        runs: Runs of neighbouring windows in the pools; a pool has runs from all over the store.
        ours: The measures of this order.
        ideal: The expected measures of a permutation of all windows.
    """

    windows: int
    size: int
    pools: int
    runs: int
    ours: Figures
    ideal: Figures

    @property
    def sequences(self) -> float:
        """Different sequences in a batch, as a share of those in a batch of a permutation of all windows."""
        return self.ours.sequences / self.ideal.sequences

    def __repr__(self) -> str:
        what = f"{self.windows:,} windows in batches of {self.size:,}, {self.pools:,} pools"
        return f"<mixing of {what}: a batch has {100 * self.sequences:.0f} % of the sequences of a permutation's>"

    def __str__(self) -> str:
        lines = [f"{self.windows:,} windows in batches of {self.size:,}; {self.pools:,} pools of {self.runs:,} runs"]
        lines += [f"{'':12} {'this order':>12} {'a permutation':>14}"]
        for name in (one.name for one in fields(Figures)):
            lines.append(f"{name:12} {getattr(self.ours, name):12.4g} {getattr(self.ideal, name):14.4g}")
        return "\n".join(lines)


def measure(windows: Windows, batch_size: int, *, seed: int = 0, epoch: int = 0, memory: int | str = "256MB") -> Mixing:
    """Measure how well an epoch of `windows.batches(batch_size, shuffle=True, ...)` with these arguments mixes.

    It takes a second or two, whatever the size of the store, and reads no rows. `batch_size` is that of all ranks
    together.

    Raises:
        WindowError: There are fewer than two windows, or batches of these arguments are impossible.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     for number in range(8):
    ...         writer.append(np.ones((40, 2), "float32"), np.ones((40, 1), "float32"), source=f"walk-{number}")
    >>> mixing = measure(store_spec.open_store(path).windows(4), batch_size=8)
    >>> round(mixing.ideal.sequences, 2), 0.8 < mixing.sequences < 1.2
    (5.29, True)
    """
    options = BatchOptions(batch_size=batch_size, shuffle=True, seed=seed, epoch=epoch, memory=memory)
    plan = Epoch(options, windows, None)
    windows = plan.rows
    if len(windows) < 2:
        few = "1 window" if len(windows) else "0 windows"
        raise WindowError(f"{windows.store.path}: {few}; there is no mixing of fewer than 2")
    return measure_order(plan.order, windows.index, windows.store.starts, batch_size)


def measure_order(order: EpochOrder, index: WindowIndex, starts: Ints, size: int) -> Mixing:
    """Measure an order of at least two windows, in batches of `size`.

    `starts` is (sequences,), the row of the store at which each sequence starts.
    """
    rows = _Rows(index, starts)
    total, size = len(index), min(size, len(index))
    starts_of_batches, pools = _sample_batches(order, size)
    first = _neighbours(map(order.share, sorted(pools)), rows, total)
    wanted = np.unique(np.concatenate((first, first + 1)))
    positions = np.empty(len(wanted))
    batches = np.empty((len(starts_of_batches), size), np.int64)
    sums, runs = np.zeros(6), 0
    for number in range(len(order)):
        share = order.share(number)
        start = rows.pieces(share)
        runs += 1 + int(np.count_nonzero(start[1:] != start[:-1] + share.pieces.count[:-1]))
        found, _ = _find(wanted, start, share.pieces.count)
        positions[found] = order.first[number : number + 2].mean()  # unless the lanes of the pool are computed
        lanes = len(share.lanes) if number in pools else 0
        for lane in range(int(order.first[number]), int(order.first[number]) + lanes):
            share = order.share(number, lane % lanes, lanes)  # lanes take turns as ranks do
            start, count = rows.pieces(share), share.pieces.count
            turns = order.arrange(number, share, np.arange(int(count.sum())))
            windows, places = spread(start, count)[turns], lane + lanes * np.arange(len(turns))
            sums += _moments(windows / total, places / total)
            _fill_batches(batches, starts_of_batches, places, windows)
            in_order = np.empty_like(places)  # the position in the epoch of each window of the pieces
            in_order[turns] = places
            found, at = _find(wanted, start, count)
            positions[found] = in_order[at]
    distance = np.abs(np.diff(positions[np.searchsorted(wanted, (first, first + 1))], axis=0)) / total
    ours = Figures(
        sequences=float(np.mean([len(np.unique(rows.sequences(batch))) for batch in batches])),
        correlation=_correlation(sums),
        apart=float(np.median(distance)),
        near=float(np.quantile(distance, NEAR)),
    )
    ideal = Figures(
        sequences=rows.expected_sequences(size),
        correlation=0.0,
        apart=_expected_distance(0.5),
        near=_expected_distance(NEAR),
    )
    return Mixing(windows=total, size=size, pools=len(order), runs=runs, ours=ours, ideal=ideal)


class _Rows:
    """Windows numbered in the order of their rows, which may differ from that of the index."""

    def __init__(self, index: WindowIndex, starts: Ints) -> None:
        counts = np.diff(index.first)
        by_row = np.flatnonzero(counts)
        by_row = by_row[np.argsort(starts[by_row], kind="stable")]
        self._counts = counts[by_row]
        self._first = bounds_of(self._counts)
        self._shift = np.zeros(len(counts), np.int64)  # from the number in the index to that by rows
        self._shift[by_row] = self._first[:-1] - index.first[by_row]

    def pieces(self, share: Share) -> Ints:
        """Return (pieces,): the number of the first window of each piece."""
        return np.asarray(share.pieces.number + self._shift[share.pieces.sequence], np.int64)

    def sequences(self, windows: Ints) -> Ints:
        """Return the sequence of each window, in the order of rows."""
        return np.asarray(np.searchsorted(self._first, windows, side="right") - 1, np.int64)

    def expected_sequences(self, size: int) -> float:
        """Return the expected number of sequences of `size` windows that are drawn at random without replacement."""
        counts, sequences = np.unique(self._counts, return_counts=True)
        none = np.ones(len(counts))  # the probability that a sequence with so many windows has none of them
        for number in range(size):
            none *= np.maximum(0.0, 1 - counts / (int(self._first[-1]) - number))
        return float(((1 - none) * sequences).sum())


def _expected_distance(quantile: float) -> float:
    """Return a quantile of the distance of two random positions, as a share of all positions."""
    return float(1 - np.sqrt(1 - quantile))


def _sample_batches(order: EpochOrder, size: int) -> tuple[Ints, set[int]]:
    """Choose batches; return (batches,) the position of each in the epoch, ascending, and the pools they come from."""
    total, pools = int(order.first[-1]), len(order)
    if total // size <= BATCHES:
        return np.arange(total // size) * size, set(range(pools))
    some = min(pools, BATCHES, max(POOLS, FEW * pools // total))
    each = -(-BATCHES // some)
    numbers = [_batches_of(order, (2 * turn + 1) * pools // (2 * some), size, each) for turn in range(some)]
    starts = np.unique(np.concatenate(numbers)) * size
    low, high = (np.searchsorted(order.first, at, side="right") - 1 for at in (starts, starts + size - 1))
    return starts, set(spread(low, high + 1 - low).tolist())


def _batches_of(order: EpochOrder, pool: int, size: int, count: int) -> Ints:
    """Return the numbers of evenly spaced batches of a pool; if none is inside, of one that starts before it."""
    low, high = -(-int(order.first[pool]) // size), int(order.first[pool + 1]) // size - 1
    if high < low:
        low = high = int(order.first[pool]) // size
    return np.linspace(low, high, count).astype(np.int64).clip(max=int(order.first[-1]) // size - 1)


def _neighbours(shares: Iterable[Share], rows: _Rows, total: int) -> Ints:
    """Return (pairs,): the first windows of pairs of neighbours, ascending, from all over these pools."""
    pieces = [(rows.pieces(share), share.pieces.count) for share in shares]
    start, count = (np.concatenate(each) for each in zip(*pieces, strict=True))
    ends = np.cumsum(count)
    some = np.arange(ends[-1]) if ends[-1] <= PAIRS else np.random.default_rng(0).integers(0, ends[-1], PAIRS)
    piece = np.searchsorted(ends, some, side="right")
    windows = start[piece] + some - (ends - count)[piece]
    return np.unique(windows[windows < total - 1])


def _find(windows: Ints, start: Ints, count: Ints) -> tuple[Ints, Ints]:
    """Return which of `windows`, ascending numbers, are in pieces, and at which position in these pieces."""
    low, high = np.searchsorted(windows, start), np.searchsorted(windows, start + count)
    found = spread(low, high - low)
    return found, windows[found] + np.repeat(np.cumsum(count) - count - start, high - low)


def _fill_batches(batches: Ints, starts: Ints, places: Ints, windows: Ints) -> None:
    """Put windows into their places in the sampled batches."""
    size = batches.shape[1]
    low, high = np.searchsorted(places, starts), np.searchsorted(places, starts + size)
    for batch, start, first, after in zip(batches, starts.tolist(), low.tolist(), high.tolist(), strict=True):
        batch[places[first:after] - start] = windows[first:after]


def _moments(x: Floats, y: Floats) -> Floats:
    """Return the sums from which `_correlation` is computed; those of several arrays can be added."""
    x, y = x - 0.5, y - 0.5
    # Not x @ y, for which a library would start threads.
    return np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def _correlation(sums: Floats) -> float:
    count, x, y, xx, yy, xy = sums.tolist()
    return float((count * xy - x * y) / np.sqrt((count * xx - x * x) * (count * yy - y * y)))
