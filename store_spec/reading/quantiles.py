"""Exact quantiles of a selection of sequences, in memory that does not grow with it.

A sketch (t-digest, KLL, DDSketch) would read the rows once, or never if the store had one per sequence. But it only
approximates quantiles, and mostly depends on chance or on the order of the values. The method here is exact and
reproducible. It maps values to whole numbers in the same order, and counts them by their leading bits. Then it counts
those that share these bits with a quantile by their next bits, and so on, until few enough are left to sort. Float32
usually takes two passes over the rows, float64 two or three; values that are all alike take as many as they have bits.

    float32   value        -2.5   -0.0    0.0    1.0   1.5           all bits of a negative value are inverted,
              whole number 3fdf.. 7fff.. 8000.. bf80.. bfc0..        only the first bit of other values
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import Floats
from store_spec.reading.read_ranges import every_row

if TYPE_CHECKING:
    from store_spec.store import Store

Keys = NDArray[np.unsignedinteger[Any]]
Blocks = Callable[[], Iterable[NDArray[Any]]]

COUNTERS = 2**19  # counters in one pass, 4 MiB
MOST_BITS, LEAST_BITS = 16, 4  # bits that are counted in one pass
SORTED = 2**20  # so many remaining values are collected and sorted


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


def quantiles(store: Store, q: ArrayLike) -> Quantiles:
    """Return exact quantiles of all features and targets of these sequences. Their rows are read several times.

    Args:
        store: The sequences. A feature is a position on the last axis of a row, as for `stats`; NaN is ignored.
        q: One or more numbers from 0 to 1. Quantiles between two values are interpolated, as by `np.quantile`.

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
    fractions = np.atleast_1d(np.asarray(q, np.float64))
    if fractions.ndim != 1 or not ((fractions >= 0) & (fractions <= 1)).all():
        raise WindowError(f"{store.path}: q={q!r:.80}; quantiles are numbers from 0 to 1")
    results = {}
    for name in ("inputs", "labels"):
        rows = store.schema.rows(name)

        def blocks(name: str = name, features: int = rows.features) -> Iterable[NDArray[Any]]:
            return (block.reshape(-1, features) for block, _ in every_row(store, name))

        if rows.dtype.kind == "c" or not len(fractions):
            results[name] = np.full((len(fractions), rows.features), np.nan)
        else:
            results[name] = of_columns(blocks, rows.features, rows.dtype, fractions)
    return Quantiles(q=fractions, **results)


def of_columns(blocks: Blocks, features: int, dtype: np.dtype[Any], q: Floats) -> Floats:
    """Return (quantiles, features) of blocks of shape (rows, features); `blocks` is called several times."""
    search = _QuantileSearch(features, dtype, q)
    while search.unknown_bits:
        search.scan(_keys(block) for block in blocks())
    below, above = _values(search.keys, dtype)
    part = search.part
    with np.errstate(over="ignore", invalid="ignore"):
        distance = above - below
        between = np.where(part >= 0.5, above - distance * (1 - part), below + distance * part)
    return np.where(search.count == 0, np.nan, between + 0.0)  # -0.0 becomes 0.0


class _QuantileSearch:
    """Finds the values on either side of each quantile of each column, by their bits, leading bits first.

    Attributes:
        unknown_bits: How many bits are not known yet.
        keys: Uint64 (2, quantiles, columns), the known bits of the values below and above each quantile.
        part: (quantiles, columns), the position of the quantile between the two, from 0 to 1.
        count: (columns,), values that are not missing.
    """

    def __init__(self, columns: int, dtype: np.dtype[Any], q: Floats) -> None:
        self.unknown_bits = self._bits = 8 * dtype.itemsize
        self.keys = np.zeros((2, len(q), columns), np.uint64)
        self.part = np.zeros((len(q), columns))
        self.count = np.zeros(columns, np.int64)
        self._q, self._floats = q, dtype.kind == "f"
        self._rank = np.zeros(self.keys.shape, np.int64)  # among the values with the same known bits
        self._few = False  # whether these values are few enough to sort

    def scan(self, blocks: Iterable[Keys]) -> None:
        """Pass over all values once, in blocks (columns, rows)."""
        prefixes = [np.unique(self.keys[:, :, column]).tolist() for column in range(len(self.count))]
        if self._few:
            self._sort(blocks, prefixes)
        else:
            self._count(blocks, prefixes)

    def _count(self, blocks: Iterable[Keys], prefixes: list[list[int]]) -> None:
        """Count the values by their next bits."""
        first, room = self.unknown_bits == self._bits, COUNTERS // sum(map(len, prefixes))
        width = min(self.unknown_bits, max(LEAST_BITS, min(MOST_BITS, room.bit_length() - 1)))
        self.unknown_bits -= width
        counts = [np.zeros((len(each), 2**width), np.int64) for each in prefixes]
        for keys in blocks:
            if first:
                self.count += keys.shape[1]
                if self._floats:
                    self.count -= np.count_nonzero(keys == np.iinfo(keys.dtype).max, axis=1)
            for column, values in enumerate(keys):
                for number, prefix in enumerate(prefixes[column]):
                    bits = self._with_prefix(values, prefix, self.unknown_bits + width) >> self.unknown_bits
                    bits = (bits & (2**width - 1)).astype(np.intp)
                    counts[column][number] += np.bincount(bits, minlength=2**width)
        if first:
            place = np.maximum(self.count - 1, 0) * self._q[:, None]
            below = np.floor(place)
            self.part = place - below
            self._rank[:] = below, np.minimum(below + 1, np.maximum(self.count - 1, 0))
        remaining = 0
        for column, each in enumerate(prefixes):
            keys, rank = self.keys[:, :, column].copy(), self._rank[:, :, column].copy()
            for number, prefix in enumerate(each):
                mine, many = keys == prefix, counts[column][number]
                bits = np.searchsorted(np.cumsum(many), rank[mine], side="right").clip(max=2**width - 1)
                self._rank[mine, column] = rank[mine] - (np.cumsum(many) - many)[bits]
                self.keys[mine, column] = prefix << width | bits.astype(np.uint64)
                remaining += int(many[np.unique(bits)].sum())
        self._few = remaining <= SORTED

    def _sort(self, blocks: Iterable[Keys], prefixes: list[list[int]]) -> None:
        """Collect and sort all values that have the known bits of a quantile."""
        collected: dict[tuple[int, int], list[Keys]] = {}
        for keys in blocks:
            for column, values in enumerate(keys):
                for prefix in prefixes[column]:
                    some = self._with_prefix(values, prefix, self.unknown_bits)
                    collected.setdefault((column, prefix), []).append(some)
        before = self.keys.copy()
        for (column, prefix), parts in collected.items():
            mine = before[:, :, column] == prefix
            if self.count[column]:
                self.keys[mine, column] = np.sort(np.concatenate(parts))[self._rank[mine, column]]
        self.unknown_bits = 0

    def _with_prefix(self, values: Keys, prefix: int, other_bits: int) -> Keys:
        """Return the values whose bits, all but the last `other_bits`, are `prefix`."""
        return values if other_bits == self._bits else values[(values >> other_bits) == prefix]


def _keys(block: NDArray[Any]) -> Keys:
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
