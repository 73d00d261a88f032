"""Every window of a list of arrays, by plain loops, and small stores with these arrays."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

import store_spec
from store_spec.format.moments import moments
from store_spec.reading.argument_checks import fraction_of
from store_spec.reading.scaling import LEAST_REST
from store_spec.windows.index import WindowIndex
from store_spec.windows.order import EpochOrder, Share
from store_spec.windows.shape import Short, Target, WindowShape
from store_spec.windows.units import Costs
from store_spec.windows.windows import Windows
from tests.store import oracle
from tests.store.oracle import store_of

Sample = tuple[NDArray[Any], ...]
Sequences = list[tuple[NDArray[Any], NDArray[Any]]]

LENGTHS = (0, 1, 40, 3, 0, 7, 100, 2, 1, 15, 33, 5, 64, 8, 8, 20, 1, 0)
STEP_TARGETS: tuple[Target, ...] = ("future", "last", "aligned")


@dataclass(frozen=True, repr=False)
class Written:
    """Sequences of LENGTHS, as arrays and as the store to which they were written."""

    sequences: Sequences
    store: store_spec.Store


def write_numbered(path: Path, axis: Any, *, chunk: int) -> Written:
    """Write sequences of LENGTHS without equal values; chunks hold `chunk` steps, shards five chunks."""
    rows = np.arange(2 * sum(LENGTHS)).reshape(-1, 2)
    ends = np.cumsum(LENGTHS)
    sequences: Sequences = []
    for number, (length, end) in enumerate(zip(LENGTHS, ends, strict=True)):
        x = rows[end - length : end]
        y = {"step": -x[:, :1] - 1, "sequence": np.array([-number - 1]), "own": -np.ones((number % 4, 1), int)}[axis]
        sequences.append((x, y))
    inputs, labels = (list(each) for each in zip(*sequences, strict=True))
    sources = [f"s{number:02}" for number in range(len(LENGTHS))]
    options = {"label_axis": axis, "chunk": 16 * chunk, "shard": 80 * chunk}
    return Written(sequences, store_of(path, inputs, labels, sources=sources, **options))


def index_of_lengths(lengths: ArrayLike, shape: WindowShape) -> WindowIndex:
    """Return the index of all windows of sequences of these lengths."""
    counts = np.asarray(lengths, None if np.size(lengths) else np.int64)
    low, high = shape.steps or (0.0, 1.0)
    start, stop = np.zeros_like(counts), counts
    if shape.steps is not None:
        start, stop = fraction_of(counts, low), fraction_of(counts, high)
    return WindowIndex(start=start, stop=stop, shape=shape)


class Listed(NamedTuple):
    """A window of the oracle."""

    sequence: int
    start: int
    rows: list[int]  # the real input rows
    labels: list[int]  # the label rows that it uses


def rows_used(start: int, real: int, shape: WindowShape) -> tuple[list[int], list[int]]:
    """Return the rows and label rows of a window at `start` with this number of real rows."""
    rows = [start + k * shape.sampling_rate for k in range(real)]
    if shape.target == "future":
        return rows, [rows[-1] + (1 + shape.lead + k) * shape.sampling_rate for k in range(shape.horizon)]
    return rows, {"last": rows[-1:], "aligned": rows, "sequence": []}[shape.target]


def used_by(windows: Windows, number: int, real: int | None = None) -> Listed:
    """Return the rows that a window uses, with all its real rows or with fewer."""
    sequence, start = windows.index.locate(number)
    if real is None:
        real = int(windows.index.real_rows(sequence, start))
    rows, labels = rows_used(start, real, windows.shape)
    return Listed(sequence, start, rows, [row for row in labels if row < windows.index.stop[sequence]])


def rows_of_windows(windows: Windows) -> list[set[tuple[int, int]]]:
    """Return the rows and the label rows that windows use at any of their lengths, each as (sequence, row)."""
    found: list[set[tuple[int, int]]] = [set(), set()]
    for number in range(len(windows)):
        sequence, start = windows.index.locate(number)
        most = int(windows.index.real_rows(sequence, start))
        for real in range(min(windows.shape.least_window or most, most), most + 1):
            for rows, each in zip(used_by(windows, number, real)[2:], found, strict=True):
                each |= {(sequence, row) for row in rows}
    return found


def usable(
    length: int, steps: tuple[float, float] | None, after: int | None = None, before: int | None = None
) -> tuple[int, int]:
    """Return the usable steps of a sequence, by Python's rounding; `after` and `before` are steps."""
    begin, end = (math.floor(round(length * share, 6)) for share in steps or (0.0, 1.0))
    begin, end = max(begin, min(after or 0, length)), end if before is None else min(end, before)
    return begin, max(begin, end)


