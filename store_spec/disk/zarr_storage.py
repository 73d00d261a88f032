"""Stores of zarr, in memory, a zip file or a bucket, behind `Storage`: for reading.

Each has a coroutine that gets a range of a key, which zarr runs in the event loop of a thread of its own. That costs 40
to 180 us a call, so stores that can be asked without it are.
"""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync  # has no public name; icechunk imports it from here too
from zarr.storage import LocalStore, MemoryStore, ObjectStore, StorePath

from store_spec.disk.committed import get_part, part_of
from store_spec.disk.storage import Address, LocalStorage, Storage
from store_spec.errors import MissingStoreError, SchemaError, StorageError, UnreadableError

Data = bytes | memoryview

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_T = TypeVar("_T")


def storage_of_zarr_store(store: Store) -> Storage:
    """Return where a store of zarr has its keys: for a `LocalStore` the folder itself.

    Raises:
        SchemaError: It is no store of zarr.
    """
    if isinstance(store, LocalStore):
        return LocalStorage.of(Path(store.root))
    if isinstance(store, MemoryStore):
        return MemoryStorage(store)
    if isinstance(store, ObjectStore):
        return ObjectStorage(store)
    if isinstance(store, Store):
        return ZarrStorage(store)
    raise SchemaError(f"{store!r:.200} is neither a path nor a store of zarr")


