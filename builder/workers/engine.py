"""Where tasks run: on a dask cluster, or one after another in this process. The same tasks, the same answers."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from builder.build_errors import BuildError, UsageError
from builder.workers.local_cluster import ONE_BATCH, local_cluster, no_dask_log

# Tasks a worker: one that runs, and one that waits. More would wait for a worker that was chosen when they were
# submitted, while another one is free.
AHEAD = 2
CONNECT_SECONDS = 10  # for a scheduler to answer
POLL_SECONDS = 0.005

Item = TypeVar("Item")


class Task(Protocol):
    """Something submitted; its result is asked for once it is done."""

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""


class Engine(Protocol):
    """Runs functions whose arguments may be tasks: those stand for their results, which stay where they are."""

    lost: tuple[type[Exception], ...]  # what the result of a task raises whose workers died, each time that it ran
    workers: int  # how many tasks it runs at once; 0: this process runs each

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Task:
        """Start a task.

        Args:
            function: What to run.
            *arguments: Its arguments; tasks among them stand for their results.
            watch: Give the task from `finished` when it is done.
            urgent: Run it before those that are not, and beside one of them: it lets memory go.
        """

    def finished(self) -> Task:
        """Wait for a watched task that is done; each is given once."""

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for a watched task; tell whether `finished` would return at once."""

    def abandon(self) -> None:
        """Drop all tasks. When it returns, nothing of ours runs on this machine; others' clusters are told to stop."""


class _Call:
    """A function and its arguments; it is called when the result is first asked for."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._call: tuple[Callable[..., Any], tuple[Any, ...]] | None = (function, arguments)
        self._value: Any = None
        self._error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether the function was called."""
        return self._call is None

    @property
    def is_ready(self) -> bool:
        """Whether the tasks among the arguments are done."""
        return self._call is None or all(one.is_done for one in self._call[1] if isinstance(one, _Call))

    def run(self) -> None:
        """Call the function, unless that was done."""
        if self._call is None:
            return
        function, arguments = self._call
        with _same_folder():
            try:
                self._value = function(*(one.result() if isinstance(one, _Call) else one for one in arguments))
            except Exception as error:  # noqa: BLE001  # raised by `result`, as dask does
                self._error = error
        self._call = None

    def result(self) -> Any:
        self.run()
        if self._error is not None:
            raise self._error
        return self._value


class InProcess:
    """Runs tasks in this process: for debugging, and where starting processes is not worth it."""

    workers = 0

    def __init__(self) -> None:
        self.lost: tuple[type[Exception], ...] = ()
        self._watched: deque[_Call] = deque()

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Task:
        """Run an urgent task now if its arguments are there, any other when its result is asked for."""
        call = _Call(function, arguments)
        if urgent and call.is_ready:
            call.run()
        if watch:
            self._watched.append(call)
        return call

    def finished(self) -> Task:
        """Return a watched task that is done, or else run the one that was submitted first."""
        call = next((call for call in self._watched if call.is_done), self._watched[0])
        self._watched.remove(call)
        call.run()
        return call

    def wait(self, seconds: float) -> bool:
        """Tell whether there is a watched task."""
        del seconds
        return bool(self._watched)

    def abandon(self) -> None:
        """Nothing is running."""
        self._watched.clear()


@contextmanager
def _same_folder() -> Iterator[None]:
    """Come back to the working folder: a process function may go elsewhere, and a build has relative paths."""
    try:
        folder = os.open(".", os.O_RDONLY)
    except OSError:  # there may be none
        yield
        return
    try:
        yield
    finally:
        os.fchdir(folder)
        os.close(folder)


