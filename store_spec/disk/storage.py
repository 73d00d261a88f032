"""The only way to the bytes of a store: `Storage` to read them, and `LocalStorage`, a folder, to write them too."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from store_spec.errors import (
    FormatError,
    MissingStoreError,
    SchemaError,
    StorageError,
    StoreExistsError,
    UnreadableError,
)
from store_spec.format.layout import ROOT
from store_spec.schema import CONVENTION

if TYPE_CHECKING:
    from zarr.abc.store import Store as ZarrStore

StoreLocation: TypeAlias = "str | PathLike[str] | ZarrStore"  # the path of a folder, or a store of zarr

RAN_OUT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})  # which tells nothing of the file that is read
PARTIAL = ".partial"  # ends the name of a file that is being written; never a key
_OF_OURS, _WITHIN = CONVENTION["uuid"].encode(), 1_000  # bytes at the start of a root document
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def check_local(path: Path) -> None:
    """Refuse a URL, which as a path would make folders called `s3:` and the like where the process happens to be.

    Raises:
        SchemaError: It is one.
    """
    if path.parts and _SCHEME.fullmatch(path.parts[0]):
        raise SchemaError(
            f"{path}: a store lies on a local disk, and {path.parts[0]}// is none; give the path of a folder, and copy "
            "the finished store"
        )


def check_outside(path: Path) -> None:
    """Refuse a path for a new store inside of another one, which holds nothing else.

    Raises:
        StoreExistsError: It lies there.
    """
    for folder in path.resolve().parents:  # with `..` and links taken as they are
        if is_store(folder):
            raise StoreExistsError(f"{path}: lies inside of the store {folder}; give a path that does not")


def is_store(folder: Path | str) -> bool:
    """Tell whether a folder says that it is a store, whole or not."""
    try:
        with open(f"{folder}/{ROOT}", "rb") as file:
            return _OF_OURS in file.read(_WITHIN)
    except OSError:
        return False


class Address(str):
    """The text that messages use for a store, or a key of one, outside of a folder."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The last part of it."""
        return self.rstrip("/)>\"'").rpartition("/")[2]


class Readable(Protocol):
    """A file, or another value of a key, for many reads."""

    def read(self, start: int, length: int) -> bytes | memoryview:
        """Return `length` bytes from `start` on, or as many as there are."""


class Entry(Protocol):
    """What lies in a folder."""

    @property
    def name(self) -> str:
        """Its name in the folder."""

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a file."""

    def is_symlink(self) -> bool:
        """Tell whether it is a link."""


class Storage(Protocol):
    """Where a store is read from. `LocalStorage` documents the methods."""

    @property
    def root(self) -> Any:
        """What messages call it: a Path for a folder, else an Address."""

    def path(self, key: str) -> Any: ...  # noqa: D102
    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes | memoryview: ...  # noqa: D102
    def open(self, key: str) -> Readable: ...  # noqa: D102
    def size(self, key: str) -> int: ...  # noqa: D102
    def list(self, key: str = "") -> Sequence[Entry]: ...  # noqa: D102
    def check_folder(self, key: str) -> None: ...  # noqa: D102


def storage_of(store: StoreLocation) -> Storage:
    """Return where a store lies, by its path or as a store of zarr.

    Raises:
        MissingStoreError: There is no folder at that path.
        SchemaError: The path is a URL.
    """
    if isinstance(store, str | PathLike):
        return LocalStorage.of(Path(store))
    from store_spec.disk.zarr_storage import storage_of_zarr_store

    return storage_of_zarr_store(store)


class OpenFile:
    """A plain file that is open for reading, until nobody holds it any more.

    Raises:
        MissingStoreError: There is no such file.
        FormatError: It is a link, or not a plain file.
        UnreadableError: The disk does not give it.
        StorageError: The process has too many open files, or too little memory.
    """

    __slots__ = ("__weakref__", "_descriptor", "_path", "size")

    def __init__(self, path: str) -> None:
        self._path, self._descriptor = path, -1
        try:
            # Not by a Path: making one takes as long as reading some ten kilobytes.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingStoreError(f"{path}: there is no such file") from error
        except OSError as error:
            if Path(path).is_symlink():
                raise FormatError(f"{path}: a link; a store holds plain files only") from error
            raise _unreadable(Path(path), "opening", error) from error
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise _unreadable(Path(path), "reading", error) from error
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{path}: not a plain file")
        self.size = status.st_size  # when it was opened

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # `os` may be gone when Python ends
        if self._descriptor >= 0:
            close(self._descriptor)

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on, or as many as there are, and were when it was opened."""
        try:
            return _read(self._descriptor, start, min(length, self.size - start))
        except OSError as error:
            raise _unreadable(Path(self._path), "reading", error) from error


