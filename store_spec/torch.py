"""Batches for torch, with or without a `DataLoader`, as tensors, packed sequences and nested tensors."""

import inspect
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ParamSpec, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import IterableDataset, default_convert, get_worker_info

from store_spec.errors import WindowError
from store_spec.reading.one_epoch import OneEpoch
from store_spec.torch_epochs import EpochCounter

P = ParamSpec("P")


class BatchDataset(IterableDataset[Any]):
    """Batches as tensors. Each iteration is an epoch: the first one `epoch`, then the next one, and so on.

    Iterate over it, or over `DataLoader(dataset, batch_size=None, num_workers=...)`: the batches and their order are
    the same for any number of workers. Workers help only with a slow `transform`. Otherwise the threads that read ahead
    are faster: each worker reads all rows, uses its own `memory`, and copies its batches to the training process.
    `iter(dataset)` has `state_dict` and `load_state_dict`, to save and resume its epoch.

    Args:
        method: `windows.batches`, `store.padded`, `store.packed` or `store.streams`.
        *args: Its arguments, as in `BatchDataset(windows.batches, 256, shuffle=True)`.
        **options: Its further arguments. Without `rank` and `world_size`, those of `torch.distributed` are used, once
            it is initialised. Arrays in the result of a `transform` become tensors. For workers that are not forked, a
            `transform` must be picklable.
    """

    def __init__(self, method: Callable[P, OneEpoch[Any]], *args: P.args, **options: P.kwargs) -> None:
        given: dict[str, Any] = dict(options)
        epoch = given.pop("epoch", 0)
        self._begin: Callable[..., OneEpoch[Any]] = partial(method, *args, **given)
        self._ranked = not {"rank", "world_size"}.isdisjoint(given)
        self._ranks = self._place()
        self._start(epoch)  # raises errors now, and not in a worker
        self._epochs = EpochCounter(epoch)

    def __getstate__(self) -> dict[str, Any]:
        """Include the present rank: `torch.distributed` is not initialised in workers that are not forked."""
        return self.__dict__ | {"_ranks": self._place()}

    def __iter__(self) -> "TensorBatches":
        frame = inspect.currentframe()
        caller = None if frame is None or frame.f_back is None else frame.f_back.f_locals.get("self")
        if getattr(caller, "auto_collation", False):  # the caller is a fetcher of a DataLoader, with a batch_size
            raise WindowError("a DataLoader would put these batches into batches; give it batch_size=None")
        return TensorBatches(self._start, self._epochs.take(), self._epochs)

    def __len__(self) -> int:
        """Return the number of batches; TypeError if epochs differ, since loops use the first answer for all epochs."""
        batches = self._start(self._epochs.upcoming)
        if not batches.same_length_in_all_epochs:
            raise TypeError(f"epochs differ in length; this one has {len(batches):,} batches")
        return len(batches)

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that epoch, also in the workers of a `DataLoader`."""
        self._start(epoch)
        self._epochs.upcoming = epoch

    def _place(self) -> dict[str, int]:
        if self._ranked:
            return {}
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return {"rank": torch.distributed.get_rank(), "world_size": torch.distributed.get_world_size()}
        return getattr(self, "_ranks", {})

    def _start(self, epoch: int) -> OneEpoch[Any]:
        batches, worker = self._begin(epoch=epoch, **self._place()), get_worker_info()
        return batches if worker is None else batches.of_worker(worker.id, worker.num_workers)


class TensorBatches:
    """An iterator over an epoch of a `BatchDataset`.

    Its state is that of the batches; torchdata's `StatefulDataLoader` saves it.
    """

    def __init__(self, start: Callable[[int], OneEpoch[Any]], epoch: int, epochs: EpochCounter) -> None:
        self._start, self._batches, self._epochs = start, start(epoch), epochs

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return _tensor_of(next(self._batches))
        except Exception as error:
            if get_worker_info() is not None:
                _check_can_be_sent(error)
            raise

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the epoch."""
        return self._batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was called, in the epoch of the state; the next iteration is the one after it."""
        try:
            batches = self._start(state["parameters"]["epoch"])
        except (KeyError, TypeError, WindowError):
            batches = self._batches  # `load_state_dict` below raises the error
        batches.load_state_dict(state)
        self._batches, self._epochs.upcoming = batches, state["parameters"]["epoch"] + 1


def _tensor_of(value: Any) -> Any:
    """Convert an array, or the arrays in a collection, to tensors that share their memory."""
    if isinstance(value, np.ndarray) and min(value.strides, default=0) < 0:
        value = value.copy()  # torch has no negative strides, which a transform may return
    if isinstance(value, tuple | list):
        return getattr(value, "_make", type(value))(map(_tensor_of, value))
    if type(value) is dict:
        return {key: _tensor_of(each) for key, each in value.items()}
    return default_convert(value)


def _check_can_be_sent(error: Exception) -> None:
    """Raise a WindowError if the class of an error cannot be pickled: torch would drop the error, and wait forever."""
    try:
        pickle.dumps(type(error))
    except Exception:  # noqa: BLE001  # pickle raises errors of many classes
        raise WindowError(f"{type(error).__qualname__} in a worker: {error}") from error


def packed(rows: ArrayLike, mask: ArrayLike) -> PackedSequence:
    """Pack inputs of `store.padded`, or labels of its steps, for a recurrent network of torch.

    Args:
        rows: (batch_size, longest, ...), as an array or a tensor.
        mask: The mask of the batch, (batch_size, longest), likewise.

    Raises:
        WindowError: A sequence has no steps, or the shapes do not fit together.
    """
    rows, mask = np.asarray(rows), np.asarray(mask, bool)
    lengths = mask.sum(axis=1)
    if rows.shape[:2] != mask.shape or not lengths.all():
        raise WindowError(
            f"{np.sum(lengths == 0):,} of {len(mask):,} sequences have no steps, rows are {rows.shape}, and their mask "
            f"{mask.shape}; only steps can be packed, at least one each: take store.select(store.lengths > 0)"
        )
    sequences = [torch.from_numpy(steps[real]) for steps, real in zip(rows, mask, strict=True)]
    return pack_sequence(sequences, enforce_sorted=False)


def nested(rows: Any, batch: Any) -> torch.Tensor:
    """Return rows of `store.packed` as a jagged nested tensor (pieces, steps, ...), without padding.

    Args:
        rows: Inputs or labels of the batch, (batch_size, tokens, ...), as an array or a tensor.
        batch: The batch, for its `mask` and `position_ids`.
    """
    real = torch.as_tensor(batch.mask)
    starts = torch.nonzero(torch.as_tensor(batch.position_ids)[real] == 0).flatten()
    offsets = torch.cat((starts, torch.tensor([int(real.sum())])))
    return torch.nested.nested_tensor_from_jagged(torch.as_tensor(rows)[real], offsets)
