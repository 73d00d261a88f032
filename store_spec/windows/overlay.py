"""Predictions of windows, averaged for each step of their sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceIndexError, WindowError
from store_spec.format.runs import Ints, spread
from store_spec.reading.argument_checks import array_of

if TYPE_CHECKING:
    from store_spec.store import Store
    from store_spec.windows.windows import Windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlaid:
    """The predictions for one sequence.

    Args:
        source: The name of its source.
        part: The part of the source.
        sequence: The number of the sequence: `windows.store[sequence]` returns its inputs and labels.
        mean: Float64 (steps, ...), the mean of all predictions for each step; NaN if there are none. For
            `target="sequence"` there is one row.
        count: Int64 (steps,), the number of predictions for each step.
        store: The store with its times; None if predictions are not for steps.
    """

    source: str
    part: int
    sequence: int
    mean: NDArray[np.float64]
    count: Ints
    store: Store | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        predicted = f"{int(np.count_nonzero(self.count)):,} of {len(self.count):,} steps"
        where = f"{self.source!r}, part {self.part}"
        return f"<predictions for {predicted} of {where}: mean {self.mean.shape} {self.mean.dtype}>"

    @property
    def time(self) -> NDArray[Any] | None:
        """The time of each step, (steps,), read from `store.times`; None if the store has no times.

        Raises:
            ChecksumError: The bytes on disk are not those that were written.
        """
        if self.store is None or self.store.schema.time is None:
            return None
        return self.store.times(self.sequence)


class Overlay:
    """Predictions by sequence, as in `overlay["walk-0"].mean`. Get it from `windows.overlay`.

    It has all sequences with predictions, in the order of the store. Use `overlay[source]`, or `overlay[source, part]`
    if the source has several parts.
    """

    def __init__(self, each: list[Overlaid], where: object) -> None:
        self._each, self._where = each, where

    def __len__(self) -> int:
        return len(self._each)

    def __iter__(self) -> Iterator[Overlaid]:
        return iter(self._each)

    def __repr__(self) -> str:
        steps = sum(len(each.count) for each in self)
        predicted = sum(int(np.count_nonzero(each.count)) for each in self)
        return f"<predictions for {predicted:,} of {steps:,} steps of {len(self):,} sequences>"

    def __getitem__(self, name: str | tuple[str, int]) -> Overlaid:
        """Return the predictions for one sequence.

        Raises:
            SequenceIndexError: There are no predictions for it, or for several parts; or `name` is not a name.
        """
        source, part = name if isinstance(name, tuple) and len(name) == 2 else (name, None)
        known = isinstance(source, str)  # an array could not be compared with a name
        matches = [each for each in self._each if known and each.source == source and part in (None, each.part)]
        if len(matches) != 1:
            raise SequenceIndexError(
                f"{self._where}: {len(matches):,} of the {len(self):,} sequences with predictions are {name!r:.200}; "
                "give a name as overlay[source] or overlay[source, part]; list(overlay) has all"
            )
        return matches[0]


def overlay(windows: Windows, predictions: ArrayLike, index: ArrayLike, *, inverse: bool = False) -> Overlay:
    """Average the predictions of windows, which may overlap, for each step.

    Args:
        windows: The windows; with random starts or lengths those of the epoch, `batches.windows`.
        predictions: For each window an array like its label: (windows, horizon, ...) for `target="future"`, (windows,
            window, ...) for `"aligned"`, (windows, ...) for `"last"` and `"sequence"`. The further axes may differ from
            those of labels, for example for probabilities of classes. NaN makes the mean of its step NaN.
        index: (windows,), the numbers of the windows, from `batches(..., index=True)`, in any order.
        inverse: Undo the normalisation of labels; predictions then have the shape of labels.

    Returns:
        Predictions for the steps of each sequence that has one of these windows.

    Raises:
        WindowError: Shapes do not fit the windows, windows are not normalised but `inverse` is True, or with random
            starts or lengths these are not the windows of an epoch.
        SequenceIndexError: There is no window with one of these numbers.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walk.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (1,)), labels=("float32", (1,))) as writer:
    ...     walk = np.arange(6, dtype="float32")[:, None]
    ...     writer.append(walk, walk, source="walk")
    >>> windows = store_spec.open_store(path).windows(2, horizon=2)
    >>> found = overlay(windows, [[[2.0], [3.0]], [[5.0], [4.0]]], index=[0, 1])["walk"]
    >>> found.mean.ravel().tolist(), found.count.tolist()
    ([nan, nan, 2.0, 4.0, 4.0, nan], [0, 0, 1, 2, 1, 0])
    """
    windows.check_epoch()
    store, shape, numbers = windows.store, windows.shape, array_of(index)
    values = array_of(predictions)
    steps = shape.label_steps
    expected = f"({numbers.size:,}, ...)" if steps is None else f"({numbers.size:,}, {steps:,}, ...)"
    fits = values.ndim > 0 and len(values) == numbers.size and (steps is None or values.shape[1:2] == (steps,))
    if numbers.ndim != 1 or not fits or values.dtype.kind not in "biuf":
        raise WindowError(
            f"{store.path}: predictions of shape {values.shape} and {values.dtype}, with an index of shape "
            f'{numbers.shape}; target="{shape.target}" needs numbers of shape {expected}'
        )
    if inverse:
        values = windows.scaler(numbers).inverse(values)
    sequences, row, count = _steps(windows, numbers)
    if steps is None:
        values = values[:, None]
    values = values[np.arange(values.shape[1]) < count[:, None]]  # without padding
    # A sequence that is selected twice occurs once: sequences are compared by their number in the whole store.
    distinct, which = np.unique(store.selection[sequences], return_inverse=True)
    first = np.full(len(distinct), len(store), np.int64)
    np.minimum.at(first, which, sequences)
    lengths = np.ones_like(first) if shape.target == "sequence" else store.lengths[first]
    before = np.cumsum(lengths) - lengths
    places = spread(before[which] + row, count, shape.sampling_rate)
    total = np.zeros((int(lengths.sum()), *values.shape[1:]))
    np.add.at(total, places, values)
    predicted = np.bincount(places, minlength=len(total))
    divisor = predicted.reshape(-1, *(1 for _ in total.shape[1:]))
    mean = np.divide(total, divisor, out=np.full(total.shape, np.nan), where=divisor > 0)
    return Overlay(
        [
            Overlaid(
                source=store.sources[number],
                part=int(store.parts[number]),
                sequence=number,
                mean=mean[start : start + length],
                count=predicted[start : start + length],
                store=None if shape.target == "sequence" else store,
            )
            for number, start, length in zip(first.tolist(), before.tolist(), lengths.tolist(), strict=True)
        ],
        store.path,
    )


def _steps(windows: Windows, numbers: NDArray[Any]) -> tuple[Ints, Ints, Ints]:
    """Return the sequence of each window, the step of its first label row, and the number of its real label rows."""
    shape = windows.shape
    sequences, start = windows.index.locate_many(numbers, windows.store.path)
    last = windows.index.last_rows(sequences, start)
    if shape.target == "future":
        return sequences, last + shape.label_offset, windows.index.real_labels(sequences, start)
    if shape.target == "aligned":
        return sequences, start, windows.index.real_rows(sequences, start)
    return sequences, last if shape.target == "last" else np.zeros_like(start), np.ones_like(start)
