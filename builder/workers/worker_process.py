"""A worker process: it runs tasks, one after another, and keeps the results that other tasks need.

This module imports little, since `work_until_closed` sets the environment before NumPy is imported.
"""

import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, Self

# Numerical libraries leave the other cores to the other workers.
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Pickled:
    """An object in the form in which processes send it to each other. Its large arrays are sent without a copy."""

    data: bytes
    buffers: tuple[Any, ...]

    @classmethod
    def of(cls, value: object) -> Self:
        """Pickle an object."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, 5, buffer_callback=buffers.append)
        return cls(data, tuple(buffer.raw() for buffer in buffers))

    def load(self) -> Any:
        """Return the object."""
        return pickle.loads(self.data, buffers=self.buffers)  # noqa: S301  # from another process of the same build


@dataclass(frozen=True, slots=True)
class Call:
    """A task for a worker. Objects follow it: the function with its arguments, then results from other workers."""

    number: int  # of the task
    is_kept: bool  # whether its result stays in the worker
    released: tuple[int, ...]  # tasks whose results are not needed any more


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a task. Its result follows it, unless the result is kept."""

    nbytes: int = 0  # of a result that is kept
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """An argument: the result of a task that the worker keeps."""

    number: int


@dataclass(frozen=True, slots=True)
class Sent:
    """An argument: a result from another worker, by its place among the objects that follow a call."""

    place: int


def send(connection: Connection, head: object, *objects: Pickled) -> None:
    """Send an object, and pickled ones."""
    connection.send((head, [len(one.buffers) for one in objects]))
    for one in objects:
        for part in (one.data, *one.buffers):
            connection.send_bytes(part)


def receive(connection: Connection) -> tuple[Any, list[Pickled]]:
    """Return what `send` sent; EOFError or OSError if the other process ended."""
    head, counts = connection.recv()
    parts = [[connection.recv_bytes() for _ in range(1 + count)] for count in counts]
    return head, [Pickled(data, tuple(buffers)) for data, *buffers in parts]


def work_until_closed(connection: Connection, prepare: Callable[[], None]) -> None:
    """Run tasks until the connection is closed, or until the process that started this one ends, however it ends."""
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    done, closed_when_done = Pipe(duplex=False)
    # Not in the main thread, where Blosc starts threads, and where a KeyboardInterrupt would be taken for a Ctrl-C.
    threading.Thread(target=_serve, args=(connection, prepare, closed_when_done), daemon=True).start()
    parent = parent_process()
    assert parent is not None
    if parent.sentinel in wait([parent.sentinel, done]):
        os._exit(1)


def _serve(connection: Connection, prepare: Callable[[], None], closed_when_done: Connection) -> None:
    with closed_when_done, suppress(EOFError, OSError):
        prepare()
        send(connection, Answer())
        kept: dict[int, Any] = {}
        while True:
            call, objects = receive(connection)
            for number in call.released:
                kept.pop(number, None)
            send(connection, *_answer(call, objects, kept))
            del objects


def _answer(call: Call, objects: list[Pickled], kept: dict[int, Any]) -> tuple[Any, ...]:
    """Run a task; return the answer, and its result unless it is kept."""
    try:
        function, arguments = objects[0].load()
        result = function(*(_argument(one, objects, kept) for one in arguments))
        if call.is_kept:
            kept[call.number] = result
            values = result.values() if isinstance(result, dict) else [result]
            return (Answer(nbytes=sum(map(sys.getsizeof, values))),)
        return Answer(), Pickled.of(result)
    except BaseException as error:  # noqa: BLE001  # raised in the other process
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:  # noqa: BLE001
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return (Answer(error=error),)


def _argument(one: object, objects: list[Pickled], kept: dict[int, Any]) -> Any:
    if isinstance(one, Kept):
        return kept[one.number]
    return objects[one.place].load() if isinstance(one, Sent) else one
