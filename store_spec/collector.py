"""Tell whether the garbage collector runs in this thread.

It may run in any thread and at any time, whatever locks the thread holds. So code that it calls, such as the `finally`
of a generator that nobody uses any more, must not wait for other threads: they may wait for one of these locks.
"""

import gc
import threading
from typing import Any


class _Here(threading.local):
    running = False


_HERE = _Here()


# The objects are default arguments because names of a module are deleted when Python exits.
def is_collecting(here: _Here = _HERE) -> bool:
    """Return whether the garbage collector runs in this thread."""
    return here.running


def _note(phase: str, _info: Any, here: _Here = _HERE) -> None:
    here.running = phase == "start"


gc.callbacks.append(_note)
