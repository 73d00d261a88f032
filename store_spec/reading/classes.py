"""Count the classes of labels, and compute weights that balance them. Classes are whole numbers, of any dtype."""

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import Floats
from store_spec.format.runs import Ints
from store_spec.reading.columns import position
from store_spec.reading.read_ranges import every_row
from store_spec.reading.selection import Selection

MOST_CLASSES = 2**16  # labels with more values are not classes, but counts or amounts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassCounts:
    """The classes of labels and how often they occur. From `store.class_counts`.

    Args:
        values: (classes,), the distinct labels, ascending, in their dtype.
        rows: Int64 (classes,), how many label rows have each class; for labels of several axes, how many values.

    >>> ClassCounts(values=np.array([3, 7]), rows=np.array([9, 1])).class_weights().tolist()
    [0.5555555555555556, 5.0]
    """

    values: NDArray[Any]
    rows: Ints

    def __len__(self) -> int:
        return len(self.values)

    def class_weights(self) -> Floats:
        """Return balanced weights: rows / (classes * rows of the class), as scikit-learn defines them.

        Returns:
            Float64 (classes,), in the order of `values`. For Keras use `dict(zip(counts.values.tolist(), weights))`.
            Losses of torch take one weight for each number from 0 on, so there the classes have to be 0, 1, ...
        """
        return np.asarray(self.rows.sum() / (max(1, len(self)) * self.rows), np.float64)


def class_counts(store: Selection, target: str | int | None = None) -> ClassCounts:
    """Count the classes in the labels of these sequences. The labels are read once, in bounded memory.

    Args:
        store: The sequences. Their labels are whole numbers, in any dtype and on any axis; NaN, which stands for a
            missing label, is not counted. A sequence that is selected twice counts twice.
        target: The target's name or number, if there are several.

    Raises:
        WindowError: The store has no labels, a label is not a whole number, or there are more than 65,536 different
            ones; or there is no such target.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (1,)), labels=("int8", ())) as writer:
    ...     for number in range(3):
    ...         x, y = np.zeros((4, 1), "float32"), np.array([0, 0, 5, number], "int8")
    ...         writer.append(x, y, source=f"walk-{number}")
    >>> counts = class_counts(store_spec.open_store(path))
    >>> counts.values.tolist(), counts.rows.tolist()
    ([0, 1, 2, 5], [7, 1, 1, 3])
    """
    place = _place(store, target)
    rows = Counter[int]()
    for block in every_row(store, "labels"):
        labels = block.reshape(len(block), -1, store.schema.labels.features)[:, :, place]
        values, count = np.unique(labels, return_counts=True)
        _check_whole(values, store)
        real = ~np.isnan(values)
        rows.update(dict(zip(values[real].tolist(), count[real].tolist(), strict=True)))
        if len(rows) > MOST_CLASSES:
            raise WindowError(
                f"{store.path}: labels have more than {MOST_CLASSES:,} different values; they are not classes, but "
                "numbers: use stats or quantiles"
            )
    store.snapshot.check_not_replaced()
    if not store.label_lengths.any():
        warnings.warn(f"{store.path}: classes of 0 label rows, in {len(store):,} sequences", stacklevel=3)
    found = sorted(rows)
    return ClassCounts(
        values=np.array(found, store.schema.labels.dtype), rows=np.array([rows[value] for value in found], np.int64)
    )


def sequence_weights(store: Selection, target: str | int | None = None) -> Floats:
    """Return a weight for each sequence: sequences / (classes * sequences of its class).

    All classes have the same total weight. To balance windows, of which long sequences have more, use
    `windows.sequence_weights`.

    Args:
        store: The sequences, with labels on the sequence axis.
        target: The target's name or number, if there are several.

    Returns:
        Float64 (sequences,).

    Raises:
        WindowError: Labels are on another axis or are not classes, or a label is missing.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(
    ...     path, inputs=("float32", (1,)), labels=("int8", ()), label_axis="sequence"
    ... ) as writer:
    ...     for number in range(3):
    ...         writer.append(np.zeros((4, 1), "float32"), np.int8(number == 0), source=f"walk-{number}")
    >>> sequence_weights(store_spec.open_store(path)).tolist()
    [1.5, 0.75, 0.75]
    """
    place = _place(store, target)
    if store.schema.label_axis != "sequence":
        raise WindowError(
            f"{store.path}: labels on the {store.schema.label_axis} axis, so a sequence has no class of its own; give "
            "weights of your own, one for each sequence"
        )
    rows = store.snapshot.rows("labels", 0, store.counts.sequences)[store.selection]
    labels = rows[..., place] if store.schema.labels.shape else rows
    if labels.ndim > 1:
        raise WindowError(f"{store.path}: a label of shape {store.schema.labels.shape} is not one class")
    values, code, count = np.unique(labels, return_inverse=True, return_counts=True)
    _check_whole(values, store)
    if values.dtype.kind == "f" and values.size and np.isnan(values[-1]):
        raise WindowError(
            f"{store.path}: the label of {count[-1]:,} of {len(labels):,} sequences is missing (NaN), so these have no "
            "class; select the others, or give weights of your own"
        )
    return ClassCounts(values=values, rows=count).class_weights()[code.reshape(-1)]


def _place(store: Selection, target: str | int | None) -> int:
    """Return the position of a target on the last axis of a label row."""
    if not store.has_labels:
        raise WindowError(f"{store.path}: this store has no labels, so there are no classes")
    labels = store.schema.labels
    if labels.dtype.kind == "c":
        raise WindowError(f"{store.path}: labels are {labels.dtype}; classes are whole numbers")
    return 0 if target is None and labels.features == 1 else position("target", target, labels, store.path)


def _check_whole(values: NDArray[Any], store: Selection) -> None:
    """Raise a WindowError if a label is neither a whole number nor NaN."""
    if values.dtype.kind != "f":
        return
    values = values[~np.isnan(values)]  # NumPy warns of those that it sorted as float16
    wrong = values[values != np.trunc(values)]
    if len(wrong):
        raise WindowError(
            f"{store.path}: labels are {values.dtype}, and hold {wrong[0].item()!r}, which is not a class; classes are "
            "whole numbers: name those in text when the store is built (--classes 0,1), or for numbers use stats or "
            "quantiles"
        )
