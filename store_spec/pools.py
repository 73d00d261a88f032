"""Windows that lie in memory together: rows are loaded ahead of time in a thread, batches are cut from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from store_spec.index import WindowShape

Batch = tuple[NDArray[Any], ...]
Loaded = TypeVar("Loaded")


class Pool:
    """Windows in memory, in the order in which batches take them.

    Args:
        shape: What a window takes.
        inputs: (rows, *feature shape); a window that is padded may reach past its sequence, but not past these rows.
        labels: (rows, *target shape), of the same rows; for `target="sequence"` one row a piece.
        position: (windows,), where in `inputs` each window starts.
        piece: (windows,), the piece that each is of; None where neither padding nor labels need it.
        real: (pieces,), how many input rows are real, the same for all windows of a piece; None if all are.
    """

    def __init__(
        self,
        *,
        shape: WindowShape,
        inputs: NDArray[Any],
        labels: NDArray[Any],
        position: NDArray[np.intp],
        piece: NDArray[np.intp] | None,
        real: NDArray[np.int64] | None,
    ) -> None:
        self._shape = shape
        self._inputs = _runs(inputs, shape.window, shape.sampling_rate)
        self._labels = labels
        if shape.target == "aligned":
            self._labels = _runs(labels, shape.window, shape.sampling_rate)
        elif shape.target == "future":
            self._labels = _runs(labels, shape.horizon, 1)
        self._position, self._piece, self._real = position, piece, real

    def cut(self, start: int, stop: int) -> Batch:
        """Return windows `start` to `stop` as new arrays: inputs, labels, and the mask where windows may be padded."""
        shape, at = self._shape, self._position[start:stop]
        piece = at if self._piece is None else self._piece[start:stop]
        real = shape.window if self._real is None else self._real[piece]
        inputs = self._inputs[at]
        if shape.target == "sequence":
            labels = self._labels[piece]
        elif shape.target == "aligned":
            labels = self._labels[at]
        else:
            past = 1 + shape.lead if shape.target == "future" else 0
            labels = self._labels[at + ((real - 1) * shape.sampling_rate + past)]
        if self._real is None:
            return inputs, labels
        mask = np.arange(shape.window) < np.reshape(real, (-1, 1))
        if not mask.all():
            inputs[~mask] = 0
            if shape.target == "aligned":
                labels[~mask] = 0
        return inputs, labels, mask


def join(parts: list[Batch]) -> Batch:
    """Make one batch of what several pools gave."""
    return parts[0] if len(parts) == 1 else tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def read_ahead(load: Callable[[int, threading.Event], Loaded], count: int) -> Generator[Loaded, None, None]:
    """Yield `load(0, cancelled)`, `load(1, cancelled)`, ..., each called in a thread while the one before is in use.

    At most two are there at a time. When the generator is closed, `cancelled` is set and the thread is waited for.
    """
    cancelled = threading.Event()
    loading = _Loading(load, 0, cancelled) if count else None
    try:
        for number in range(1, count + 1):
            assert loading is not None
            loaded = loading.result()
            loading = _Loading(load, number, cancelled) if number < count else None
            yield loaded
            del loaded
    finally:
        cancelled.set()
        # The garbage collector may close a generator in any thread, that one among them.
        if loading is not None and loading is not threading.current_thread():
            loading.join()


class _Loading(threading.Thread):
    """One call in a thread of its own, which ends with it."""

    def __init__(self, load: Callable[[int, threading.Event], Any], number: int, cancelled: threading.Event) -> None:
        super().__init__(name=f"seqzarr pool {number}", daemon=True)
        self._load, self._number, self._cancelled = load, number, cancelled
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._load(self._number, self._cancelled)
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is asked for
            self._error = error

    def result(self) -> Any:
        self.join()
        if self._error is not None:
            raise self._error
        return self._result


def _runs(rows: NDArray[Any], count: int, step: int) -> NDArray[Any]:
    """Return a view whose item i is `rows[i]`, `rows[i + step]`, ..., `count` of them."""
    span = (count - 1) * step + 1
    return as_strided(
        rows,
        (max(0, len(rows) - span + 1), count, *rows.shape[1:]),
        (rows.strides[0], rows.strides[0] * step, *rows.strides[1:]),
        writeable=False,
    )
