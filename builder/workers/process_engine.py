"""Run tasks on worker processes of this machine. Results stay in the workers, and are sent where they are needed.

If a worker dies, it is replaced, and what only it had runs again when it is needed.
"""

import itertools
import math
import multiprocessing
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from builder.build_errors import BuildError
from builder.workers.interrupts import Interrupts
from builder.workers.processes import block_interrupts, hide_main, limit_memory, worker_memory
from builder.workers.worker_process import Answer, Call, Kept, Pickled, Sent, receive, send, work_until_closed

START_SECONDS = 60.0  # for a worker to start, or to start again
STOP_SECONDS = 2.0  # for an idle worker to end
NAME = "seqzarr worker"  # the beginning of the names of processes
MOST_DEATHS = 3  # of workers that run a task, before it is given up


class WorkerDeathError(Exception):
    """Workers died each time that they ran a task."""


@dataclass(slots=True, eq=False)
class _Work:
    """The function of a task. It outlives the task as long as other work may need its result."""

    number: int
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    is_kept: bool  # whether the result stays in the worker
    is_urgent: bool
    state: Literal["idle", "waiting", "running", "done", "failed"] = "idle"  # idle: there is no result
    worker: "_Worker | None" = None  # which runs it, or keeps the result
    place: "_Worker | None" = None  # which is to run it, since it keeps most of the arguments
    result: Pickled | None = None  # in this process
    nbytes: int = 0  # of a result that is kept
    error: BaseException | None = None
    users: int = 0  # work that waits for the result, and the task itself until the caller drops it
    deaths: int = 0  # of workers that ran it
    copy: "_Work | None" = None  # that brings the result to this process
    copied: "_Work | None" = None  # whose result this brings to this process
    needs: "list[_Work]" = field(init=False)  # the work whose results are arguments

    def __post_init__(self) -> None:
        self.needs = [one for one in self.arguments if isinstance(one, _Work)]

    def is_at(self, worker: "_Worker | None") -> bool:
        """Return whether a worker can use the result."""
        return self.result is not None or (self.state == "done" and self.worker is worker)


class ProcessTask:
    """A submitted function. Once the caller drops it, its result can be dropped too."""

    def __init__(self, engine: "ProcessEngine", work: _Work) -> None:
        self._engine, self.work = engine, work

    def __del__(self) -> None:
        self._engine.dropped.append(self.work)  # without a lock, since this can happen at any time

    def result(self) -> Any:
        """Return what the function of a watched task returned, or raise what it raised."""
        return self._engine.result(self)


class _Worker:
    """A worker process, and the thread that gives it work. A process that dies is replaced."""

    def __init__(self, engine: "ProcessEngine", number: int) -> None:
        self._engine = engine
        self._name = f"{NAME} {number}"
        self._context = multiprocessing.get_context("spawn")
        self._process: BaseProcess | None = None
        self.is_ready = False  # whether the process has started
        self.released: list[int] = []  # numbers of work whose results the process can drop
        self.keeps: set[_Work] = set()  # whose results the process keeps
        self.thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self.thread.start()

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None and self._process.pid is not None:
            self._process.kill()

    def _run(self) -> None:
        while self._start():
            try:
                while (work := self._engine.next_work(self)) is not None:
                    self._engine.note_result(self, *self._call(work))
                break
            except (EOFError, OSError):
                self.is_ready = False
                self._engine.note_death(self)
        else:
            self._engine.note_gone()
        if self._process is not None and self._process.pid is not None:
            self._connection.close()  # it ends if it is idle
            self._process.join(STOP_SECONDS)
            self._process.kill()
            self._process.join()

    def _start(self) -> bool:
        """Start a process; return whether it started in time."""
        deadline = time.monotonic() + START_SECONDS
        prepare = partial(prepare_worker, worker_memory(self._engine.workers))
        while time.monotonic() < deadline and not self._engine.is_stopping:
            self._connection, other = self._context.Pipe()
            self._process = self._context.Process(
                target=work_until_closed, args=(other, prepare), name=self._name, daemon=True
            )
            try:
                self._process.start()
                other.close()  # so that this connection is closed when the process ends
                if self._connection.poll(START_SECONDS):
                    receive(self._connection)
                    self.is_ready = True
                    return True
            except (EOFError, OSError):  # it died, or there is too little memory for another process
                time.sleep(0.05)
        return False

    def _call(self, work: _Work) -> tuple[Answer, Pickled | None]:
        """Let the process do some work; return its answer, and the result unless it is kept."""
        arguments, sent = list[Any](), list[Pickled]()
        for one in work.arguments:
            if isinstance(one, _Work) and one.result is not None:
                sent.append(one.result)
                arguments.append(Sent(len(sent)))
            else:
                arguments.append(Kept(one.number) if isinstance(one, _Work) else one)
        try:
            first = Pickled.of((work.function, arguments))
        except Exception as error:  # noqa: BLE001  # raised by `result`
            return Answer(error=error), None
        send(self._connection, Call(work.number, work.is_kept, self._engine.take_released(self)), first, *sent)
        answer, results = receive(self._connection)
        return answer, results[0] if results else None


