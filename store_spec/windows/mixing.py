"""How well the order of an epoch mixes, beside a permutation of all windows: arithmetic, which reads no rows.

    windows     0 1 2 3 4 5 6 7 8 9        in the order of their rows
    epoch       8 5 0 9 4 1 6 3 7 2        in the order in which batches take them, here 5 at a time
    batch 0     8 5 0 9 4                  how many sequences these are of, and which of them overlap
    neighbours  3 and 4 come at 7 and 4    the distance is 3 of 10 windows: 0.3 of the epoch
    correlation of the first line with the place at which each window comes

All of it is measured on the very order that batches have. Of a large epoch some batches, lanes and neighbours are
looked at, always the same ones: see `BATCHES`, `POOLS`, `FEW` and `PAIRS`. The numbers of one lane (see `order`) are in
memory at a time, so that the most that is taken does not grow with the store.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import spread
from store_spec.reading.ranks import Turns, memory_bytes, whole_number
from store_spec.windows.epoch import Epoch
from store_spec.windows.index import WindowIndex
from store_spec.windows.order import EpochOrder, Share

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BATCHES = 64  # that are looked at, all where there are no more
POOLS = 8  # that they are of at least, where there are so many: each is worked out whole
FEW = 10**7  # windows of which as many pools are worked out as hold them, one for each batch at most
PAIRS = 2048  # neighbours, all where there are no more: each takes one lane or two
NEAR = 0.05  # the quantile that tells of neighbours that come soon after one another
MARKS = 20  # bits of a window's number by which it is sorted out at once
EXPECTED = 2**16  # windows, evenly spaced, over which an expectation is averaged


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What is said of an order.

    Args:
        sequences: Different sequences in a batch, on average.
        overlapping: The share of a batch's windows that share steps with another one of the batch, on average.
        correlation: Between the place of windows in the store and in the epoch, -1 to 1.
        apart: The median distance in the epoch between windows that are neighbours in the store, as a share of it.
        near: The 5 % quantile of this distance.
    """

    sequences: float
    overlapping: float
    correlation: float
    apart: float
    near: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How well an order mixes. Get it from `measure`; as text it is a table.

    Args:
        windows: In the epoch.
        size: Windows in a batch.
        pools: In the epoch: the rows of one are in memory together, and its windows are drawn from all of it.
        runs: Runs of neighbouring windows that they are made of; those of a pool are from all over the store.
        ours: What was found.
        ideal: What is to be expected of a permutation of all windows.
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


def measure(windows: Windows, size: int, *, seed: int = 0, epoch: int = 0, memory: int | str = "256MB") -> Mixing:
    """Measure how well an epoch of `windows.batches(size, shuffle=True, ...)` of these arguments mixes.

    It takes a second or two, whatever the size of the store, and reads no rows.

    Args:
        windows: Whose windows.
        size: Windows in a batch, those of all ranks together.
        seed: As for batches.
        epoch: As for batches.
        memory: As for batches.

    Raises:
        WindowError: There are fewer than two windows, or batches of these arguments are impossible.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     for number in range(8):
    ...         writer.append(np.ones((40, 2), "float32"), np.ones((40, 1), "float32"), source=f"walk-{number}")
    >>> mixing = measure(store_spec.open_store(path).windows(4), size=8)
    >>> round(mixing.ideal.sequences, 2), 0.8 < mixing.sequences < 1.2
    (5.29, True)
    """
    random = (whole_number("seed", seed, 0), whole_number("epoch", epoch, 0))
    windows = windows.of_epoch(*random)
    plan = Epoch.plan(
        windows,
        Turns(samples=len(windows), size=size),
        memory=memory_bytes(memory),
        random=random,
        index=False,
        transform=None,
    )
    if len(windows) < 2:
        few = "1 window" if len(windows) else "0 windows"
        raise WindowError(f"{windows.store.path}: {few}; there is no mixing of fewer than 2")
    return measure_order(plan.order, windows.index, windows.store.starts, size)


