"""Call functions in several processes at once, bounded in time: one that hangs is killed and named."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

GO = "go"


@dataclass(frozen=True, slots=True)
class Failure:
    """A process that gave no result, and why."""

    what: str


def nothing(*_: object) -> None:
    """Stand in for a safeguard that is taken out."""


def together(calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], *, seconds: float) -> list[Any]:
    """Make each call in a new process, all begun when every process is up; return results in order, or a `Failure`."""
    context, started = get_context("spawn"), []
    for function, arguments in calls:
        ours, theirs = context.Pipe()
        process = context.Process(target=_call, args=(theirs, function, arguments))
        process.start()
        theirs.close()  # the child has its own, so that its death is the end of what can be received
        started.append((process, ours))
    deadline = time.monotonic() + seconds
    for _, ours in started:
        _receive(ours, deadline)
    for _, ours in started:
        ours.send(GO)
    results = []
    for (process, ours), (function, _) in zip(started, calls, strict=True):
        result = _receive(ours, deadline)
        ours.close()
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
        results.append(Failure(f"{function.__name__} {result.what}") if isinstance(result, Failure) else result)
    return results


def _receive(ours: Connection, deadline: float) -> Any:
    try:
        if ours.poll(max(0.0, deadline - time.monotonic())):
            return ours.recv()
    except EOFError:
        return Failure("ended without a result")
    return Failure("gave no result in time: it hangs")


def _call(theirs: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    theirs.send(GO)
    theirs.recv()
    try:
        result = function(*arguments)
    except BaseException:  # noqa: BLE001  # the parent is told
        result = Failure(f"failed: {traceback.format_exc()}")
    theirs.send(result)
