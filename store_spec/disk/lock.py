"""One writer at a time: `flock` on a file in `<store>.build/`, which the system releases when the holder dies."""

import contextlib
import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from store_spec.disk.places import is_store
from store_spec.disk.storage import LocalStorage, naming_errors
from store_spec.errors import LockedError, StorageError

LOCK = "lock"
_OWN = re.compile(r"lock$|new$|spilled|seen\.npz|\.")  # names in a build folder; with a dot: of the system, as .nfs0001
BUILD_SUFFIX = ".build"  # of the build folder, after the name of its store


def build_folder(store: Path) -> Path:
    """Return the folder beside a store that has the lock, and other files that are not part of the store."""
    # Resolved, so that a store has the same lock when it is reached through a link, or as ".".
    place = store.resolve() if store.is_dir() else Path(os.path.abspath(store))
    return place.with_name(place.name + BUILD_SUFFIX)


def belongs_to_store(folder: str) -> bool:
    """Return whether a folder is a store, or a build folder; the store of that may be unfinished, or removed."""
    return is_store(folder.removesuffix(BUILD_SUFFIX)) or (folder.endswith(BUILD_SUFFIX) and not _others(Path(folder)))


def _others(folder: Path) -> list[str]:
    """Return names in a folder that a build folder does not have."""
    return [name for name in LocalStorage(folder).list() if not _OWN.match(name)]


@contextlib.contextmanager
def locked(store: Path) -> Iterator[Path]:
    """Hold the store's lock, and yield the build folder, which is removed at the end if it is otherwise empty."""
    folder, owner = build_folder(store), os.getpid()
    descriptor = _acquire(folder, store)
    try:
        with folder_locked(store):
            yield folder
    finally:
        # Removed while the lock is held: a process that waits for this file notices that another one replaced it.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder / LOCK)):
                (folder / LOCK).unlink()
                folder.rmdir()
        _release(descriptor, owner)


@contextlib.contextmanager
def folder_locked(store: Path) -> Iterator[None]:
    """Hold a lock on the store's folder itself, if it exists, against writers that do not use the same lock file.

    They may have removed that file, or reach the store by another path.
    """
    try:
        descriptor = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # the folder is about to be created, or is not a store, which opening it will report
        yield
        return
    owner = os.getpid()
    try:
        # NFS cannot lock folders; there the lock file is the only lock.
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
        _release(descriptor, owner)


def _acquire(folder: Path, store: Path) -> int:
    """Make the build folder and the lock file in it, lock that, and return its descriptor."""
    path = folder / LOCK
    if folder.is_dir() and (others := _others(folder)):
        what = f"{folder}: has files that are not of a store, such as {others[0]}; rename it, or choose another store"
        raise StorageError(errno.EEXIST, what)
    while True:
        with naming_errors(path, "locking"):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                if folder.is_dir() or not os.path.lexists(folder):
                    continue  # the last holder removed it at this moment
                raise
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # the last holder removed the folder between the two calls
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    _check_that_locks_work(path)
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                    return descriptor
            except FileNotFoundError:
                pass
            except OSError as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
                _close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise LockedError(f"{store}: {holder} is writing to it; wait until it has ended") from error
                raise
            _close(descriptor)


def _check_that_locks_work(path: Path) -> None:
    """Try to take the lock a second time, which must fail: on some file systems every attempt succeeds."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        _close(descriptor)
    what = f"{path}: locking failed: locks do nothing on this file system, and two writers would destroy the store"
    raise StorageError(errno.ENOLCK, what)


def _close(descriptor: int) -> None:
    """Close a file, which releases its lock. Errors are ignored: the content of the file does not matter."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _release(descriptor: int, owner: int) -> None:
    """Release the lock of a file that the process `owner` took, even if a forked child has the file open too."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    _close(descriptor)
