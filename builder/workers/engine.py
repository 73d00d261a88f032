"""Run tasks on worker processes, on a dask cluster, or one after another in this process, with the same results."""

import errno
import logging
import math
import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from builder.build_errors import BuildError, UsageError
from builder.workers.process_engine import ProcessEngine, process_engine
from store_spec import StorageError

# One task that runs, and one that waits. dask chooses the worker when a task is submitted, so further tasks might wait
# while another worker is free.
TASKS_PER_WORKER = 2
CONNECT_SECONDS = 10  # for a scheduler to answer
LOOK_SECONDS = 0.1  # between checks for workers

Item = TypeVar("Item")


class Task(Protocol):
    """A submitted function."""

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""


class _Call(Future[Any]):
    """A function and its arguments; it is called when the result is first requested."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self._call: tuple[Callable[..., Any], tuple[Any, ...]] | None = (function, arguments)

    @property
    def is_ready(self) -> bool:
        """Whether the tasks among the arguments are done."""
        return self._call is None or all(one.done() for one in self._call[1] if isinstance(one, _Call))

    def run(self) -> None:
        """Call the function, at most once."""
        if self._call is None:
            return
        function, arguments = self._call
        with _keep_working_folder():
            try:
                self.set_result(function(*(one.result() if isinstance(one, _Call) else one for one in arguments)))
            except Exception as error:  # noqa: BLE001  # raised by `result`, as dask does
                self.set_exception(error)
        self._call = None

    def result(self, timeout: float | None = None) -> Any:
        self.run()
        return super().result(timeout)


class InProcessEngine:
    """Runs tasks in this process, with the methods of `DaskEngine`: for debugging, and for small builds."""

    workers = 0  # worker processes

    def __init__(self) -> None:
        self.death_errors: tuple[type[Exception], ...] = ()
        self._watched: deque[_Call] = deque()

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Task:
        """Run an urgent task now if its arguments are ready; other tasks run when their results are needed.

        The arguments are those of `DaskEngine.submit`.
        """
        call = _Call(function, arguments)
        if urgent and call.is_ready:
            call.run()
        if watch:
            self._watched.append(call)
        return call

    def next_finished(self) -> Task:
        """Return a watched task that is done; otherwise run the first one, and return it."""
        self.wait(0)
        call = next(call for call in self._watched if call.done())
        self._watched.remove(call)
        return call

    def result(self, task: Task) -> Any:
        """Return what a task returned, or raise what it raised."""
        return task.result()

    def wait(self, seconds: float) -> bool:
        """Run the first watched task, however long it takes, unless one is done; return whether there is one."""
        del seconds
        if self._watched and not any(call.done() for call in self._watched):
            self._watched[0].run()
        return bool(self._watched)

    def abandon(self) -> None:
        """Forget the watched tasks; none of them is running."""
        self._watched.clear()


@contextmanager
def _keep_working_folder() -> Iterator[None]:
    """Restore the working folder: a process function may change it, and a build uses relative paths."""
    try:
        folder = os.open(".", os.O_RDONLY)
    except OSError:  # it may have been removed
        yield
        return
    try:
        yield
    finally:
        os.fchdir(folder)
        os.close(folder)


class DaskEngine:
    """Runs tasks, which are dask futures, on the workers of the user's dask cluster."""

    def __init__(self, client: Any, workers: int) -> None:
        from distributed import KilledWorker, as_completed  # takes half a second

        # What `Task.result` raises if the worker died each time that it ran the task.
        self.death_errors: tuple[type[Exception], ...] = (KilledWorker,)
        self.workers = workers  # how many tasks run at once
        self._client = client
        self._completed = as_completed(loop=client.loop)
        self._submitted: WeakSet[Any] = WeakSet()

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Task:
        """Send a function to a worker.

        Args:
            function: The function to run.
            *arguments: Its arguments; tasks among them stand for their results, which stay on the workers.
            watch: Return the task from `next_finished` when it is done. The results of other tasks stay on workers.
            urgent: Run it before other tasks, since it frees memory.
        """
        future: Task = self._client.submit(
            function,
            *arguments,
            pure=False,
            priority=int(urgent),
            # In the order of submission. By default tasks of the same tenth of a second run in any order; since batches
            # are registered in order, they would wait for earlier ones.
            fifo_timeout=0,
        )
        self._submitted.add(future)
        if watch:
            self._completed.add(future)
        return future

    def next_finished(self) -> Task:
        """Wait for a watched task, and return it; each task is returned once."""
        self.wait(math.inf)
        task: Task = next(self._completed)
        return task

    def wait(self, seconds: float) -> bool:
        """Wait for a watched task, up to a limit; return whether `next_finished` would return at once."""
        deadline = time.monotonic() + seconds
        while not self._completed.has_ready():
            if (left := deadline - time.monotonic()) <= 0:
                return False
            with self._completed.thread_condition:  # dask notifies it of each finished task
                if not self._completed.has_ready():
                    self._completed.thread_condition.wait(min(left, LOOK_SECONDS))
        return True

    def result(self, task: Any) -> Any:
        """Return what a finished task returned, or raise what it raised; it runs again if its worker died meanwhile."""
        return task.result()

    def abandon(self) -> None:
        """Drop all tasks; the workers finish their present ones."""
        self._client.cancel(list(self._submitted), force=True)


