"""One writer at a time: `flock` on a file in `<store>.build/`. It is free at once when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from store_spec.errors import LockedError, StorageError

LOCK = "lock"
HOLDER_TRIES = 50
BESIDE = ".build"  # what the name of the folder beside a store has more than its own


def build_folder(store: Path) -> Path:
    """Return the folder beside a store that holds the lock and whatever is no part of the store."""
    # A store that is reached through a link, or as ".", has one lock all the same.
    place = store.resolve() if store.is_dir() else Path(os.path.abspath(store))
    return place.with_name(place.name + BESIDE)


@contextlib.contextmanager
def locked(store: Path) -> Iterator[Path]:
    """Hold the store's lock; give the build folder, which is removed at the end if nothing else lies in it.

    Raises:
        LockedError: Another writer holds it; the message says which process on which host.
    """
    folder = build_folder(store)
    descriptor = _acquire(folder, store)
    try:
        with folder_locked(store):
            yield folder
    finally:
        # Removed while the lock is held: whoever waits for this file notices that it is no longer the one there.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
            folder.rmdir()
        _close(descriptor)


@contextlib.contextmanager
def folder_locked(store: Path) -> Iterator[None]:
    """Hold a lock on the store's folder itself, if there is one: for writers that do not share the lock's file.

    They may have removed it, or reach the store by another path.

    Raises:
        LockedError: Another writer holds it.
    """
    try:
        descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it is about to be created, or is no store, as who opens it will say
        yield
        return
    try:
        # NFS locks no folders; the file is locked all the same.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(
                    f"{store}: another process is writing to it, with another lock: it came by another path, or the "
                    "folder beside the store was removed; wait until it has ended"
                ) from error
        yield
    finally:
        _close(descriptor)


def _acquire(folder: Path, store: Path) -> int:
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if isinstance(error, FileExistsError) and (folder.is_dir() or not os.path.lexists(folder)):
                continue  # the last holder removed it between two looks
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
                _check_that_locks_work(path)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        except BlockingIOError as error:
            holder = _holder(descriptor)
            _close(descriptor)
            raise LockedError(f"{store}: {holder} is writing to it; wait until it has ended") from error
        except FileNotFoundError:
            pass
        except OSError as error:
            _close(descriptor)
            if isinstance(error, StorageError):
                raise
            raise StorageError(error.errno, f"{path}: locking failed: {error.strerror}") from error
        _close(descriptor)


def _check_that_locks_work(path: Path) -> None:
    """Try to take the lock once more: some file systems say yes to everybody.

    Raises:
        StorageError: So does this one.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        _close(descriptor)
    what = f"{path}: locking failed: locks do nothing on this file system, and two writers would destroy the store"
    raise StorageError(errno.ENOLCK, what)


def _holder(descriptor: int) -> str:
    """Return who holds the lock; it writes that down a moment after it took it."""
    for _ in range(HOLDER_TRIES):
        if holder := os.pread(descriptor, 200, 0).decode(errors="replace"):
            return holder
        time.sleep(0.001)
    return "another process"


def _close(descriptor: int) -> None:
    """Close a file, which frees its lock even where the system reports an error: nothing in it matters."""
    with contextlib.suppress(OSError):
        os.close(descriptor)