def measure_order(order: EpochOrder, index: WindowIndex, starts: Ints, size: int) -> Mixing:
    """Measure an order of at least two windows.

    Args:
        order: The order.
        index: Its windows.
        starts: (sequences,), the row of the store at which each sequence begins.
        size: Windows in a batch.
    """
    rows = _Rows(index, starts)
    total, size = len(index), min(size, len(index))
    begins, pools = _batches(order, size)
    first = _neighbours(total)
    wanted = _Wanted(np.unique(np.concatenate((first, first + 1))), total)
    batches = np.empty((len(begins), size), np.int64)
    sums, runs = np.zeros(6), 0
    for number in range(len(order)):
        share = order.share(number)
        begin = rows.pieces(share)
        runs += 1 + int(np.count_nonzero(begin[1:] != begin[:-1] + share.pieces.count[:-1]))
        lanes = range(len(share.lanes)) if number in pools else _lanes_of(share, rows, wanted.windows)
        for lane in lanes:
            places, windows = _lane(order, number, lane, len(share.lanes), rows)
            sums += _moments(windows / total, places / total)
            _take(batches, begins, places, windows)
            wanted.take(places, windows)
    distance = np.abs(wanted.places(first + 1) - wanted.places(first)) / total
    ours = Figures(
        sequences=float(np.mean([len(np.unique(rows.sequences(batch))) for batch in batches])),
        overlapping=float(np.mean([rows.overlapping(batch) for batch in batches])),
        correlation=_correlation(sums),
        apart=float(np.median(distance)),
        near=float(np.quantile(distance, NEAR)),
    )
    ideal = Figures(
        sequences=rows.expected_sequences(size),
        overlapping=rows.expected_overlapping(size),
        correlation=0.0,
        apart=_expected_distance(0.5),
        near=_expected_distance(NEAR),
    )
    return Mixing(windows=total, size=size, pools=len(order), runs=runs, ours=ours, ideal=ideal)


class _Rows:
    """Windows numbered in the order of their rows, in which an index need not have them."""

    def __init__(self, index: WindowIndex, starts: Ints) -> None:
        counts = np.diff(index.first)
        held = np.flatnonzero(counts)
        held = held[np.argsort(starts[held], kind="stable")]
        self._counts, self._index, self._held = counts[held], index, held
        self._first = np.concatenate((np.zeros(1, np.int64), np.cumsum(self._counts)))
        self._shift = np.zeros(len(counts), np.int64)  # from the number in the index to that by rows
        self._shift[held] = self._first[:-1] - index.first[held]

    def pieces(self, share: Share) -> Ints:
        """(pieces,): the number of the first window of each."""
        return np.asarray(share.pieces.number + self._shift[share.pieces.sequence], np.int64)

    def sequences(self, windows: Ints) -> Ints:
        """Return which sequence each is of."""
        return np.asarray(np.searchsorted(self._first, windows, side="right") - 1, np.int64)

    def _numbers(self, windows: Ints) -> Ints:
        """Return the numbers that the index has for windows."""
        return np.asarray(windows - self._shift[self._held[self.sequences(windows)]], np.int64)

    def overlapping(self, batch: Ints) -> float:
        """Return the share of a batch's windows that share steps with another one of it."""
        sequences, starts = self._index.locate_many(self._numbers(np.sort(batch)))
        close = (np.diff(starts) < self._index.shape.input_span) & (np.diff(sequences) == 0)
        return float(np.mean(np.append(close, False) | np.append(False, close)))

    def expected_sequences(self, size: int) -> float:
        """Return how many sequences that many windows are of, drawn at random without putting any back."""
        counts, sequences = np.unique(self._counts, return_counts=True)
        return float(((1 - _none_of(counts, int(self._first[-1]), size)) * sequences).sum())

    def expected_overlapping(self, size: int) -> float:
        """Return the share of that many windows, drawn in the same way, that share steps with another one."""
        total = int(self._first[-1])
        windows = np.unique(np.linspace(0, total - 1, min(total, EXPECTED)).astype(np.int64))
        sequences, starts = self._index.locate_many(self._numbers(windows))
        span = self._index.shape.input_span
        low, high = self._index.windows_in(sequences, starts - span + 1, starts + span)
        close, often = np.unique(high - low - 1, return_counts=True)
        return float(((1 - _none_of(close, total - 1, size - 1)) * often).sum() / len(windows))


class _Wanted:
    """Where in the epoch some windows come, found while lanes go by."""

    def __init__(self, windows: Ints, total: int) -> None:
        self.windows = windows  # ascending
        self._places = np.empty_like(windows)
        # Most windows of a lane are not wanted, and need not be searched for.
        self._shift = max(0, total.bit_length() - MARKS)
        self._marked = np.zeros((total >> self._shift) + 1, np.bool_)
        self._marked[windows >> self._shift] = True

    def take(self, places: Ints, windows: Ints) -> None:
        """Remember where those of these windows come that are wanted."""
        some = np.flatnonzero(self._marked[windows >> self._shift])
        found = np.searchsorted(self.windows, windows[some]).clip(max=len(self.windows) - 1)
        hit = self.windows[found] == windows[some]
        self._places[found[hit]] = places[some[hit]]

    def places(self, windows: Ints) -> Ints:
        """Return where these come, all of them wanted."""
        return self._places[np.searchsorted(self.windows, windows)]


