"""An epoch of windows in batches: rows are read in the background, and windows are gathered from memory."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from store_spec.errors import WindowError
from store_spec.reading.argument_checks import checked_weights
from store_spec.reading.named_batch import Batch
from store_spec.reading.one_epoch import OneEpoch
from store_spec.windows.epoch import BatchOptions, Epoch

if TYPE_CHECKING:
    from store_spec.windows.windows import Windows


class Batches(OneEpoch[Batch, Epoch]):
    """An iterator over the batches of one epoch. Get one from `windows.batches`.

    A `Batch` is a tuple of new arrays with names, which stack the arrays of samples (see `Windows`): inputs (size,
    window, *feature shape); labels (size, ...); with `mask=True` or `short="pad"` mask (size, window); with
    `value_mask=True` value_mask (size, window, *feature shape); with `future=` future (size, horizon, columns); with
    `static=` static (size, columns); with `index=True` index, int64 (size,), the numbers of the windows, for which
    `batches.windows.locate` returns source, part and step. Each window occurs once, unless `weights` are given.

    Without `shuffle`, windows are in the order of their numbers. With it, short runs of windows are read in random
    order, many from all over the store are in memory at a time, and windows are drawn at random from these. The order
    is a pure function of `seed`, `epoch`, the windows, the places of their sequences in the store, the size of its
    chunks, and `memory`; it does not depend on `batch_size`, `rank` or `world_size`.

    Threads read and gather ahead. They are started by the first `next`, and end when the iterator is exhausted, closed
    or deleted. An error ends the epoch: each later `next`, in any thread, raises a WindowError. After a fork, an
    iterator that was in use is refused in the child. `OneEpoch` explains threads that share one, and a second loop.

    Args:
        windows: The windows.
        batch_size: Windows in a batch. The last batch may have fewer; with several ranks, the last two.
        epoch: With `phase="random"` or random lengths, another epoch has other windows, too.
        rank: It gets the windows `rank`, `rank + world_size`, ... of the epoch, and reads only their chunks if
            `world_size` divides 48. Windows that are too few for a whole batch of every rank are distributed evenly
            (see `ranks.Turns`).
        memory: If all rows of the windows fit, they stay in memory for later epochs of the same windows, up to three
            quarters of this, until the windows are deleted, start an epoch with less memory, or four other windows have
            cached rows since.
        weights: Windows have the weight of their sequence. No chunks are read for sequences of weight 0. With
            `windows.sequence_weights()` all classes are drawn equally often. To draw equally often from each sequence,
            whatever its length, use `weights / np.diff(windows.index.first)`.

    All other arguments, and more about these, are in `EpochOptions`.

    Raises:
        WindowError: An argument is not as above, windows cannot be distributed over so many ranks without leaving some
            out, or a run of windows or a batch does not fit into the memory.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), source="walk-0")
    ...     writer.append(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"), source="walk-1")
    >>> windows = store_spec.open_store(path).windows(4)
    >>> [(x.shape, y.shape) for x, y in windows.batches(4, shuffle=True)]
    [((4, 4, 2), (4, 1, 1)), ((2, 4, 2), (2, 1, 1))]
    >>> batches = windows.batches(4, shuffle=True)
    >>> x, y = next(batches)
    >>> state = batches.state_dict()  # can be saved as JSON
    >>> resumed = windows.batches(4, shuffle=True)
    >>> resumed.load_state_dict(state)
    >>> [len(x) for x, y in resumed]
    [2]
    """

    _of, _kind, _restarts = "windows.batches", "windows", False

    def __init__(self, windows: Windows, options: BatchOptions) -> None:
        weights = checked_weights(options.weights, np.diff(windows.index.first), windows.store.path)
        self._of_worker = False
        self.varying_axes = 0 if options.drop_last else 1
        super().__init__(options, Epoch.make(options, windows, weights))

    @property
    def windows(self) -> Windows:
        """The windows; with `phase="random"` those of this epoch."""
        return self._plan.rows

    @property
    def same_length_in_all_epochs(self) -> bool:
        """Whether all epochs with these arguments have the same number of batches."""
        return self.windows.shape.phase == "first"

    def _open(self) -> Generator[Batch, None, None]:
        numbers = range(self._next, len(self), self._every)
        return self._plan.batches(numbers, gathered_ahead=not self._of_worker)  # a DataLoader makes batches in advance

    def __reduce__(self) -> tuple[type[Batches], tuple[Any, ...]]:
        raise WindowError(
            "batches cannot be pickled, as a thread reads ahead for them; pickle the windows, and call batches there"
        )

    def of_worker(self, worker: int, workers: int) -> Self:
        """Keep only the batches of one worker process: `worker`, `worker + workers`, ...

        Rows are read ahead; a batch is gathered and transformed when it is needed.

        Raises:
            WindowError: There is no such worker.
        """
        self._of_worker = True
        return super().of_worker(worker, workers)

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the batches taken so far: a small dict, some hundred bytes as JSON.

        It is the same for every rank that has taken as many batches. Batches with the same arguments can continue from
        it with `load_state_dict`, in another process, and with another `world_size` if `batch_size * world_size` is the
        same and there is a window left for each rank.
        """
        # Workers have taken different numbers of batches, but must agree on how the last ones are distributed.
        last = {} if self._every == 1 else {"last": self._plan.turns.last[1]}
        return super().state_dict() | last
