"""Make many requests of a remote store at the same time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from store_spec.collector import is_collecting
from store_spec.disk.storage import Storage

Item = TypeVar("Item")
Value = TypeVar("Value")


def in_order(storage: Storage, function: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """Yield `function(item)` for each item, in order; if the storage is remote, threads work ahead."""
    if storage.requests == 1:
        yield from map(function, items)
        return
    pool, futures = ThreadPoolExecutor(storage.requests, "seqzarr requests"), deque[Future[Value]]()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) == storage.requests:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        pool.shutdown(wait=not is_collecting(), cancel_futures=True)
