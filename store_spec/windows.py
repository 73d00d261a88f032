"""All windows of a selection of sequences, by number; nothing is stored, and rows are read when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import SequenceIndexError, WindowError
from store_spec.index import WindowIndex, WindowShape
from store_spec.pools import Batch
from store_spec.spans import read_spans
from store_spec.statistics import Statistics, normalized_dtype

if TYPE_CHECKING:
    from store_spec.batches import Batches
    from store_spec.store import Store

READ_TOGETHER = 64  # windows


class Windows:
    """The windows of a store, numbered sequence by sequence in the store's order. Get them from `store.windows`.

    Sample i is `(inputs, labels)`, or `(inputs, labels, mask)` with `short="pad"`:

    * inputs (window, *feature shape),
    * labels (horizon, *target shape) for `target="future"`, (*target shape) for `"last"` and `"sequence"`,
      (window, *target shape) for `"aligned"`,
    * mask, bool (window,), True where a row is real. Those that are not are zeros, also in `"aligned"` labels.

    It has what a torch `DataLoader` and a Grain source ask for, and can be pickled. To train, use `batches`: it reads
    the same windows many times faster than one after another.

    Args:
        store: Whose windows.
        shape: What a window takes from a sequence.
        normalize: Statistics to normalise inputs by, and labels too where these are floats: labels of other dtypes
            are taken for classes. Padding stays zero.

    Raises:
        WindowError: The label axis cannot give such labels, `normalize` is of other features, or a sequence is too
            short and `short="error"`.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), source="walk-0")
    ...     writer.append(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"), source="walk-1")
    >>> windows = store_spec.open_store(path).windows(4, horizon=2)
    >>> x, y = windows[0]
    >>> len(windows), x.shape, y.shape
    (4, (4, 2), (2, 1))
    """

    def __init__(self, store: Store, shape: WindowShape, normalize: Statistics | None = None) -> None:
        _check_target(store, shape)
        self.store = store
        self.shape = shape
        self.normalize = normalize
        self.index = WindowIndex.from_lengths(store.lengths, shape)
        if normalize is not None:
            _check_statistics(store, normalize)

    def __reduce__(self) -> tuple[type[Windows], tuple[Store, WindowShape, Statistics | None]]:
        return Windows, (self.store, self.shape, self.normalize)

    def __repr__(self) -> str:
        return f"<{len(self):,} windows of {self.store.path.name}: {self.shape}>"

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Batch]:
        """Yield all windows in order; a few are read at a time."""
        for start in range(0, len(self), READ_TOGETHER):
            yield from self.__getitems__(range(start, min(start + READ_TOGETHER, len(self))))

    def __getitem__(self, number: int) -> Batch:
        """Read one window.

        Args:
            number: A negative one counts from the end.

        Raises:
            SequenceIndexError: There is no such window.
            ChecksumError: The bytes on disk are not those that were written.
        """
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Batch]:
        """Read many windows, in the order given, each chunk once; the arguments and errors are those of `[number]`."""
        try:
            sequences, first = self.index.locate_many(np.asarray(numbers))
        except SequenceIndexError as error:
            raise SequenceIndexError(f"{self.store.path}: {error}") from None
        shape, snapshot = self.shape, self.store.snapshot
        real = self.index.real_rows(sequences, first)
        start = self.store.starts[sequences] + first
        last = start + (real - 1) * shape.sampling_rate
        inputs = read_spans(snapshot, "inputs", start, last + 1)
        labels = read_spans(snapshot, "labels", *self._label_rows(sequences, start, last))
        samples = zip(inputs, labels, real.tolist(), strict=True)
        return [self._sample(rows, label_rows, count) for rows, label_rows, count in samples]

    def batches(
        self,
        size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory: int | str = "256MB",
    ) -> Batches:
        """Return an iterator over one epoch of these windows in batches: `Batches` says what each argument means."""
        from store_spec.batches import Batches

        return Batches(
            self,
            size,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            memory=memory,
        )

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """The dtypes of inputs and labels as they are given: normalised ones are float32 or float64."""
        inputs, labels = self.store.schema.inputs.dtype, self.store.schema.labels.dtype
        if self.normalize is None:
            return inputs, labels
        return normalized_dtype(inputs), normalized_dtype(labels) if labels.kind == "f" else labels

    def given_inputs(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of inputs as they are given: normalised where asked for."""
        return rows if self.normalize is None else self.normalize.normalize(rows)

    def given_labels(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of labels as they are given: normalised where asked for, and floats."""
        return self.normalize.normalize_labels(rows) if self.normalize is not None and rows.dtype.kind == "f" else rows

    def _label_rows(
        self, sequences: NDArray[np.int64], start: NDArray[np.int64], last: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the range of rows of `labels` that each window needs."""
        if self.shape.target == "sequence":
            start = self.store.label_starts[sequences]
            return start, start + 1
        if self.shape.target == "future":
            start = last + 1 + self.shape.lead
            return start, start + self.shape.horizon
        return (last if self.shape.target == "last" else start), last + 1

    def _sample(self, inputs: NDArray[Any], labels: NDArray[Any], real: int) -> Batch:
        shape = self.shape
        inputs = self.given_inputs(np.ascontiguousarray(inputs[:: shape.sampling_rate]))
        labels = self.given_labels(labels)
        if shape.target == "aligned":
            labels = np.ascontiguousarray(labels[:: shape.sampling_rate])
        elif shape.label_steps is None:
            labels = labels[0]
        if shape.short != "pad":
            return inputs, labels
        if shape.target == "aligned":
            labels = _padded(labels, shape.window)
        return _padded(inputs, shape.window), labels, np.arange(shape.window) < real


def _padded(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `count` rows, zeros after those given."""
    padded = np.zeros((count, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded


def _check_target(store: Store, shape: WindowShape) -> None:
    axis = store.schema.label_axis
    if axis == "own":
        raise WindowError(
            f"{store.path}: labels on the 'own' axis belong to no step, so windows have none; "
            "use store.padded or store.read"
        )
    if axis == "step" and shape.target == "sequence":
        raise WindowError(
            f'{store.path}: target="sequence" with a label for each step; use target="last", "aligned" or "future"'
        )
    if axis == "sequence" and shape.target != "sequence":
        raise WindowError(
            f'{store.path}: target="{shape.target}" with one label for a whole sequence; use target="sequence"'
        )


def _check_statistics(store: Store, statistics: Statistics) -> None:
    for name, rows, each in (
        ("inputs", store.schema.inputs, statistics.inputs),
        ("labels", store.schema.labels, statistics.labels),
    ):
        if name == "labels" and rows.dtype.kind != "f":
            continue
        if rows.features != each.count.size:
            raise WindowError(
                f"{store.path}: {name} have {rows.features:,} features, but normalize is of {each.count.size:,}; "
                "take the statistics of a store of this schema"
            )
        if rows.dtype.kind == "c":
            raise WindowError(f"{store.path}: {name} are {rows.dtype}; complex numbers cannot be normalised")
