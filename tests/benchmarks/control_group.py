"""A limit that the kernel holds on the memory of some processes, their page cache included."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CONTROLLER = Path("/sys/fs/cgroup/memory")  # of version 1: where it is, root can set a limit that the kernel holds


@contextlib.contextmanager
def control_group() -> Iterator[Path]:
    """Make a group of processes, where that can be; remove it when they have ended."""
    group = CONTROLLER / f"seqzarr-{os.getpid()}"
    with contextlib.suppress(OSError):
        group.mkdir()
    yield group
    with contextlib.suppress(OSError):
        group.rmdir()


def limit_memory(group: Path, limit: int) -> bool:
    """Put this process, and what it will start, under a limit of bytes; tell whether the kernel holds it."""
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError:
        return False
    return True
