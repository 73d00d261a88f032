"""Threads that a build leaves."""

import threading
from collections.abc import Collection

ENDING_SECONDS = 10


def threads_left(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that are new and do not end.

    On a busy machine, dask's last ones may still be ending. Those to which dask, and the event loop of zarr, offload
    work stay, idle.
    """
    ending = [thread for thread in threading.enumerate() if thread not in before and not _stays(thread)]
    for thread in ending:
        thread.join(ENDING_SECONDS)
    return [thread for thread in ending if thread.is_alive()]


def _stays(thread: threading.Thread) -> bool:
    return thread.name.startswith(("Dask-Offload", "asyncio_"))