def list_windows(
    lengths: Iterable[int],
    shape: WindowShape,
    *,
    after: int | None = None,
    before: int | None = None,
    context: bool = False,
    starts: Sequence[int] | None = None,
) -> list[Listed]:
    """Try every start, and keep those whose rows and label rows are all usable; the first ones may be given.

    With `context` only label rows have to be after the first usable step.
    """
    reach = (rows_used(0, shape.least_window or shape.window, shape)[1] or [0])[0] if context else 0
    windows: list[Listed] = []
    for sequence, length in enumerate(lengths):
        first, end = usable(length, shape.steps, after, before)
        begin = first if first == end else max(0, first - reach) if starts is None else starts[sequence]
        found: list[Listed] = []

        def tried(start: int, real: int, sequence: int = sequence, end: int = end, found: Any = found) -> bool:
            rows, labels = rows_used(start, real, shape)
            if max(rows + (labels[:1] if shape.pad_end else labels)) >= end:
                return False
            found.append(Listed(sequence, start, rows, [row for row in labels if row < end]))
            return True

        whole_only = shape.window if not shape.pad_end or shape.target == "future" else 1
        for start in range(begin, end, shape.stride):
            any(tried(start, real) for real in range(shape.window, whole_only - 1, -1))
        # Only a sequence without a whole window is padded: with as many rows as fit, if one does.
        if not found and shape.short == "pad" and begin < end:
            any(tried(begin, real) for real in range(shape.window - 1, 0, -1))
            found = [window for window in found if (window.labels or window.rows)[0] >= first]
        windows += found
    return windows


def listed(sequences: Sequences, shape: WindowShape) -> list[Sample]:
    """Return the samples of all windows, in order."""
    windows = list_windows([len(x) for x, _ in sequences], shape)
    return [sample_of(*sequences[window.sequence], window, shape) for window in windows]


def sample_of(x: NDArray[Any], y: NDArray[Any], window: Listed, shape: WindowShape) -> Sample:
    """Return the sample of a window of a sequence."""
    real = [k < len(window.rows) for k in range(shape.window)]
    inputs = np.zeros((shape.window, *x.shape[1:]), x.dtype)
    inputs[real] = x[window.rows]
    if shape.target in ("future", "aligned"):
        labels = np.zeros((shape.horizon if shape.target == "future" else shape.window, *y.shape[1:]), y.dtype)
        labels[: len(window.labels)] = y[window.labels]
    else:
        labels = y if shape.target == "sequence" else y[window.labels[0]]
    sample: Sample = (inputs, labels)
    if shape.short == "pad" or shape.least_window or (shape.pad_end and shape.target != "future"):
        sample = (*sample, np.array(real))
    if shape.pad_end and shape.target == "future":
        sample = (*sample, np.array([k < len(window.labels) for k in range(shape.horizon)]))
    return sample


def normalise(rows: NDArray[Any], center: Any, scale: Any) -> NDArray[Any]:
    """Normalise by the definition, in the dtype of results; what the center loses in it counts if it is much."""
    dtype = np.dtype("float32" if rows.dtype in (np.dtype("float32"), np.dtype("int16")) else "float64")
    rounded, scale = np.asarray(center).astype(dtype), np.asarray(scale).astype(dtype)
    lost = center - rounded
    rest = np.where(np.abs(lost) > LEAST_REST * scale, lost, 0).astype(dtype)
    return np.asarray((rows.astype(dtype) - rounded - rest) / scale)