@dataclass(frozen=True, slots=True)
class Key:
    """A key in a listing. A store of zarr has no links, or follows them."""

    name: str

    def is_file(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002  # as os.DirEntry has it
        """Tell whether it is a file."""
        return True

    def is_symlink(self) -> bool:
        """Tell whether it is a link."""
        return False


class ZarrStorage:
    """The keys of any store of zarr. Picklable where the store is.

    Stores differ in what they do with a range that ends beyond the end of a value: some give what there is, and some
    raise one error or another. Here it is always what there is.
    """

    def __init__(self, store: Store) -> None:
        self.root = Address(store)
        self._opened = self._open(store), os.getpid()

    def __reduce__(self) -> tuple[Callable[[Store], ZarrStorage], tuple[Store]]:
        return type(self), (self._opened[0],)

    @property
    def _store(self) -> Any:
        store, process = self._opened
        if process != os.getpid():
            store, _ = self._opened = self._after_fork(store), os.getpid()
        return store

    def _open(self, store: Store) -> Store:
        return sync(StorePath.open(store, "", mode=None)).store

    def _after_fork(self, store: Store) -> Store:
        """Return the store for a forked child, without the file or the connection that the parent goes on using."""
        try:
            return self._open(pickle.loads(pickle.dumps(store)))  # noqa: S301  # what was pickled here and now
        except Exception as error:
            raise StorageError(
                errno.EBADF,
                f"{self.root}: cannot be opened again in a forked process ({error!s:.200}); start it by spawn",
            ) from error

    def path(self, key: str) -> Address:
        """Return where a key lies."""
        return Address(f"{self.root}/{key}")

    def get(self, key: str, start: int = 0, length: int | None = None) -> Data:
        """Return the value of a key from `start` on, or `length` bytes of it; of a negative `start` the last bytes.

        Raises:
            MissingStoreError: There is no such key.
            UnreadableError: The store does not give it.
        """
        if length is not None and length <= 0:
            return b""
        store = self._store
        try:
            data = self._get(store, key, start, length)
        except _ABSENT:
            data = None
        except Exception as error:  # noqa: BLE001  # each kind of store has errors of its own
            data = self._get_within(store, key, start, length, error)
        if data is None:
            raise MissingStoreError(f"{self.path(key)}: there is no such key")
        return data

    def _get_within(self, store: Any, key: str, start: int, length: int | None, error: Exception) -> Data | None:
        """Return what there is of a range that a store refused with an error, as ending beyond the end of the value."""
        try:
            size = self._size(store, key)
            begin = start if start >= 0 else max(0, size + start)
            within = size - begin if length is None else min(length, size - begin)
            if within <= 0:
                return b""
            if (begin, within) != (start, length):
                return self._get(store, key, begin, within)
        except Exception as again:
            raise self._refused(key, "reading", error) from again
        raise self._refused(key, "reading", error) from error

    def open(self, key: str) -> ZarrValue:
        """Return the value of a key for many reads; nothing is asked for yet."""
        return ZarrValue(self, key)

    def size(self, key: str) -> int:
        """Return how many bytes the value of a key has; 0 where there is none."""
        store = self._store
        try:
            return self._asked(key, "looking at", lambda: self._size(store, key))
        except _ABSENT:
            return 0

    def list(self, key: str = "") -> Sequence[Key]:
        """Return what lies below a key, by name; nothing where nothing does."""
        store = self._store
        try:
            names = self._asked(key, "listing", lambda: self._names(store, key))
        except _ABSENT:
            return []
        return [Key(name) for name in sorted(names)]

    def check_folder(self, key: str) -> None:
        """Do nothing: there are no folders."""

    def _asked(self, key: str, step: str, ask: Callable[[], _T]) -> _T:
        """Ask a store, and take whatever it raises for an error of reading it, unless the key is absent."""
        try:
            return ask()
        except _ABSENT:
            raise
        except Exception as error:
            raise self._refused(key, step, error) from error

    def _refused(self, key: str, step: str, error: Exception) -> UnreadableError:
        return UnreadableError(errno.EIO, f"{self.path(key)}: {step} failed: {type(error).__name__}: {error!s:.200}")

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        if start < 0:
            wanted: Any = SuffixByteRequest(-start)
        elif length is not None:
            wanted = RangeByteRequest(start, start + length)
        else:
            wanted = OffsetByteRequest(start) if start else None
        found = sync(store.get(key, default_buffer_prototype(), wanted))
        return None if found is None else found.as_numpy_array().data

    def _size(self, store: Any, key: str) -> int:
        return int(sync(store.getsize(key)))

    def _names(self, store: Any, key: str) -> Iterable[str]:
        async def names() -> Iterable[str]:  # some stores begin where they are called, which has to be in the loop
            return [name async for name in store.list_dir(key)]

        return sync(names())


class ZarrValue:
    """The value of a key that a commit has counted, for many reads."""

    __slots__ = ("_key", "_storage")

    def __init__(self, storage: ZarrStorage, key: str) -> None:
        self._storage, self._key = storage, key

    def read(self, start: int, length: int) -> Data:
        """Return `length` bytes from `start` on, or as many as there are."""
        return get_part(self._storage, self._key, start, length)


class MemoryStorage(ZarrStorage):
    """A `MemoryStore`: asked without an event loop, and shared with a forked child."""

    def _after_fork(self, store: Store) -> Store:
        return store

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        found = store.get_sync(key, prototype=default_buffer_prototype())
        if found is None:
            return None
        return part_of(found.as_numpy_array().data, start, length)


class ObjectStorage(ZarrStorage):
    """An `ObjectStore`: asked through obstore's own functions, which need no event loop of Python's.

    Its threads do not survive a fork: every call of a child hangs if the parent has used obstore before, for this store
    or another one. So such a call is refused.
    """

    _process: ClassVar[int] = 0  # the one that asked first, of this one's ancestors and itself

    @property
    def _store(self) -> Any:
        ObjectStorage._process = ObjectStorage._process or os.getpid()
        if ObjectStorage._process != os.getpid():
            raise StorageError(
                errno.EDEADLK,
                f"{self.root}: obstore cannot be used in a forked process after its parent; start it by spawn",
            )
        return self._opened[0]

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        import obstore

        if start >= 0 and length is not None:
            return memoryview(obstore.get_range(store.store, key, start=start, length=length))
        options: Any = {"range": {"suffix": -start} if start < 0 else {"offset": start}} if start else None
        return memoryview(obstore.get(store.store, key, options=options).bytes())

    def _size(self, store: Any, key: str) -> int:
        import obstore

        return int(obstore.head(store.store, key)["size"])

    def _names(self, store: Any, key: str) -> Iterable[str]:
        import obstore

        found = obstore.list_with_delimiter(store.store, key)
        paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        return [path.rpartition("/")[2] for path in paths]
