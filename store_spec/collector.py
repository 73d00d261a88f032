"""Tell whether the garbage collector runs in this thread.

It may run in any thread and at any time, whatever locks the thread holds. So code that it calls, such as the `finally`
of an unused generator, must not wait for other threads: they may wait for one of these locks.
"""

import gc
import threading
from typing import Any

_LAST: dict[str, Any] = {}  # by phase, `start` or `stop`: an object for each collection; the last phase comes last
_HERE = threading.local()  # the same, as attributes, of collections in this thread


# The objects are default arguments because names of a module are deleted when Python exits.
def is_collecting(last: dict[str, Any] = _LAST, here: Any = _HERE) -> bool:
    """Return whether the garbage collector runs in this thread."""
    return next(reversed(last), "") == "start" and getattr(here, "start", None) is last["start"]


# Importing this has an effect, since Python tells only its callbacks which thread collects. They are called with the
# phase and the object. All are written in C: a Ctrl-C that came while one in Python runs would be lost.
gc.callbacks.extend([_LAST.pop, _LAST.__setitem__, _HERE.__setattr__])
