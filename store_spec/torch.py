"""Batches for torch: of windows, with or without a `DataLoader`, and of whole sequences, packed."""

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.data import IterableDataset, default_convert, get_worker_info

from store_spec.errors import WindowError
from store_spec.reading.one_epoch import Transform
from store_spec.windows.batches import Batches
from store_spec.windows.windows import Windows


class WindowBatches(IterableDataset[Any]):
    """The batches of `windows.batches` as tensors. Each iteration is an epoch, the same one until `set_epoch`.

    Iterate over it, or over `DataLoader(dataset, batch_size=None, num_workers=...)`: the batches and their order are
    the same for any number of workers. Workers help only with a slow `transform`. Otherwise the threads that read ahead
    are faster: each worker reads all rows, uses its own `memory`, and copies its batches to the training process.

    Args:
        windows: The windows.
        batch_size: Windows in a batch. See `Batches` for the other arguments and the errors, except for these:
        rank, world_size: None for those of `torch.distributed`, once it is initialised. With Accelerate: 0, 1.
        transform: Arrays in its result become tensors. It must be picklable for workers that are not forked.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: bool = False,
        memory: int | str = "256MB",
        index: bool = False,
        weights: ArrayLike | None = None,
        transform: Transform | None = None,
    ) -> None:
        batches = partial(
            windows.batches, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, transform=transform
        )
        self._ranks, self._batches = (rank, world_size), partial(batches, memory=memory, index=index, weights=weights)
        self._start(epoch)  # raises errors now, and not in a worker
        self._epoch, self._first = torch.tensor(epoch).share_memory_(), epoch  # only the first is shared with workers

    def __getstate__(self) -> dict[str, Any]:
        """Include the present rank: `torch.distributed` is not initialised in workers that are not forked."""
        return self.__dict__ | {"_ranks": self._place(self._ranks)}

    def __iter__(self) -> "TensorBatches":
        first, self._first = self._first, -1 if get_worker_info() else self._first  # in a worker, only valid once
        return TensorBatches(self._start, int(self._epoch) if first < 0 else first)

    def __len__(self) -> int:
        return len(self._start(int(self._epoch)))

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that epoch, also in the workers of a `DataLoader`."""
        self._start(epoch)
        self._first = int(self._epoch.fill_(epoch))

    def _place(self, alone: tuple[Any, Any] = (0, 1)) -> tuple[Any, Any]:
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        here = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if several else alone
        rank, world_size = self._ranks
        return here[0] if rank is None else rank, here[1] if world_size is None else world_size

    def _start(self, epoch: int) -> Batches:
        rank, world_size = self._place()
        batches, worker = self._batches(epoch=epoch, rank=rank, world_size=world_size), get_worker_info()
        return batches if worker is None else batches.of_worker(worker.id, worker.num_workers)


class TensorBatches:
    """An iterator over an epoch of `WindowBatches`. Its state is that of `Batches`; torchdata's loaders can save it."""

    def __init__(self, start: Callable[[int], Batches], epoch: int) -> None:
        self._start, self._batches = start, start(epoch)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._batches)
            return tuple(map(_tensor_of, batch)) if type(batch) is tuple else _tensor_of(batch)
        except Exception as error:
            if get_worker_info() is not None:
                _check_can_be_sent(error)
            raise

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the epoch."""
        return self._batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called, in the epoch of the state."""
        try:
            batches = self._start(state["parameters"]["epoch"])
        except (KeyError, TypeError, WindowError):
            batches = self._batches  # `load_state_dict` below raises the error
        batches.load_state_dict(state)
        self._batches = batches


def _tensor_of(value: Any) -> Any:
    """Convert an array, or the arrays in a collection, to tensors that share their memory."""
    if isinstance(value, np.ndarray) and min(value.strides, default=0) < 0:
        value = value.copy()  # torch has no negative strides, which a transform may return
    return default_convert(value)


def _check_can_be_sent(error: Exception) -> None:
    """Raise a WindowError if the class of an error cannot be pickled: torch would drop the error, and wait forever."""
    try:
        pickle.dumps(type(error))
    except Exception:  # noqa: BLE001  # pickle raises errors of many classes
        raise WindowError(f"{type(error).__qualname__} in a worker: {error}") from error


def packed(rows: NDArray[Any], mask: NDArray[np.bool_]) -> PackedSequence:
    """Pack inputs (size, longest, ...) of `store.padded`, or labels of its steps, by the mask (size, longest)."""
    lengths = mask.sum(axis=1)
    if rows.shape[:2] != mask.shape or not lengths.all():
        raise WindowError(
            f"{np.sum(lengths == 0):,} of {len(mask):,} sequences have no steps, rows are {rows.shape}, and their mask "
            f"{mask.shape}; only steps can be packed, at least one each: take store.select(store.lengths > 0)"
        )
    order = np.argsort(~mask, axis=1, kind="stable")  # padding may be at the start
    rows = np.take_along_axis(rows, order.reshape(*mask.shape, *[1] * (rows.ndim - 2)), axis=1)
    return pack_padded_sequence(torch.from_numpy(rows), torch.from_numpy(lengths), True, enforce_sorted=False)
