"""Batches for TensorFlow and Keras: datasets with another epoch in each iteration, and ragged tensors."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from store_spec.errors import WindowError
from store_spec.reading.one_epoch import Transform
from store_spec.sequences.padded import PaddedBatches
from store_spec.sequences.streams import Streams
from store_spec.windows.batches import Batches
from store_spec.windows.windows import Windows

Epoch = Batches | PaddedBatches | Streams


def dataset(
    windows: Windows,
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    memory: int | str = "256MB",
    index: bool = False,
    weights: ArrayLike | None = None,
    transform: Transform | None = None,
) -> Any:
    """Return the batches of `windows.batches`, which has these arguments, as a `tf.data.Dataset`.

    The first iteration is the epoch `epoch`, the next one the epoch after it, and so on: `model.fit(dataset(...),
    epochs=20)` and `repeat(20)` see 20 orders. Use another dataset to evaluate. Shapes and dtypes are known beforehand,
    so are the number of windows in a batch with `drop_last=True`, and the number of batches unless `phase="random"`
    changes it.

    After each batch glibc returns TensorFlow's memory to the system, and allocates it again for the next batch, which
    may take longer than everything else. With `MALLOC_TOP_PAD_=67108864` in the environment when Python starts, glibc
    keeps 64 MiB.

    `transform` may return any structure of tuples and dicts of arrays that have an item for each window. To learn the
    structure, it is also called here, with the first window alone.

    Raises:
        StoreError: As `Batches`, or there is no window.
    """
    start = partial(windows.batches, batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
    start = partial(start, drop_last=drop_last, memory=memory, index=index, weights=weights, transform=transform)
    batches = len(start(epoch=epoch))
    sample: Any = (*(part[None] for part in map(np.asarray, windows[0])), *([np.zeros(1, np.int64)] if index else []))
    signature = _signature(sample if transform is None else transform(sample), batch_size if drop_last else None)
    fixed = batches if windows.shape.phase == "first" else None
    return _dataset(lambda number: start(epoch=number), epoch, signature, fixed)


def epochs(begin: Callable[[int], Epoch], *, epoch: int = 0, constant: bool = True) -> Any:
    """Return the batches of `store.padded`, `store.streams` or `windows.batches` as a `tf.data.Dataset`.

    The first iteration is `begin(epoch)`, the next one `begin(epoch + 1)`, and so on, as with `dataset`. Shapes are
    known as far as they are the same for all batches.

    Args:
        begin: Called with the number of an epoch, as in `epochs(lambda epoch: store.padded(32, epoch=epoch))`.
        epoch: The first epoch. Its first batch is also read here, to learn the structure of a batch.
        constant: Whether all epochs have the same number of batches, which Keras needs to know. This is so except for
            shuffled `padded(max_steps=...)` and windows with `phase="random"`; TensorFlow raises an error if it is not.

    Raises:
        StoreError: There is no batch, or it cannot be read.
    """
    first = begin(epoch)
    for batch in first:
        # Padded batches differ in size and steps; the last batch of windows may be smaller; streams are all the same.
        varying = 2 if isinstance(first, PaddedBatches) else 1 if isinstance(first, Batches) else 0
        return _dataset(begin, epoch, _signature(batch, *[None] * varying), len(first) if constant else None)
    raise WindowError(f"epoch {epoch:,} has 0 batches, and a dataset needs 1 to learn its shapes")


def ragged(rows: Any, mask: Any) -> Any:
    """Return inputs (size, longest, ...) of `store.padded`, or labels of its steps, as a `tf.RaggedTensor`.

    It can be used in a dataset: `epochs(...).map(lambda x, y, mask: (ragged(x, mask), ragged(y, mask)))`.

    Args:
        rows: An array or tensor.
        mask: Bool (size, longest), True for real steps; padding may be at either side.
    """
    return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(rows, mask), tf.math.count_nonzero(mask, axis=1))


def _dataset(begin: Callable[[int], Epoch], epoch: int, signature: Any, batches: int | None) -> Any:
    numbers = itertools.count(epoch)
    result = tf.data.Dataset.from_generator(lambda: begin(next(numbers)), output_signature=signature)
    return result if batches is None else result.apply(tf.data.experimental.assert_cardinality(batches))


def _signature(batch: Any, *first: int | None) -> Any:
    """Return dtypes and shapes of a batch; the sizes of the first axes are replaced by `first`."""

    def of(array: Any) -> Any:
        array = np.asarray(array)
        return tf.TensorSpec((*first[: array.ndim], *array.shape[len(first) :]), array.dtype)

    return tf.nest.map_structure(of, batch)