@dataclass(frozen=True, slots=True)
class LocalStorage:
    """Keys (POSIX paths such as `inputs/c.0.0`) below one folder. Links are refused, so that no key leads out."""

    root: Path

    @classmethod
    def of(cls, path: Path) -> LocalStorage:
        """Return that of a folder which is there.

        Raises:
            MissingStoreError: There is none.
            SchemaError: The path is a URL.
        """
        check_local(path)
        path = path.absolute()  # the caller may change to another folder
        if not path.is_dir():
            raise MissingStoreError(f"{path}: there is no store" + (", but a file" if path.exists() else ""))
        return cls(path)

    def path(self, key: str) -> Path:
        """Return where a key lies."""
        return self.root / key

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Return the bytes of a file, or `length` of them from `start` (negative: counted from its end).

        Raises:
            StoreError: As `OpenFile` says.
        """
        file = self.open(key)
        begin = start if start >= 0 else max(0, file.size + start)
        return file.read(begin, file.size if length is None else length)

    def open(self, key: str) -> OpenFile:
        """Open a file for many reads."""
        return OpenFile(f"{self.root}/{key}")

    def size(self, key: str) -> int:
        """Return the bytes of a file; 0 where there is none."""
        try:
            return self.path(key).lstat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unreadable(self.path(key), "looking at", error) from error

    def check_folder(self, key: str) -> None:
        """Check that a folder is there, and no link.

        Raises:
            FormatError: It is not.
        """
        path = self.path(key)
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError as error:
            raise FormatError(f"{path}: missing; restore that folder") from error
        if not stat.S_ISDIR(mode):
            kind = "a link; a store holds plain files and folders only" if stat.S_ISLNK(mode) else "not a folder"
            raise FormatError(f"{path}: {kind}")

    def put(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file whole: under another name beside it, synced, then renamed over it.

        The folder is not synced: `sync` does that once for many files.
        """
        self._put(key, parts, sync=True)

    def put_for_now(self, key: str, parts: Iterable[bytes | memoryview]) -> None:
        """Write a file whole that nobody misses after a power cut: it need never reach the disk."""
        self._put(key, parts, sync=False)

    def _put(self, key: str, parts: Iterable[bytes | memoryview], *, sync: bool) -> None:
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
            step = "renaming"
            os.replace(partial, path)
        except OSError as error:
            with contextlib.suppress(OSError):  # what it was refused first is what has to be told
                partial.unlink()
            raise _refused(path, step, error) from error

    def make_folder(self, key: str = "") -> None:
        """Make a folder below the root (the root itself for an empty key), and its parents."""
        try:
            self.path(key).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(self.path(key), "making the folder", error) from error

    def sync(self, keys: Iterable[str]) -> None:
        """Make the names in these folders survive a power cut."""
        for key in keys:
            sync_folder(self.path(key))

    def list(self, key: str = "") -> list[os.DirEntry[str]]:
        """Return what lies in a folder, by name; nothing where there is no such folder."""
        try:
            with os.scandir(self.path(key)) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(self.path(key), "listing", error) from error

    def delete(self, key: str) -> None:
        """Remove a file."""
        try:
            os.unlink(self.path(key))
        except OSError as error:
            raise _refused(self.path(key), "deleting", error) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refused(path, "syncing", error) from error


def _read(descriptor: int, start: int, length: int) -> bytes:
    """Read until there is no more: one call of the system may give less than asked for."""
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