def center_and_scale(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each column: 0 and 1 without values, the value and 1 if it is constant."""
    centers, scales = [], []
    for column, mean, std in zip(rows.T, (each := moments(rows)).mean, each.std, strict=True):
        values = column[~np.isnan(column)]
        if not len(values) or (values == values[0]).all():
            centers.append(values[0] if len(values) else 0.0)
            scales.append(1.0)
        else:
            np.testing.assert_allclose([mean, std], [values.mean(dtype=float), values.std(dtype=float)], rtol=1e-9)
            centers.append(mean)
            scales.append(std)
    return np.array(centers, float), np.array(scales, float)


def same(found: Sample, wanted: Sample) -> bool:
    """Return whether two samples or batches are equal bit for bit, with their shapes and dtypes."""
    return len(found) == len(wanted) and all(map(oracle.same, found, wanted))


def all_same(found: Sequence[Sample], wanted: Sequence[Sample]) -> bool:
    """Return whether two lists of samples or batches are equal."""
    return len(found) == len(wanted) and all(map(same, found, wanted))


def unbatched(batches: Sequence[Sample]) -> list[Sample]:
    """Return the samples of batches, one after another."""
    return [tuple(array[i] for array in batch) for batch in batches for i in range(len(batch[0]))]


def keys(samples: Sequence[Sample]) -> list[bytes]:
    """Return each sample as bytes."""
    return [b"|".join(array.tobytes() for array in sample) for sample in samples]


def shapes(targets: tuple[Target, ...] = STEP_TARGETS, shorts: tuple[Short, ...] = ("drop", "pad")) -> Any:
    """Return a strategy of window shapes that fit LENGTHS."""
    fractions = st.tuples(st.integers(0, 9), st.integers(1, 10)).map(lambda pair: (pair[0] / 10, sum(pair) / 10))
    return st.builds(
        _shape,
        window=st.integers(1, 9),
        stride=st.integers(1, 12),
        horizon=st.integers(1, 3),
        lead=st.integers(-1, 2),
        sampling_rate=st.integers(1, 3),
        target=st.sampled_from(targets),
        short=st.sampled_from(shorts),
        pad_end=st.booleans(),
        steps=st.none() | fractions.filter(lambda pair: pair[1] <= 1),
    )


def _shape(*, target: Target, pad_end: bool, **more: Any) -> WindowShape:
    return WindowShape(target=target, pad_end=pad_end and target != "last", **more)


def selections() -> Any:
    """Return a strategy of numbers of sequences: all, some in any order, some twice."""
    number = st.integers(0, len(LENGTHS) - 1)
    return st.just(list(range(len(LENGTHS)))) | st.lists(number, max_size=8) | st.lists(number, max_size=8).map(sorted)


COSTS = Costs(row=10, window=4, piece=3, pool=7, stored=10, sample=100)


def order_of(
    shape: WindowShape,
    budget: int,
    random: tuple[int, int] | None,
    *,
    selection: Iterable[int] = range(len(LENGTHS)),
    chunk: int = 8,
    **options: Any,
) -> EpochOrder:
    """Return the order of the windows of selected sequences of LENGTHS."""
    numbers = list(selection)
    index = index_of_lengths(np.array(LENGTHS, np.int64)[numbers], shape)
    starts = (np.cumsum(LENGTHS) - LENGTHS)[numbers].astype(np.int64)
    return EpochOrder(index, starts, chunk=chunk, costs=COSTS, budget=budget, random=random, **options)


def steps_needed(index: WindowIndex, sequence: int, start: int) -> int:
    """Return the number of steps from the start of a window to the end of its rows and labels."""
    real = int(index.real_rows(sequence, start))
    needed = (real - 1) * index.shape.sampling_rate + 1 + index.shape.label_span
    return min(needed, int(index.stop[sequence]) - start)


def numbers_of(share: Share) -> NDArray[np.int64]:
    """Return the number of each window of a share, from its pieces."""
    pieces = zip(share.pieces.number.tolist(), share.pieces.count.tolist(), strict=True)
    return np.array([number + turn for number, count in pieces for turn in range(count)], np.int64)


def epoch(order: EpochOrder, rank: int = 0, world_size: int = 1) -> list[int]:
    """Return the numbers of a rank's windows in order."""
    found: list[int] = []
    for pool in range(len(order)):
        share = order.share(pool, rank, world_size)
        found += order.arrange(pool, share, numbers_of(share)).tolist()
    return found
