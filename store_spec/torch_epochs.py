"""The epochs of a `BatchDataset`, counted for each process that iterates, and its workers."""

import os
from multiprocessing import current_process, get_context, parent_process
from multiprocessing.context import get_spawning_popen
from typing import Any

import torch
from torch.utils.data import get_worker_info


class EpochCounter:
    """Counts the epochs of each process that iterates, in memory that it shares with its workers.

    Ranks that were forked or spawned with the dataset share that memory, too, but each counts on its own.
    """

    def __init__(self, epoch: int) -> None:
        self._first = epoch  # of a process that has not iterated yet
        # Process, its next epoch.
        self._next = torch.full((256, 2), -1, dtype=torch.int64).share_memory_()
        # What workers took last: process, seed, number of passes of the worker, workers, first worker, epoch.
        self._taken = torch.full((1024, 6), -1, dtype=torch.int64).share_memory_()
        self._lock = get_context("spawn").Lock()  # forked workers can use it too
        self._passes = 0

    def __getstate__(self) -> dict[str, Any]:
        for_process = get_spawning_popen() is not None  # any other copy has its own memory
        return (self.__dict__ if for_process else {}) | {"_first": self.upcoming}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_lock" in state:
            self.__dict__ |= state
        else:
            self.__init__(state["_first"])  # type: ignore[misc]

    @property
    def upcoming(self) -> int:
        """The epoch of the next iteration."""
        with self._lock:
            return int(self._place())

    @upcoming.setter
    def upcoming(self, epoch: int) -> None:
        with self._lock:
            self._first = epoch
            self._place().fill_(epoch)

    def take(self) -> int:
        """Return the epoch of this iteration: the same for all workers of one pass of a `DataLoader`."""
        worker = get_worker_info()
        with self._lock:
            place = self._place()
            epoch = int(place)
            if worker is not None:
                # `seed - id` is the same for all workers of a loader, and for all its passes if the workers persist, or
                # if the user seeds torch before each pass. Python numbers processes: a pass starts its workers one
                # after another, so those of the pass before have numbers that are smaller by at least their count.
                first = current_process()._identity[-1] - worker.id  # noqa: SLF001
                key = [_iterating(), worker.seed - worker.id, self._passes, worker.num_workers]
                same = (self._taken[:, :4] == torch.tensor(key)).all(dim=1)
                same &= (self._taken[:, 4] - first).abs() < worker.num_workers
                if same.any():
                    self._passes += 1
                    return int(self._taken[same][-1, 5])
                _append(self._taken, [*key, first, epoch])
            self._passes += 1
            self._first = epoch + 1
            place.fill_(self._first)
        return epoch

    def _place(self) -> torch.Tensor:
        """Return the place of the next epoch of the process that iterates."""
        process = _iterating()
        if not (self._next[:, 0] == process).any():
            _append(self._next, [process, self._first])
        place: torch.Tensor = self._next[int((self._next[:, 0] == process).nonzero()[0]), 1]
        return place


def _iterating() -> int:
    """Return the number of the process that iterates; a worker works for the process that started it."""
    if get_worker_info() is None:
        return os.getpid()
    parent = parent_process()
    assert parent is not None
    assert parent.pid is not None
    return parent.pid


def _append(table: torch.Tensor, row: list[int]) -> None:
    """Put a row at the end of a table, in place of the first one."""
    table[:-1] = table[1:].clone()
    table[-1] = torch.tensor(row)
