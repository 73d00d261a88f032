"""The batches of all readers: tuples of arrays, which can also be taken by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray


class Batch(tuple[NDArray[Any], ...]):
    """A tuple of arrays with names, like a named tuple: `x, y = batch`, or `batch.inputs` and `batch.labels`.

    A batch has the arrays that were asked for, in the order below; any other name raises an AttributeError. Frameworks
    convert it as they convert named tuples. Sample i of windows is a `Batch` too, without the first axis.

    Args:
        inputs: The input rows.
        labels: The targets.
        reset: For streams, bool: where a sequence starts.
        mask: Bool, True for real steps; the others are padding.
        label_mask: For padded labels on the `own` axis, bool: True for real label steps.
        value_mask: Bool, True for real values of inputs.
        future: Input columns that are known in advance.
        lengths: Int64, the real steps of each sequence.
        label_lengths: The same for labels on the `own` axis.
        static: Columns of the sequences.
        index: Int64, the numbers of windows or sequences.
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        inputs: NDArray[Any]
        labels: NDArray[Any]
        reset: NDArray[np.bool_]
        mask: NDArray[np.bool_]
        label_mask: NDArray[np.bool_]
        value_mask: NDArray[np.bool_]
        future: NDArray[Any]
        lengths: NDArray[np.int64]
        label_lengths: NDArray[np.int64]
        static: NDArray[Any]
        index: NDArray[np.int64]

    def __new__(cls, *arrays: Any) -> Self:
        """Make a batch of this kind from an array for each of its names."""
        if len(arrays) != len(cls._fields):
            raise TypeError(f"{len(arrays)} arrays for the names {', '.join(cls._fields)}")
        return tuple.__new__(cls, arrays)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Batch:
        """Make a batch from arrays by name; those that are None are left out."""
        some = {name: array for name, array in arrays.items() if array is not None}
        return _kind(tuple(some))(*some.values())

    @classmethod
    def _make(cls, arrays: Iterable[Any]) -> Self:
        return cls(*arrays)

    def _asdict(self) -> dict[str, NDArray[Any]]:
        return dict(zip(self._fields, self, strict=True))

    def _replace(self, **arrays: Any) -> Self:
        return type(self)(**(self._asdict() | arrays))

    def __repr__(self) -> str:
        each = (
            f"{name}={getattr(array, 'dtype', '')}{getattr(array, 'shape', array)}"
            for name, array in self._asdict().items()
        )
        return f"Batch({', '.join(each)})"

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        return _unpickle, (self._fields, tuple(self))


@cache
def _kind(names: tuple[str, ...]) -> type[Batch]:
    """Return the class of batches with these names."""
    members = {name: property(itemgetter(at)) for at, name in enumerate(names)}
    return type("Batch", (Batch,), {"__slots__": (), "_fields": names, "__module__": Batch.__module__, **members})


def _unpickle(names: tuple[str, ...], arrays: tuple[Any, ...]) -> Batch:
    return _kind(names)(*arrays)
