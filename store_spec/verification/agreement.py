"""Tell in one pass which sequences surely have the moments that the tables say; any other has to be looked at again.

To see that a mean is right is less work than to compute it: the rest of each value beyond it has the sum 0, and the sum
of their squares is m2. Sums of so little lose no digits, so they may be added in whatever order is the fastest here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.format.moments import Floats, Moments
from store_spec.verification.workspace import Workspace

BLOCK_VALUES = 2**16  # values that are looked at together: they stay in the processor's cache
LONGEST_PRODUCT = 2**13  # values of a feature: of more than 10,000, OpenBLAS has the product made by many threads
# NumPy 2.3 and later copy rows that are shorter than their buffer there and back, which is five times as slow.
BUFFER_VALUES = 2**9
FEW_ROWS = 128  # a sequence; where they are shorter on average, NumPy's calls for each take longer than their values
SURELY = 0.5  # of the difference that is allowed: so much more than the rounding here that what is within is right

# Of each feature (axis 0) and sequence (axis 1): the least and the largest value, and the sums of what each value is
# beyond the mean, and of its squares.
_Found = tuple[Floats, Floats, Floats, Floats]
_LIMITS = (np.minimum, np.maximum)


class Agreement:
    """Finds out which of some sequences that follow one another have the moments that are said of them.

    Args:
        said: Of shape (sequences, features); only what stands at sequences with known moments counts.
        known: (sequences,) whether a sequence's moments could be read.
        lengths: (sequences,) how many values of each feature a sequence has.
        workspace: Where to work.

    >>> rows = np.array([[1.0], [3.0], [7.0]])
    >>> columns = ([[2], [1]], [[2], [7.5]], [[2], [0]], [[1], [7]], [[3], [7]])
    >>> said = Moments(*(np.array(column) for column in columns))
    >>> agreement = Agreement(said, np.ones(2, bool), np.array([2, 1]), Workspace())
    >>> agreement.add(0, [2, 3], rows)
    >>> agreement.sure().tolist()
    [True, False]
    """

    def __init__(
        self, said: Moments, known: NDArray[np.bool_], lengths: NDArray[np.int64], workspace: Workspace
    ) -> None:
        self._said, self._workspace = said, workspace
        # Where values are missing or infinite, or there are none, a look at each has to follow anyway.
        whole = (said.count == lengths[:, None]) & np.isfinite(said.mean)
        self.possible = known & (lengths > 0) & whole.all(axis=1)
        self._all_possible = bool(self.possible.all())
        features = said.mean.shape[1]
        self._means = list(said.mean[:, :, None])
        self._size = max(1, BLOCK_VALUES // max(1, features))
        self._numbers: list[int] = []  # of the sequences that have values in each block, block after block
        self._found: list[_Found] = []  # of each block
        self._waiting = 0  # values of it

    def add(self, first: int, ends: list[int], rows: NDArray[Any]) -> None:
        """Take the next rows.

        Args:
            first: The sequence that the first row is of, or one without rows before it.
            ends: Where that one and those after it end, counted in these rows; the last may be behind the last row.
            rows: (rows, features).
        """
        at = 0
        with np.errstate(over="ignore", invalid="ignore"):
            np.setbufsize(BUFFER_VALUES)  # errstate puts it back at its end
            for start in range(0, len(rows), self._size):
                stop = min(start + self._size, len(rows))
                numbers, starts, begin = [], [], start
                while begin < stop:
                    if ends[at] > begin:  # an empty one has no least value
                        numbers.append(first + at)
                        starts.append(begin - start)
                        begin = ends[at]
                    at += ends[at] <= stop
                if self._all_possible or self.possible[numbers].any():
                    self._take(numbers, self._of_block(numbers, starts, rows[start:stop]))

    def sure(self) -> NDArray[np.bool_]:
        """Tell which sequences, all of whose rows were added, surely have the moments that are said of them."""
        right = np.zeros(len(self.possible), bool)
        if not self._found:
            return right
        self._join()
        ((low, high, rest, squares),) = self._found
        said = Moments(*(getattr(self._said, name)[self._numbers].T for name in Moments.__slots__))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            off = rest / said.count
            good = (low == said.min) & (high == said.max)
            good &= np.abs(off) <= SURELY * rounding("mean", said)
            good &= np.abs(squares - rest * off - said.m2) <= SURELY * rounding("m2", said)
        right[self._numbers] = good.all(axis=0)
        right &= self.possible
        return right

    def _take(self, numbers: list[int], found: _Found) -> None:
        self._numbers += numbers
        self._found.append(found)
        self._waiting += found[0].size
        if self._waiting > BLOCK_VALUES:
            self._join()

    def _join(self) -> None:
        """Add up what was found of each sequence."""
        starts = np.flatnonzero(np.diff(self._numbers, prepend=-1))
        every = [np.concatenate(each, axis=1) for each in zip(*self._found, strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):
            low, high = (ufunc.reduceat(each, starts, axis=1) for ufunc, each in zip(_LIMITS, every[:2], strict=True))
            rest, squares = (np.add.reduceat(each, starts, axis=1) for each in every[2:])
        self._found, self._waiting = [(low, high, rest, squares)], 0
        self._numbers = [self._numbers[start] for start in starts.tolist()]

    def _of_block(self, numbers: list[int], starts: list[int], block: NDArray[Any]) -> _Found:
        steps, features = block.shape
        # One feature a row: NumPy reduces along memory several times faster than across it.
        values = self._workspace.floats(features, steps)
        stops, places = [*starts[1:], steps], np.array(starts)
        values[...] = block.T
        low, high = (limit.reduceat(values, places, axis=1) for limit in _LIMITS)
        if steps < FEW_ROWS * len(numbers):
            values -= np.repeat(self._said.mean[numbers].T, np.subtract(stops, places), axis=1)
            rest = np.add.reduceat(values, places, axis=1)
            np.square(values, out=values)
            return low, high, rest, np.add.reduceat(values, places, axis=1)
        squares = np.empty_like(low)
        for at, (number, start, stop) in enumerate(zip(numbers, starts, stops, strict=True)):
            mine = values[:, start:stop]
            mine -= self._means[number]
            squares[:, at] = _squares(mine)
        return low, high, np.add.reduceat(values, places, axis=1), squares


def _squares(values: Floats) -> Floats:
    """Return the sum of squares of each row."""
    first = values[:, :LONGEST_PRODUCT]
    total: Floats = np.vecdot(first, first)
    for start in range(LONGEST_PRODUCT, values.shape[1], LONGEST_PRODUCT):
        part = values[:, start : start + LONGEST_PRODUCT]
        total += np.vecdot(part, part)
    return total


def rounding(moment: str, said: Moments) -> Floats | float:
    """Return by how much a moment may differ: means and m2 are sums, and other processors add in another order."""
    if moment not in ("mean", "m2"):
        return 0.0
    largest = np.fmax(np.abs(said.min), np.abs(said.max))
    if moment == "mean":
        return np.asarray(1e-9 * largest)
    return np.asarray(1e-9 * said.m2 + said.count * (1e-12 * largest) ** 2)
