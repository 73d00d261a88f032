"""What a forked child returns."""

from collections.abc import Callable
from typing import Any

from tests.campaigns.processes import in_process


def in_fork(function: Callable[[], Any]) -> Any:
    """Call a function in a forked child and return its result; RuntimeError if it raised an error, or hangs."""
    return in_process(function, seconds=60, method="fork")
