"""Properties that are computed when they are first read."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any, TypeVar

Value = TypeVar("Value")


def lazy_property(compute: Callable[[Any], Value]) -> cached_property[Value]:
    """Return a `cached_property` without a lock, as all are from Python 3.12 on; two threads may both compute it.

    On Python 3.11 all objects share one lock for each property. A process that is forked while another thread holds it
    could never take it.
    """
    result = cached_property(compute)
    result.lock = nullcontext()  # type: ignore[attr-defined]
    return result