def prepare_worker(memory: int) -> None:
    """Prepare a worker process for its first batch."""
    limit_memory(memory)
    import builder.workers.batch  # noqa: F401  # takes a third of a second


class ProcessEngine:
    """Runs tasks on worker processes, with the methods of `DaskEngine`."""

    def __init__(self, workers: int) -> None:
        self.death_errors: tuple[type[Exception], ...] = (WorkerDeathError,)
        self.workers = workers
        self.is_stopping = False
        self.dropped: deque[_Work] = deque()  # of tasks that the caller dropped
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._waiting: list[_Work] = []
        self._running: dict[_Worker, _Work] = {}
        self._watched: dict[_Work, ProcessTask] = {}
        self._finished: deque[ProcessTask] = deque()
        self._gone = 0  # workers that could not be started
        self._workers = [_Worker(self, number) for number in range(workers)]

    def submit(
        self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False
    ) -> ProcessTask:
        """Send a function to a worker. The arguments are those of `DaskEngine.submit`."""
        given = tuple(one.work if isinstance(one, ProcessTask) else one for one in arguments)
        with self._changed:
            work = _Work(next(self._numbers), function, given, is_kept=not watch, is_urgent=urgent, users=1)
            task = ProcessTask(self, work)
            if watch:
                self._watched[work] = task
            self._add(work)
            self._advance()
        return task

    def next_finished(self) -> ProcessTask:
        """Wait for a watched task, and return it; each task is returned once."""
        self.wait(math.inf)
        return self._finished.popleft()

    def wait(self, seconds: float) -> bool:
        """Wait for a watched task, up to a limit; return whether `next_finished` would return at once.

        BuildError if all workers are gone and cannot be replaced.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._finished or self._gone == self.workers, None if seconds == math.inf else seconds
            )
            if not self._finished and self._gone == self.workers:
                raise BuildError(
                    f"all worker processes died, and none could be started again in {START_SECONDS:.0f} s; repeat "
                    "the command: a build goes on after its last commit; or try workers=0 (--workers 0)"
                )
            return bool(self._finished)

    def result(self, task: Any) -> Any:
        """Return what a watched task returned, or raise what it raised."""
        with self._changed:
            self._changed.wait_for(lambda: task.work.state in {"done", "failed"})
        if task.work.error is not None:
            raise task.work.error
        assert task.work.result is not None
        return task.work.result.load()

    def abandon(self) -> None:
        """Drop all tasks, and stop the workers at once."""
        self.close()

    def close(self) -> None:
        """Stop the workers: those that are idle end by themselves, others are killed. Return when all have ended."""
        with self._changed:
            self.is_stopping = True
            busy = [worker for worker in self._workers if worker in self._running or not worker.is_ready]
            self._changed.notify_all()
        for worker in busy:
            worker.kill()
        for worker in self._workers:
            worker.thread.join()

    def next_work(self, worker: _Worker) -> _Work | None:
        """Wait for work that a worker can do now, and give it to the worker; None: the engine stops."""
        with self._changed:
            while not self.is_stopping:
                mine = (one for one in self._waiting if one.place in (worker, None))
                ready = [one for one in mine if all(need.is_at(worker) for need in one.needs)]
                if ready:
                    work = min(ready, key=lambda one: (not one.is_urgent, one.number))
                    self._waiting.remove(work)
                    self._running[worker] = work
                    work.state = "running"
                    return work
                self._changed.wait()
            return None

    def note_result(self, worker: _Worker, answer: Answer, result: Pickled | None) -> None:
        """Note the answer of a worker to its present work."""
        with self._changed:
            work = self._running.pop(worker)
            work.result, work.nbytes = result, answer.nbytes
            if work.is_kept and answer.error is None:
                work.worker = worker
                worker.keeps.add(work)
            self._end(work, answer.error)
            self._advance()

    def take_released(self, worker: _Worker) -> tuple[int, ...]:
        """Return the numbers of results that the process of a worker can drop, once each."""
        with self._changed:
            released = tuple(worker.released)
            worker.released.clear()
            return released

    def note_death(self, worker: _Worker) -> None:
        """Note that the process of a worker died: its results are lost, and its present work is tried again."""
        with self._changed:
            for work in worker.keeps:
                work.worker = None
                work.state = "idle" if work.result is None else "done"
            worker.keeps.clear()
            worker.released.clear()
            for work in self._waiting:
                work.place = None
            if (lost := self._running.pop(worker, None)) is not None:
                lost.deaths += 1
                if lost.deaths > MOST_DEATHS:
                    self._end(lost, WorkerDeathError(f"{lost.deaths} workers died"))
                else:
                    lost.state, lost.place = "waiting", None
                    self._waiting.append(lost)
            self._advance()

    def note_gone(self) -> None:
        """Note that the process of a worker could not be started."""
        with self._changed:
            self._gone += 1
            self._changed.notify_all()

    def _add(self, work: _Work) -> None:
        """Let work wait for its turn."""
        work.state, work.place = "waiting", None
        for need in work.needs:
            need.users += 1
        self._waiting.append(work)

    def _end(self, work: _Work, error: BaseException | None) -> None:
        """End work that has a result or an error."""
        work.state, work.error = ("done" if error is None else "failed"), error
        if (copied := work.copied) is not None:
            copied.result, copied.copy = work.result, None
            if error is not None:
                copied.state, copied.error = "failed", error
        for need in work.needs:
            self._drop(need)
        if work in self._watched:
            self._finished.append(self._watched.pop(work))
        if not work.users:
            self._release(work)

    def _drop(self, work: _Work) -> None:
        """Count one user less."""
        work.users -= 1
        if not work.users and work.state == "done":
            self._release(work)

    def _release(self, work: _Work) -> None:
        """Drop a result."""
        if work.worker is not None:
            work.worker.keeps.discard(work)
            work.worker.released.append(work.number)
        work.state, work.worker, work.result = "idle", None, None

    def _advance(self) -> None:
        """Prepare what waiting work needs, and wake the workers."""
        while self.dropped:
            self._drop(self.dropped.popleft())
        for work in self._waiting:  # work that is added meanwhile comes last
            for need in work.needs:
                if need.state == "idle":
                    self._add(need)
            if work.place is None and work.needs and all(need.state == "done" for need in work.needs):
                self._choose_place(work)
        for work in [one for one in self._waiting if any(need.state == "failed" for need in one.needs)]:
            self._waiting.remove(work)
            self._end(work, next(need.error for need in work.needs if need.state == "failed"))
        self._changed.notify_all()

    def _choose_place(self, work: _Work) -> None:
        """Choose the worker that keeps most of the arguments, and let the others be brought to this process."""
        nbytes = Counter[_Worker]()
        for need in work.needs:
            if need.worker is not None:
                nbytes[need.worker] += 1 + need.nbytes
        work.place = max(nbytes, key=lambda one: nbytes[one], default=None)
        for need in work.needs:
            if not need.is_at(work.place) and need.copy is None:
                need.copy = _Work(next(self._numbers), _same, (need,), is_kept=False, is_urgent=True)
                need.copy.copied = need
                self._add(need.copy)


def _same(value: Any) -> Any:
    return value


@contextmanager
def process_engine(workers: int) -> Iterator[ProcessEngine]:
    """Start worker processes, which end with this context, and with this process, even if it is killed."""
    with hide_main(NAME), ExitStack() as stack:
        with block_interrupts():  # an interrupt that comes meanwhile is raised after this block
            engine = ProcessEngine(workers)
            stack.callback(_close, engine)
        yield engine


def _close(engine: ProcessEngine) -> None:
    with Interrupts().delayed():
        engine.close()
