"""Batches of whole sequences, padded at the end to the longest of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from store_spec.ranks import whole_number
from store_spec.spans import read_spans

if TYPE_CHECKING:
    from store_spec.store import Store


class PaddedBatches:
    """An iterator over batches of whole sequences, each sequence once. Get one from `store.padded`.

    A batch is a tuple of new arrays:

    * inputs (size, longest, *feature shape), zeros after a sequence's last step,
    * labels: on the `step` axis (size, longest, *target shape), padded likewise; on the `sequence` axis
      (size, *target shape); on the `own` axis (size, longest label sequence, *target shape), padded likewise,
    * mask, bool (size, longest), True where a step is real: `mask.sum(axis=1)` are the lengths,
    * on the `own` axis alone the same mask for labels, (size, longest label sequence).

    A sequence of no steps stays: its mask is False throughout.

    Args:
        store: Whose sequences.
        size: Sequences in a batch; the last batch may hold fewer.
        shuffle: In an order that is a pure function of seed, epoch and the number of sequences; otherwise in that
            of the store. Steps always keep their order.
        seed: Which order; at least 0.
        epoch: Another epoch is another order of the same seed; at least 0.

    Raises:
        WindowError: An argument is not as above.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), source="walk-0")
    ...     writer.append(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"), source="walk-1")
    >>> x, y, mask = next(store_spec.open_store(path).padded(2))
    >>> x.shape, y.shape, mask.sum(axis=1).tolist()
    ((2, 9, 2), (2, 9, 1), [9, 5])
    """

    def __init__(self, store: Store, size: int, *, shuffle: bool = False, seed: int = 0, epoch: int = 0) -> None:
        self._store = store
        self._size = whole_number("size", size, 1)
        random = np.random.default_rng(
            np.random.SeedSequence((whole_number("seed", seed, 0), whole_number("epoch", epoch, 0)))
        )
        count = len(store.selection)  # checked against the files, unlike what the root says
        self._order = random.permutation(count) if shuffle else np.arange(count)
        self._next = 0

    def __len__(self) -> int:
        """Batches in the epoch, those already taken among them."""
        return (len(self._order) + self._size - 1) // self._size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[NDArray[Any], ...]:
        numbers = self._order[self._next : self._next + self._size]
        if not numbers.size:
            raise StopIteration
        store, snapshot = self._store, self._store.snapshot
        starts, lengths = store.starts[numbers], store.lengths[numbers]
        input_rows = read_spans(snapshot, "inputs", starts, starts + lengths)
        inputs, mask = _padded(input_rows, lengths)
        starts, lengths = store.label_starts[numbers], store.label_lengths[numbers]
        rows = read_spans(snapshot, "labels", starts, starts + lengths)
        for number, x, y in zip(store.selection[numbers].tolist(), input_rows, rows, strict=True):
            snapshot.check("inputs", number, x)
            snapshot.check("labels", number, y)
        self._next += len(numbers)  # only now: a batch that could not be read is tried again, not left out
        if store.schema.label_axis == "sequence":
            return inputs, np.concatenate(rows), mask
        labels, label_mask = _padded(rows, lengths)
        return (inputs, labels, mask) if store.schema.label_axis == "step" else (inputs, labels, mask, label_mask)


def _padded(rows: list[NDArray[Any]], lengths: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return sequences of rows one under another, and which of their places are real."""
    longest = int(lengths.max())
    padded = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    for place, sequence in zip(padded, rows, strict=True):
        place[: len(sequence)] = sequence
    return padded, np.arange(longest) < lengths[:, None]
