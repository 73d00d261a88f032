"""Access to the files of a store: `Storage` reads them; `LocalStorage`, a folder, also writes them."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import shutil
import stat
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

from store_spec.collector import is_collecting
from store_spec.disk.places import Address, StoreLocation, is_url, place_of
from store_spec.errors import FormatError, MissingStoreError, SchemaError, StorageError, StoreError, UnreadableError
from store_spec.format.layout import ROOT

if TYPE_CHECKING:
    from store_spec.disk.object_storage import WritableObjects
    from store_spec.disk.zarr_storage import ZarrStorage

Item = TypeVar("Item")
Value = TypeVar("Value")
Put: TypeAlias = "Callable[[str, Iterable[bytes | memoryview]], None]"  # writes the parts of a key's bytes

RAN_OUT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # errors that say nothing about the file
PARTIAL = ".partial"  # the suffix of a file that is being written; keys never have it
PROBE = "probe-"  # prefix of the keys with which a writer tests a server

# Where a store is read from, and written to. Both kinds have the attributes `root`, `requests`, `lists` and
# `keeps_state`, and the methods `path`, `get`, `size` and `list`; what can be written to also has `put`. `LocalStorage`
# documents them.
Storage: TypeAlias = "LocalStorage | ZarrStorage"
WritableStorage: TypeAlias = "LocalStorage | WritableObjects"


def storage_of(store: StoreLocation, cached: tuple[Path, int] | None = None) -> Storage:
    """Return the storage of a store; `cached` is the folder and the size of a cache, for a URL only.

    obstore takes credentials from the environment, such as `AWS_ACCESS_KEY_ID`, or from the role of the machine.
    """
    place = place_of(store)
    if cached is not None and not (isinstance(store, str) and is_url(store)):
        raise SchemaError(f"{store}: cache={str(cached[0])!r} is for a store at a URL")
    if isinstance(place, Path):
        return LocalStorage.of(place)
    if isinstance(place, Address):
        from store_spec.disk.object_storage import ObjectStorage, object_store

        # E-tags in memory are counted from 0 in each process, so they do not say what is in a cache.
        return ObjectStorage(object_store(place), place, None if place.startswith("memory:") else cached)
    from store_spec.disk.zarr_storage import storage_of_zarr_store

    return storage_of_zarr_store(place)


def in_order(
    storage: Storage, function: Callable[[Item], Value], items: Iterable[Item], at_once: int | None = None
) -> Iterator[Value]:
    """Yield `function(item)` for each item, in order; if the storage is remote, threads work ahead.

    `at_once` is how many results are in memory at a time; by default as many as the storage makes requests.
    """
    if storage.requests == 1:
        yield from map(function, items)
        return
    most = at_once or storage.requests
    pool, futures = ThreadPoolExecutor(most, "seqzarr requests"), deque[Future[Value]]()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) == most:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        pool.shutdown(wait=not is_collecting(), cancel_futures=True)


class OpenFile:
    """A plain file that is open for reading; it is closed when the object is deleted.

    Raises:
        MissingStoreError: There is no such file.
        FormatError: The file is a link, or not a plain file.
        UnreadableError: The file cannot be read.
        StorageError: The process has too many open files, or too little memory.
    """

    __slots__ = ("__weakref__", "_descriptor", "_path", "size")

    def __init__(self, path: str, name: str, folder: int | None) -> None:
        self._path, self._descriptor = path, -1
        try:
            # Not a Path: creating one takes as long as reading ten kilobytes.
            self._descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingStoreError(f"{path}: there is no such file") from error
        except OSError as error:
            if Path(path).is_symlink():
                raise FormatError(f"{path}: a link; a store holds plain files only") from error
            raise _unreadable(Path(path), "opening", error) from error
        with naming_errors(Path(path), "reading", reading=True):
            status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{path}: not a plain file")
        self.size = status.st_size  # when the file was opened

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be unloaded when Python exits
        if self._descriptor >= 0:
            close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on, or as many as there were when the file was opened."""
        try:
            return _read(self._descriptor, start, min(length, self.size - start))
        except OSError as error:
            raise _unreadable(Path(self._path), "reading", error) from error


