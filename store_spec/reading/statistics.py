"""Exact statistics of a selection of sequences, and normalisation by them.

They are merged from the moments of each sequence in the store, so no rows are read, except for quantiles. These map
values to whole numbers in the same order, and find the bits of each quantile's two neighbours, the leading bits first.

    float32   value        -2.5   -0.0    0.0    1.0   1.5           all bits of a negative value are inverted,
              whole number 3fdf.. 7fff.. 8000.. bf80.. bfc0..        only the first bit of other values
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.disk.storage import in_order
from store_spec.errors import WindowError
from store_spec.format.moments import Floats, Moments, merge, moments, over_features, stacked
from store_spec.format.runs import spread
from store_spec.reading.argument_checks import array_of
from store_spec.reading.periods import moment_of, usable_steps
from store_spec.reading.read_ranges import BLOCK_BYTES, every_row, read_ranges
from store_spec.reading.scaling import Normalizer, Scale, Scaler, range_scale, standard
from store_spec.reading.selection import Selection
from store_spec.schema import MOMENTS

if TYPE_CHECKING:
    from store_spec.store import Store

MERGED_VALUES = 2**20  # values of each moment that are in memory together
COUNTERS = 2**21  # counters of quantiles in one pass, 16 MiB
MOST_BITS, LEAST_BITS = 16, 4  # bits that are counted in one pass

Blocks = Callable[[], Iterable[NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics(Normalizer):
    """Count, mean, standard deviation (as `np.std`), minimum and maximum of features and targets. From `store.stats()`.

    A feature is a position on the last axis of a row: an image has one feature per colour. NaN values are ignored.

    Args:
        inputs: The statistics of the features.
        labels: The statistics of the targets, as in `stats.labels.mean`.
        store: The sequences, for quantiles, which read rows; None if there are none.
        used: Which rows of these sequences; None for all.
        together: Whether each feature has the statistics of all features: see `over_features`.

    >>> from store_spec.format.moments import moments
    >>> rows = np.array([[1.0, 7.0], [3.0, 7.0]])
    >>> stats = Statistics(inputs=moments(rows), labels=moments(rows[:, :1]))
    >>> stats.mean.tolist(), stats.std.tolist(), stats.normalize(rows).tolist()
    ([2.0, 7.0], [1.0, 0.0], [[-1.0, 0.0], [1.0, 0.0]])
    """

    inputs: Moments
    labels: Moments
    store: Store | None = field(default=None, repr=False)
    used: UsedRows | None = field(default=None, repr=False)
    together: bool = field(default=False, repr=False)

    @property
    def count(self) -> NDArray[np.int64]:
        """Int64 (features,): how many values of the inputs are not NaN."""
        return self.inputs.count

    @property
    def mean(self) -> Floats:
        """Float64 (features,), of the inputs; NaN for a feature without any value."""
        return self.inputs.mean

    @property
    def std(self) -> Floats:
        """Float64 (features,), of the inputs: the population standard deviation, as `np.std`."""
        return self.inputs.std

    @property
    def min(self) -> Floats:
        """Float64 (features,), of the inputs."""
        return self.inputs.min

    @property
    def max(self) -> Floats:
        """Float64 (features,), of the inputs."""
        return self.inputs.max

    def over_features(self) -> Statistics:
        """Return statistics of the values of all features together, and of all targets, for one scale of an image, say.

        Each feature then has these same numbers. Quantiles of them are not supported.
        """
        return replace(self, inputs=over_features(self.inputs), labels=over_features(self.labels), together=True)

    def standard(self) -> Scaler:
        """Return the normalisation to mean 0 and standard deviation 1, which is also that of `normalize=stats`."""
        return self._scaled(standard(self.inputs), standard(self.labels))

    def minmax(self) -> Scaler:
        """Return the normalisation to minimum 0 and maximum 1; a constant feature becomes 0."""
        return self._scaled(*(range_scale(each.min, each.min, each.max) for each in (self.inputs, self.labels)))

    def robust(self, low: float = 0.25, high: float = 0.75) -> Scaler:
        """Return the normalisation to median 0 and inter-quartile range 1, which outliers do not change.

        A feature whose two quantiles are the same is divided by 1. This reads the rows several times: see `quantiles`.

        Args:
            low: The lower end of the range, as a quantile.
            high: The upper end.

        Raises:
            WindowError: `low` is not below `high`, one of them is not a quantile, or these statistics are not from
                `store.stats()`.
        """
        if not low < high:
            raise WindowError(f"robust(low={low}, high={high}); low is below high, both from 0 to 1")
        found = self.quantiles([0.5, low, high])
        return self._scaled(range_scale(*found.inputs), range_scale(*found.labels))

    def quantiles(self, q: ArrayLike) -> Quantiles:
        """Return exact quantiles of the same sequences, as `store.quantiles` does."""
        if self.together:
            raise WindowError("quantiles and robust() are of single features, and these statistics are of all together")
        if self.store is None:
            raise WindowError("quantiles need the rows, and these statistics are of none: take those of store.stats()")
        return quantiles(self.store, q, self.used)

    def stop_of_each(self, store: Store) -> NDArray[np.int64]:
        """Return (sequences,): the step after the last that these are of, or 0; those of another store are of none."""
        mine = self.store
        if mine is None or (mine.path != store.path and mine.identity != store.identity):
            return np.zeros(len(store), np.int64)
        # One of the two may have been opened before the store grew.
        stop = np.zeros(max(mine.counts.sequences, store.counts.sequences), np.int64)
        np.maximum.at(stop, mine.selection, mine.lengths if self.used is None else self.used.stop)
        return stop[store.selection]

    def _scaler(self) -> Scaler:
        return self.standard()

    def _scaled(self, inputs: Scale, labels: Scale) -> Scaler:
        """Return a scaler with these numbers, and with the names of features and targets."""
        if self.store is None:
            return Scaler(inputs=inputs, labels=labels)
        schema = self.store.schema
        inputs, labels = replace(inputs, names=schema.inputs.names), replace(labels, names=schema.labels.names)
        return Scaler(inputs=inputs, labels=labels, statistics=self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UsedRows:
    """The rows of some statistics."""

    # For `inputs` and `labels` the first rows and the rows after the last of ranges of rows.
    ranges: Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    stop: NDArray[np.int64]  # (sequences,), the step after the last one that is used of each sequence

    def sequences_of(self, store: Store) -> Store:
        """Return the sequences that have used steps; a label of a whole sequence counts if one of its steps does."""
        return store.view(np.flatnonzero(self.stop))

    def blocks(self, store: Store, name: str) -> Iterable[NDArray[Any]]:
        """Yield the rows of an array, some MiB at a time."""
        start, stop = self.ranges[name]
        store.snapshot.check_files()  # the ranges rely on the number of steps that the root claims
        most = max(1, BLOCK_BYTES // store.schema.rows(name).nbytes)
        pieces = -(-(stop - start) // most)
        low = spread(start, pieces, most)
        high = np.minimum(low + most, np.repeat(stop, pieces))
        group = (np.cumsum(high - low) - 1) // most
        for some in np.split(np.arange(len(low)), np.flatnonzero(np.diff(group)) + 1):
            if len(some):
                yield np.concatenate(read_ranges(store.snapshot, name, low[some], high[some]))


def stats_of(store: Store, steps: tuple[float, float] | None, before: Any, after: Any) -> Statistics:
    """Return the statistics of these sequences, or of a period of them; only sequences that it divides are read.

    The arguments and errors are those of `store.stats`.
    """
    if steps is before is after is None:
        warn_without_steps(store, stacklevel=4)
    found = unchecked_stats(store, steps, before, after)
    store.snapshot.check_not_replaced()
    return found


def unchecked_stats(
    store: Store, steps: tuple[float, float] | None = None, before: Any = None, after: Any = None
) -> Statistics:
    """Return statistics as `stats_of`; the caller calls `Snapshot.check_not_replaced` afterwards."""
    if steps is None and before is None and after is None:
        inputs, labels = in_order(store.snapshot.storage, partial(moments_of, store), ("inputs", "labels"))
        return Statistics(inputs=inputs, labels=labels, store=store)
    bounds = {name: moment_of(store, name, value) for name, value in (("before", before), ("after", after))}
    start, stop = usable_steps(store, steps, **bounds)
    if not (stop - start).any():
        raise WindowError(f"{store.path}: there are no steps in this period, of {int(store.lengths.sum()):,} in all")
    first, some = store.starts, stop > start
    ranges = dict.fromkeys(("inputs", "labels"), (first + start, first + stop))
    used = UsedRows(ranges=ranges, stop=np.where(some, stop, 0))
    is_whole = (start == 0) & (stop == store.lengths)
    whole, divided = np.flatnonzero(is_whole), ~is_whole & some
    rest = replace(used, ranges={name: (low[divided], high[divided]) for name, (low, high) in ranges.items()})
    found = {}
    for name in ("inputs", "labels") if store.schema.label_axis == "step" else ("inputs",):
        parts = [moments_of(store.view(whole), name), *map(moments, rest.blocks(store, name))]
        found[name] = merge(stacked(parts))
    labels = found.get("labels") or moments_of(used.sequences_of(store), "labels")
    return Statistics(inputs=found["inputs"], labels=labels, store=store, used=used)


def warn_without_steps(store: Selection, stacklevel: int) -> None:
    """Warn that statistics of these sequences are those of nothing, if they have no steps."""
    if not store.lengths.any():
        warnings.warn(f"{store.path}: statistics of 0 steps, in {len(store):,} sequences", stacklevel=stacklevel)


def moments_of(store: Store, name: str) -> Moments:
    """Return the moments of `inputs` or `labels` of all these sequences together, from the tables."""
    tables = [f"stats/{name}_{moment}" for moment in MOMENTS]
    numbers = store.selection
    # A power of 2 gives the same bits as merging all sequences at once.
    size = 1 << max(0, (MERGED_VALUES // store.schema.rows(name).features).bit_length() - 1)
    if (np.diff(numbers) <= 0).any():  # not ascending: parts of the selection may be spread over the whole store
        return merge(Moments(*(table[numbers] for table in store.snapshot.read_tables(tables))))
    parts = []
    for start in range(0, max(1, len(numbers)), size):
        some = numbers[start : start + size]
        low, high = (int(some[0]), int(some[-1]) + 1) if len(some) else (0, 0)
        parts.append(merge(Moments(*(table[some - low] for table in store.snapshot.read_tables(tables, low, high)))))
    return merge(stacked(parts))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantiles:
    """Quantiles of each feature and target. From `store.quantiles`.

    Args:
        q: (quantiles,), numbers from 0 to 1.
        inputs: Float64 (quantiles, features), of the inputs: the result of `np.nanquantile` for float64. NaN for a
            feature without any value, and for complex numbers, which have no order.
        labels: Float64 (quantiles, targets), of the labels.
    """

    q: Floats
    inputs: Floats
    labels: Floats


def quantiles(store: Store, q: ArrayLike, used: UsedRows | None = None) -> Quantiles:
    """Return exact quantiles of all features and targets of these sequences. Their rows are read several times.

    Args:
        store: The sequences. A feature is a position on the last axis of a row, as for `stats`; NaN is ignored.
        q: One or more numbers from 0 to 1. Quantiles between two values are interpolated, as by `np.quantile`.
        used: Which rows; None for all.

    Raises:
        WindowError: `q` is not as above.
        ChecksumError: The bytes on disk are not those that were written.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walk.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("int64", ())) as writer:
    ...     writer.append(np.arange(10, dtype="float32").reshape(5, 2), np.arange(5), source="walk")
    >>> found = quantiles(store_spec.open_store(path), [0.25, 0.5, 0.75])
    >>> found.inputs.tolist(), found.labels.tolist()
    ([[2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], [[1.0], [2.0], [3.0]])
    """
    try:
        fractions = np.atleast_1d(np.array(array_of(q).tolist(), np.float64))
    except (TypeError, ValueError):
        fractions = np.full(1, np.nan)
    if fractions.ndim != 1 or not ((fractions >= 0) & (fractions <= 1)).all():
        raise WindowError(f"{store.path}: q={q!r:.80}; quantiles are numbers from 0 to 1")
    warn_without_steps(store, stacklevel=4)
    results = {}
    for name in ("inputs", "labels"):
        rows = store.schema.rows(name)

        def blocks(name: str = name, features: int = rows.features) -> Iterable[NDArray[Any]]:
            if used is not None and (name == "inputs" or store.schema.label_axis == "step"):
                return (block.reshape(-1, features) for block in used.blocks(store, name))
            of = store if used is None else used.sequences_of(store)
            return (block.reshape(-1, features) for block in every_row(of, name))

        results[name] = quantiles_of_columns(blocks, rows.features, rows.dtype, fractions)
    store.snapshot.check_not_replaced()
    return Quantiles(q=fractions, **results)


def quantiles_of_columns(blocks: Blocks, features: int, dtype: np.dtype[Any], q: Floats) -> Floats:
    """Return (quantiles, features) of blocks of shape (rows, features); `blocks` is called for each pass."""
    if dtype.kind == "c" or not len(q):
        return np.full((len(q), features), np.nan)
    keys = np.zeros((2, len(q), features), np.uint64)  # the known bits of the values below and above each quantile
    weight = np.zeros(keys.shape[1:])  # of the value above
    rank = np.zeros(keys.shape, np.int64)  # among the values with the same known bits
    count = np.zeros(features, np.int64)
    bits = unknown = 8 * dtype.itemsize
    while unknown:
        prefixes = [np.unique(keys[:, :, column]) for column in range(features)]
        room = COUNTERS // sum(map(len, prefixes))
        width = min(unknown, max(LEAST_BITS, min(MOST_BITS, room.bit_length() - 1)))
        counts = [np.zeros((len(each), 2**width), np.int64) for each in prefixes]
        for block in blocks():
            if unknown == bits:
                count += len(block) - (np.isnan(block).sum(axis=0) if dtype.kind == "f" else 0)
            for column, values in enumerate(_keys(block)):
                for number, prefix in enumerate(prefixes[column]):
                    some = values if unknown == bits else values[values >> unknown == prefix]
                    next_bits = (some >> (unknown - width)) & (2**width - 1)
                    counts[column][number] += np.bincount(next_bits.astype(np.intp), minlength=2**width)
        if unknown == bits:
            last = np.maximum(count - 1, 0)
            below = np.floor(last * q[:, None])
            weight = last * q[:, None] - below
            rank[:] = below, np.minimum(below + 1, last)
        unknown -= width
        before = keys.copy()
        for column, each in enumerate(prefixes):
            for prefix, counters in zip(each, counts[column], strict=True):
                mine, ends = before[:, :, column] == prefix, np.cumsum(counters)
                at = np.searchsorted(ends, rank[mine, column], side="right").clip(max=2**width - 1)
                rank[mine, column] -= (ends - counters)[at]
                keys[mine, column] = (prefix << width) | at.astype(np.uint64)
    low, high = _values(keys, dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        distance = high - low
        between = np.where(weight >= 0.5, high - distance * (1 - weight), low + distance * weight)
    return np.where(count == 0, np.nan, between + 0.0)  # -0.0 becomes 0.0


def _keys(block: NDArray[Any]) -> NDArray[np.unsignedinteger[Any]]:
    """Map values to unsigned whole numbers in the same order, (columns, rows); NaN becomes the largest number."""
    values = block.T.copy(order="C")  # overwritten below
    size, kind = values.dtype.itemsize, values.dtype.kind
    bits = values.view(f"u{size}")
    sign = bits.dtype.type(1 << (8 * size - 1))
    if kind == "f":
        missing = np.isnan(values)
        negative = values.view(f"i{size}") >> (8 * size - 1)  # all bits, or none
        bits ^= negative.view(bits.dtype) | sign
        bits[missing] = np.iinfo(bits.dtype).max
    if kind == "i":
        bits ^= sign
    return bits


def _values(keys: NDArray[np.uint64], dtype: np.dtype[Any]) -> Floats:
    """Undo `_keys`, and return float64."""
    bits = keys.astype(f"u{dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * dtype.itemsize - 1))
    if dtype.kind == "f":
        bits = np.where(bits & sign, bits ^ sign, ~bits)
    elif dtype.kind == "i":
        bits = bits ^ sign
    return bits.view(dtype).astype(np.float64)