def _none_of(marked: Ints, total: int, drawn: int) -> Floats:
    """Return the chance that none of `marked` ones is drawn, of `total`, none of which is put back."""
    chance = np.ones(len(marked))
    for number in range(drawn):
        chance *= np.maximum(0.0, 1 - marked / (total - number))
    return chance


def _expected_distance(quantile: float) -> float:
    """Return a quantile of the distance between two places that are drawn at random, as a share of all places."""
    return float(1 - np.sqrt(1 - quantile))


def _batches(order: EpochOrder, size: int) -> tuple[Ints, set[int]]:
    """Choose batches: (batches,), where in the epoch each begins, ascending; and the pools that they are of."""
    total, pools = int(order.first[-1]), len(order)
    if total // size <= BATCHES:
        begins = np.arange(total // size) * size
    else:
        some = min(pools, BATCHES, max(POOLS, FEW * pools // total))
        each = -(-BATCHES // some)
        chosen = [_batches_of(order, (2 * turn + 1) * pools // (2 * some), size, each) for turn in range(some)]
        begins = np.unique(np.concatenate(chosen)) * size
    low, high = (np.searchsorted(order.first, at, side="right") - 1 for at in (begins, begins + size - 1))
    return begins, set(spread(low, high + 1 - low).tolist())


def _batches_of(order: EpochOrder, pool: int, size: int, count: int) -> Ints:
    """Return the numbers of some batches of a pool, evenly spaced; of one that begins before it if none lies in it."""
    low, high = -(-int(order.first[pool]) // size), int(order.first[pool + 1]) // size - 1
    if high < low:
        low = high = int(order.first[pool]) // size
    return np.linspace(low, high, count).astype(np.int64).clip(max=int(order.first[-1]) // size - 1)


def _neighbours(total: int) -> Ints:
    """(pairs,): the first of some two neighbours, anywhere in the store."""
    if total - 1 <= PAIRS:
        return np.arange(total - 1)
    return np.unique(np.random.default_rng(0).integers(0, total - 1, PAIRS))


def _lanes_of(share: Share, rows: _Rows, wanted: Ints) -> list[int]:
    """Return which lanes of a pool hold some of these windows, which ascend."""
    begin = rows.pieces(share)
    low, high = np.searchsorted(wanted, begin), np.searchsorted(wanted, begin + share.pieces.count)
    held = np.flatnonzero(high > low)
    before = np.cumsum(share.pieces.count) - share.pieces.count
    each = spread(low[held], (high - low)[held])
    places = np.repeat(before[held] - begin[held], (high - low)[held]) + wanted[each]
    by_begin = np.argsort(share.begin, kind="stable")
    by_begin = by_begin[share.size[by_begin] > 0]
    lanes = by_begin[np.searchsorted(share.begin[by_begin], places, side="right") - 1]
    return sorted(set(lanes.tolist()))


def _lane(order: EpochOrder, number: int, lane: int, lanes: int, rows: _Rows) -> tuple[Ints, Ints]:
    """Return where in the epoch the windows of one lane of a pool come, ascending, and which they are."""
    begin = int(order.first[number]) + lane
    share = order.share(number, begin % lanes, lanes)  # lanes take turns as ranks do
    windows = order.arrange(number, share, spread(rows.pieces(share), share.pieces.count))
    return begin + lanes * np.arange(len(windows)), windows.astype(np.int64, copy=False)


def _take(batches: Ints, begins: Ints, places: Ints, windows: Ints) -> None:
    """Put windows to their places in the batches that they are of."""
    size = batches.shape[1]
    low, high = np.searchsorted(places, begins), np.searchsorted(places, begins + size)
    for batch, begin, first, after in zip(batches, begins.tolist(), low.tolist(), high.tolist(), strict=True):
        batch[places[first:after] - begin] = windows[first:after]


def _moments(x: Floats, y: Floats) -> Floats:
    """Return sums that add up."""
    x, y = x - 0.5, y - 0.5
    # Not x @ y: a library would start threads for it, which wait for processors that others use.
    return np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def _correlation(sums: Floats) -> float:
    count, x, y, xx, yy, xy = sums.tolist()
    return float((count * xy - x * y) / np.sqrt((count * xx - x * x) * (count * yy - y * y)))
