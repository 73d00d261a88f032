"""Exact quantiles of a selection of sequences, in memory that does not grow with it.

A sketch (t-digest, KLL, DDSketch) would need one look at the rows, or none if it were kept for each sequence; but what
it gives is near the quantile only, and mostly depends on chance or on the order in which values came. This is exact and
the same everywhere: values become whole numbers in the same order, and by their leading bits they are counted, then by
the bits after these those that begin as the one that is wanted does, until the few that are left can be sorted. Float32
takes two looks at the rows as a rule, float64 two or three; values that are all alike as many as their bits need.

    float32   value        -2.5   -0.0    0.0    1.0   1.5           all bits of a negative value are turned over,
              whole number 3fdf.. 7fff.. 8000.. bf80.. bfc0..        of another one the first
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import Floats
from store_spec.reading.every_row import every_row

if TYPE_CHECKING:
    from store_spec.store import Store

Keys = NDArray[np.unsignedinteger[Any]]
Blocks = Callable[[], Iterable[NDArray[Any]]]

COUNTERS = 2**19  # 4 MiB: by so many beginnings are values counted in one look
MOST_BITS, LEAST_BITS = 16, 4  # that values are told apart by in one look
SORTED = 2**20  # values that are gathered and sorted, when no more are left


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantiles:
    """Quantiles of each feature and target. From `store.quantiles`.

    Args:
        q: (quantiles,), which ones, 0 to 1.
        inputs: Float64 (quantiles, features), of the inputs: what `np.nanquantile` gives for them as float64. NaN
            for a feature without any value, and for complex numbers, which have no order.
        labels: Float64 (quantiles, targets), of the labels.
    """

    q: Floats
    inputs: Floats
    labels: Floats


def quantiles(store: Store, q: ArrayLike) -> Quantiles:
    """Return exact quantiles of all features and targets of these sequences, by some looks at all of their rows.

    Args:
        store: Whose sequences. A feature is a place on the last axis of a row, as for `stats`; NaN does not count.
        q: From 0 to 1, any number of them. Between two values it is interpolated, as `np.quantile` does.

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
    wanted = np.atleast_1d(np.asarray(q, np.float64))
    if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise WindowError(f"{store.path}: q={q!r:.80}; quantiles are numbers from 0 to 1")
    found = {}
    for name in ("inputs", "labels"):
        rows = store.schema.rows(name)

        def blocks(name: str = name, features: int = rows.features) -> Iterable[NDArray[Any]]:
            return (block.reshape(-1, features) for block, _ in every_row(store, name))

        if rows.dtype.kind == "c" or not len(wanted):
            found[name] = np.full((len(wanted), rows.features), np.nan)
        else:
            found[name] = of_columns(blocks, rows.features, rows.dtype, wanted)
    return Quantiles(q=wanted, **found)


def of_columns(blocks: Blocks, features: int, dtype: np.dtype[Any], q: Floats) -> Floats:
    """Return (quantiles, features) of blocks of shape (rows, features), which are gone through several times."""
    selection = _Selection(features, dtype, q)
    while selection.left:
        selection.look(_keys(block) for block in blocks())
    below, above = _values(selection.keys, dtype)
    part = selection.part
    with np.errstate(over="ignore", invalid="ignore"):
        distance = above - below
        between = np.where(part >= 0.5, above - distance * (1 - part), below + distance * part)
    return np.where(selection.count == 0, np.nan, between + 0.0)  # and no -0.0


class _Selection:
    """Finds the values on either side of each quantile of each column, by their bits, the leading ones first.

    Attributes:
        left: Bits that are not known yet.
        keys: Uint64 (2, quantiles, columns), the bits that are known, of the values below and above.
        part: (quantiles, columns), how far the quantile is on the way from one to the other.
        count: (columns,), values that are not missing.
    """

    def __init__(self, columns: int, dtype: np.dtype[Any], q: Floats) -> None:
        self.left = self._bits = 8 * dtype.itemsize
        self.keys = np.zeros((2, len(q), columns), np.uint64)
        self.part = np.zeros((len(q), columns))
        self.count = np.zeros(columns, np.int64)
        self._q, self._floats = q, dtype.kind == "f"
        self._rank = np.zeros(self.keys.shape, np.int64)  # among the values that begin as the one that is wanted
        self._few = False  # whether all of these can be sorted

    def look(self, blocks: Iterable[Keys]) -> None:
        """Go once through all values, (columns, rows) at a time."""
        begun = [np.unique(self.keys[:, :, column]).tolist() for column in range(len(self.count))]
        if self._few:
            self._sort(blocks, begun)
        else:
            self._count(blocks, begun)

    def _count(self, blocks: Iterable[Keys], begun: list[list[int]]) -> None:
        """Count the values by their next bits."""
        first, room = self.left == self._bits, COUNTERS // sum(map(len, begun))
        width = min(self.left, max(LEAST_BITS, min(MOST_BITS, room.bit_length() - 1)))
        self.left -= width
        counts = [np.zeros((len(each), 2**width), np.int64) for each in begun]
        for keys in blocks:
            if first:
                self.count += keys.shape[1]
                if self._floats:
                    self.count -= np.count_nonzero(keys == np.iinfo(keys.dtype).max, axis=1)
            for column, values in enumerate(keys):
                for number, beginning in enumerate(begun[column]):
                    bits = self._beginning(values, beginning, self.left + width) >> self.left
                    bits = (bits & (2**width - 1)).astype(np.intp)
                    counts[column][number] += np.bincount(bits, minlength=2**width)
        if first:
            place = np.maximum(self.count - 1, 0) * self._q[:, None]
            below = np.floor(place)
            self.part = place - below
            self._rank[:] = below, np.minimum(below + 1, np.maximum(self.count - 1, 0))
        remaining = 0
        for column, each in enumerate(begun):
            keys, rank = self.keys[:, :, column].copy(), self._rank[:, :, column].copy()
            for number, beginning in enumerate(each):
                mine, many = keys == beginning, counts[column][number]
                bits = np.searchsorted(np.cumsum(many), rank[mine], side="right").clip(max=2**width - 1)
                self._rank[mine, column] = rank[mine] - (np.cumsum(many) - many)[bits]
                self.keys[mine, column] = beginning << width | bits.astype(np.uint64)
                remaining += int(many[np.unique(bits)].sum())
        self._few = remaining <= SORTED

    def _sort(self, blocks: Iterable[Keys], begun: list[list[int]]) -> None:
        """Gather all values that begin as a wanted one does."""
        found: dict[tuple[int, int], list[Keys]] = {}
        for keys in blocks:
            for column, values in enumerate(keys):
                for beginning in begun[column]:
                    found.setdefault((column, beginning), []).append(self._beginning(values, beginning, self.left))
        before = self.keys.copy()
        for (column, beginning), parts in found.items():
            mine = before[:, :, column] == beginning
            if self.count[column]:
                self.keys[mine, column] = np.sort(np.concatenate(parts))[self._rank[mine, column]]
        self.left = 0

    def _beginning(self, values: Keys, beginning: int, left: int) -> Keys:
        """Return the values that begin with these bits, all but `left` ones."""
        return values if left == self._bits else values[(values >> left) == beginning]


def _keys(block: NDArray[Any]) -> Keys:
    """Return values as unsigned whole numbers in the same order, (columns, rows); NaN as the largest of all."""
    values = block.T.copy(order="C")  # it is overwritten
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
