"""What a forked child returns."""

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any

SECONDS = 60  # after which a child that hangs is killed


def in_fork(function: Callable[[], Any]) -> Any:
    """Call a function in a forked child and return its result; EOFError if it raised an error, which it prints."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function()))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of forks while threads run
        child.start()
    sender.close()
    try:
        assert receiver.poll(SECONDS), "the child hangs"
        return receiver.recv()
    finally:
        child.kill()
        child.join()
