"""The batches of all readers: tuples of arrays, which can also be taken by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from numpy.typing import NDArray


class Batch(tuple[NDArray[Any], ...]):
    """A tuple of arrays with names, like a named tuple: `x, y = batch`, or `batch.inputs` and `batch.labels`.

    A batch has the arrays that were asked for, in the order below; other names raise an AttributeError. Frameworks
    convert it as they convert named tuples. A sample of windows is a `Batch` too, without the first axis.

    Args:
        inputs: The input rows.
        labels: The targets.
        reset: For streams, bool: where a sequence starts.
        mask: Bool, True for real steps; the others are padding.
        label_mask: For padded labels on the `own` axis, and with `pad_end` of windows, bool: True for real label steps.
        value_mask: Bool, True for real values of inputs.
        future: Input columns that are known in advance.
        cu_seqlens: Int32, for packed rows: where each piece starts, and the end.
        position_ids: Int32, for packed rows: the number of each step in its piece.
        segment_ids: Int32, for packed rows: the number of each piece in its row, 0 in padding.
        lengths: Int64, the real steps of each sequence.
        label_lengths: The same for labels on the `own` axis.
        static: Columns of the sequences.
        index: Int64, the numbers of windows or sequences.
    """

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ()

    inputs: NDArray[Any]
    labels: NDArray[Any]
    reset: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    label_mask: NDArray[np.bool_]
    value_mask: NDArray[np.bool_]
    future: NDArray[Any]
    cu_seqlens: NDArray[np.int32]
    position_ids: NDArray[np.int32]
    segment_ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    label_lengths: NDArray[np.int64]
    static: NDArray[Any]
    index: NDArray[np.int64]  # type: ignore[assignment]  # instead of the method of tuples

    def __new__(cls, *arrays: Any) -> Self:
        """Make a batch of this kind from an array for each of its names."""
        if len(arrays) != len(cls._fields):
            raise TypeError(f"{len(arrays)} arrays for the names {', '.join(cls._fields)}")
        return tuple.__new__(cls, arrays)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Batch:
        """Make a batch from arrays by name, in the order of names above; those that are None are left out."""
        names = tuple(name for name in FIELDS if arrays.get(name) is not None)
        return _kind(names)(*(arrays[name] for name in names))

    @classmethod
    def _make(cls, arrays: Iterable[Any]) -> Self:
        return cls(*arrays)

    def _asdict(self) -> dict[str, NDArray[Any]]:
        return dict(zip(self._fields, self, strict=True))

    def _replace(self, **arrays: Any) -> Self:
        return type(self)(*(self._asdict() | arrays).values())

    def __repr__(self) -> str:
        each = (
            f"{name}={getattr(array, 'dtype', '')}{getattr(array, 'shape', array)}"
            for name, array in self._asdict().items()
        )
        return f"Batch({', '.join(each)})"

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        return _unpickle, (self._fields, tuple(self))


FIELDS = tuple(name for name in Batch.__annotations__ if name != "_fields")
_KINDS: dict[tuple[str, ...], type[Batch]] = {}


def _kind(names: tuple[str, ...]) -> type[Batch]:
    """Return the class of batches with these names, the same in all threads."""
    if names in _KINDS:
        return _KINDS[names]
    arrays = {
        name: property(itemgetter(names.index(name)) if name in names else partial(_absent, name)) for name in FIELDS
    }
    kind = type("Batch", (Batch,), {"__slots__": (), "_fields": names, "__module__": Batch.__module__, **arrays})
    return _KINDS.setdefault(names, kind)


def _absent(name: str, batch: Batch) -> NoReturn:
    raise AttributeError(f"this batch has no {name}, only {', '.join(batch._fields)}")


def _unpickle(names: tuple[str, ...], arrays: tuple[Any, ...]) -> Batch:
    return _kind(names)(*arrays)
