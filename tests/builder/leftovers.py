"""What a build has left behind."""

import threading
from collections.abc import Collection

ENDING_SECONDS = 10


def threads_left(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that were not there before and do not end.

    On a busy machine dask's last ones may be on their way out still. Those that dask, and the event loop of zarr,
    offload work to stay, idle.
    """
    ending = [thread for thread in threading.enumerate() if thread not in before and not _stays(thread)]
    for thread in ending:
        thread.join(ENDING_SECONDS)
    return [thread for thread in ending if thread.is_alive()]


def _stays(thread: threading.Thread) -> bool:
    return thread.name.startswith(("Dask-Offload", "asyncio_"))
