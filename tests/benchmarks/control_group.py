"""A limit of the kernel on the memory of processes, page cache included."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CONTROLLER = Path("/sys/fs/cgroup/memory")  # of version 1: here root can set such a limit


@contextlib.contextmanager
def control_group() -> Iterator[Path]:
    """Create a group of processes, if possible; remove it when they have ended."""
    group = CONTROLLER / f"seqzarr-{os.getpid()}"
    with contextlib.suppress(OSError):
        group.mkdir()
    yield group
    with contextlib.suppress(OSError):
        group.rmdir()


def limit_memory(group: Path, limit: int) -> bool:
    """Limit the memory of this process and of those that it starts; return whether the kernel enforces it."""
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False
    return True
