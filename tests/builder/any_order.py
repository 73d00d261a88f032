"""An engine that runs tasks in any order, some of them twice, builds on engines of tests, and builds that fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import Any

import pytest

from store_spec.disk.ledger import Ledger


@contextmanager
def on_engine(engine: Any, memory: int | None = None) -> Iterator[None]:
    """Let builds run their tasks on an engine; `memory`, if given, is the bytes of rows in flight."""
    module = import_module("builder.execution.build")  # in its package, this name is the function
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "start_engine", lambda *_: nullcontext(engine))
        if memory is not None:
            patch.setattr(module, "memory_in_flight", lambda *_: memory)
        yield


def fail_at_commit(number: int, patch: pytest.MonkeyPatch) -> None:
    """Let builds commit after each batch, and fail at the commit with this number, from 0."""
    patch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    commit, done = Ledger.commit, list[int]()

    def failing(ledger: Ledger) -> int:
        if len(done) == number:
            raise ConnectionError
        done.append(commit(ledger))
        return done[-1]

    patch.setattr(Ledger, "commit", failing)


class JumpyClock:
    """A clock that sometimes jumps ahead, so that batches end and commits are due at any time."""

    def __init__(self, seed: int) -> None:
        self.random, self.now = random.Random(seed), 0.0

    def monotonic(self) -> float:
        self.now += self.random.choice([0.0, 0.0, 0.001, 1.0, 9.0])
        return self.now


class Shuffled:
    """An engine that runs tasks in random order, some of them twice, as after the death of a worker with a result."""

    workers = 2

    def __init__(self, seed: int) -> None:
        self.death_errors: tuple[type[Exception], ...] = ()
        self.random = random.Random(seed)
        self.watched: list[Later] = []

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Later:
        del urgent
        later = Later(self, function, arguments)
        if watch:
            self.watched.append(later)
        return later

    def result(self, task: Any) -> Any:
        return task.result()

    def next_finished(self) -> Later:
        return self.watched.pop(self.random.randrange(len(self.watched)))

    def wait(self, seconds: float) -> bool:
        del seconds
        return bool(self.watched)

    def abandon(self) -> None:
        self.watched.clear()


class Later:
    """A task that runs when its result is needed, and perhaps again each time."""

    def __init__(self, engine: Shuffled, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.engine, self.function, self.arguments = engine, function, arguments
        self.results: list[Any] = []

    def result(self) -> Any:
        if not self.results or self.engine.random.random() < 0.2:
            values = [one.result() if isinstance(one, Later) else one for one in self.arguments]
            self.results.append(self.function(*values))
        return self.results[-1]
