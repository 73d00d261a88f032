"""One writer at a time: `flock` on a file in `<store>.build/`. It is free at once when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from store_spec.errors import LockedError, StorageError

LOCK = "lock"


def build_folder(store: Path) -> Path:
    """Return the folder beside a store that holds the lock and whatever is no part of the store."""
    # A store that is reached through a link, or as ".", has one lock all the same.
    place = store.resolve() if store.is_dir() else Path(os.path.abspath(store))
    return place.with_name(f"{place.name}.build")


@contextlib.contextmanager
def locked(store: Path) -> Iterator[Path]:
    """Hold the store's lock; give the build folder, which is removed at the end if nothing else lies in it.

    Raises:
        LockedError: Another writer holds it; the message says which process on which host.
    """
    folder = build_folder(store)
    descriptor = _acquire(folder, store)
    try:
        yield folder
    finally:
        # Removed while the lock is held: whoever waits for this file notices that it is no longer the one there.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()
        os.close(descriptor)


def _acquire(folder: Path, store: Path) -> int:
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"{path}: locking failed: making the folder: {error.strerror}"
            raise StorageError(error.errno, what) from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # the last holder removed the folder between the two calls
            continue
        except OSError as error:
            raise StorageError(error.errno, f"{path}: locking failed: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise LockedError(f"{store}: {holder} is writing to it; wait until it has ended") from error
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            raise StorageError(error.errno, f"{path}: locking failed: {error.strerror}") from error
        os.close(descriptor)