Engine = InProcessEngine | ProcessEngine | DaskEngine


def as_done(
    engine: Engine, items: Iterable[Item], submit: Callable[[Item], Task], death_error: Callable[[Item], BuildError]
) -> Iterator[tuple[Item, Any]]:
    """Submit a task for each item, a few at a time, and yield each item with the result of its task.

    `submit` starts a watched task for an item; no other task of the engine may be watched meanwhile. `death_error`
    returns the error for an item on which workers die.
    """
    waiting = iter(items)
    submitted: dict[Task, Item] = {}
    while True:
        for item in islice(waiting, TASKS_PER_WORKER * max(1, engine.workers) - len(submitted)):
            submitted[submit(item)] = item
        if not submitted:
            return
        task = engine.next_finished()
        item = submitted.pop(task)
        try:
            yield item, engine.result(task)
        except engine.death_errors as error:
            raise death_error(item) from error


@contextmanager
def start_engine(
    workers: int, scheduler: Any = None, stores: Iterable[object] = (), process: object = None
) -> Iterator[Engine]:
    """Start an engine, and stop it and its processes at the end.

    Args:
        workers: Processes on this machine; 0 runs everything in this one. A cluster of the user is assumed to have at
            least this many workers, since it may still be starting them.
        scheduler: The address of a dask scheduler, or a dask client, to use instead. It is not stopped.
        stores: The paths or URLs of the stores that tasks read and write.
        process: The process that tasks call.

    Raises:
        UsageError: No scheduler answers at that address, a store is in the memory of this process, or the process
            cannot be sent to workers.
        BuildError: The processes did not start, or the connection to the scheduler was lost.
    """
    if scheduler is None and workers == 0:
        yield InProcessEngine()
        return
    for store in stores:
        if str(store).startswith("memory:"):
            raise UsageError(
                f"{store}: is in the memory of this process, so other processes cannot do the work; set workers=0 "
                "(--workers 0), and no scheduler"
            )
    pickle.dumps(process)  # its error is clear, unlike that of dask for a task that cannot be pickled
    if scheduler is None:
        with process_engine(workers) as engine:
            yield engine
    elif isinstance(scheduler, str):
        with _connect(scheduler) as client, _explain_errors(f"at {scheduler}"):
            yield DaskEngine(client, max(workers, _threads(client)))
    else:
        with _explain_errors("of the given client"):
            yield DaskEngine(scheduler, max(workers, _threads(scheduler)))


def _threads(client: Any) -> int:
    """Return how many tasks a cluster runs at once; 0 if the connection is lost, which the first task reports."""
    try:
        return sum(client.nthreads().values()) if client.status == "running" else 0
    except OSError:
        return 0


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    try:
        if not address.startswith("inproc:"):
            place = get_address_host_port(address)  # with a wrong address, the client would be left half open
            if not address.startswith(("tls:", "ws:", "wss:", "ucx:")):
                # A scheduler sends the first message. If another server sends nothing, the client waits without limit.
                with socket.create_connection(place, CONNECT_SECONDS) as connection:
                    connection.recv(1)
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, MemoryError) as error:  # dask takes the first bytes of any server for a size
        raise UsageError(f"no dask scheduler answers at {address}: {error}") from error
    with _no_dask_log(), client:
        yield client


@contextmanager
def _no_dask_log() -> Iterator[None]:
    """Keep dask from logging lost connections with a traceback; our errors report the important ones."""
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@contextmanager
def _explain_errors(which: str) -> Iterator[None]:
    """Turn the errors of a lost scheduler into a BuildError; say what to do if a worker does not find a folder."""
    from concurrent.futures import CancelledError

    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, ClosedClientError, CommClosedError) as error:
        raise BuildError(
            f"the dask scheduler {which} went away, or cancelled our tasks; what was committed stays: start it "
            "again, or leave out --scheduler, and repeat the command to continue"
        ) from error
    except StorageError as error:
        if error.errno != errno.ENOENT:
            raise
        raise StorageError(
            error.errno,
            f"{error.strerror}; if the workers of the cluster do not see this folder, use a disk that all workers "
            "share, or a URL",
        ) from error