def most_open_of_all() -> int:
    """Return how many files all readers of this process may keep open: a quarter of its limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if limit == resource.RLIM_INFINITY else min(256, limit // 4)


class OpenFolder:
    """A folder that stays open, so that no file is read from another folder that got its name.

    If there are too many open folders, if it was pickled, so that another folder may have its name by now, or if the
    root of the store in it was replaced, `keeps_state` is False.
    """

    __slots__ = ("__weakref__", "_path", "confirmed", "descriptor")

    def __init__(self, path: Path, *, is_confirmed: bool = True) -> None:
        self._path, self.descriptor = path, None
        if len(_OPEN_FOLDERS) < most_open_of_all():
            with contextlib.suppress(OSError):  # reading will say what is wrong
                self.descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                _OPEN_FOLDERS.add(self)
        self.confirmed = self.root_file() if is_confirmed else None  # the file of the store that was opened

    def __reduce__(self) -> tuple[Callable[..., OpenFolder], tuple[Path]]:
        return partial(OpenFolder, is_confirmed=False), (self._path,)

    @property
    def keeps_state(self) -> bool:
        """Whether it certainly holds the store that was opened, in the same state."""
        return self.confirmed is not None and self.confirmed == self.root_file()

    def root_file(self) -> tuple[int, ...] | None:
        """Return what identifies the present file of the root; None if it or the folder cannot be looked at."""
        if self.descriptor is None:
            return None
        try:
            status = os.stat(ROOT, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be unloaded when Python exits
        if self.descriptor is not None:
            close(self.descriptor)


_OPEN_FOLDERS: weakref.WeakSet[OpenFolder] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """Keys (POSIX paths such as `inputs/c.0.0`) below one folder. Links are refused, so that no key leads outside.

    Attributes:
        root: The name of the store in messages; that of a `ZarrStorage` is an `Address`.
        requests: How many requests are made at once. More than 1 for a remote store, where each takes long; for reading
            such a store, nothing is listed.
        lists: Whether keys can be listed, as far as is known; if not, `list` raises an error.
        keeps_state: Whether all files are certainly of the store that was opened; see `Snapshot.check_not_replaced`.
    """

    root: Path
    open_folder: Path | None = None  # exists while the writer is open; without it, no file is renamed into place
    folder: OpenFolder | None = field(default=None, repr=False)  # of a reader
    requests: ClassVar[int] = 1
    lists: ClassVar[bool] = True

    @classmethod
    def of(cls, path: Path) -> LocalStorage:
        """Return the storage of an existing folder."""
        path = path.absolute()  # the caller may change to another folder
        if not path.is_dir():
            raise MissingStoreError(f"{path}: there is no store" + (", but a file" if path.exists() else ""))
        return cls(path, folder=OpenFolder(path))

    @property
    def keeps_state(self) -> bool:
        """See the attributes."""
        return self.folder is None or self.folder.keeps_state

    def path(self, key: str) -> Path:
        """Return the path of a key."""
        return self.root / key

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of a file, or `length` of them from `start` (negative: counted from its end)."""
        file = self.open(key)
        first = start if start >= 0 else max(0, file.size + start)
        return file.read(first, file.size if length is None else length)

    def open(self, key: str) -> OpenFile:
        """Open a file for many reads."""
        path, folder = f"{self.root}/{key}", None if self.folder is None else self.folder.descriptor
        return OpenFile(path, path if folder is None else key, folder)

    def size(self, key: str) -> int:
        """Return the size of a file; 0 if it does not exist."""
        with naming_errors(self.path(key), "looking at", reading=True), contextlib.suppress(FileNotFoundError):
            return self.path(key).lstat().st_size
        return 0

    def check_folder(self, key: str) -> None:
        """Check that a folder exists and is not a link."""
        path = self.path(key)
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError as error:
            raise FormatError(f"{path}: missing; restore that folder") from error
        if not stat.S_ISDIR(mode):
            kind = "a link; a store holds plain files and folders only" if stat.S_ISLNK(mode) else "not a folder"
            raise FormatError(f"{path}: {kind}")

    def put(
        self,
        key: str,
        parts: Iterable[bytes | memoryview],
        check: Callable[[], None] | None = None,
        *,
        sync: bool = True,
    ) -> None:
        """Write a file in one step: to a temporary name in the same folder, synced, then renamed.

        The folder is not synced: `sync` does that once for many files. `check` is called just before the file gets its
        name; it raises an error if the file may not be replaced.
        """
        path = self.path(key)
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
        step = "creating"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                step = "writing"
                for part in parts:
                    _write(descriptor, part)
                if sync:
                    step = "syncing"
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if check is not None:  # now, since writing and syncing may have taken long, or the process was suspended
                check()
            if self.open_folder is not None:
                step = f"finding {self.open_folder}, the folder of its writer,"
                os.stat(self.open_folder)
            step = "renaming"
            os.replace(partial, path)
        except (OSError, StoreError) as error:
            with contextlib.suppress(OSError):  # the first error is the one to report
                partial.unlink()
            if isinstance(error, StoreError):
                raise
            raise _refused(path, step, error) from error

    def put_for_now(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file in one step without syncing it: it may be lost in a power cut."""
        self.put(key, parts, sync=False)

    def make_folder(self, key: str = "") -> None:
        """Create a folder below the root, and its parents; for an empty key the root itself, without its parents."""
        with naming_errors(self.path(key), "making the folder"):
            self.path(key).mkdir(parents=bool(key), exist_ok=True)

    def sync(self, keys: Iterable[str]) -> None:
        """Make the names in these folders survive a power cut."""
        for key in keys:
            sync_folder(self.path(key))

    def list(self, key: str = "") -> list[str]:
        """Return the names in a folder, sorted; an empty list if the folder does not exist."""
        with naming_errors(self.path(key), "listing", reading=True), contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.path(key)))
        return []

    def kind(self, key: str) -> str:
        """Return whether a key is a `file`, a `link` or something `else`, also if it no longer exists."""
        mode = 0
        with naming_errors(self.path(key), "listing", reading=True), contextlib.suppress(FileNotFoundError):
            mode = self.path(key).lstat().st_mode
        return "file" if stat.S_ISREG(mode) else "link" if stat.S_ISLNK(mode) else "else"

    def delete(self, key: str) -> None:
        """Remove a file."""
        with naming_errors(self.path(key), "deleting"):
            os.unlink(self.path(key))

    def delete_partial(self, key: str = "") -> None:
        """Remove the files in a folder that a dead process left unfinished."""
        for name in self.list(key):
            if name.endswith(PARTIAL):
                self.delete(f"{key}/{name}" if key else name)


@contextlib.contextmanager
def naming_errors(path: Path, step: str, *, reading: bool = False) -> Iterator[None]:
    """Turn errors of the system into a StorageError that names the path and the step."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise (_unreadable if reading else _refused)(path, step, error) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    with naming_errors(path, "syncing"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all that is in it, if it exists."""
    with naming_errors(folder, "removing"), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _read(descriptor: int, start: int, length: int) -> bytes:
    """Read until the end or `length` bytes: one system call may return less."""
    parts = []
    while length > 0:
        part = os.pread(descriptor, min(length, 2**30), start)
        if not part:
            break
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _unreadable(path: Path, step: str, error: OSError) -> StorageError:
    return _refused(path, step, error, StorageError if error.errno in RAN_OUT else UnreadableError)


def _refused(path: Path, step: str, error: OSError, kind: type[StorageError] = StorageError) -> StorageError:
    reason = error.strerror or str(error)
    return kind(error.errno, f"{path}: {step} failed: {reason}; what was committed before is untouched")
