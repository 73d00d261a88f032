"""Temporary folders. Those of killed processes of this machine are removed when the next one is made."""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from store_spec.disk.lock import folder_locked

NEW_SECONDS = 60  # a folder that is not older may not be locked yet


def prefix() -> str:
    """Return how the names of this machine's folders begin: machines may share the place, but not see the locks."""
    return f"seqzarr-temporary-{socket.gethostname()}-"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder, which is removed at the end; until then this process holds a lock on it."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=prefix(), ignore_cleanup_errors=True) as folder,
        folder_locked(Path(folder)),
    ):
        yield Path(folder)


def _remove_abandoned(place: Path) -> None:
    """Remove the folders that no process has locked: the system releases a lock when its holder dies."""
    for folder in place.glob(f"{prefix()}*"):
        with contextlib.suppress(OSError):  # such as a link, or the folder of another user
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if time.time() - os.fstat(descriptor).st_mtime > NEW_SECONDS:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