class OnDask:
    """Runs tasks on the workers of a dask cluster. Its tasks are dask's futures."""

    def __init__(self, client: Any, workers: int, batch_needs: dict[str, int] | None = None) -> None:
        from distributed import KilledWorker, as_completed  # half a second, for which `seqzarr --help` need not wait

        self.lost: tuple[type[Exception], ...] = (KilledWorker,)
        self.workers = workers
        self._client = client
        self._batch_needs = batch_needs  # of a worker's resources, for a task that is not urgent
        self._completed = as_completed(loop=client.loop)
        self._submitted: WeakSet[Any] = WeakSet()

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Task:
        """Send the function to a worker.

        Raises:
            UsageError: The process function cannot be sent.
        """
        try:
            future: Task = self._client.submit(
                function,
                *arguments,
                pure=False,
                priority=int(urgent),
                # First come, first served: by default tasks of the same tenth of a second come in any order, and what
                # is registered in the order of the batches would wait for one that is forgotten.
                fifo_timeout=0,
                resources=None if urgent else self._batch_needs,
            )
        except TypeError as error:  # dask's own, of whatever did not let itself be pickled
            _raise_ours(error)
            raise
        self._submitted.add(future)
        if watch:
            self._completed.add(future)
        return future

    def finished(self) -> Task:
        """Wait for the next watched task."""
        task: Task = next(self._completed)
        return task

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for a watched task."""
        deadline = time.monotonic() + seconds
        while not self._completed.has_ready():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def abandon(self) -> None:
        """Cancel the tasks; workers of a cluster that is not ours finish those that they have begun."""
        self._client.cancel(list(self._submitted), force=True)


def _raise_ours(error: BaseException | None) -> None:
    """Raise what of an error's causes says it in our words."""
    while error is not None:
        if isinstance(error, UsageError):
            raise error from None
        error = error.__cause__ or error.__context__


class OnOurWorkers(OnDask):
    """Runs tasks on worker processes that are ours to stop."""

    def __init__(self, client: Any, workers: int, stop: Callable[[], None]) -> None:
        super().__init__(client, workers, ONE_BATCH)
        self._stop = stop

    def abandon(self) -> None:
        """Stop the workers, whatever they are doing."""
        self._stop()


def as_done(engine: Engine, items: Iterable[Item], submit: Callable[[Item], Task]) -> Iterator[tuple[Item, Task]]:
    """Have something done with each item, a few at a time, and give each with its task, which is done.

    Args:
        engine: Where; nothing else may be watched there meanwhile.
        items: Taken one by one, no earlier than needed.
        submit: Starts a watched task for an item.
    """
    waiting = iter(items)
    open_: dict[Task, Item] = {}
    while True:
        for item in islice(waiting, AHEAD * max(1, engine.workers) - len(open_)):
            open_[submit(item)] = item
        if not open_:
            return
        task = engine.finished()
        yield open_.pop(task), task


@contextmanager
def start_engine(workers: int, scheduler: Any = None) -> Iterator[Engine]:
    """Start what runs the tasks, and stop it at the end: no process of ours is left.

    Args:
        workers: Processes on this machine; 0 runs everything in this one. A cluster of others counts as having so many
            at least: it may be about to get them.
        scheduler: The address of a dask scheduler, or a dask client, to use instead. It is not stopped.

    Raises:
        UsageError: There is no scheduler at that address.
        BuildError: The processes did not start; or the scheduler went away meanwhile.
    """
    if scheduler is None and workers == 0:
        yield InProcess()
        return
    if scheduler is None:
        with local_cluster(workers) as (client, stop):
            yield OnOurWorkers(client, workers, stop)
    elif isinstance(scheduler, str):
        with _connected(scheduler) as client, _loss_told(f"at {scheduler}"):
            yield OnDask(client, max(workers, _threads(client)))
    else:
        with _loss_told("of the given client"):
            yield OnDask(scheduler, max(workers, _threads(scheduler)))


def _threads(client: Any) -> int:
    """Return how many tasks a cluster runs at once; 0 where it is gone, as the first task will tell."""
    try:
        return sum(client.nthreads().values()) if client.status == "running" else 0
    except OSError:
        return 0


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    try:
        if not address.startswith("inproc:"):
            get_address_host_port(address)  # of one that is wrong the client would be left half made
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"no dask scheduler answers at {address}: {error}") from error
    with no_dask_log(), client:
        yield client


@contextmanager
def _loss_told(which: str) -> Iterator[None]:
    """Say so where the scheduler went away, whatever it was asked just then."""
    from concurrent.futures import CancelledError

    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, ClosedClientError, CommClosedError) as error:
        raise BuildError(
            f"the dask scheduler {which} went away, or cancelled our tasks; what was committed stays: start it "
            "again, or do without it (--scheduler), and the same command goes on from there"
        ) from error
