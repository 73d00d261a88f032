"""Batches for TensorFlow and Keras: datasets with another epoch in each iteration, and ragged tensors."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec

import numpy as np
import tensorflow as tf

from store_spec.errors import WindowError
from store_spec.reading.named_batch import Batch
from store_spec.reading.one_epoch import OneEpoch

P = ParamSpec("P")


def dataset(method: Callable[P, OneEpoch[Any]], *args: P.args, **options: P.kwargs) -> Any:
    """Return batches as a `tf.data.Dataset`: `dataset(windows.batches, 256, shuffle=True)`.

    The first iteration is the epoch `epoch`, the next one the epoch after it, and so on: `model.fit(dataset(...),
    epochs=20)` and `repeat(20)` see 20 orders. Use another dataset to evaluate. Shapes are known as far as they are the
    same for all batches, and the number of batches if it is the same for all epochs. If it is not, as for shuffled
    streams, call `model.fit(batches, initial_epoch=n, epochs=n + 1)` for each epoch n. In one call, later epochs get
    at most one batch more than the first one had. Keras warns each time that its input ran out of data.

    `model.fit` takes a third array for weights of the samples, even if it is a mask, `reset` or `index`. Remove it, as
    in `dataset(store.streams, 32, 64).map(lambda x, y, reset: (x, y))`, or make it an input of the model.

    After each batch glibc returns TensorFlow's memory to the system, and allocates it again for the next batch, which
    may take longer than everything else. With `MALLOC_TOP_PAD_=67108864` in the environment when Python starts, glibc
    keeps 64 MiB.

    Args:
        method: `windows.batches`, `store.padded`, `store.packed` or `store.streams`.
        *args: Its arguments.
        **options: Its further arguments. A `transform` may return any structure of tuples and dicts of arrays whose
            first axis is that of the batch. The first batch of the first epoch is also read here, to learn the
            structure.

    Raises:
        StoreError: An argument is not as above, there is no batch, or it cannot be read.
    """
    given: dict[str, Any] = dict(options)
    epoch = given.pop("epoch", 0)
    begin: Callable[..., OneEpoch[Any]] = partial(method, *args, **given)
    first, numbers = begin(epoch=epoch), itertools.count(epoch)
    if not len(first):
        raise WindowError(f"epoch {epoch:,} has 0 batches, and a dataset needs 1 to learn its shapes")
    signature = _signature(next(first), first.varying_axes)
    first.close()
    result = tf.data.Dataset.from_generator(lambda: map(_plain, begin(epoch=next(numbers))), output_signature=signature)
    fixed = first.same_length_in_all_epochs
    return result.apply(tf.data.experimental.assert_cardinality(len(first))) if fixed else result


def ragged(rows: Any, mask: Any) -> Any:
    """Return inputs (size, longest, ...) of `store.padded`, or labels of its steps, as a `tf.RaggedTensor`.

    It can be used in a dataset: `dataset(store.padded, 32).map(lambda x, y, mask: (ragged(x, mask), ragged(y, mask)))`.

    Args:
        rows: An array or tensor.
        mask: Bool (size, longest), True for real steps; padding may be at either side.
    """
    return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(rows, mask), tf.math.count_nonzero(mask, axis=1))


def _plain(batch: Any) -> Any:
    """Return a batch as TensorFlow and Keras take it: a plain tuple."""
    return tuple(batch) if isinstance(batch, Batch) else batch


def _signature(batch: Any, varying: int) -> Any:
    """Return dtypes and shapes of a batch; the sizes of the first `varying` axes are unknown."""

    def spec_of(array: Any) -> Any:
        array = np.asarray(array)
        unknown = [None] * min(varying, array.ndim)
        return tf.TensorSpec((*unknown, *array.shape[len(unknown) :]), array.dtype)

    return tf.nest.map_structure(spec_of, _plain(batch))
